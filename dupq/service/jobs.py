"""Jobs in a table, with leases, retries and a list of dead ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from dupq.index.stores.base import Store
from dupq.index.stores.sql import Transaction

Handler = Callable[[Mapping[str, Any]], None]
"""Does a job by its payload; it may be called twice for one job, so it must be repeatable."""


class Jobs:
    """Table of jobs, and the threads that run them.

    Args:
        store: Of the index, with the tables of the service.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._handlers: dict[str, Handler] = {}

    def handle(self, kind: str, handler: Handler) -> None:
        """Name the function that does the jobs of a kind."""
        self._handlers[kind] = handler

    def add(self, kind: str, key: str, payload: Mapping[str, Any], *, due: float | None = None) -> bool:
        """Store a job; return False if there is one with this key already, done or not.

        Args:
            kind: Of a handler.
            key: Unique name of the job, so that what is delivered twice is done once.
            payload: What JSON can hold.
            due: POSIX seconds before which it is not run; None: at once.
        """

        def put(transaction: Transaction) -> bool:
            return add_job(transaction, kind, key, payload, due)

        return self._store.write(put)

    def start(self, threads: int) -> None:
        """Start the threads that run jobs."""

    def stop(self, seconds: float) -> None:
        """Stop them after their present job, within these seconds; leases of jobs that were not done are given up."""


def add_job(
    transaction: Transaction, kind: str, key: str, payload: Mapping[str, Any], due: float | None = None
) -> bool:
    """Store a job in a transaction of the caller; see `Jobs.add`."""
    run = transaction.session.run
    if run("SELECT 1 FROM service_jobs WHERE key=?", (key,)):
        return False
    number, at = run("SELECT coalesce(max(number), 0) + 1 FROM service_jobs")[0][0], time.time()
    run(
        "INSERT INTO service_jobs(number, kind, key, payload, state, attempts, due, created)"
        " VALUES(?, ?, ?, ?, 'waiting', 0, ?, ?)",
        (number, kind, key, json.dumps(payload), at if due is None else due, at),
    )
    return True
