"""Table of jobs: leases, retries, dead jobs, and the purge of ended ones.

All changes are transactions of `store.write`, whose writers take turns. Two workers therefore never see the same job
waiting, and the table needs no row locks such as FOR UPDATE SKIP LOCKED, which SQLite does not have.

A worker holds a job by a lease, a random name with an end. It extends the lease while the job runs. A lease that has
ended, because its process was killed, is taken over by another worker. Only the lease in the row can end a job, so no
job is marked done twice; its handler may run twice, and must be repeatable.

Clocks. A job that is to run at once has the due time 0, so no clock can hold it back. A lease or a retry that ends
later than any could, by the present clock, was written before the clock went back, and counts as ended.
"""

from __future__ import annotations

import builtins
import json
import random
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from dupq.data.arguments import as_choice, as_int
from dupq.index.stores.base import Store, without_nul
from dupq.index.stores.sql import Transaction

JobState = Literal["waiting", "running", "done", "dead", "discarded"]
STATES: tuple[JobState, ...] = ("waiting", "running", "done", "dead", "discarded")
MAX_ATTEMPTS = 10
"""Attempts after which a job is dead; with the pauses between them about 9 hours."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 5.0, 4 * 3600.0
"""Pause after the first failed attempt, three times as long after each further one, and its limit."""
LEASE_SECONDS = 30.0
"""Time from the last extension of a lease to its end, which a job of a killed process waits."""
KEEP_SECONDS = 7 * 86400.0
"""Time that ended jobs are kept, and their keys stop doubles; dead ones stay until someone decides on them."""
PURGE = 1000
"""Ended jobs that one transaction deletes, so that no other writer waits long."""
MAX_ERROR = 2000
"""Characters of an error that are kept."""
SERIAL = ("upsert", "delete")
"""Kinds of which no two jobs with one payload, which are those of one post, are leased at the same time."""
META = "service_last_job"


class DeadJobError(Exception):
    """A job that no retry can do; the worker lists it as dead at once."""


class LaterError(Exception):
    """A job that cannot be done now.

    Args:
        message: The reason.
        seconds: The pause that was asked for; the table's own pause is kept where it is longer.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    Attributes:
        number: Number in the table, from 1; older jobs have lower ones.
        kind: Kind, which names its handler. Kinds that differ after a colon, such as "deliver:RECEIVER", are one
            family, and take turns like any others.
        key: Unique name.
        payload: What the handler gets.
        state: "waiting", "running", "done", "dead" or "discarded".
        attempts: Attempts so far, the running one included.
        due: ISO 8601 time in UTC before which it is not run again, or None: at once.
        error: Error of the last attempt, or None.
        created, ended: ISO 8601 times in UTC; `ended` is None for a job that has not ended.
    """

    number: int
    kind: str
    key: str
    payload: dict[str, Any]
    state: JobState
    attempts: int
    due: str | None
    error: str | None
    created: str
    ended: str | None

    @property
    def family(self) -> str:
        """Kind without what follows a colon."""
        return self.kind.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Lease:
    """Right of one worker to run and end a job.

    Attributes:
        name: Random name of the lease.
        number, kind: Of the job.
        text: The payload, as it is stored.
        attempt: Number of this attempt, from 1.
    """

    name: str
    number: int
    kind: str
    text: str
    attempt: int

    @property
    def payload(self) -> dict[str, Any]:
        """Payload for the handler; raises ValueError if the row is damaged."""
        found: dict[str, Any] = json.loads(self.text)
        return found


def add_job(
    transaction: Transaction, kind: str, key: str, payload: Mapping[str, Any], due: float | None = None
) -> bool:
    """Store a job in a transaction of the caller; see `JobTable.add`.

    Call `Jobs.wake` after the transaction.
    """
    run = transaction.session.run
    text = json.dumps(dict(payload), allow_nan=False)
    for name, value in (("kind", kind), ("key", key)):
        without_nul(value, name)
    if run("SELECT 1 FROM service_jobs WHERE key=?", (key,)):
        return False
    # A counter rather than the highest number: a purge must not give a number to a second job.
    number = int(transaction.meta(META) or 0) + 1
    transaction.set_meta(META, number)
    run(
        "INSERT INTO service_jobs(number, kind, key, payload, state, attempts, due, created)"
        " VALUES(?, ?, ?, ?, 'waiting', 0, ?, ?)",
        (number, kind, key, text, 0.0 if due is None else float(due), time.time()),
    )
    return True


class JobTable:
    """Jobs in the table `service_jobs`, for any number of threads and processes.

    Args:
        store: Of the index, with the tables of the service.
        clock: Returns POSIX seconds.
        lease_seconds: Length of a lease.
    """

    def __init__(
        self, store: Store, *, clock: Callable[[], float] = time.time, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._store, self._clock, self.lease_seconds = store, clock, lease_seconds

    # ---- adding and listing ---------------------------------------------------------------------------------------

    def add(self, kind: str, key: str, payload: Mapping[str, Any], *, due: float | None = None) -> bool:
        """Store a job; return False if there is one with this key already, done or not.

        A key stops doubles until its job was purged, `KEEP_SECONDS` after its end.

        Args:
            kind: Of a handler.
            key: Unique name of the job, so that what is delivered twice is done once.
            payload: What JSON can hold.
            due: POSIX seconds before which it is not run; None: at once.
        """
        return self._store.write(lambda transaction: add_job(transaction, kind, key, payload, due))

    def list(
        self,
        state: JobState | None = None,
        limit: int = 50,
        after: int | None = None,
        *,
        kind: str | None = None,
    ) -> tuple[Job, ...]:
        """Return jobs, the newest first.

        Args:
            state: Only of this state; None: of all.
            limit: Maximum number of jobs.
            after: Number of the last job that was seen; older ones follow. None: from the newest on.
            kind: Only of this kind or family; None: of all.
        """
        conditions: builtins.list[str] = []
        values: builtins.list[object] = []
        if state is not None:
            conditions.append("state=?")
            values.append(as_choice(state, STATES, "state"))
        if after is not None:
            conditions.append("number<?")
            values.append(as_int(after, "after", 0))
        if kind is not None:
            family = f"{without_nul(kind, 'kind')}:"
            conditions.append("(kind=? OR substr(kind, 1, length(CAST(? AS text)))=?)")
            values += [kind, family, family]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        with self._store.reading() as view:
            rows = view.session.run(
                "SELECT number, kind, key, payload, state, attempts, due, error, created, ended FROM service_jobs"
                f"{where} ORDER BY number DESC LIMIT ?",
                (*values, as_int(limit, "limit", 1)),
            )
        return tuple(
            Job(number, kind, key, _payload(text), status, attempts, _iso(due) if due else None, error, *times)
            for number, kind, key, text, status, attempts, due, error, created, ended in rows
            for times in [(str(_iso(created)), _iso(ended))]
        )

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs in each state."""
        with self._store.reading() as view:
            found = dict(view.session.run("SELECT state, count(*) FROM service_jobs GROUP BY state"))
        return {state: int(found.get(state, 0)) for state in STATES}

    def retry(self, number: int) -> bool:
        """Run a dead job, or one that waits for its retry, at once.

        It returns False if no such job has the number.
        """
        return self._change(
            number, ("dead", "waiting"), "state='waiting', attempts=0, due=0, ended=NULL, lease=NULL, lease_ends=NULL"
        )

    def discard(self, number: int) -> bool:
        """Discard a dead or waiting job.

        It returns False if no such job has the number. The key of the job still stops doubles.
        """
        return self._change(number, ("dead", "waiting"), "state='discarded', lease=NULL, ended=?", self._clock())

    def _change(self, number: int, states: Collection[JobState], change: str, *values: object) -> bool:
        wanted = as_int(number, "number", 1)

        def write(transaction: Transaction) -> bool:
            run = transaction.session.run
            found = run("SELECT state FROM service_jobs WHERE number=?", (wanted,))
            if not found or found[0][0] not in states:
                return False
            run(f"UPDATE service_jobs SET {change} WHERE number=?", (*values, wanted))
            return True

        return self._store.write(write)

    # ---- leases ---------------------------------------------------------------------------------------------------

    def claim(self, kinds: Collection[str], busy: Collection[int] = ()) -> Lease | None:
        """Lease the next job of these kinds, or return None if none is ready.

        A job of the first kind in `kinds` that has one is leased. Within a kind, a job whose lease has ended comes
        first, then one that is due again, then the oldest. A job on a post waits while another one on it is leased, by
        whatever process.

        Args:
            kinds: Kinds of jobs, the preferred first.
            busy: Numbers of jobs that run in this process, which are left alone whatever their leases say.
        """
        name = uuid.uuid4().hex
        now = self._clock()
        with self._store.reading() as view:
            # Only a look, so that idle workers do not write.
            if not any(_ready(view.session.run, kind, now, self.lease_seconds, busy) for kind in kinds):
                return None

        def lease(transaction: Transaction) -> Lease | None:
            run = transaction.session.run
            for kind in kinds:
                held = run("SELECT number FROM service_jobs WHERE state='running' AND kind=? AND lease=?", (kind, name))
                if held:  # the transaction is repeated, and was done before
                    return _lease(run, name, held[0][0])
                while (number := _ready(run, kind, now, self.lease_seconds, busy)) is not None:
                    attempts = run("SELECT attempts FROM service_jobs WHERE number=?", (number,))[0][0]
                    if attempts >= MAX_ATTEMPTS:
                        # Each attempt has ended with its process; a failed one would be dead already.
                        run(
                            "UPDATE service_jobs SET state='dead', error=?, ended=? WHERE number=?",
                            ("the process ended during the last attempt", now, number),
                        )
                        continue
                    run(
                        "UPDATE service_jobs SET state='running', attempts=attempts+1, lease=?, lease_ends=?"
                        " WHERE number=?",
                        (name, now + self.lease_seconds, number),
                    )
                    return _lease(run, name, number)
            return None

        return self._store.write(lease)

    def extend(self, leases: Iterable[Lease]) -> None:
        """Extend leases from now on; those that were lost stay lost."""
        ends = self._clock() + self.lease_seconds
        rows = [(ends, lease.number, lease.name) for lease in leases]
        if rows:
            statement = "UPDATE service_jobs SET lease_ends=? WHERE number=? AND lease=? AND state='running'"
            self._store.write(lambda transaction: transaction.session.run_many(statement, rows))

    def finish(self, lease: Lease) -> bool:
        """Mark a job done; return False if the lease was lost.

        Another worker ends the job then.
        """
        return self._end(lease, "done", None, None)

    def fail(self, lease: Lease, error: BaseException) -> JobState | None:
        """Record a failed attempt, and return the new state of the job.

        The state is "waiting" or "dead"; it is None if the lease was lost.

        Args:
            lease: The lease.
            error: The error. After `DeadJobError` and after the last attempt the job is dead; else it is due again
                after a pause that grows with the attempts, by a random share shorter, so that jobs that failed
                together do not come back together.
        """
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, (DeadJobError, LaterError)):
            text = str(error)
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()[:MAX_ERROR]
        if isinstance(error, DeadJobError) or lease.attempt >= MAX_ATTEMPTS:
            return "dead" if self._end(lease, "dead", text, None) else None
        pause = min(FIRST_PAUSE_SECONDS * 3.0 ** (lease.attempt - 1), MAX_PAUSE_SECONDS) * random.uniform(0.5, 1.0)
        if isinstance(error, LaterError):
            pause = min(max(pause, error.seconds), MAX_PAUSE_SECONDS)
        return "waiting" if self._end(lease, "waiting", text, self._clock() + pause) else None

    def give_back(self, leases: Iterable[Lease]) -> None:
        """Give back jobs whose attempts were broken off.

        Others may run them at once, and the attempts do not count.
        """
        rows = [(lease.number, lease.name) for lease in leases]
        if rows:
            statement = (
                "UPDATE service_jobs SET state='waiting', due=0, attempts=attempts-1, lease=NULL, lease_ends=NULL"
                " WHERE number=? AND lease=? AND state='running'"
            )
            self._store.write(lambda transaction: transaction.session.run_many(statement, rows))

    def _end(self, lease: Lease, state: JobState, error: str | None, due: float | None) -> bool:
        now = self._clock()

        def write(transaction: Transaction) -> bool:
            run = transaction.session.run
            found = run(
                "SELECT state, attempts FROM service_jobs WHERE number=? AND lease=?", (lease.number, lease.name)
            )
            if not found or found[0][0] != "running":
                # The lease stays in the row, so that a repeated transaction finds what it has done.
                return bool(found) and found[0][0] == state
            run(
                "UPDATE service_jobs SET state=?, error=?, due=?, lease_ends=NULL, ended=? WHERE number=?",
                (state, error, due or 0.0, None if state == "waiting" else now, lease.number),
            )
            return True

        return self._store.write(write)

    def purge(self) -> int:
        """Delete old jobs that were done or discarded, and return their number.

        A job is old `KEEP_SECONDS` after its end. One call deletes at most `PURGE` jobs.
        """
        before = self._clock() - KEEP_SECONDS

        def write(transaction: Transaction) -> int:
            run = transaction.session.run
            rows = [
                row
                for state in ("done", "discarded")
                for row in run(
                    "SELECT number FROM service_jobs WHERE state=? AND ended<? ORDER BY number LIMIT ?",
                    (state, before, PURGE),
                )
            ]
            transaction.session.run_many("DELETE FROM service_jobs WHERE number=?", rows[:PURGE])
            return len(rows[:PURGE])

        return self._store.write(write)


