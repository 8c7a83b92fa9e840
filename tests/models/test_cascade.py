"""The cascade: the pairs it settles, its agreement with the full scorer, and its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.errors import InputError, ModelFolderError
from dupq.models.cascade import (
    Cascade,
    CascadeThresholds,
    LinearMap,
    fit_cascade,
)
from dupq.models.ensemble import BlendScorer, CosineScorer
from dupq.types import Progress, Scorer
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

TABLE = labelled_table(40)
THRESHOLD = -5.5
"""In the midst of what `WordScorer` gives these pairs."""


def two_scores(n: int, seed: int, noise: float = 0.6) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cheap and full scores that agree but for some noise."""
    draw = np.random.default_rng(seed)
    truth = draw.normal(size=n)
    return truth + noise * draw.normal(size=n), 3 * truth


@dataclass
class Counting:
    """A scorer that remembers which pairs it was asked for."""

    inner: Scorer
    seen: list[tuple[str, str]] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        self.seen += zip(left, right, strict=True)
        return self.inner.score(left, right, progress)


def small_cascade(share: float = 0.985) -> tuple[Cascade, Counting]:
    cheap, full = CosineScorer(WordEmbedder()), Counting(WordScorer())
    scores = (scorer.score(TABLE.left, TABLE.right) for scorer in (cheap, full.inner))
    return Cascade(cheap, full, fit_cascade(*scores, thresholds=[THRESHOLD], min_agreement=share)), full


# ---- the band --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(20, 400), st.sampled_from([0.5, 0.8, 0.9]), st.booleans())
def test_each_side_keeps_to_its_half_of_the_errors(seed: int, n: int, share: float, review: bool) -> None:
    cheap, full = two_scores(n, seed)
    thresholds = [-1.0, 1.0] if review else [0.5]
    band = fit_cascade(cheap, full, thresholds, share)
    distinct, duplicate = band.masks(cheap)
    assert not (distinct & duplicate).any()
    wrong = [(distinct & (full >= thresholds[0])).sum(), (duplicate & (full < thresholds[-1])).sum()]
    assert (max(wrong) + 1) / (n + 1) <= (1 - share) / 2 + 1e-12
    assert band.agreement == pytest.approx(1 - sum(wrong) / n)
    assert band.agreement >= share
    assert band.settled == pytest.approx((distinct | duplicate).mean())


def test_the_band_is_as_narrow_as_the_share_allows() -> None:
    cheap = np.arange(199.0)
    full = np.where(np.isin(cheap, [20, 50, 60, 140, 180]) ^ (cheap >= 100), 1.0, -1.0)
    band = fit_cascade(cheap, full, [0.0], min_agreement=0.98)  # one error a side: (1 + 1) / (199 + 1) = 0.01
    assert (band.low, band.high) == (50.0, 140.0)
    assert band.settled == pytest.approx((50 + 58) / 199)
    assert band.agreement == pytest.approx(1 - 2 / 199)
    # Two scorers that never differ need no band, and a useless cheap one settles nothing but what it may get wrong.
    assert fit_cascade(full, full, [0.0], min_agreement=0.98).settled == 1.0
    assert fit_cascade(np.zeros(199), full, [0.0], min_agreement=0.98).settled == 0.0


@pytest.mark.slow
def test_the_share_holds_for_new_pairs() -> None:
    shares = []
    for seed in range(400):
        cheap, full = two_scores(600, seed)
        band = fit_cascade(cheap, full, [0.5], min_agreement=0.97)
        new_cheap, new_full = two_scores(4000, 10_000 + seed)
        distinct, duplicate = band.masks(new_cheap)
        shares.append(1 - ((distinct & (new_full >= 0.5)) | (duplicate & (new_full < 0.5))).mean())
    error = np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) > 0.97 - 3 * error
    assert np.mean(shares) < 0.98  # and not by settling next to nothing


def test_one_side_alone_may_err_on_all_of_it() -> None:
    cheap, full = two_scores(1999, 5)
    both, alone = (fit_cascade(cheap, full, [0.5], 0.99, duplicates) for duplicates in (True, False))
    assert alone.high is None
    assert alone.low > both.low
    assert pytest.approx(1 - 0.99) == (19 + 1) / 2000
    assert alone.agreement == pytest.approx(1 - 19 / 1999)


def test_a_cheap_scorer_that_is_part_of_the_blend_is_asked_once() -> None:
    cheap, full = Counting(CosineScorer(WordEmbedder())), Counting(WordScorer())
    blend = BlendScorer((full, cheap), (0.7, 0.2), 0.1)
    exact = blend.score(TABLE.left, TABLE.right)
    band = fit_cascade(cheap.score(TABLE.left, TABLE.right), exact, [float(np.median(exact))], 0.9)
    cheap.seen.clear()
    cascade = Cascade(cheap, blend, band)
    scores = cascade.score(TABLE.left, TABLE.right)
    assert len(cheap.seen) == len({frozenset(pair) for pair in zip(TABLE.left, TABLE.right, strict=True)})
    uncertain = np.isnan(band.settle(cheap.score(TABLE.left, TABLE.right)))
    assert 0 < uncertain.sum() < len(TABLE)
    assert np.array_equal(scores[uncertain], exact[uncertain])


