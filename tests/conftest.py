"""What all tests share: one thread, no network, and tiny networks that are made once a session."""

from __future__ import annotations

import os

# Before any library reads them. Threads would only wait for each other in networks as small as these.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.networks import save_tiny_base, save_tiny_bi_encoder, save_tiny_cross_encoder

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a command that a script runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("dupq", deadline=None, derandomize=True)
settings.load_profile("dupq")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Any connection that would leave this machine fails at once."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionRefusedError(f"a test tried to reach {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformers folder: an untrained BERT of two layers."""
    return save_tiny_base(tmp_path_factory.mktemp("networks") / "tiny-base")


@pytest.fixture(scope="session")
def tiny_bi_encoder(tiny_base: Path) -> Path:
    """A stock `SentenceTransformer` folder, untrained."""
    return save_tiny_bi_encoder(tiny_base.with_name("tiny-bi-encoder"), tiny_base)


@pytest.fixture(scope="session")
def tiny_cross_encoder(tiny_base: Path) -> Path:
    """A stock `CrossEncoder` folder, untrained."""
    return save_tiny_cross_encoder(tiny_base.with_name("tiny-cross-encoder"), tiny_base)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A PostgreSQL server with pgvector; it fails, and does not skip, where there is none."""
    from tests.postgres import running_server

    with running_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUPQ_TEST_POSTGRES_URL", server.at())  # for processes that the tests start
        yield server


@pytest.fixture(scope="session")
def ray_engine() -> Iterator[Any]:
    """The Ray of all tests, with 4 logical CPUs and 2 actors; it fails, and does not skip, where there is none."""
    from dupq.engine.ray import RayEngine

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))  # for the actors, which import the tests
        with RayEngine(cpus=4, actors=2) as started:
            yield started


@pytest.fixture
def postgres_url(postgres_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an index that does not exist yet, in a schema of its own; caches are in `tmp_path`."""
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path / "cache"))
    return str(postgres_server.new_schema())
