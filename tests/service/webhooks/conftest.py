from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dupq.index.stores.base import StoredQuestion
from dupq.service.state import Service
from tests.service.webhooks.payloads import SECRET


@pytest.fixture
def running(open_: Callable[..., tuple[Service, TestClient]]) -> tuple[Service, TestClient]:
    """A service that takes webhooks of all kinds."""
    return open_(discourse_secret=SECRET, github_secret=SECRET, generic_secret=SECRET)


@pytest.fixture
def settled(service: Service) -> Callable[[], None]:
    """A function that waits until no job is left."""

    def wait() -> None:
        end = time.monotonic() + 120
        while (counts := service.jobs.counts())["waiting"] + counts["running"]:
            failed = [job for job in service.jobs.list("waiting") if job.error]
            assert not failed, failed
            assert time.monotonic() < end
            time.sleep(0.01)
        assert not counts["dead"], service.jobs.list("dead")

    return wait


@pytest.fixture
def question(service: Service, settled: Callable[[], None]) -> Callable[[Any], StoredQuestion | None]:
    """A function that returns a stored question once no job is left."""

    def find(id_: Any) -> StoredQuestion | None:
        settled()
        return service.index.questions([id_]).get(id_)

    return find
