"""Cascade of a cheap scorer for clear pairs and a full one for uncertain pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_number
from dupq.errors import InputError, ModelFolderError
from dupq.models.batching import UniquePairs, part_of
from dupq.models.ensemble import BlendScorer
from dupq.models.fingerprint import combined_fingerprint
from dupq.types import Progress, Scorer

First = Literal["bi-encoder", "cross-encoder"]

MAX_AP_LOSS = 0.002
"""Default of the average precision that a cascade may lose on its calibration pairs."""


@dataclass(frozen=True, slots=True)
class LinearMap:
    """Linear prediction of a full score from a cheap one.

    `offset + slope * cheap`, clipped to `lowest` and `highest`.
    """

    offset: float
    slope: float
    lowest: float | None
    highest: float | None

    def at(self, cheap: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the predicted full scores: float64 of the same shape."""
        limits = (self.lowest, self.highest)
        predicted = self.offset + self.slope * cheap
        return predicted if limits == (None, None) else np.clip(predicted, *limits)


@dataclass(frozen=True, slots=True)
class CascadeThresholds:
    """Thresholds on the cheap score, and the scores of the pairs beyond them.

    Attributes:
        low: Cheap score below which a pair is settled as distinct; None: no pair is.
        high: Cheap score above which a pair is settled as a duplicate; None: no pair is.
        below, above: Maps from the cheap score to the scale of the full scorer, for either side; never decreasing.
        min_agreement: Required share, in (0, 1), of decisions that equal those of the full scorer.
        n_pairs: Number of calibration pairs.
        settled: Share of the calibration pairs that the cheap scorer settles.
        agreement: Share of the calibration pairs whose decision equals that of the full scorer.
        first: The network of the cheap scorer.
        max_ap_loss: Average precision that could be lost on the calibration pairs.
        ap_loss: Average precision lost on the calibration pairs; negative if it rose.
    """

    low: float | None
    high: float | None
    below: LinearMap
    above: LinearMap
    min_agreement: float
    n_pairs: int
    settled: float
    agreement: float
    first: First = "bi-encoder"
    max_ap_loss: float = MAX_AP_LOSS
    ap_loss: float = 0.0

    def masks(self, cheap: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the masks of settled pairs: distinct, duplicate; bool (n,) each."""
        none = np.zeros(len(cheap), dtype=bool)
        return (
            none if self.low is None else np.asarray(cheap < self.low),
            none if self.high is None else np.asarray(cheap > self.high),
        )

    def settle(self, cheap: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores of the settled pairs, float64 (n,); NaN elsewhere."""
        distinct, duplicate = self.masks(cheap)
        scores = np.full(len(cheap), np.nan)
        scores[distinct] = self.below.at(cheap[distinct])
        scores[duplicate] = self.above.at(cheap[duplicate])
        return scores

    def to_dict(self) -> dict[str, Any]:
        """Return the thresholds as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CascadeThresholds:
        """Return the thresholds that `to_dict` wrote.

        Raises:
            ModelFolderError: A field is missing, unknown, or of a wrong kind.
        """
        try:
            maps = {side: LinearMap(**content[side]) for side in ("below", "above")}
            thresholds = cls(**{**content, **maps})
        except (KeyError, TypeError) as error:
            raise ModelFolderError(f"the cascade is damaged ({error})", hint="fit it again") from error
        values = [(key, value) for key, value in content.items() if key not in ("below", "above", "first")]
        values += [item for line in maps.values() for item in asdict(line).items()]
        optional = {"low", "high", "lowest", "highest"}
        sound = all(
            (value is None and key in optional) or (type(value) in (int, float) and isfinite(value))
            for key, value in values
        )
        if not sound or thresholds.first not in ("bi-encoder", "cross-encoder"):
            raise ModelFolderError("the cascade is damaged (a value is of a wrong kind)", hint="fit it again")
        return thresholds


def fit_cascade(
    cheap: NDArray[np.float64],
    full: NDArray[np.float64],
    thresholds: Sequence[float],
    min_agreement: float = 0.999,
    duplicates: bool = True,
) -> CascadeThresholds:
    """Fit the widest settled ranges that keep the decisions of the full scorer.

    Conformal risk control (Angelopoulos et al. 2024): with k errors among n calibration pairs, (k + 1) / (n + 1) is at
    most 1 - `min_agreement`, which then bounds the expected share of errors among new pairs of the same kind. With both
    sides settled, each has half of that.

    Args:
        cheap, full: Scores (n,) of the same calibration pairs, in their natural class mix; no labels needed.
        thresholds: Full scores at which the decision changes: one, or the two around the review range. Fit again after
            a change of threshold or base rate.
        min_agreement: Share of decisions, in (0, 1), that must equal those of the full scorer.
        duplicates: Settle likely duplicates too; False keeps their ranking.

    Raises:
        InputError: There is no threshold, `min_agreement` is not in (0, 1), or there are too few pairs for it.
    """
    cheap, full = np.asarray(cheap, dtype=np.float64), np.asarray(full, dtype=np.float64)
    as_number(min_agreement, "min_agreement", 0, 1, above=True, below=True, hint="give one such as 0.999")
    if not len(thresholds):
        raise InputError("thresholds must not be empty", hint="calibrate the pipeline first")
    sides = 2 if duplicates else 1
    max_errors = int(np.floor((1 - min_agreement) / sides * (len(cheap) + 1) + 1e-9)) - 1
    if max_errors < 0:
        needed = int(np.ceil(sides / (1 - min_agreement) - 1e-9)) - 1
        raise InputError(
            f"an agreement of {min_agreement:.2%} needs at least {needed:,} pairs, got {len(cheap):,}",
            hint=f"give {needed:,} pairs or more, or a lower min_agreement",
        )
    lowest, highest = min(thresholds), max(thresholds)
    low = _highest_edge(cheap, full >= lowest, max_errors)
    high = _highest_edge(-cheap, full < highest, max_errors) if duplicates else None
    high = None if high is None else -high
    if low is not None and high is not None and low > high:
        low = high = (low + high) / 2
    empty = LinearMap(0, 0, None, None)
    draft = CascadeThresholds(low, high, empty, empty, min_agreement, len(cheap), settled=0.0, agreement=0.0)
    distinct, duplicate = draft.masks(cheap)
    wrong = (distinct & (full >= lowest)) | (duplicate & (full < highest))
    return replace(
        draft,
        # The clip keeps a settled pair on its side of the threshold.
        below=_fit_map(cheap[distinct], full[distinct], None, float(np.nextafter(lowest, -np.inf))),
        above=_fit_map(cheap[duplicate], full[duplicate], float(highest), None),
        settled=float((distinct | duplicate).mean()),
        agreement=float(1 - wrong.mean()),
    )


def _highest_edge(cheap: NDArray[np.float64], wrong: NDArray[np.bool_], max_errors: int) -> float | None:
    """Return the highest score below which at most `max_errors` pairs are wrong.

    It is None if no pair is below it.
    """
    of_wrong = np.sort(cheap[wrong])
    edge = float(of_wrong[max_errors]) if len(of_wrong) > max_errors else float(np.nextafter(cheap.max(), np.inf))
    return edge if bool((cheap < edge).any()) else None


def _fit_map(
    cheap: NDArray[np.float64], full: NDArray[np.float64], lowest: float | None, highest: float | None
) -> LinearMap:
    """Fit a line by least squares, with a slope of at least 0."""
    if not len(cheap):
        return LinearMap(0.0, 0.0, lowest, highest)
    centred = cheap - cheap.mean()
    spread = float(centred @ centred)
    slope = max(0.0, float(centred @ full) / spread) if spread > 0 else 0.0
    return LinearMap(float(full.mean() - slope * cheap.mean()), slope, lowest, highest)


@dataclass(frozen=True)
class Cascade:
    """Scorer that uses the full scorer only where the cheap one is uncertain.

    The score is on the scale of the full scorer but has another distribution: fit a calibrator and thresholds for it.

    Attributes:
        cheap: For instance a `CosineScorer`, which embeds each distinct text once.
        full: For instance a cross-encoder or a blend; if the cheap scorer is a member, it is not run again.
        thresholds: As fitted by `fit_cascade`.
    """

    cheap: Scorer
    full: Scorer
    thresholds: CascadeThresholds

    @property
    def fingerprint(self) -> str:
        edges = (
            self.thresholds.low,
            self.thresholds.high,
            asdict(self.thresholds.below),
            asdict(self.thresholds.above),
        )
        return combined_fingerprint("cascade", self.cheap.fingerprint, self.full.fingerprint, edges)

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        unique = UniquePairs.of(left, right)
        n = len(unique.left)
        if n == 0:
            return np.zeros(0)
        cheap = self.cheap.score(unique.left, unique.right, part_of(progress, 0, n, 2 * n))
        scores = self.thresholds.settle(cheap)
        rest = np.flatnonzero(np.isnan(scores))
        if len(rest):
            uncertain = [unique.left[row] for row in rest], [unique.right[row] for row in rest]
            step_progress = part_of(progress, 2 * n - len(rest), len(rest), 2 * n)
            if isinstance(self.full, BlendScorer):
                members = self.full.members(*uncertain, step_progress, known=(self.cheap, cheap[rest]))
                scores[rest] = self.full.combine(members)
            else:
                scores[rest] = self.full.score(*uncertain, step_progress)
        elif progress:
            progress(2 * n, 2 * n)
        return scores[unique.inverse]
