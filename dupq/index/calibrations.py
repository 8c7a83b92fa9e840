"""Refit calibrator and threshold of an index from the verdicts of its moderators.

The pairs with a verdict were drawn with unequal, known probabilities pi; see `index/sampling.py`. Shares of pairs weigh
them by 1 / pi. The calibrator is fitted with the weights relative to those that are usual at a score, 1 / pi over a
smooth function of the score (Pfeffermann & Sverchkov 1999). They remove the same bias, that of a draw which depends on
more than the score, such as the reach; and they vary less, so that one wrong answer on a pair that stands for hundreds
does not move the map. `benchmarks/verdicts.py` compares them with 1 / pi.

The calibrator is a line in the log-odds of the pipeline's own, drawn towards it by Gaussian priors: slope ~ N(1, 0.5)
and intercept ~ N(0, 2), with the labels counted at their effective number (`fit_candidate_calibrator`). With few
verdicts it stays close to the pipeline's, with many the verdicts decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.calibration.adaptation import INTERCEPT_PRIOR, MIN_SLOPE, SLOPE_PRIOR, Term, fit_terms
from dupq.calibration.calibrators import Calibrator, CosineCalibrator, group_folds
from dupq.calibration.candidates import effective_number, fit_candidate_calibrator
from dupq.decisions.audit import choose_audited_threshold
from dupq.decisions.candidate_calibration import CandidateCalibration, score_blocks
from dupq.decisions.decider import Decider
from dupq.decisions.thresholds import Policy
from dupq.errors import NotEnoughLabelsError
from dupq.evaluation.metrics import Metric

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MIN_VERDICTS = 30
"""Clear answers, of known sampling probability, that a calibration takes."""
MIN_OF_EACH = 5
"""Duplicates, and distinct pairs, that a calibration takes."""
FEW_VERDICTS = 100
"""Effective number of verdicts below which the report warns that they are few."""
FOLDS = 5
RESAMPLES = 400
BINS = (0.05, 0.2, 0.5, 0.8)
"""Probabilities between the five bins of the calibration error; most judged pairs are in the first."""
NO_ANSWER, UNCLEAR = -2, -1
"""Answers of a pair without a verdict, and of a pair that was skipped or is contested."""


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Judged pairs of an index and the answers of its moderators, as arrays (n,).

    Attributes:
        scores: Raw scores.
        strata: Stratum of each pair in the audit.
        drawn: Random number of each pair, in (0, 1).
        answers: 1 duplicate, 0 distinct, -1 skipped or contested, -2 without a verdict; int8.
        inclusion: Probability with which a pair is in the sample, in (0, 1]; 0 for pairs that are not in it.
        audited: True for pairs of the random audit, a simple random sample of each stratum; a subset of the sample.
        groups: Question group of each pair with a verdict; the other values are not read.
        copies: True for two texts that are the same, which are always duplicates.
        held_back: True for pairs with a text in an unknown language, which are never flagged.
        cosines: Cosines of the pairs; empty where the pipeline's calibrator of candidates reads the score alone.
    """

    scores: Floats
    strata: NDArray[Any]
    drawn: Floats
    answers: NDArray[np.int8]
    inclusion: Floats
    audited: Bools
    groups: NDArray[np.int64]
    copies: Bools
    held_back: Bools
    cosines: Floats = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def clear(self) -> Bools:
        """Pairs of the sample with the answer "duplicate" or "distinct"."""
        return (self.answers >= 0) & (self.inclusion > 0)

    @property
    def labels(self) -> Floats:
        """Answers as numbers, 0 where there is none."""
        return np.maximum(self.answers, 0).astype(np.float64)

    def probabilities(self, calibrator: Calibrator, base_rate: float | None = None) -> Floats:
        """Return the probabilities of all pairs: 1 for copies."""
        if not len(self):
            return np.zeros(0)
        return np.where(self.copies, 1.0, calibrator.probabilities(self.scores, base_rate, cosines=self.cosines))

    def flagged(self, probabilities: Floats, threshold: float) -> Bools:
        """Return the pairs that are flagged at a threshold."""
        return (probabilities >= threshold) & ~(self.held_back & ~self.copies)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Figures of a decider on verdicts that it was not fitted on, weighted by 1 / pi.

    Attributes:
        brier, log_loss: Mean losses.
        calibration_error: Mean absolute difference of probability and share of duplicates over five bins of the
            probability; with few verdicts it is above 0 by chance alone.
        precision, recall: Of the pairs flagged at the threshold, among judged pairs; NaN where there are none.
    """

    brier: Metric
    log_loss: Metric
    calibration_error: Metric
    precision: Metric
    recall: Metric

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """Return plain data that JSON can hold; NaN becomes None."""
        return {
            name: {end: value if np.isfinite(value) else None for end, value in figure.items()}
            for name, figure in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Result of `QuestionIndex.calibrate`.

    Attributes:
        number: Number of the version that was written; None for a dry run.
        previous: Number of the version that was in use before, 0 for the pipeline's own.
        calibration: Calibrator and threshold.
        verdicts, duplicates: Verdicts that it was fitted on, and duplicates among them.
        effective_verdicts: Number of verdicts of equal weight that are worth as much (Kish 1965).
        left_out: Reason -> number of verdicts that were left out.
        before, after: Figures of the decider in use before and of the new one, on verdicts held out by question group.
        log_loss_change: Change of the held-out log loss, with its interval; below 0 is better.
        warning: Why the guarantee of the policy is not stated; None if it is, or none was requested.
    """

    number: int | None
    previous: int
    calibration: CandidateCalibration
    verdicts: int
    duplicates: int
    effective_verdicts: float
    left_out: Mapping[str, int]
    before: HeldOut
    after: HeldOut
    log_loss_change: Metric
    warning: str | None = None

    @property
    def conclusion(self) -> str:
        """The comparison of before and after, in one sentence.

        It is no stronger than the verdicts support.
        """
        change = self.log_loss_change
        few = ""
        if self.effective_verdicts < FEW_VERDICTS:
            few = (
                f"; these are few verdicts (worth {self.effective_verdicts:.0f} of equal weight), so take it as a hint"
            )
        if change.high < 0:
            return f"the new calibration predicts held-out verdicts better{few}"
        if change.low > 0:
            return f"the new calibration predicts held-out verdicts WORSE: consider rolling back{few}"
        return f"no difference on held-out verdicts can be shown{few}"

    @property
    def guarantee(self) -> str:
        """The guarantee of the threshold, in one line."""
        if self.calibration.guarantee is not None:
            return str(self.calibration.guarantee)
        return f"no guarantee{f': {self.warning}' if self.warning else ''}"

    def __str__(self) -> str:
        version = "dry run, nothing written" if self.number is None else f"version {self.number} is in use"
        lines = [
            f"{version} (before: {self.previous or 'the pipeline as shipped'})",
            f"{self.verdicts:,} verdicts, {self.duplicates:,} duplicates; left out: "
            + (", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items() if count) or "none"),
            f"duplicate from a probability of {self.calibration.threshold:.3f}; {self.guarantee}",
        ]
        for name in HeldOut.__dataclass_fields__:
            lines.append(
                f"held-out {name.replace('_', ' ')}: {getattr(self.before, name)} -> {getattr(self.after, name)}"
            )
        return "\n".join([*lines, self.conclusion])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data that JSON can hold, without the calibration."""
        return {
            "previous": self.previous,
            "verdicts": self.verdicts,
            "duplicates": self.duplicates,
            "effective_verdicts": self.effective_verdicts,
            "left_out": dict(self.left_out),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "log_loss_change": self.log_loss_change.to_dict(),
            "conclusion": self.conclusion,
            "warning": self.warning,
        }


def fit_calibration(
    decider: Decider, pairs: JudgedPairs, policy: Policy, *, about: str = ""
) -> tuple[CandidateCalibration, str | None]:
    """Fit calibrator and threshold to the verdicts on judged pairs.

    The threshold is where the policy holds for the expected counts of all judged pairs under the new calibrator; with
    a delta, where the random audit guarantees the policy, if it does anywhere.

    Args:
        decider: The pipeline's own decider of candidates, which the new one is drawn towards.
        pairs: The judged pairs.
        policy: Policy of the threshold.
        about: Origin of the verdicts, in words.

    Returns:
        The calibration, and why it has no guarantee although the policy has a delta, or None.

    Raises:
        NotEnoughLabelsError: Fewer than 30 clear answers in the sample, or fewer than 5 of either kind.
    """
    clear = pairs.clear
    check_enough(pairs.labels[clear])
    fitted = fit_weighted(decider.calibrator, pairs, np.flatnonzero(clear))
    return with_threshold(fitted, pairs, policy, about=about)


def check_enough(labels: Floats, left_out: Mapping[str, int] | None = None) -> None:
    """Raise NotEnoughLabelsError if the labels are too few to calibrate.

    At least 30 labels are needed, and at least 5 of either kind.

    Args:
        labels: Clear answers in the sample, (n,).
        left_out: Reason -> number of verdicts that do not count, for the message.
    """
    ones = int(labels.sum())
    counts = {"verdicts": (len(labels), MIN_VERDICTS)}
    counts |= {"duplicates": (ones, MIN_OF_EACH), "distinct pairs": (len(labels) - ones, MIN_OF_EACH)}
    lacking = {name: least - have for name, (have, least) in counts.items() if have < least}
    if not lacking:
        return
    have = f"{len(labels):,} verdicts ({ones:,} duplicates, {len(labels) - ones:,} distinct pairs)"
    rest = ", ".join(f"{count:,} {reason}" for reason, count in (left_out or {}).items() if count)
    more = " and ".join(f"{count:,} more {name}" for name, count in lacking.items())
    raise NotEnoughLabelsError(
        f"{have} with a clear answer and a known sampling probability are too few to calibrate an index"
        + (f"; left out: {rest}" if rest else ""),
        needed=max(lacking.values()),
        hint=f"{MIN_VERDICTS} are needed, {MIN_OF_EACH} or more of either kind; answer the pairs of `review_queue()` "
        f"in its order: {more}",
    )


def fit_weighted(calibrator: Calibrator, pairs: JudgedPairs, used: NDArray[np.int64]) -> Calibrator:
    """Fit a calibrator to the answers on the pairs at the indices `used`.

    It is drawn towards `calibrator`. It is a line in its log-odds, cosines included, so the order of the pairs stays as
    it is.
    """
    scores, labels = pairs.scores[used], pairs.labels[used]
    z = calibrator.log_odds(scores, cosines=pairs.cosines[used] if calibrator.reads_cosines else None)
    w = relative_weights(z, pairs.inclusion[used])
    if not isinstance(calibrator, CosineCalibrator):
        return fit_candidate_calibrator(calibrator, scores, labels, w)
    terms = Term(z, 1.0, SLOPE_PRIOR, MIN_SLOPE), Term(np.ones_like(z), 0.0, INTERCEPT_PRIOR)
    (slope, intercept), rate = fit_terms(terms, labels, w * effective_number(w) / w.sum())
    return replace(
        calibrator,
        base_rate=rate,
        pairs=len(used),
        slope=slope * calibrator.slope,
        intercept=slope * calibrator.intercept + intercept,
        cosine_weight=slope * calibrator.cosine_weight,
    )


def relative_weights(log_odds: Floats, inclusion: Floats) -> Floats:
    """Return the weights 1 / pi relative to the usual ones at the log-odds, (n,).

    The logarithm of the usual weight is a cubic in the log-odds, fitted to log(1 / pi).
    """
    logs = -np.log(inclusion)
    x = np.vander((log_odds - log_odds.mean()) / max(float(log_odds.std()), 1e-12), 4)
    usual = x @ np.linalg.lstsq(x, logs, rcond=None)[0]
    return np.asarray(np.exp(logs - usual))


def with_threshold(
    calibrator: Calibrator, pairs: JudgedPairs, policy: Policy, *, about: str = ""
) -> tuple[CandidateCalibration, str | None]:
    """Choose the threshold of a fitted calibrator; see `fit_calibration`."""
    p, clear = pairs.probabilities(calibrator), pairs.clear
    rate = float(np.clip(p.mean(), 1e-9, 1 - 1e-9))
    means, shares, middles = score_blocks(calibrator, pairs.scores, np.ones(len(pairs)), pairs.cosines)
    calibration = CandidateCalibration(
        # The base rate names the mix that the probabilities hold in; it does not move them.
        calibrator=replace(calibrator, base_rate=rate),
        policy=replace(policy, delta=None),
        scores=means,
        shares=shares,
        pairs=int(clear.sum()),
        duplicates=int(pairs.labels[clear].sum()),
        effective_pairs=effective_number(1 / pairs.inclusion[clear]) if clear.any() else 0.0,
        about=about,
        cosines=middles,
    )
    if policy.delta is None:
        return calibration, None
    # What cannot be flagged comes last, whatever its score.
    p = np.where(pairs.flagged(p, 0.0), p, 0.0)
    try:
        guarantee = choose_audited_threshold(policy, p, pairs.strata, pairs.audited & clear, pairs.labels)
    except NotEnoughLabelsError as error:
        return calibration, f"{error.message}; {error.hint}"
    return replace(calibration, guarantee=guarantee), None


@dataclass(frozen=True, slots=True)
class _Predictions:
    """Held-out probabilities and flags of m verdicts."""

    probabilities: Floats
    flagged: Bools

    def figures(self, y: Floats, w: Floats) -> Floats:
        """Return the five figures of `HeldOut` for one or more vectors of weights.

        They are (5,) for weights (m,), and (b, 5) for weights (b, m).
        """
        p = np.clip(self.probabilities, 1e-15, 1 - 1e-15)
        total = w.sum(axis=-1)
        bins = np.eye(len(BINS) + 1)[np.digitize(p, BINS)]
        gaps = np.abs((w * (p - y)) @ bins).sum(axis=-1)
        found = w @ (self.flagged * y)
        with np.errstate(invalid="ignore", divide="ignore"):
            figures = [
                w @ (p - y) ** 2 / total,
                w @ self.losses(y) / total,
                gaps / total,
                found / (w @ self.flagged.astype(np.float64)),
                found / (w @ y),
            ]
        return np.stack(figures, axis=-1)

    def losses(self, y: Floats) -> Floats:
        """Return the log loss of each verdict, (m,)."""
        p = np.clip(self.probabilities, 1e-15, 1 - 1e-15)
        return np.asarray(-np.where(y == 1, np.log(p), np.log1p(-p)))


def evaluate(
    original: Decider, before: Decider, pairs: JudgedPairs, policy: Policy, *, seed: int = 0
) -> tuple[HeldOut, HeldOut, Metric]:
    """Compare two deciders on verdicts held out by question group.

    The new one is fitted on four fifths of the question groups and applied to the last, five times. The decider in use
    before may have been fitted on some of these verdicts, which favours it. Intervals are 95 % percentiles over
    resampled question groups (Davison & Hinkley 1997).

    Args:
        original: The pipeline's own decider.
        before: The decider in use before.
        pairs: The judged pairs.
        policy: Policy of the new threshold.
        seed: Seed of folds and resamples.

    Returns:
        Figures before, figures after, and the change of the log loss.
    """
    clear = np.flatnonzero(pairs.clear)
    y, w = pairs.labels[clear], 1 / pairs.inclusion[clear]
    _, group = np.unique(pairs.groups[clear], return_inverse=True)
    fold = group_folds(group.astype(np.int64), FOLDS, seed)
    old = pairs.probabilities(before.calibrator, before.base_rate)
    new, flagged = np.zeros(len(clear)), np.zeros(len(clear), bool)
    for k in np.unique(fold):
        test = fold == k
        learn = clear[~test]
        labels = pairs.labels[learn]
        calibrator, threshold = original.calibrator, original.threshold
        if len(learn) >= 20 and 0 < labels.sum() < len(labels):
            calibrator = fit_weighted(original.calibrator, pairs, learn)
            kept = replace(pairs, answers=np.where(np.isin(np.arange(len(pairs)), learn), pairs.answers, NO_ANSWER))
            threshold = with_threshold(calibrator, kept, policy)[0].threshold
        p = pairs.probabilities(calibrator)
        new[test], flagged[test] = p[clear[test]], pairs.flagged(p, threshold)[clear[test]]
    predictions = _Predictions(old[clear], pairs.flagged(old, before.threshold)[clear]), _Predictions(new, flagged)
    rng, count = np.random.default_rng(seed), int(group.max()) + 1
    again = w * rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)[:, group]
    again = again[again.sum(axis=1) > 0]
    held_out = []
    for prediction in predictions:
        values, drawn = prediction.figures(y, w), prediction.figures(y, again)
        held_out.append(HeldOut(*(_interval(value, column) for value, column in zip(values, drawn.T, strict=True))))
    change = predictions[1].losses(y) - predictions[0].losses(y)
    return held_out[0], held_out[1], _interval(w @ change / w.sum(), again @ change / again.sum(axis=1))


def _interval(value: float, drawn: Floats) -> Metric:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or not np.isfinite(value):
        return Metric(float(value), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Metric(float(value), float(low), float(high))
