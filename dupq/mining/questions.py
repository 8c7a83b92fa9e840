"""Questions to mine, with their ids, dates and distinct texts.

Texts, ids and dates come from sequences or frames.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_ids, as_list, as_texts
from dupq.data.dates import parse_dates
from dupq.data.questions import ID_NAMES, TEXT_NAMES
from dupq.data.text import check_text, duplicate_key_hashes
from dupq.errors import InputError
from dupq.types import Id

OnError = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class Questions:
    """n questions of one collection or two, and their u distinct texts.

    Two collections are a new and an old one. Two texts are one distinct text if they have the same `duplicate_key`.
    Distinct texts of the new collection alone come first, then those of both, then those of the old collection alone.

    Attributes:
        ids: The caller's ids, unique; the new collection comes first.
        texts: The texts that the networks read, unaltered.
        shown: The texts that outputs hold: `texts` with the HTML of their file.
        text_of: For each question the number of its distinct text, int64 (n,).
        first: For each distinct text the question that represents it on the left side of a pair, int64 (u,).
        second: The same for the right side; between two collections, an old question where there is one.
        ages: For each question a number that is smaller for older ones, float64 (n,); None where no dates are given.
        new: Number of questions in the new collection; n where there is one collection only.
        sides: For two collections, the first distinct text of the old one, and the end of those of the new one.
    """

    ids: Sequence[Id]
    texts: Sequence[str]
    shown: Sequence[str]
    text_of: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    ages: NDArray[np.float64] | None
    new: int
    sides: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns of a frame; None, or no texts: the usual names."""

    texts: tuple[str, ...] = ()
    id: str | None = None
    created: str | None = None


_Read = tuple[list[Any], list[Any] | None, list[Any] | None]
"""Texts, ids and dates of one collection; None for ids or dates that it does not have."""


def read_questions(
    questions: object,
    against: object = None,
    *,
    ids: object = None,
    created: object = None,
    columns: Columns | None = None,
    date_format: str | None = None,
    on_error: OnError = "raise",
) -> tuple[Questions, tuple[str, ...]]:
    """Read one collection or two; see `find_duplicates` for the arguments.

    Returns:
        The questions, and one line for each text that was left out: its place and the reason.

    Raises:
        InputError: A bad text, id, date or column, named by its place.
    """
    rows = read_rows(questions, against, ids, created, columns or Columns(), date_format, on_error)
    return _with_distinct_texts(rows.ids, rows.texts, rows.ages, rows.new, against is not None), rows.left_out


@dataclass(frozen=True, slots=True)
class Rows:
    """Checked texts with ids and ages; the first `new` are of the new collection."""

    ids: list[Id]
    texts: list[str]
    ages: NDArray[np.float64] | None
    new: int
    left_out: tuple[str, ...]


def read_rows(
    questions: object,
    against: object,
    ids: object,
    created: object,
    columns: Columns,
    date_format: str | None,
    on_error: OnError,
) -> Rows:
    """Read and check one collection or two; see `read_questions`."""
    collections = [("questions", questions)] + ([] if against is None else [("against", against)])
    check_columns(columns, collections)
    read: list[_Read] = [
        _read_frame(values, columns, name) if _is_frame(values) else (as_texts(values, name), None, None)
        for name, values in collections
    ]
    texts, new = [text for part, _, _ in read for text in part], len(read[0][0])
    all_ids, ages = _ids(ids, read, len(texts)), _ages(created, read, date_format, len(texts))
    kept, left_out = [], []
    for at, text in enumerate(texts):
        place = f"questions, text {at + 1}" if at < new else f"against, text {at - new + 1}"
        try:
            check_text(text, place)
        except InputError as error:
            if on_error == "raise":
                raise
            left_out.append(f"{place}: {error.message}")
        else:
            kept.append(at)
    return Rows(
        [all_ids[at] for at in kept],
        [texts[at] for at in kept],
        None if ages is None else ages[kept],
        sum(at < new for at in kept),
        tuple(left_out),
    )


def check_columns(columns: Columns, collections: Sequence[tuple[str, object]]) -> None:
    """Raise InputError if columns are named and no collection is a frame."""
    if columns != Columns() and not any(_is_frame(values) for _, values in collections):
        raise InputError(
            f"columns need a frame, got {type(collections[0][1]).__name__}",
            hint="give ids= and created= beside the texts",
        )


def _ids(ids: object, read: Sequence[_Read], n: int) -> list[Id]:
    own = [part for _, part, _ in read if part is not None]
    if ids is not None:
        found = as_ids(ids)
    elif not own:
        found = list(range(n))
    elif len(own) < len(read):
        raise InputError("one collection has ids, the other has none", location="ids", hint="give ids= for both")
    else:
        found = [id_ for part in own for id_ in as_ids(part)]
    _check_length("ids", found, n)
    if len(set(found)) != len(found):
        twice = next(id_ for id_, count in Counter(found).items() if count > 1)
        at = [number for number, id_ in enumerate(found, 1) if id_ == twice]
        raise ids_twice(twice, at[0], at[1])
    return found


