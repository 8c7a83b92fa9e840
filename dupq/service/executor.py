"""One thread that runs the model, with bounded micro-batches.

Pairs and texts that wait are joined to one call of the model. Work that is not urgent, such as adding questions, runs
between two batches, one unit at a time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from dupq.errors import DupqError
from dupq.index.flags import FlagReport
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from dupq.types import PairScore

T = TypeVar("T")


class BusyError(DupqError):
    """Too much work waits for the model.

    Attributes:
        retry_after: Seconds after which it is likely done.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__("too many requests wait for the model", hint=f"try again in {retry_after:.0f} seconds")


@dataclass(slots=True, eq=False)
class _Part:
    """Pairs or texts of one request that are read together."""

    key: tuple[Any, ...]
    items: Sequence[Any]
    future: Future[list[Any]]


class ModelExecutor:
    """Thread that scores pairs and flags questions for all requests.

    Args:
        pipeline, index: The pipeline and the index.
        batch: Pairs or texts of one call of the model.
        max_waiting: Pairs and texts that may wait; a request that finds more waiting is refused.
    """

    def __init__(self, pipeline: DuplicatePipeline, index: QuestionIndex, *, batch: int, max_waiting: int) -> None:
        self.pipeline, self.index = pipeline, index
        self.batch, self.max_waiting = batch, max_waiting
        self._urgent: deque[_Part] = deque()
        self._other: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._waiting, self._seconds_each = 0, 0.02
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="dupq-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of pairs and texts that wait or are being read."""
        return self._waiting

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive() and not self._closed

    async def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        """Return the scores of n pairs, in their order.

        Raises:
            BusyError: Too much waits already.
            InputError: A text is blank or broken.
        """
        return await self._submit(("score",), pairs)

    async def flag(
        self, texts: Sequence[str], *, k: int | None = None, min_cosine: float | None = None
    ) -> list[FlagReport]:
        """Return the flags of n texts, in their order; raise as `score`."""
        return await self._submit(("flag", k, min_cosine), texts)

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function of the model between two batches; return its result."""
        return await asyncio.wrap_future(self._put(function))

    def run_blocking(self, function: Callable[[], T]) -> T:
        """Run a function as `run` does, for a thread that may wait; never call it from a function that is run."""
        return self._put(function).result()

    def _put(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._wake:
            self._refuse_closed()
            self._other.append((function, future))
            self._wake.notify()
        return future

    def close(self, seconds: float) -> None:
        """End what waits, within these seconds, and stop the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(seconds)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise BusyError(1.0)

    async def _submit(self, key: tuple[Any, ...], items: Sequence[Any]) -> list[Any]:
        parts = [_Part(key, items[start : start + self.batch], Future()) for start in range(0, len(items), self.batch)]
        with self._wake:
            self._refuse_closed()
            if self._waiting >= self.max_waiting:
                raise BusyError(max(1.0, self._waiting * self._seconds_each))
            self._urgent.extend(parts)
            self._waiting += len(items)
            self._wake.notify()
        results = await asyncio.gather(*(asyncio.wrap_future(part.future) for part in parts))
        return [result for part in results for result in part]

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._urgent or self._other or self._closed):
                    self._wake.wait()
                if not (self._urgent or self._other):
                    return
                parts = self._next_parts()
                unit = None if parts else self._other.popleft()
            if unit is not None:
                self._run(*unit)
            else:
                self._answer(parts)

    def _next_parts(self) -> list[_Part]:
        """Take the first part, and those of the same kind that fit into its batch."""
        if not self._urgent:
            return []
        first = self._urgent.popleft()
        taken, size, left = [first], len(first.items), deque[_Part]()
        while self._urgent:
            part = self._urgent.popleft()
            if part.key == first.key and size + len(part.items) <= self.batch:
                taken.append(part)
                size += len(part.items)
            else:
                left.append(part)
        self._urgent = left
        return taken

    def _answer(self, parts: list[_Part]) -> None:
        items = [item for part in parts for item in part.items]
        start = time.monotonic()
        try:
            results = self._call(parts[0].key, items)
        except Exception as error:  # noqa: BLE001 - it belongs to the requests, not to this thread
            if len(parts) > 1:  # one request's bad text must not fail the others
                for part in parts:
                    self._answer([part])
                return
            self._done(len(items))
            parts[0].future.set_exception(error)
            return
        self._seconds_each = 0.8 * self._seconds_each + 0.2 * (time.monotonic() - start) / max(len(items), 1)
        self._done(len(items))
        at = 0
        for part in parts:
            if part.future.set_running_or_notify_cancel():
                part.future.set_result(results[at : at + len(part.items)])
            at += len(part.items)

    def _call(self, key: tuple[Any, ...], items: list[Any]) -> list[Any]:
        if key[0] == "score":
            return list(self.pipeline.score_pairs([pair[0] for pair in items], [pair[1] for pair in items]))
        return self.index.flag_all(items, k=key[1], min_cosine=key[2])

    def _done(self, count: int) -> None:
        with self._wake:
            self._waiting -= count

    @staticmethod
    def _run(function: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            future.set_exception(error)
