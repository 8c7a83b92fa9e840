"""Values that each process makes for itself, such as threads and locks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Value that each process makes at its first use.

    A forked process has none of its parent's threads, and a lock that another thread held at the fork stays locked. A
    pickle or copy does not hold the value either.

    Args:
        make: Makes the value. Two threads may call it at the same time; one of the two values is kept.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return the value of this process."""
        process = os.getpid()
        found = self._made.get(process)
        # `setdefault` is atomic, so no lock is needed, which a fork could leave locked.
        return self._made.setdefault(process, self._make()) if found is None else found

    def __reduce__(self) -> tuple[Any, ...]:
        return PerProcess, (self._make,)
