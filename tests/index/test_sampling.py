from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.index.sampling import (
    FLAGGED,
    MIN_PAIRS,
    STRATA,
    Progressed,
    Shares,
    audited_share,
    drawn_number,
    estimate_shares,
    inclusion_probabilities,
    stratum_of,
    turn,
    value_of,
)

IDS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)


# ---- draws ----------------------------------------------------------------------------------------------------------


@given(IDS, IDS, st.text("abcdef0123456789", min_size=1))
def test_a_pair_has_one_draw_whatever_its_order(one: Any, other: Any, database: str) -> None:
    drawn = drawn_number(database, one, other)
    assert 0 < drawn < 1
    assert drawn == drawn_number(database, other, one)
    assert drawn != drawn_number(f"{database}x", one, other)


def test_draws_are_uniform_and_independent_of_neighbours() -> None:
    drawn = np.array([[drawn_number("base", one, other) for other in range(100, 160)] for one in range(60)])
    flat = np.sort(drawn.ravel())
    # Kolmogorov-Smirnov, at a level of 0.001.
    assert np.abs(flat - (np.arange(flat.size) + 0.5) / flat.size).max() < 1.95 / math.sqrt(flat.size)
    assert abs(np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1]) < 0.06
    assert drawn_number("base", 7, 8) != drawn_number("base", "7", 8)


def test_strata_are_by_decision_and_probability() -> None:
    assert [
        stratum_of(*pair) for pair in (("duplicate", 0.01), ("review", 0.9), ("distinct", 0.05), ("distinct", 0.049))
    ] == [
        "duplicate",
        "review",
        "near",
        "distinct",
    ]


@given(st.floats(0, 1), st.floats(1e-6, 1e9), st.floats(1e-6, 1e9))
def test_a_verdict_is_worth_more_where_odds_are_even_and_reach_is_large(p: float, reach: float, other: float) -> None:
    value = value_of(p, reach, other)
    assert 0 < value <= value_of(0.5, reach, other)
    assert value <= value_of(p, 2 * reach, other)
    assert value == pytest.approx(value_of(1 - p, other, reach), rel=1e-9)
    assert value >= 0.01 * math.log2(1 + reach + other)


@given(st.integers(1, 400), st.floats(0, 1), st.integers(0, 10_000))
def test_turns_keep_the_share_of_audits_over_calls(count: int, share: float, start: int) -> None:
    turns = [turn(place, share) for place in range(start, start + count)]
    audits = [name for name in turns if name != "queue"]
    assert abs(len(audits) - share * count) < 1 + 1e-6
    assert abs(audits.count(FLAGGED) - len(audits) / 2) <= 0.5
    others = [audits.count(name) for name in STRATA[1:]]
    assert max(others) - min(others) <= 1


@settings(max_examples=200)
@given(st.data())
def test_all_sampled_pairs_have_a_verdict_in_whatever_order_verdicts_came(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    u, v, strata = rng.random(n), rng.gamma(0.5, 1, n) + 1e-3, rng.choice(STRATA, n)
    answered = rng.random(n) < data.draw(st.floats(0, 1))
    progressed = progress_of(u, v, strata, answered)
    pi = inclusion_probabilities(strata.tolist(), v, progressed)
    sampled = np.array(
        [progressed.sampled(*pair) for pair in zip(strata.tolist(), v.tolist(), u.tolist(), strict=True)]
    )
    assert answered[sampled].all()
    assert (sampled == (u < pi))[np.abs(u - pi) > 1e-12].all()
    assert ((pi > 0) & (pi <= 1)).all()
    assert pi.tolist() == [progressed.probability(*pair) for pair in zip(strata.tolist(), v.tolist(), strict=True)]
    if answered.all():
        assert (pi == 1).all()
    # One verdict more never takes a pair out of the sample.
    answered[rng.integers(n)] = True
    assert (inclusion_probabilities(strata.tolist(), v, progress_of(u, v, strata, answered)) >= pi).all()


def progress_of(u: Any, v: Any, strata: Any, answered: Any) -> Progressed:
    audits = {name: float(u[(strata == name) & ~answered].min()) for name in set(strata[~answered].tolist())}
    return Progressed(audits, float((u / v)[~answered].min()) if (~answered).any() else math.inf)


# ---- estimates by simulation ----------------------------------------------------------------------------------------


@dataclass
class Forum:
    """Judged pairs whose truth is not what the probabilities predict."""

    p: NDArray[np.float64]
    truth: NDArray[np.bool_]
    strata: NDArray[Any]
    value: NDArray[np.float64]

    @property
    def flagged(self) -> NDArray[np.bool_]:
        return self.strata == FLAGGED

    @property
    def shares(self) -> tuple[float, float, float]:
        found = (self.truth & self.flagged).sum()
        return found / self.flagged.sum(), found / self.truth.sum(), self.truth.mean()


def forum(seed: int, n: int = 4000) -> Forum:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.15, 0.5, n)
    # Not what the probability predicts, neither among the flagged pairs nor among the others.
    truth = rng.random(n) < np.where(p >= 0.6, 0.25 + 0.73 * ((p - 0.6) / 0.4), 0.06 + 0.6 * p)
    decision = np.where(p >= 0.6, "duplicate", np.where(p >= 0.4, "review", "distinct"))
    strata = np.array([stratum_of(*pair) for pair in zip(decision.tolist(), p.tolist(), strict=True)], object)
    reach = np.exp(rng.normal(1, 1.5, (2, n)))
    value = np.array([value_of(*row) for row in zip(p, *reach, strict=True)])
    return Forum(p, truth, strata, value)


