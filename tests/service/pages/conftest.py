from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from dupq.service.access import Role
from dupq.service.state import Service
from tests.service.pages.person import Person


@pytest.fixture
def log_in(service: Service, client: TestClient) -> Callable[..., Person]:
    """A function that logs someone in."""

    def person(role: Role = "admin", name: str = "Ada") -> Person:
        return Person(service, client, role, name)

    return person
