"""Prior shift: adjust probabilities to a base rate, and estimate base rates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.numerics import effective_size, expit, logit
from dupq.data.arguments import as_int, as_kind, as_seed
from dupq.data.checks import (
    as_numbers,
    checked_groups,
    checked_probabilities,
    checked_rate,
    checked_scores,
)
from dupq.errors import InputError

Floats = NDArray[np.float64]

SHAPE_LEVEL = 0.01
MIN_PAIRS = 50
MAX_RELATIVE_ERROR = 0.2
"""Half-width of the 95 % interval, as a share of the rate, above which the text states that the pairs are few."""
COARSE_BINS = 20


def log_odds_shift(from_rate: float, to_rate: float) -> float:
    """Return the shift of log-odds; raise InputError for a rate outside (0, 1)."""
    return float(logit(checked_rate(to_rate)) - logit(checked_rate(from_rate)))


def adjust_prior(probabilities: ArrayLike, from_rate: float, to_rate: float) -> Floats:
    """Adjust probabilities (n,) from one base rate to another: float64 (n,).

    By Bayes' theorem the log-odds shift by logit(to_rate) - logit(from_rate) (Elkan 2001). This is exact where only the
    share of duplicates differs, and the scores of duplicates and of distinct pairs are each distributed as before. It
    need not hold where pairs were sampled in another way, as the candidates of mining are.

    Raises:
        InputError: A rate not strictly between 0 and 1, or probabilities outside [0, 1].
    """
    shift = log_odds_shift(from_rate, to_rate)
    values = as_numbers(probabilities, "probabilities")
    if not values.size:
        return values
    checked = checked_probabilities(values)
    return checked.copy() if shift == 0 else np.asarray(expit(logit(checked) + shift))


@dataclass(frozen=True, slots=True)
class ScoreReference:
    """Score distributions of duplicates and of distinct pairs, in k bins.

    It holds no scores of single pairs.

    Attributes:
        edges: k - 1 rising scores; bin j holds edges[j-1] <= score < edges[j].
        duplicates, distinct: Pairs in each bin, (k,).
        effective_duplicates, effective_distinct, effective_pairs: Effective over actual number of pairs, in (0, 1]:
            pairs of one question group carry less information than independent ones.
    """

    edges: tuple[float, ...]
    duplicates: tuple[int, ...]
    distinct: tuple[int, ...]
    effective_duplicates: float = 1.0
    effective_distinct: float = 1.0
    effective_pairs: float = 1.0

    @property
    def base_rate(self) -> float:
        """The share of duplicates."""
        return sum(self.duplicates) / (sum(self.duplicates) + sum(self.distinct))

    @property
    def pairs(self) -> int:
        """The number of pairs."""
        return sum(self.duplicates) + sum(self.distinct)

    def bin(self, scores: Floats) -> NDArray[np.int64]:
        """Return the bin of each score, (n,)."""
        return np.searchsorted(np.array(self.edges), scores, side="right").astype(np.int64)

    def shares(self) -> tuple[Floats, Floats]:
        """Return the shares of the duplicates and distinct pairs by bin, (k,) each."""
        ones, zeros = np.array(self.duplicates, dtype=np.float64), np.array(self.distinct, dtype=np.float64)
        return ones / ones.sum(), zeros / zeros.sum()


@dataclass(frozen=True, slots=True)
class BaseRateEstimate:
    """Estimate of a base rate from unlabelled pairs.

    Attributes:
        rate: The maximum likelihood share of duplicates, in (0, 1).
        low, high: Its 95 % interval; it holds where the score shapes fit.
        reliable: True where the test of the score shapes does not reject them.
        reason: The result of the test, in words.
        p_value: p value of the test.
        pairs: Number of pairs.
        attainable: The minimum standard error of any estimate of this rate from these pairs; see `attainable_error`.
    """

    rate: float
    low: float
    high: float
    reliable: bool
    reason: str
    p_value: float
    pairs: int
    attainable: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        mark = "" if self.reliable else "UNRELIABLE: "
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
    """Estimate the share of duplicates among unlabelled pairs from their scores.

    It is the maximum likelihood mixture of the reference's duplicates and distinct pairs, to which the EM algorithm of
    Saerens, Latinne & Decaestecker (2002) converges, with posteriors from a histogram of 20 bins (half a pair added to
    each). The interval is a bootstrap of both the live pairs, by question group if these are known, and the reference.

    It assumes that duplicates and distinct pairs each score as they did in the reference. A Kolmogorov-Smirnov distance
    between the live distribution and that mixture tests this; its null distribution is drawn by Monte Carlo, with the
    error of the estimate and of the reference in it. Where the test rejects, the estimate is unreliable. Where it does
    not, a change that leaves a mixture of the two shapes may still be undetected.

    Args:
        scores: Raw scores (n,), n >= 50.
        reference: See `ScoreReference`.
        groups: Question group keys (n,), if known.
        level: Level of the test, in (0, 1): the share of sound estimates that are called unreliable.
        draws: Draws of the bootstrap and of the test.
        seed: Seed of both.

    Raises:
        InputError: Fewer than 50 scores, or some that are not finite.
    """
    as_kind(reference, ScoreReference, "reference", "give rule.table.score_reference()")
    as_int(draws, "draws", 1)
    as_seed(seed)
    s = checked_scores(scores)
    if len(s) < MIN_PAIRS:
        raise InputError(f"{len(s)} pairs are too few to estimate a base rate", hint=f"give {MIN_PAIRS} or more")
    checked_rate(level, "level")
    g = checked_groups(groups, len(s))
    rng = np.random.default_rng(seed)
    fine = reference.bin(s)
    ones, zeros = reference.shares()
    k, join = len(ones), _coarse_bins(reference)
    live = np.bincount(fine, minlength=k).astype(np.float64)
    effective = effective_pairs(s, g)
    n_ones = max(2, round(sum(reference.duplicates) * reference.effective_duplicates))
    n_zeros = max(2, round(sum(reference.distinct) * reference.effective_distinct))

    def drawn_reference() -> tuple[Floats, Floats]:
        return rng.multinomial(n_ones, ones) / n_ones, rng.multinomial(n_zeros, zeros) / n_zeros

    rate = _max_likelihood_rate(live @ join, ones @ join, zeros @ join, n_ones, n_zeros)
    rates = np.empty(draws)
    n_groups = int(g.max()) + 1
    for b in range(draws):
        weight = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups).astype(np.float64)
        again = np.bincount(fine, weight[g], minlength=k)
        first, second = drawn_reference()
        rates[b] = _max_likelihood_rate(again @ join, first @ join, second @ join, n_ones, n_zeros)
    low, high = np.quantile(rates, [0.025, 0.975])

    def distance(counts: NDArray[Any], share: float, first: Floats, second: Floats) -> float:
        return float(np.abs(np.cumsum(counts / counts.sum() - share * first - (1 - share) * second)).max())

    observed = distance(live, rate, ones, zeros)
    mixed = rate * ones + (1 - rate) * zeros
    worse = 0
    for _ in range(draws):
        again = rng.multinomial(max(2, round(effective)), mixed / mixed.sum()).astype(np.float64)
        first, second = drawn_reference()
        share = _max_likelihood_rate(again @ join, first @ join, second @ join, n_ones, n_zeros)
        worse += distance(again, share, first, second) >= observed
    p_value = (1 + worse) / (1 + draws)
    reliable = p_value >= level
    fit = f"the scores fit {'a' if reliable else 'no'} mixture of the reference's duplicates and distinct pairs"
    reason = f"{fit} (p = {p_value:.3f})"
    if not reliable:
        reason += ": these pairs are of another kind, so label some and calibrate on them"
    attainable = attainable_error(rate, effective, reference)
    if 1.96 * attainable > MAX_RELATIVE_ERROR * rate:
        reason += (
            f"; from so few pairs no estimate of such a rate has a standard error below {attainable / rate:.0%} of it"
        )
    low, high = min(float(low), rate), max(float(high), rate)
    return BaseRateEstimate(rate, low, high, reliable, reason, p_value, len(s), attainable)


def attainable_error(rate: float, pairs: float, reference: ScoreReference) -> float:
    """Compute the minimum standard error of a base rate estimate, in (0, inf).

    It is the Cramer-Rao bound 1 / sqrt(n I), with the Fisher information of one pair of the mixture,
    I = sum over bins of (f1 - f0)^2 / (rate f1 + (1 - rate) f0), where f1 and f0 are the shares of duplicates and of
    distinct pairs in a bin, taken as exactly known. Where duplicates are rare, their score range holds more distinct
    pairs than duplicates, and the error is a large part of the rate. The reference's own error comes on top.

    Args:
        rate: The base rate, in (0, 1).
        pairs: Number of independent pairs, n.
        reference: See `ScoreReference`.

    Raises:
        InputError: A rate outside (0, 1).
    """
    ones, zeros = reference.shares()
    mixed = checked_rate(rate) * ones + (1 - rate) * zeros
    held = mixed > 0
    information = float(np.sum((ones - zeros)[held] ** 2 / mixed[held]))
    return float(1 / np.sqrt(pairs * information)) if information > 0 else float("inf")


def effective_pairs(scores: Floats, groups: NDArray[np.int64]) -> float:
    """Return the effective number of pairs: the minimum over score quartiles."""
    quartiles = np.quantile(scores, [0.25, 0.5, 0.75])
    return min(effective_size((scores >= cut).astype(np.int8), groups) for cut in quartiles)


def _coarse_bins(reference: ScoreReference) -> Floats:
    """Return a matrix (k, m) that joins neighbouring bins to m <= 20 of similar mass."""
    mass = np.cumsum(np.array(reference.duplicates) + np.array(reference.distinct))
    index = np.minimum((mass - 1) * COARSE_BINS // mass[-1], COARSE_BINS - 1).clip(0)
    return np.asarray(np.eye(COARSE_BINS)[index])


def _max_likelihood_rate(live: Floats, ones: Floats, zeros: Floats, n_ones: int, n_zeros: int) -> float:
    """Return the maximum likelihood rate of the live counts, by bisection."""
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