@dataclass
class Review:
    answered: NDArray[np.bool_]
    sampled: NDArray[np.bool_]
    audited: NDArray[np.bool_]
    pi: NDArray[np.float64]


def review(forum: Forum, rng: np.random.Generator, verdicts: int, audit_share: float = 0.2) -> Review:
    """Answer the pairs that the review presents, for one draw of the permanent random numbers."""
    u = rng.random(forum.p.size)
    orders = {"queue": iter(np.argsort(u / forum.value).tolist())}
    for name in STRATA:
        inside = np.flatnonzero(forum.strata == name)
        orders[name] = iter(inside[np.argsort(u[inside])].tolist())
    answered = np.zeros(forum.p.size, bool)
    for place in range(verdicts):
        answered[next(pair for pair in orders[turn(place, audit_share)] if not answered[pair])] = True
    progressed = progress_of(u, forum.value, forum.strata, answered)
    pi = inclusion_probabilities(forum.strata.tolist(), forum.value, progressed)
    audits = inclusion_probabilities(forum.strata.tolist(), np.zeros(u.size), progressed)
    return Review(answered, u < pi, u < audits, pi)


def counts_of(forum: Forum) -> dict[tuple[str, bool], int]:
    return {(name, name == FLAGGED): int((forum.strata == name).sum()) for name in STRATA}


def estimated(forum: Forum, at: NDArray[np.bool_], pi: NDArray[np.float64]) -> Shares:
    return estimate_shares(forum.strata[at].tolist(), forum.flagged[at], forum.truth[at], pi[at], counts_of(forum))


REPETITIONS = 300


@pytest.fixture(scope="module", params=[(1, 300), (2, 600)], ids=["300 verdicts", "600 verdicts"])
def repeated(request: pytest.FixtureRequest) -> tuple[Forum, list[Review], list[Shares]]:
    seed, verdicts = request.param
    made = forum(seed)
    rng = np.random.default_rng(seed + 100)
    reviews = [review(made, rng, verdicts) for _ in range(REPETITIONS)]
    return made, reviews, [estimated(made, each.sampled, each.pi) for each in reviews]


def test_totals_weighted_by_the_design_are_unbiased(repeated: tuple[Forum, list[Review], list[Shares]]) -> None:
    made, reviews, _ = repeated
    for domain in (made.truth, made.truth & made.flagged, ~made.truth & made.flagged, made.truth & ~made.flagged):
        totals = np.array([(1 / each.pi)[each.sampled & domain].sum() for each in reviews])
        error = totals.std(ddof=1) / math.sqrt(REPETITIONS)
        assert abs(totals.mean() - domain.sum()) < 3.5 * error


def test_shares_are_unbiased_and_unweighted_ones_are_not(repeated: tuple[Forum, list[Review], list[Shares]]) -> None:
    made, reviews, shares = repeated
    weighted = np.array([(each.precision.value, each.recall.value, each.base_rate.value) for each in shares], float)
    # A weighted mean is a ratio, so its bias is of order 1 / n.
    error = weighted.std(0, ddof=1) / math.sqrt(REPETITIONS)
    assert (np.abs(weighted.mean(0) - made.shares) < 4 * error + 0.01).all()
    raw = []
    for each in reviews:
        found = made.truth[each.answered & made.flagged]
        raw.append((found.mean(), found.sum() / made.truth[each.answered].sum(), made.truth[each.answered].mean()))
    bias = np.abs(np.mean(raw, 0) - made.shares)
    assert bias[0] > 0.04
    assert bias[2] > 0.1
    assert (bias[[0, 2]] > 5 * np.abs(weighted.mean(0) - made.shares)[[0, 2]]).all()


