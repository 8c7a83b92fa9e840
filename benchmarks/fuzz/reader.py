"""Read random files as pairs and as questions."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.fuzz.documents import LINKS, document
from benchmarks.fuzz.values import anything, rows, text
from benchmarks.fuzz.world import World
from dupq.data.pairs import load_pairs
from dupq.data.questions import read_questions
from dupq.data.reading import (
    Columns,
    FileOptions,
    ReadReport,
    read_pairs,
)
from dupq.data.splits import SplitSettings, split_file
from dupq.errors import DupqError

NAMES = [
    "question1",
    "question2",
    "is_duplicate",
    "label",
    "id",
    "title",
    "body",
    "created",
    "",
    "c1",
    "Id",
    "Body",
    "x",
]


class UntrueError(Exception):
    """A count, text or file that is wrong."""


def _options(rng: random.Random) -> FileOptions | None:
    if rng.random() < 0.6:
        return None

    def maybe(*values: Any) -> Any:
        return rng.choice(values) if rng.random() < 0.4 else None

    return FileOptions(
        maybe("csv", "tsv", "json", "jsonl", "parquet", "xlsx", ""),
        maybe(",", ";", "tab", "|", "\t", " ", '"', "a", "", ",,", "\\t", "\n", "é", "\0", "\ud800"),
        maybe(
            "utf-8", "utf-16", "cp1252", "latin-1", "shift_jis", "ascii", "utf-7", "hex", "nope", "idna", "punycode", ""
        ),
    )


def _where(rng: random.Random) -> dict[str, str] | None:
    return {rng.choice(NAMES): rng.choice(("1", "0", "", "None", text(rng)[:50]))} if rng.random() < 0.1 else None


def _report(rng: random.Random) -> ReadReport | None:
    return None if rng.random() < 0.2 else ReadReport(skip_bad=rng.random() < 0.7, keep=rng.choice((1000, 1000, 2, 0)))


def _checked(found: list[str], report: ReadReport | None, filtered: bool) -> None:
    for value in found:
        if not isinstance(value, str) or not value.strip():
            raise UntrueError(f"a text that no row can hold: {value!r:.60}")
        value.encode("utf-8")
    if report is None:
        return
    if report.rows != report.accepted + report.rejected or min(report.rows, report.accepted, report.rejected) < 0:
        raise UntrueError(f"rows do not add up: {report.rows} = {report.accepted} + {report.rejected}")
    if not report.skip_bad and report.rejected and not report.reasons:
        raise UntrueError("rows are rejected without a reason")
    if len(report.reasons) > report.keep or len(report.reasons) != min(report.keep, report.rejected):
        raise UntrueError(f"{report.rejected} rejected, {len(report.reasons)} reasons, of which {report.keep} are kept")
    if len(found) > report.accepted or (not filtered and len(found) != report.accepted):
        raise UntrueError(f"{len(found)} rows were given, {report.accepted} are reported as accepted")


def _same(read: Callable[[ReadReport], Iterator[Any]]) -> None:
    """Check that a file without errors gives the same rows under `skip_bad`."""
    strict = ReadReport()
    try:
        first = list(read(strict))
    except DupqError:
        return
    lenient = ReadReport(skip_bad=True)
    second = list(read(lenient))
    if first != second or (strict.rows, strict.rejected) != (lenient.rows, lenient.rejected):
        raise UntrueError(f"{len(first)} rows without skip_bad, {len(second)} with it")


def _written(rng: random.Random, world: World) -> Path:
    name, data = document(rng)
    file = world.folder / name
    if name == "Posts.xml" and rng.random() < 0.5:
        file = world.folder / "dump" / name
        file.parent.mkdir()
        links, _ = LINKS.encode(), None
        (file.parent / "PostLinks.xml").write_bytes(links)
    file.write_bytes(data)
    return file.parent if file.parent.name == "dump" and rng.random() < 0.5 else file


def run(rng: random.Random, world: World) -> None:
    """Read one file by one reader."""
    roll = rng.random()
    if roll < 0.08:
        source: Any = rows(rng, world) if rng.random() < 0.9 else anything(rng, world)
        report = _report(rng)
        where = _where(rng)
        options = {"columns": _columns(rng), "labelled": rng.random() < 0.5, "report": report, "where": where}
        found = list(read_pairs(source, **options))
        _checked([side for pair in found for side in (pair.question1, pair.question2)], None, False)
        return
    file = _written(rng, world)
    before = file.read_bytes() if file.is_file() else None
    given: str | Path = str(file) if rng.random() < 0.5 else file
    stdin = sys.stdin
    if rng.random() < 0.08 and before is not None:
        given = "-"
        sys.stdin = io.TextIOWrapper(io.BytesIO(before), encoding="utf-8")
    try:
        _read(rng, world, given, roll)
    finally:
        sys.stdin = stdin
        if before is not None and file.read_bytes() != before:
            raise UntrueError("reading changed the file")


def _columns(rng: random.Random) -> Columns | None:
    if rng.random() < 0.7:
        return None
    return Columns(*(rng.choice(NAMES) if rng.random() < 0.6 else None for _ in range(3)))


def _read(rng: random.Random, world: World, given: str | Path, roll: float) -> None:
    options, report = _options(rng), _report(rng)
    if roll < 0.45:
        how: dict[str, Any] = {"columns": _columns(rng), "labelled": rng.random() < 0.5, "options": options}
        where = _where(rng)
        if roll < 0.2 and given != "-":
            _same(lambda report: read_pairs(given, report=report, where=where, **how))
            return
        pairs = list(read_pairs(given, report=report, where=where, **how))
        _checked([pair.question1 for pair in pairs], report, where is not None)
        return
    if roll < 0.5:
        load_pairs(given, columns=_columns(rng), options=options, report=report, labelled=rng.random() < 0.8)
        return
    if roll < 0.53:
        fractions = rng.choice((None, {"train": 0.5, "test": 0.5}, {"a": 1.0}, {}, {"train": 2}, {"../x": 1.0}))
        settings = SplitSettings(fractions, rng.choice((0, 1, -1, 2**70)), _where(rng)) if rng.random() < 0.7 else None
        split_file(given, world.folder / "splits", settings, columns=_columns(rng), options=options, report=report)
        return
    named = {"id_column": None, "created_column": None, "id_type": "auto", "html": "auto"}
    if rng.random() < 0.3:
        named |= {"id_column": rng.choice(NAMES), "created_column": rng.choice((None, *NAMES))}
    if rng.random() < 0.3:
        named |= {"id_type": rng.choice(("int", "text", "str")), "html": rng.choice(("keep", "strip", "auto", "no"))}
    texts = tuple(rng.choice(NAMES) for _ in range(rng.choice((0, 0, 0, 1, 2))))
    if roll < 0.7 and given != "-":
        _same(lambda report: read_questions(given, text_columns=texts, options=options, report=report, **named))
        return
    questions = list(read_questions(given, text_columns=texts, options=options, report=report, **named))
    _checked([question.text for question in questions], report, False)
    if len({(type(question.id), question.id) for question in questions}) != len(questions):
        raise UntrueError("an id stands twice")
