from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dupq.index.stores.base import Store
from tests.index.stores.kinds import KINDS, begin, make_store


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name of a kind of store."""
    if request.param == "postgres":
        request.getfixturevalue("postgres_server")
    return str(request.param)


@pytest.fixture
def open_store(kind: str, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """A function that opens the store of the test once more."""
    opened: list[Store] = []

    def open_(wait: float = 60.0) -> Store:
        opened.append(make_store(kind, tmp_path, wait))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def empty(open_store: Callable[..., Store]) -> Store:
    """A new store, without a model."""
    return open_store()


@pytest.fixture
def store(empty: Store) -> Store:
    """A store that has a model and no question."""
    begin(empty)
    return empty
