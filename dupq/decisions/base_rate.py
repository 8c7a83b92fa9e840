"""Probabilities at another base rate, and the base rate of a place whose pairs carry no labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.decisions.checks import checked_groups, checked_probabilities, checked_rate, checked_scores
from dupq.decisions.evidence import Evidence
from dupq.decisions.metrics import effective_size
from dupq.decisions.odds import expit, logit
from dupq.errors import InputError

Floats = NDArray[np.float64]

SHAPE_LEVEL = 0.01
FEWEST_PAIRS = 50
COARSE = 0.2
_COARSE = 20
_FINE = 100


def log_odds_shift(from_rate: float, to_rate: float) -> float:
    """What is added to the log-odds of each pair when the base rate moves and both kinds of pair stay the same."""
    return float(logit(checked_rate(to_rate)) - logit(checked_rate(from_rate)))


def rebase(probabilities: ArrayLike, from_rate: float, to_rate: float) -> Floats:
    """Probabilities stated at one base rate, restated at another: float64 (n,).

    By Bayes' theorem the log-odds shift by logit(to_rate) - logit(from_rate). That is exact where only the share of
    duplicates differs, and duplicates and distinct pairs each look as they did (Elkan 2001).

    Raises:
        InputError: A rate not strictly between 0 and 1, or probabilities outside [0, 1].
    """
    shift = log_odds_shift(from_rate, to_rate)
    values = np.asarray(probabilities, dtype=np.float64)
    if not values.size:
        return values
    checked = checked_probabilities(values)
    return checked.copy() if shift == 0 else np.asarray(expit(logit(checked) + shift))


@dataclass(frozen=True, slots=True)
class ScoreReference:
    """How scores of duplicates and of distinct pairs are spread: counts in k bins, and no scores of single pairs.

    Attributes:
        edges: k - 1 rising scores; bin j holds edges[j-1] <= score < edges[j].
        duplicates, distinct: Pairs in each bin, (k,).
        of_duplicates, of_distinct, of_pairs: Effective over actual number of pairs, in (0, 1]: pairs of one question
            group say less than independent ones.
    """

    edges: tuple[float, ...]
    duplicates: tuple[int, ...]
    distinct: tuple[int, ...]
    of_duplicates: float = 1.0
    of_distinct: float = 1.0
    of_pairs: float = 1.0

    @classmethod
    def from_evidence(cls, evidence: Evidence) -> ScoreReference:
        """The reference that the evidence of a decision rule holds, in 100 bins of equal mass or fewer."""
        rising = np.array(evidence.cuts[::-1])
        ones = np.array(evidence.found[::-1], dtype=np.int64)
        zeros = np.array(evidence.false[::-1], dtype=np.int64)
        wanted = np.linspace(0, evidence.pairs, _FINE + 1)[1:-1]
        keep = np.unique(np.searchsorted(evidence.pairs - (ones + zeros), wanted).clip(1, len(rising) - 1))
        if len(rising) < 2:
            raise InputError("all scores of the reference are the same", mend="calibrate on pairs whose scores differ")
        above = np.append(keep, len(rising))

        def spread(at_or_above: NDArray[np.int64], total: int) -> tuple[int, ...]:
            return tuple((-np.diff(np.concatenate([[total], np.append(at_or_above, 0)[above]]))).tolist())

        middle = len(rising) // 2
        return cls(
            edges=tuple(rising[keep].tolist()),
            duplicates=spread(ones, evidence.duplicates),
            distinct=spread(zeros, evidence.distinct),
            of_duplicates=evidence.of_duplicates[middle],
            of_distinct=evidence.of_distinct[middle],
            of_pairs=evidence.of_pairs[middle],
        )

    @property
    def base_rate(self) -> float:
        return sum(self.duplicates) / (sum(self.duplicates) + sum(self.distinct))

    @property
    def pairs(self) -> int:
        return sum(self.duplicates) + sum(self.distinct)

    def bin(self, scores: Floats) -> NDArray[np.int64]:
        """The bin of each score, (n,)."""
        return np.searchsorted(np.array(self.edges), scores, side="right").astype(np.int64)

    def shares(self) -> tuple[Floats, Floats]:
        """Share of the duplicates, and of the distinct pairs, in each bin: (k,) each."""
        ones, zeros = np.array(self.duplicates, dtype=np.float64), np.array(self.distinct, dtype=np.float64)
        return ones / ones.sum(), zeros / zeros.sum()


@dataclass(frozen=True, slots=True)
class BaseRateEstimate:
    """A base rate estimated without labels.

    Attributes:
        rate: The likeliest share of duplicates, in (0, 1).
        low, high: Its 95 % interval, if the score shapes fit.
        believable: Whether they do, as far as can be told.
        reason: Why, in words.
        p_value: Of the test of the shapes.
        pairs: How many pairs it rests on.
        attainable: The least standard error that any estimate of this rate from these pairs can have; see
            `attainable_error`.
    """

    rate: float
    low: float
    high: float
    believable: bool
    reason: str
    p_value: float
    pairs: int
    attainable: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        mark = "" if self.believable else "NOT TO BE BELIEVED: "
        return f"{mark}{self.rate:.3f} [{self.low:.3f}, {self.high:.3f}] from {self.pairs:,} pairs: {self.reason}"


def estimate_base_rate(
    scores: ArrayLike,
    reference: ScoreReference,
    *,
    groups: ArrayLike | None = None,
    level: float = SHAPE_LEVEL,
    draws: int = 300,
    seed: int = 0,
) -> BaseRateEstimate:
    """The share of duplicates among unlabelled pairs, from the shape of their scores.

    The likeliest mixture of the reference's duplicates and distinct pairs, which is what the EM algorithm of Saerens,
    Latinne & Decaestecker (2002) converges to, with posteriors from a histogram of 20 bins (half a pair added to each).
    The interval is a bootstrap of both the live pairs, by question group if these are known, and the reference.

    It rests on duplicates and distinct pairs each scoring as they did in the reference. Whether they do is tested by
    the greatest distance between the live distribution and that mixture (Kolmogorov-Smirnov); its distribution where
    they do is drawn by Monte Carlo, with the estimate of the base rate and the reference's own error in it. Where that
    test rejects, the estimate is not to be believed. Where it does not, a change that leaves the shape a mixture of
    the two may still have gone unseen.

    Args:
        scores: Raw scores (n,), n >= 50.
        reference: See `ScoreReference`.
        groups: Question group keys (n,), if known.
        level: Share of sound estimates, in (0, 1), that the test calls not believable.
        draws: Of the bootstrap and of the test.
        seed: Of both.

    Raises:
        InputError: Fewer than 50 scores, or some that are not finite.
    """
    s = checked_scores(scores)
    if len(s) < FEWEST_PAIRS:
        raise InputError(f"{len(s)} pairs say nothing of the base rate", mend=f"give {FEWEST_PAIRS} or more")
    checked_rate(level, "level")
    g = checked_groups(groups, len(s))
    rng = np.random.default_rng(seed)
    fine = reference.bin(s)
    ones, zeros = reference.shares()
    k, join = len(ones), _coarse_bins(reference)
    live = np.bincount(fine, minlength=k).astype(np.float64)
    effective = effective_pairs(s, g)
    n_ones = max(2, round(sum(reference.duplicates) * reference.of_duplicates))
    n_zeros = max(2, round(sum(reference.distinct) * reference.of_distinct))

    def drawn_reference() -> tuple[Floats, Floats]:
        return rng.multinomial(n_ones, ones) / n_ones, rng.multinomial(n_zeros, zeros) / n_zeros

    rate = _likeliest(live @ join, ones @ join, zeros @ join, n_ones, n_zeros)
    rates = np.empty(draws)
    n_groups = int(g.max()) + 1
    for b in range(draws):
        weight = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups).astype(np.float64)
        again = np.bincount(fine, weight[g], minlength=k)
        first, second = drawn_reference()
        rates[b] = _likeliest(again @ join, first @ join, second @ join, n_ones, n_zeros)
    low, high = np.quantile(rates, [0.025, 0.975])

    def distance(counts: NDArray[Any], share: float, first: Floats, second: Floats) -> float:
        return float(np.abs(np.cumsum(counts / counts.sum() - share * first - (1 - share) * second)).max())

    observed = distance(live, rate, ones, zeros)
    mixed = rate * ones + (1 - rate) * zeros
    worse = 0
    for _ in range(draws):
        again = rng.multinomial(max(2, round(effective)), mixed / mixed.sum()).astype(np.float64)
        first, second = drawn_reference()
        share = _likeliest(again @ join, first @ join, second @ join, n_ones, n_zeros)
        worse += distance(again, share, first, second) >= observed
    p_value = (1 + worse) / (1 + draws)
    believable = p_value >= level
    fit = f"the scores fit {'a' if believable else 'no'} mixture of the reference's duplicates and distinct pairs"
    reason = f"{fit} (p = {p_value:.3f})"
    if not believable:
        reason += ": these pairs are of another kind, so label some and calibrate on them"
    attainable = attainable_error(rate, effective, reference)
    if 1.96 * attainable > COARSE * rate:
        reason += (
            f"; from so few pairs no estimate of such a rate has a standard error below {attainable / rate:.0%} of it"
        )
    low, high = min(float(low), rate), max(float(high), rate)
    return BaseRateEstimate(rate, low, high, believable, reason, p_value, len(s), attainable)


def attainable_error(rate: float, pairs: float, reference: ScoreReference) -> float:
    """The least standard error with which a base rate can be estimated from unlabelled scores, in (0, inf).

    The Cramer-Rao bound: 1 / sqrt(n I), with the Fisher information of one pair of the mixture,
    I = sum over bins of (f1 - f0)^2 / (rate f1 + (1 - rate) f0), f1 and f0 being the shares of duplicates and of
    distinct pairs in a bin, taken for exactly known. It depends on how well the scores tell the two apart; where
    duplicates are rare, their score range holds more distinct pairs than duplicates, and I falls to where the error
    is a large part of the rate. What the reference does not know of f1 and f0 comes on top of it.

    Args:
        rate: The base rate, in (0, 1).
        pairs: How many independent pairs there are, n.
        reference: See `ScoreReference`.
    """
    ones, zeros = reference.shares()
    mixed = checked_rate(rate) * ones + (1 - rate) * zeros
    seen = mixed > 0
    information = float(np.sum((ones - zeros)[seen] ** 2 / mixed[seen]))
    return float(1 / np.sqrt(pairs * information)) if information > 0 else float("inf")


def effective_pairs(scores: Floats, groups: NDArray[np.int64]) -> float:
    """How many independent pairs these are worth: the least over the three quartiles of the score."""
    quartiles = np.quantile(scores, [0.25, 0.5, 0.75])
    return min(effective_size((scores >= cut).astype(np.int8), groups) for cut in quartiles)


def _coarse_bins(reference: ScoreReference) -> Floats:
    """A matrix (k, m) that joins neighbouring bins to m <= 20 of like mass."""
    mass = np.cumsum(np.array(reference.duplicates) + np.array(reference.distinct))
    index = np.minimum((mass - 1) * _COARSE // mass[-1], _COARSE - 1).clip(0)
    return np.asarray(np.eye(_COARSE)[index])


def _likeliest(live: Floats, ones: Floats, zeros: Floats, n_ones: int, n_zeros: int) -> float:
    """The rate that makes the live counts likeliest: the root of a falling function, by bisection."""
    first = (ones * n_ones + 0.5) / (n_ones + 0.5 * len(ones))
    second = (zeros * n_zeros + 0.5) / (n_zeros + 0.5 * len(zeros))
    gain = first / second - 1
    low, high = 1e-6, 1 - 1e-6
    for _ in range(40):
        middle = (low + high) / 2
        if float(np.sum(live * gain / (1 + middle * gain))) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
