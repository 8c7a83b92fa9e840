"""How good scores and probabilities are: ranking, decisions, calibration, with bootstrap intervals over groups.

Pairs that share a question are not independent, so what is drawn again in each resample is the question group (the
cluster bootstrap, Davison & Hinkley 1997, section 3.8). A resample is a vector of whole weights, one a group: all
figures are computed from weighted sums, and nothing is copied or sorted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.decisions.checks import checked_groups, checked_labels, checked_probabilities, checked_scores
from dupq.errors import InputError

Floats = NDArray[np.float64]
Scheme = Literal["mass", "width"]

BINS = 15
RANKING = ("average_precision", "roc_auc")
AT_THRESHOLD = ("accuracy", "f1", "precision", "recall", "mcc")
CALIBRATION = ("ece_mass", "ece_width", "ece_debiased")


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure and its 95 % interval.

    Attributes:
        value: The figure on all pairs.
        low, high: The interval's ends.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def evaluate(
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
    """All figures of one labelled set.

    Args:
        scores: Raw scores (n,), higher = more alike.
        probabilities: Calibrated P(duplicate) (n,), in [0, 1].
        labels: 0 or 1 (n,), both present.
        groups: Question group keys (n,); None: each pair is its own group.
        threshold_score: A pair is flagged when score >= threshold_score. None leaves out the figures that need it.
        resamples: Bootstrap resamples of the groups.
        seed: Of the resamples.
        bins: Bins of the calibration errors and of the parts of the Brier score.

    Returns:
        Name -> figure:
        `average_precision`, `roc_auc`: of the ranking by score.
        `accuracy`, `f1`, `precision`, `recall`, `mcc`: at the threshold; 0 where undefined.
        `brier`, and its parts over bins of equal mass (Murphy 1973; the resolution is the generalised one of
        Stephenson, Coelho & Jolliffe 2008, with which brier = reliability - resolution + uncertainty holds exactly):
        `brier_reliability` (lower is better), `brier_resolution` (higher is better), `brier_uncertainty`.
        `log_loss`: natural logarithm; probabilities are held off 0 and 1 by 2.2e-16.
        `ece_mass`, `ece_width`: expected calibration error (Naeini et al. 2015) over bins of equal mass or of equal
        width: the mean of |observed share - mean probability|. Noise alone makes it about 0.8 sqrt(bins p(1-p) / n).
        `ece_debiased`: root-mean-square calibration error over bins of equal mass, less its noise (Kumar, Liang & Ma
        2019), the noise being estimated between groups; 0 where the noise explains all.

        Intervals are percentiles of the resamples; those of calibration errors, which a resample inflates, are the
        percentiles of the deviation from the resamples' mean, around the figure itself.

    Raises:
        InputError: Lengths that differ, values that are not finite, probabilities outside [0, 1], labels other than 0
            and 1 or only one of them.
    """
    s = checked_scores(scores)
    p = checked_probabilities(probabilities)
    y = checked_labels(labels, len(s)).astype(np.float64)
    if len(p) != len(s):
        raise InputError(f"{len(s):,} scores but {len(p):,} probabilities", mend="give one of each a pair")
    if bins < 2:
        raise InputError(f"{bins} bins cannot show calibration", mend="give 2 or more, such as 15")
    g = checked_groups(groups, len(s))
    figures = _Figures(s, p, y, g, threshold_score, bins)
    n_groups = int(g.max()) + 1
    point = figures.compute(np.ones(n_groups))
    rng = np.random.default_rng(seed)
    drawn = [figures.compute(w) for w in _resamples(rng, n_groups, resamples)]
    return {name: _interval(name, value, np.array([d[name] for d in drawn])) for name, value in point.items()}


def _resamples(rng: np.random.Generator, n_groups: int, resamples: int) -> Any:
    for _ in range(resamples):
        yield np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups).astype(np.float64)


def _interval(name: str, value: float, drawn: Floats) -> Metric:
    """The debiased error comes squared and signed, so that its noise is symmetric; it leaves here as a root."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        low = high = value
    else:
        low, high = (float(x) for x in np.quantile(drawn, [0.025, 0.975]))
        if name in CALIBRATION:
            shift = value - float(drawn.mean())
            low, high = low + shift, high + shift
    if name == "ece_debiased":
        value, low, high = (float(np.sqrt(max(x, 0.0))) for x in (value, low, high))
    if name in CALIBRATION:
        low = max(low, 0.0)
    return Metric(float(value), low, high)


