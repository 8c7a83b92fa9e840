"""Calibrate raw scores: five monotone calibrators, chosen by cross-validation.

Each is fitted by maximum likelihood with Platt's (1999) softened targets, (N1 + 1) / (N1 + 2) and 1 / (N0 + 2), so that
perfectly separated classes do not drive the slope to infinity. All rise strictly with the score, so they never change a
ranking.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.numerics import expit, logit
from dupq.calibration.prior_shift import log_odds_shift
from dupq.data import checks
from dupq.data.arguments import as_int, as_list, as_seed
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError

Floats = NDArray[np.float64]

METHODS = ("temperature", "platt", "beta", "spline", "isotonic")
KNOTS = 4
MIN_OF_EACH = 10
_LOCATION = "calibrator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrator(ABC):
    """A fitted map from raw score to probability.

    Attributes:
        base_rate: Share of duplicates in (0, 1) among the pairs it was fitted on. Its probabilities hold at that rate,
            for pairs that are sampled as those were.
        pairs: Number of those pairs.
        cv_losses: Method -> cross-validated log loss, for all methods that were compared.
    """

    kind: ClassVar[str]
    base_rate: float
    pairs: int = 0
    cv_losses: Mapping[str, float] = field(default_factory=dict)

    @abstractmethod
    def _log_odds(self, scores: Floats) -> Floats: ...

    def _of_cosines(self, cosines: ArrayLike | None, n: int) -> Floats | float:
        """Return the part of the log-odds that the cosines of n pairs add, (n,)."""
        return 0.0

    @property
    def reads_cosines(self) -> bool:
        """True where the cosine of a pair is a second input, and has to be given."""
        return False

    def log_odds(
        self, scores: ArrayLike, base_rate: float | None = None, *, cosines: ArrayLike | None = None
    ) -> Floats:
        """Return the log-odds of being a duplicate, float64 (n,).

        Args:
            scores: Raw scores (n,).
            base_rate: Share of duplicates in (0, 1); None: the calibrator's own.
            cosines: Cosines of the pairs' embeddings (n,); unused by calibrators that read the score alone.

        Raises:
            InputError: Scores that are not finite, a rate outside (0, 1), or no cosines where they are read.
        """
        values = checks.as_numbers(scores, "scores")
        if not values.size:
            return np.zeros(0)
        log_odds = self._log_odds(checks.checked_scores(values)) + self._of_cosines(cosines, len(values))
        return log_odds if base_rate is None else log_odds + log_odds_shift(self.base_rate, base_rate)

    def probabilities(
        self, scores: ArrayLike, base_rate: float | None = None, *, cosines: ArrayLike | None = None
    ) -> Floats:
        """Return P(duplicate), float64 (n,); arguments and errors as in `log_odds`."""
        return np.asarray(expit(self.log_odds(scores, base_rate, cosines=cosines)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold; `calibrator_from_dict` reads it."""
        data = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}
        return {"kind": self.kind, **data}


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureCalibrator(Calibrator):
    """Temperature scaling, log-odds = score / temperature (Guo et al. 2017).

    It is for logits only: a score of 0 has probability 0.5.
    """

    kind: ClassVar[str] = "temperature"
    temperature: float

    def _log_odds(self, scores: Floats) -> Floats:
        return scores / self.temperature


