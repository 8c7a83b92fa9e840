"""Detect drift of live scores from the calibration scores, without labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.prior_shift import (
    MIN_PAIRS,
    BaseRateEstimate,
    ScoreReference,
    effective_pairs,
    estimate_base_rate,
)
from dupq.data.arguments import as_int, as_kind, as_seed
from dupq.data.checks import checked_groups, checked_rate, checked_scores
from dupq.errors import InputError

Floats = NDArray[np.float64]

_PSI_BINS = 10


@dataclass(frozen=True, slots=True)
class DriftResult:
    """Result of a drift check.

    Attributes:
        alarm: True where the live scores differ from the reference by more than chance allows.
        ks, ks_limit: The Kolmogorov-Smirnov distance of both distributions, in [0, 1], and the value above which it
            alarms.
        psi, psi_limit: The population stability index over 10 bins, and the value above which it alarms.
        false_alarm_rate: The share of checks that alarm where nothing has changed.
        base_rate: The estimated share of duplicates among the live pairs.
        reference_rate: The share of duplicates in the reference.
        pairs: Number of live pairs.
        advice: The recommended next step, in words.
    """

    alarm: bool
    ks: float
    ks_limit: float
    psi: float
    psi_limit: float
    false_alarm_rate: float
    base_rate: BaseRateEstimate
    reference_rate: float
    pairs: int
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{'DRIFT' if self.alarm else 'no drift'} over {self.pairs:,} pairs (false-alarm rate "
            f"{self.false_alarm_rate:g}): KS {self.ks:.4f}, limit {self.ks_limit:.4f}; PSI {self.psi:.4f}, limit "
            f"{self.psi_limit:.4f}\nbase rate {self.base_rate}\n{self.advice}"
        )


@dataclass(frozen=True, slots=True)
class DriftMonitor:
    """Test of live scores against a reference.

    It uses two statistics: the two-sample Kolmogorov-Smirnov distance, which is sensitive to shifts anywhere, and the
    population stability index (Lewis 1994), which is sensitive to thin tails. Each alarms above the quantile that
    leaves half of the false-alarm rate above it where both samples come from the reference's distribution, drawn by
    Monte Carlo at the effective sizes of both. Together they alarm falsely at most at that rate; a rule of thumb such
    as "PSI > 0.2" has no such bound.

    Attributes:
        reference: The reference; `pipeline.score_reference()` returns a pipeline's own.
        false_alarm_rate: Target rate, in (0, 1).
        draws: Number of Monte Carlo draws.
        seed: Seed of the draws.
    """

    reference: ScoreReference
    false_alarm_rate: float = 0.01
    draws: int = 4000
    seed: int = 0

    def check(self, scores: ArrayLike, groups: ArrayLike | None = None) -> DriftResult:
        """Compare live scores (n,), n >= 50, with the reference.

        Args:
            scores: Raw scores by the scorer that the reference was made with.
            groups: Question group keys (n,), if known; without them live pairs are taken as independent.

        Raises:
            InputError: Fewer than 50 scores, or some that are not finite.
        """
        as_kind(self.reference, ScoreReference, "reference", "give pipeline.score_reference()")
        as_int(self.draws, "draws", 1)
        as_seed(self.seed)
        s = checked_scores(scores)
        if len(s) < MIN_PAIRS:
            raise InputError(f"{len(s)} pairs are too few to detect drift", hint=f"give {MIN_PAIRS} or more")
        rate = checked_rate(self.false_alarm_rate, "false-alarm rate")
        g = checked_groups(groups, len(s))
        rng = np.random.default_rng(self.seed)
        before = np.array(self.reference.duplicates) + np.array(self.reference.distinct)
        now = np.bincount(self.reference.bin(s), minlength=len(before))
        # Pairs of one group are not independent, so both samples are drawn at their effective sizes.
        n_before = max(2, round(float(before.sum()) * self.reference.effective_pairs))
        n_now = max(2, round(effective_pairs(s, g)))
        share = before / before.sum()
        drawn_before = rng.multinomial(n_before, share, size=self.draws)
        drawn_now = rng.multinomial(n_now, share, size=self.draws)
        join = _joined(before)
        # Half a pair in each bin keeps an empty one from making the index infinite; both sides get the same.
        ks, psi = _ks_distance(before, now), _stability_index(before @ join, now @ join, n_before, n_now)
        ks_drawn = _ks_distance(drawn_before, drawn_now)
        psi_drawn = _stability_index(drawn_before @ join, drawn_now @ join, n_before, n_now)
        ks_limit, psi_limit = (float(np.quantile(x, 1 - rate / 2)) for x in (ks_drawn, psi_drawn))
        alarm = bool(ks > ks_limit or psi > psi_limit)
        estimate = estimate_base_rate(s, self.reference, groups=g, seed=self.seed)
        return DriftResult(
            alarm=alarm,
            ks=float(ks),
            ks_limit=ks_limit,
            psi=float(psi),
            psi_limit=psi_limit,
            false_alarm_rate=rate,
            base_rate=estimate,
            reference_rate=self.reference.base_rate,
            pairs=len(s),
            advice=_advice(alarm, estimate, self.reference.base_rate),
        )


def _advice(alarm: bool, estimate: BaseRateEstimate, before: float) -> str:
    if not alarm:
        return "Nothing to do: the scores are spread as they were."
    if estimate.reliable:
        return (
            f"The share of duplicates went from {before:.3f} to about {estimate.rate:.3f}, and both kinds of pair look "
            "as they did: state the new base rate; the calibration still holds."
        )
    return "These pairs are of another kind than the reference: label some of them and calibrate on them."


def _joined(before: NDArray[Any]) -> Floats:
    """Return a matrix that joins neighbouring bins to 10 of similar mass."""
    mass = np.cumsum(before)
    index = np.minimum((mass - 1) * _PSI_BINS // mass[-1], _PSI_BINS - 1).clip(0)
    return np.asarray(np.eye(_PSI_BINS)[index])


def _ks_distance(before: NDArray[Any], now: NDArray[Any]) -> Any:
    a, b = (np.cumsum(x, axis=-1) / x.sum(axis=-1, keepdims=True) for x in (before, now))
    return np.abs(a - b).max(axis=-1)


def _stability_index(before: NDArray[Any], now: NDArray[Any], n_before: int, n_now: int) -> Any:
    def smooth(x: NDArray[Any], n: int) -> Floats:
        share = x / x.sum(axis=-1, keepdims=True)
        return np.asarray((share * n + 0.5) / (n + 0.5 * x.shape[-1]))

    a, b = smooth(before, n_before), smooth(now, n_now)
    return ((a - b) * np.log(a / b)).sum(axis=-1)
