"""Priority of short work over long work.

Adding questions yields the processor to flags.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dupq.index.forking import Forkable

MAX_WAIT_SECONDS = 0.1
"""Longest time that one step of the long work waits, so that it ends under any load."""
RECENT_SECONDS = 1.0
"""More urgent work is likely within this time after some has ended."""


class Priority(Forkable):
    """Counter of the urgent work in this process.

    Other work waits for it between its steps.
    """

    def __init__(self) -> None:
        self.after_fork()
        self.watch_forks()

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent may hold for ever in the child."""
        self._changed = threading.Condition()
        self._urgent = 0
        self._ended = -RECENT_SECONDS

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Mark the work of this block as urgent."""
        with self._changed:
            self._urgent += 1
        try:
            yield
        finally:
            with self._changed:
                self._urgent -= 1
                self._ended = time.monotonic()
                self._changed.notify_all()

    def give_way(self) -> bool:
        """Wait for urgent work; return True if more of it is likely.

        The wait is at most a tenth of a second.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._urgent, MAX_WAIT_SECONDS)
            return self._urgent > 0 or time.monotonic() - self._ended < RECENT_SECONDS
