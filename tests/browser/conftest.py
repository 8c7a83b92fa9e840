"""A browser, and a service with a small forum, for the tests of the pages as they are used.

The modules of selenium are imported by the fixtures alone, so that the other tests are collected without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium
    from tests.browser.server import Server


@pytest.fixture(scope="session")
def browsers() -> Iterator[Callable[[int], Chromium]]:
    """Browsers that live as long as the tests, by their number."""
    from tests.browser.chromium import Chromium

    with ExitStack() as stack:
        started: list[Chromium] = []

        def get(number: int) -> Chromium:
            while len(started) <= number:
                started.append(Chromium())
                stack.callback(started[-1].quit)
            return started[number]

        yield get


@pytest.fixture(scope="session")
def pipeline() -> DuplicatePipeline:
    """A calibrated pipeline that counts words."""
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())


@pytest.fixture
def serve(tmp_path: Path, pipeline: DuplicatePipeline) -> Iterator[Callable[..., Server]]:
    """A function that starts a service with these settings."""
    from tests.browser.server import Server

    with ExitStack() as stack:

        def start(**settings: Any) -> Server:
            server = Server(pipeline, **{"db": str(tmp_path / "forum.db"), "rate_limit": 0, **settings})
            server.start()
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    """A service with the demo forum, decided."""
    from tests.service.demo import seed

    server = serve()
    seed(server.service.index)
    return server


@pytest.fixture
def chromium(browsers: Callable[[int], Chromium], server: Server) -> Chromium:
    """A browser that has not been to the service yet."""
    browser = browsers(0)
    browser.reset(server.url)
    return browser


@pytest.fixture
def second(browsers: Callable[[int], Chromium], server: Server) -> Chromium:
    """Another browser, of another moderator."""
    browser = browsers(1)
    browser.reset(server.url)
    return browser
