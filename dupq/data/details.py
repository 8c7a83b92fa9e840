"""Read the details of a question that a review page shows beside its text.

They are title, body, tags, url, answers, score and views.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from dupq.data.arguments import is_number
from dupq.data.text import check_text
from dupq.errors import InputError

NAMES = {
    "title": ("title", "subject", "headline", "questiontitle", "topictitle"),
    "body": ("body", "content", "message", "raw", "description"),
    "tags": ("tags", "tag", "keywords"),
    "url": ("url", "link", "permalink"),
    "answers": ("answers", "answercount", "replies", "replycount"),
    "score": ("score", "likes", "likecount", "votes", "upvotes"),
    "views": ("views", "viewcount", "reads"),
}
"""Detail -> usual names of its column, best first, compared without case, spaces and punctuation."""
COUNTS = ("answers", "views")
_URL = re.compile(r"https?://[^\s/?#]+[^\s]*\Z", re.IGNORECASE)


def detail_columns(names: Iterable[str]) -> dict[str, str]:
    """Return detail -> column, for the details that have one among these names."""
    keys: dict[str, str] = {}
    for name in names:
        keys.setdefault(re.sub(r"[\W_]+", "", name).casefold(), name)
    found = {detail: next((keys[key] for key in usual if key in keys), None) for detail, usual in NAMES.items()}
    return {detail: name for detail, name in found.items() if name is not None}


def details_of(
    row: Mapping[str, Any], columns: Mapping[str, str], at: str, plain: Callable[[str, str], str]
) -> dict[str, Any]:
    """Return the details of a row that are not missing or blank.

    Texts are plain, tags are a list, and only a URL of http or https is kept, because pages link it.

    Args:
        row: The row.
        columns: Detail -> column.
        at: Its place, for the error.
        plain: (text, column) -> the text without HTML.

    Raises:
        InputError: A text is broken, or a number is none.
    """
    details: dict[str, Any] = {}
    for detail, column in columns.items():
        value, place = row.get(column), f"{at}, column {column!r}"
        if value is None or value != value or (isinstance(value, (str, list)) and not str(value).strip("[] \t\r\n")):
            continue
        if detail in COUNTS or detail == "score":
            details[detail] = _number(value, detail, place)
        elif detail == "tags":
            tags = value if isinstance(value, list) else _split(check_text(value, place))
            details[detail] = [check_text(tag, place) for tag in tags]
        elif detail == "url":
            if _URL.match(url := check_text(value, place).strip()):
                details[detail] = url
        elif text := plain(check_text(value, place), column).strip():
            details[detail] = text
    return details


def reach_of(details: Mapping[str, Any]) -> float:
    """Return the views of a question as its reach, at least 1; 1 if they are unknown."""
    return max(1.0, float(details.get("views", 1)))


def _number(value: object, name: str, at: str) -> int | float:
    number: float | None = None
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,18}(\.\d+)?\s*", value, re.ASCII):
        number = float(value)
    elif is_number(value) or isinstance(value, Decimal):
        number = float(value)  # type: ignore[arg-type]
    if number is None or (name in COUNTS and not (number >= 0 and number.is_integer())):
        wanted = "a whole number of at least 0" if name in COUNTS else "a number"
        raise InputError(f"{name} must be {wanted}, got {value!r:.60}", location=at, hint="correct or drop it")
    return int(number) if number.is_integer() else number


def _split(tags: str) -> list[str]:
    """Return the tags of a text: "<a><b>", "|a|b|", "a, b", "a;b", or one tag."""
    return [tag.strip() for tag in re.split(r"[<>|,;]+", tags) if tag.strip()]
