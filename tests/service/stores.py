"""Both stores for the tests of what the service keeps, and a store that loses the answer of each commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


def place_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Path or URL of a store that does not exist yet."""
    return str(request.getfixturevalue("postgres_url")) if kind == "postgres" else str(tmp_path / "forum.db")


class Repeating:
    """A store that runs each action a second time, as after a commit whose answer was lost."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, action: Callable[[Any], T]) -> T:
        self._store.write(action)
        result: T = self._store.write(action)
        return result
