"""Split a labelled file into files that share no question group."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_kind, as_path, as_seed
from dupq.data.grouping import DEFAULT_FRACTIONS, assign_splits, check_fractions
from dupq.data.pairs import PairTable
from dupq.data.reading import Columns, FileOptions, ReadReport, matches, read_rows, require_columns
from dupq.data.text import fingerprints
from dupq.data.writing import write_json, write_rows
from dupq.errors import InputError, OutputError
from dupq.types import QuestionPair

SPLIT = "split.json"


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """Settings of `split_file`.

    Attributes:
        fractions: Name of each split -> its expected share of the question groups (default: `DEFAULT_FRACTIONS`).
        seed: The seed of the draw of groups (default: 0).
        held_out_where: Column -> value. Only rows with these values enter splits other than "train". Other rows stay
            in "train" if their group was drawn for it, and are left out otherwise. Use it to keep rows with an
            unnatural class mix out of calibration and test.
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
    options: FileOptions | None = None,
    report: ReadReport | None = None,
) -> dict[str, Any]:
    """Split a labelled file into files that share no question group.

    Each split is a file named after it, such as `train.jsonl`. `split.json` is written last: if it exists, the files
    beside it are whole and belong together. The files of an earlier split in the folder are removed.

    Args:
        source: As in `read_pairs`.
        folder: The folder to write to.
        settings: Fractions, seed and held-out rows; None: the defaults.
        columns, options, report: As in `read_pairs`.

    Returns:
        The content of `split.json`: the settings, and the pairs, question groups, base rate and fingerprint of each
        split.

    Raises:
        InputError: A bad row, as in `read_pairs`; a bad setting; too few question groups, or an empty split; the source
            is a file that the split writes or removes.
        OutputError: A file could not be written.
    """
    settings, fractions = _checked_settings(settings)
    folder = as_path(folder, "folder")
    name_of_source = str(source) if isinstance(source, (str, Path)) else "the dataset"
    _refuse_own_source(source, folder, fractions)
    # Groups are taken over all rows, natural or not: a chain of pairs leaks through either kind.
    pairs, natural = _read_marked(
        read_rows(source, columns=columns, labelled=True, options=options, report=report),
        settings.held_out_where or {},
        name_of_source,
    )
    table = PairTable.from_pairs(pairs)
    groups = table.groups
    _refuse_too_few_groups(table, groups, fractions, name_of_source)
    names = assign_splits(groups, fractions, settings.seed)
    masks = {name: (names == name) & (natural | (name == "train")) for name in fractions}
    for name, mask in masks.items():
        if not mask.any():
            raise InputError(
                f"the split {name!r} is empty ({_group_summary(groups)})",
                location=name_of_source,
                hint="give pairs of more questions, a larger share, or another seed",
            )
    contradictory = table.contradictions
    notes = [contradictory.text(table.rows)] if contradictory else []
    if 2 * np.unique(groups, return_counts=True)[1].max() > len(table):
        notes.append(f"{_group_summary(groups)}: the splits' shares of the pairs differ from those of the groups")
    result: dict[str, Any] = {
        "source": Path(name_of_source).name,
        "seed": settings.seed,
        "fractions": fractions,
        "held_out_where": dict(settings.held_out_where or {}),
        "pairs": len(table),
        "left_out": int((~natural & (names != "train")).sum()),
        "skipped_bad_rows": report.rejected if report else 0,
        "contradictory_pairs": contradictory.pairs,
        "notes": notes,
        "splits": {},
    }
    _remove_earlier_split(folder)
    for name, mask in masks.items():
        part, part_natural = table.take(mask), natural[mask]
        write_rows(
            folder / f"{name}.jsonl",
            (
                {"question1": a, "question2": b, "label": int(label), "natural": int(flag)}
                for a, b, label, flag in zip(part.left, part.right, part.labels, part_natural, strict=True)
            ),
            ["question1", "question2", "label", "natural"],
        )
        result["splits"][name] = {
            "pairs": len(part),
            "natural_pairs": int(part_natural.sum()),
            "groups": len(np.unique(groups[mask])),
            "base_rate": float(part.labels[part_natural].mean()) if part_natural.any() else None,
            "fingerprint": part.fingerprint,
        }
    write_json(folder / SPLIT, result)
    return result