class _Figures:
    """Everything of a labelled set that does not change between resamples."""

    def __init__(self, s: Floats, p: Floats, y: Floats, g: NDArray[np.int64], cut: float | None, bins: int) -> None:
        self.groups = g
        self.cut = cut
        order = np.argsort(-s, kind="stable")
        self.ranked_groups, self.ranked_labels = g[order], y[order]
        self.ends = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)
        eps = np.finfo(np.float64).eps
        held = np.clip(p, eps, 1 - eps)
        sums = [np.ones_like(p), y, (p - y) ** 2, -(y * np.log(held) + (1 - y) * np.log1p(-held))]
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
        found: dict[str, float] = {}
        found["average_precision"], found["roc_auc"] = self._ranking(w, positives, n)
        if self.cut is not None:
            found.update(zip(AT_THRESHOLD, at_threshold(n, positives, float(totals[4]), float(totals[5])), strict=True))
        share = positives / n
        found["brier"] = squares / n
        ece, squared, noise = self.mass.errors(w)
        found["brier_reliability"] = squared
        found["brier_resolution"] = squared + share * (1 - share) - squares / n
        found["brier_uncertainty"] = share * (1 - share)
        found["log_loss"] = losses / n
        found["ece_mass"] = ece
        found["ece_width"] = self.width.errors(w)[0]
        found["ece_debiased"] = squared - noise
        return found

    def _ranking(self, w: Floats, positives: float, n: float) -> tuple[float, float]:
        if positives == 0 or positives == n:
            return np.nan, np.nan
        weights = w[self.ranked_groups]
        flagged = np.cumsum(weights)[self.ends]
        found = np.cumsum(weights * self.ranked_labels)[self.ends]
        precision = found / np.maximum(flagged, 1)
        false = flagged - found
        average = float(np.sum(np.diff(found, prepend=0.0) * precision) / positives)
        area = np.sum(np.diff(false, prepend=0.0) * (found + np.append(0.0, found[:-1])) / 2)
        return average, float(area / (positives * (n - positives)))


def at_threshold(n: float, positives: float, flagged: float, found: float) -> tuple[float, float, float, float, float]:
    """Accuracy, F1, precision, recall and Matthews' correlation from counts; 0 where undefined.

    Args:
        n: Pairs.
        positives: Duplicates among them.
        flagged: Pairs called duplicates.
        found: Duplicates among those.
    """
    missed, false = positives - found, flagged - found
    right = found + (n - flagged - missed)
    scale = flagged * positives * (n - flagged) * (n - positives)
    mcc = (found * (n - flagged - missed) - false * missed) / np.sqrt(scale) if scale > 0 else 0.0
    return (
        right / n,
        2 * found / (flagged + positives) if flagged + positives > 0 else 0.0,
        found / flagged if flagged > 0 else 0.0,
        found / positives if positives > 0 else 0.0,
        float(mcc),
    )


def bin_index(probabilities: Floats, bins: int, scheme: Scheme) -> NDArray[np.int64]:
    """The bin of each probability, 0..bins-1.

    Bins of equal mass are cut at quantiles, equal probabilities staying together, so that there may be fewer of them.
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
        """The mean absolute error, the mean squared error, and the part of the latter that noise accounts for."""
        weight = w[self.group]

        def total(x: NDArray[Any]) -> Floats:
            return np.bincount(self.bin, weight * x, minlength=self.bins).astype(np.float64)

        count = np.maximum(total(self.count), 1.0)
        clusters = total(np.ones_like(self.count))
        gap = total(self.gap) / count
        spread = total(self.gap**2) - 2 * gap * total(self.gap * self.count) + gap**2 * total(self.count**2)
        # The variance of a mean over clusters, with the usual correction for the mean itself having been estimated.
        noise = spread / count**2 * np.where(clusters > 1, clusters / np.maximum(clusters - 1, 1), 0.0)
        share = total(self.count) / float(total(self.count).sum())
        return float(share @ np.abs(gap)), float(share @ gap**2), float(share @ noise)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram.

    Attributes:
        probability: The mean probability of its pairs.
        observed: The share of duplicates among them.
        low, high: The 95 % interval of that share.
        pairs: How many there are.
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
    """The bins of a reliability diagram, in rising order, empty ones left out.

    The interval is Wilson's (1927) with the number of pairs divided by the design effect of the groups (Kish 1965).
    """
    p = checked_probabilities(probabilities)
    y = checked_labels(labels, len(p)).astype(np.float64)
    index = bin_index(p, bins, scheme)
    g = checked_groups(groups, len(p))
    return [_reliability_bin(p[index == b], y[index == b], g[index == b]) for b in np.unique(index)]


def _reliability_bin(p: Floats, y: Floats, g: NDArray[np.int64]) -> ReliabilityBin:
    share = float(y.mean())
    return ReliabilityBin(float(p.mean()), share, *wilson(share, effective_size(y, g)), len(p))


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share that was observed among n independent pairs (Wilson 1927); n may be a fraction."""
    z = 1.959963984540054
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def effective_size(values: NDArray[Any], groups: NDArray[np.int64]) -> float:
    """How many independent pairs say as much about the mean of 0/1 `values` (n,) as these do; between 1 and n.

    n over the design effect (Kish 1965): the variance of the mean between groups over that of independent pairs. A
    design effect below 1 is taken as 1. Where all values are the same, it is that of groups whose members always agree.
    """
    n = len(values)
    if n == 0:
        return 0.0
    _, index = np.unique(groups, return_inverse=True)
    size = np.bincount(index).astype(np.float64)
    mean = float(np.mean(values))
    if mean in (0.0, 1.0):
        return n * n / float(size @ size)
    if len(size) == 1:
        return 1.0
    spread = np.bincount(index, values) - mean * size
    variance = float(spread @ spread) / n**2 * len(size) / (len(size) - 1)
    return n / max(1.0, variance * (n - 1) / (mean * (1 - mean)))
