"""Metrics of ranking, decisions and calibration, with bootstrap intervals.

Pairs that share a question are not independent, so each resample draws question groups (the cluster bootstrap, Davison
& Hinkley 1997, section 3.8). A resample is a vector of integer weights, one per group; all metrics are weighted sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.numerics import effective_size
from dupq.data.arguments import as_choice, as_int, as_seed
from dupq.data.checks import (
    checked_groups,
    checked_labels,
    checked_probabilities,
    checked_scores,
)
from dupq.errors import InputError

Floats = NDArray[np.float64]
Scheme = Literal["mass", "width"]

BINS = 15
RANKING = ("average_precision", "roc_auc")
AT_THRESHOLD = ("accuracy", "f1", "precision", "recall", "mcc")
CALIBRATION = ("ece_mass", "ece_width", "ece_debiased")
INFLATED = (*CALIBRATION, "brier_reliability", "brier_resolution")
"""Metrics that a resample inflates."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its 95 % interval.

    Attributes:
        value: Value on all pairs.
        low, high: Ends of the interval.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


MAX_BINS, MAX_RESAMPLES = 10_000, 1_000_000
"""Limits of `compute_metrics`; more would take all memory, or days."""


def compute_metrics(
    scores: ArrayLike,
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None,
    threshold_score: float | None,
    *,
    resamples: int = 200,
    seed: int = 0,
    bins: int = BINS,
) -> dict[str, Metric]:
    """Compute all metrics of one labelled set.

    Args:
        scores: Raw scores (n,), higher = more alike.
        probabilities: Calibrated P(duplicate) (n,), in [0, 1].
        labels: 0 or 1 (n,), both present.
        groups: Question group keys (n,); None: each pair is its own group.
        threshold_score: A pair is flagged when score >= threshold_score. None leaves out the metrics of decisions.
        resamples: Bootstrap resamples of the groups.
        seed: Seed of the resamples.
        bins: Bins of the calibration errors and of the parts of the Brier score.

    Returns:
        Name -> metric:
        `average_precision`, `roc_auc`: of the ranking by score.
        `accuracy`, `f1`, `precision`, `recall`, `mcc`: at the threshold; 0 where undefined.
        `brier`, and its parts over bins of equal mass (Murphy 1973; the resolution is the generalised one of
        Stephenson, Coelho & Jolliffe 2008, with which brier = reliability - resolution + uncertainty holds exactly):
        `brier_reliability` (lower is better), `brier_resolution` (higher is better), `brier_uncertainty`.
        `log_loss`: natural logarithm; probabilities are clipped to 2.2e-16 from 0 and 1.
        `ece_mass`, `ece_width`: expected calibration error (Naeini et al. 2015) over bins of equal mass or of equal
        width: the mean of |observed share - mean probability|. Noise alone makes it about 0.8 sqrt(bins p(1-p) / n).
        `ece_debiased`: root-mean-square calibration error over bins of equal mass, less its noise (Kumar, Liang & Ma
        2019), estimated between groups; 0 where the noise explains all of it.

        Intervals are percentiles of the resamples. A resample inflates calibration errors, reliability and resolution,
        so theirs are the percentiles of the deviation from the resamples' mean, around the value. A metric of ranking
        or decisions that is equal in all resamples gets the interval of the rule of three; see `_widened`.

    Raises:
        InputError: Lengths differ, a value is not finite, a probability is outside [0, 1], or the labels are not 0 and
            1, both present.
    """
    s = checked_scores(scores)
    p = checked_probabilities(probabilities)
    y = checked_labels(labels, len(s)).astype(np.float64)
    if len(p) != len(s):
        raise InputError(
            f"scores and probabilities must be of one length, got {len(s):,} and {len(p):,}", hint="give n of each"
        )
    as_int(bins, "bins", 2, MAX_BINS, hint="give 2 or more, such as 15")
    as_int(resamples, "resamples", 0, MAX_RESAMPLES)
    as_seed(seed)
    if threshold_score is not None:
        threshold_score = float(checked_scores([threshold_score], "threshold_score")[0])
    g = checked_groups(groups, len(s))
    figures = _Figures(s, p, y, g, threshold_score, bins)
    n_groups = int(g.max()) + 1
    point = figures.compute(np.ones(n_groups))
    rng = np.random.default_rng(seed)
    drawn = [figures.compute(w) for w in _resamples(rng, n_groups, resamples)]
    fewest = _fewest_groups(s, y, g, threshold_score)
    metrics = {name: _interval(name, value, np.array([d[name] for d in drawn])) for name, value in point.items()}
    return {
        name: _widened(metric, fewest[name]) if name in RANKING + AT_THRESHOLD else metric
        for name, metric in metrics.items()
    }