def test_what_cannot_be_fitted_is_refused() -> None:
    cheap, full = two_scores(1998, 0)
    with pytest.raises(InputError, match="give 1,999 pairs or more"):
        fit_cascade(cheap, full, [0.0], min_agreement=0.999)
    assert fit_cascade(*two_scores(1999, 0), [0.0], min_agreement=0.999).n_pairs == 1999
    with pytest.raises(InputError, match="thresholds must not be empty"):
        fit_cascade(cheap, full, [])
    with pytest.raises(InputError, match="min_agreement must be a number in"):
        fit_cascade(cheap, full, [0.0], min_agreement=1.0)


def test_a_band_survives_its_json() -> None:
    band = fit_cascade(*two_scores(500, 1), [0.2], min_agreement=0.95)
    assert CascadeThresholds.from_dict(band.to_dict()) == band
    with pytest.raises(ModelFolderError, match="damaged"):
        CascadeThresholds.from_dict({**band.to_dict(), "below": {"slope": 1.0}})
    for wrong in ({"low": "1"}, {"low": float("nan")}, {"first": "both"}, {"min_agreement": None}, {"n_pairs": True}):
        with pytest.raises(ModelFolderError, match="wrong kind"):
            CascadeThresholds.from_dict({**band.to_dict(), **wrong})
    with pytest.raises(ModelFolderError, match="damaged"):
        CascadeThresholds.from_dict({"low": 1.0})


# ---- the scores ------------------------------------------------------------------------------------------------------


def test_only_the_band_goes_to_the_full_scorer() -> None:
    cascade, full = small_cascade()
    scores = cascade.score(TABLE.left, TABLE.right)
    cheap, exact = (scorer.score(TABLE.left, TABLE.right) for scorer in (cascade.cheap, full.inner))
    distinct, duplicate = cascade.thresholds.masks(cheap)
    uncertain = ~(distinct | duplicate)
    assert 0 < uncertain.sum() < len(TABLE)
    assert np.array_equal(scores[uncertain], exact[uncertain])
    asked = {frozenset(pair) for pair in full.seen}
    assert asked == {frozenset((TABLE.left[row], TABLE.right[row])) for row in np.flatnonzero(uncertain)}
    assert (scores[distinct] < THRESHOLD).all()
    assert (scores[duplicate] >= THRESHOLD).all()
    assert np.mean((scores >= THRESHOLD) == (exact >= THRESHOLD)) >= 0.985


def test_settled_scores_rise_with_the_cheap_score() -> None:
    band = fit_cascade(*two_scores(2000, 3), [0.0, 2.0], min_agreement=0.95)
    for line in (band.below, band.above):
        assert line.slope > 0
        guessed = line.at(np.linspace(-9, 9, 50))
        assert (np.diff(guessed) >= 0).all()
    assert band.below.at(np.array([99.0]))[0] < 0.0
    assert band.above.at(np.array([-99.0]))[0] == 2.0
    falling = fit_cascade(np.arange(100.0), -np.arange(100.0), [-1000.0], min_agreement=0.9)
    assert falling.above.slope == 0


def test_it_is_symmetric_and_a_score_is_a_pairs_own() -> None:
    cascade, _ = small_cascade()
    scores = cascade.score(TABLE.left, TABLE.right)
    assert np.array_equal(scores, cascade.score(TABLE.right, TABLE.left))
    for row in range(0, len(TABLE), 23):
        assert cascade.score([TABLE.left[row]], [TABLE.right[row]])[0] == scores[row]
    assert cascade.score([], []).shape == (0,)


def test_its_fingerprint_holds_both_scorers_and_the_band() -> None:
    cascade, _ = small_cascade()
    others = [
        replace(cascade, full=CosineScorer(WordEmbedder())),
        replace(cascade, cheap=WordScorer()),
        replace(cascade, thresholds=replace(cascade.thresholds, low=-9.0)),
    ]
    assert len({cascade.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize("band_is_empty", [False, True])
def test_progress_rises_to_the_whole(band_is_empty: bool) -> None:
    cascade, _ = small_cascade()
    if band_is_empty:
        cascade = replace(
            cascade,
            thresholds=replace(cascade.thresholds, low=np.inf, high=None, below=LinearMap(0, 0, None, None)),
        )
    seen: list[tuple[int, int]] = []
    cascade.score(TABLE.left, TABLE.right, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] > 0
    assert len({total for _, total in seen}) == 1
