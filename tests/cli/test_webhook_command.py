"""`dupq webhook test`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from dupq.cli.main import main
from dupq.pipeline import DuplicatePipeline
from dupq.service.app import create_app, open_service
from dupq.service.settings import ServiceSettings
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running service with the secret "one" for Discourse and GitHub, and "two" for others."""
    pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
    db = str(tmp_path_factory.mktemp("service") / "forum.db")
    settings = ServiceSettings(db=db, discourse_secret="one", github_secret="one", generic_secret="two")  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(create_app(open_service(settings, pipeline)), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


@pytest.mark.parametrize(("kind", "secret"), [("discourse", "one"), ("github", "one"), ("generic", "two")])
def test_a_test_is_accepted_and_a_wrong_signature_refused(
    address: str, kind: str, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["webhook", "test", kind, address, "--secret", secret]) == 0
    text = capsys.readouterr().out
    assert f"{address}/webhooks/{kind}" in text
    assert "signed: ok, the service answered 200: pong" in text
    assert "wrong signature: ok, the service answered 403" in text


def test_another_secret_fails(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["webhook", "test", "generic", address, "--secret", "wrong", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["signed"]["status"], found["wrong_signature"]["ok"]) == (False, 403, True)
    assert "generic_secret" in found["signed"]["answer"]


def test_the_secret_comes_from_the_settings(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dupq.toml"
    file.write_text('generic_secret = "two"\n')
    assert main(["webhook", "test", "generic", f"{address}/webhooks/generic", "--settings", str(file)]) == 0
    monkeypatch.setenv("DUPQ_SERVE_DISCOURSE_SECRET", "one")
    assert main(["webhook", "test", "discourse", address]) == 0
    monkeypatch.delenv("DUPQ_SERVE_DISCOURSE_SECRET")
    assert main(["webhook", "test", "discourse", address]) == 2
    assert "DUPQ_SERVE_DISCOURSE_SECRET" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:8080", "must be the address of the service"),
        ("ftp://127.0.0.1", "must be the address of the service"),
        ("http://127.0.0.1:1", "did not answer"),
    ],
)
def test_a_service_that_is_not_there(url: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["webhook", "test", "github", url, "--secret", "x"]) == 2
    assert message in capsys.readouterr().err


def test_the_secret_is_not_printed(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "a-secret-that-is-long"
    main(["webhook", "test", "discourse", address, "--secret", secret])
    captured = capsys.readouterr()
    assert secret not in captured.out + captured.err
