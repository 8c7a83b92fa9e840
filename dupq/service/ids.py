"""Ids of questions in paths and queries, where 7 and "7" look alike."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor

from dupq.data.arguments import MAX_INT, MIN_INT, as_id
from dupq.index.question_index import QuestionIndex
from dupq.service.problems import ProblemError
from dupq.types import Id


class IdConvertor(Convertor[str]):
    """Convertor for the rest of a path, whatever its characters.

    The convertor `path` stops at the end of a line.
    """

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """Return the text of the path."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text of an id."""
        return value


register_url_convertor("id", IdConvertor())

NUMBER, TEXT = "i:", "t:"
"""Prefixes that fix the type of an id."""


def path_id(text: str, index: QuestionIndex) -> Id:
    """Return the id that a path or query names, as it is stored.

    It is a text, or a number if only that is stored. "i:7" is always the number 7, and "t:7" the text "7".

    Args:
        text: Part of a path or value of a query.
        index: The index.

    Raises:
        ProblemError: Both the number and the text are stored (409).
        InputError: The id is blank or broken.
    """
    if text.startswith(TEXT):
        return as_id(text[len(TEXT) :], "id")
    if text.startswith(NUMBER) and (number := whole_number(text[len(NUMBER) :])) is not None:
        return number
    as_id(text, "id")
    number = whole_number(text)
    if number is None:
        return text
    stored = index.questions([number, text])
    if len(stored) == 2:
        raise ProblemError(
            409,
            f"the number {number} and the text {text!r} are two ids of the index",
            hint=f"write {NUMBER}{number} for the number, or {TEXT}{text} for the text",
        )
    if stored:
        return next(iter(stored))
    # A removed question has a history under its id.
    return number if index.id_kinds() == {"integer"} else text


def whole_number(text: str) -> int | None:
    """Return the 64-bit integer that has exactly this text, or None."""
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if str(number) == text and MIN_INT <= number <= MAX_INT else None
