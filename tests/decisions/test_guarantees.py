"""What a guarantee states: its delta on every path, one answer a base rate, and nothing without evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from dupq import DuplicatePipeline
from dupq.calibration.calibrators import AdaptedCalibrator
from dupq.data.pairs import PairTable
from dupq.decisions.decision_rule import (
    DecisionRule,
    choose_rule,
    fit_rule,
    policies_of,
)
from dupq.decisions.threshold_table import ThresholdTable, build_threshold_table, lower_bound
from dupq.decisions.thresholds import Policy, Threshold, choose_threshold
from dupq.errors import (
    InputError,
    ModelFolderError,
    NotCalibratedError,
    NotEnoughLabelsError,
)
from dupq.evaluation.report import evaluate
from tests.decisions.test_thresholds import sample
from tests.fakes import WordEmbedder, WordScorer
from tests.test_pipeline import TABLE, noisy

FIRST, SECOND = (TABLE.take(np.arange(len(TABLE)) % 20 // 10 == half) for half in (0, 1))


@pytest.fixture(scope="module")
def plain() -> DuplicatePipeline:
    return DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder())


def deltas(rule: DecisionRule | None) -> list[float | None]:
    assert rule is not None
    return [cut.policy.delta for cut in (rule.duplicate, rule.distinct) if cut is not None]


# ---- delta -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("policy", ["f1", "cost=2:1", "precision>=0.8", "recall>=0.8"])
def test_one_delta_holds_for_both_thresholds(policy: str, delta: float) -> None:
    s, y = sample(4000, 3)
    for rule in (
        fit_rule(s, y, None, policy, miss_rate=0.1, delta=delta),
        choose_rule(build_threshold_table(s, y), policy, miss_rate=0.1, delta=delta, base_rate=0.3),
    ):
        guarantees = [
            cut for cut in (rule.duplicate, rule.distinct) if cut and cut.policy.kind in ("recall", "precision")
        ]
        assert {cut.policy.delta for cut in guarantees} == {delta}
        for cut in guarantees:
            assert f"with confidence {1 - delta:g}" in cut.guarantee
            assert cut.bound is not None
            assert cut.bound >= cut.policy.level
        assert f"recall >= 0.9 with confidence {1 - delta:g}" in rule.guarantee


def test_the_bound_of_the_miss_rate_is_at_the_delta_that_is_stated() -> None:
    """Held against Clopper-Pearson by hand: at the cut the bound at delta passes, at the next one it does not."""
    s, y = sample(3000, 5)
    cuts = {}
    for delta in (0.2, 0.05, 0.001):
        cut = fit_rule(s, y, None, miss_rate=0.1, delta=delta).distinct
        assert cut is not None
        found = int(((s >= cut.score) & (y == 1)).sum())
        assert cut.bound == pytest.approx(float(lower_bound(found, int(y.sum()), delta)))
        cuts[delta] = cut.score
    assert cuts[0.2] > cuts[0.05] > cuts[0.001]  # the surer, the fewer are dropped


def test_without_a_delta_that_of_the_policy_holds_for_both() -> None:
    assert policies_of(Policy.precision(0.9, 0.01), 0.05)[1] == Policy.recall(0.95, 0.01)
    assert policies_of(Policy.precision(0.9, 0.01), 0.05, 0.2) == (Policy.precision(0.9, 0.2), Policy.recall(0.95, 0.2))
    assert policies_of("f1", 0.05) == (Policy.max_f1(), Policy.recall(0.95, 0.05))
    assert policies_of(Policy.precision(0.9, None), 0.05, 0.01) == (
        Policy.precision(0.9, None),
        Policy.recall(0.95, 0.01),
    )
    for bad in (0, 1, -0.1, float("nan"), "0.1", True, 5):
        with pytest.raises(InputError, match="delta must be a number in"):
            policies_of("f1", 0.05, bad)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="miss rate must be a number in"):
            policies_of("f1", bad)  # type: ignore[arg-type]


def test_delta_reaches_every_pipeline_that_is_made_of_another(plain: DuplicatePipeline) -> None:
    refit_options: dict[str, Any] = {"policy": "precision>=0.7", "miss_rate": 0.2, "delta": 0.11}
    calibrated = plain.calibrate(noisy(TABLE), **refit_options)
    assert deltas(calibrated.rule) == [0.11, 0.11]
    assert "with confidence 0.89" in str(calibrated.report)
    # The report's other policies are stated for the same delta.
    assert "with confidence 0.95" not in str(calibrated.report)
    for made in (
        calibrated.with_base_rate(0.4),
        calibrated.with_base_rate(0.4).with_base_rate(0.45),
        calibrated.with_cascade(noisy(TABLE), min_agreement=0.9, max_ap_loss=0.05),
        calibrated.adapt(noisy(TABLE, seed=4)),
    ):
        assert deltas(made.rule) == [0.11, 0.11]
    assert deltas(calibrated.with_policy("f1", 0.2, delta=0.03).rule) == [None, 0.03]
    assert deltas(calibrated.with_policy(Policy.precision(0.7, 0.3), 0.2).rule) == [0.3, 0.3]
    assert deltas(calibrated.with_policy("f1", 0.2).rule) == [None, 0.05]
    assert "confidence 0.97" in calibrated.with_policy("f1", 0.2, delta=0.03).guarantee
    with pytest.raises(InputError, match="delta"):
        plain.calibrate(noisy(TABLE), delta=0)


def test_a_cascade_asks_for_no_guarantee_that_its_pipeline_did_not_have(plain: DuplicatePipeline) -> None:
    """A distinct cut that was put where it is without a guarantee is not tested for one later."""
    calibrated = plain.calibrate(noisy(TABLE))
    assert calibrated.rule is not None
    no_guarantee = choose_threshold(Policy.recall(0.8, None), calibrated._table())
    pipeline = replace(calibrated, rule=replace(calibrated.rule, distinct=no_guarantee))
    made = pipeline.with_cascade(noisy(TABLE), min_agreement=0.9, max_ap_loss=0.05)
    assert deltas(made.rule) == [None, None]


# ---- one answer for one question -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(200, 3000),
    seed=st.integers(0, 10_000),
    groups=st.integers(1, 4),
    rate=st.floats(0.2, 0.7),
    text=st.sampled_from(["f1", "accuracy", "cost=5:1", "recall>=0.8", "precision>=0.8", "precision>=0.9"]),
)
def test_the_evidences_own_base_rate_is_no_other_rate(n: int, seed: int, groups: int, rate: float, text: str) -> None:
    s, y = sample(n, seed, base_rate=rate)
    table = build_threshold_table(s, y, np.arange(n) // groups)
    policy = Policy.parse(text)

    def answer(base_rate: float | None) -> Threshold | str:
        try:
            return choose_threshold(policy, table, base_rate)
        except NotEnoughLabelsError as error:
            return str(error)

    direct = answer(None)
    own = [table.base_rate, np.float64(np.mean(y)), float(f"{table.base_rate:.12g}"), sum(y.tolist()) / n]
    for stated in own:
        assert answer(float(stated)) == direct
    if isinstance(direct, Threshold):
        assert not direct.rebased
        assert direct.base_rate == table.base_rate
    other = answer(table.base_rate * (1 + 1e-6))
    if isinstance(other, Threshold):
        assert other.rebased


def test_precision_is_one_answer_on_every_path(plain: DuplicatePipeline) -> None:
    """Found: cut 2.226 with recall .340 when chosen directly, 1.861 with recall .487 through `with_policy`."""
    calibrated = plain.calibrate(noisy(TABLE))
    direct = plain.calibrate(noisy(TABLE), policy="precision>=0.7").rule
    assert direct is not None
    moved = calibrated.with_base_rate(0.2)
    assert calibrated.base_rate is not None
    paths = {
        "with_policy": calibrated.with_policy("precision>=0.7"),
        "to its own rate": calibrated.with_policy("precision>=0.7").with_base_rate(calibrated.base_rate),
        "there and back": moved.with_base_rate(calibrated.base_rate).with_policy("precision>=0.7"),
        "rule there and back": calibrated.with_policy("precision>=0.7")
        .with_base_rate(0.6)
        .with_base_rate(calibrated.base_rate),
    }
    for name, pipeline in paths.items():
        assert pipeline.rule is not None
        assert pipeline.rule.duplicate.score == direct.duplicate.score, name
        assert pipeline.rule.duplicate.bound == direct.duplicate.bound, name
        assert not pipeline.rule.duplicate.rebased, name
        assert pipeline.base_rate == calibrated.base_rate, name


def test_an_adapted_pipeline_is_chosen_on_its_own_labels_as_they_are(plain: DuplicatePipeline) -> None:
    """Its calibrator draws the local rate to the shipped one; that is no other base rate than that of the labels."""
    local = plain.calibrate(noisy(TABLE)).adapt(noisy(FIRST.take(np.arange(250)), seed=2))
    assert isinstance(local.calibrator, AdaptedCalibrator)
    table = local._table()
    assert local.base_rate != table.base_rate
    chosen = local.with_policy("recall>=0.6")
    assert chosen.rule is not None
    assert chosen.rule.duplicate == choose_threshold(Policy.recall(0.6), table)
    assert chosen.with_base_rate(chosen.base_rate or 0) is chosen


def test_a_series_of_looks_passes_more_often_than_one() -> None:
    """The figure of docs/explanation/guarantees.md: eight looks at a precision just below the level."""
    right = np.cumsum(np.random.default_rng(0).random((4000, 400)) < 0.899, axis=1)
    looks = np.linspace(30, 400, 8).astype(int)
    counts = right[:, looks - 1]
    passed = beta.ppf(0.05, counts, looks - counts + 1) >= 0.9
    assert passed[:, -1].mean() <= 0.055
    assert 0.1 < passed.any(axis=1).mean() < 0.15


# ---- without evidence ------------------------------------------------------------------------------------------------


def bare(rule: DecisionRule | None) -> DecisionRule:
    assert rule is not None
    return replace(rule, table=None)


@pytest.mark.parametrize("policy", ["f1", "accuracy", "cost=5:1", "recall>=0.7", "precision>=0.7"])
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.97])
def test_without_evidence_another_base_rate_states_that_nothing_is_guaranteed(
    plain: DuplicatePipeline, policy: str, rate: float
) -> None:
    calibrated = plain.calibrate(noisy(TABLE), policy=policy)
    calibrated = replace(calibrated, rule=bare(calibrated.rule))
    own = calibrated.base_rate
    assert own is not None
    moved = calibrated.with_base_rate(rate)
    assert moved.rule is not None
    assert calibrated.rule is not None
    assert moved.rule.duplicate.score == calibrated.rule.duplicate.score
    if policy.startswith("recall"):  # which does not depend on the base rate
        assert moved.guarantee == calibrated.guarantee
        assert moved.rule.duplicate.guaranteed
    else:
        assert moved.guarantee == (
            f"no guarantee at base rate {rate:.3g}: the threshold was chosen for the {Policy.parse(policy)} at "
            f"{own:.3g}, and its evidence was not kept"
        )
        assert not moved.rule.duplicate.guaranteed
    data = json.loads(json.dumps(moved.rule.to_dict(), allow_nan=False))
    assert data["duplicate"]["guarantee"] == moved.guarantee
    assert data["duplicate"]["used_at"] == rate
    assert data["duplicate"]["guaranteed"] == policy.startswith("recall")
    again = DecisionRule.from_dict(data)
    assert again == moved.rule
    assert again.guarantee == moved.guarantee
    # From one foreign rate to another, and back to its own, where the guarantee holds as before.
    assert f"{0.2:.3g}" in moved.with_base_rate(0.2).guarantee or policy.startswith("recall")
    assert moved.with_base_rate(own).rule == calibrated.rule
    assert moved.with_base_rate(own).guarantee == calibrated.guarantee


def test_without_evidence_the_share_of_misses_is_still_guaranteed(plain: DuplicatePipeline) -> None:
    calibrated = plain.calibrate(noisy(TABLE), policy="precision>=0.7", miss_rate=0.2)
    moved = replace(calibrated, rule=bare(calibrated.rule)).with_base_rate(0.01)
    assert moved.rule is not None
    assert moved.rule.distinct is not None
    assert not moved.rule.duplicate.guaranteed
    assert moved.rule.distinct.guaranteed
    assert "no guarantee at base rate 0.01" in moved.guarantee
    assert "dropped as distinct: recall >= 0.8 with confidence 0.95" in moved.guarantee


def test_what_a_rule_without_evidence_states_survives_the_report() -> None:
    s, y = sample(900, 2)
    from dupq.calibration.calibrators import fit_calibrator

    calibrator = fit_calibrator(s, y)
    rule = bare(fit_rule(s, y, None, "precision>=0.9")).at_base_rate(0.001)
    report = evaluate(s, calibrator.probabilities(s), y, None, rule, calibrator, resamples=20)
    for text in (str(report), report.to_html(), json.dumps(report.to_dict())):
        assert "no guarantee at base rate 0.001" in text


def test_with_evidence_an_impossible_base_rate_is_an_error(plain: DuplicatePipeline) -> None:
    calibrated = plain.calibrate(noisy(TABLE), policy="precision>=0.7")
    with pytest.raises(NotEnoughLabelsError, match=r"at base rate 0\.0001"):
        calibrated.with_base_rate(0.0001)
    with pytest.raises(NotCalibratedError):
        plain.with_base_rate(0.1)
    with pytest.raises(NotCalibratedError, match="without their evidence"):
        replace(calibrated, rule=bare(calibrated.rule)).with_policy("f1")
    for bad in (0, 1, -1, 1.5, float("nan"), "0.1", None, True):
        with pytest.raises(InputError, match="base_rate must be a number in"):
            calibrated.with_base_rate(bad)  # type: ignore[arg-type]


# ---- policies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        None, 0.9, [], {}, b"f1", "", " ", "f2", "F-1", "precision", "precision>0.9", "precision>=", "precision>=90",
        "precision>=1", "recall>=0", "recall>=-0.5", "recall>=nan", "recall>=0.9.1", "cost", "cost=5", "cost=0:1",
        "cost=1:0", "cost=a:b", "precision=0.9", "recall >= 0,9",
    ],
)  # fmt: skip
def test_what_is_no_policy_is_an_error_of_ours(bad: Any) -> None:
    with pytest.raises(InputError) as caught:
        Policy.parse(bad)
    assert caught.value.hint


@given(st.text(max_size=20) | st.from_regex(r"(recall|precision|cost|f1)\s*[>=:]*\s*[0-9.:]*", fullmatch=True))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_policy_or_an_error_of_ours(text: str) -> None:
    try:
        policy = Policy.parse(text)
    except InputError:
        return
    assert Policy.parse(policy) is policy


@pytest.mark.parametrize(
    "arguments",
    [
        ("luck",), (None,), (3,), (["f1"],), ("f1", 0.5), ("accuracy", -1), ("f1", 0.0, 0.05), ("cost", 0),
        ("cost", -2), ("cost", float("inf")), ("cost", float("nan")), ("cost", "5"), ("cost", 5.0, 0.1), ("recall",),
        ("recall", 0), ("recall", 1), ("recall", 1.2), ("recall", "0.9"), ("recall", True), ("recall", 0.9, 0),
        ("precision", 0.9, 1), ("precision", 0.9, float("nan")), ("precision", 0.9, "0.05"), ("precision", None),
    ],
)  # fmt: skip
def test_only_sane_policies_can_be_made(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError):
        Policy(*arguments)


def test_costs_are_two_numbers_above_0() -> None:
    for bad in ((0, 1), (1, 0), (float("nan"), 1), ("5", 1), (10**400, 1), (True, 1), (1, None), (float("inf"), 1)):
        with pytest.raises(InputError, match="must be a number above 0"):
            Policy.min_cost(*bad)
    assert Policy.min_cost(np.float64(5), np.int64(2)).level == 2.5


def test_a_policy_in_a_file_is_checked_like_any_other() -> None:
    cut = fit_rule(*sample(500)).duplicate.to_dict()
    for policy in (
        {"kind": "precision", "level": 1.5, "delta": 0.05},
        {"kind": "f1", "level": 0.0, "delta": 0.05},
        {"kind": "cost", "level": -1.0, "delta": None},
    ):
        with pytest.raises(ModelFolderError, match="policy"):
            Threshold.from_dict({**cut, "policy": policy})


def test_a_policy_may_be_given_as_text(plain: DuplicatePipeline) -> None:
    calibrated = plain.calibrate(noisy(TABLE), policy=" Precision >= .7 ")
    again = calibrated.with_policy("precision>=0.7")
    assert again.rule is not None
    assert calibrated.rule is not None
    assert again.rule.duplicate == calibrated.rule.duplicate
    with pytest.raises(InputError, match=r"unknown policy 'precision>0\.9'"):
        calibrated.with_policy("precision>0.9")
    for bad in (None, 0.9, ["f1"]):
        with pytest.raises(InputError):
            calibrated.with_policy(bad)  # type: ignore[arg-type]


def test_evidence_is_still_read_by_its_fields() -> None:
    table = build_threshold_table(*sample(300))
    assert ThresholdTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table
    assert isinstance(TABLE, PairTable)
