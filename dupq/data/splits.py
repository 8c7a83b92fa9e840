"""A labelled set of pairs in memory, and the split of it into files that share no question group."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.grouping import DEFAULT_FRACTIONS, assign_splits, question_groups
from dupq.data.reading import Columns, Skipped, matches, read_pairs, read_rows, require_columns
from dupq.data.writing import write_json, write_rows
from dupq.errors import InputError, OutputError
from dupq.records import QuestionPair

SPLIT = "split.json"


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
        """The share of duplicates among the labelled pairs; NaN where there are none."""
        labelled = self.labels[self.labels >= 0]
        return float(labelled.mean()) if len(labelled) else float("nan")

    @property
    def fingerprint(self) -> str:
        """A hash of the pairs and labels as a set: neither the order of rows nor that within a pair matters."""
        total = 0
        for left, right, label in zip(self.left, self.right, self.labels, strict=True):
            text = "\x1f".join([*sorted((left, right)), str(int(label))])
            total += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
        return f"{len(self)}-{total % (1 << 128):032x}"


def load_pairs(
    path: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Columns | None = None,
    labelled: bool = True,
    skipped: Skipped | None = None,
    file_format: str | None = None,
    where: Mapping[str, str] | None = None,
) -> PairTable:
    """Reads a whole file of pairs, or a Hugging Face dataset; see `read_pairs` for the arguments and the errors.

    Raises:
        InputError: Also when not one pair was read.
    """
    table = PairTable.from_pairs(
        read_pairs(path, columns=columns, labelled=labelled, skipped=skipped, file_format=file_format, where=where)
    )
    if not len(table):
        name = str(path) if isinstance(path, (str, Path)) else "the dataset"
        raise InputError("no pairs were read", where=name, mend="check the file, and --where if it was given")
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
    source: str | Path | Iterable[Mapping[str, Any]],
    folder: str | Path,
    settings: SplitSettings | None = None,
    *,
    columns: Columns | None = None,
    skipped: Skipped | None = None,
    file_format: str | None = None,
) -> dict[str, Any]:
    """Splits a labelled file into `train.jsonl`, `validation.jsonl`, ... and `split.json` in `folder`.

    `split.json` is written last: where it stands, the files beside it are whole and belong together. The files of an
    earlier split in the folder are replaced or removed.

    Returns:
        What `split.json` holds: the settings, and of each split its pairs, question groups, base rate and fingerprint.

    Raises:
        InputError: A bad row, as of `read_pairs`; a split that would be empty; a name that cannot be a file's.
        OutputError: A file could not be written.
    """
    settings, folder = settings or SplitSettings(), Path(folder)
    named = str(source) if isinstance(source, (str, Path)) else "the dataset"
    fractions = dict(settings.fractions or DEFAULT_FRACTIONS)
    for name in fractions:
        if not re.fullmatch(r"\w[\w-]*", name):
            raise InputError(f"{name!r} cannot be the name of a split", mend="use letters, digits, - and _")
    # Groups are taken over all rows, natural or not: a chain of pairs leaks whatever its rows are marked.
    pairs, natural = _marked(
        read_rows(source, columns=columns, labelled=True, skipped=skipped, file_format=file_format),
        settings.held_out_where or {},
        named,
    )
    table = PairTable.from_pairs(pairs)
    groups = table.groups
    names = assign_splits(groups, fractions, settings.seed)
    masks = {name: (names == name) & (natural | (name == "train")) for name in fractions}
    for name, mask in masks.items():
        if not mask.any():
            raise InputError(f"the split {name!r} is empty", where=named, mend="give more pairs or a larger share")
    report: dict[str, Any] = {
        "source": Path(named).name,
        "seed": settings.seed,
        "fractions": fractions,
        "held_out_where": dict(settings.held_out_where or {}),
        "pairs": len(table),
        "left_out": int((~natural & (names != "train")).sum()),
        "skipped_bad_rows": skipped.count if skipped else 0,
        "splits": {},
    }
    _clear(folder)
    for name, mask in masks.items():
        part = table.take(mask)
        part_natural = natural[mask]
        write_rows(
            folder / f"{name}.jsonl",
            (
                {"question1": a, "question2": b, "label": int(label), "natural": int(flag)}
                for a, b, label, flag in zip(part.left, part.right, part.labels, part_natural, strict=True)
            ),
            ["question1", "question2", "label", "natural"],
        )
        report["splits"][name] = {
            "pairs": len(part),
            "natural_pairs": int(part_natural.sum()),
            "groups": len(np.unique(groups[mask])),
            "base_rate": float(part.labels[part_natural].mean()) if part_natural.any() else None,
            "fingerprint": part.fingerprint,
        }
    write_json(folder / SPLIT, report)
    return report


def _marked(
    rows: Iterable[tuple[QuestionPair, Mapping[str, Any]]], where: Mapping[str, str], source: str
) -> tuple[list[QuestionPair], NDArray[np.bool_]]:
    """All pairs, and of each whether its row meets `where`."""
    pairs: list[QuestionPair] = []
    met: list[bool] = []
    for pair, row in rows:
        if not pairs:
            require_columns(where, list(row), source)
        pairs.append(pair)
        met.append(matches(row, where))
    if not pairs:
        raise InputError("no pairs were read", where=source, mend="check the file")
    return pairs, np.array(met)


def _clear(folder: Path) -> None:
    """Removes the files of an earlier split, which would share question groups with those of the new one."""
    try:
        earlier = json.loads((folder / SPLIT).read_text(encoding="utf-8"))
        (folder / SPLIT).unlink()
        for name in earlier["splits"]:
            (folder / f"{name}.jsonl").unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"the earlier split there cannot be replaced ({error})", where=str(folder), mend="name another folder"
        ) from error
