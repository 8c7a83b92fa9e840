from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dupq.errors import InputError
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from dupq.service.executor import (
    BATCHES_BEFORE_UNIT,
    MAX_UNITS,
    BusyError,
    ClientGoneError,
    ModelExecutor,
    StoppingError,
    client_gone,
)

LIMIT = 30.0
"""Seconds after which a test that waits has failed."""
WORDS = ["learn", "Python", "fast", "cook", "rice", "not", "how", "why", "sky", "blue"]


def text(source: random.Random) -> str:
    return " ".join(source.choices(WORDS, k=source.randint(1, 6))) + "?"


def pairs(n: int, seed: int = 0) -> list[tuple[str, str]]:
    source = random.Random(seed)
    return [(text(source), text(source)) for _ in range(n)]


class Gate:
    """A pipeline or index whose calls wait until they are let through, and are recorded."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.began = threading.Event()
        self.batches: list[list[Any]] = []
        self.fails: Callable[[list[Any]], BaseException | None] = lambda _: None

    def _call(self, items: list[Any]) -> list[Any]:
        self.batches.append(items)
        self.began.set()
        assert self.open.wait(LIMIT)
        if error := self.fails(items):
            raise error
        return items

    def score_pairs(self, left: Sequence[str], right: Sequence[str]) -> list[Any]:
        return self._call(list(zip(left, right, strict=True)))

    def flag_all(self, texts: Sequence[str], *, k: int | None, min_cosine: float | None) -> list[Any]:
        return self._call([(text, k, min_cosine) for text in texts])


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def gated(gate: Gate) -> Iterator[ModelExecutor]:
    executor = ModelExecutor(gate, gate, batch=4, max_waiting=20)  # type: ignore[arg-type]
    yield executor
    gate.open.set()
    executor.close(LIMIT)


async def started(gate: Gate) -> None:
    """Wait until the thread is in the model, so that all that comes later waits."""
    await asyncio.to_thread(gate.began.wait, LIMIT)


async def begun(*work: Any) -> list[asyncio.Task[Any]]:
    """Start coroutines one after the other, up to their first wait."""
    tasks = []
    for one in work:
        tasks.append(asyncio.ensure_future(one))
        await asyncio.sleep(0)
    return tasks


def named(name: str, n: int) -> list[tuple[str, str]]:
    return [(f"{name} {number}", "x") for number in range(n)]


# ---- results --------------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8), batch=st.integers(1, 16), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_results_are_those_of_direct_calls_however_requests_meet(
    pipeline: DuplicatePipeline, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], batch: int, seed: int
) -> None:
    with QuestionIndex(tmp_path_factory.mktemp("index") / "forum.db", pipeline) as index:
        index.add(range(30), [pair[0] for pair in pairs(30, 1)])
        executor = ModelExecutor(pipeline, index, batch=batch, max_waiting=10_000)
        source = random.Random(seed)

        async def one(number: int, size: int) -> tuple[str, Any, Any]:
            await asyncio.sleep(source.random() / 200)
            asked = pairs(size, seed + number)
            if source.random() < 0.3:
                texts = [pair[0] for pair in asked]
                return "flag", await executor.flag(texts, k=3), index.flag_all(texts, k=3)
            direct = pipeline.score_pairs([pair[0] for pair in asked], [pair[1] for pair in asked])
            return "score", await executor.score(asked), direct

        async def all_() -> list[tuple[str, Any, Any]]:
            return await asyncio.gather(*(one(number, size) for number, size in enumerate(sizes)))

        for kind, found, direct in asyncio.run(all_()):
            assert len(found) == len(direct)
            for mine, theirs in zip(found, direct, strict=True):
                if kind == "score":
                    assert mine.probability == pytest.approx(theirs.probability, abs=1e-5)
                    assert mine.decision == theirs.decision
                else:
                    assert [flag.id for flag in mine.flags] == [flag.id for flag in theirs.flags]
        assert executor.waiting == 0
        assert executor.close(LIMIT)


def test_a_bad_text_is_named_within_its_request(gated: ModelExecutor) -> None:
    with pytest.raises(InputError) as caught:
        asyncio.run(gated.score([("a?", "b?"), ("c?", "d?"), ("e?", "  ")]))
    assert caught.value.location == "second text of pair 3"
    with pytest.raises(InputError) as caught:
        asyncio.run(gated.flag(["a?", "\ud800"]))
    assert caught.value.location == "question 2"
    assert gated.waiting == 0


def test_one_request_that_fails_fails_alone(gated: ModelExecutor, gate: Gate) -> None:
    gate.fails = lambda items: ValueError("broken") if ("bad 0", "x") in items else None

    async def both() -> list[Any]:
        first = await begun(gated.score(named("first", 1)))
        await started(gate)
        tasks = await begun(gated.score(named("good", 2)), gated.score(named("bad", 9)))
        gate.open.set()
        return await asyncio.gather(*first, *tasks, return_exceptions=True)

    _, good, bad = asyncio.run(both())
    assert good == named("good", 2)
    assert str(bad) == "broken"
    assert gated.waiting == 0
    assert len(gate.batches) == 4  # first, both, good alone, bad alone: the rest of bad is not read


# ---- order ----------------------------------------------------------------------------------------------------------


def test_a_large_request_does_not_starve_small_ones(gated: ModelExecutor, gate: Gate) -> None:
    order: list[str] = []

    async def ask(name: str, n: int) -> None:
        await gated.score(named(name, n))
        order.append(name)

    async def all_() -> None:
        large = await begun(ask("large", 16))
        await started(gate)
        small = await begun(*(ask(f"small {number}", 1) for number in range(4)))
        gate.open.set()
        await asyncio.gather(*large, *small)

    asyncio.run(all_())
    assert order == ["small 0", "small 1", "small 2", "small 3", "large"]
    # small ones are first; what is left of the batch is for the large one
    assert [len(batch) for batch in gate.batches] == [4, 4, 4, 4, 4]


def test_kinds_take_turns(gated: ModelExecutor, gate: Gate) -> None:
    async def all_() -> None:
        first = await begun(gated.score(named("score", 12)))
        await started(gate)
        more = await begun(gated.flag([f"flag {number}" for number in range(12)], k=2))
        gate.open.set()
        await asyncio.gather(*first, *more)

    asyncio.run(all_())
    kinds = ["flag" if batch[0][0].startswith("flag") else "score" for batch in gate.batches]
    assert kinds == ["score", "score", "flag", "score", *["flag"] * 5]


def test_a_batch_of_flags_has_no_more_pairs_than_one_of_scores(gated: ModelExecutor, gate: Gate) -> None:
    async def all_() -> None:
        gate.open.set()
        for k in (1, 2, 3, 9):
            assert len(await gated.flag([f"flag {number}" for number in range(5)], k=k)) == 5

    asyncio.run(all_())
    assert [(len(batch), batch[0][1]) for batch in gate.batches] == [
        *[(4, 1), (1, 1)],
        *[(2, 2), (2, 2), (1, 2)],
        *[(1, 3)] * 5,
        *[(1, 9)] * 5,
    ]


def test_other_work_does_not_starve(gated: ModelExecutor, gate: Gate) -> None:
    at: list[int] = []

    async def all_() -> None:
        first = await begun(gated.score(named("many", 4 * 2 * BATCHES_BEFORE_UNIT)))
        await started(gate)
        unit = await begun(gated.run(lambda: at.append(len(gate.batches))))
        gate.open.set()
        await asyncio.gather(*first, *unit)

    asyncio.run(all_())
    assert at == [1 + BATCHES_BEFORE_UNIT]


def test_other_work_runs_alone_and_its_errors_are_its_callers(gated: ModelExecutor) -> None:
    assert asyncio.run(gated.run(lambda: threading.current_thread().name)) == "dupq-model"
    with pytest.raises(ZeroDivisionError):
        asyncio.run(gated.run(lambda: 1 / 0))
    assert gated.call(lambda: 7) == 7
    assert gated.alive


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_says_when_to_come_again(gated: ModelExecutor, gate: Gate) -> None:
    async def all_() -> None:
        large = await begun(gated.score(named("large", 50)))  # one request is not refused for its size
        await started(gate)
        for _ in range(200):
            with pytest.raises(BusyError) as caught:
                await gated.score(named("more", 1))
            assert caught.value.retry_after >= 1
        with pytest.raises(asyncio.TimeoutError):
            await gated.check(0.01)
        assert gated.waiting == 50 + 1 - 1
        gate.open.set()
        await asyncio.gather(*large)
        await gated.check(LIMIT)

    asyncio.run(all_())
    assert gated.waiting == 0


def test_other_work_is_bounded_too(gated: ModelExecutor, gate: Gate) -> None:
    async def all_() -> None:
        first = await begun(gated.score(named("first", 1)))
        await started(gate)
        units = await begun(*(gated.run(lambda: None) for _ in range(MAX_UNITS)))
        assert gated.units == MAX_UNITS
        with pytest.raises(BusyError):
            await gated.run(lambda: None)
        gate.open.set()
        await asyncio.gather(*first, *units)

    asyncio.run(all_())
    assert gated.units == 0


def test_the_rest_of_a_request_whose_client_has_gone_is_dropped(gated: ModelExecutor, gate: Gate) -> None:
    async def all_() -> None:
        left = asyncio.Event()

        async def ask() -> None:
            client_gone.set(left.wait)  # type: ignore[arg-type]
            await gated.score(named("large", 16))

        task = asyncio.ensure_future(ask())
        await started(gate)
        other = await begun(gated.score(named("other", 1)))
        left.set()
        with pytest.raises(ClientGoneError):
            await task
        assert gated.waiting == 4 + 1  # its first batch is in the model
        gate.open.set()
        await asyncio.gather(*other)

    asyncio.run(all_())
    assert [len(batch) for batch in gate.batches] == [4, 1]
    assert gated.waiting == 0


def test_a_request_that_is_cancelled_is_dropped(gated: ModelExecutor, gate: Gate) -> None:
    async def all_() -> None:
        first = await begun(gated.score(named("first", 1)))
        await started(gate)
        tasks = await begun(gated.score(named("second", 8)), gated.run(lambda: gate.batches.append(["unit"])))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gated.waiting == 1
        gate.open.set()
        await asyncio.gather(*first)

    asyncio.run(all_())
    gated.close(LIMIT)
    assert len(gate.batches) == 1


# ---- the end --------------------------------------------------------------------------------------------------------


def test_close_ends_what_waits_and_refuses_what_comes(gated: ModelExecutor, gate: Gate) -> None:
    async def all_() -> tuple[list[Any], bool]:
        tasks = await begun(gated.score(named("first", 9)), gated.run(lambda: "done"))
        await started(gate)
        gate.open.set()
        ended = await asyncio.to_thread(gated.close, LIMIT)
        with pytest.raises(StoppingError):
            await gated.score(named("late", 1))
        with pytest.raises(StoppingError):
            await gated.run(lambda: None)
        return await asyncio.gather(*tasks), ended

    (scores, unit), ended = asyncio.run(all_())
    assert ended
    assert scores == named("first", 9)
    assert unit == "done"
    assert not gated.alive


def test_close_refuses_what_cannot_end_in_time(gated: ModelExecutor, gate: Gate) -> None:
    async def all_() -> list[Any]:
        tasks = await begun(gated.score(named("first", 9)))
        await started(gate)
        assert not await asyncio.to_thread(gated.close, 0.01)
        return await asyncio.gather(*tasks, return_exceptions=True)

    (error,) = asyncio.run(all_())
    assert isinstance(error, StoppingError)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_request_waits_for_a_thread_that_has_died(gated: ModelExecutor, gate: Gate) -> None:
    gate.fails = lambda _: SystemExit()

    async def all_() -> list[Any]:
        tasks = await begun(gated.score(named("first", 1)))
        await started(gate)
        tasks += await begun(gated.score(named("second", 1)), gated.run(lambda: None))
        gate.open.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LIMIT)

    assert all(isinstance(error, StoppingError) for error in asyncio.run(all_()))
    gated._thread.join(LIMIT)
    assert not gated.alive
    assert gated.waiting >= 0


def test_nothing_grows_at_many_clients(pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    with QuestionIndex(tmp_path / "forum.db", pipeline) as index:
        executor = ModelExecutor(pipeline, index, batch=8, max_waiting=64)
        most = 0

        async def client(number: int) -> None:
            nonlocal most
            for at in range(5):
                try:
                    await executor.score(pairs(1 + number % 3, number + at))
                except BusyError:
                    await asyncio.sleep(0)
                most = max(most, executor.waiting)

        async def all_() -> None:
            await asyncio.gather(*(client(number) for number in range(200)))

        asyncio.run(all_())
        assert most <= 64 + 2
        assert executor.waiting == 0
        assert not executor._requests
        assert executor.close(LIMIT)