def _fewest_groups(s: Floats, y: Floats, g: NDArray[np.int64], cut: float | None) -> dict[str, int]:
    """Return the number of question groups that each metric rests on."""
    duplicates, distinct = (len(np.unique(g[y == label])) for label in (1, 0))
    fewest = dict.fromkeys(RANKING + AT_THRESHOLD, min(duplicates, distinct))
    if cut is not None:
        flagged = len(np.unique(g[s >= cut]))
        few = min(flagged, duplicates)
        fewest |= {"precision": flagged, "recall": duplicates, "f1": few, "mcc": min(few, distinct)}
    return fewest


def _resamples(rng: np.random.Generator, n_groups: int, resamples: int) -> Any:
    for _ in range(resamples):
        yield np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups).astype(np.float64)


def _interval(name: str, value: float, drawn: Floats) -> Metric:
    """Return a metric with the interval of its resamples.

    `ece_debiased` comes in squared and signed, so that its noise is symmetric, and is returned as a root.
    """
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        low = high = value
    else:
        low, high = (float(x) for x in np.quantile(drawn, [0.025, 0.975]))
        if name in INFLATED:
            shift = value - float(drawn.mean())
            low, high = low + shift, high + shift
    if name == "ece_debiased":
        value, low, high = (float(np.sqrt(max(x, 0.0))) for x in (value, low, high))
    if name in CALIBRATION or name == "brier_reliability":
        low = max(low, 0.0)
    return Metric(float(value), low, high)


def _widened(metric: Metric, groups: int) -> Metric:
    """Widen the interval of a metric that is equal in all resamples.

    A perfect metric of few pairs is an example. A share of 1 - 0.025^(1 / groups) of the groups may differ without one
    of them being in the sample (the rule of three, Hanley & Lippman-Hand 1983, at 97.5 %). One group alone gives the
    interval [0, 1].
    """
    if metric.low < metric.high:
        return metric
    unseen = 1.0 if groups < 2 else 1 - 0.025 ** (1 / groups)
    return Metric(metric.value, min(metric.value, max(0.0, metric.value - unseen)), min(1.0, metric.value + unseen))


