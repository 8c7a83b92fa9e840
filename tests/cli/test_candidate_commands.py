"""`dupq calibrate --candidates`, and what `mine` prints of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dupq.data.writing import write_rows
from dupq.pipeline import DuplicatePipeline
from tests.cli.test_commands import model, run
from tests.test_candidate_calibration import judged
from tests.test_pipeline import TABLE

__all__ = ["model"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Judged candidates with weights, every tenth of them undecided."""
    pairs, weights = judged()
    rows = [
        {"question1": a, "question2": b, "label": "?" if at % 10 == 0 else int(label), "weight": weight, "times": 1}
        for at, (a, b, label, weight) in enumerate(zip(pairs.left, pairs.right, pairs.labels, weights, strict=True))
    ]
    write_rows(path := tmp_path / "judged.csv", rows, list(rows[0]))
    return path


def test_judged_candidates_calibrate_those_of_a_pipeline(
    capsys: pytest.CaptureFixture[str], model: Path, file: Path, tmp_path: Path
) -> None:
    command = ("calibrate", "--model", model, "--candidates", file, "--about", "of a test")
    status, out, err = run(capsys, *command, "-o", tmp_path / "ours", "--json")
    assert status == 0, err
    assert "96 rows without a label are left out" in err
    assert "'weight' is read as sampling weights" in err
    printed = json.loads(out)
    before, after = DuplicatePipeline.from_pretrained(model), DuplicatePipeline.from_pretrained(tmp_path / "ours")
    assert printed["judged"] == len(TABLE) * 9 // 10
    assert printed["guarantee"] == after.candidate_decider.guarantee
    assert printed["threshold"] == after.candidate_decider.threshold
    assert after.guarantee == before.guarantee
    status, out, err = run(
        capsys, *command, "-o", tmp_path / "even", "--weight-column", "times", "--policy", "precision>=0.5"
    )
    assert status == 0, err
    even = DuplicatePipeline.from_pretrained(tmp_path / "even").candidate_calibration
    assert even is not None
    assert even.effective_pairs == even.pairs
    assert even.policy.level == 0.5
    assert "calibrated on 864 judged candidates" in out

    write_rows(questions := tmp_path / "q.csv", [{"id": 1, "text": TABLE.left[0]}, {"id": 2, "text": TABLE.right[0]}],
               ["id", "text"])  # fmt: skip
    for folder, stated in ((tmp_path / "ours", True), (model, False)):
        mine = ("mine", questions, "-o", tmp_path / "out.csv", "--min-cosine", "0.001", "--model", folder)
        status, out, err = run(capsys, *mine)
        assert status == 0, err
        assert ("precision >= 0.75 expected among candidates, from 864 judged ones" in out) is stated
        status, out, err = run(capsys, *mine, "--verbose", "--threshold", "0.0001")
        assert ("by 864 judged candidates" in out) is stated
        assert ("mined pairs are not: check a sample" in out) is not stated


def test_a_later_adaptation_names_what_it_leaves_alone(
    capsys: pytest.CaptureFixture[str], model: Path, file: Path, tmp_path: Path
) -> None:
    run(capsys, "calibrate", "--model", model, "--candidates", file, "-o", tmp_path / "ours")
    verdicts = tmp_path / "verdicts.csv"
    rows = [
        {"q1": a, "q2": b, "label": label} for a, b, label in [("Go?", "Why go?", 1), ("Is go fun?", "Go?", 0)] * 20
    ]
    write_rows(verdicts, rows, list(rows[0]))
    status, _, err = run(capsys, "calibrate", "--model", tmp_path / "ours", "--add", verdicts, "-o", tmp_path / "more")
    assert status == 0, err
    assert "mined and flagged candidates stay with 864 judged candidates" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weight-column", "much"], "there is no column 'much'"),
        (["--weight-column", "question1"], "the weight must be a number of 0 or more"),
        (["--label-column", "times"], "no judged candidate of a weight above 0 is a distinct pair"),
        (["--miss-rate", "0.1"], "--miss-rate has no effect with --candidates"),
        (["--policy", "best"], "unknown policy"),
        (["--add", "verdicts.csv"], "--candidates excludes --add"),
    ],
)
def test_what_cannot_serve_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path, file: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    output = tmp_path / "ours"
    status, _, err = run(capsys, "calibrate", "--model", model, "--candidates", file, "-o", output, *options)
    assert status == 2
    assert message in err
    assert not output.exists()


def test_its_options_need_it(capsys: pytest.CaptureFixture[str], model: Path, file: Path, tmp_path: Path) -> None:
    status, _, err = run(
        capsys, "calibrate", "--model", model, "--add", file, "--weight-column", "times", "-o", tmp_path / "ours"
    )
    assert status == 2
    assert "--weight-column needs --candidates" in err