def test_intervals_hold_the_truth(repeated: tuple[Forum, list[Review], list[Shares]]) -> None:
    made, _, shares = repeated
    for name, truth in zip(("precision", "recall", "base_rate"), made.shares, strict=True):
        found = [getattr(each, name) for each in shares]
        assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.9, name
        assert all(each.low <= each.value <= each.high for each in found)
        assert np.median([each.high - each.low for each in found]) < 0.6, name


def test_the_exact_interval_of_the_audit_holds_the_truth(repeated: tuple[Forum, list[Review], list[Shares]]) -> None:
    made, reviews, _ = repeated
    found = [audited_share(made.truth[each.audited & made.flagged]) for each in reviews]
    assert np.mean([each.low <= made.shares[0] <= each.high for each in found]) >= 0.93
    values = np.array([each.value for each in found], float)
    assert abs(values.mean() - made.shares[0]) < 3.5 * values.std(ddof=1) / math.sqrt(REPETITIONS)


# ---- estimates of given samples -------------------------------------------------------------------------------------


def test_the_interval_stays_wide_where_no_duplicate_was_found() -> None:
    n = 20
    shares = estimate_shares(
        [FLAGGED] * n + ["distinct"] * n,
        [True] * n + [False] * n,
        [True] * n + [False] * n,
        np.array([0.5] * n + [0.001] * n),
        {(FLAGGED, True): 40, ("distinct", False): 20_000},
    )
    assert shares.precision.value == 1
    assert shares.recall.value == 1
    assert shares.recall.low < 0.1  # 20 of 20,000 cannot exclude many duplicates
    assert shares.base_rate.high > 0.05


def test_a_census_has_no_error() -> None:
    answers = [True] * 18 + [False] * 2 + [True] * 3 + [False] * 17
    shares = estimate_shares(
        [FLAGGED] * 20 + ["near"] * 20,
        [True] * 20 + [False] * 20,
        answers,
        np.ones(40),
        {(FLAGGED, True): 20, ("near", False): 20},
    )
    assert [(x.low, x.value, x.high) for x in (shares.precision, shares.recall, shares.base_rate)] == [
        pytest.approx((x, x, x)) for x in (18 / 20, 18 / 21, 21 / 40)
    ]


def test_the_present_decision_counts_and_not_the_stratum() -> None:
    """A new calibration decides some pairs of the stratum "near" as duplicates."""
    n = 12
    shares = estimate_shares(
        [FLAGGED] * n + ["near"] * n + ["near"] * n,
        [True] * 2 * n + [False] * n,
        [True] * n + [False] * n + [False] * n,
        np.array([0.5] * n + [0.1] * 2 * n),
        {(FLAGGED, True): 24, ("near", True): 120, ("near", False): 120},
    )
    assert shares.precision.value == pytest.approx(24 / 144)


@pytest.mark.parametrize("few", [0, 1, MIN_PAIRS - 1])
def test_too_few_answers_give_no_figure(few: int) -> None:
    shares = estimate_shares(
        [FLAGGED] * few + ["distinct"] * 30,
        [True] * few + [False] * 30,
        [True] * few + [False] * 30,
        np.full(few + 30, 0.5),
        {(FLAGGED, True): 60, ("distinct", False): 60},
    )
    for found in (shares.precision, shares.recall, audited_share([True] * few)):
        assert found.value is None
        assert (found.low, found.high) == (0, 1)
        assert found.note.startswith(f"too few: {few} ")
        assert str(found) == found.note
    assert audited_share([True] * MIN_PAIRS).value == 1


def test_without_judged_pairs_there_is_no_figure() -> None:
    shares = estimate_shares([], [], [], np.zeros(0), {})
    assert shares.precision.value is shares.recall.value is shares.base_rate.value is None


def test_the_audit_has_the_exact_binomial_interval() -> None:
    found = audited_share([True] * 45 + [False] * 5)
    assert (found.low, found.high) == pytest.approx((0.7819, 0.9667), abs=1e-4)  # Clopper-Pearson, 45 of 50
    assert found.pairs == 50


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, math.nan])
def test_bad_probabilities_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="probabilities"):
        estimate_shares([FLAGGED], [True], [True], np.array([bad]), {(FLAGGED, True): 1})