class _Figures:
    """Sums of a labelled set that do not change between resamples."""

    def __init__(self, s: Floats, p: Floats, y: Floats, g: NDArray[np.int64], cut: float | None, bins: int) -> None:
        self.groups = g
        self.cut = cut
        order = np.argsort(-s, kind="stable")
        self.ranked_groups, self.ranked_labels = g[order], y[order]
        self.ends = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)
        eps = np.finfo(np.float64).eps
        clipped = np.clip(p, eps, 1 - eps)
        sums = [np.ones_like(p), y, (p - y) ** 2, -(y * np.log(clipped) + (1 - y) * np.log1p(-clipped))]
        if cut is not None:
            flagged = (s >= cut).astype(np.float64)
            sums += [flagged, flagged * y]
        n_groups = int(g.max()) + 1
        self.sums = np.stack([np.bincount(g, x, minlength=n_groups) for x in sums], axis=1)
        self.mass = _Cells(p, y, g, bin_index(p, bins, "mass"))
        self.width = _Cells(p, y, g, bin_index(p, bins, "width"))

    def compute(self, w: Floats) -> dict[str, float]:
        totals = w @ self.sums
        n, positives, squares, losses = (float(x) for x in totals[:4])
        average_precision, roc_auc = self._ranking(w, positives, n)
        decisions = () if self.cut is None else at_threshold(n, positives, float(totals[4]), float(totals[5]))
        share = positives / n
        ece, squared, noise = self.mass.errors(w)
        return {
            "average_precision": average_precision,
            "roc_auc": roc_auc,
            **dict(zip(AT_THRESHOLD, decisions, strict=False)),
            "brier": squares / n,
            "brier_reliability": squared,
            "brier_resolution": squared + share * (1 - share) - squares / n,
            "brier_uncertainty": share * (1 - share),
            "log_loss": losses / n,
            "ece_mass": ece,
            "ece_width": self.width.errors(w)[0],
            "ece_debiased": squared - noise,
        }

    def _ranking(self, w: Floats, positives: float, n: float) -> tuple[float, float]:
        if positives == 0 or positives == n:
            return np.nan, np.nan
        weights = w[self.ranked_groups]
        flagged = np.cumsum(weights)[self.ends]
        tp = np.cumsum(weights * self.ranked_labels)[self.ends]
        precision = tp / np.maximum(flagged, 1)
        average = float(np.sum(np.diff(tp, prepend=0.0) * precision) / positives)
        area = np.sum(np.diff(flagged - tp, prepend=0.0) * (tp + np.append(0.0, tp[:-1])) / 2)
        return average, float(area / (positives * (n - positives)))


def at_threshold(n: float, positives: float, flagged: float, tp: float) -> tuple[float, float, float, float, float]:
    """Return accuracy, F1, precision, recall and Matthews' correlation.

    A value is 0 where it is undefined.

    Args:
        n: Number of pairs.
        positives: Number of duplicates.
        flagged: Number of flagged pairs.
        tp: Number of flagged duplicates.
    """
    fn, fp = positives - tp, flagged - tp
    tn = n - flagged - fn
    scale = flagged * positives * (n - flagged) * (n - positives)
    return (
        (tp + tn) / n,
        2 * tp / (flagged + positives) if flagged + positives > 0 else 0.0,
        tp / flagged if flagged > 0 else 0.0,
        tp / positives if positives > 0 else 0.0,
        float((tp * tn - fp * fn) / np.sqrt(scale)) if scale > 0 else 0.0,
    )


def bin_index(probabilities: Floats, bins: int, scheme: Scheme) -> NDArray[np.int64]:
    """Return the bin of each probability (n,), from 0 to at most bins - 1.

    Bins of equal mass are cut at quantiles. Equal probabilities share a bin, so there may be fewer bins.
    """
    if scheme == "width":
        return np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    edges = np.unique(np.quantile(probabilities, np.arange(1, bins) / bins))
    return np.searchsorted(edges, probabilities, side="right").astype(np.int64)


