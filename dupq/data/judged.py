"""Judged candidates: pairs of mining with people's labels and sampling weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_kind
from dupq.data.labels import parse_label
from dupq.data.pairs import PairTable
from dupq.data.reading import (
    Columns,
    FileOptions,
    ReadReport,
    check_reading,
    find_columns,
    read_rows,
    require_columns,
    source_name,
)
from dupq.errors import InputError

WEIGHT_COLUMN = "weight"
UNDECIDED = frozenset({"", "?", "none", "null"})
"""Labels, in lower case, of candidates that nobody decided."""


def load_judged(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    weight_column: str | None = None,
    columns: Columns | None = None,
    options: FileOptions | None = None,
    report: ReadReport | None = None,
) -> tuple[PairTable, NDArray[np.float64]]:
    """Load judged candidates: labelled pairs with sampling weights.

    Rows without a label, or with the label "?", are left out and noted in the report.

    Args:
        source: As in `read_pairs`.
        weight_column: Column of the candidates that a judged one stands for, >= 0; None: `weight` if there is such a
            column, else every pair weighs 1.
        columns, options, report: As in `read_pairs`.

    Returns:
        The n labelled pairs, and their weights, float64 (n,).

    Raises:
        InputError: As in `read_pairs`, a weight that is no number of 0 or more, or no labelled pair.
    """
    columns = Columns() if columns is None else as_kind(columns, Columns, "columns", 'give Columns("q1", "q2")')
    check_reading(options, report)
    report = ReadReport() if report is None else report
    if weight_column is not None:
        as_kind(weight_column, str, "weight_column", "give the name of a column")
    name = source_name(source) if isinstance(source, (str, Path)) else "the dataset"
    pairs, weights, undecided = [], [], 0
    label_column, weighed = "", weight_column
    for pair, row in read_rows(source, columns=replace(columns, label=None), options=options, report=report):
        if not label_column:
            names = list(row)
            label_column = find_columns(names, columns, True, name)[2] or ""
            require_columns([weight_column] if weight_column else (), names, name)
            if weight_column is None and WEIGHT_COLUMN in names:
                weighed = WEIGHT_COLUMN
                report.note(f"the column {WEIGHT_COLUMN!r} is read as sampling weights")
        if str("" if (given := row.get(label_column)) is None else given).strip().lower() in UNDECIDED:
            undecided += 1
            continue
        at = f"{name}, row {pair.row}"
        try:
            label = parse_label(given, columns.labels, at, label_column, report.note)
            weight = 1.0 if weighed is None else _parse_weight(row.get(weighed), f"{at}, column {weighed!r}")
        except InputError as error:
            report.add(error)
            continue
        pairs.append(replace(pair, label=label))
        weights.append(weight)
    if undecided:
        report.note(f"{undecided:,} rows without a label are left out")
    if not pairs:
        raise InputError("no labelled pairs were read", location=name, hint=f"check the column {label_column!r}")
    return PairTable.from_pairs(pairs), np.array(weights)


def _parse_weight(value: object, location: str) -> float:
    try:
        weight = float(str(value).strip())
    except ValueError:
        weight = float("nan")
    if not 0 <= weight < float("inf"):
        raise InputError(
            f"the weight must be a number of 0 or more, got {value!r:.60}",
            location=location,
            hint="give the number of candidates that a judged one stands for",
        )
    return weight
