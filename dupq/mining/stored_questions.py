"""Questions in parts of a work folder, a few of which are in memory."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from dupq.engine.work_folder import WorkFolder
from dupq.mining.question_stream import IdForm, SourceQuestion
from dupq.models.batching import chunks
from dupq.types import Id

BLOCK = 32_768
"""Values that an iteration reads at a time."""
_PARTS = 4
"""Parts that stay in memory."""

Value = TypeVar("Value")
Ints = NDArray[np.int64]


# ---- parts --------------------------------------------------------------------------------------------------------


def question_bytes(questions: Sequence[SourceQuestion]) -> bytes:
    """Return questions as JSON lines: id, text, and the shown text if it differs."""
    rows = ([q.id, q.text] if q.shown == q.text else [q.id, q.text, q.shown] for q in questions)
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode("ascii")


def part_name(part: int) -> str:
    """Return the name of a part of the questions."""
    return f"questions/{part:05}.jsonl"


def in_form(id_: Id, form: IdForm, *, old: bool) -> Id:
    """Return an id in a form; `old` is True in the old collection."""
    if form == "sides":
        return f"{'old' if old else 'new'}:{id_}"
    return id_ if form == "plain" else str(id_)


@dataclass(slots=True)
class StoredQuestions:
    """Parts of n questions, of which the last used ones stay in memory as bytes.

    Attributes:
        work: Holds the parts.
        n: Number of questions.
        size: Questions of a part.
        new: Number of questions of the new collection, which come first.
        form: Form in which ids are returned.
    """

    work: WorkFolder
    n: int
    size: int
    new: int
    form: IdForm = "plain"
    _held: OrderedDict[int, list[bytes]] = field(default_factory=OrderedDict, repr=False)

    def lines(self, part: int) -> list[bytes]:
        """Return the lines of a part."""
        found = self._held.pop(part, None)
        if found is None:
            found = self.work.read(part_name(part)).splitlines()
        self._held[part] = found
        if len(self._held) > _PARTS:
            self._held.popitem(last=False)
        return found


class StoredColumn(Sequence[Value], Generic[Value]):
    """Column of stored questions: ids, texts, or texts to show.

    Args:
        questions: The questions.
        name: The column.
    """

    def __init__(self, questions: StoredQuestions, name: Literal["id", "text", "shown"]) -> None:
        self.questions, self.name = questions, name

    def __len__(self) -> int:
        return self.questions.n

    @overload
    def __getitem__(self, number: int) -> Value: ...

    @overload
    def __getitem__(self, number: slice) -> list[Value]: ...

    def __getitem__(self, number: int | slice) -> Value | list[Value]:
        if isinstance(number, slice):
            return self.take(np.arange(*number.indices(len(self))))
        return self.take(np.array([range(len(self))[number]]))[0]

    def __iter__(self) -> Iterator[Value]:
        for block in chunks(len(self), self.questions.size):
            yield from self[block]

    def take(self, at: Ints) -> list[Value]:
        """Return the values at some numbers, in their order; each part is read once."""
        found: list[Value | None] = [None] * len(at)
        size, order = self.questions.size, np.argsort(at, kind="stable")
        parts = at[order] // size
        for rows in np.split(order, np.flatnonzero(np.diff(parts)) + 1) if len(order) else []:
            part = int(at[rows[0]]) // size
            lines = self.questions.lines(part)
            for row in rows.tolist():
                found[row] = self._value(int(at[row]), lines[int(at[row]) - part * size])
        return found  # type: ignore[return-value]

    def _value(self, number: int, line: bytes) -> Value:
        row = json.loads(line)
        if self.name == "id":
            row[0] = in_form(row[0], self.questions.form, old=number >= self.questions.new)
        value: Value = row[{"id": 0, "text": 1, "shown": -1}[self.name]]
        return value


# ---- values by their numbers --------------------------------------------------------------------------------------


def take(values: Sequence[Value], at: Ints) -> list[Value]:
    """Return the values at some numbers, in their order."""
    return values.take(at) if isinstance(values, StoredColumn) else [values[number] for number in at.tolist()]


class Selected(Sequence[Value]):
    """Values of a sequence at some numbers.

    An iteration holds `BLOCK` of them at a time.

    Args:
        values: The sequence.
        at: The numbers, int64 (m,).
    """

    def __init__(self, values: Sequence[Value], at: Ints) -> None:
        self.values, self.at = values, at

    def __len__(self) -> int:
        return len(self.at)

    @overload
    def __getitem__(self, number: int) -> Value: ...

    @overload
    def __getitem__(self, number: slice) -> list[Value]: ...

    def __getitem__(self, number: int | slice) -> Value | list[Value]:
        if isinstance(number, slice):
            return take(self.values, self.at[number])
        return take(self.values, self.at[[number]])[0]

    def __iter__(self) -> Iterator[Value]:
        for block in chunks(len(self.at), BLOCK):
            yield from self[block]
