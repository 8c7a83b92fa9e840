"""The table of jobs, and the threads that run them."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dupq.errors import InputError
from dupq.index.stores import open_store
from dupq.index.stores.base import Store
from dupq.index.stores.sql import SCHEMA, Transaction, View
from dupq.index.stores.sqlite import SqliteSession
from dupq.service.job_table import (
    KEEP_SECONDS,
    LEASE_SECONDS,
    MAX_ATTEMPTS,
    MAX_PAUSE_SECONDS,
    JobTable,
    Lease,
    add_job,
)
from dupq.service.jobs import DeadJobError, Jobs, LaterError
from dupq.service.tables import prepare_tables

WAIT = 60.0


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds, with a generous limit."""
    end = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("the condition did not come to hold")
        time.sleep(0.01)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The file or URL of a store."""
    return str(tmp_path / "forum.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    found = open_store(place)
    prepare_tables(found)
    yield found
    found.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(store: Store, clock: Clock) -> JobTable:
    return JobTable(store, clock=clock)


def claimed(table: JobTable, *kinds: str) -> Lease:
    lease = table.claim(kinds or ("a",))
    assert lease is not None
    return lease


def test_a_job_is_leased_once_and_done_by_its_lease(table: JobTable) -> None:
    assert table.add("a", "one", {"x": 1})
    lease = claimed(table)
    assert (lease.payload, lease.attempt) == ({"x": 1}, 1)
    assert table.claim(["a"]) is None
    assert table.finish(lease)
    assert table.finish(lease), "a repeated transaction is no failure"
    (job,) = table.list()
    assert (job.state, job.attempts, job.key) == ("done", 1, "one")
    assert job.ended is not None
    assert job.created.endswith("+00:00")


def test_a_key_is_stored_once_even_after_its_job(table: JobTable) -> None:
    assert table.add("a", "one", {})
    assert not table.add("a", "one", {"other": True})
    table.finish(claimed(table))
    assert not table.add("a", "one", {})
    assert table.counts() == {"waiting": 0, "running": 0, "done": 1, "dead": 0, "discarded": 0}


def test_an_ended_lease_is_taken_over_and_cannot_end_the_job(table: JobTable, clock: Clock) -> None:
    table.add("a", "one", {})
    first = claimed(table)
    clock.now += LEASE_SECONDS - 1
    assert table.claim(["a"]) is None
    table.extend([first])
    clock.now += LEASE_SECONDS - 1
    assert table.claim(["a"]) is None, "the lease was extended"
    clock.now += 2
    assert table.claim(["a"], busy={first.number}) is None, "it still runs in this process"
    second = claimed(table)
    assert second.attempt == 2
    assert not table.finish(first)
    assert table.fail(first, ValueError("late")) is None
    table.extend([first])
    assert table.finish(second)
    assert not table.finish(first)


def test_failures_pause_longer_and_longer_and_then_the_job_is_dead(table: JobTable, clock: Clock) -> None:
    table.add("a", "poison", {})
    table.add("a", "other", {})
    pauses = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        lease = claimed(table)
        assert lease.attempt == attempt
        assert table.fail(lease, ValueError(f"bad {attempt}\x00")) == ("dead" if attempt == MAX_ATTEMPTS else "waiting")
        if attempt == 1:
            table.finish(claimed(table))  # the poisoned job does not block the other one
        if attempt < MAX_ATTEMPTS:
            assert table.claim(["a"]) is None
            before = clock.now
            while table.claim(["a"], busy=()) is None and clock.now < before + MAX_PAUSE_SECONDS + 1:
                clock.now += 1 if attempt < 5 else 60
                if table.list("waiting")[0].due <= _iso(clock.now):  # type: ignore[operator]
                    break
            pauses.append(clock.now - before)
    assert all(later > earlier for earlier, later in pairwise(pauses[:-2]))
    assert max(pauses) <= MAX_PAUSE_SECONDS + 60
    (dead,) = table.list("dead")
    assert dead.error is not None
    assert dead.error.startswith(f"ValueError: bad {MAX_ATTEMPTS}")
    assert table.claim(["a"]) is None


def _iso(seconds: float) -> str:
    from dupq.service.job_table import _iso as iso

    return str(iso(seconds))


def test_a_dead_job_can_be_retried_and_discarded(table: JobTable) -> None:
    table.add("a", "one", {})
    assert not table.retry(99)
    assert table.fail(claimed(table), DeadJobError("it is gone")) == "dead"
    number = table.list("dead")[0].number
    assert table.list("dead")[0].error == "it is gone"
    assert table.retry(number)
    assert table.fail(claimed(table), DeadJobError("again")) == "dead"
    assert table.discard(number)
    assert not table.discard(number)
    assert not table.retry(number)
    assert not table.add("a", "one", {}), "its key still stops doubles"


def test_a_receiver_may_ask_for_a_longer_pause(table: JobTable, clock: Clock) -> None:
    table.add("a", "one", {})
    assert table.fail(claimed(table), LaterError("busy", 600.0)) == "waiting"
    clock.now += 599
    assert table.claim(["a"]) is None
    clock.now += 1
    assert claimed(table).attempt == 2


def test_a_job_that_kills_its_process_each_time_is_dead_at_last(table: JobTable, clock: Clock) -> None:
    table.add("a", "killer", {})
    for _ in range(MAX_ATTEMPTS):
        claimed(table)
        clock.now += LEASE_SECONDS + 1
    assert table.claim(["a"]) is None
    assert table.list("dead")[0].error == "the process ended during the last attempt"


def test_given_back_jobs_run_at_once_and_count_no_attempt(table: JobTable) -> None:
    table.add("a", "one", {})
    lease = claimed(table)
    table.give_back([lease])
    assert not table.finish(lease)
    assert claimed(table).attempt == 1


def test_a_clock_that_goes_back_holds_nothing_up(table: JobTable, clock: Clock) -> None:
    table.add("a", "at once", {})
    table.add("b", "fails", {})
    table.fail(claimed(table, "b"), ValueError())
    clock.now -= 10 * 86400
    running = claimed(table, "a")
    assert claimed(table, "b").attempt == 2
    table.give_back([running])
    running = claimed(table, "a")
    clock.now -= 10 * 86400
    assert table.claim(["a"], busy={running.number}) is None
    assert claimed(table, "a").number == running.number, "its lease ends later than any could"


def test_a_due_time_is_kept(table: JobTable, clock: Clock) -> None:
    table.add("a", "later", {}, due=clock.now + 100)
    assert table.claim(["a"]) is None
    clock.now += 100
    assert claimed(table)


def test_kinds_are_taken_in_the_order_that_is_asked_for_and_the_oldest_first(table: JobTable) -> None:
    for number in range(3):
        table.add("a", f"a{number}", {})
        table.add("b", f"b{number}", {})
    assert claimed(table, "b", "a").kind == "b"
    assert [claimed(table, "a", "b").number for _ in range(3)] == [1, 3, 5]


def test_two_jobs_on_a_post_are_not_leased_at_the_same_time(table: JobTable, clock: Clock) -> None:
    table.add("upsert", "post:1:1", {"id": 1})
    table.add("delete", "post:1:2", {"id": 1})
    table.add("upsert", "post:1:3", {"id": 1})
    table.add("upsert", "post:2:1", {"id": "1"})
    first = claimed(table, "upsert", "delete")
    assert first.number == 1
    assert claimed(table, "delete", "upsert").number == 4, "another post"
    assert table.claim(["delete", "upsert"]) is None
    clock.now += LEASE_SECONDS + 1
    later = claimed(table, "delete")
    assert later.number == 2, "a lease that has ended holds nothing back"
    assert claimed(table, "upsert").number == 4
    assert table.claim(["upsert", "delete"]) is None, "nor is it taken over meanwhile"
    table.finish(later)
    assert claimed(table, "upsert").number == 1


def test_jobs_of_a_family_are_listed_together(table: JobTable) -> None:
    for kind in ("send", "send:one", "send:two", "sender", "send%"):
        table.add(kind, kind, {})
    assert {job.kind for job in table.list(kind="send")} == {"send", "send:one", "send:two"}
    assert [job.kind for job in table.list(kind="send:one")] == ["send:one"]
    assert {job.family for job in table.list(kind="send")} == {"send"}


def test_ended_jobs_are_purged_and_numbers_are_not_used_twice(table: JobTable, clock: Clock) -> None:
    table.add("a", "one", {})
    table.add("a", "dead", {})
    table.finish(claimed(table))
    table.fail(claimed(table), DeadJobError("no"))
    clock.now += KEEP_SECONDS - 1
    assert table.purge() == 0
    clock.now += 2
    assert table.purge() == 1
    assert [job.key for job in table.list()] == ["dead"]
    table.add("a", "one", {})
    assert table.list()[0].number == 3


def test_jobs_are_listed_by_pages(table: JobTable) -> None:
    for number in range(5):
        table.add("a", f"job {number}", {})
    first = table.list("waiting", 2)
    assert [job.number for job in first] == [5, 4]
    assert [job.number for job in table.list("waiting", 9, after=4)] == [3, 2, 1]
    with pytest.raises(InputError, match="state must be"):
        table.list("lost")  # type: ignore[arg-type]


def test_a_job_is_stored_with_its_transaction_or_not_at_all(store: Store, table: JobTable) -> None:
    def broken(transaction: Any) -> None:
        add_job(transaction, "a", "one", {})
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.write(broken)
    assert table.list() == ()


def test_a_damaged_payload_fails_alone(store: Store, clock: Clock) -> None:
    jobs = Jobs(store, poll_seconds=0.01)
    done: list[int] = []
    jobs.handle("a", lambda payload: done.append(payload["x"]))
    jobs.add("a", "bad", {})
    store.write(lambda transaction: transaction.session.run("UPDATE service_jobs SET payload='{'"))
    jobs.add("a", "good", {"x": 1})
    jobs.start(1)
    until(lambda: done)
    jobs.stop(WAIT)
    assert {job.key: job.state for job in jobs.list()} == {"bad": "waiting", "good": "done"}
    assert jobs.list()[1].payload == {"damaged": "{"}


# ---- threads --------------------------------------------------------------------------------------------------------


def test_threads_run_jobs_and_report_each_outcome(store: Store) -> None:
    jobs = Jobs(store, poll_seconds=60.0)
    seen: list[tuple[str, str]] = []
    jobs.observe = lambda kind, outcome: seen.append((kind, outcome))

    def fail(_: Any) -> None:
        raise DeadJobError("no")

    jobs.handle("good", lambda _: None)
    jobs.handle("bad", fail)
    jobs.start(2)
    assert jobs.alive
    for number in range(20):
        jobs.add("good", f"good {number}", {})
    jobs.add("bad", "bad", {})
    until(lambda: len(seen) == 21)
    jobs.stop(WAIT)
    assert sorted(seen) == [("bad", "dead"), *[("good", "done")] * 20]


def test_a_slow_lane_does_not_hold_the_other(store: Store) -> None:
    jobs = Jobs(store)
    free, started, done = threading.Event(), threading.Event(), threading.Event()

    def send(_: Any) -> None:
        started.set()
        free.wait(WAIT)

    jobs.handle("send", send, lane="events")
    jobs.handle("index", lambda _: done.set())
    jobs.start(1)
    jobs.add("send", "send", {})
    assert started.wait(WAIT)
    jobs.add("index", "index", {})
    assert done.wait(WAIT)
    free.set()
    jobs.stop(WAIT)
    assert jobs.counts()["done"] == 2


def test_kinds_of_a_lane_take_turns(store: Store) -> None:
    jobs = Jobs(store)
    order: list[str] = []
    for kind in ("many", "few"):
        jobs.handle(kind, lambda payload: order.append(payload["kind"]))
    for number in range(10):
        jobs.add("many", f"many {number}", {"kind": "many"})
    jobs.add("few", "few", {"kind": "few"})
    jobs.start(1)
    until(lambda: len(order) == 11)
    jobs.stop(WAIT)
    assert order.index("few") <= 1


def test_leases_are_extended_while_a_job_runs(store: Store) -> None:
    jobs, other = Jobs(store, lease_seconds=0.3), JobTable(store, lease_seconds=0.3)
    free, started = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        started.set()
        free.wait(WAIT)

    jobs.handle("a", wait)
    jobs.start(1)
    jobs.add("a", "long", {})
    assert started.wait(WAIT)
    ends = []

    def extended() -> bool:
        with store.reading() as view:
            ends.append(view.session.run("SELECT lease_ends FROM service_jobs")[0][0])
        return len(set(ends)) > 3

    until(extended)
    free.set()
    jobs.stop(WAIT)
    assert other.counts()["done"] == 1
    assert other.list()[0].attempts == 1


def test_stop_waits_for_the_present_job_and_gives_the_others_back(store: Store) -> None:
    jobs = Jobs(store)
    free, started = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        started.set()
        free.wait(WAIT)

    jobs.handle("a", wait)
    jobs.start(1)
    jobs.add("a", "stuck", {})
    assert started.wait(WAIT)
    jobs.stop(0.05)
    (job,) = jobs.list()
    assert (job.state, job.attempts) == ("waiting", 0)
    outcomes: list[str] = []
    jobs.observe = lambda _, outcome: outcomes.append(outcome)
    free.set()
    until(lambda: outcomes == ["lost"])
    assert jobs.list()[0].state == "waiting"


def test_a_store_that_fails_for_a_moment_stops_no_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from dupq.errors import OutputError

    jobs = Jobs(store, poll_seconds=0.01)
    done = threading.Event()
    jobs.handle("a", lambda _: done.set())
    claim, failures = jobs.claim, []

    def broken(*args: Any) -> Any:
        if len(failures) < 3:
            failures.append(1)
            raise OutputError("the database does not answer")
        return claim(*args)

    monkeypatch.setattr(jobs, "claim", broken)
    jobs.start(1)
    jobs.add("a", "one", {})
    assert done.wait(WAIT)
    jobs.stop(WAIT)
    assert jobs.counts()["done"] == 1


def test_a_second_process_finds_a_job_by_polling(store: Store) -> None:
    jobs, other = Jobs(store, poll_seconds=0.01), JobTable(store)
    done = threading.Event()
    jobs.handle("a", lambda _: done.set())
    jobs.start(1)
    other.add("a", "from elsewhere", {})
    assert done.wait(WAIT)
    jobs.stop(WAIT)


# ---- a killed process -----------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys
from dupq.index.stores import open_store
from dupq.service.jobs import Jobs
from dupq.service.tables import prepare_tables

store = open_store(sys.argv[1])
prepare_tables(store)
jobs = Jobs(store, lease_seconds=0.5, poll_seconds=0.01)
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
finish = jobs.finish

def finished(lease):
    marked = finish(lease)
    if marked:
        os.write(log, f"done {lease.number}\\n".encode())
    return marked

jobs.finish = finished
jobs.handle("a", lambda payload: None)
jobs.start(2)
for number in range(10**9):
    jobs.add("a", f"{sys.argv[3]}-{number}", {"number": number})
    os.write(log, f"stored {sys.argv[3]}-{number}\\n".encode())
"""


