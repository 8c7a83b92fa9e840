"""A labelled set of pairs in memory, and the split of it into files that share no question group."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.grouping import DEFAULT_FRACTIONS, assign_splits, question_groups
from dupq.data.reading import Columns, Skipped, read_pairs
from dupq.data.writing import write_json, write_rows
from dupq.errors import InputError
from dupq.records import QuestionPair


@dataclass(frozen=True, slots=True)
class PairTable:
    """n pairs by column.

    Attributes:
        left, right: n texts each.
        labels: int8 array (n,), 1 = duplicate; -1 where the label is not known.
    """

    left: list[str]
    right: list[str]
    labels: NDArray[np.int8]

    @classmethod
    def from_pairs(cls, pairs: Iterable[QuestionPair]) -> PairTable:
        rows = list(pairs)
        labels = np.array([-1 if row.label is None else row.label for row in rows], dtype=np.int8)
        return cls([row.question1 for row in rows], [row.question2 for row in rows], labels)

    def __len__(self) -> int:
        return len(self.left)

    def take(self, rows: NDArray[Any]) -> PairTable:
        """The pairs at these positions, or where this mask is true."""
        index = np.arange(len(self))[rows]
        return PairTable([self.left[i] for i in index], [self.right[i] for i in index], self.labels[index])

    @property
    def groups(self) -> NDArray[np.int64]:
        """The question group of each pair: int64 array (n,)."""
        return question_groups(self.left, self.right)

    @property
    def base_rate(self) -> float:
        """The share of duplicates."""
        return float(self.labels.mean()) if len(self) else float("nan")

    @property
    def fingerprint(self) -> str:
        """A hash of the pairs and labels as a set: neither the order of rows nor that within a pair matters."""
        total = 0
        for left, right, label in zip(self.left, self.right, self.labels, strict=True):
            text = "\x1f".join([*sorted((left, right)), str(int(label))])
            total += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
        return f"{len(self)}-{total % (1 << 128):032x}"


def load_pairs(
    path: str | Path,
    *,
    columns: Columns | None = None,
    labelled: bool = True,
    skipped: Skipped | None = None,
    file_format: str | None = None,
    where: Mapping[str, str] | None = None,
) -> PairTable:
    """Reads a whole file of pairs; see `read_pairs` for the arguments and the errors."""
    table = PairTable.from_pairs(
        read_pairs(path, columns=columns, labelled=labelled, skipped=skipped, file_format=file_format, where=where)
    )
    if not len(table):
        raise InputError("no pairs were read", where=str(path), mend="check the file, and --where if it was given")
    return table


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How pairs are split.

    Attributes:
        fractions: Name of each split -> its expected share of the question groups.
        seed: Another seed draws other groups.
        held_out_where: Column -> value. Only rows that have it may enter a split other than "train"; the other rows of
            the groups drawn for training join it, and those of other groups are left out of every split. It keeps rows
            whose class mix is not natural out of what the calibrator and the test see.
    """

    fractions: Mapping[str, float] | None = None
    seed: int = 0
    held_out_where: Mapping[str, str] | None = None


def split_file(
    source: str | Path,
    folder: str | Path,
    settings: SplitSettings | None = None,
    *,
    columns: Columns | None = None,
    skipped: Skipped | None = None,
    file_format: str | None = None,
) -> dict[str, Any]:
    """Splits a labelled file into `train.jsonl`, `validation.jsonl`, ... and `split.json` in `folder`.

    Returns:
        What `split.json` holds: the settings, and of each split its pairs, question groups, base rate and fingerprint.
    """
    settings = settings or SplitSettings()
    fractions = dict(settings.fractions or DEFAULT_FRACTIONS)
    options: dict[str, Any] = {"columns": columns, "labelled": True, "file_format": file_format}
    # Groups are taken over all rows, natural or not: a chain of pairs leaks whatever its rows are marked.
    pairs = list(read_pairs(source, skipped=skipped, **options))
    table = PairTable.from_pairs(pairs)
    if not len(table):
        raise InputError("no pairs were read", where=str(source), mend="check the file")
    natural = np.ones(len(table), dtype=bool)
    if settings.held_out_where:
        kept = {pair.row for pair in read_pairs(source, skipped=Skipped(), where=settings.held_out_where, **options)}
        natural = np.array([pair.row in kept for pair in pairs])
    groups = table.groups
    names = assign_splits(groups, fractions, settings.seed)
    report: dict[str, Any] = {
        "source": Path(source).name,
        "seed": settings.seed,
        "fractions": fractions,
        "held_out_where": dict(settings.held_out_where or {}),
        "pairs": len(table),
        "left_out": int((~natural & (names != "train")).sum()),
        "skipped_bad_rows": skipped.count if skipped else 0,
        "splits": {},
    }
    for name in fractions:
        mask = (names == name) & (natural | (name == "train"))
        part = table.take(mask)
        if not len(part):
            raise InputError(f"the split {name!r} is empty", where=str(source), mend="give more pairs or a larger share")
        part_natural, part_groups = natural[mask], groups[mask]
        write_rows(
            Path(folder) / f"{name}.jsonl",
            (
                {"question1": a, "question2": b, "label": int(label), "natural": int(flag)}
                for a, b, label, flag in zip(part.left, part.right, part.labels, part_natural, strict=True)
            ),
            ["question1", "question2", "label", "natural"],
        )
        report["splits"][name] = {
            "pairs": len(part),
            "natural_pairs": int(part_natural.sum()),
            "groups": len(np.unique(part_groups)),
            "base_rate": float(part.labels[part_natural].mean()) if part_natural.any() else None,
            "fingerprint": part.fingerprint,
        }
    write_json(Path(folder) / "split.json", report)
    return report
