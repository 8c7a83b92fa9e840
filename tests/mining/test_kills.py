"""Kills during a whole mining run: only the unit of a killed worker is repeated, and a killed command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.engine.base import Engine
from dupq.engine.local import LocalEngine
from dupq.engine.unit_queue import ATTEMPTS, count_attempts
from dupq.engine.work_folder import WorkFolder
from dupq.mining import checkpoint
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.pipeline import DuplicatePipeline
from dupq.search import tiles
from tests.engine.conftest import processes_of, wait_until
from tests.mining.stopping import PART, Stopping
from tests.mining.test_engine import assert_same, contents
from tests.mining.test_find_duplicates import forum

ROOT = Path(__file__).parents[2]
SETTINGS = MiningSettings(min_cosine=0.6, max_judged=150)
KILLED = r"^vectors/00001|/search/0000000064-0000000128|/panels/0000000064|/scores/.*-00000"
ENGINES = ["local", pytest.param("ray", marks=pytest.mark.ray)]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = LocalEngine(2) if request.param == "local" else request.getfixturevalue("ray_engine")
    return found


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PART", PART)
    monkeypatch.setattr(tiles, "TILE_PRODUCTS", PART * PART)


def attempts(work: WorkFolder) -> dict[str, int]:
    names = [record.removeprefix(f"{ATTEMPTS}/") for record in work.names(ATTEMPTS)]
    return {name: count_attempts(work, name) for name in names}


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_killed_worker_costs_its_unit_one_attempt_in_every_stage(engine: Engine, tmp_path: Path) -> None:
    shipped = DuplicatePipeline.from_pretrained(threads=1)
    whole = find_duplicates(shipped, forum(), settings=SETTINGS, engine=LocalEngine(), work=tmp_path / "whole")
    marks, killed, ended = tmp_path / "marks", set[str](), threading.Event()
    marks.mkdir()

    def kill() -> None:
        while not ended.wait(0.02):
            for mark in marks.glob("*.pid"):
                if (name := mark.stem.replace("+", "/")) not in killed:
                    killed.add(name)
                    os.kill(int(mark.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        work = tmp_path / "work"
        stopping = Stopping(engine, marks, KILLED)
        found = find_duplicates(shipped, forum(), settings=SETTINGS, engine=stopping, work=work)
    finally:
        ended.set()
        thread.join()
    assert_same(found, whole)
    assert {name.split("/")[-2] for name in killed} == {"vectors", "search", "panels", "scores"}
    counted = attempts(WorkFolder(work))
    assert counted == {name: 2 if name in killed else 1 for name in counted}
    assert contents(work) == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", ENGINES)
def test_a_killed_command_goes_on_where_it_was(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows("questions.csv", [{"id": f"q{at}", "text": text} for at, text in enumerate(forum())], ["id", "text"])
    options = ["mine", "questions.csv", "--min-cosine", "0.6", "--max-judged", "150", "--threads", "1"]
    whole = ["--engine", "local", "--work", "whole"]
    assert main([*options, "-o", "whole.csv", "--groups", "whole-groups.csv", *whole]) == 0
    searches = {part for part in contents(tmp_path / "whole") if "/search/" in part}
    marks, work = tmp_path / "marks", WorkFolder("work")
    marks.mkdir()
    folder = tempfile.mkdtemp(dir="/tmp")  # a kill leaves Ray's folder of logs and sockets there
    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "tests.mining.stopping", str(marks), "/search/0000000064-0000000128", *options]
    command += ["-o", "pairs.csv", "--groups", "groups.csv", "--engine", name, "--workers", "2", "--work", "work"]
    log = tmp_path / "log"
    with (
        log.open("w") as stream,
        subprocess.Popen(command, env=environment, start_new_session=True, stdout=stream, stderr=stream) as driver,
    ):
        wait_until(lambda: len(searches & work.names()) == len(searches) - 1 or driver.poll() is not None, 600)
        assert driver.poll() is None, log.read_text()
        wait_until(lambda: [*marks.glob("*.pid")])
        driver.kill()
    wait_until(lambda: not processes_of(driver.pid))
    assert not Path("pairs.csv").exists()
    left = {*os.listdir(folder)}
    finished = {part: os.stat(tmp_path / "work" / part).st_mtime_ns for part in contents(tmp_path / "work")}
    again = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    assert again.wait(600) == 0
    wait_until(lambda: not processes_of(again.pid))
    assert {*os.listdir(folder)} <= left  # the second Ray has left nothing
    assert {part: os.stat(tmp_path / "work" / part).st_mtime_ns for part in finished} == finished
    (killed,) = (mark.stem.replace("+", "/") for mark in marks.glob("*.pid"))
    counted = attempts(work)
    assert counted == {part: 2 if part == killed else 1 for part in counted}
    assert contents(tmp_path / "work") == contents(tmp_path / "whole")
    assert Path("pairs.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert Path("groups.csv").read_bytes() == Path("whole-groups.csv").read_bytes()
