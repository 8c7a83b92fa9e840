from __future__ import annotations

import threading

import pytest

from dupq.service.rate_limit import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_bucket_holds_its_burst_and_fills_at_its_rate(clock: Clock) -> None:
    limit = RateLimit(2.0, 3, clock=clock)
    assert [limit.take("a") for _ in range(3)] == [0, 0, 0]
    assert limit.take("a") == pytest.approx(0.5)
    assert limit.take("b") == 0  # another key has a bucket of its own
    clock.now += 0.25
    assert limit.take("a") == pytest.approx(0.25)  # a refused request takes nothing
    clock.now += 0.25
    assert limit.take("a") == 0
    assert limit.take("a") > 0
    clock.now += 1e6  # it never holds more than its burst
    assert sum(limit.take("a") == 0 for _ in range(10)) == 3


def test_the_average_is_the_rate(clock: Clock) -> None:
    limit = RateLimit(5.0, 10, clock=clock)
    granted = 0
    for _ in range(20_000):
        clock.now += 0.01
        granted += limit.take("a") == 0
    assert granted == pytest.approx(10 + 5 * 200, abs=2)


def test_wait_takes_nothing(clock: Clock) -> None:
    limit = RateLimit(1.0, 1, clock=clock)
    assert [limit.wait("a") for _ in range(5)] == [0] * 5
    assert limit.take("a") == 0
    assert limit.wait("a") == pytest.approx(1)


def test_no_rate_is_no_limit() -> None:
    limit = RateLimit(0.0, 1)
    assert all(limit.take("a") == 0 == limit.wait("a") for _ in range(100))
    assert len(limit) == 0


def test_the_memory_is_bounded(clock: Clock) -> None:
    limit = RateLimit(1.0, 1, max_keys=100, clock=clock)
    for number in range(10_000):
        limit.take(number)
    assert len(limit) == 100
    assert limit.take(9_999) > 0
    assert limit.take(0) == 0  # forgotten, and so full


def test_threads_share_a_bucket(clock: Clock) -> None:
    limit, granted = RateLimit(1.0, 1000, clock=clock), []

    def take() -> None:
        granted.append(sum(limit.take("a") == 0 for _ in range(500)))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 1000
