"""Distinct texts of more questions than one machine holds in memory.

They are found by an external sort by the hash of the duplicate key. The driver writes the questions in their order,
`checkpoint.PART` a part. A unit takes `RUN` parts and writes their rows by ranges of the hash. A second unit reads one
range of all of them, in which exact copies meet, and writes its distinct texts. A third cuts these into the shards that
are embedded. Distinct texts are numbered by hash, so that numbers and shards are those of one machine::

    questions/00000.jsonl       questions in their order: id, text, and the text to show if it is another
    rows/00000                  hash, number, id and text of the questions of a run, by range of the hash
    distinct-FORM/00000         distinct texts of a range, with the questions that have and represent them; the ids
                                have a form
    texts/00000.jsonl           distinct texts in order
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import duplicate_key_hash
from dupq.engine.base import Engine, Task, Unit
from dupq.engine.work_folder import WorkFolder
from dupq.mining import checkpoint as parts
from dupq.mining.input_parts import write_input
from dupq.mining.question_stream import IdForm, QuestionStream, SourceQuestion
from dupq.mining.questions import Questions, id_key
from dupq.mining.stored_questions import StoredColumn, StoredQuestions, in_form, part_name, question_bytes
from dupq.types import Id

Ints = NDArray[np.int64]

RUN = 32
"""Parts of questions whose rows one unit writes by hash; a range of the hash holds about as many rows."""
HASH_BITS = 63
KINDS = 3
"""Texts of the new collection alone, of both, of the old one alone."""


# ---- driver -------------------------------------------------------------------------------------------------------


def store_questions(engine: Engine, work: WorkFolder, stream: QuestionStream) -> tuple[Questions, str]:
    """Read a stream into a work folder and number its distinct texts.

    Shards of the distinct texts are then parts of the folder.

    Returns:
        The questions, whose ids and texts stay in the folder, and a hash of the input.

    Raises:
        InputError: As the stream raises, or an earlier run in this folder read another one.
        UnitError: Units failed repeatedly.
        OutputError: The folder cannot be written.
    """
    size, ages, new, total = parts.PART, array("d"), 0, 0

    def read(questions: Iterable[SourceQuestion]) -> Iterator[SourceQuestion]:
        nonlocal total
        for question in questions:
            if stream.dated:
                ages.append(np.inf if question.created is None else question.created)
            total += 1
            yield question

    def every() -> Iterator[SourceQuestion]:
        nonlocal new
        yield from read(stream.questions)
        new = total
        yield from read(stream.against or ())

    def found() -> Iterator[tuple[str, str, bytes]]:
        questions = every()
        for chunk in iter(lambda: list(islice(questions, size)), []):
            yield "questions", ".jsonl", question_bytes(chunk)
        sizes = {"questions": total, "new": new, "two": stream.against is not None}
        yield "sizes", ".json", json.dumps(sizes).encode()

    hashes = write_input(work, found())
    stored = StoredQuestions(work, total, size, new)
    ids, texts, shown = (StoredColumn[Any](stored, name) for name in ("id", "text", "shown"))
    stored.form = stream.finish(ids)
    text_of, first, second, sides = _number_texts(engine, stored, two=stream.against is not None)
    dates = np.frombuffer(ages, np.float64) if stream.dated else None
    return Questions(ids, texts, shown, text_of, first, second, dates, new, sides), parts.hash_of(hashes)


def _number_texts(
    engine: Engine, stored: StoredQuestions, *, two: bool
) -> tuple[Ints, Ints, Ints, tuple[int, int] | None]:
    """Assign numbers to the distinct texts and write their shards.

    Return `text_of`, `first`, `second` and `sides` of `Questions`.
    """
    work, n, size = stored.work, stored.n, stored.size
    ranges = max(1, -(-n // (RUN * size)))
    runs = [
        Unit(f"rows/{run:05}", {"first": run * RUN, "last": min((run + 1) * RUN, -(-n // size))})
        for run in range(-(-n // (RUN * size)))
    ]
    engine.run(Task("sorting", SortRows, (size, ranges)), runs, work)
    names = [f"distinct-{stored.form}/{at:05}" for at in range(ranges)]
    units = [Unit(name, {"range": at, "runs": len(runs)}) for at, name in enumerate(names)]
    engine.run(Task("sorting", FindDistinct, (stored.new, two, stored.form)), units, work)
    found = [DistinctPart(work, name) for name in names]
    counts = np.array([part.kinds for part in found], np.int64).reshape(ranges, KINDS)
    # Distinct texts go by kind, then by hash: the ranges of one kind follow each other.
    begins = (np.cumsum(counts.T.ravel()) - counts.T.ravel()).reshape(KINDS, ranges).T
    total = int(counts.sum())
    text_of, first = np.empty(n, np.int64), np.empty(total, np.int64)
    second = np.empty(total, np.int64) if two else first
    for part, begin, count in zip(found, begins.tolist(), counts.tolist(), strict=True):
        number = np.concatenate([np.arange(at, at + m) for at, m in zip(begin, count, strict=True)])
        columns = part.columns()
        text_of[columns.question] = number[columns.text]
        first[number] = columns.first
        if two:
            second[number] = columns.second
    _cut_shards(engine, work, names, counts, size)
    kinds = counts.sum(axis=0)
    return text_of, first, second, (int(kinds[0]), int(kinds[:2].sum())) if two else None


def _cut_shards(engine: Engine, work: WorkFolder, names: list[str], counts: Ints, size: int) -> None:
    shards: list[list[tuple[str, int, int]]] = []
    room = 0
    for kind in range(KINDS):
        for name, count in zip(names, counts, strict=True):
            start, stop = int(count[:kind].sum()), int(count[: kind + 1].sum())
            while start < stop:
                if not room:
                    shards.append([])
                    room = size
                taken = min(room, stop - start)
                shards[-1].append((name, start, start + taken))
                start, room = start + taken, room - taken
    units = [Unit(f"texts/{at:05}.jsonl", {"pieces": pieces}) for at, pieces in enumerate(shards)]
    engine.run(Task("sorting", CutShard), units, work)


# ---- units --------------------------------------------------------------------------------------------------------


class SortRows:
    """Worker that writes questions by range of the hash of their duplicate key.

    Args:
        work: Holds the questions.
        size: Questions of a part.
        ranges: Number of ranges of the hash.
    """

    def __init__(self, work: WorkFolder, size: int, ranges: int) -> None:
        self.work, self.size, self.ranges = work, size, ranges

    def __call__(self, unit: Unit) -> bytes:
        rows: list[list[str]] = [[] for _ in range(self.ranges)]
        for part in range(unit.spec["first"], unit.spec["last"]):
            for at, line in enumerate(self.work.read(part_name(part)).splitlines(), part * self.size):
                id_, text = json.loads(line)[:2]
                hashed = duplicate_key_hash(text)
                rows[hashed * self.ranges >> HASH_BITS].append(f"{json.dumps([hashed, at, id_, text])}\n")
        segments = ["".join(found).encode("ascii") for found in rows]
        ends = np.cumsum([0, *map(len, segments)], dtype="<i8") + 8 * (self.ranges + 1)
        return b"".join([ends.tobytes(), *segments])


class _Row(NamedTuple):
    hashed: int
    question: int
    id: Id
    text: str


class FindDistinct:
    """Worker that finds the distinct texts of a range of the hash.

    Args:
        work: Holds the rows.
        new: Number of questions of the new collection.
        two: True if there is an old collection.
        form: Form of the ids, by which the first of equal texts represents them.
    """

    def __init__(self, work: WorkFolder, new: int, two: bool, form: IdForm) -> None:
        self.work, self.new, self.two, self.form = work, new, two, form

    def __call__(self, unit: Unit) -> bytes:
        rows = [row for run in range(unit.spec["runs"]) for row in self._rows(f"rows/{run:05}", unit.spec["range"])]
        rows.sort(key=self._order)
        # Of each text: its kind, its hash (by the order of the groups), and its rows, the least text first.
        texts = [[*group] for _, group in groupby(rows, key=lambda row: row.hashed)]
        kinds = np.array([self._kind(group) for group in texts], np.int64)
        texts = [texts[at] for at in np.argsort(kinds, kind="stable").tolist()]
        first = [next((row for row in group if row.question < self.new), group[0]) for group in texts]
        second = [next((row for row in group if row.question >= self.new), group[0]) for group in texts]
        return distinct_bytes(
            kinds=np.bincount(kinds, minlength=KINDS),
            question=[row.question for group in texts for row in group],
            text=[at for at, group in enumerate(texts) for _ in group],
            first=[row.question for row in first],
            second=[row.question for row in second],
            lines=[f"{json.dumps(row.text)}\n".encode("ascii") for row in first],
        )

    def _rows(self, name: str, at: int) -> Iterator[_Row]:
        start, stop = np.frombuffer(self.work.read_range(name, 8 * at, 8 * at + 16), "<i8").tolist()
        for line in self.work.read_range(name, start, stop).splitlines():
            yield _Row(*json.loads(line))

    def _order(self, row: _Row) -> tuple[Any, ...]:
        return row.hashed, row.text, id_key(in_form(row.id, self.form, old=row.question >= self.new))

    def _kind(self, group: list[_Row]) -> int:
        old = [row.question >= self.new for row in group]
        return 2 if all(old) else int(any(old))


class CutShard:
    """Worker that cuts a shard of distinct texts from those of the ranges."""

    def __init__(self, work: WorkFolder) -> None:
        self.work = work

    def __call__(self, unit: Unit) -> bytes:
        return b"".join(DistinctPart(self.work, name).lines(start, stop) for name, start, stop in unit.spec["pieces"])


# ---- part of a range ----------------------------------------------------------------------------------------------


class DistinctColumns(NamedTuple):
    """Numbers of a range, int64.

    Attributes:
        question: Its questions, (m,).
        text: The text of each, counted within the range, (m,).
        first, second: The questions that represent each text, (u,); see `Questions`.
    """

    question: Ints
    text: Ints
    first: Ints
    second: Ints


def distinct_bytes(*, kinds: Any, question: Any, text: Any, first: Any, second: Any, lines: list[bytes]) -> bytes:
    """Return the part of a range of the hash.

    All numbers come first, as int64, then the lines of its u distinct texts.

    Args:
        kinds: Number of texts of each kind; the texts go by kind.
        question, text, first, second: See `DistinctColumns`.
        lines: The texts as JSON lines.
    """
    ends = np.cumsum([0, *map(len, lines)])
    numbers = ([len(question)], kinds, question, text, first, second, ends)
    return b"".join([*(np.asarray(column, "<i8").tobytes() for column in numbers), *lines])


class DistinctPart:
    """Part of a range, of which pieces are read.

    Args:
        work: Holds it.
        name: Its name.
    """

    def __init__(self, work: WorkFolder, name: str) -> None:
        self.work, self.name = work, name
        self.rows, *self.kinds = self._numbers(0, 1 + KINDS).tolist()

    def _numbers(self, start: int, stop: int) -> Ints:
        return np.frombuffer(self.work.read_range(self.name, 8 * start, 8 * stop), "<i8")

    def columns(self) -> DistinctColumns:
        """Return the numbers."""
        m, u, begin = self.rows, sum(self.kinds), 1 + KINDS
        found = self._numbers(begin, begin + 2 * m + 2 * u)
        return DistinctColumns(*np.split(found, [m, 2 * m, 2 * m + u]))

    def lines(self, start: int, stop: int) -> bytes:
        """Return the lines of some texts."""
        m, u = self.rows, sum(self.kinds)
        ends = 1 + KINDS + 2 * m + 2 * u
        base = 8 * (ends + u + 1)
        begin, end = self._numbers(ends + start, ends + stop + 1)[[0, -1]].tolist()
        return self.work.read_range(self.name, base + begin, base + end)
