"""One thread that runs the model, with bounded micro-batches.

Pairs and texts that wait are joined to one call of the model, in which each request has its share: a request of ten
thousand pairs delays a request of one pair by a batch, not by three hundred. Work that is not urgent, such as adding
questions, runs between two batches.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dupq.data.text import check_text
from dupq.errors import DupqError
from dupq.index.flags import FlagReport
from dupq.index.question_index import K, QuestionIndex
from dupq.pipeline import DuplicatePipeline
from dupq.types import PairScore

T = TypeVar("T")

BATCHES_BEFORE_UNIT = 8
"""Batches that may pass before a unit of other work that waits."""
MAX_UNITS = 256
"""Units of other work that may wait."""
CANARY = ("How do I learn Python?", "How can I learn Python?")

client_gone: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("client_gone", default=None)
"""Function that returns once the client of this request has gone; None outside a request."""


class BusyError(DupqError):
    """Too much work waits for the model.

    Attributes:
        retry_after: Seconds after which it is likely done.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__("too many requests wait for the model", hint=f"try again in {retry_after:.0f} seconds")


class StoppingError(DupqError):
    """The service stops, or its model has failed for good."""

    def __init__(self) -> None:
        super().__init__("the service is stopping", hint="try again once it has started again")


class ClientGoneError(Exception):
    """The client has closed its connection before the answer."""


