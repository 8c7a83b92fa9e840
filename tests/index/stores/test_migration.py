"""Files of format 1, which format 2 must take over whole or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.data.text import duplicate_key_hash
from dupq.errors import InputError, OutputError
from dupq.index.question_index import QuestionIndex
from dupq.index.stores import sqlite
from dupq.index.stores.base import StoredDecision, StoredModel, StoredQuestion
from dupq.index.stores.sqlite import SqliteStore
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder
from tests.index.stored import TEXTS, by_brute_force
from tests.index.stores.kinds import content

ROOT = Path(__file__).parents[3]
FORMAT_1 = (
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE questions(slot INTEGER PRIMARY KEY AUTOINCREMENT, id NOT NULL UNIQUE, text TEXT NOT NULL,"
    " print INTEGER NOT NULL, created TEXT, vector BLOB NOT NULL)",
    "CREATE INDEX questions_print ON questions(print)",
    "CREATE TABLE removed(number INTEGER PRIMARY KEY AUTOINCREMENT, slot INTEGER NOT NULL)",
    "CREATE TABLE decisions(slot INTEGER NOT NULL, other INTEGER NOT NULL, scorer TEXT NOT NULL, score REAL NOT NULL,"
    " probability REAL NOT NULL, base_rate REAL NOT NULL, decision TEXT NOT NULL, PRIMARY KEY(slot, other))"
    " WITHOUT ROWID",
    "CREATE INDEX decisions_other ON decisions(other)",
)
"""The schema of commit 50c965b, the last of format 1."""
IDS: list[Any] = [7, "7", "i7", "t7", -3, 2**63 - 1, "Ünï", "a'b", 0, *(f"q{at}" for at in range(40))]
GONE = [1, 4, 49]
"""Slots that were removed; the last of them was the newest."""


def old_file(path: Path, *, model: bool = True, application: int = sqlite.APPLICATION, format_: int = 1) -> None:
    """Write a file as dupq did in format 1."""
    with sqlite3.connect(path, isolation_level=None) as sql:
        sql.execute("PRAGMA journal_mode=WAL")
        sql.execute("BEGIN")
        for statement in FORMAT_1:
            sql.execute(statement)
        facts = [("database", "abc"), ("epoch", 3), ("dimensions", 64 if model else 0)]
        facts += [("model", "word-embedder")] if model else []
        sql.executemany("INSERT INTO meta VALUES(?, ?)", facts)
        rows = zip(IDS, TEXTS, WordEmbedder().embed(TEXTS[: len(IDS)]), strict=False)
        sql.executemany(
            "INSERT INTO questions(id, text, print, created, vector) VALUES(?, ?, ?, ?, ?)",
            [
                (id_, text, duplicate_key_hash(text), "2026" if at % 3 else None, vector.astype("<f4").tobytes())
                for at, (id_, text, vector) in enumerate(rows if model else ())
            ],
        )
        if model:
            sql.executemany(
                "INSERT INTO decisions VALUES(?, ?, 's', ?, 0.25, 0.1, 'review')", [(2, 3, 1.5), (3, 9, -2.0)]
            )
            sql.executemany("DELETE FROM questions WHERE slot=?", [(slot,) for slot in GONE])
            sql.executemany("INSERT INTO removed(slot) VALUES(?)", [(slot,) for slot in GONE])
        sql.execute(f"PRAGMA user_version={format_}")
        sql.execute(f"PRAGMA application_id={application}")
        sql.execute("COMMIT")
    sql.close()


def dump(path: Path) -> list[str]:
    """All that SQLite holds, and the two numbers of the header."""
    sql = sqlite3.connect(path)
    numbers = [str(sql.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("user_version", "application_id")]
    lines = [*numbers, *sql.iterdump()]
    sql.close()
    return lines


def check_migrated(path: Path) -> None:
    store = SqliteStore(path, create=False)
    found = content(store)
    kept = {slot: at for at, slot in enumerate(range(1, len(IDS) + 1)) if slot not in GONE}
    with store.reading() as view:
        assert [row for row, _ in view.rows()] == [
            StoredQuestion(slot, IDS[at], TEXTS[at], "2026" if at % 3 else None) for slot, at in kept.items()
        ]
        assert all(type(row.id) is type(IDS[row.slot - 1]) for row, _ in view.rows())
        assert view.damage() == []
    assert found["models"] == [found["model"]] == [StoredModel(1, "word-embedder", 64, "float32")]
    vectors = WordEmbedder().embed([TEXTS[at] for at in kept.values()])
    assert [*found["vectors"][1]] == [*kept]
    np.testing.assert_array_equal(np.array([*found["vectors"][1].values()], np.float32), vectors)
    assert found["decisions"] == [
        StoredDecision("7", "i7", "s", 1.5, 0.25, 0.1, "review", 1.0, "", 1.0, 1.0),
        StoredDecision("i7", 0, "s", -2.0, 0.25, 0.1, "review", 1.0, "", 1.0, 1.0),
    ]
    position = found["position"]
    # A vector file of the old state must not be taken for one of the new.
    assert (position.database, position.epoch, position.slot, position.removal) == ("abc", 4, len(IDS), len(GONE))
    assert found["removed"] == 0
    assert (found["verdicts"], found["merges"], found["calibrations"], found["last verdict"]) == ([], [], [], 0)
    store.close()
    lines = dump(path)
    assert lines[:2] == ["2", str(sqlite.APPLICATION)]
    assert not any("old_" in line for line in lines)
    assert sorted(line.split("(")[0] for line in lines if line.startswith(("CREATE TABLE", "CREATE INDEX"))) == sorted(
        {statement.split("(")[0] for statement in sqlite.TABLES} | {"CREATE TABLE vectors_1"}
    )


def test_an_index_of_format_1_is_taken_over(path: Path, pipeline: DuplicatePipeline) -> None:
    old_file(path)
    check_migrated(path)
    with QuestionIndex(path, pipeline) as index:
        assert index.verify() == []
        kept = {id_: text for at, (id_, text) in enumerate(zip(IDS, TEXTS, strict=False), 1) if at not in GONE}
        flags = index.flag(TEXTS[0], k=5).flags
        assert {round(flag.cosine, 5) for flag in flags} == by_brute_force(kept, TEXTS[0], 5, "float32")
        assert index.add([7, "7"], ["Who eats glass?", TEXTS[1]]).unchanged == 1
        with index._store.reading() as view:
            assert view.find([7])[7].slot == len(IDS) + 1  # the newest slot was removed, and is not used again
        index.remove(["i7"])
        with index._store.reading() as view:
            assert view.position().removal == len(GONE) + 1


def test_an_empty_index_of_format_1_is_taken_over(path: Path, pipeline: DuplicatePipeline) -> None:
    old_file(path, model=False)
    with SqliteStore(path).reading() as view:
        assert (len(view), view.models(), view.model(), view.position().slot) == (0, [], None, 0)
    with QuestionIndex(path, pipeline, vectors="float16") as index:
        assert index.add(IDS, TEXTS[: len(IDS)]).added == len(IDS)
        assert index.verify() == []


@pytest.mark.parametrize(
    ("application", "format_", "told"),
    [(77, 1, "not an index of dupq"), (0, 1, "not an index of dupq"), (sqlite.APPLICATION, 3, "has format 3; .* 2")],
)
@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_older_index_is_left_alone(
    path: Path, application: int, format_: int, told: str, create: bool
) -> None:
    old_file(path, application=application, format_=format_)
    before = path.read_bytes()
    with pytest.raises(InputError, match=told) as refused:
        SqliteStore(path, create=create)
    assert refused.value.hint
    assert path.read_bytes() == before


def test_an_index_that_becomes_newer_meanwhile_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_file(path)
    use_wal = SqliteStore._use_wal

    def meanwhile(store: SqliteStore, sql: sqlite3.Connection) -> None:
        use_wal(store, sql)
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA user_version=3")
        other.close()

    monkeypatch.setattr(SqliteStore, "_use_wal", meanwhile)
    with pytest.raises(InputError, match="has format 3"):
        SqliteStore(path)
    assert dump(path)[0] == "3"


class Failing:
    """A connection that fails at a statement."""

    def __init__(self, sql: sqlite3.Connection, statements: int) -> None:
        self.sql, self.left = sql, statements

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.left == 0:
            raise sqlite3.OperationalError("database or disk is full")
        self.left -= 1
        return getattr(self.sql, name)  # type: ignore[no-any-return]


@pytest.mark.parametrize("statements", [0, 1, 5, 20, 27, 30, 1000])
def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, statements: int
) -> None:
    old_file(path)
    before = dump(path)

    def fail(sql: sqlite3.Connection) -> None:
        sqlite._from_format_1(Failing(sql, statements))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(sqlite.MIGRATIONS, 2, fail)
        with pytest.raises((OutputError, KeyboardInterrupt)) as raised:
            SqliteStore(path)
        assert (statements == 1000) == (raised.type is KeyboardInterrupt)
    assert dump(path) == before
    check_migrated(path)


KILLED = """
import sys, time
from dupq.index.stores import sqlite
def stuck(sql, migrate=sqlite.MIGRATIONS[2]):
    sql.execute("PRAGMA cache_size=4")  # so that pages are written before the commit
    migrate(sql)
    print("middle", flush=True)
    time.sleep(600)