@dataclass(frozen=True, slots=True, kw_only=True)
class PlattCalibrator(Calibrator):
    """Platt scaling, log-odds = slope * score + intercept (Platt 1999)."""

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
    """Linear spline of the score with 4 knots, at its quintiles (cf. Lucena 2018).

    It bends where a Platt map cannot. With six parameters it varies less between samples of pairs than an isotonic map,
    which has dozens.

    Attributes:
        knots: Scores, strictly rising, (k,).
        slopes: Log-odds per unit of score before the first knot, between each two, and after the last, (k + 1,), > 0.
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
    """Isotonic regression (Zadrozny & Elkan 2002), linear between its steps.

    There is a knot at the mean score of each block of the pool-adjacent-violators solution, at the block's share of
    duplicates, drawn towards the base rate by one pair's weight so that none is 0 or 1. Beyond the outermost knots the
    log-odds rise with the slope of a Platt map of the same pairs.

    Attributes:
        knots: Scores, strictly rising, (k,).
        values: Log-odds at the knots, strictly rising, (k,).
        slope: Log-odds per unit of score beyond the outermost knots.
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
class AdaptedCalibrator(Calibrator):
    """Platt map of an original calibrator's log-odds; see `adapt_calibrator`."""

    kind: ClassVar[str] = "adapted"
    original: Calibrator
    slope: float
    intercept: float

    def _log_odds(self, scores: Floats) -> Floats:
        return self.slope * self.original.log_odds(scores) + self.intercept

    def to_dict(self) -> dict[str, Any]:
        return {**Calibrator.to_dict(self), "original": self.original.to_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineCalibrator(AdaptedCalibrator):
    """Adapted calibrator with the cosine of the pair as a second input.

    It is fitted by `fit_candidate_calibrator`.

    Log-odds = slope * original log-odds + intercept + cosine_weight * (cosine - cosine_centre).

    Attributes:
        cosine_weight: Log-odds per unit of cosine, 0 or more.
        cosine_centre: Mean cosine of the pairs of the first fit, in [-1, 1].
    """

    kind: ClassVar[str] = "cosine"
    cosine_weight: float
    cosine_centre: float

    @property
    def reads_cosines(self) -> bool:
        return True

    def _of_cosines(self, cosines: ArrayLike | None, n: int) -> Floats | float:
        return self.cosine_weight * (checks.checked_cosines(cosines, n) - self.cosine_centre)


KINDS: Mapping[str, type[Calibrator]] = {
    kind.kind: kind
    for kind in (
        TemperatureCalibrator,
        PlattCalibrator,
        BetaCalibrator,
        SplineCalibrator,
        IsotonicCalibrator,
        AdaptedCalibrator,
        CosineCalibrator,
    )
}
_NUMBERS: Mapping[str, Sequence[str]] = {
    "temperature": ("temperature",),
    "platt": ("slope", "intercept"),
    "beta": ("slope", "intercept", "rise", "fall", "shift"),
    "spline": ("intercept",),
    "isotonic": ("slope",),
    "adapted": ("slope", "intercept"),
    "cosine": ("slope", "intercept", "cosine_weight", "cosine_centre"),
}


def calibrator_from_dict(data: Any) -> Calibrator:
    """Read the data of `Calibrator.to_dict`.

    Raises:
        ModelFolderError: An unknown kind, a missing or damaged field, or parameters that do not rise with the score.
    """
    name = checks.field(data, "kind", str, _LOCATION)
    if name not in KINDS:
        raise ModelFolderError(
            f"unknown calibrator kind {name!r}", location=_LOCATION, hint="update dupq, or calibrate again"
        )
    losses = checks.field({"cv_losses": {}, **data}, "cv_losses", dict, _LOCATION)
    values: dict[str, Any] = {
        "base_rate": checks.field(data, "base_rate", float, _LOCATION),
        "pairs": checks.field(data, "pairs", int, _LOCATION),
        "cv_losses": {key: checks.field(losses, key, float, _LOCATION) for key in losses},
    }
    values |= {key: checks.field(data, key, float, _LOCATION) for key in _NUMBERS[name]}
    lists = {"isotonic": ("knots", "values"), "spline": ("knots", "slopes")}.get(name, ())
    values |= {key: checks.numbers(data, key, _LOCATION) for key in lists}
    if name in ("adapted", "cosine"):
        values["original"] = calibrator_from_dict(checks.field(data, "original", dict, _LOCATION))
    of_score = not getattr(values.get("original"), "reads_cosines", False)
    if not (0 < values["base_rate"] < 1 and of_score and _rises(name, values)):
        raise ModelFolderError("its parameters make no calibrator", location=_LOCATION, hint="calibrate again")
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
    if name == "cosine" and not (values["cosine_weight"] >= 0 and abs(values["cosine_centre"]) <= 1):
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
    """Fit calibrators and return the one with the lowest cross-validated log loss.

    It is refitted on all pairs.

    Args:
        scores: Raw scores (n,), higher = more alike, on any scale.
        labels: 0 or 1 (n,).
        groups: Question group keys (n,); no group is in two folds. None: each pair is its own group.
        methods: Some of "temperature", "platt", "beta", "spline", "isotonic".
        folds: Folds of the cross-validation, 2 or more; fewer where there are fewer groups.
        seed: Seed of the assignment of groups to folds.

    Returns:
        The calibrator, with `cv_losses` of all methods.

    Raises:
        InputError: Scores that are not finite, lengths that differ, labels other than 0 and 1 or only one of them, an
            unknown method, scores that fall where they should rise, or one question group alone.
        NotEnoughLabelsError: Fewer than 10 pairs of either label.
    """
    as_int(folds, "folds", 2)
    as_seed(seed)
    methods = as_list(methods, "methods")
    if not methods or any(not isinstance(name, str) or name not in METHODS for name in methods):
        raise InputError(
            f"methods must be one or more of {', '.join(METHODS)}, got {methods!r:.80}", hint="leave methods out"
        )
    s = checks.checked_scores(scores)
    y = checks.checked_labels(labels, len(s)).astype(np.float64)
    g = checks.checked_groups(groups, len(s))
    lack = sum(max(0, MIN_OF_EACH - int(count)) for count in (y.sum(), len(y) - y.sum()))
    if lack:
        raise NotEnoughLabelsError(
            f"{int(y.sum()):,} duplicates and {int(len(y) - y.sum()):,} distinct pairs are too few to fit a calibrator",
            needed=lack,
            hint=f"label more pairs, until there are {MIN_OF_EACH} or more of each label",
        )
    parameters = _platt(s, y)
    if parameters is None:
        raise InputError(
            "duplicates do not have higher scores than distinct pairs",
            hint="check that label 1 means duplicate, and that a higher score means more alike",
        )
    if len(methods) == 1:
        return replace(_fit(methods[0], s, y), cv_losses={})
    if g.max() == 0:
        raise InputError(
            "the pairs must be of two question groups or more, got one",
            hint="add pairs of other questions, so that a calibrator can be tested on questions that it has not seen",
        )
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
    """Assign groups to folds of equal size; return the fold of each pair, (n,)."""
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
    """Return how far each score is along the k + 1 pieces of a spline, (n,) each."""
    inner = [np.clip(s - low, 0, high - low) for low, high in pairwise(knots)]
    return [np.minimum(s - knots[0], 0), *inner, np.maximum(s - knots[-1], 0)]


def total_loss(log_odds: Floats, y: Floats) -> float:
    """Return the summed log loss of log-odds (n,) at labels (n,)."""
    return float(np.sum(np.logaddexp(0, log_odds) - y * log_odds))


def _spread(s: Floats) -> float:
    return max(float(np.std(s)), 1e-12 * max(1.0, float(np.abs(s).max())))


def _platt(s: Floats, y: Floats) -> tuple[float, float] | None:
    """Return slope and intercept, or None where the slope is not above 0."""
    if np.ptp(s) == 0:
        return None
    centre, spread = float(s.mean()), _spread(s)
    z = (s - centre) / spread
    slope, intercept = _maximise([z, np.ones_like(z)], y, start=[1.0, 0.0], lower=[None, None])
    if slope <= 1e-9:
        return None
    return slope / spread, intercept - slope * centre / spread


def _flat(s: Floats, y: Floats) -> tuple[float, float]:
    """Return a minimal rising map, for a fold whose scores fall with the label."""
    slope = 1e-6 / _spread(s)
    return slope, float(logit((y.sum() + 1) / (len(y) + 2))) - slope * float(s.mean())


def _maximise(columns: list[Floats], y: Floats, start: list[float], lower: list[float | None]) -> list[float]:
    """Fit a logistic regression of softened labels; convex, so one start is enough."""
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
    # Small blocks that are drawn towards the base rate may lose their order, so all are pooled once more.
    heights = isotonic_regression((steps.x * block + y.mean()) / (block + 1), weights=weight).x
    edges = np.append(0, np.flatnonzero(np.diff(heights) > 1e-12) + 1)
    centre = np.add.reduceat(knots * weight, edges) / np.add.reduceat(weight, edges)
    return tuple(centre.tolist()), tuple(logit(heights[edges]).tolist())
