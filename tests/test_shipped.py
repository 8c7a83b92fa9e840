"""The model that ships, and the README that speaks of it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from packaging.licenses import canonicalize_license_expression

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
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 60_000_000


def test_its_report_was_measured_on_unseen_pairs(pipeline: DuplicatePipeline) -> None:
    assert pipeline.report.about["measured_on"] == "pairs that nothing of it was fitted on"
    assert pipeline.report.metrics["average_precision"].value > 0.85
    assert pipeline.trained_on is not None
    assert len(pipeline.trained_on) > 100_000


def test_it_can_be_inspected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "inspect", str(SHIPPED)]) == 0
    told = capsys.readouterr().out
    assert "symmetry: adaptive" in told
    assert "long texts: lead" in told


def test_the_guarantee_in_the_docs_can_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    page = readme.ROOT / "docs" / "how-to" / "choose-a-threshold.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    (command,) = [line for line in lines if line.startswith("dupq score --policy") and "--base-rate" in line]
    assert main(shlex.split(command)[1:]) == 0
    assert "Threshold: precision >= 0.6 with confidence 95 %" in capsys.readouterr().out


def test_the_package_says_that_its_weights_are_not_free_for_commerce() -> None:
    """The metadata of the wheel, the file beside the weights, their card and README say the same of their licence."""
    root = readme.README.parent
    declared = (root / "pyproject.toml").read_text(encoding="utf-8")
    (stated,) = re.findall(r'^license = "(.+?)"', declared, re.MULTILINE)
    (files,) = re.findall(r"^license-files = \[(.+)\]", declared, re.MULTILINE)
    assert canonicalize_license_expression(stated) == stated
    code, weights = stated.split(" AND LicenseRef-")
    assert code == "Apache-2.0"
    terms = SHIPPED / "LICENSE-WEIGHTS"
    assert re.findall(r'"(.+?)"', files) == ["LICENSE", terms.relative_to(root).as_posix()]
    assert '"pretrained/**"' in declared  # so that the file lies beside the weights where dupq is installed, too
    text = " ".join(terms.read_text(encoding="utf-8").split())
    assert f"Name of this licence: {weights} (in SPDX: LicenseRef-{weights})" in text
    assert "non-commercial purposes only" in text
    for path in (SHIPPED / "README.md", root / "model_cards" / "dupq-quora-minilm.md"):
        card = ModelCard(path.read_text(encoding="utf-8"))
        assert (card.data.license, card.data.license_name) == ("other", weights)
        assert card.data.license_link in text
        assert "non-commercial" in card.text
        assert terms.name in card.text
        for named in re.findall(
            r"Quora Question Pairs|PAWS-Wiki|Twitter URL corpus|SemEval-2016 Task 3|MS MARCO", card.text
        ):
            assert named in text  # every set that the card says it learned from
        assert all(base in text for base in card.data.base_model)
    section = readme.README.read_text(encoding="utf-8").split("\n## Licence\n")[1]
    assert stated in section
    assert "non-commercial" in section
    assert terms.relative_to(root).as_posix() in section
    assert DuplicatePipeline.from_pretrained().facts["card"]["license_name"] == weights


def test_every_table_of_the_pages_is_written_from_its_results() -> None:
    texts = [page.read_text(encoding="utf-8") for page in readme.PAGES]
    assert sorted(re.findall(r"<!-- table:(\w+) -->", "".join(texts))) == sorted(readme.TABLES)
    for text in texts:
        assert readme.rendered(text) == text


def test_the_first_command_and_its_output_stand_at_the_top() -> None:
    head = Path(readme.README).read_text(encoding="utf-8").splitlines()[:30]
    assert any("dupq score" in line for line in head)
    assert any(line.startswith(("duplicate", "review", "distinct")) for line in head)
    assert any(".venv/bin/pytest" in line for line in head)


def test_the_scores_are_those_of_the_release() -> None:
    """The weights and the arithmetic that ship; the recipe writes `shipped_scores.json`."""
    rows = json.loads(Path(__file__).with_name("shipped_scores.json").read_text(encoding="utf-8"))
    left, right = [row["question1"] for row in rows], [row["question2"] for row in rows]
    pipeline = DuplicatePipeline.from_pretrained()
    assert pipeline.raw_scores(left, right) == pytest.approx([row["score"] for row in rows], abs=1e-5)
    assert pipeline.probabilities(left, right) == pytest.approx([row["probability"] for row in rows], abs=1e-5)
