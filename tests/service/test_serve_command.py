"""The command as it is used: a process, a real socket, signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dupq.cli.main import main
from dupq.index.stores import open_store
from dupq.service.access import Access
from dupq.service.tables import META, prepare_tables

ROOT = Path(__file__).parent.parent.parent
LIMIT = 120.0
"""Seconds after which a test that waits has failed."""

TINY = """
import sys, time
from pathlib import Path
from dupq.cli.main import main
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

class Scorer(WordScorer):
    def score(self, left, right, progress=None):
        if "hold this" in left:
            Path("held").touch()
            while not Path("go").exists():
                time.sleep(0.01)
        return super().score(left, right, progress)

pipeline = DuplicatePipeline(Scorer(), WordEmbedder()).calibrate(labelled_table())
DuplicatePipeline.from_pretrained = classmethod(lambda cls, *args, **options: pipeline)
sys.exit(main(sys.argv[1:]))
"""
"""The command line with a pipeline that counts words; it holds a pair until the file "go" is there."""


class Server:
    """A process of `dupq serve`."""

    def __init__(self, folder: Path, *options: str, code: str = TINY) -> None:
        self.folder = folder
        self.errors = (folder / "stderr").open("a+", encoding="utf-8")
        start = len(self.text)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--db", "forum.db", "--port", "0", *options],
            cwd=folder,
            stderr=self.errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.wait(lambda: "listening on" in self.text[start:] or self.process.poll() is not None)
        found = re.findall(r"listening on (http://\S+)", self.text[start:])
        assert found, self.text
        self.url = found[0]
        self.tokens = re.findall(r"\n    (dupq_\S+)\n", self.text[start:])

    @property
    def text(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8")

    @staticmethod
    def wait(condition: Callable[[], bool]) -> None:
        ends = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < ends
            time.sleep(0.02)

    def post(self, pairs: list[list[str]], token: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.post(f"{self.url}/v1/score", json={"pairs": pairs}, headers=headers, timeout=LIMIT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        self.errors.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*options: str, **settings: Any) -> Server:
        servers.append(Server(tmp_path, *options, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def in_background(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(function())
        except httpx2.HTTPError as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, results


def test_from_the_first_start_to_the_second(serve: Callable[..., Server]) -> None:
    first = serve()
    (token,) = first.tokens
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx2.get(f"{first.url}/readyz", timeout=LIMIT).status_code == 200
    answer = httpx2.post(
        f"{first.url}/v1/score",
        json={"pairs": [["How do I learn Python?", "How can I learn Python?"]]},
        headers={**headers, "X-Request-Id": "my-id"},
        timeout=LIMIT,
    )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "my-id"
    assert "server" not in answer.headers
    rows = {"questions": [{"id": 1, "text": "How do I learn Python?"}, {"id": "a", "text": "How do I cook rice?"}]}
    assert httpx2.put(f"{first.url}/v1/questions", json=rows, headers=headers, timeout=LIMIT).status_code == 200
    first.process.terminate()
    assert first.process.wait(LIMIT) == 0
    assert re.search(r"\S+Z INFO dupq\.service\.requests POST /v1/score 200 \d+ ms request=my-id\n", first.text)
    assert first.text.count(token) == 1  # where it was printed, and in no line of the log
    assert "Traceback" not in first.text

    second = serve()
    assert second.tokens == []
    found = httpx2.get(f"{second.url}/v1/questions/a", headers=headers, timeout=LIMIT)
    assert found.json()["text"] == "How do I cook rice?"
    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(LIMIT) == 0


def test_a_stop_lets_requests_end(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    (token,) = server.tokens
    thread, results = in_background(lambda: server.post([["hold this", "a?"]], token))
    server.wait(lambda: (tmp_path / "held").exists())
    server.process.terminate()

    def refused() -> bool:
        try:
            return httpx2.get(f"{server.url}/readyz", timeout=LIMIT).status_code == 503
        except httpx2.ConnectError:
            return True

    server.wait(refused)
    assert server.process.poll() is None
    (tmp_path / "go").touch()
    thread.join(LIMIT)
    assert results[0].status_code == 200
    assert server.process.wait(LIMIT) == 0


def test_a_second_signal_ends_it_at_once(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    (token,) = server.tokens
    thread, results = in_background(lambda: server.post([["hold this", "a?"]], token))
    server.wait(lambda: (tmp_path / "held").exists())
    server.process.terminate()
    server.wait(lambda: "Shutting down" in server.text)
    server.process.terminate()
    assert server.process.wait(LIMIT) == 128 + signal.SIGTERM
    thread.join(LIMIT)
    assert isinstance(results[0], httpx2.HTTPError)


def test_a_request_that_is_too_long_does_not_hold_the_stop(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve("--stop-seconds", "0.2")
    (token,) = server.tokens
    thread, results = in_background(lambda: server.post([["hold this", "a?"]], token))
    server.wait(lambda: (tmp_path / "held").exists())
    server.process.terminate()
    assert server.process.wait(LIMIT) == 0
    thread.join(LIMIT)
    assert results[0].status_code == 503
    assert "Traceback" not in server.text


# ---- a start that fails ---------------------------------------------------------------------------------------------


def failed(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["serve", *options]) == 2
    text = capsys.readouterr().err
    assert text.count("dupq: ") == 1
    assert "\n  -> " in text
    return text


def test_a_port_that_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        text = failed(capsys, "--db", str(tmp_path / "forum.db"), "--port", port)
    assert f"127.0.0.1 port {port}: cannot listen: Address already in use" in text
    assert not (tmp_path / "forum.db").exists()


def test_a_host_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--db", str(tmp_path / "forum.db"), "--port", "0")
    assert "host must be an address of this machine" in failed(capsys, *options, "--host", "no.such.host.invalid")
    assert "cannot listen" in failed(capsys, *options, "--host", "192.0.2.1")


def test_a_database_that_is_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "forum.db").write_text("not a database at all, but a text that is long enough to be one" * 20)
    assert "forum.db" in failed(capsys, "--db", str(tmp_path / "forum.db"), "--port", "0")


def test_tables_of_a_newer_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path / "forum.db")
    prepare_tables(store)
    store.write(lambda transaction: transaction.set_meta(META, 99))
    store.close()
    assert "format 99" in failed(capsys, "--db", str(tmp_path / "forum.db"), "--port", "0")


def test_a_model_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--db", str(tmp_path / "forum.db"), "--port", "0", "--model", str(tmp_path / "none"))
    assert "none" in failed(capsys, *options)


def test_beyond_loopback_without_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--db", str(tmp_path / "forum.db"), "--port", "0", "--host", "0.0.0.0")
    text = failed(capsys, *options)
    assert "without a token the host must be on loopback" in text
    assert "dupq token create" in text
    store = open_store(tmp_path / "forum.db")
    assert not Access(store).has_tokens()
    store.close()


@pytest.mark.slow
def test_the_shipped_model_serves(serve: Callable[..., Server]) -> None:
    server = serve(code="import sys\nfrom dupq.cli.main import main\nsys.exit(main(sys.argv[1:]))")
    (token,) = server.tokens
    answer = server.post(
        [["How old are you?", "What is your age?"], ["How old are you?", "Why is the sky blue?"]], token
    )
    assert answer.status_code == 200
    server.process.terminate()
    assert server.process.wait(LIMIT) == 0
