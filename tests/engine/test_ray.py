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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dupq.engine import ray as ray_engine
from dupq.engine import unit_queue
from dupq.engine.base import MAX_ATTEMPTS, Engine, Task, Unit, UnitError
from dupq.engine.local import LocalEngine
from dupq.engine.ray import RayEngine
from dupq.engine.unit_queue import count_attempts
from dupq.engine.work_folder import WorkFolder
from dupq.errors import DupqError, InputError, ModelFolderError, OutputError
from tests.engine.conftest import processes_of, wait_until
from tests.engine.tasks import (
    SQUARES,
    make_full,
    make_killed,
    make_pid,
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
def engine(ray_engine: RayEngine) -> RayEngine:
    return ray_engine


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
    with pytest.raises(OutputError, match=r"squares/002 could not be written \(No space left on device\)"):
        engine.run(SQUARES, squares(3, u002={"full": True}), work)  # on one of the workers
    engine.run(SQUARES, squares(3), work)
    assert parts(work) == right(3)


def test_no_progress_counts_as_a_failure(engine: RayEngine, work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_queue, "MAX_ATTEMPTS", 1)
    units = squares(3, u001={"waits_for": "never"})
    engine.run(SQUARES, [units[0], units[2]], work)
    hasty = RayEngine(actors=1, timeout_s=1)  # joins the Ray of `engine`, so that it is not its to end
    with pytest.raises(UnitError, match=r"squares/001 .*no unit finished within 1 seconds"):
        hasty.run(SQUARES, units, work)
    assert set(parts(work)) == set(right(3)) - {"squares/001"}
    hasty.close()
    engine.run(SQUARES, squares(3), work)
    assert parts(work) == right(3)


def test_too_few_cpus(engine: RayEngine, work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.run(SQUARES, squares(1), work)
    with pytest.raises(InputError, match="a worker needs 5 CPUs, and Ray has 4"):
        RayEngine(cpus_per_actor=5).run(SQUARES, squares(3), work)
    monkeypatch.setattr(ray_engine, "START_SECONDS", 1.0)
    with pytest.raises(DupqError, match="no worker started within 1 seconds"):
        RayEngine(cpus_per_actor=5, actors=1).run(SQUARES, squares(3), work)


def test_units_do_not_wait_for_workers_that_cannot_start(engine: RayEngine, work: WorkFolder) -> None:
    RayEngine(actors=9).run(SQUARES, squares(12), work)  # of 4 CPUs
    assert parts(work) == right(12)


def test_actors_stay_for_the_next_task(engine: RayEngine, work: WorkFolder, tmp_path: Path) -> None:
    pid = Task("pid", make_pid)
    other = WorkFolder(tmp_path / "other")
    engine.run(pid, squares(4), work)
    engine.run(pid, squares(4), other)
    seen = [set(parts(each).values()) for each in (work, other)]
    assert seen[0] & seen[1]
    for process in seen[0] | seen[1]:
        os.kill(int(process), signal.SIGKILL)  # those that wait are replaced
    engine.run(pid, [Unit(f"last/{at}") for at in range(4)], work)
    last = set(parts(work, "last").values())
    assert not last & (seen[0] | seen[1])
    RayEngine().close()  # did not start this Ray, so that the actors alone end
    wait_until(lambda: not any(Path("/proc", process.decode()).exists() for process in last))
    engine.run(SQUARES, [Unit("squares/010", {"number": 10})], work)


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
def test_a_signal_to_the_driver(
    engine: RayEngine, work: WorkFolder, tmp_path: Path, request: pytest.FixtureRequest, number: int
) -> None:
    """Another Ray goes on with what a killed run has left; see `tests.mining.test_kills` for the same command."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    folder = tempfile.mkdtemp(dir="/tmp")  # a kill leaves Ray's folder of logs and sockets there
    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder}
    log = tmp_path / "log"
    with (
        log.open("w") as stream,
        subprocess.Popen(
            [sys.executable, str(script), work.location], env=environment, start_new_session=True, stderr=stream
        ) as driver,
    ):
        wait_until(lambda: len(work.names("squares")) == 7 or driver.poll() is not None, 600)
        assert driver.poll() is None, log.read_text()
        wait_until(lambda: work.names("running"))
        if number == signal.SIGINT:
            os.killpg(driver.pid, number)  # as a terminal sends it
        else:
            driver.kill()
        driver.wait(300)
    wait_until(lambda: not processes_of(driver.pid))
    if number == signal.SIGINT:
        assert not os.listdir(folder)
    finished = work.names("squares")
    work.write("go", b"")
    with work.hold({"plan": 1}):
        engine.run(SQUARES, squares(8, u004={"waits_for": "go"}), work)
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


@contextmanager
def cluster(log: Path) -> Iterator[tuple[int, int]]:
    """Start a head in a session of its own; yield the ports of the head and of its client server."""
    environment = {**os.environ, **ray_engine.SLOW_START, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    environment["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "300"
    for _ in range(ray_engine.STARTS):  # Ray gives up where one of its processes takes 15 seconds
        head, client, folder = free_port(), free_port(), tempfile.mkdtemp(dir="/tmp")  # a socket's path is short
        start = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=4"),
            *("--num-gpus=0", f"--port={head}", f"--ray-client-server-port={client}", "--include-dashboard=false"),
            *("--node-ip-address=127.0.0.1", f"--object-store-memory={128 << 20}", f"--temp-dir={folder}"),
        ]
        with (
            log.open("w") as stream,
            subprocess.Popen(start, env=environment, start_new_session=True, stdout=stream, stderr=stream) as process,
        ):
            try:
                wait_until(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None)
                if process.poll() is None:
                    wait_until(lambda: answers(client))  # noqa: B023
                    yield head, client
                    assert process.poll() is None
                    return
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(120)
                    wait_until(lambda: not processes_of(process.pid))
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    shutil.rmtree(folder, ignore_errors=True)
    raise AssertionError(log.read_text())


def test_a_cluster_is_joined_and_left_as_it_was(tmp_path: Path) -> None:
    script = tmp_path / "join.py"
    script.write_text(JOIN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    with cluster(tmp_path / "log") as (head, client):
        for number, address in enumerate((f"127.0.0.1:{head}", f"ray://127.0.0.1:{client}")):
            work = WorkFolder(tmp_path / f"work{number}")
            for _ in range(3):
                done = subprocess.run(
                    [sys.executable, str(script), address, work.location],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if "Starting Ray client server failed" not in done.stderr:  # Ray waits for it for a limited time
                    break
            assert done.returncode == 0, done.stderr
            assert parts(work) == right(4)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def _not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Ray of the other tests is not seen."""
    monkeypatch.setattr(ray_engine, "_is_joined", lambda: False)


@pytest.mark.usefixtures("_not_joined")
@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_an_address_where_nothing_listens(work: WorkFolder, prefix: str) -> None:
    with pytest.raises(InputError, match=r"address .*: Ray could not be joined \(.*refused"):
        RayEngine(f"{prefix}127.0.0.1:{free_port()}").run(SQUARES, squares(1), work)


@pytest.mark.usefixtures("_not_joined")
def test_an_address_of_something_else(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "JOIN_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(InputError, match=f"address {address}: no Ray answered within 3 seconds"):
            RayEngine(address).run(SQUARES, squares(1), work)


@pytest.mark.usefixtures("_not_joined")
def test_an_address_that_is_none(work: WorkFolder) -> None:
    with pytest.raises(InputError, match=r"address 127\.0\.0\.1:port: Ray could not be joined"):
        RayEngine("127.0.0.1:port").run(SQUARES, squares(1), work)


@pytest.mark.parametrize(
    ("name", "value"), [("actors", 0), ("cpus", 1), ("cpus_per_actor", 0), ("timeout_s", float("nan"))]
)
def test_numbers_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be"):
        RayEngine(**{name: value})
