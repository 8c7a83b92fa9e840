"""Question pairs in memory, by column, with their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_kind, as_list, as_texts
from dupq.data.grouping import Contradictions, contradictions, question_groups
from dupq.data.reading import Columns, FileOptions, ReadReport, read_pairs
from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.types import QuestionPair


@dataclass(frozen=True, slots=True)
class PairTable:
    """Question pairs by column.

    Attributes:
        left, right: n texts each.
        labels: int8 array (n,): 1 = duplicate, 0 = distinct, -1 = unknown.
        rows: int64 array (n,), the row of the source of each pair, counted from 1; None: unknown.
    """

    left: list[str]
    right: list[str]
    labels: NDArray[np.int8]
    rows: NDArray[np.int64] | None = None

    @classmethod
    def from_pairs(cls, pairs: Iterable[QuestionPair]) -> PairTable:
        """Build a table of pairs.

        Raises:
            InputError: An element is no QuestionPair, or a label is none of 1, 0, -1 and None.
        """
        pairs = as_list(pairs, "pairs")
        for number, pair in enumerate(pairs, 1):
            as_kind(pair, QuestionPair, f"pair {number}", "give QuestionPair(question1, question2, label)")
            if pair.label is not None and (isinstance(pair.label, float) or pair.label not in (-1, 0, 1)):
                raise InputError(f"the label must be 0, 1 or None, got {pair.label!r:.60}", location=f"pair {number}")
        labels = np.array([-1 if pair.label is None else pair.label for pair in pairs], dtype=np.int8)
        numbers = [pair.row for pair in pairs]
        rows = None if None in numbers else np.array(numbers, dtype=np.int64)
        return cls([pair.question1 for pair in pairs], [pair.question2 for pair in pairs], labels, rows)

    def __len__(self) -> int:
        return len(self.left)

    def take(self, index: NDArray[Any]) -> PairTable:
        """Return the pairs at these positions, or where this mask is true."""
        index = np.arange(len(self))[index]
        rows = None if self.rows is None else self.rows[index]
        return PairTable([self.left[i] for i in index], [self.right[i] for i in index], self.labels[index], rows)

    @property
    def groups(self) -> NDArray[np.int64]:
        """The question group of each pair, int64 (n,)."""
        return question_groups(self.left, self.right)

    @property
    def contradictions(self) -> Contradictions:
        """The pairs that occur with both labels."""
        return contradictions(self.left, self.right, self.labels)

    @property
    def base_rate(self) -> float:
        """The share of duplicates among the labelled pairs; NaN without any."""
        labelled = self.labels[self.labels >= 0]
        return float(labelled.mean()) if len(labelled) else float("nan")

    @property
    def fingerprint(self) -> str:
        """The hash of the pairs and their labels.

        It depends neither on the order of the rows nor on the order within a pair.
        """
        total = 0
        for left, right, label in zip(self.left, self.right, self.labels, strict=True):
            text = "\x1f".join([*sorted((left, right)), str(int(label))])
            total += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
        return f"{len(self)}-{total % (1 << 128):032x}"


def as_table(pairs: object, name: str = "pairs") -> PairTable:
    """Return a PairTable whose texts and labels are checked.

    Args:
        pairs: A PairTable.
        name: The argument, for the error.

    Raises:
        InputError: `pairs` is no PairTable, its columns differ in length, or a text or label is bad (it is named).
    """
    table = as_kind(pairs, PairTable, name, "load one from a file or a list of dicts: load_pairs(...)")
    sides = [as_texts(texts, f"{name}.{side}") for side, texts in (("left", table.left), ("right", table.right))]
    labels = as_list(table.labels, f"{name}.labels")
    if not len(sides[0]) == len(sides[1]) == len(labels):
        counts = f"{len(sides[0])} left texts, {len(sides[1])} right texts and {len(labels)} labels"
        raise InputError(
            f"{name} must have columns of one length, got {counts}", hint="give two texts and a label a pair"
        )
    for side, texts in zip(("left", "right"), sides, strict=True):
        for number, text in enumerate(texts, 1):
            check_text(text, f"{side} text of pair {number}")
    if not all(isinstance(label, (int, np.integer, np.bool_)) and label in (-1, 0, 1) for label in labels):
        raise InputError(f"{name}.labels must be 0, 1, or -1 where unknown", hint="give ints")
    return PairTable(sides[0], sides[1], np.array(labels, dtype=np.int8), table.rows)


def load_pairs(
    path: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Columns | None = None,
    labelled: bool = True,
    options: FileOptions | None = None,
    report: ReadReport | None = None,
    where: Mapping[str, str] | None = None,
) -> PairTable:
    """Load a whole file of pairs, or a Hugging Face dataset, into a table.

    The arguments are those of `read_pairs`.

    Raises:
        InputError: As in `read_pairs`, and for a source without pairs.
    """
    table = PairTable.from_pairs(
        read_pairs(path, columns=columns, labelled=labelled, options=options, report=report, where=where)
    )
    if not len(table):
        name = str(path) if isinstance(path, (str, Path)) else "the dataset"
        raise InputError("no pairs were read", location=name, hint="check the file, and --where if it was given")
    return table
