"""Raw scores to probabilities: five monotone calibrators, chosen by cross-validated log loss over question groups.

Each is fitted by maximum likelihood with Platt's (1999) softened targets, (N1 + 1) / (N1 + 2) and 1 / (N0 + 2), so that
classes which a score separates do not drive the slope to infinity. All rise strictly with the score, so they never
change a ranking.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.decisions import checks
from dupq.decisions.base_rate import log_odds_shift
from dupq.decisions.odds import expit, logit
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError

Floats = NDArray[np.float64]

METHODS = ("temperature", "platt", "beta", "spline", "isotonic")
KNOTS = 4
FEWEST_OF_EACH = 10
_WHERE = "calibrator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrator(ABC):
    """A fitted map from raw score to probability.

    Attributes:
        base_rate: Share of duplicates in (0, 1) among the pairs it was fitted on; its probabilities speak of that rate.
        pairs: How many pairs that were.
        cv_losses: Method -> cross-validated log loss, of all methods that were compared.
    """

    kind: ClassVar[str]
    base_rate: float
    pairs: int = 0
    cv_losses: Mapping[str, float] = field(default_factory=dict)

    @abstractmethod
    def _log_odds(self, scores: Floats) -> Floats: ...

    def log_odds(self, scores: ArrayLike, base_rate: float | None = None) -> Floats:
        """Log-odds of being a duplicate, float64 (n,), at `base_rate`, or at the calibrator's own.

        Raises:
            InputError: Scores that are not finite, or a rate outside (0, 1).
        """
        values = np.asarray(scores, dtype=np.float64)
        if not values.size:
            return np.zeros(0)
        found = self._log_odds(checks.checked_scores(values))
        return found if base_rate is None else found + log_odds_shift(self.base_rate, base_rate)

    def probabilities(self, scores: ArrayLike, base_rate: float | None = None) -> Floats:
        """P(duplicate), float64 (n,), at `base_rate`, or at the calibrator's own."""
        return np.asarray(expit(self.log_odds(scores, base_rate)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold; `calibrator_from_dict` reads it."""
        data = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}
        return {"kind": self.kind, **data}


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureCalibrator(Calibrator):
    """log-odds = score / temperature (Guo et al. 2017). For logits only: a score of 0 means even odds."""

    kind: ClassVar[str] = "temperature"
    temperature: float

    def _log_odds(self, scores: Floats) -> Floats:
        return scores / self.temperature


@dataclass(frozen=True, slots=True, kw_only=True)
class PlattCalibrator(Calibrator):
    """log-odds = slope * score + intercept (Platt 1999)."""

    kind: ClassVar[str] = "platt"
    slope: float
    intercept: float

    def _log_odds(self, scores: Floats) -> Floats:
        return self.slope * scores + self.intercept


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaCalibrator(Calibrator):
    """Beta calibration (Kull, Silva Filho & Flach 2017) of a squashed score.

    The score may be on any scale, so a Platt map fitted on the same pairs squashes it first:
    u = 1 / (1 + exp(-(slope * score + intercept))). Then log-odds = rise * ln(u) - fall * ln(1 - u) + shift, with
    rise, fall > 0: the slope is `rise` far below even odds and `fall` far above them.
    """

    kind: ClassVar[str] = "beta"
    slope: float
    intercept: float
    rise: float
    fall: float
    shift: float

    def _log_odds(self, scores: Floats) -> Floats:
        z = self.slope * scores + self.intercept
        # ln(u) = -ln(1 + exp(-z)) and -ln(1 - u) = ln(1 + exp(z)), which stay finite where u rounds to 0 or 1.
        return -self.rise * np.logaddexp(0, -z) + self.fall * np.logaddexp(0, z) + self.shift


@dataclass(frozen=True, slots=True, kw_only=True)
class SplineCalibrator(Calibrator):
    """log-odds = a linear spline of the score: straight lines that meet at 4 knots (cf. Lucena 2018).

    The knots stand at the quintiles of the score. It bends where a Platt map cannot, and with six parameters it varies
    less from one sample of pairs to the next than an isotonic map, which has dozens.

    Attributes:
        knots: Scores, strictly rising, (k,).
        slopes: Log-odds a unit of score before the first knot, between each two, and after the last, (k + 1,), above 0.
        intercept: Log-odds at the first knot.
    """

    kind: ClassVar[str] = "spline"
    knots: tuple[float, ...]
    slopes: tuple[float, ...]
    intercept: float

    def _log_odds(self, scores: Floats) -> Floats:
        ramps = np.stack(_ramps(scores, self.knots), axis=1)
        return np.asarray(ramps @ np.array(self.slopes) + self.intercept)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicCalibrator(Calibrator):
    """Isotonic regression (Zadrozny & Elkan 2002), its steps joined by straight lines in log-odds.

    A knot stands at the mean score of each block of the pool-adjacent-violators solution, at the block's share of
    duplicates, drawn towards the base rate by one pair's weight so that none is 0 or 1. Beyond the outermost knots the
    log-odds go on rising with the slope of a Platt map of the same pairs.

    Attributes:
        knots: Scores, strictly rising, (k,).
        values: Log-odds at the knots, strictly rising, (k,).
        slope: Log-odds a unit of score beyond the outermost knots.
    """

    kind: ClassVar[str] = "isotonic"
    knots: tuple[float, ...]
    values: tuple[float, ...]
    slope: float

    def _log_odds(self, scores: Floats) -> Floats:
        inside = np.interp(scores, self.knots, self.values)
        beyond = np.minimum(scores - self.knots[0], 0) + np.maximum(scores - self.knots[-1], 0)
        return np.asarray(inside + self.slope * beyond)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCalibrator(Calibrator):
    """log-odds = slope * (shipped log-odds) + intercept: a shipped calibrator fitted to a place; see `local.refit`."""

    kind: ClassVar[str] = "local"
    shipped: Calibrator
    slope: float
    intercept: float

    def _log_odds(self, scores: Floats) -> Floats:
        return self.slope * self.shipped.log_odds(scores) + self.intercept

    def to_dict(self) -> dict[str, Any]:
        return {**Calibrator.to_dict(self), "shipped": self.shipped.to_dict()}


KINDS: Mapping[str, type[Calibrator]] = {
    kind.kind: kind
    for kind in (
        TemperatureCalibrator,
        PlattCalibrator,
        BetaCalibrator,
        SplineCalibrator,
        IsotonicCalibrator,
        LocalCalibrator,
    )
}
_NUMBERS: Mapping[str, Sequence[str]] = {
    "temperature": ("temperature",),
    "platt": ("slope", "intercept"),
    "beta": ("slope", "intercept", "rise", "fall", "shift"),
    "spline": ("intercept",),
    "isotonic": ("slope",),
    "local": ("slope", "intercept"),
}


def calibrator_from_dict(data: Any) -> Calibrator:
    """Reads what `Calibrator.to_dict` wrote.

    Raises:
        ModelFolderError: An unknown kind, a missing or damaged field, or parameters that do not rise with the score.
    """
    name = checks.field(data, "kind", str, _WHERE)
    if name not in KINDS:
        raise ModelFolderError(
            f"the calibrator kind {name!r} is unknown", where=_WHERE, mend="update dupq, or calibrate again"
        )
    losses = checks.field({"cv_losses": {}, **data}, "cv_losses", dict, _WHERE)
    values: dict[str, Any] = {
        "base_rate": checks.field(data, "base_rate", float, _WHERE),
        "pairs": checks.field(data, "pairs", int, _WHERE),
        "cv_losses": {key: checks.field(losses, key, float, _WHERE) for key in losses},
    }
    values |= {key: checks.field(data, key, float, _WHERE) for key in _NUMBERS[name]}
    lists = {"isotonic": ("knots", "values"), "spline": ("knots", "slopes")}.get(name, ())
    values |= {key: checks.numbers(data, key, _WHERE) for key in lists}
    if name == "local":
        values["shipped"] = calibrator_from_dict(checks.field(data, "shipped", dict, _WHERE))
    if not (0 < values["base_rate"] < 1 and _rises(name, values)):
        raise ModelFolderError("its parameters make no calibrator", where=_WHERE, mend="calibrate again")
    return KINDS[name](**values)


def _rises(name: str, values: Mapping[str, Any]) -> bool:
    if name == "temperature":
        return bool(values["temperature"] > 0)
    if name == "isotonic":
        knots, heights = np.array(values["knots"]), np.array(values["values"])
        rising = len(knots) > 0 and len(knots) == len(heights) and np.all(np.diff(knots) > 0)
        return bool(rising and np.all(np.diff(heights) > 0) and values["slope"] > 0)
    if name == "spline":
        knots, slopes = np.array(values["knots"]), np.array(values["slopes"])
        return bool(0 < len(knots) == len(slopes) - 1 and np.all(np.diff(knots) > 0) and np.all(slopes > 0))
    if name == "beta" and min(values["rise"], values["fall"]) <= 0:
        return False
    return bool(values["slope"] > 0)


def fit_calibrator(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    methods: Sequence[str] = METHODS,
    folds: int = 5,
    seed: int = 0,
) -> Calibrator:
    """Fits each method and returns the one whose cross-validated log loss is the lowest, refitted on all pairs.

    Args:
        scores: Raw scores (n,), higher = more alike, on any scale.
        labels: 0 or 1 (n,).
        groups: Question group keys (n,); no group is in two folds. None: each pair is its own group.
        methods: Some of "temperature", "platt", "beta", "spline", "isotonic".
        folds: Folds of the cross-validation; fewer where there are fewer groups.
        seed: Of the draw of groups into folds.

    Returns:
        The calibrator, with `cv_losses` of all methods.

    Raises:
        InputError: Scores that are not finite, lengths that differ, labels other than 0 and 1 or only one of them, an
            unknown method, or scores that fall where they should rise.
        NotEnoughLabelsError: Fewer than 10 pairs of either label.
    """
    s = checks.checked_scores(scores)
    y = checks.checked_labels(labels, len(s)).astype(np.float64)
    g = checks.checked_groups(groups, len(s))
    if not methods or any(name not in METHODS for name in methods):
        raise InputError(f"calibration methods {list(methods)}", mend=f"choose among {', '.join(METHODS)}")
    lack = sum(max(0, FEWEST_OF_EACH - int(count)) for count in (y.sum(), len(y) - y.sum()))
    if lack:
        raise NotEnoughLabelsError(
            f"{int(y.sum()):,} duplicates and {int(len(y) - y.sum()):,} distinct pairs cannot calibrate a score",
            needed=lack,
            mend=f"label more pairs, so that there are {FEWEST_OF_EACH} of each kind at least",
        )
    parameters = _platt(s, y)
    if parameters is None:
        raise InputError(
            "these scores do not rise from distinct pairs to duplicates",
            mend="check that label 1 means duplicate, and that a higher score means more alike",
        )
    if len(methods) == 1:
        return replace(_fit(methods[0], s, y), cv_losses={})
    fold = group_folds(g, folds, seed)
    losses = dict.fromkeys(methods, 0.0)
    for k in np.unique(fold):
        test = fold == k
        learn = ~test
        for name in methods:
            if np.ptp(y[learn]) == 0:
                odds = np.full(int(test.sum()), logit((y.sum() + 1) / (len(y) + 2)))
            else:
                odds = _fit(name, s[learn], y[learn]).log_odds(s[test])
            losses[name] += total_loss(odds, y[test]) / len(s)
    best = min(methods, key=lambda name: losses[name])
    return replace(_fit(best, s, y), cv_losses=losses)


def group_folds(groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each pair (n,); groups, numbered from 0, are dealt to folds of like size at random."""
    dealt = np.random.default_rng(seed).permutation(int(groups.max()) + 1) % max(2, folds)
    return np.asarray(dealt[groups])


def _fit(name: str, s: Floats, y: Floats) -> Calibrator:
    about: dict[str, Any] = {"base_rate": float(y.mean()), "pairs": len(y)}
    slope, intercept = _platt(s, y) or _flat(s, y)
    if name == "platt":
        return PlattCalibrator(slope=slope, intercept=intercept, **about)
    if name == "temperature":
        spread = _spread(s)
        (rate,) = _maximise([s / spread], y, start=[1.0], lower=[1e-6])
        return TemperatureCalibrator(temperature=spread / rate, **about)
    if name == "beta":
        z = slope * s + intercept
        columns = [-np.logaddexp(0, -z), np.logaddexp(0, z), np.ones_like(z)]
        rise, fall, shift = _maximise(columns, y, start=[1.0, 1.0, 0.0], lower=[1e-6, 1e-6, None])
        return BetaCalibrator(slope=slope, intercept=intercept, rise=rise, fall=fall, shift=shift, **about)
    if name == "spline":
        joints = np.unique(np.quantile(s, np.arange(1, KNOTS + 1) / (KNOTS + 1)))
        spread, ramps = _spread(s), _ramps(s, joints)
        start = [slope * spread] * len(ramps) + [intercept + slope * float(joints[0])]
        lower = [*[1e-3] * len(ramps), None]
        *slopes, level = _maximise([*(ramp / spread for ramp in ramps), np.ones_like(s)], y, start, lower)
        rising = tuple(rise / spread for rise in slopes)
        return SplineCalibrator(knots=tuple(joints.tolist()), slopes=rising, intercept=level, **about)
    knots, values = _isotonic(s, y)
    return IsotonicCalibrator(knots=knots, values=values, slope=slope, **about)


def _ramps(s: Floats, knots: Sequence[float] | Floats) -> list[Floats]:
    """How far each score is along each piece of a spline that is 0 at the first knot: k + 1 arrays (n,)."""
    inner = [np.clip(s - low, 0, high - low) for low, high in pairwise(knots)]
    return [np.minimum(s - knots[0], 0), *inner, np.maximum(s - knots[-1], 0)]


def total_loss(log_odds: Floats, y: Floats) -> float:
    """The summed log loss of log-odds (n,) at labels (n,)."""
    return float(np.sum(np.logaddexp(0, log_odds) - y * log_odds))


def _spread(s: Floats) -> float:
    return max(float(np.std(s)), 1e-12 * max(1.0, float(np.abs(s).max())))


def _platt(s: Floats, y: Floats) -> tuple[float, float] | None:
    """Slope and intercept, or None where the likeliest slope is not above 0."""
    if np.ptp(s) == 0:
        return None
    centre, spread = float(s.mean()), _spread(s)
    z = (s - centre) / spread
    slope, intercept = _maximise([z, np.ones_like(z)], y, start=[1.0, 0.0], lower=[None, None])
    if slope <= 1e-9:
        return None
    return slope / spread, intercept - slope * centre / spread


def _flat(s: Floats, y: Floats) -> tuple[float, float]:
    """The least slope that still rises: for a fold whose few pairs happen to fall."""
    slope = 1e-6 / _spread(s)
    return slope, float(logit((y.sum() + 1) / (len(y) + 2))) - slope * float(s.mean())


def _maximise(columns: list[Floats], y: Floats, start: list[float], lower: list[float | None]) -> list[float]:
    """Logistic regression of softened labels on the columns: convex, so that one start is enough."""
    x = np.stack(columns, axis=1)
    ones = float(y.sum())
    target = np.where(y == 1, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))

    def loss(beta: Floats) -> tuple[float, Floats]:
        z = x @ beta
        return float(np.mean(np.logaddexp(0, z) - target * z)), x.T @ (expit(z) - target) / len(y)

    bounds = [(low, None) for low in lower]
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9}
    from scipy.optimize import minimize  # takes long to import, and scoring does without

    found = minimize(loss, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return [float(value) for value in found.x]


def _isotonic(s: Floats, y: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    knots, index = np.unique(s, return_inverse=True)
    weight = np.bincount(index).astype(np.float64)
    from scipy.optimize import isotonic_regression

    steps = isotonic_regression(np.bincount(index, y) / weight, weights=weight)
    block = np.repeat(steps.weights, np.diff(steps.blocks))
    # Drawing small blocks to the base rate may put them out of order with large ones, so they are pooled once more.
    heights = isotonic_regression((steps.x * block + y.mean()) / (block + 1), weights=weight).x
    edges = np.append(0, np.flatnonzero(np.diff(heights) > 1e-12) + 1)
    centre = np.add.reduceat(knots * weight, edges) / np.add.reduceat(weight, edges)
    return tuple(centre.tolist()), tuple(logit(heights[edges]).tolist())