def test_no_stored_job_is_lost_and_none_is_done_twice_when_the_process_is_killed(
    place: str, store: Store, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.touch()
    for life in range(4):
        before = log.read_text().count("done")
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, place, str(log), str(life)])
        until(lambda before=before: log.read_text().count("done") > before + 15)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait()
    jobs = Jobs(store, lease_seconds=0.5, poll_seconds=0.01)
    jobs.handle("a", lambda _: None)
    jobs.start(2)
    until(lambda: jobs.counts()["waiting"] + jobs.counts()["running"] == 0)
    jobs.stop(WAIT)
    lines = log.read_text().splitlines()
    stored = {line.split()[1] for line in lines if line.startswith("stored")}
    done = [line for line in lines if line.startswith("done")]
    assert len(done) == len(set(done)), "a job was marked done twice"
    assert stored <= {job.key for job in jobs.list("done", 1_000_000)}
    assert len(stored) > 50


# ---- any order of events --------------------------------------------------------------------------------------------


class MemoryStore:
    """A store in memory, which costs a state machine no time of the disk."""

    location = "memory"

    def __init__(self) -> None:
        self._session = SqliteSession(sqlite3.connect(":memory:", isolation_level=None), "memory")
        self._session.run(SCHEMA[0])

    @contextmanager
    def reading(self) -> Iterator[View]:
        yield View(self._session)

    def write(self, action: Callable[[Transaction], Any]) -> Any:
        self._session.run("BEGIN")
        try:
            result = action(Transaction(self._session))
        except BaseException:
            self._session.run("ROLLBACK")
            raise
        self._session.run("COMMIT")
        return result