def _ready(
    run: Callable[..., builtins.list[tuple[Any, ...]]],
    kind: str,
    now: float,
    lease_seconds: float,
    busy: Collection[int],
) -> int | None:
    """Return the number of the next job of a kind, or None."""
    last = now + 2 * lease_seconds
    free = ""
    held: tuple[object, ...] = ()
    if kind in SERIAL:
        marks = ",".join("?" * len(SERIAL))
        free = (
            " AND payload NOT IN (SELECT payload FROM service_jobs"
            f" WHERE state='running' AND kind IN ({marks}) AND lease_ends>? AND lease_ends<=?)"
        )
        held = (*SERIAL, now, last)
    ended = run(
        f"SELECT number FROM service_jobs WHERE state='running' AND kind=?{free} AND (lease_ends<=? OR lease_ends>?)"
        " ORDER BY number",
        (kind, *held, now, last),
    )
    for (number,) in ended:
        if number not in busy:
            return int(number)
    statement = f"SELECT number FROM service_jobs WHERE state='waiting' AND kind=?{free} AND "
    found = (
        run(f"{statement}due>0 AND due<=? ORDER BY due, number LIMIT 1", (kind, *held, now))
        or run(f"{statement}due>? AND attempts>0 ORDER BY due, number LIMIT 1", (kind, *held, now + MAX_PAUSE_SECONDS))
        or run(f"{statement}due=0 ORDER BY number LIMIT 1", (kind, *held))
    )
    return int(found[0][0]) if found else None


def _lease(run: Callable[..., builtins.list[tuple[Any, ...]]], name: str, number: int) -> Lease:
    kind, payload, attempts = run("SELECT kind, payload, attempts FROM service_jobs WHERE number=?", (number,))[0]
    return Lease(name, number, kind, payload, attempts)


def _payload(text: str) -> dict[str, Any]:
    """Return a payload for people; one that is damaged must not hide the list."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        found = {"damaged": text[:200]}
    return found


def _iso(seconds: float | None) -> str | None:
    """Format POSIX seconds as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
