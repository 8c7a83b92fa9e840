"""Rate limits by token bucket."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

MAX_KEYS = 10_000
"""Keys that are kept; the one that was used longest ago is forgotten first, which fills its bucket."""


class RateLimit:
    """Token buckets, one a key; safe to share between threads.

    A bucket holds `burst` at first, each request takes one, and `rate` a second come back.

    Args:
        rate: Requests a second on average, 0 or more; 0: no limit.
        burst: Requests at once, 1 or more.
        max_keys: Bound on the keys that are kept.
        clock: Source of seconds.
    """

    def __init__(
        self, rate: float, burst: int, *, max_keys: int = MAX_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate, self.burst = rate, burst
        self._max_keys, self._clock = max_keys, clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # key -> (left, at)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable) -> float:
        """Take one request from the bucket of a key.

        It returns 0, or the seconds until the next one if the bucket is empty.
        """
        if not self.rate:
            return 0.0
        with self._lock:
            left = self._left(key)
            granted = left >= 1
            self._buckets[key] = (left - 1 if granted else left, self._clock())
            self._buckets.move_to_end(key)
            if len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
        return 0.0 if granted else (1 - left) / self.rate

    def wait(self, key: Hashable) -> float:
        """Return what `take` would, and take nothing."""
        if not self.rate:
            return 0.0
        with self._lock:
            left = self._left(key)
        return 0.0 if left >= 1 else (1 - left) / self.rate

    def _left(self, key: Hashable) -> float:
        left, at = self._buckets.get(key, (float(self.burst), 0.0))
        if key not in self._buckets:
            return left
        return min(float(self.burst), left + (self._clock() - at) * self.rate)
