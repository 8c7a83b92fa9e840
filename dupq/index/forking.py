"""Safe forks of a process that has an index open.

SQLite must not have a file open when a process forks: parent and child would each act as if they held the other's locks
(sqlite.org/howtocorrupt.html, section 2.6). A forked child has only the thread that forked, so a lock of another thread
stays locked in it for ever. Therefore a fork waits until no thread works on a file, for `MAX_WAIT_SECONDS` at most, and
closes every file; parent and child then open their own.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

MAX_WAIT_SECONDS = 10.0
"""Longest time that a fork waits for other threads."""


class Forkable:
    """Object that prepares itself for forks of the process.

    It does so from its call of `watch_forks` on.
    """

    def before_fork(self) -> None:
        """Close the resources that a child must not inherit.

        No other thread is in a `no_fork` block meanwhile, unless the block lasts longer than `MAX_WAIT_SECONDS`.
        """

    def after_fork(self) -> None:
        """Replace the locks, in the child."""

    def watch_forks(self) -> None:
        """Register both methods for every fork during the life of the object."""
        _LIVE.add(self)


_LIVE: WeakSet[Forkable] = WeakSet()


class _Gate:
    """State that lets either threads work or one of them fork."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.at_work: Counter[int] = Counter()  # blocks of `no_fork` by thread
        self.forking = False
        self.one_fork = threading.Lock()


_gate = _Gate()


@contextmanager
def no_fork() -> Iterator[None]:
    """Keep other threads from forking the process during a block.

    Blocks may be nested.
    """
    gate, own = _gate, threading.get_ident()
    with gate.changed:
        gate.changed.wait_for(lambda: not gate.forking or gate.at_work[own] > 0)
        gate.at_work[own] += 1
    try:
        yield
    finally:
        with gate.changed:
            gate.at_work[own] -= 1
            gate.at_work += Counter()  # removes zero counts
            gate.changed.notify_all()


def _before() -> None:
    _gate.one_fork.acquire()
    own = threading.get_ident()
    with _gate.changed:
        _gate.forking = True
        _gate.changed.wait_for(
            lambda: not any(_gate.at_work[thread] for thread in _gate.at_work if thread != own), MAX_WAIT_SECONDS
        )
    for owner in _LIVE:
        owner.before_fork()


def _after_in_parent() -> None:
    with _gate.changed:
        _gate.forking = False
        _gate.changed.notify_all()
    _gate.one_fork.release()


def _after_in_child() -> None:
    global _gate
    _gate = _Gate()
    for owner in _LIVE:
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
