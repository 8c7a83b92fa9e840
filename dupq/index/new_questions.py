"""Check of the questions that are given to an index, row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from dupq.data.arguments import as_ids, as_list, as_number, as_texts
from dupq.data.dates import parse_dates
from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.index.stores.base import NewQuestion, without_nul
from dupq.types import Id


def checked_questions(
    ids: Iterable[Id],
    texts: Iterable[str],
    *,
    created: Iterable[object] | None = None,
    reach: Iterable[float] | None = None,
    details: Iterable[Mapping[str, Any] | None] | None = None,
) -> tuple[list[NewQuestion], dict[Id, tuple[int, ...]]]:
    """Return the checked questions, and the places of repeated ids.

    Each id occurs once, with its last row. Places, counted from 1, are given for ids that occur more than once.

    Args:
        ids, texts, created, reach, details: As in `QuestionIndex.add`.

    Raises:
        InputError: A value that cannot be stored, named by its place, counted from 1; or columns of unequal length.
    """
    keys, questions = as_ids(ids, "id"), as_texts(texts, "texts")
    columns = [
        [None] * len(questions) if column is None else as_list(column, name)
        for name, column in (("created", created), ("reach", reach), ("details", details))
    ]
    if len(keys) != len(questions):
        message = f"ids and texts must be equally long, got {len(keys)} ids and {len(questions)} texts"
        raise InputError(message, hint="give one id for each text")
    for name, column in zip(("created", "reach", "details"), columns, strict=True):
        if len(column) != len(questions):
            message = f"{name} must have one value for each of {len(questions)} texts, got {len(column)}"
            raise InputError(message, hint="give None to leave it out")
    places: dict[Id, list[int]] = {}
    for number, (id_, text) in enumerate(zip(keys, questions, strict=True), 1):
        if isinstance(id_, str):
            without_nul(id_, "the id", f"id {number}")
        without_nul(check_text(text, place := f"text {number} (id {id_!r})"), "the text", place)
        places.setdefault(id_, []).append(number)
    dates = [
        None if date is None else _iso(date, f"created {number} (id {id_!r})")
        for number, (id_, date) in enumerate(zip(keys, parse_dates(columns[0], "created"), strict=True), 1)
    ]
    reaches = [
        None if reach is None else as_number(value, f"reach {number} (id {id_!r})", 0, math.inf, above=True)
        for number, (id_, value) in enumerate(zip(keys, columns[1], strict=True), 1)
    ]
    shown = [
        None if value is None else checked_details(value, f"details {number} (id {id_!r})")
        for number, (id_, value) in enumerate(zip(keys, columns[2], strict=True), 1)
    ]
    last = [(id_, numbers[-1] - 1) for id_, numbers in places.items()]
    rows = [NewQuestion(id_, questions[at], dates[at], reaches[at], shown[at]) for id_, at in last]
    return rows, {id_: tuple(numbers) for id_, numbers in places.items() if len(numbers) > 1}


def checked_details(value: object, location: str) -> dict[str, Any]:
    """Return a mapping as JSON gives it back; raise InputError if JSON cannot hold it."""
    hint = "give a dict of str to str, numbers, True, False, None, lists and dicts"
    if not isinstance(value, Mapping):
        raise InputError(f"details must be a mapping, got {type(value).__name__}", location=location, hint=hint)
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
        text.encode("utf-8")
        found: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"details must be what JSON can hold, got {value!r:.60} ({error})"
        raise InputError(message, location=location, hint=hint) from error
    if not _has_text_keys(value):
        message = f"details must have keys of class str only, got {value!r:.60}"
        raise InputError(message, location=location, hint=hint)
    return found


def _has_text_keys(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_has_text_keys, value))
    return not isinstance(value, Mapping) or all(
        isinstance(key, str) and _has_text_keys(held) for key, held in value.items()
    )


def _iso(seconds: float, location: str) -> str:
    """Format POSIX seconds as ISO 8601 in UTC.

    A year outside 1 to 9999 raises InputError.
    """
    try:
        return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        raise InputError(
            f"the date must be in the years 1 to 9999, got {seconds:g} seconds since 1970",
            location=location,
            hint="check its unit, or leave it out",
        ) from None
