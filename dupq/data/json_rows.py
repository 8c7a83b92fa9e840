"""Rows of JSON files: objects one a line, in an array, or one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from dupq.data.sources import is_undecoded
from dupq.errors import InputError

Refuse = Callable[[InputError], None]
_SPACE = " \t\r\n"


def is_object(text: str) -> bool:
    """Return True for a text that is one whole JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def begins_array(sample: str) -> bool:
    """Return True for the start of an array of objects or a multi-line object."""
    start = sample.lstrip(_SPACE)
    if start.startswith("["):
        return start[1:].lstrip(_SPACE)[:1] in ("{", "]", "")
    if not start.startswith("{") or is_object(start.splitlines()[0]):
        return False
    # The first line of an object over several lines holds only its brace.
    first, _, rest = start.partition("\n")
    return first.strip() in ("{", "{\r") and rest.lstrip(_SPACE)[:1] in ('"', "}")


def json_lines(lines: Iterator[str], name: str, refuse: Refuse) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON object of each line, numbered from 1.

    Blank lines are counted and skipped.

    Args:
        lines: The lines.
        name: The source, for the errors.
        refuse: Called with the error of a bad line.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        problem = "this line is not a JSON object"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row, problem = None, "not valid UTF-8" if is_undecoded(line) else f"not valid JSON ({error})"
        if isinstance(row, dict):
            yield number, row
        else:
            refuse(InputError(problem, location=f"{name}, row {number}", hint="write one JSON object a line"))


def json_array(text: Iterator[str], name: str, refuse: Refuse) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of an array, or consecutive objects, numbered from 1.

    Args:
        text: The pieces of the text.
        name: The source, for the errors.
        refuse: Called with the error of an element that is no object.

    Raises:
        InputError: The text is no JSON; the elements after the damage cannot be read.
    """
    buffer = _Buffer(text, name)
    array = buffer.peek() == "["
    if array:
        buffer.take("[")
    number = 0
    while True:
        first = buffer.peek()
        if array and first == "]" and (number == 0 or not buffer.after_comma):
            buffer.take("]")
            if buffer.peek():
                raise buffer.error(number + 1, "text follows the array")
            return
        if not first:
            if array:
                raise buffer.error(number + 1, "the array is not closed")
            return
        number += 1
        row = buffer.value(number)
        buffer.after_comma = array and buffer.peek() == ","
        if buffer.after_comma:
            buffer.take(",")
        elif array and buffer.peek() not in ("]", ""):
            raise buffer.error(number + 1, "a comma is missing")
        if isinstance(row, dict):
            yield number, row
        else:
            problem = "this element is not a JSON object"
            refuse(InputError(problem, location=f"{name}, row {number}", hint="give an array of objects"))


class _Buffer:
    """Buffer that reads as much text as the next value needs."""

    def __init__(self, pieces: Iterator[str], name: str) -> None:
        self.pieces, self.name = pieces, name
        self.text, self.at, self.after_comma = "", 0, False
        self.decoder = json.JSONDecoder()

    def more(self, characters: int) -> bool:
        """Read at least this many characters more; return False at the end of the text."""
        parts = [self.text[self.at :]]
        missing = characters
        for piece in self.pieces:
            parts.append(piece)
            missing -= len(piece)
            if missing <= 0:
                break
        self.text, self.at = "".join(parts), 0
        return missing < characters

    def peek(self) -> str:
        """Return the next character that is no whitespace, or "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _SPACE:
                    return self.text[self.at]
                self.at += 1
            if not self.more(1 << 16):
                return ""

    def take(self, character: str) -> None:
        self.at += len(character)

    def value(self, number: int) -> Any:
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                # The value may be incomplete. Doubling the buffer keeps the work linear.
                if isinstance(error, RecursionError) or not self.more(max(1 << 16, len(self.text) - self.at)):
                    raise self.error(number, f"not valid JSON ({error})") from error
                continue
            if end == len(self.text) and self.more(1 << 16):
                self.at = 0
                continue  # a number may continue
            self.at = end
            return value

    def error(self, number: int, problem: str) -> InputError:
        return InputError(problem, location=f"{self.name}, row {number}", hint="write the file again, or write JSONL")
