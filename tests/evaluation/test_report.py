"""The report: its figures against the pairs, its round trip, and pages and pictures that stand alone."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, precision_score, recall_score

from dupq.calibration.calibrators import METHODS, fit_calibrator
from dupq.decisions.decision_rule import DecisionRule, fit_rule
from dupq.decisions.thresholds import Policy
from dupq.errors import ModelFolderError
from dupq.evaluation import plots
from dupq.evaluation.metrics import ReliabilityBin
from dupq.evaluation.report import Report, evaluate


def pairs(n, seed, base_rate=0.37):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < base_rate).astype(int)
    return rng.normal(2.5 * y, 1), y, np.arange(n) // 2


@pytest.fixture(scope="module")
def made():
    s, y, groups = pairs(3000, 0)
    calibrator = fit_calibrator(s, y, groups)
    rule = fit_rule(s, y, groups, Policy.precision(0.9), miss_rate=0.02)
    test = pairs(2000, 1)
    facts = {"data_fingerprint": "abc <&>", "scorer_fingerprint": "def"}
    report = evaluate(test[0], calibrator.probabilities(test[0]), *test[1:], rule, calibrator, resamples=20, **facts)
    return report, test, rule, calibrator


def test_its_figures_are_those_of_the_pairs(made):
    report, (s, y, _), rule, calibrator = made
    flagged = s >= rule.duplicate.score
    counts = {"pairs": 2000, "groups": 1000, "duplicates": int(y.sum()), "largest_group": 2}
    assert report.sample == {**counts, "base_rate": y.mean()}
    assert report.metrics["average_precision"].value == pytest.approx(average_precision_score(y, s))
    assert report.metrics["precision"].value == pytest.approx(precision_score(y, flagged))
    assert report.calibration["kind"] == calibrator.kind
    assert set(report.calibration["cv_losses"]) == set(METHODS)
    own = report.base_rates[0]
    assert own["base_rate"] == y.mean()
    assert own["precision"] == pytest.approx(precision_score(y, flagged))
    assert own["recall"] == pytest.approx(recall_score(y, flagged))
    codes = rule.codes(s)
    for name, code in (("flagged", 2), ("review", 1)):
        assert own[name] == pytest.approx((codes == code).mean())
    assert own["miss_rate"] == pytest.approx((codes[y == 1] == 0).mean())
    # The sample's own share is so close to 36.9 % that it stands for it.
    assert [row["base_rate"] for row in report.base_rates[1:]] == [0.1, 0.01, 0.001]
    falling = [row["precision"] for row in report.base_rates[1:]]
    assert falling == sorted(falling, reverse=True)
    assert report.about["data_fingerprint"] == "abc <&>"
    assert report.about["versions"]["numpy"] == np.__version__


def test_its_policies_state_a_promise_or_what_is_lacking(made):
    report, _, rule, _ = made
    rows = {(round(row["base_rate"], 3), row["policy"]): row for row in report.policies}
    own = rows[round(rule.table.base_rate, 3), "precision >= 0.9"]
    assert own["guarantee"] == rule.duplicate.guarantee
    far = rows[0.001, "precision >= 0.95"]
    assert far["score"] is None
    assert far["guarantee"].startswith("none: ")
    assert rows[0.1, "highest F1"]["guarantee"].startswith("no guarantee")


def test_it_survives_json(made):
    report = made[0]
    again = Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert str(again) == str(report)
    assert again.to_html() == report.to_html()
    for change in ({"metrics": {"f1": {"value": 1}}}, {"pictures": None}, {"policies": {}}):
        with pytest.raises(ModelFolderError):
            Report.from_dict(report.to_dict() | change)


def test_it_reads_as_a_table(made):
    report = made[0]
    text = str(report)
    assert "2,000 pairs in 1,000 question groups" in text
    assert re.search(r"average precision +0\.\d{4}  0\.\d{4} to 0\.\d{4}", text)
    assert report.rule["guarantee"] in text
    assert "duplicates dropped" in text


def test_its_page_is_one_file_with_its_pictures(made):
    page = made[0].to_html("Pairs & thresholds")
    assert page.count("<svg") == 3
    assert "Pairs &amp; thresholds" in page
    assert "abc &lt;&amp;&gt;" in page
    assert not re.search(r"(src|href)=|@import|url\(|<script", page)
    for svg in made[0].to_svg().values():
        root = ElementTree.fromstring(svg)
        texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
        assert len(texts) > 10
        width, height = float(root.get("width")), float(root.get("height"))
        for node in root.iter("{http://www.w3.org/2000/svg}circle"):
            assert 0 <= float(node.get("cx")) <= width
            assert 0 <= float(node.get("cy")) <= height


def test_a_rule_without_evidence_or_review_is_reported_too(made):
    _, test, rule, calibrator = made
    bare = DecisionRule(rule.duplicate, warning="moved")
    report = evaluate(test[0], calibrator.probabilities(test[0]), *test[1:], bare, calibrator, resamples=2)
    assert report.policies == []
    assert report.base_rates[0]["review"] == 0
    assert report.rule["warning"] == "moved"
    assert "WARNING: moved" in str(report)


def test_plot_places_points_by_their_data():
    plot = plots.Plot("t", "x", "y", (0, 10), (0, 1))
    assert plot.at(0, 0) == (plots.LEFT, plots.BOTTOM)
    assert plot.at(10, 1) == (plots.RIGHT, plots.TOP)
    assert plot.at(99, -1) == (plots.RIGHT, plots.BOTTOM)
    plot.line([(0, 0), (5, 1)], plots.BLUE, "a < b", dashed=True)
    picture = plot.svg()
    assert "a &lt; b" in picture
    assert "d='M64.0 344.0L282.0 44.0'" in picture
    assert ">10</text>" in picture


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-8.3, 7.9), (0, 0.0421), (5, 5), (0, 12345)])
def test_ticks_are_few_and_inside(low, high):
    ticks = plots._ticks(low, high)
    assert 1 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_reliability_diagram_shows_each_bin():
    bins = [ReliabilityBin(p, p, max(0, p - 0.1), min(1, p + 0.1), 50) for p in expit(np.linspace(-3, 3, 7))]
    picture = plots.reliability_diagram(bins)
    assert picture.count("<circle") == 7
    assert "50 pairs" in picture