class TableMachine(RuleBasedStateMachine):
    """Workers that claim, extend, end, fail, die and give back, while the clock goes forth and back."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        store: Any = MemoryStore()
        prepare_tables(store)
        self.table = JobTable(store, clock=self.clock)
        self.added: set[str] = set()
        self.leases: list[Lease] = []
        self.done: list[int] = []

    @rule(key=st.integers(0, 5), kind=st.sampled_from("ab"))
    def add(self, key: int, kind: str) -> None:
        assert self.table.add(kind, str(key), {"key": key}) == (str(key) not in self.added)
        self.added.add(str(key))

    @rule(kinds=st.sampled_from([("a",), ("b", "a"), ("a", "b")]))
    def claim(self, kinds: tuple[str, ...]) -> None:
        lease = self.table.claim(kinds)
        if lease is not None:
            assert lease.number not in self.done
            assert lease.attempt <= MAX_ATTEMPTS
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), end=st.sampled_from(["finish", "fail", "dead", "extend", "give_back"]))
    def act(self, data: st.DataObject, end: str) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        if end == "finish":
            before = {job.number for job in self.table.list("done", 100)}
            if self.table.finish(lease) and lease.number not in before:
                assert lease.number not in self.done, "done twice"
                self.done.append(lease.number)
        elif end in ("fail", "dead"):
            self.table.fail(lease, DeadJobError("no") if end == "dead" else ValueError("no"))
        elif end == "extend":
            self.table.extend([lease])
        else:
            self.table.give_back([lease])

    @precondition(lambda self: self.added)
    @rule(number=st.integers(1, 6), discard=st.booleans())
    def decide(self, number: int, discard: bool) -> None:
        dead = {job.number for state in ("dead", "waiting") for job in self.table.list(state)}  # type: ignore[arg-type]
        assert (self.table.discard if discard else self.table.retry)(number) == (number in dead)

    @rule(seconds=st.sampled_from([-86400.0, -1.0, 1.0, LEASE_SECONDS, MAX_PAUSE_SECONDS]))
    def turn(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "table"):
            jobs = self.table.list(None, 100)
            assert {job.key for job in jobs} == self.added
            assert {job.number for job in jobs if job.state == "done"} == set(self.done)
            assert sum(self.table.counts().values()) == len(self.added)


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_the_payload_is_what_json_can_hold(table: JobTable) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        table.add("a", "one", {"x": float("nan")})
    table.add("a", "two", {"text": "é\u2028"})
    assert json.dumps(table.list()[0].payload) == json.dumps({"text": "é\u2028"})
