"""Threads that run the jobs of the table, and extend their leases meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dupq.errors import DupqError
from dupq.index.stores.base import Store
from dupq.service.job_table import DeadJobError, JobTable, LaterError, Lease, add_job

__all__ = ["DeadJobError", "Handler", "Jobs", "LaterError", "add_job"]

Handler = Callable[[Mapping[str, Any]], None]
"""Does a job by its payload; it may be called twice for one job, so it must be repeatable."""
POLL_SECONDS = 1.0
"""Pause after which an idle worker looks for jobs that another process has added or that are due again."""
PURGE_EVERY_SECONDS = 3600.0

_log = logging.getLogger(__name__)


class Jobs(JobTable):
    """Table of jobs, and the threads that run them.

    Each lane has its own threads, so that a slow receiver of events never holds the index back. In a lane the kinds
    take turns, so that a long backlog of one kind does not delay the others.

    Args:
        store: Of the index, with the tables of the service.
        poll_seconds: Pause after which an idle worker looks again.
        **options: As of `JobTable`.
    """

    def __init__(self, store: Store, *, poll_seconds: float = POLL_SECONDS, **options: Any) -> None:
        super().__init__(store, **options)
        self._handlers: dict[str, Handler] = {}
        self._lanes: dict[str, list[str]] = {}
        self._poll_seconds = poll_seconds
        self._changed = threading.Condition()
        self._changes = 0
        self._stopping = False
        self._running: dict[str, Lease] = {}
        self._threads: list[threading.Thread] = []
        self.observe: Callable[[str, str], None] = lambda kind, outcome: None
        """Called with kind and outcome ("done", "retry", "dead", "lost") of each attempt, after it was recorded."""

    def handle(self, kind: str, handler: Handler, *, lane: str = "index") -> None:
        """Register the handler of a kind of job, and the lane whose threads call it."""
        self._handlers[kind] = handler
        kinds = self._lanes.setdefault(lane, [])
        if kind not in kinds:
            kinds.append(kind)

    def add(self, kind: str, key: str, payload: Mapping[str, Any], *, due: float | None = None) -> bool:
        """Store a job and wake a worker; see `JobTable.add`."""
        added = super().add(kind, key, payload, due=due)
        if added:
            self.wake()
        return added

    def retry(self, number: int) -> bool:
        """Run a dead or waiting job at once; see `JobTable.retry`."""
        found = super().retry(number)
        if found:
            self.wake()
        return found

    def wake(self) -> None:
        """Wake the idle workers of this process to look for jobs.

        Those of other processes find new jobs within `POLL_SECONDS`.
        """
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    @property
    def alive(self) -> bool:
        """True while all threads run that `start` has started."""
        return all(thread.is_alive() for thread in self._threads)

    def start(self, threads: int) -> None:
        """Start the threads that run jobs, and one that extends their leases.

        Args:
            threads: Threads of each lane; 0: none, for a process that only adds jobs.
        """
        self._stopping = False
        if threads:
            self._start("dupq-leases", self._keep)
        for lane in self._lanes:
            for number in range(threads):
                self._start(f"dupq-jobs-{lane}-{number}", partial(self._work, self._lanes[lane]))

    def stop(self, seconds: float) -> None:
        """Stop the threads after their present jobs.

        It waits at most `seconds`. Leases of jobs that are not done by then are given back.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            left = [*self._running.values()]
            self._running.clear()
            self._changed.notify_all()
        self.give_back(left)
        self._threads = []

    def _start(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, kinds: list[str]) -> None:
        turn = 0
        while True:
            with self._changed:
                if self._stopping:
                    return
                changes, busy = self._changes, {lease.number for lease in self._running.values()}
            try:
                lease = self.claim(kinds[turn:] + kinds[:turn], busy)
            except DupqError as error:
                # Such as a database that does not answer: the table is asked again, and no job is lost.
                _log.warning("no job could be leased: %s", error.message)
                lease = None
            if lease is not None:
                turn = (kinds.index(lease.kind) + 1) % len(kinds)
                self._do(lease)
                continue
            with self._changed:
                if not self._stopping and changes == self._changes:
                    self._changed.wait(self._poll_seconds)

    def _do(self, lease: Lease) -> None:
        with self._changed:
            self._running[lease.name] = lease
        try:
            try:
                self._handlers[lease.kind](lease.payload)
            except Exception as error:  # noqa: BLE001 - it belongs to the job, and is recorded with it
                state = self.fail(lease, error)
                outcome = {"waiting": "retry", "dead": "dead"}.get(str(state), "lost")
                _log.log(
                    logging.ERROR if outcome == "dead" else logging.WARNING,
                    "job %d (%s), attempt %d: %s (%s)",
                    *(lease.number, lease.kind, lease.attempt, outcome, type(error).__name__),
                )
            else:
                outcome = "done" if self.finish(lease) else "lost"
            self.observe(lease.kind, outcome)
        except DupqError as error:
            # The lease ends, and the job is done again.
            _log.warning("the end of job %d could not be recorded: %s", lease.number, error.message)
        finally:
            with self._changed:
                self._running.pop(lease.name, None)
                self._changed.notify_all()

    def _keep(self) -> None:
        """Extend the leases of running jobs, and purge ended jobs.

        It returns once the workers have stopped.
        """
        purge_at = time.monotonic()
        while True:
            with self._changed:
                ended = self._changed.wait_for(lambda: self._stopping and not self._running, self.lease_seconds / 3)
                running = [*self._running.values()]
            if ended:
                return
            try:
                self.extend(running)
                if time.monotonic() >= purge_at and not self._stopping:
                    while self.purge():
                        pass
                    purge_at = time.monotonic() + PURGE_EVERY_SECONDS
            except DupqError as error:
                _log.warning("leases could not be extended: %s", error.message)
