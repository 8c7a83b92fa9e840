"""Units on Ray: kills, failures, addresses, and the same parts as those of the local engine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dupq.engine import ray as ray_engine
from dupq.engine.base import MAX_ATTEMPTS, Engine, Task, UnitError
from dupq.engine.local import LocalEngine
from dupq.engine.ray import RayEngine
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

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(ROOT))  # for the actors, which import the tests
        with RayEngine(cpus=4, actors=2) as started:
            yield started


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


def test_all_parts_are_written_and_progress_shows_them(engine: RayEngine, any_work: WorkFolder) -> None:
    seen: list[tuple[int, int]] = []
    if any_work.is_url:  # the actors started before the test set the keys
        any_work = WorkFolder(any_work.location, {**any_work.storage_options, "key": "testing", "secret": "testing"})
    engine.run(SQUARES, squares(7), any_work, lambda done, total: seen.append((done, total)))
    assert parts(any_work) == right(7)
    assert seen == [(done, 7) for done in range(8)]
    assert {count_attempts(any_work, name) for name in right(7)} == {1}
    engine.run(Task("none", make_with_mistake), squares(7), any_work)  # makes no worker


def test_a_unit_that_fails_once_is_repeated(engine: RayEngine, work: WorkFolder) -> None:
    engine.run(SQUARES, squares(4, u001={"fails": 1}), work)
    assert parts(work) == right(4)
    assert count_attempts(work, "squares/001") == 2


def test_a_poisoned_unit_is_set_aside_and_named(engine: RayEngine, work: WorkFolder) -> None:
    with pytest.raises(UnitError) as caught:
        engine.run(SQUARES, squares(5, u001={"fails": 99}, u002={"kills": 99}), work)
    assert caught.value.failed["squares/001"] == "ValueError: no square of 1"
    assert "its worker was lost: The actor died" in caught.value.failed["squares/002"]
    assert set(parts(work)) == set(right(5)) - {"squares/001", "squares/002"}
    assert count_attempts(work, "squares/002") == MAX_ATTEMPTS
    engine.run(SQUARES, squares(5), work)
    assert parts(work) == right(5)


def test_sigkill_to_the_actor_of_a_running_unit(engine: RayEngine, work: WorkFolder) -> None:
    def kill() -> None:
        pid = int(wait_until(lambda: work.names("running")).pop().partition("/")[2])
        os.kill(pid, signal.SIGKILL)
        work.write("go", b"")

    thread = threading.Thread(target=kill)
    thread.start()
    engine.run(SQUARES, squares(4, u001={"waits_for": "go"}), work)
    thread.join()
    assert parts(work) == right(4)
    assert {name: count_attempts(work, name) for name in right(4)} == {
        name: 2 if name == "squares/001" else 1 for name in right(4)
    }


def test_what_ends_a_run_at_once(engine: RayEngine, work: WorkFolder) -> None:
    with pytest.raises(ModelFolderError, match="it is missing") as caught:
        engine.run(Task("model", make_without_model), squares(3), work)
    assert (caught.value.hint, caught.value.location) == ("copy it", "model")
    with pytest.raises(DupqError, match=r"a worker could not start \(RuntimeError: a mistake\)"):
        engine.run(Task("mistake", make_with_mistake), squares(3), work)
    with pytest.raises(DupqError, match="workers ended while they started"):
        engine.run(Task("killed", make_killed), squares(3), work)
    with pytest.raises(OutputError, match="No space left on device"):
        engine.run(Task("full", make_full), squares(3), work)
    assert not work.names("squares")
    engine.run(SQUARES, squares(3), work)
    assert parts(work) == right(3)


def test_no_progress_counts_as_a_failure(engine: RayEngine, work: WorkFolder) -> None:
    hasty = RayEngine(actors=2, timeout_s=3)  # joins the Ray of `engine`, so that it is not its to end
    with pytest.raises(UnitError, match=r"squares/001 .*no unit finished within 3 seconds"):
        hasty.run(SQUARES, squares(3, u001={"waits_for": "never"}), work)
    assert set(parts(work)) == set(right(3)) - {"squares/001"}
    hasty.close()
    engine.run(SQUARES, squares(3), work)
    assert parts(work) == right(3)


def test_too_few_cpus(engine: RayEngine, work: WorkFolder) -> None:
    engine.run(SQUARES, squares(1), work)
    with pytest.raises(InputError, match="a worker needs 5 CPUs, and Ray has 4"):
        RayEngine(cpus_per_actor=5).run(SQUARES, squares(3), work)
    with pytest.raises(DupqError, match="no worker started within 3 seconds"):
        RayEngine(cpus_per_actor=5, actors=1, timeout_s=3).run(SQUARES, squares(3), work)


def test_threads_of_a_worker(engine: RayEngine, work: WorkFolder) -> None:
    engine.run(SQUARES, squares(0), work)
    RayEngine(cpus_per_actor=2).run(Task("threads", make_threads), squares(2), work)
    assert {part.split()[0] for part in parts(work).values()} == {b"2"}


@given(subsets=st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=3), engines=st.data())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_engine_completes_the_parts_of_another(
    engine: RayEngine, tmp_path_factory: pytest.TempPathFactory, subsets: list[set[int]], engines: st.DataObject
) -> None:
    """Any subset of finished parts, any engine: the same parts, each computed once."""
    work = WorkFolder(tmp_path_factory.mktemp("work"))
    kinds: list[Engine] = [LocalEngine(), LocalEngine(2), engine]
    for numbers in [*subsets, set(range(6))]:
        chosen = engines.draw(st.sampled_from(kinds))
        chosen.run(SQUARES, [unit for unit in squares(6) if unit.spec["number"] in numbers], work)
    assert parts(work) == right(6)
    assert {count_attempts(work, name) for name in right(6)} == {1}


# ---- the driver ---------------------------------------------------------------------------------------------------

DRIVER = """
import sys
from dupq.engine.ray import RayEngine
from dupq.engine.work_folder import WorkFolder
from tests.engine.tasks import SQUARES, squares
if __name__ == "__main__":
    work = WorkFolder(sys.argv[1])
    with work.hold({"plan": 1}), RayEngine(cpus=4, actors=2) as engine:
        engine.run(SQUARES, squares(8, u004={"waits_for": "go"}), work)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_signal_to_the_driver_and_the_command_again(
    work: WorkFolder, tmp_path: Path, request: pytest.FixtureRequest, number: int
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), work.location]
    folder = tempfile.mkdtemp(dir="/tmp")  # a kill leaves Ray's folder of logs and sockets there
    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder}
    log = tmp_path / "log"
    with (
        log.open("w") as stream,
        subprocess.Popen(command, env=environment, start_new_session=True, stderr=stream) as driver,
    ):
        wait_until(lambda: len(work.names("squares")) == 7 or driver.poll() is not None, 300)
        assert driver.poll() is None, log.read_text()
        wait_until(lambda: work.names("running"))
        if number == signal.SIGINT:
            os.killpg(driver.pid, number)  # as a terminal sends it
        else:
            driver.kill()
        driver.wait(120)
    wait_until(lambda: not processes_of(driver.pid), 120)
    finished = work.names("squares")
    work.write("go", b"")
    with subprocess.Popen(command, env=environment, start_new_session=True) as driver:
        assert driver.wait(300) == 0
    wait_until(lambda: not processes_of(driver.pid), 120)
    assert parts(work) == right(8)
    assert len(finished) == 7
    assert {count_attempts(work, name) for name in finished} == {1}
    assert count_attempts(work, "squares/004") == 2


