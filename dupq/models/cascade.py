"""A cascade: a cheap scorer settles the pairs that it can settle, and only the uncertain band goes to the full one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError, ModelFolderError
from dupq.models.scorers import BlendScorer, Progress, Scorer, UniquePairs, combined_fingerprint, part_of

First = Literal["bi-encoder", "cross-encoder"]

MOST_LOST = 0.002
"""Of the average precision, that a cascade may lose on its calibration pairs, unless another limit is named."""


@dataclass(frozen=True, slots=True)
class Line:
    """A full score guessed from a cheap one: `offset + slope * cheap`, kept within `lowest` and `highest`."""

    offset: float
    slope: float
    lowest: float | None
    highest: float | None

    def at(self, cheap: NDArray[np.float64]) -> NDArray[np.float64]:
        """Guesses: float64 array of the same shape."""
        limits = (self.lowest, self.highest)
        guessed = self.offset + self.slope * cheap
        return guessed if limits == (None, None) else np.clip(guessed, *limits)


@dataclass(frozen=True, slots=True)
class Band:
    """Which pairs a cheap scorer settles, and what score they are given.

    Attributes:
        low: A pair of a lower cheap score is settled as distinct; None: no pair is.
        high: A pair of a higher cheap score is settled as a duplicate; None: no pair is.
        below, above: The scores of settled pairs, on the scale of the full scorer and increasing with the cheap score.
        share: The share of decisions that were to equal the full scorer's.
        pairs: Calibration pairs that it was fitted on.
        settled: The share of them that the cheap scorer settles.
        equal: The share of them whose decision equals the full scorer's.
        first: The network that is the cheap scorer.
        most_lost: Of the average precision, that was allowed to be lost on them.
        lost: Of the average precision, that is lost on them; below 0 where it is gained.
    """

    low: float | None
    high: float | None
    below: Line
    above: Line
    share: float
    pairs: int
    settled: float
    equal: float
    first: First = "bi-encoder"
    most_lost: float = MOST_LOST
    lost: float = 0.0

    def settles(self, cheap: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pairs are settled as distinct, and which as duplicates: two boolean arrays (n,)."""
        none = np.zeros(len(cheap), dtype=bool)
        return (
            none if self.low is None else np.asarray(cheap < self.low),
            none if self.high is None else np.asarray(cheap > self.high),
        )

    def settle(self, cheap: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores of the settled pairs, float64 (n,); NaN where the full scorer has to be asked."""
        distinct, duplicate = self.settles(cheap)
        scores = np.full(len(cheap), np.nan)
        scores[distinct] = self.below.at(cheap[distinct])
        scores[duplicate] = self.above.at(cheap[duplicate])
        return scores

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Band:
        """What `to_dict` gave.

        Raises:
            ModelFolderError: It is something else.
        """
        try:
            band = cls(**{**content, "below": Line(**content["below"]), "above": Line(**content["above"])})
        except (KeyError, TypeError) as error:
            raise ModelFolderError(f"the cascade's band is damaged ({error})", mend="fit it again") from error
        edges = (band.low, band.high, band.below.lowest, band.below.highest, band.above.lowest, band.above.highest)
        numbers = [edge for edge in edges if edge is not None]
        numbers += [band.share, band.pairs, band.settled, band.equal, band.most_lost, band.lost]
        numbers += [number for line in (band.below, band.above) for number in (line.offset, line.slope)]
        sound = all(type(number) in (int, float) and isfinite(number) for number in numbers)
        if not sound or band.first not in ("bi-encoder", "cross-encoder"):
            raise ModelFolderError("the cascade's band is damaged (a value is of a wrong kind)", mend="fit it again")
        return band


def fit_band(
    cheap: NDArray[np.float64],
    full: NDArray[np.float64],
    thresholds: Sequence[float],
    share: float = 0.999,
    duplicates: bool = True,
) -> Band:
    """The widest settled ranges that leave a share of all decisions as the full scorer takes them.

    Each side may err on half of the rest, and a side alone on all of it, by conformal risk control (Angelopoulos et al.
    2024): with k errors among n calibration pairs, (k + 1) / (n + 1) may not exceed it, and then the expected share of
    errors among new pairs of the same kind does not either.

    Args:
        cheap, full: Scores of the same n calibration pairs, in their natural class mix; no labels needed.
        thresholds: Full scores at which a decision changes: one, or the two around a review range. The share holds for
            these; after a change of threshold or base rate, fit anew.
        share: In (0, 1): of decisions that have to equal the full scorer's.
        duplicates: False: no pair is settled as a duplicate, and the ranking of the likely ones stays as it was.

    Raises:
        InputError: No threshold, a share outside (0, 1), or fewer pairs than could support it.
    """
    cheap, full = np.asarray(cheap, dtype=np.float64), np.asarray(full, dtype=np.float64)
    if not 0 < share < 1:
        raise InputError(f"a share of equal decisions of {share} is not between 0 and 1", mend="give one such as 0.999")
    if not len(thresholds):
        raise InputError("a cascade without a threshold has no decision to keep", mend="calibrate the pipeline first")
    sides = 2 if duplicates else 1
    allowed = int(np.floor((1 - share) / sides * (len(cheap) + 1) + 1e-9)) - 1
    if allowed < 0:
        needed = int(np.ceil(sides / (1 - share) - 1e-9)) - 1
        raise InputError(
            f"{len(cheap):,} pairs cannot show that {share:.2%} of decisions are equal",
            mend=f"give {needed:,} pairs or more, or ask for a smaller share",
        )
    lowest, highest = min(thresholds), max(thresholds)
    low = _edge(cheap, full >= lowest, allowed)
    high = _edge(-cheap, full < highest, allowed) if duplicates else None
    high = None if high is None else -high
    if low is not None and high is not None and low > high:
        low = high = (low + high) / 2
    draft = Band(low, high, Line(0, 0, None, None), Line(0, 0, None, None), share, len(cheap), 0.0, 0.0)
    distinct, duplicate = draft.settles(cheap)
    wrong = (distinct & (full >= lowest)) | (duplicate & (full < highest))
    return replace(
        draft,
        # A settled pair stays on its side of the threshold whatever the line says.
        below=_line(cheap[distinct], full[distinct], None, float(np.nextafter(lowest, -np.inf))),
        above=_line(cheap[duplicate], full[duplicate], float(highest), None),
        settled=float((distinct | duplicate).mean()),
        equal=float(1 - wrong.mean()),
    )


def _edge(cheap: NDArray[np.float64], wrong: NDArray[np.bool_], allowed: int) -> float | None:
    """The highest edge below which at most so many are wrong; None if no pair lies below it."""
    of_wrong = np.sort(cheap[wrong])
    edge = float(of_wrong[allowed]) if len(of_wrong) > allowed else float(np.nextafter(cheap.max(), np.inf))
    return edge if bool((cheap < edge).any()) else None


def _line(cheap: NDArray[np.float64], full: NDArray[np.float64], lowest: float | None, highest: float | None) -> Line:
    """Least squares, never decreasing."""
    if not len(cheap):
        return Line(0.0, 0.0, lowest, highest)
    centred = cheap - cheap.mean()
    spread = float(centred @ centred)
    slope = max(0.0, float(centred @ full) / spread) if spread > 0 else 0.0
    return Line(float(full.mean() - slope * cheap.mean()), slope, lowest, highest)


@dataclass(frozen=True)
class Cascade:
    """Scores pairs by a cheap scorer where it settles them, and by the full one where it does not.

    The score is on the scale of the full scorer, but its own: it needs a calibrator and thresholds of its own.

    Attributes:
        cheap: For instance a `CosineScorer`, which embeds each distinct text once.
        full: For instance a cross-encoder, or a blend; a cheap scorer that is part of the blend is not asked twice.
        band: As `fit_band` gives it.
    """

    cheap: Scorer
    full: Scorer
    band: Band

    @property
    def fingerprint(self) -> str:
        band = self.band
        edges = band.low, band.high, asdict(band.below), asdict(band.above)
        return combined_fingerprint("cascade", self.cheap.fingerprint, self.full.fingerprint, edges)

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        unique = UniquePairs.of(left, right)
        n = len(unique.left)
        if n == 0:
            return np.zeros(0)
        cheap = self.cheap.score(unique.left, unique.right, part_of(progress, 0, n, 2 * n))
        scores = self.band.settle(cheap)
        rest = np.flatnonzero(np.isnan(scores))
        if len(rest):
            uncertain = [unique.left[row] for row in rest], [unique.right[row] for row in rest]
            told = part_of(progress, 2 * n - len(rest), len(rest), 2 * n)
            scores[rest] = self._in_full(*uncertain, cheap[rest], told)
        elif progress:
            progress(2 * n, 2 * n)
        return scores[unique.inverse]

    def _in_full(
        self, left: Sequence[str], right: Sequence[str], cheap: NDArray[np.float64], progress: Progress | None
    ) -> NDArray[np.float64]:
        if not isinstance(self.full, BlendScorer):
            return self.full.score(left, right, progress)
        return self.full.combine(self.full.members(left, right, progress, known=(self.cheap, cheap)))
