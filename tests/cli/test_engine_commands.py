"""`--engine` of mine and score, and `dupq embed`: the same files as without an engine, and clear refusals."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq import errors
from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.engine.work_folder import WorkFolder
from dupq.mining import checkpoint, stages, streams, units
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, THINGS, labelled_table

open_pipeline = units.open_pipeline
MINE = ["mine", "questions.csv", "-o", "mined.csv", "--work", "w", "--engine"]
TEXTS = [phrase.format(thing=thing) for thing in THINGS[:5] for asked in INTENTS for phrase in asked]


@pytest.fixture(scope="module")
def counted() -> DuplicatePipeline:
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, counted: DuplicatePipeline, tmp_path: Path) -> None:
    """Small parts, and a pipeline that workers find in this process."""
    monkeypatch.setattr(checkpoint, "PART", 32)
    monkeypatch.setattr(streams, "SLICE", 20)
    monkeypatch.setattr("dupq.cli.score.CHUNK", 20)
    for module in ("dupq.cli.mine", "dupq.cli.score"):
        monkeypatch.setattr(f"{module}.open_pipeline", lambda args: counted)
    monkeypatch.setattr("dupq.cli.embed._open_pipeline", lambda args: counted)
    for module in (units, streams):
        monkeypatch.setattr(module, "open_pipeline", lambda work: counted)
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"q{at}", "text": text} for at, text in enumerate(TEXTS)]
    write_rows("questions.csv", rows, ["id", "text"])
    pairs = [{"question1": a, "question2": f"<p>{b}</p>"} for a, b in zip(TEXTS, TEXTS[7:], strict=False)]
    write_rows("pairs.csv", [*pairs, {"question1": "Sí, ¿dónde?", "question2": TEXTS[0]}], ["question1", "question2"])


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("engine", [["--engine", "local"], ["--workers", "1"]])
def test_mine_writes_the_same_files(capsys: pytest.CaptureFixture[str], engine: list[str]) -> None:
    plain = run(capsys, "mine", "questions.csv", "-o", "a.jsonl", "--groups", "ga.csv", "--neighbours", 3)
    found = run(
        capsys,
        "mine",
        "questions.csv",
        "-o",
        "b.jsonl",
        "--groups",
        "gb.csv",
        "--neighbours",
        3,
        *engine,
        "--work",
        "w",
    )
    assert found == plain
    assert Path("b.jsonl").read_bytes() == Path("a.jsonl").read_bytes()
    assert Path("gb.csv").read_bytes() == Path("ga.csv").read_bytes()
    assert Path("w/plan.json").is_file()
    again = run(capsys, "mine", "questions.csv", "-o", "b.jsonl", "--neighbours", 3, *engine, "--work", "w")
    assert again["pairs_written"] == plain["pairs_written"]
    write_rows("other.csv", [{"id": 1, "text": TEXTS[0]}, {"id": 2, "text": TEXTS[1]}], ["id", "text"])
    printed = refused(capsys, "mine", "other.csv", "-o", "b.jsonl", *engine, "--work", "w")
    assert "another input" in printed
    assert "--fresh" in printed
    run(capsys, "mine", "other.csv", "-o", "b.jsonl", *engine, "--work", "w", "--fresh")


def test_score_writes_the_same_file(capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(capsys, "score", "--pairs", "pairs.csv", "-o", "a.jsonl")
    options = ["--engine", "local", "--work", "w"]
    found = run(capsys, "score", "--pairs", "pairs.csv", "-o", "b.jsonl", *options)
    assert found == plain | {"output": "b.jsonl"}
    assert Path("b.jsonl").read_bytes() == Path("a.jsonl").read_bytes()
    parts = sorted(Path("w/results").iterdir())
    assert len(parts) == 5
    for part in parts[::2]:
        part.unlink()
    run(capsys, "score", "--pairs", "pairs.csv", "-o", "c.jsonl", *options)
    assert Path("c.jsonl").read_bytes() == Path("a.jsonl").read_bytes()
    lines = Path("pairs.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    for changed in ([*lines[:40], lines[3], *lines[41:]], lines[:-1], lines[:21], [*lines, lines[5]], lines[:2]):
        Path("other.csv").write_text("".join(changed), encoding="utf-8")
        printed = refused(capsys, "score", "--pairs", "other.csv", "-o", "c.jsonl", *options)
        assert "the work folder is of another input" in printed
        assert "--fresh" in printed
    run(capsys, "score", "--pairs", "other.csv", "-o", "c.jsonl", *options, "--fresh")
    assert "another plan" in refused(capsys, "mine", "questions.csv", "-o", "d.csv", "--engine", "local", "--work", "w")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_embed_writes_vectors_in_the_order_of_the_questions(
    capsys: pytest.CaptureFixture[str], counted: DuplicatePipeline, dtype: str
) -> None:
    found = run(capsys, "embed", "questions.csv", "-o", "vectors", "--dtype", dtype)
    assert (found["questions"], found["shards"], found["dimensions"]) == (90, 3, 64)
    vectors = np.concatenate([np.load(path) for path in sorted(Path("vectors/vectors").iterdir())])
    assert vectors.dtype == np.dtype(dtype)
    assert (vectors == WordEmbedder().embed(TEXTS).astype(dtype)).all()
    ids = [id_ for path in sorted(Path("vectors/ids").iterdir()) for id_ in json.loads(path.read_text("utf-8"))]
    assert ids == [f"q{at}" for at in range(90)]
    names = {path.name for path in Path("vectors").iterdir()} - {"lock"}
    assert {path.name for path in Path("vectors").rglob("*") if path.is_file()} & {"words.json"} == set()
    assert names >= {"vectors", "ids", "embeddings.json", "plan.json"}
    Path("vectors/vectors/00001.npy").unlink()
    assert run(capsys, "embed", "questions.csv", "-o", "vectors", "--dtype", dtype, "--engine", "local") == found
    assert (np.concatenate([np.load(path) for path in sorted(Path("vectors/vectors").iterdir())]) == vectors).all()
    write_rows("other.csv", [{"id": 1, "text": TEXTS[0]}], ["id", "text"])
    assert "another input" in refused(capsys, "embed", "other.csv", "-o", "vectors", "--dtype", dtype)
    assert run(capsys, "embed", "other.csv", "-o", "vectors", "--fresh")["questions"] == 1
    assert len(list(Path("vectors/vectors").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["mine", "questions.csv", "-o", "a.csv", "--engine", "local"], "--engine needs --work"),
        (["mine", "questions.csv", "-o", "-", "--workers", "2"], "--engine needs --work"),
        (["score", "--pairs", "pairs.csv", "-o", "a.csv", "--engine", "local"], "--engine needs --work"),
        (["score", "--pairs", "pairs.csv", "-o", "a.csv", "--work", "w"], "need --engine or --workers"),
        (["score", "How?", "Why?", "--engine", "local"], "need --pairs"),
        (["mine", "questions.csv", "-o", "a.csv", "--address", "auto", "--work", "w"], "--address needs --engine ray"),
        (
            ["mine", "questions.csv", "-o", "a.csv", "--workers", "0", "--work", "w"],
            "workers must be at least 1, got 0",
        ),
        (["mine", "questions.csv", "-o", "w/a.csv", "--workers", "1", "--work", "w"], "got one with -o w/a.csv in it"),
        (["embed", "questions.csv", "-o", "-"], "the output must be a folder"),
        (["embed", "questions.csv", "-o", "."], "files of something else"),
        (["embed", "missing.csv", "-o", "vectors"], "missing.csv"),
    ],
)
def test_what_is_wrong_gives_one_error(capsys: pytest.CaptureFixture[str], arguments: list[str], printed: str) -> None:
    assert printed in refused(capsys, *arguments)


def test_a_missing_extra_is_named_with_its_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    for command in (MINE, ["score", "--pairs", "pairs.csv", "-o", "a.csv", "--work", "w", "--engine"]):
        printed = refused(capsys, *command, "ray")
        assert "the engine ray needs " in printed
        assert "pip install 'dupq[ray]'" in printed


def test_a_worker_without_the_model_is_one_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "open_pipeline", open_pipeline)
    monkeypatch.setattr(stages, "write_pipeline", lambda pipeline, work: None)  # a folder that the worker does not see
    printed = refused(capsys, *MINE, "local")
    assert "a worker cannot read the pipeline" in printed
    assert "every worker reaches" in printed
    assert not Path("mined.csv").exists()


def test_a_full_disk_is_one_error_and_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "vectors" in self.parts and "00001.npy" in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        printed = refused(capsys, *MINE, "local")
    assert "vectors/00001.npy could not be written (No space left on device)" in printed
    assert "what is finished is kept" in printed
    assert [path.name for path in Path("w/vectors").iterdir()] == ["00000.npy"]
    run(capsys, *MINE, "local")


def test_two_runs_in_one_folder_are_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    with WorkFolder("w").hold({}):
        printed = refused(capsys, *MINE, "local")
    assert "another run is using this work folder" in printed