def _checked_settings(settings: SplitSettings | None) -> tuple[SplitSettings, dict[str, float]]:
    """Return the settings and their fractions; raise InputError for a bad one."""
    if settings is not None:
        as_kind(settings, SplitSettings, "settings", "give SplitSettings(seed=1), or leave it out")
    settings = settings or SplitSettings()
    hint = 'give a dict, such as {"train": 0.8, "test": 0.2}'
    fractions = dict(as_kind(settings.fractions or DEFAULT_FRACTIONS, Mapping, "fractions", hint))
    if settings.held_out_where is not None:
        as_kind(settings.held_out_where, Mapping, "held_out_where", 'give a dict, such as {"natural": "1"}')
    for name in fractions:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w-]*", name):
            raise InputError(f"{name!r} cannot be the name of a split", hint="use letters, digits, - and _")
    check_fractions(fractions)
    if empty := [name for name, share in fractions.items() if share == 0]:
        raise InputError(f"the fraction of {empty[0]!r} must be above 0, got 0", hint="leave it out, or give it more")
    as_seed(settings.seed)
    return settings, fractions


def _group_summary(groups: NDArray[np.int64]) -> str:
    sizes = np.unique(groups, return_counts=True)[1]
    count = "1 question group" if len(sizes) == 1 else f"{len(sizes):,} question groups"
    return f"{len(groups):,} pairs in {count}, the largest with {sizes.max() / len(groups):.0%} of them"


def _refuse_too_few_groups(
    table: PairTable, groups: NDArray[np.int64], fractions: Mapping[str, float], source: str
) -> None:
    """Refuse pairs with fewer question groups than splits.

    Raises:
        InputError: There are fewer; the question in the most pairs is named.
    """
    if len(np.unique(groups)) >= len(fractions):
        return
    texts = [*table.left, *table.right]
    _, first, uses = np.unique(fingerprints(texts), return_index=True, return_counts=True)
    at = int(uses.argmax())
    raise InputError(
        f"{_group_summary(groups)}, but {len(fractions)} splits need at least one group each: pairs that share a "
        f"question, directly or through a chain of pairs, cannot be separated (most shared, by {int(uses[at]):,} "
        f"pairs: {texts[first[at]][:80]!r})",
        location=source,
        hint="add pairs of other questions, or leave out the pairs of the most shared question",
    )


def _read_marked(
    rows: Iterable[tuple[QuestionPair, Mapping[str, Any]]], where: Mapping[str, str], source: str
) -> tuple[list[QuestionPair], NDArray[np.bool_]]:
    """Return all pairs and a mask (n,) of those whose row matches `where`."""
    pairs: list[QuestionPair] = []
    matching: list[bool] = []
    for pair, row in rows:
        if not pairs:
            require_columns(where, list(row), source)
        pairs.append(pair)
        matching.append(matches(row, where))
    if not pairs:
        raise InputError("no pairs were read", location=source, hint="check the file")
    return pairs, np.array(matching)


def _refuse_own_source(source: object, folder: Path, names: Iterable[str]) -> None:
    """Raise InputError if the split would overwrite or remove its source."""
    if not isinstance(source, (str, Path)) or not os.path.exists(source):
        return
    for path in (folder / SPLIT, *(folder / f"{name}.jsonl" for name in (*names, *_earlier_names(folder)))):
        if path.exists() and path.samefile(source):
            raise InputError(
                f"the source must be a file that the split neither writes nor removes, got {path.name} in {folder}",
                location=str(source),
                hint="name another folder, or move the file",
            )


def _earlier_names(folder: Path) -> list[str]:
    """Return the names of the splits that `split.json` lists; none without it."""
    try:
        return list(json.loads((folder / SPLIT).read_text(encoding="utf-8"))["splits"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _irreplaceable(folder, error) from error


def _remove_earlier_split(folder: Path) -> None:
    # Its files would share question groups with those of the new split.
    names = _earlier_names(folder)
    try:
        (folder / SPLIT).unlink(missing_ok=True)
        for name in names:
            (folder / f"{name}.jsonl").unlink(missing_ok=True)
    except OSError as error:
        raise _irreplaceable(folder, error) from error


def _irreplaceable(folder: Path, error: Exception) -> OutputError:
    return OutputError(
        f"the earlier split there cannot be replaced ({error})", location=str(folder), hint="name another folder"
    )
