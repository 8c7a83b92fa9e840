"""The store in PostgreSQL: bad input, lost connections, several writers, forks, and the same answers as SQLite."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from dupq.cli.main import main
from dupq.errors import DupqError, InputError, MissingExtraError, OutputError
from dupq.index.question_index import QuestionIndex
from dupq.index.stores import open_store, postgres
from dupq.index.stores.base import FORMAT, NewQuestion, StoredCalibration, StoredModel, StoredVerdict
from dupq.index.stores.postgres import PostgresStore, _read_url, cache_folder
from dupq.index.stores.sql import Transaction
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder
from tests.index.stored import IDS, TEXTS
from tests.postgres import Proxy, Server, backends, is_commit

ROOT = Path(__file__).parents[3]
on_server = pytest.mark.postgres


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    made = PostgresStore(postgres_url, wait=20)
    yield made
    made.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "BACK_OFF_SECONDS", 0.01)


@pytest.fixture
def proxy(postgres_server: Server) -> Iterator[Proxy]:
    made = Proxy(postgres_server)
    yield made
    made.close()


def rows(start: int, stop: int) -> list[NewQuestion]:
    return [NewQuestion(at, f"What is number {at}?") for at in range(start, stop)]


def put(store: Any, new: list[NewQuestion]) -> Any:
    """Write questions with vectors of the model 1, which is added and used first."""

    def action(transaction: Transaction) -> Any:
        model = transaction.model()
        if model is None:
            transaction.use_model(model := transaction.add_model("words", 64, "float16"))
        texts = [row.text for row in new]
        return transaction.put(new, {model.number: dict(zip(texts, WordEmbedder().embed(texts), strict=True))})

    return store.write(action)


def ids(store: Any) -> list[Any]:
    with store.reading() as view:
        found = [row.id for row, _ in view.rows()]
        assert sorted(found, key=str) == sorted(view.find(found), key=str)
        model = view.model()
        assert model is None or [slot for part, _ in view.vectors_after(model, 0) for slot in part] == [
            row.slot for row, _ in view.rows()
        ]
    return found


def refused(kind: type[DupqError], words: str, work: Callable[[], object], secret: str = "") -> DupqError:
    """The error of dupq, which has a hint, and in which a secret does not stand."""
    with pytest.raises(kind, match=words) as caught:
        work()
    assert caught.value.hint
    shown = f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert not secret or secret not in shown
    return caught.value


# ---- the URL, without a server ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "location", "schema"),
    [
        ("postgresql://ann:pw@db.example:5433/forum", "postgresql://ann@db.example:5433/forum", "dupq"),
        ("postgres://ann:pw@db.example/forum?dupq_schema=f2", "postgresql://ann@db.example/forum?dupq_schema=f2", "f2"),
        (
            "postgresql:///forum?host=/run/pg&dupq_schema=f2&user=ann&password=pw",
            "postgresql://ann@/forum?host=/run/pg&dupq_schema=f2",
            "f2",
        ),
        ("postgresql://ann:p%40w%3F@[::1]:1/x?dupq_schema=a&sslmode=require", "postgresql://ann@[::1]:1/x?", "a"),
        ("postgresql://h1:1,h2:2/forum", "postgresql://h1,h2:1,2/forum", "dupq"),
    ],
)
def test_a_url_is_read_and_shown_without_its_password(url: str, location: str, schema: str) -> None:
    conninfo, found, shown = _read_url(url)
    assert shown == location or shown.startswith(location)
    assert found == schema
    assert "pw" not in shown
    assert "dupq_schema" not in conninfo
    assert "connect_timeout" in conninfo


def test_the_urls_own_time_limit_stays() -> None:
    parts = psycopg.conninfo.conninfo_to_dict(_read_url("postgresql://h/x?connect_timeout=3&keepalives_idle=7")[0])
    assert (parts["connect_timeout"], parts["keepalives_idle"]) == ("3", "7")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hush/hush@host/forum",
        "postgresql://ann:hush@hush@host/forum",
        "postgresql://ann:hush%zz@host/forum",
        "postgresql://ann:hush@host:54x2/forum",
        "postgresql://ann:hush@host/forum?nonsense=1",
        "postgresql://ann:hush@[::1/forum",
        "postgresql://ann:hu sh@host/forum",
    ],
)
def test_a_wrong_url_is_refused_without_a_part_of_it(url: str) -> None:
    refused(InputError, "the URL of the database", lambda: open_store(url), "hu")


@pytest.mark.parametrize("name", ["Forum", "a-b", "1a", "", "pg_mine", "information_schema", "a" * 64, 'x";DROP', "ä"])
def test_a_wrong_schema_is_refused(name: str) -> None:
    refused(InputError, "dupq_schema must be", lambda: open_store(f"postgresql://h/x?dupq_schema={name}"))


def test_two_schemas_are_refused() -> None:
    refused(InputError, "more than one", lambda: open_store("postgresql://h/x?dupq_schema=a&dupq_schema=b"))


def test_the_cache_is_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("DUPQ_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "dupq"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().is_relative_to(tmp_path)


def test_a_missing_extra_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dupq.errors.find_spec", lambda name: None)
    error = refused(MissingExtraError, "psycopg", lambda: open_store("postgresql://h/x"))
    assert error.hint == "pip install 'dupq[postgres]'"


def test_nothing_that_listens_is_one_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    refused(OutputError, "cannot be reached", lambda: open_store(f"postgresql://a:hush@127.0.0.1:{port}/x"), "hush")


def test_a_host_that_does_not_answer_is_one_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql://a:hush@127.0.0.1:{listener.getsockname()[1]}/x?connect_timeout=2"
        refused(OutputError, "no answer in time", lambda: open_store(url), "hush")


# ---- bad input, with a server -------------------------------------------------------------------------------------


@on_server
def test_a_missing_database_is_one_error(postgres_server: Server) -> None:
    refused(InputError, "no such database", lambda: open_store(postgres_server.at(dbname="absent", password="hush")))


@on_server
def test_a_missing_user_is_one_error(postgres_server: Server) -> None:
    url = postgres_server.at(user="nobody_here", password="hush")
    refused(InputError, "refused the login", lambda: open_store(url), "hush")


@on_server
@pytest.mark.parametrize("password", ["wrong-hush", None])
def test_a_wrong_password_is_one_error(
    postgres_server: Server, password: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path))
    user = postgres_server.new_user("PASSWORD 'right'")
    if postgres_server.folder is not None:  # a server of another one's asks for passwords already
        rules = postgres_server.folder / "pg_hba.conf"
        rules.write_text(f"local all {user} scram-sha-256\n{rules.read_text()}")
        postgres_server.run("SELECT pg_reload_conf()")
    parts = {"user": user, "passfile": "/nonexistent"}
    url = postgres_server.at(**parts, password=password)
    refused(InputError, "refused the login", lambda: open_store(url), "wrong-hush")
    postgres_server.run(f"GRANT CREATE ON DATABASE {postgres_server.parts['dbname']} TO {user}")
    postgres_server.run("CREATE EXTENSION IF NOT EXISTS vector")
    made = PostgresStore(postgres_server.new_schema(**parts, password="right"))
    # A connection that was lost is no refused login.
    postgres_server.run(f"SELECT pg_terminate_backend({backends(made)[0]})")
    put(made, rows(0, 2))
    assert len(ids(made)) == 2
    made.close()


@on_server
def test_a_server_without_pgvector_is_one_error(postgres_server: Server) -> None:
    url = postgres_server.new_database(options="-c extension_control_path=/nonexistent")
    error = refused(InputError, "pgvector is missing", lambda: open_store(url))
    assert "CREATE EXTENSION vector" in str(error.hint)
    assert postgres_server.run("SELECT 1 FROM pg_namespace WHERE nspname='dupq'", url.split("&options")[0]) == []


@on_server
def test_a_user_who_may_not_make_the_extension_gets_one_error(postgres_server: Server) -> None:
    user = postgres_server.new_user()
    url = postgres_server.new_database(user=user)
    error = refused(InputError, "may not create the extension", lambda: open_store(url))
    assert "administrator" in str(error.hint)


@on_server
@pytest.mark.parametrize(("version", "words"), [("0.7.4", "0.8 or newer"), ("0.8.2", ""), ("0.8.4", ""), ("0.10", "")])
def test_old_versions_of_pgvector(
    postgres_server: Server,
    version: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path))
    url = postgres_server.new_database()
    postgres_server.run("CREATE EXTENSION vector", url)
    postgres_server.run(f"UPDATE pg_extension SET extversion='{version}' WHERE extname='vector'", url)
    with caplog.at_level(logging.WARNING, "dupq"):
        if words:
            assert version in str(refused(InputError, words, lambda: open_store(url)))
        else:
            open_store(url).close()
    assert [version in text for text in caplog.messages] == ([True] if version == "0.8.2" else [])


@on_server
def test_a_user_without_rights_gets_one_error(postgres_server: Server, store: PostgresStore) -> None:
    user = postgres_server.new_user()
    other = postgres_server.at(user=user, dupq_schema=store.schema)
    refused(OutputError, "lacks a permission", lambda: open_store(other, create=False))
    refused(OutputError, "lacks a permission", lambda: open_store(postgres_server.new_schema(user=user)))
    # One who may read can read, and is refused to write.
    postgres_server.run(f"GRANT USAGE ON SCHEMA {store.schema} TO {user}")
    postgres_server.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA {store.schema} TO {user}")
    reader = PostgresStore(other, create=False)
    assert ids(reader) == []
    refused(OutputError, "lacks a permission", lambda: reader.write(lambda transaction: transaction.set_meta("a", 1)))
    reader.close()


@on_server
def test_a_read_only_server_can_be_read_and_not_written(postgres_server: Server, store: PostgresStore) -> None:
    put(store, rows(0, 3))
    options = "-c default_transaction_read_only=on"
    reader = PostgresStore(postgres_server.at(dupq_schema=store.schema, options=options))
    assert ids(reader) == [0, 1, 2]
    refused(OutputError, "read-only", lambda: put(reader, rows(3, 4)))
    refused(OutputError, "read-only", lambda: open_store(postgres_server.new_schema(options=options)))
    assert ids(reader) == [0, 1, 2]
    reader.close()


@on_server
def test_a_full_disk_is_one_error_and_changes_nothing(postgres_server: Server, store: PostgresStore) -> None:
    put(store, rows(0, 3))
    postgres_server.run(
        f"CREATE FUNCTION {store.schema}.full() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE='53100'; END $$"
    )
    trigger = f"TRIGGER full_disk {{}} ON {store.schema}.vectors_1"
    postgres_server.run(f"CREATE {trigger.format('BEFORE INSERT')} FOR EACH ROW EXECUTE FUNCTION {store.schema}.full()")
    refused(OutputError, "disk of the server is full", lambda: put(store, rows(2, 9)))
    assert ids(store) == [0, 1, 2]
    postgres_server.run(f"DROP {trigger.format('')}")
    assert put(store, rows(2, 9)).added == 6


@on_server
@pytest.mark.parametrize("column", ["id", "text", "note"])
def test_a_nul_is_one_error(store: PostgresStore, column: str) -> None:
    put(store, rows(0, 1))
    bad = NewQuestion("a\x00" if column == "id" else "a", "What\x00?" if column == "text" else "What?")
    if column == "note":
        refused(InputError, "NUL", lambda: store.write(lambda transaction: transaction.set_meta("note", "\x00")))
    else:
        refused(InputError, "NUL", lambda: put(store, [NewQuestion("b", "Who?"), bad]))
    assert ids(store) == [0]


@on_server
@pytest.mark.parametrize("statement", ["TABLE {}.meta(a int)", "TABLE {}.posts(id int)", "VIEW {}.v AS SELECT 1"])
def test_the_schema_of_another_program_is_refused(postgres_server: Server, postgres_url: str, statement: str) -> None:
    schema = postgres_url.rpartition("=")[2]
    postgres_server.run(f"CREATE SCHEMA {schema}")
    postgres_server.run(f"CREATE {statement.format(schema)}")
    for create in (True, False):
        refused(InputError, "another program", lambda create=create: open_store(postgres_url, create=create))  # type: ignore[misc]


@on_server
def test_a_database_of_another_encoding_is_refused(postgres_server: Server) -> None:
    name = next(postgres_server.names)
    postgres_server.run(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    refused(InputError, "must be UTF8, got LATIN1", lambda: open_store(postgres_server.at(dbname=name)))


@on_server
def test_what_does_not_exist_is_not_made_unasked(postgres_server: Server, postgres_url: str) -> None:
    refused(InputError, "no such index", lambda: open_store(postgres_url, create=False))
    assert postgres_server.run(f"SELECT 1 FROM pg_namespace WHERE nspname='{postgres_url.rpartition('=')[2]}'") == []


@on_server
def test_a_newer_format_is_refused_and_an_older_one_migrated_once(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, rows(0, 3))
    ran: list[int] = []

    def migration(session: Any) -> None:
        ran.append(1)
        session.run("ALTER TABLE questions ADD COLUMN votes BIGINT NOT NULL DEFAULT 7")

    monkeypatch.setattr(postgres, "FORMAT", FORMAT + 1)
    monkeypatch.setattr(postgres, "MIGRATIONS", {FORMAT + 1: migration})
    together = threading.Barrier(4)

    def open_one() -> None:
        together.wait()
        PostgresStore(postgres_url, create=False).close()

    failures = in_threads([open_one] * 4)
    assert failures == []
    assert ran == [1]
    with store.reading() as view:
        assert view._sql.run("SELECT DISTINCT votes FROM questions") == [(7,)]
        assert view.meta("format") == str(FORMAT + 1)
    monkeypatch.setattr(postgres, "FORMAT", FORMAT)
    refused(InputError, f"format {FORMAT + 1}; this dupq reads {FORMAT}", lambda: open_store(postgres_url))


@on_server
def test_a_failed_migration_leaves_the_old_format(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def migration(session: Any) -> None:
        session.run("ALTER TABLE questions DROP COLUMN reach")
        session.run("SELECT * FROM no_such_table")

    monkeypatch.setattr(postgres, "FORMAT", FORMAT + 1)
    monkeypatch.setattr(postgres, "MIGRATIONS", {FORMAT + 1: migration})
    refused(InputError, "damaged", lambda: open_store(postgres_url))
    monkeypatch.undo()
    assert put(store, rows(0, 3)).added == 3


@on_server
def test_a_closed_store_is_refused(store: PostgresStore) -> None:
    store.close()
    refused(InputError, "closed", lambda: ids(store))
    refused(InputError, "closed", lambda: put(store, rows(0, 1)))
    assert backends(store) == []


# ---- what is stored -----------------------------------------------------------------------------------------------


@on_server
@pytest.mark.parametrize("form", ["float16", "float32"])
def test_vectors_come_back_to_the_bit(store: PostgresStore, form: Any) -> None:
    draw = np.random.default_rng(3)
    vectors = draw.standard_normal((5000, 33)).astype("<f2" if form == "float16" else "<f4")
    vectors[0], vectors[1, :2] = 0, (-0.0, 6e-8)
    model: StoredModel = store.write(lambda transaction: transaction.add_model("m", 33, form))
    store.write(lambda transaction: transaction.put_vectors(model, range(1, 5001), vectors))
    with store.reading() as view:
        parts = list(view.vectors_after(model, 0))
        some = view.vectors(model, [7, 3, 9999])
    found = np.concatenate([part for _, part in parts])
    assert np.concatenate([slots for slots, _ in parts]).tolist() == [*range(1, 5001)]
    assert found.dtype == vectors.dtype
    assert found.tobytes() == vectors.tobytes()
    assert sorted(some) == [3, 7]
    assert some[7].tobytes() == vectors[6].tobytes()
    with store.reading() as view:
        refused(InputError, "dimensions, not 32", lambda: view.vectors(replace(model, dimensions=32), [3]))


@on_server
def test_a_vector_too_long_for_pgvector_is_one_error(store: PostgresStore) -> None:
    refused(InputError, "16000", lambda: store.write(lambda transaction: transaction.add_model("m", 16001, "float16")))
    with store.reading() as view:
        assert view.models() == []


@on_server
def test_marks_in_a_statement_are_no_parameters_of_psycopg(store: PostgresStore) -> None:
    put(store, [NewQuestion("100%", "Is 100% of %s a lot?", details={"title": "50 % ?"}), NewQuestion(100, "Why?")])
    with store.reading() as view:
        assert view._sql.run("SELECT id FROM questions WHERE text LIKE 'Is 100%' AND slot>?", (0,)) == [("t100%",)]
        assert view.find(["100%"])["100%"].details == {"title": "50 % ?"}


@on_server
def test_7_and_text_7_are_two_ids(store: PostgresStore) -> None:
    put(store, [NewQuestion(7, "What is seven?"), NewQuestion("7", "Who is seven?"), NewQuestion(-(2**63), "ä😀")])
    with store.reading() as view:
        assert {id_: row.text for id_, row in view.find([7, "7", -(2**63)]).items()} == {
            7: "What is seven?",
            "7": "Who is seven?",
            -(2**63): "ä😀",
        }
        assert view.id_kinds() == {"integer", "text"}


@on_server
def test_a_reader_keeps_one_state(store: PostgresStore) -> None:
    put(store, rows(0, 3))
    with store.reading() as view:
        before = view.position()
        put(store, rows(3, 300))
        store.write(lambda transaction: transaction.remove([0]))
        assert [row.id for row, _ in view.rows()] == [0, 1, 2]
        assert view.position() == before
    assert len(ids(store)) == 299


@on_server
def test_sizes_grow_and_shrink_keeps_all(store: PostgresStore) -> None:
    before = store.sizes()["database_bytes"]
    put(store, rows(0, 500))
    store.write(lambda transaction: transaction.remove(range(400)))
    assert store.sizes()["database_bytes"] > before > 0
    store.shrink()
    assert ids(store) == [*range(400, 500)]


@on_server
def test_commits_are_on_the_disk_before_they_are_acknowledged(postgres_server: Server, tmp_path: Path) -> None:
    made = PostgresStore(postgres_server.new_schema(options="-c synchronous_commit=off"))
    with made.reading() as view:
        assert view._sql.run("SHOW synchronous_commit") == [("on",)]
        assert view._sql.run("SHOW transaction_isolation") == [("repeatable read",)]
        assert view._sql.run("SHOW transaction_read_only") == [("on",)]
    made.close()


# ---- lost connections ---------------------------------------------------------------------------------------------


@on_server
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.usefixtures("quick")
def test_a_connection_lost_in_a_batch_loses_and_doubles_nothing(
    store: PostgresStore, postgres_server: Server, times: int
) -> None:
    put(store, rows(0, 10))
    runs: list[int] = []

    def action(transaction: Transaction) -> int:
        runs.append(1)
        texts = [row.text for row in rows(5, 50)]
        vectors = dict(zip(texts, WordEmbedder().embed(texts), strict=True))
        written = transaction.put(rows(5, 50), {1: vectors})
        if len(runs) <= times:
            postgres_server.run(f"SELECT pg_terminate_backend({transaction._sql.connection.info.backend_pid})")  # type: ignore[attr-defined]
        transaction.remove([0])
        return written.added

    assert store.write(action) == 40
    assert len(runs) == times + 1
    assert ids(store) == [*range(1, 50)]


@on_server
@pytest.mark.usefixtures("quick")
def test_a_connection_that_stays_lost_is_one_error(store: PostgresStore, postgres_server: Server) -> None:
    put(store, rows(0, 10))
    runs: list[int] = []

    def action(transaction: Transaction) -> None:
        runs.append(1)
        transaction.remove([0])
        postgres_server.run(f"SELECT pg_terminate_backend({transaction._sql.connection.info.backend_pid})")  # type: ignore[attr-defined]
        transaction.remove([1])

    refused(OutputError, "cannot be reached|log", lambda: store.write(action))
    assert len(runs) == postgres.TRIES
    assert ids(store) == [*range(10)]


@on_server
@pytest.mark.usefixtures("quick")
def test_a_commit_without_an_answer_is_done_once(
    postgres_server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path))
    store = PostgresStore(postgres_server.new_schema(host="127.0.0.1", port=proxy.port), wait=20)
    runs: list[int] = []

    def action(transaction: Transaction) -> int:
        runs.append(1)
        return transaction.add_calibration("scorer", "2026-01-01T00:00:00+00:00", {"a": len(runs)})

    for number in range(1, 4):
        proxy.sees = is_commit
        assert store.write(action) == number
    assert proxy.cuts == 3
    assert len(runs) == 3  # the commit was done, and the action has no key
    with store.reading() as view:
        assert view.calibrations() == [
            StoredCalibration(number, "scorer", "2026-01-01T00:00:00+00:00", {"a": number}) for number in range(1, 4)
        ]
    proxy.sees = is_commit
    assert put(store, rows(0, 30)).added == 30
    assert put(store, rows(0, 30)).unchanged == 30
    assert len(ids(store)) == 30
    # Lost before the commit reached the server: it is run again.
    proxy.sees = lambda data: b"What is number 45?" in data
    assert put(store, rows(30, 60)).added == 30
    assert proxy.cuts == 5
    assert len(ids(store)) == 60
    store.close()


@on_server
@pytest.mark.usefixtures("quick")
def test_a_commit_that_another_writer_hides_is_repeated_and_doubles_nothing(
    postgres_server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path))
    schema = next(postgres_server.names)
    store = PostgresStore(postgres_server.at(host="127.0.0.1", port=proxy.port, dupq_schema=schema), wait=20)
    other = PostgresStore(postgres_server.at(dupq_schema=schema), wait=20)
    put(store, rows(0, 5))
    monkeypatch.setattr(postgres.time, "sleep", lambda _: put(other, rows(100, 101)))
    verdict = StoredVerdict(0, 1, 2, "duplicate", "ann", "2026-01-01T00:00:00+00:00", key="k")
    runs: list[int] = []

    def action(transaction: Transaction) -> int:
        runs.append(1)
        transaction.put([NewQuestion(3, "Why?")], {1: {"Why?": WordEmbedder().embed(["Why?"])[0]}})
        return transaction.add_verdict(verdict)

    proxy.sees = is_commit
    assert store.write(action) == 1
    assert len(runs) == 2
    with store.reading() as view:
        assert [row.key for row in view.verdicts()] == ["k"]
        assert view.count("removed") == 1
    assert ids(store) == [0, 1, 2, 4, 3, 100]
    store.close()
    other.close()


@on_server
@pytest.mark.usefixtures("quick")
def test_idle_connections_that_were_lost_are_replaced(store: PostgresStore, postgres_server: Server) -> None:
    put(store, rows(0, 3))
    for work in (lambda: ids(store), lambda: store.sizes(), lambda: put(store, rows(0, 4)), store.shrink):
        with store.reading(), store.reading(), store.reading():
            pass
        lost = backends(store)
        assert len(lost) == 3
        for process in lost:
            postgres_server.run(f"SELECT pg_terminate_backend({process})")
        work()
        assert not set(lost) & set(backends(store))


@on_server
def test_a_connection_lost_while_reading_is_one_error(store: PostgresStore, postgres_server: Server) -> None:
    put(store, rows(0, 3))

    def read() -> None:
        with store.reading() as view:
            view.position()
            postgres_server.run(f"SELECT pg_terminate_backend({view._sql.connection.info.backend_pid})")  # type: ignore[attr-defined]
            list(view.rows())

    refused(OutputError, "try again|log", read)
    assert ids(store) == [0, 1, 2]


@on_server
def test_a_swallowed_error_is_not_acknowledged(store: PostgresStore) -> None:
    def action(transaction: Transaction) -> None:
        transaction.set_meta("a", 1)
        with pytest.raises(psycopg.Error):
            transaction._sql.run("SELECT 1/0")

    def read() -> None:
        with store.reading() as view, pytest.raises(psycopg.Error):
            view._sql.run("SELECT 1/0")

    refused(OutputError, "rolled back", lambda: store.write(action))
    refused(OutputError, "rolled back", read)
    with store.reading() as view:
        assert view.meta("a") is None


# ---- several threads and processes --------------------------------------------------------------------------------


def in_threads(works: list[Callable[[], object]], seconds: float = 120) -> list[Exception]:
    failures: list[Exception] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive()
    return failures


@on_server
def test_many_may_make_the_same_index_at_once(postgres_server: Server, postgres_url: str) -> None:
    fresh = postgres_server.new_database()
    for url in (postgres_url, fresh, f"{fresh}&dupq_schema=other"):
        names: set[Path] = set()
        together = threading.Barrier(5)

        def make(url: str = url, names: set[Path] = names, together: threading.Barrier = together) -> None:
            together.wait()
            made = PostgresStore(url)
            names.add(made.vectors_file)
            made.close()

        assert in_threads([make] * 5) == []
        assert len(names) == 1


@on_server
def test_writers_and_readers_in_threads(store: PostgresStore, postgres_url: str) -> None:
    stores = [store, PostgresStore(postgres_url, wait=60)]
    put(store, rows(0, 10))

    def write(number: int) -> None:
        for turn in range(4):
            start = 1000 * number + 20 * turn
            put(stores[number % 2], rows(start, start + 20))
            assert set(range(start, start + 20)) <= set(ids(stores[number % 2]))

    def read() -> None:
        last = 0
        for _ in range(15):
            with store.reading() as view:
                now = view.position()
                changes = view.changes(None)
                # No row of a later commit is seen, and none of an earlier one is missed.
                assert changes.slots.tolist() == [*range(1, now.slot + 1)]
                assert now.slot >= last
                last = now.slot

    works: list[Callable[[], object]] = [lambda number=number: write(number) for number in range(1, 5)]  # type: ignore[misc]
    assert in_threads([*works, read, read]) == []
    assert len(ids(store)) == 10 + 4 * 80
    stores[1].close()


@on_server
@pytest.mark.parametrize("wait", [0, 0.3])
def test_a_writer_that_does_not_stop_is_one_error(store: PostgresStore, postgres_url: str, wait: float) -> None:
    impatient = PostgresStore(postgres_url, wait=wait)
    entered, leave = threading.Event(), threading.Event()

    def stay(transaction: Transaction) -> None:
        entered.set()
        leave.wait(30)

    thread = threading.Thread(target=lambda: store.write(stay))
    thread.start()
    entered.wait(30)
    try:
        refused(OutputError, "another process has been writing", lambda: put(impatient, rows(0, 1)))
        assert ids(impatient) == []  # readers go on
    finally:
        leave.set()
        thread.join(30)
    assert put(impatient, rows(0, 1)).added == 1
    impatient.close()


WRITER = """
import sys
import dupq.index.question_index as module
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder
module.BATCH = 20
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
index = module.QuestionIndex(url, DuplicatePipeline(bi_encoder=WordEmbedder()))
ids = [f"{name}{at}" for at in range(count)]
print("ready", flush=True)
index.add(ids, [f"What is {id_}?" for id_ in ids], progress=lambda done, _: print(done, flush=True))
"""


def start(url: str, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, name, str(count)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


@on_server
def test_what_was_acknowledged_survives_a_kill(postgres_url: str) -> None:
    draw, acknowledged, last = random.Random(1), set[str](), 0
    for turn in range(2):
        name = f"run{turn}n"
        writer = start(postgres_url, name, 20_000)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        seen = [int(writer.stdout.readline()) for _ in range(1 + draw.randrange(3))]
        writer.send_signal(signal.SIGKILL)
        seen += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        writer.stdout.close()
        last = max(seen)
        assert last < 20_000
        acknowledged |= {f"{name}{at}" for at in range(last)}
        with QuestionIndex(postgres_url, DuplicatePipeline(bi_encoder=WordEmbedder())) as index:
            index.add(["next"], [f"What is next, {turn}?"])  # waits for the killed one's transaction to end
            assert index.verify() == []
            with index._store.reading() as view:
                stored = {row.id for row, _ in view.rows()}
        assert acknowledged <= stored
        assert len([id_ for id_ in stored if str(id_).startswith(name)]) % 20 == 0


@on_server
def test_writers_in_processes_wait_for_each_other(postgres_url: str) -> None:
    running = [start(postgres_url, f"w{number}n", 100) for number in range(2)]
    for writer in running:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    with QuestionIndex(postgres_url, DuplicatePipeline(bi_encoder=WordEmbedder())) as index:
        assert len(index) == 200
        assert index.verify() == []


def forked(work: Callable[[], object]) -> int:
    """Run it in a forked child; return its exit status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@on_server
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_forked_child_opens_connections_of_its_own(store: PostgresStore) -> None:
    put(store, rows(0, 3))
    with store.reading(), store.reading():
        pass
    parents = backends(store)
    assert parents

    def child() -> None:
        put(store, rows(3, 6))
        assert ids(store) == [*range(6)]
        assert not set(backends(store)) & set(parents)

    assert forked(child) == 0
    assert ids(store) == [*range(6)]
    put(store, rows(6, 7))
    assert forked(lambda: refused(InputError, "closed", lambda: (store.close(), ids(store)))) == 0
    assert ids(store) == [*range(7)]


