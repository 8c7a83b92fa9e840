"""The model that ships, and the README that speaks of it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import readme
from dupq import Decision, DuplicatePipeline
from dupq.cli.main import main
from dupq.pipeline import SHIPPED

SAME = [
    ("How can I learn to play chess?", "What is the best way to learn chess?"),
    ("How do I lose weight quickly?", "What is the fastest way to lose weight?"),
    ("Why is the sky blue?", "What makes the sky look blue?"),
    ("How do I reset my email password?", "How can I change my email password if I forgot it?"),
]
OTHER = [
    ("How can I learn to play chess?", "Who won the last chess world championship?"),
    ("How do I lose weight quickly?", "How do I reset my email password?"),
    ("Why is the sky blue?", "Why is grass green?"),
    ("What is the capital of France?", "How large is the population of Brazil?"),
]


@pytest.fixture(scope="module")
def pipeline() -> DuplicatePipeline:
    return DuplicatePipeline.from_pretrained()


def test_it_tells_duplicates_from_distinct_pairs(pipeline: DuplicatePipeline) -> None:
    same = pipeline.score_pairs(*zip(*SAME, strict=True))
    other = pipeline.score_pairs(*zip(*OTHER, strict=True))
    assert min(result.probability for result in same) > max(result.probability for result in other)
    assert [result.decision for result in same] == [Decision.DUPLICATE] * len(SAME)
    assert Decision.DUPLICATE not in [result.decision for result in other]


def test_a_score_is_its_own(pipeline: DuplicatePipeline) -> None:
    left, right = map(list, zip(*SAME, *OTHER, strict=True))
    together = pipeline.raw_scores(left, right)
    assert np.array_equal(together, pipeline.raw_scores(right, left))
    alone = [pipeline.raw_scores([a], [b])[0] for a, b in zip(left, right, strict=True)]
    assert np.abs(together - alone).max() < 1e-5


def test_it_needs_no_torch_and_little_space() -> None:
    code = (
        "import sys\nfrom dupq import DuplicatePipeline\n"
        "result = DuplicatePipeline.from_pretrained().score('Why is the sky blue?', 'What makes the sky blue?')\n"
        "print(result.decision)\n"
        "print(*{'torch', 'transformers', 'sentence_transformers', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["duplicate"]
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 40_000_000


def test_its_report_was_measured_on_unseen_pairs(pipeline: DuplicatePipeline) -> None:
    assert pipeline.report.about["measured_on"] == "pairs that nothing of it was fitted on"
    assert pipeline.report.metrics["average_precision"].value > 0.85
    assert pipeline.trained_on is not None
    assert len(pipeline.trained_on) > 100_000


def test_it_can_be_inspected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(SHIPPED)]) == 0
    told = capsys.readouterr().out
    assert "symmetry: doubtful" in told
    assert "long texts: head" in told


def test_the_promise_in_the_readme_can_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path(readme.README).read_text(encoding="utf-8").splitlines()
    (command,) = [line for line in lines if line.startswith("dupq score --policy")]
    assert main(shlex.split(command)[1:]) == 0
    assert "with confidence 0.95 at base rate 0.1" in capsys.readouterr().out


def test_every_table_of_the_readme_is_what_its_results_say() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert text.count("<!-- table:") == len(readme.TABLES)
    assert readme.rendered(text) == text


def test_the_first_command_and_its_output_stand_at_the_top() -> None:
    head = Path(readme.README).read_text(encoding="utf-8").splitlines()[:30]
    assert any("dupq score" in line for line in head)
    assert any(line.startswith(("duplicate", "review", "distinct")) for line in head)
    assert any(".venv/bin/pytest" in line for line in head)
