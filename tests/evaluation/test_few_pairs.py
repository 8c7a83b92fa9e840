"""Reports of a handful of pairs: a caution everywhere, and no figure without an interval that means something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dupq import DuplicatePipeline
from dupq.calibration.calibrators import fit_calibrator
from dupq.data.pairs import PairTable
from dupq.decisions.decision_rule import fit_rule
from dupq.evaluation.metrics import AT_THRESHOLD, RANKING, compute_metrics
from dupq.evaluation.report import Report, evaluate
from tests.cli.test_commands import model, run
from tests.decisions.test_thresholds import sample
from tests.fakes import WordEmbedder, WordScorer
from tests.test_pipeline import TABLE, noisy

__all__ = ["model"]


def report_of(pairs: int, gap: float = 8.0, groups: int | None = None) -> Report:
    s, y = sample(400, 1)
    calibrator, rule = fit_calibrator(s, y), fit_rule(s, y)
    few, labels = sample(pairs, 2, gap=gap)
    keys = None if groups is None else np.arange(pairs) % groups
    return evaluate(few, calibrator.probabilities(few), labels, keys, rule, calibrator)


@pytest.mark.parametrize("pairs", [2, 7, 40, 99])
def test_few_pairs_carry_a_caution_in_every_form(pairs: int) -> None:
    report = report_of(pairs)
    said = f"{pairs:,} pairs in {pairs:,} question groups are too few to rely on any of these figures"
    assert said in str(report.caution)
    assert report.to_dict()["caution"] == report.caution
    assert f"CAUTION: {said}" in str(report)
    assert f"<b>CAUTION.</b> {said}" in report.to_html()
    # Figures without an interval are left out, and the report says so.
    for text in (str(report), report.to_html()):
        assert "This rule at other base rates" not in text
        assert "Left out, because these pairs are too few for intervals" in text
        assert "Thresholds of other policies" not in text
    assert "<svg" not in report.to_html()
    again = Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert again == report
    assert again.caution == report.caution


def test_enough_pairs_carry_none() -> None:
    report = report_of(100)
    assert report.caution is None
    assert report.to_dict()["caution"] is None
    assert "CAUTION" not in str(report) + report.to_html()
    assert "Thresholds of other policies" in str(report)
    assert "<svg" in report.to_html()


@pytest.mark.parametrize("pairs", [7, 30, 99, 300])
def test_a_perfect_figure_of_few_pairs_has_an_interval(pairs: int) -> None:
    """Found: "average precision 1.000, 95 % interval 1.0000 to 1.0000" of seven pairs."""
    s, y = sample(pairs, 3, gap=50.0)
    found = compute_metrics(s, np.full(pairs, 0.5), y, None, 25.0)
    least = min(y.sum(), pairs - y.sum())
    for name in (*RANKING, *AT_THRESHOLD):
        metric = found[name]
        assert metric.value == pytest.approx(1.0)
        assert metric.high == pytest.approx(1.0)
        # Of very few pairs some resamples hold no duplicate, and a figure that is then 0 reaches further down.
        assert metric.low <= 0.025 ** (1 / least) + 1e-9
        assert metric.low == pytest.approx(0.025 ** (1 / least)) or pairs < 30


def test_one_question_group_has_no_interval_to_speak_of() -> None:
    s, y = sample(60, 3)
    for name, metric in compute_metrics(s, np.full(60, 0.5), y, np.zeros(60), 1.0).items():
        if name in (*RANKING, *AT_THRESHOLD):
            assert (metric.low, metric.high) == (0.0, 1.0), name


def test_intervals_of_resamples_that_differ_stay() -> None:
    s, y = sample(400, 3)
    found = compute_metrics(s, np.full(400, 0.5), y, None, 1.0)
    assert all(metric.low < metric.value < metric.high for name, metric in found.items() if name in AT_THRESHOLD)
    assert found["accuracy"].high - found["accuracy"].low < 0.12


@pytest.mark.parametrize("groups", [5, 6])
def test_a_perfect_precision_rests_on_the_groups_that_are_flagged(groups: int) -> None:
    scores, labels = np.zeros(600), np.zeros(600, dtype=int)
    labels[:200], scores[:6] = 1, 1.0
    keys = np.arange(600)
    keys[:6] %= groups
    precision = compute_metrics(scores, np.full(600, 0.3), labels, keys, 0.5)["precision"]
    assert (precision.value, precision.high) == (1.0, 1.0)
    assert precision.low == pytest.approx(0.025 ** (1 / groups))


def test_the_interval_of_a_perfect_precision_covers_rare_failures() -> None:
    """Each of 6 flagged pairs is wrong with probability 0.4; a run that is right by chance must still cover 0.6."""
    rng = np.random.default_rng(0)
    scores = np.r_[np.ones(6), np.zeros(54)]
    missed = 0
    for _ in range(200):
        labels = np.r_[rng.random(6) < 0.6, np.arange(54) < 20].astype(int)
        precision = compute_metrics(scores, np.full(60, 0.4), labels, None, 0.5, resamples=20)["precision"]
        missed += precision.value == 1 and precision.low > 0.6
    assert missed == 0


def test_the_interval_of_the_reliability_holds_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        p = rng.uniform(0.05, 0.95, 800)
        found = compute_metrics(p, p, (rng.random(800) < p).astype(int), None, None, resamples=100)
        for name in ("brier_reliability", "brier_resolution"):
            assert found[name].low <= found[name].value <= found[name].high, name


def test_contradictory_labels_stand_in_the_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = noisy(TABLE)
    twice = PairTable(
        [*table.left, table.right[4]], [*table.right, table.left[4]], np.append(table.labels, 1 - table.labels[4])
    )
    report = DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder()).calibrate(twice).report
    said = f"1 pair has both labels (2 of {len(twice):,} rows; first: pairs 5 and {len(twice)}); all are kept"
    assert said.replace(",", "") in str(report).replace(",", "")
    assert said.replace(",", "") in report.to_html().replace(",", "")
    assert "contradictions" in report.to_dict()["about"]
    assert "contradictions" not in DuplicatePipeline(cross_encoder=WordScorer()).calibrate(table).report.about


def test_the_command_says_it_of_seven_pairs(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    lines = [f"Is it {i} metres?,How many metres is it from {i}?,{i % 2}" for i in range(7)]
    (tmp_path / "seven.csv").write_text("\n".join(["question1,question2,label", *lines]))
    status, out, err = run(capsys, "evaluate", model, tmp_path / "seven.csv", "--html", tmp_path / "r.html")
    assert status == 0, err
    assert "CAUTION: 7 pairs" in out
    assert "CAUTION" in (tmp_path / "r.html").read_text()
    status, out, _ = run(capsys, "evaluate", model, tmp_path / "seven.csv", "--json")
    assert json.loads(out)["caution"].startswith("7 pairs")
