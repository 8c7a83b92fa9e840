"""The commands as a user calls them, on tiny networks and files of our own."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dupq.cli import console, score
from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.models.onnx import runtime
from dupq.pipeline import DuplicatePipeline
from dupq.types import QuestionPair
from tests.models.test_embedding_cache import Counting
from tests.questions import labelled_pairs
from tests.test_pipeline import TABLE, noisy


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    rows = [{"question1": p.question1, "question2": p.question2, "label": p.label} for p in labelled_pairs()]
    write_rows(path, rows, ["question1", "question2", "label"])
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_bi_encoder: Path) -> Path:
    """A pipeline folder that decides; its labels follow its own scores, so that there is something to calibrate."""
    pipeline = DuplicatePipeline.from_networks(bi_encoder=tiny_bi_encoder)
    scores = pipeline.raw_scores(TABLE.left, TABLE.right)
    table = noisy(TABLE)
    table.labels[:] = scores > sorted(scores)[len(scores) // 2]
    table.labels[::7] = 1 - table.labels[::7]
    folder = tmp_path_factory.mktemp("pipelines") / "tiny"
    pipeline.calibrate(table).save(folder)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_score_prints_probability_decision_and_threshold(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    status, out, err = run(capsys, "score", "--model", model, "Who invented chess?", "Who invented chess?")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert re.fullmatch(
        r"duplicate   probability [01]\.\d{3} \(duplicate from 0\.\d{3} at a base rate of [\d.]+ %\)", lines[0]
    )
    assert lines[1] == "Threshold: highest F1 on 960 labelled pairs; no guarantee (--verbose: details)"
    status, out, _ = run(capsys, "score", "--model", model, "--verbose", "Who invented chess?", "Who invented chess?")
    assert DuplicatePipeline.from_pretrained(model).guarantee in out
    status, out, _ = run(capsys, "score", "--model", model, "--json", "Who invented chess?", "Is sailing fun?")
    printed = json.loads(out)
    assert 0 <= printed["probability"] <= 1
    assert printed["decision"] in ("duplicate", "review", "distinct")
    assert printed["guarantee"]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_a_scored_file_keeps_rows_and_texts(
    capsys: pytest.CaptureFixture[str], model: Path, pairs_file: Path, tmp_path: Path, ending: str
) -> None:
    from dupq.data.reading import read_pairs

    output = tmp_path / f"scored.{ending}"
    status, out, _ = run(capsys, "score", "--model", model, "--pairs", pairs_file, "-o", output, "--json")
    assert status == 0
    assert json.loads(out)["pairs"] == len(labelled_pairs())
    again = list(read_pairs(output))
    assert [(p.question1, p.question2) for p in again] == [(p.question1, p.question2) for p in labelled_pairs()]


def test_standard_input_to_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    lines = b'{"text1": "Who invented chess?", "text2": "who invented CHESS"}\n' * 3
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    status, out, err = run(capsys, "score", "--model", model, "--pairs", "-", "--format", "jsonl", "-o", "-")
    assert status == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 3
    assert "3 pairs" in err


def test_bad_rows_stop_the_run_or_are_listed(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    pairs, output = tmp_path / "pairs.tsv", tmp_path / "scored.jsonl"
    pairs.write_bytes(b"question1\tquestion2\nIs go hard?\tIs go easy?\n \tIs go fun?\nBroken \xff?\tIs go fun?\n")
    status, out, err = run(capsys, "score", "--model", model, "--pairs", pairs, "-o", output)
    assert (status, out) == (2, "")
    assert "row 2" in err
    assert "blank" in err
    assert not output.exists()
    status, out, err = run(capsys, "score", "--model", model, "--pairs", pairs, "-o", output, "--skip-bad")
    assert status == 0
    assert len(output.read_text().splitlines()) == 1
    assert "read 3 rows: 1 used, 2 left out" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.tsv", "scored.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["score", "only one"], "QUESTION must be given twice, got 1"),
        (["score", "a", "b", "--pairs", "c.csv"], "give one of them"),
        (["score", "--pairs", "c.csv"], "--pairs needs an output"),
        (["score", "--pairs", "c.csv", "-o", "out.doc"], "cannot be written"),
        (["score", "--model", "nowhere/at/all", "a", "b"], "no such folder"),
        (["data", "check", "missing.csv", "missing.csv"], "o such file"),
        (["data", "split", "missing.csv", "-o", "somewhere"], "o such file"),
        (["calibrate", "pairs.csv", "-o", "somewhere"], "--model"),
    ],
)
def test_mistakes_are_told_in_one_message(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    printed: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("dupq: ")
    assert printed in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_scored_as_it_is_read_and_its_texts_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "CHUNK", 4)
    embedder = Counting()
    pipeline = DuplicatePipeline(bi_encoder=embedder).calibrate(noisy(TABLE))
    embedder.seen.clear()
    read = 0

    def pairs() -> Iterator[QuestionPair]:
        nonlocal read
        for left, right in zip(TABLE.left[:40], TABLE.right[:40], strict=True):
            read += 1
            yield QuestionPair(left, right)

    counts: Counter[str] = Counter()
    scored = score._score_rows(
        score._with_embedding_cache(pipeline), pairs(), counts, Counter(), Counter(), str, lambda done, total: None
    )
    assert next(scored)["question1"] == TABLE.left[0]
    assert read == 4
    assert len(list(scored)) == 39
    assert sum(counts.values()) == 40
    assert len(embedder.seen) == len({*TABLE.left[:40], *TABLE.right[:40]})


def test_slow_work_is_told_of_and_quick_work_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "SLOW_SECONDS", 0.01)
    with console.note_if_slow("opening the model ..."):
        time.sleep(0.2)
    assert capsys.readouterr().err == "opening the model ...\n"
    monkeypatch.setattr(console, "SLOW_SECONDS", 30.0)
    with console.note_if_slow("opening the model ..."):
        pass
    assert capsys.readouterr().err == ""


def test_threads_and_device_reach_the_networks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Watched(runtime.Runner):
        def __init__(self, network: runtime.RuntimeNetwork, threads: int | None = None) -> None:
            super().__init__(network, threads)
            asked.append(self.threads)

    monkeypatch.setattr(runtime, "Runner", Watched)
    pair = ("Who invented chess?", "Who was it that invented chess?")
    assert run(capsys, "score", "--threads", "3", *pair)[0] == 0
    assert asked == [3, 3]
    status, _, err = run(capsys, "score", "--device", "cuda", *pair)
    assert status == 2
    assert "an int8 network runs on the processor only" in err
    status, _, err = run(capsys, "score", "--threads", "0", *pair)
    assert status == 2
    assert err.count("dupq:") == 1


def test_split_and_leaks(capsys: pytest.CaptureFixture[str], pairs_file: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits"
    status, out, _ = run(capsys, "data", "split", pairs_file, "-o", splits, "--fractions", 0.5, 0.1, 0.2, 0.2, "--json")
    assert status == 0
    report = json.loads(out)
    assert sum(part["pairs"] for part in report["splits"].values()) == report["pairs"]
    status, out, _ = run(capsys, "data", "check", splits / "train.jsonl", splits / "test.jsonl")
    assert status == 0
    assert out.startswith("no leak")
    status, out, _ = run(capsys, "data", "check", pairs_file, splits / "test.jsonl")
    assert status == 1
    assert out.startswith("LEAK")


def test_fit_runs_the_whole_chain_and_goes_on_where_it_was(
    capsys: pytest.CaptureFixture[str], pairs_file: Path, tiny_base: Path, tmp_path: Path
) -> None:
    arguments = ["fit", pairs_file, "-o", tmp_path / "model", "--base", tiny_base, "--epochs", 4]
    arguments += ["--learning-rate", 5e-3, "--precision", "float32", "--batch-size", 16, "--max-length", 64, "--json"]
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    assert json.loads(out)["metrics"]["average_precision"]["value"] > 0.6
    assert "[5/5]" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.work"]
    pipeline = DuplicatePipeline.from_pretrained(tmp_path / "model")
    assert pipeline.blend is not None
    first = pipeline.score("Who invented chess?", "Which person came up with chess first?")
    trained = (tmp_path / "model.work" / "cross-encoder" / "model.safetensors").stat().st_mtime_ns
    status, _, err = run(capsys, *arguments)
    assert status == 0, err
    assert (tmp_path / "model.work" / "cross-encoder" / "model.safetensors").stat().st_mtime_ns == trained
    again = DuplicatePipeline.from_pretrained(tmp_path / "model")
    assert again.score("Who invented chess?", "Which person came up with chess first?") == first


def test_fit_into_the_folder_itself(
    capsys: pytest.CaptureFixture[str], pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    status, _, err = run(capsys, "fit", pairs_file, "-o", ".", "--base", tmp_path / "nothing")
    assert status == 2
    assert "cannot be opened" in err
    assert (tmp_path / "model.work" / "splits" / "train.jsonl").is_file()


def test_train_calibrate_and_evaluate_by_hand(
    capsys: pytest.CaptureFixture[str], pairs_file: Path, tiny_base: Path, tmp_path: Path
) -> None:
    splits, network, folder = tmp_path / "splits", tmp_path / "bi", tmp_path / "pipeline"
    assert run(capsys, "data", "split", pairs_file, "-o", splits, "--fractions", 0.4, 0.1, 0.3, 0.2)[0] == 0
    status, out, err = run(
        capsys, "train", "bi-encoder", splits, "-o", network, "--base", tiny_base, "--epochs", 4,
        "--learning-rate", 5e-3, "--precision", "float32", "--batch-size", 16, "--max-length", 64, "--json",
    )  # fmt: skip
    assert status == 0, err
    assert json.loads(out)["kind"] == "bi-encoder"
    status, out, err = run(
        capsys, "calibrate", splits, "-o", folder, "--bi-encoder", network, "--policy", "recall>=0.6"
    )
    assert status == 0, err
    assert "recall" in out
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    status, out, err = run(capsys, "evaluate", folder, splits, "-o", report, "--html", page, "--attach")
    assert status == 0, err
    assert json.loads(report.read_text())["metrics"]["roc_auc"]
    assert page.read_text().count("<svg") >= 3
    assert DuplicatePipeline.from_pretrained(folder).report.to_dict() == json.loads(report.read_text())
    # What a network was trained on cannot calibrate it.
    status, out, err = run(capsys, "calibrate", splits / "train.jsonl", "-o", tmp_path / "x", "--model", folder)
    assert status == 2
    assert "trained on" in err
    assert not (tmp_path / "x").exists()
