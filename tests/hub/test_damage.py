"""A damaged folder is refused by one error of ours; a save is whole, whoever interrupts it or saves beside it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

from dupq.cli.main import main
from dupq.errors import DupqError, ModelFolderError, OutputError
from dupq.hub.folder import open_folder, replacing_folder, require_place, write_manifest
from dupq.hub.inspect import inspect_folder
from dupq.hub.manifest import MANIFEST
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

KINDS = ("flip", "cut", "blank", "insert", "empty", "swap")


def damaged(data: bytes, kind: str, other: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    if kind == "blank":
        return data[:at] + bytes(len(data[at : at + 64])) + data[at + 64 :]
    if kind == "insert":
        return data[:at] + rng.randbytes(rng.choice([1, 9])) + data[at:]
    return other if kind == "swap" else b""


def reads_the_same(before: bytes, after: bytes) -> bool:
    try:
        return bool(json.loads(before) == json.loads(after))
    except ValueError:
        return False


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "pipeline"))


def test_any_damage_is_one_error_of_ours(folder: Path) -> None:
    rng = random.Random(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    refused = 0
    cases = list(product(files, KINDS))
    for path, kind in cases:
        before = path.read_bytes()
        after = damaged(before, kind, rng.choice(files).read_bytes(), rng)
        if after == before or (path.name == MANIFEST and reads_the_same(before, after)):
            continue
        path.write_bytes(after)
        with pytest.raises(ModelFolderError) as caught:
            DuplicatePipeline.from_pretrained(folder)
        assert str(path.name) in str(caught.value), (path, kind)
        if path.suffix not in (".md", ".svg", ".html"):
            with pytest.raises(ModelFolderError):
                inspect_folder(folder)
        assert main(["score", "--model", str(folder), "a", "b"]) == 2
        refused += 1
        path.write_bytes(before)
    assert refused > 0.9 * len(cases)
    open_folder(folder)


def test_damage_under_a_manifest_that_knows_it_opens_or_is_an_error_of_ours(folder: Path) -> None:
    """What no checksum can tell: files that were damaged before they were sealed."""
    rng = random.Random(1)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in (".json", ".safetensors"))
    sealed = (folder / MANIFEST).read_bytes()
    content = {key: value for key, value in json.loads(sealed).items() if key not in ("checksum", "files")}
    refused = 0
    for number in range(60):
        path, kind = files[number % len(files)], KINDS[number % len(KINDS)]
        if path.name == MANIFEST:
            continue
        before = path.read_bytes()
        path.write_bytes(damaged(before, kind, rng.choice(files).read_bytes(), rng))
        write_manifest(folder, dict(content))
        try:
            DuplicatePipeline.from_pretrained(folder).score_pairs(["Is chess fun?"], ["Who invented chess?"])
        except DupqError:
            refused += 1
        path.write_bytes(before)
        (folder / MANIFEST).write_bytes(sealed)
    assert refused > 20
    open_folder(folder)


# ---- saving ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words() -> DuplicatePipeline:
    """A pipeline that is saved at once."""
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_threads_that_save_to_one_folder_do_not_mix(words: DuplicatePipeline, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    words.save(folder)
    (folder / "LICENSE").write_text("ours")
    (folder / ".git").mkdir()
    several = [words.with_base_rate(rate) for rate in (0.1, 0.2, 0.3, 0.4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: several[number % 4].save(folder), range(24)))
    assert open_folder(folder)["base_rate"] in (0.1, 0.2, 0.3, 0.4)
    assert (folder / "LICENSE").read_text() == "ours"
    assert (folder / ".git").is_dir()
    assert names(tmp_path) == ["pipeline"]


def test_a_place_that_is_being_replaced_is_no_foreign_one(
    words: DuplicatePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pipeline"
    words.save(folder)
    replace, between, asked = os.replace, threading.Event(), threading.Event()

    def slowly(source: Path, target: Path) -> None:
        replace(source, target)
        if source == folder and not between.is_set():
            between.set()
            asked.wait(0.5)  # the other thread asks now, and must wait for the second rename

    monkeypatch.setattr("dupq.hub.folder.os.replace", slowly)
    with ThreadPoolExecutor(2) as pool:
        saving = pool.submit(words.save, folder)
        assert between.wait(60)
        asking = pool.submit(require_place, folder)
        asking.add_done_callback(lambda _: asked.set())
        saving.result()
        asking.result()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").touch()
    (tmp_path / "file").touch()
    for name in ("foreign", "file"):
        with pytest.raises(OutputError, match="no pipeline folder"):
            require_place(tmp_path / name)
    require_place(tmp_path / "not" / "there")


SAVE = """
import sys
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table
from dupq.pipeline import DuplicatePipeline

pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
pipeline = pipeline.with_base_rate(float(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    pipeline.save(sys.argv[1])
"""
ROOT = Path(__file__).resolve().parents[2]


def saving(folder: Path, rate: float, times: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SAVE, str(folder), str(rate), str(times)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_that_save_to_one_folder_do_not_mix(words: DuplicatePipeline, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    processes = [saving(folder, rate, 15) for rate in (0.2, 0.4)]
    for process in processes:
        begin(process)
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert open_folder(folder)["base_rate"] in (0.2, 0.4)
    assert names(tmp_path) == ["pipeline"]


STOPPED = """
import os, signal, sys
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table
from dupq.pipeline import DuplicatePipeline
from dupq.hub import folder, pipeline_folder

pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table()).with_base_rate(0.2)
stages = {"writing": (pipeline_folder, "write_pages")}
stages |= {"flushing": (folder, "_flush"), "renaming": (folder, "_take_place")}
setattr(*stages[sys.argv[2]], lambda *_: os.kill(os.getpid(), int(sys.argv[3])))
pipeline.save(sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("stage", ["writing", "flushing", "renaming"])
def test_a_save_that_is_stopped_leaves_the_older_folder(
    words: DuplicatePipeline, tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    folder = tmp_path / "pipeline"
    words.with_base_rate(0.3).save(folder)
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(folder), stage, str(int(number))],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert open_folder(folder)["base_rate"] == 0.3
    if number is signal.SIGINT:
        assert names(tmp_path) == ["pipeline"]
    words.save(folder)  # what a killed process leaves behind is in nobody's way
    open_folder(folder)


def half_written(folder: Path, interrupted: bool) -> None:
    with replacing_folder(folder) as beside:
        (beside / "half.json").write_text("{}")
        if interrupted:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["block", "flush", "rename"])
def test_an_error_at_any_stage_leaves_the_older_folder(
    words: DuplicatePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    folder = tmp_path / "pipeline"
    words.save(folder)
    (folder / "LICENSE").write_text("ours")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    if stage == "rename":
        monkeypatch.setattr("dupq.hub.folder.os.replace", refuse)
    if stage == "flush":
        monkeypatch.setattr("dupq.hub.folder._flush", fail)
    with pytest.raises((DupqError, KeyboardInterrupt)):
        half_written(folder, interrupted=stage == "block")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert names(tmp_path) == ["pipeline"]