def ids_twice(id_: Id, first: int, second: int) -> InputError:
    """Return the error for an id that two questions have, counted from 1."""
    return InputError(
        f"ids must be unique, got {id_!r} for questions {first:,} and {second:,}",
        hint="give each question an id of its own",
    )


def _ages(created: object, read: Sequence[_Read], date_format: str | None, n: int) -> NDArray[np.float64] | None:
    """Return the dates in seconds, float64 (n,); None where no dates are given.

    A missing date is infinite.
    """
    if created is None:
        if all(dates is None for _, _, dates in read):
            return None
        created = [date for texts, _, dates in read for date in dates or [None] * len(texts)]
    # Dates are numbered over both collections, as ids are.
    times = parse_dates(as_list(created, "created"), "created", date_format)
    _check_length("created", times, n)
    return np.array([np.inf if time is None else time for time in times], np.float64)


def _check_length(name: str, values: Sequence[object], n: int) -> None:
    if len(values) != n:
        raise InputError(f"{name} must have one value for each of {n} questions, got {len(values)}", hint="give all")


def _is_frame(values: object) -> bool:
    return hasattr(type(values), "columns")  # of the type: a lazy frame would compute its own


def _read_frame(frame: Any, columns: Columns, name: str) -> _Read:
    """Read a pandas, polars or Arrow frame."""
    import narwhals
    from narwhals.exceptions import DuplicateError

    try:
        table = narwhals.from_native(frame, eager_only=True)
    except DuplicateError as error:
        raise InputError("two columns have one name", location=name, hint="rename one of them") from error
    except TypeError as error:
        raise InputError(
            f"{name} must be a sequence of texts or a frame, got {type(frame).__name__}",
            hint="give a list, a Series or a frame; collect a lazy frame first: frame.collect()",
        ) from error
    names: list[Any] = list(table.columns)
    if not all(isinstance(column, str) for column in names):
        raise InputError("column names must be str", location=name, hint="set them: frame.columns = [...]")
    choices = f"columns: {', '.join(names)}"
    for column in (*columns.texts, columns.id, columns.created):
        if column is not None and column not in names:
            raise InputError(f"there is no column {column!r}", location=name, hint=choices)
    usual = {re.sub(r"[\W_]+", "", column).casefold(): column for column in reversed(names)}
    chosen = columns.texts or tuple([usual[known] for known in TEXT_NAMES if known in usual][:1])
    if not chosen:
        hint = f"name it with text_columns=[NAME]; {choices}"
        raise InputError("no column of questions was found", location=name, hint=hint)
    id_column = columns.id or next((usual[known] for known in ID_NAMES if known in usual), None)
    parts = [as_texts(table[column].to_list(), name) for column in chosen]
    # A missing body beside a title is no bad text; a row in which all are missing is one.
    texts = parts[0] if len(parts) == 1 else [_joined(row) for row in zip(*parts, strict=True)]
    ids = None if id_column is None else table[id_column].to_list()
    return texts, ids, None if columns.created is None else table[columns.created].to_list()


def _joined(parts: Iterable[Any]) -> Any:
    """Join the texts of a row by line breaks.

    Return None if all are missing. If a value is no text, return the first such value.
    """
    there = [
        part for part in parts if not (part is None or part != part or (isinstance(part, str) and not part.strip()))
    ]
    no_text = next((part for part in there if not isinstance(part, str)), None)
    return no_text if no_text is not None else "\n".join(there) or None


def _with_distinct_texts(
    ids: list[Id], texts: list[str], ages: NDArray[np.float64] | None, new: int, two: bool
) -> Questions:
    """Return the questions with their distinct texts numbered.

    Within each stretch (new, both, old) they go by hash, so that no number, and no batch of the networks, depends on
    the order of the input.
    """
    hashes, inverse = np.unique(duplicate_key_hashes(texts), return_inverse=True)
    old = np.arange(len(texts)) >= new
    in_new, in_old = (np.bincount(inverse[side], minlength=len(hashes)) > 0 for side in (~old, old))
    # 0: the new collection alone, 1: both, 2: the old alone.
    kind = np.where(in_new, in_old.astype(np.int64), 2)
    number_of = np.empty(len(hashes), np.int64)
    number_of[np.argsort(kind, kind="stable")] = np.arange(len(hashes))
    text_of = number_of[inverse]
    by_text = sorted(range(len(texts)), key=lambda at: (texts[at], id_key(ids[at])), reverse=True)
    first, second = np.empty(len(hashes), np.int64), np.empty(len(hashes), np.int64)
    for represents, preferred in ((first, False), (second, two)):
        for wanted in (False, True):
            # The last one written stays: the least text, of the preferred collection if it is there.
            rows = [at for at in by_text if (old[at] == preferred) == wanted]
            represents[text_of[rows]] = rows
    sides = (int((kind == 0).sum()), int((kind < 2).sum())) if two else None
    return Questions(ids, texts, texts, text_of, first, second, ages, new, sides)


def id_key(id_: Id) -> tuple[bool, Any]:
    """Return a sort key for ids: numbers before texts."""
    return (isinstance(id_, str), id_)
