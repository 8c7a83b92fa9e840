from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dupq.cli.main import main
from dupq.errors import InputError
from dupq.index.question_index import QuestionIndex
from dupq.index.stores import open_store
from dupq.index.stores.sql import Transaction
from dupq.pipeline import DuplicatePipeline
from dupq.service import tables
from dupq.service.tables import FORMAT, META, prepare_tables
from tests.service.stores import BOTH, Repeating, place_of

ROOT = Path(__file__).parents[2]
RACER = """
import sys
from dupq.index.stores import open_store
from dupq.service.access import Access
from dupq.service.tables import prepare_tables
print("ready", flush=True)
sys.stdin.readline()
store = open_store(sys.argv[1])
prepare_tables(store)
Access(store).create_token(sys.argv[2], "reader")
store.close()
"""


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return place_of(request.param, request, tmp_path)


@pytest.fixture
def store(place: str) -> Iterator[Any]:
    with closing(open_store(place)) as made:
        yield made


def names(store: Any) -> list[str]:
    with store.reading() as view:
        return [row[0] for row in view.session.run("SELECT name FROM service_tokens ORDER BY name")]


def test_tables_are_made_once(store: Any) -> None:
    for _ in range(3):
        prepare_tables(store)
    with store.reading() as view:
        assert view.meta(META) == str(FORMAT)
        made = re.findall(r"CREATE TABLE (\w+)", str(tables.MIGRATIONS))
        assert {"service_tokens", "service_sessions", "service_jobs"} <= set(made)
        assert [view.count(table) for table in made] == [0] * len(made)


def test_a_repeated_migration_does_nothing(store: Any) -> None:
    prepare_tables(Repeating(store))
    assert names(store) == []


def test_threads_prepare_them_at_once(store: Any, place: str) -> None:
    ready, failures = threading.Barrier(6), []

    def prepare() -> None:
        with closing(open_store(place)) as own:
            ready.wait(60)
            try:
                prepare_tables(own)
            except Exception as error:  # noqa: BLE001 - it is shown by the assertion
                failures.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(store) == []


def test_processes_start_at_once_on_no_database(place: str) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, place, f"racer {number}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        _, errors = racer.communicate(timeout=300)
        assert racer.returncode == 0, errors
    with closing(open_store(place)) as store:
        assert names(store) == [f"racer {number}" for number in range(3)]


def test_newer_tables_are_refused_and_stay_as_they_are(store: Any) -> None:
    prepare_tables(store)
    store.write(lambda transaction: transaction.set_meta(META, FORMAT + 1))
    with pytest.raises(InputError, match=f"format {FORMAT + 1}; this version of dupq reads up to {FORMAT}") as refused:
        prepare_tables(store)
    assert refused.value.hint == "update dupq"
    with store.reading() as view:
        assert view.meta(META) == str(FORMAT + 1)


def test_older_tables_are_migrated_in_one_transaction(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_tables(store)
    steps = {FORMAT + 1: ("ALTER TABLE service_tokens ADD COLUMN extra TEXT",), FORMAT + 2: ("CREATE BROKEN",)}
    monkeypatch.setattr(tables, "MIGRATIONS", {**tables.MIGRATIONS, **steps})
    monkeypatch.setattr(tables, "FORMAT", FORMAT + 2)
    with pytest.raises(Exception, match=r"(?i)syntax|cannot be used"):
        prepare_tables(store)
    with store.reading() as view:
        assert view.meta(META) == str(FORMAT)
    monkeypatch.setattr(tables, "FORMAT", FORMAT + 1)
    prepare_tables(store)
    with store.reading() as view:
        assert view.meta(META) == str(FORMAT + 1)
        assert view.session.run("SELECT extra FROM service_tokens") == []


def test_the_index_lives_with_them(place: str, pipeline: DuplicatePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(open_store(place)) as store:
        prepare_tables(store)  # before there is a question
        with QuestionIndex(place, pipeline) as index:
            index.add(["a", "b", "c"], ["How do I cook rice?", "How do I cook rice well?", "Where is Rome?"])
            index.remove(["c"])

        def put(transaction: Transaction) -> None:
            transaction.session.run(
                "INSERT INTO service_tokens(number, name, role, hash, created, preferences)"
                " VALUES(1, 'Ann', 'reader', 'x', 'now', '{}')"
            )

        store.write(put)
        for command in ("verify", "compact", "stats"):
            assert main(["index", command, place]) == 0, capsys.readouterr()
        assert names(store) == ["Ann"]
    with QuestionIndex(place, pipeline) as index:
        assert len(index) == 2