# ---- addresses ----------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


JOIN = """
import sys
from dupq.engine.ray import RayEngine
from dupq.engine.work_folder import WorkFolder
from tests.engine.tasks import SQUARES, squares
if __name__ == "__main__":
    with RayEngine(address=sys.argv[1], actors=2) as engine:
        engine.run(SQUARES, squares(4), WorkFolder(sys.argv[2]))
"""


def test_a_cluster_is_joined_and_left_as_it_was(tmp_path: Path) -> None:
    script = tmp_path / "join.py"
    script.write_text(JOIN)
    head, client = free_port(), free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
    }
    folder = tempfile.mkdtemp(dir="/tmp")  # a socket's path is short
    start = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=4", "--num-gpus=0"),
        *(f"--port={head}", f"--ray-client-server-port={client}", "--node-ip-address=127.0.0.1"),
        *("--include-dashboard=false", f"--object-store-memory={128 << 20}", f"--temp-dir={folder}"),
    ]
    with subprocess.Popen(start, env=environment, start_new_session=True, stdout=subprocess.DEVNULL) as cluster:
        try:
            for number, address in enumerate((f"127.0.0.1:{head}", f"ray://127.0.0.1:{client}")):
                port = (head, client)[number]
                wait_until(lambda port=port: answers(port) or cluster.poll() is not None, 120)
                work = WorkFolder(tmp_path / f"work{number}")
                done = subprocess.run(
                    [sys.executable, str(script), address, work.location],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stderr
                assert parts(work) == right(4)
                assert cluster.poll() is None
        finally:
            os.killpg(cluster.pid, signal.SIGTERM)
            try:
                cluster.wait(60)
            finally:
                wait_until(lambda: not processes_of(cluster.pid), 60)
                shutil.rmtree(folder, ignore_errors=True)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_an_address_that_does_not_answer(work: WorkFolder, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setattr(ray_engine, "ANSWER_SECONDS", 5.0)
    monkeypatch.setattr(ray_engine, "_is_joined", lambda: False)  # in place of the Ray of the other tests
    start = time.monotonic()
    with pytest.raises(InputError, match="no Ray answered within 5 seconds"):
        RayEngine(f"{prefix}127.0.0.1:{free_port()}").run(SQUARES, squares(1), work)
    assert time.monotonic() - start < 60


def test_an_address_that_is_none(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "_is_joined", lambda: False)
    with pytest.raises(InputError, match=r"address 127\.0\.0\.1:port: Ray could not be joined"):
        RayEngine("127.0.0.1:port").run(SQUARES, squares(1), work)


@pytest.mark.parametrize(
    ("name", "value"), [("actors", 0), ("cpus", 1), ("cpus_per_actor", 0), ("timeout_s", float("nan"))]
)
def test_numbers_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be"):
        RayEngine(**{name: value})