@on_server
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_fork_within_a_transaction_leaves_the_parents_whole(store: PostgresStore) -> None:
    put(store, rows(0, 3))

    def action(transaction: Transaction) -> None:
        transaction.remove([0])
        assert forked(lambda: refused(InputError, "forked in the middle", lambda: ids(store))) == 0
        transaction.remove([1])

    store.write(action)
    assert ids(store) == [2]


# ---- the whole index ----------------------------------------------------------------------------------------------


@on_server
def test_flags_are_equal_to_the_bit_to_those_of_sqlite(
    postgres_url: str, tmp_path: Path, pipeline: DuplicatePipeline
) -> None:
    draw = random.Random(5)
    indexes = [QuestionIndex(place, pipeline) for place in (tmp_path / "forum.db", postgres_url)]
    texts = dict(zip([*IDS, *range(len(IDS))], [*TEXTS, *reversed(TEXTS)], strict=True))
    changed = draw.sample(sorted(texts, key=str), 20)
    for index in indexes:
        index.add([*texts], [*texts.values()], created=[1.7e9 + at if at % 3 else None for at in range(len(texts))])
        index.add(changed, [f"{texts[id_]} Really?" for id_ in changed])
        index.remove(changed[:7])
    asked = [*draw.sample(TEXTS, 12), "Who eats glass?", "zzz"]
    one, other = ([index.flag(text, k=9) for text in asked] for index in indexes)
    assert [report.flags for report in one] == [report.flags for report in other]
    assert any(report.flags for report in one)
    some = changed[8:14]
    one, other = (index.flag_stored(some, k=5) for index in indexes)
    assert one == other
    # The random number of a pair is the store's own.
    first, second = ([replace(row, drawn=0.0) for row in index.decisions()] for index in indexes)
    assert first == second != []
    counts = ("questions", "distinct_texts", "decisions", "removed_since_compaction", "model", "dimensions")
    stats = [index.stats() for index in indexes]
    assert [stats[0][name] for name in counts] == [stats[1][name] for name in counts]
    for index in indexes:
        assert index.verify() == []
        index.compact()
    assert indexes[0].flag_all(asked, k=9) == indexes[1].flag_all(asked, k=9)
    # Another process, whose cache is the file, answers the same.
    with QuestionIndex(postgres_url, pipeline) as again:
        assert again.flag_all(asked, k=9) == indexes[0].flag_all(asked, k=9)
    for index in indexes:
        index.close()


