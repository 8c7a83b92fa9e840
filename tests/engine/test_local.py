"""Units in this process and in several: kills, failures, resuming, and what ends a run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dupq.engine.base import MAX_ATTEMPTS, THREADS, Task, Unit, UnitError, Work, worker_threads
from dupq.engine.local import LocalEngine
from dupq.engine.unit_queue import count_attempts
from dupq.engine.work_folder import WorkFolder
from dupq.errors import DupqError, InputError, ModelFolderError, OutputError
from tests.engine.conftest import wait_until
from tests.engine.tasks import (
    SQUARES,
    make_full,
    make_killed,
    make_threads,
    make_with_mistake,
    make_without_model,
    parts,
    right,
    squares,
)

ROOT = Path(__file__).parent.parent.parent


def children() -> list[Any]:
    return [child for child in multiprocessing.active_children() if child.name.startswith("dupq")]


@pytest.mark.parametrize("workers", [1, 2])
def test_all_parts_are_written_and_progress_shows_them(work: WorkFolder, workers: int) -> None:
    seen: list[tuple[int, int]] = []
    LocalEngine(workers).run(SQUARES, squares(7), work, lambda done, total: seen.append((done, total)))
    assert parts(work) == right(7)
    assert seen == [(done, 7) for done in range(8)]
    assert {count_attempts(work, name) for name in right(7)} == {1}
    assert not children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_finished_unit_is_not_done_again(work: WorkFolder, workers: int) -> None:
    LocalEngine().run(SQUARES, squares(4), work)
    LocalEngine(workers).run(SQUARES, squares(6), work)
    assert parts(work) == right(6)
    assert {count_attempts(work, name) for name in right(6)} == {1}
    LocalEngine(workers).run(Task("none", make_with_mistake), squares(6), work)  # makes no worker
    LocalEngine(workers).run(SQUARES, [], work)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unit_that_fails_once_is_repeated(work: WorkFolder, workers: int) -> None:
    LocalEngine(workers).run(SQUARES, squares(4, u001={"fails": 1}), work)
    assert parts(work) == right(4)
    assert count_attempts(work, "squares/001") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_poisoned_unit_is_set_aside_and_named(work: WorkFolder, workers: int) -> None:
    with pytest.raises(UnitError, match=r"squares/001 .*no square of 1") as caught:
        LocalEngine(workers).run(SQUARES, squares(4, u001={"fails": 99}), work)
    assert caught.value.failed == {"squares/001": "ValueError: no square of 1"}
    assert set(parts(work)) == set(right(4)) - {"squares/001"}
    assert count_attempts(work, "squares/001") == MAX_ATTEMPTS
    LocalEngine(workers).run(SQUARES, squares(4), work)  # the cause is removed
    assert parts(work) == right(4)


def test_a_killed_worker_costs_one_attempt(work: WorkFolder) -> None:
    LocalEngine(2).run(SQUARES, squares(6, u002={"kills": 1}), work)
    assert parts(work) == right(6)
    assert {name: count_attempts(work, name) for name in right(6)} == {
        name: 2 if name == "squares/002" else 1 for name in right(6)
    }
    assert not children()


def test_a_unit_that_kills_every_worker_is_set_aside(work: WorkFolder) -> None:
    with pytest.raises(UnitError, match=r"squares/002 .*signal 9"):
        LocalEngine(2).run(SQUARES, squares(4, u002={"kills": 99}), work)
    assert set(parts(work)) == set(right(4)) - {"squares/002"}
    assert not children()


def test_sigkill_to_the_worker_of_a_running_unit(work: WorkFolder) -> None:
    units = squares(4, u001={"waits_for": "go"})

    def kill() -> None:
        pid = int(wait_until(lambda: work.names("running")).pop().partition("/")[2])
        os.kill(pid, signal.SIGKILL)
        work.write("go", b"")

    thread = threading.Thread(target=kill)
    thread.start()
    LocalEngine(2).run(SQUARES, units, work)
    thread.join()
    assert parts(work) == right(4)
    assert count_attempts(work, "squares/001") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_missing_model_ends_the_run_at_once(work: WorkFolder, workers: int) -> None:
    with pytest.raises(ModelFolderError, match="it is missing") as caught:
        LocalEngine(workers).run(Task("model", make_without_model), squares(3), work)
    assert caught.value.hint == "copy it"
    assert caught.value.location == "model"
    assert not work.names("squares")
    assert not children()


def test_a_mistake_at_the_start_of_a_worker(work: WorkFolder) -> None:
    with pytest.raises(DupqError, match=r"a worker could not start \(RuntimeError: a mistake\)"):
        LocalEngine(2).run(Task("mistake", make_with_mistake), squares(3), work)
    with pytest.raises(DupqError, match=r"workers ended while they started \(.*signal 9"):
        LocalEngine(2).run(Task("killed", make_killed), squares(3), work)
    assert not children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_run(work: WorkFolder, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", Path.write_bytes)  # `make_full` changes it in this process
    with pytest.raises(OutputError, match="No space left on device") as caught:
        LocalEngine(workers).run(Task("full", make_full), squares(3), work)
    assert "what is finished is kept" in str(caught.value.hint)
    monkeypatch.undo()
    assert not work.names("squares")
    assert not list(Path(work.location).rglob("*.part"))
    LocalEngine().run(SQUARES, squares(3), work)
    assert parts(work) == right(3)


def test_a_full_disk_of_one_worker_ends_the_run_and_is_one_error(work: WorkFolder) -> None:
    with pytest.raises(OutputError, match=r"squares/003 could not be written \(No space left on device\)"):
        LocalEngine(2).run(SQUARES, squares(9, u003={"full": True}), work)
    assert "squares/003" not in work.names()
    assert not list(Path(work.location).rglob("*.part"))
    LocalEngine(2).run(SQUARES, squares(9), work)
    assert parts(work) == right(9)


def make_interrupted(work: WorkFolder) -> Work:
    def compute(unit: Unit) -> bytes:
        if unit.name == "squares/002":
            os.kill(os.getppid() if unit.spec.get("parent") else os.getpid(), signal.SIGINT)
            time.sleep(60)
        return b"part"

    return compute


@pytest.mark.parametrize("workers", [1, 2])
def test_control_c_stops_cleanly(work: WorkFolder, workers: int) -> None:
    units = [Unit(unit.name, {"parent": workers > 1}) for unit in squares(5)]
    with pytest.raises(KeyboardInterrupt):
        LocalEngine(workers).run(Task("interrupted", make_interrupted), units, work)
    assert not children()
    assert "squares/002" not in work.names("squares")


def test_workers_share_the_cores(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    assert worker_threads() is None
    LocalEngine(2).run(Task("threads", make_threads), squares(2), work)
    each = max(1, len(os.sched_getaffinity(0)) // 2)
    assert set(parts(work).values()) == {f"{each} {each}".encode()}
    assert dict(os.environ) == before
    assert THREADS not in os.environ


DRIVER = """
import sys
from dupq.engine.local import LocalEngine
from dupq.engine.work_folder import WorkFolder
from tests.engine.conftest import wait_until
from tests.engine.tasks import SQUARES, squares
if __name__ == "__main__":
    work = WorkFolder(sys.argv[1])
    with work.hold({"plan": 1}):
        LocalEngine(int(sys.argv[2])).run(SQUARES, squares(8, u004={"waits_for": "go"}), work)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_to_the_driver_and_the_command_again(work: WorkFolder, tmp_path: Path, workers: int) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), work.location, str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, start_new_session=True) as driver:
        pid = int(wait_until(lambda: work.names("running")).pop().partition("/")[2])
        wait_until(lambda: len(work.names("squares")) >= 4)
        with pytest.raises(InputError, match="another run"), work.hold({"plan": 1}):
            pass
        driver.kill()
    if workers > 1:
        wait_until(lambda: not Path(f"/proc/{pid}").exists())  # a worker ends with its driver
    finished = work.names("squares")
    work.write("go", b"")
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert parts(work) == right(8)
    assert {count_attempts(work, name) for name in finished} == {1}
    assert count_attempts(work, "squares/004") == 2


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2"])
def test_bad_workers(workers: Any) -> None:
    with pytest.raises(InputError, match="workers must be at least 1"):
        LocalEngine(workers)


def test_names_of_units_are_unique(work: WorkFolder) -> None:
    with pytest.raises(InputError, match="unique"):
        LocalEngine().run(SQUARES, squares(2) * 2, work)
