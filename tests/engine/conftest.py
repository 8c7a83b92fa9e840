"""Work folders on the disk and in an object store on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dupq.engine.work_folder import WorkFolder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An object store needs the packages of the extra test-ray."""
    for item in items:
        if "s3_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server of moto."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_work(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> WorkFolder:
    """A folder of a new bucket."""
    import boto3

    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{abs(hash(request.node.nodeid))}"
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=bucket)
    return WorkFolder(f"s3://{bucket}/run", {"endpoint_url": s3_server})


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.ray)])
def any_work(request: pytest.FixtureRequest) -> WorkFolder:
    found: WorkFolder = request.getfixturevalue("work" if request.param == "disk" else "s3_work")
    return found


def wait_until(condition: Callable[[], Any], seconds: float = 300) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "the condition did not come about"
        time.sleep(0.02)
    return found


def processes_of(group: int) -> list[str]:
    """The command lines of the living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == group and state != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " ")[:120])
        except (OSError, ValueError):
            continue
    return found
