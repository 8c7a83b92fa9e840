"""Tasks of the tests; a worker imports them by name."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from dupq.engine.base import Task, Unit, Work, worker_threads
from dupq.engine.unit_queue import count_attempts
from dupq.engine.work_folder import WorkFolder
from dupq.errors import ModelFolderError


def make_squares(work: WorkFolder) -> Work:
    def compute(unit: Unit) -> bytes:
        number = unit.spec["number"]
        attempt = count_attempts(work, unit.name)
        if attempt <= unit.spec.get("kills", 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if attempt <= unit.spec.get("fails", 0):
            raise ValueError(f"no square of {number}")
        if unit.spec.get("full"):
            fill_disk()
        if unit.spec.get("waits_for"):
            # The test acts while the unit runs, and then writes the part that it waits for.
            work.write(f"running/{os.getpid()}", unit.name.encode())
            while not work.exists(unit.spec["waits_for"]):
                time.sleep(0.02)
        return f"{number * number}\n".encode() * 100

    return compute


def make_without_model(work: WorkFolder) -> Work:
    raise ModelFolderError("it is missing", location="model", hint="copy it")


def make_with_mistake(work: WorkFolder) -> Work:
    raise RuntimeError("a mistake")


def make_killed(work: WorkFolder) -> Work:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def make_full(work: WorkFolder) -> Work:
    fill_disk()
    return lambda unit: b"part"


def fill_disk() -> None:
    """Let every later write of this process fail."""

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Path.write_bytes = full  # type: ignore[method-assign]


def make_threads(work: WorkFolder) -> Work:
    return lambda unit: f"{worker_threads()} {os.environ.get('OMP_NUM_THREADS')}".encode()


def make_pid(work: WorkFolder) -> Work:
    return lambda unit: str(os.getpid()).encode()


def squares(count: int, **special: dict[str, Any]) -> list[Unit]:
    """Units "squares/000" to the last one; `u003={"fails": 1}` adds to the description of a unit."""
    return [Unit(f"squares/{n:03}", {"number": n, **special.get(f"u{n:03}", {})}) for n in range(count)]


SQUARES = Task("squares", make_squares)


def parts(work: WorkFolder, folder: str = "squares") -> dict[str, bytes]:
    return {name: work.read(name) for name in sorted(work.names(folder))}


def right(count: int) -> dict[str, bytes]:
    return {f"squares/{n:03}": f"{n * n}\n".encode() * 100 for n in range(count)}