sqlite.MIGRATIONS[2] = stuck
sqlite.SqliteStore(sys.argv[1])
"""
TOGETHER = """
import sys
from dupq.index.stores.sqlite import SqliteStore
print("ready", flush=True)
sys.stdin.readline()
SqliteStore(sys.argv[1])
"""


def run(code: str, path: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_migration_that_is_killed_leaves_the_file_as_it_was(path: Path) -> None:
    old_file(path)
    before = dump(path)
    process = run(KILLED, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "middle\n"
    process.kill()
    process.communicate()
    assert dump(path) == before
    check_migrated(path)


def test_processes_that_migrate_at_once_do_it_once(path: Path) -> None:
    old_file(path)
    running = [run(TOGETHER, path) for _ in range(3)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode == 0
    check_migrated(path)


def test_threads_that_migrate_at_once_do_it_once(tmp_path: Path) -> None:
    raised: list[Exception] = []
    for turn in range(5):
        path, together = tmp_path / f"forum{turn}.db", threading.Barrier(6)
        old_file(path)

        def migrate(path: Path = path, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                SqliteStore(path).close()
            except Exception as error:  # noqa: BLE001
                raised.append(error)

        running = [threading.Thread(target=migrate) for _ in range(6)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        check_migrated(path)
    assert raised == []


def test_a_form_of_vectors_is_refused_only_if_it_is_named(path: Path, pipeline: DuplicatePipeline) -> None:
    old_file(path)
    with QuestionIndex(path, pipeline) as index, index._store.reading() as view:
        assert view.models()[0].form == "float32"
    with QuestionIndex(path, pipeline, vectors="float32") as index:
        assert len(index) == len(IDS) - len(GONE)
    for given in (pipeline, None):
        with pytest.raises(InputError, match="vectors must be float32, as this index stores them, got float16"):
            QuestionIndex(path, given, vectors="float16")