@dataclass(slots=True, eq=False)
class _Request:
    """Pairs or texts of one request.

    Attributes:
        key: Kind of the call and its arguments; only equal ones share a batch.
        items: The pairs or texts.
        future: Of the results.
        taken: Number of items that the model has got.
        results: Those of the first items.
    """

    key: tuple[Any, ...]
    items: Sequence[Any]
    future: Future[list[Any]] = field(default_factory=Future)
    taken: int = 0
    results: list[Any] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Number of items that the model has not got."""
        return len(self.items) - self.taken


_Part = tuple[_Request, int, int]
"""A request, and the first and last + 1 of its items that are in a batch."""


class ModelExecutor:
    """Thread that scores pairs and flags questions for all requests.

    Args:
        pipeline, index: The pipeline and the index.
        batch: Pairs of one call of the model, those of texts and their candidates included.
        max_waiting: Pairs and texts that may wait; a request that finds more waiting is refused.
        observe: Called with the size of each batch.
    """

    def __init__(
        self,
        pipeline: DuplicatePipeline,
        index: QuestionIndex,
        *,
        batch: int,
        max_waiting: int,
        observe: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.pipeline, self.index = pipeline, index
        self.batch, self.max_waiting = batch, max_waiting
        self._observe = observe
        self._requests: deque[_Request] = deque()
        self._units: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._waiting: Counter[str] = Counter()
        self._seconds_each: dict[str, float] = {"score": 0.01, "flag": 0.1}
        self._batches_since_unit = 0
        self._running: list[Future[Any]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="dupq-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of pairs and texts that wait or are being read."""
        return self._waiting.total()

    @property
    def units(self) -> int:
        """Number of units of other work that wait."""
        return len(self._units)

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive() and not self._closed

    def flagged_at_once(self, k: int | None = None) -> int:
        """Return the number of texts whose k candidates each fill a batch, at least 1.

        Args:
            k: Stored questions for each text; None: as in `QuestionIndex.flag`.
        """
        return max(1, self.batch // (k or self.pipeline.candidate_rule.neighbours or K))

    async def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        """Return the scores of n pairs, in their order.

        Raises:
            InputError: A text is blank or broken; its pair is named within this request.
            BusyError: Too much waits already.
            StoppingError: The service stops.
            ClientGoneError: The client has gone meanwhile; what the model has not read of the request is dropped.
        """
        for number, pair in enumerate(pairs, 1):
            for side, text in zip(("first", "second"), pair, strict=True):
                check_text(text, f"{side} text of pair {number}")
        return await self._answered(("score",), pairs)

    async def flag(
        self, texts: Sequence[str], *, k: int | None = None, min_cosine: float | None = None
    ) -> list[FlagReport]:
        """Return the flags of n texts, in their order; raise as `score`."""
        for number, text in enumerate(texts, 1):
            check_text(text, f"question {number}")
        return await self._answered(("flag", k, min_cosine), texts)

    async def check(self, seconds: float) -> None:
        """Score one pair, whatever else waits.

        Raises:
            StoppingError: The thread has ended.
            asyncio.TimeoutError: It took longer than `seconds`.
        """
        await asyncio.wait_for(self._answered(("score",), [CANARY], always=True), seconds)

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function of the model between two batches; return its result.

        Every request waits meanwhile, so a function should take less than a second: add questions in small parts.

        Raises:
            BusyError: Too many such functions wait already.
            StoppingError: The service stops.
        """
        return await asyncio.wrap_future(self._add_unit(function))

    def call(self, function: Callable[[], T]) -> T:
        """Run a function as `run` does, for a thread that is not that of the event loop."""
        if threading.current_thread() is self._thread:
            return function()
        return self._add_unit(function).result()

    def close(self, seconds: float) -> bool:
        """End what waits, within these seconds, and stop the thread; refuse what is left.

        Returns:
            True if the thread has ended.
        """
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(seconds)
        self._refuse_all()
        return not self._thread.is_alive()

    # ---- what waits -------------------------------------------------------------------------------------------------

    async def _answered(self, key: tuple[Any, ...], items: Sequence[Any], *, always: bool = False) -> list[Any]:
        """Return the results of the items once the model has read them.

        With `always`, the request is accepted however many items wait, and goes on though the client has gone.
        """
        if not items:
            return []
        request = _Request(key, items)
        with self._wake:
            if self._closed:
                raise StoppingError
            if not always and self.waiting >= self.max_waiting:
                raise BusyError(max(1.0, sum(self._seconds_each[kind] * n for kind, n in self._waiting.items())))
            self._requests.append(request)
            self._waiting[key[0]] += len(items)
            self._wake.notify()
        try:
            results = asyncio.wrap_future(request.future)
            return await (results if always else _unless_gone(results))
        finally:
            self._drop(request, ClientGoneError())

    def _add_unit(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._wake:
            if self._closed:
                raise StoppingError
            if len(self._units) >= MAX_UNITS:
                raise BusyError(5.0)
            self._units.append((function, future))
            self._wake.notify()
        return future

    def _drop(self, request: _Request, error: Exception) -> None:
        """Drop the unread items of a request, and end it with an error.

        A request that has its answer keeps it.
        """
        _fail(request.future, error)
        with self._wake, suppress(ValueError):
            self._requests.remove(request)
            self._waiting[request.key[0]] -= request.left

    def _refuse_all(self) -> None:
        """Answer all that still waits with an error."""
        with self._wake:
            futures: list[Future[Any]] = [future for _, future in self._units]
            for request in self._requests:
                self._waiting[request.key[0]] -= request.left
                futures.append(request.future)
            self._requests.clear()
            self._units.clear()
        for future in futures:
            _fail(future, StoppingError())

    # ---- the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while True:
                with self._wake:
                    while not (self._requests or self._units or self._closed):
                        self._wake.wait()
                    unit = self._next_unit()
                    parts = self._next_parts() if unit is None else []
                if unit is not None:
                    self._running = [unit[1]]
                    self._run_unit(*unit)
                elif parts:
                    self._running = [request.future for request, _, _ in parts]
                    self._run_batch(parts)
                else:
                    return
        finally:  # also where the thread dies, so that no request waits for ever
            self._closed = True
            self._refuse_all()
            for future in self._running:
                _fail(future, StoppingError())

    def _next_unit(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        """Take a unit if nothing is urgent, or if enough batches have passed before it."""
        if self._units and (not self._requests or self._batches_since_unit >= BATCHES_BEFORE_UNIT):
            self._batches_since_unit = 0
            return self._units.popleft()
        self._batches_since_unit = self._batches_since_unit + 1 if self._units else 0
        return None

    def _next_parts(self) -> list[_Part]:
        """Take a batch from the requests of one kind, an equal share of each.

        The kind is that of the first request. Requests with items left move to the end of the queue.
        """
        if not self._requests:
            return []
        key = self._requests[0].key
        size = room = self.batch if key[0] == "score" else self.flagged_at_once(key[1])
        alike = [request for request in self._requests if request.key == key][:size]
        before = {id(request): request.taken for request in alike}
        for share in (size // len(alike), size):  # what small ones leave of their share, the first ones get
            for request in alike:
                count = min(share, request.left, room)
                request.taken += count
                room -= count
        served = {id(request) for request in alike}
        self._requests = deque(request for request in self._requests if id(request) not in served)
        self._requests.extend(request for request in alike if request.left)
        return [(request, before[id(request)], request.taken) for request in alike]

    def _run_batch(self, parts: list[_Part]) -> None:
        items = [item for request, start, stop in parts for item in request.items[start:stop]]
        kind = parts[0][0].key[0]
        began = time.monotonic()
        try:
            results = self._call(parts[0][0].key, items)
        except Exception as error:  # noqa: BLE001 - it belongs to the requests, not to this thread
            if len(parts) > 1:  # one request must not fail the others
                for part in parts:
                    self._run_batch([part])
            else:
                self._done(kind, len(items))
                self._drop(parts[0][0], error)
            return
        self._observe(len(items))
        self._seconds_each[kind] += 0.2 * ((time.monotonic() - began) / len(items) - self._seconds_each[kind])
        self._done(kind, len(items))
        at = 0
        for request, start, stop in parts:
            request.results += results[at : at + stop - start]
            at += stop - start
            if len(request.results) == len(request.items):
                with suppress(InvalidStateError):  # cancelled
                    request.future.set_result(request.results)

    def _call(self, key: tuple[Any, ...], items: list[Any]) -> list[Any]:
        if key[0] == "score":
            return list(self.pipeline.score_pairs([pair[0] for pair in items], [pair[1] for pair in items]))
        return self.index.flag_all(items, k=key[1], min_cosine=key[2])

    def _done(self, kind: str, count: int) -> None:
        with self._wake:
            self._waiting[kind] -= count

    @staticmethod
    def _run_unit(function: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            future.set_exception(error)


def _fail(future: Future[Any], error: Exception) -> None:
    with suppress(InvalidStateError):  # it has its answer, or was cancelled
        future.set_exception(error)


async def _unless_gone(results: asyncio.Future[list[Any]]) -> list[Any]:
    """Return the results, or raise ClientGoneError once the client has gone."""
    gone = client_gone.get()
    if gone is None:
        return await results
    watch = asyncio.ensure_future(gone())
    both: set[asyncio.Future[Any]] = {results, watch}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not results.done():
            raise ClientGoneError
        return results.result()
    finally:
        watch.cancel()
        results.cancel()