@on_server
def test_the_vectors_are_cached_in_the_users_folder(
    postgres_url: str, tmp_path: Path, pipeline: DuplicatePipeline
) -> None:
    with QuestionIndex(postgres_url, pipeline) as index:
        index.add(IDS, TEXTS)
        index.compact()
        file = index._store.vectors_file
    assert file.parent == tmp_path / "cache"
    assert file.is_file()


@on_server
def test_another_model_is_refused_and_embedded_again_on_demand(postgres_url: str, pipeline: DuplicatePipeline) -> None:
    with QuestionIndex(postgres_url, pipeline) as index:
        index.add(IDS[:30], TEXTS[:30])
    other = replace(pipeline, bi_encoder=WordEmbedder(dimensions=32, fingerprint="narrow"))
    refused(InputError, "another model", lambda: QuestionIndex(postgres_url, other))
    with QuestionIndex(postgres_url) as index:
        index.reembed(other)
        assert index.stats()["dimensions"] == 32
        assert index.flag(TEXTS[3]).flags[0].id == IDS[3]
        assert index.verify() == []


@on_server
def test_the_commands_take_a_url(
    postgres_url: str,
    tmp_path: Path,
    pipeline: DuplicatePipeline,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dupq.cli.index.open_pipeline", lambda args: pipeline)
    Path("q.csv").write_text("id,text\n" + "".join(f"q{at},{text}\n" for at, text in enumerate(TEXTS[:20])))
    assert main(["index", "stats", postgres_url]) == 2
    assert "no such index" in capsys.readouterr().err
    assert main(["index", "add", postgres_url, "q.csv"]) == 0
    assert "20 added" in capsys.readouterr().out
    assert main(["index", "add", postgres_url, "q.csv"]) == 0
    assert "20 unchanged" in capsys.readouterr().out
    assert main(["flag", postgres_url, TEXTS[0], "-o", "flags.jsonl"]) == 0
    assert "q0" in Path("flags.jsonl").read_text()
    assert main(["index", "remove", postgres_url, "q0"]) == 0
    for command in ("stats", "verify", "compact"):
        assert main(["index", command, postgres_url]) == 0
    capsys.readouterr()
    assert main(["flag", postgres_url, TEXTS[0], "-o", postgres_url]) == 2
    assert "-o" in capsys.readouterr().err
    assert not list(tmp_path.glob("postgresql*"))