class _Cells:
    """Sums over the pairs that share both a question group and a bin."""

    def __init__(self, p: Floats, y: Floats, g: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        self.bins = int(b.max()) + 1
        keys, cell = np.unique(g * self.bins + b, return_inverse=True)
        self.group, self.bin = keys // self.bins, keys % self.bins
        self.count = np.bincount(cell).astype(np.float64)
        self.gap = np.bincount(cell, p - y)

    def errors(self, w: Floats) -> tuple[float, float, float]:
        """Return the mean absolute error, the mean squared error, and the latter's noise."""
        weight = w[self.group]

        def total(x: NDArray[Any]) -> Floats:
            return np.bincount(self.bin, weight * x, minlength=self.bins).astype(np.float64)

        count = np.maximum(total(self.count), 1.0)
        clusters = total(np.ones_like(self.count))
        gap = total(self.gap) / count
        spread = total(self.gap**2) - 2 * gap * total(self.gap * self.count) + gap**2 * total(self.count**2)
        # The variance of a mean over clusters, with Bessel's correction.
        noise = spread / count**2 * np.where(clusters > 1, clusters / np.maximum(clusters - 1, 1), 0.0)
        share = total(self.count) / float(total(self.count).sum())
        return float(share @ np.abs(gap)), float(share @ gap**2), float(share @ noise)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram.

    Attributes:
        probability: Mean probability of its pairs.
        observed: Share of duplicates among its pairs.
        low, high: 95 % interval of `observed`.
        pairs: Number of pairs.
    """

    probability: float
    observed: float
    low: float
    high: float
    pairs: int


def reliability(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    bins: int = BINS,
    scheme: Scheme = "mass",
) -> list[ReliabilityBin]:
    """Return the non-empty bins of a reliability diagram, by rising probability.

    Args:
        probabilities: Calibrated P(duplicate) (n,), in [0, 1].
        labels: 0 or 1 (n,).
        groups: Question group keys (n,); None: each pair is its own group.
        bins: Maximum number of bins.
        scheme: "mass": bins of equally many pairs; "width": bins of equal width.

    Returns:
        The bins. The interval is Wilson's (1927) with n divided by the design effect of the groups (Kish 1965).

    Raises:
        InputError: An argument is out of range, or lengths differ.
    """
    p = checked_probabilities(probabilities)
    y = checked_labels(labels, len(p)).astype(np.float64)
    as_int(bins, "bins", 1, MAX_BINS)
    as_choice(scheme, ("mass", "width"), "scheme")
    index = bin_index(p, bins, scheme)
    g = checked_groups(groups, len(p))
    return [_reliability_bin(p[index == b], y[index == b], g[index == b]) for b in np.unique(index)]


def _reliability_bin(p: Floats, y: Floats, g: NDArray[np.int64]) -> ReliabilityBin:
    share = float(y.mean())
    return ReliabilityBin(float(p.mean()), share, *wilson(share, effective_size(y, g)), len(p))


def average_precision(labels: NDArray[Any], scores: Floats) -> float:
    """Return the average precision of a ranking.

    It is the mean precision at the ranks of the duplicates.

    Args:
        labels: 0 or 1 (n,), at least one 1.
        scores: (n,), higher first; equal scores share one rank.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    tp = np.cumsum(labels[order])[ends]
    return float(np.sum(np.diff(tp, prepend=0) * tp / (ends + 1)) / tp[-1])


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share among n independent pairs.

    `n` may be a fraction. Source: Wilson 1927.
    """
    z = 1.959963984540054
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = BINS, scheme: Scheme = "mass"
) -> float:
    """Compute the expected calibration error (ECE, Naeini et al. 2015), in [0, 1].

    It is the mean over pairs of |observed share - mean probability| of their bin.

    Args:
        probabilities: P(duplicate) (n,), in [0, 1].
        labels: 0 or 1 (n,), both present.
        bins: Number of bins.
        scheme: "mass": bins of equal numbers of pairs; "width": bins of equal width.

    Raises:
        InputError: Lengths differ, or a value is out of its range.
    """
    rows = reliability(probabilities, labels, bins=bins, scheme=scheme)
    return sum(row.pairs * abs(row.observed - row.probability) for row in rows) / sum(row.pairs for row in rows)


def ece_of_calibrated(probabilities: ArrayLike, *, bins: int = BINS, scheme: Scheme = "mass") -> float:
    """Return the expected ECE of a perfectly calibrated model, in [0, 1].

    It is the ECE of labels drawn independently by these probabilities (the consistency resampling of Bröcker & Smith
    2007), in the normal approximation: the mean over pairs of sqrt(2 v / pi), v being the variance of the share of
    duplicates in their bin. An ECE below it is no evidence of an error.

    Args:
        probabilities: P(duplicate) (n,), in [0, 1].
        bins: Number of bins.
        scheme: As in `expected_calibration_error`.

    Raises:
        InputError: An argument is out of range.
    """
    p = checked_probabilities(probabilities)
    as_int(bins, "bins", 1, MAX_BINS)
    as_choice(scheme, ("mass", "width"), "scheme")
    variances = np.bincount(bin_index(p, bins, scheme), p * (1 - p))
    return float(np.sqrt(variances * 2 / np.pi).sum() / len(p))
