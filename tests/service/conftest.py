from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dupq.pipeline import DuplicatePipeline
from dupq.service.access import Role
from dupq.service.app import create_app, open_service
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table


@pytest.fixture(scope="session")
def pipeline() -> DuplicatePipeline:
    """A calibrated pipeline that counts words."""
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())


@pytest.fixture
def open_(tmp_path: Path, pipeline: DuplicatePipeline) -> Iterator[Callable[..., tuple[Service, TestClient]]]:
    """A function that starts a service with these settings, and its client."""
    with ExitStack() as stack:

        def start(**settings: Any) -> tuple[Service, TestClient]:
            service = open_service(ServiceSettings(**{"db": str(tmp_path / "forum.db"), **settings}), pipeline)
            return service, stack.enter_context(TestClient(create_app(service)))

        yield start


@pytest.fixture
def running(open_: Callable[..., tuple[Service, TestClient]]) -> tuple[Service, TestClient]:
    return open_()


@pytest.fixture
def service(running: tuple[Service, TestClient]) -> Service:
    return running[0]


@pytest.fixture
def client(running: tuple[Service, TestClient]) -> TestClient:
    return running[1]


@pytest.fixture
def as_role(service: Service, client: TestClient) -> Callable[[Role], dict[str, str]]:
    """The headers of a role."""

    def headers(role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {service.access.create_token(f'the {role}', role)}"}

    return headers
