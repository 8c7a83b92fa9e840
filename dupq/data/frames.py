"""Read text columns of pandas, polars and Arrow frames, and add results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dupq.data.arguments import as_texts
from dupq.data.reading import PAIR_COLUMNS, require_columns
from dupq.errors import InputError
from dupq.types import PairScore

RESULTS = ("score", "probability", "decision", "warnings")
"""The columns of the results."""


def text_columns(frame: object, columns: tuple[str, str] | None = None) -> tuple[list[Any], list[Any]]:
    """Return the two text columns of a frame in row order.

    A missing text is None or NaN.

    Args:
        frame: An in-memory frame of pandas, polars or Arrow.
        columns: The names of the two columns; None: the usual names, `PAIR_COLUMNS`.

    Raises:
        InputError: `frame` is no frame, lacks the columns, or has a column named like one of `RESULTS`.
    """
    table = _narwhals_frame(frame)
    existing = [name for name in RESULTS if name in table.columns]
    if existing:
        raise InputError(f"the frame already has a column {existing[0]!r} of results", hint="rename or drop it")
    left, right = _text_column_names(list(table.columns), columns)
    return as_texts(table[left], left), as_texts(table[right], right)


def with_results(frame: Any, results: Sequence[PairScore | None]) -> Any:
    """Return the frame with the columns `RESULTS` added.

    Library, rows, order and index stay the same.

    Args:
        frame: The frame.
        results: One a row; None leaves its cells empty.

    Raises:
        InputError: `frame` is no frame.
    """
    import narwhals as nw

    table = _narwhals_frame(frame)
    kinds = ["; ".join(dict.fromkeys(warning.kind for warning in one.warnings)) if one else None for one in results]
    values: tuple[tuple[str, list[Any], Any], ...] = (
        ("score", [one and one.score for one in results], nw.Float64),
        ("probability", [one and one.probability for one in results], nw.Float64),
        ("decision", [one and str(one.decision) for one in results], nw.String),
        ("warnings", kinds, nw.String),
    )
    made = [nw.new_series(name, column, kind, backend=table.implementation) for name, column, kind in values]
    return table.with_columns(*made).to_native()


def _narwhals_frame(frame: object) -> Any:
    import narwhals as nw

    found = nw.from_native(frame, eager_only=True, pass_through=True)
    if not isinstance(found, nw.DataFrame):
        hint = "collect it first" if hasattr(frame, "collect") else "give left and right, or one frame"
        raise InputError(f"left alone must be a frame, got {type(frame).__name__}", hint=hint)
    return found


def _text_column_names(names: list[str], columns: tuple[str, str] | None) -> tuple[str, str]:
    if columns is not None:
        if isinstance(columns, str) or not isinstance(columns, Sequence) or len(columns) != 2:
            raise InputError(f"columns must be two names, got {columns!r:.60}", hint='give columns=("a", "b")')
        require_columns(columns, names, "the frame")
        return columns[0], columns[1]
    for pair in PAIR_COLUMNS:
        if set(pair) <= set(names):
            return pair
    raise InputError(
        f"no two text columns were found among {', '.join(map(str, names))}",
        hint='name them: columns=("a", "b"), or give left and right',
    )
