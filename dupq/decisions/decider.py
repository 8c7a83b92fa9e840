"""Turn raw scores into probabilities and decisions, at one base rate.

Pipeline, mining and live index all decide here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.calibrators import Calibrator
from dupq.data.checks import checked_rate
from dupq.decisions.candidate_calibration import CandidateCalibration
from dupq.decisions.candidate_rule import CandidateRule
from dupq.decisions.decision_rule import DecisionRule
from dupq.decisions.thresholds import same_rate
from dupq.errors import InputError, NotEnoughLabelsError
from dupq.types import Decision, Embedder, Progress, TextWarning

DECISIONS = (Decision.DISTINCT, Decision.REVIEW, Decision.DUPLICATE)
"""Decisions by their codes: 0 distinct, 1 review, 2 duplicate."""

_Self = TypeVar("_Self", bound="PairScorer")


class PairScorer(Protocol):
    """Protocol of the pipeline that mining and the index use."""

    @property
    def embedder(self) -> Embedder | None:
        """The embedder that candidates are searched with; None if there is none."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of all that makes a raw score."""
        ...

    @property
    def candidate_decider(self) -> Decider:
        """Calibrator, thresholds and base rate for candidates.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or no threshold.
        """
        ...

    @property
    def candidate_rule(self) -> CandidateRule:
        """The rule that selects the pairs to be scored."""
        ...

    def text_warnings(self, texts: Sequence[str]) -> list[tuple[TextWarning, ...]]:
        """Return the warnings about each of n texts."""
        ...

    def raw_scores(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Return raw logits of n pairs of texts, float64 (n,)."""
        ...

    def with_embedder(self: _Self, bi_encoder: Any) -> _Self:
        """Return it with another embedder that makes the same vectors."""
        ...


def embedder_of(pipeline: PairScorer) -> Embedder:
    """Return the embedder of a pipeline; raise InputError if it has none."""
    if not hasattr(pipeline, "embedder"):
        raise InputError(
            f"pipeline must be a DuplicatePipeline, got {type(pipeline).__name__}",
            hint="open one: DuplicatePipeline.from_pretrained(...)",
        )
    if pipeline.embedder is None:
        raise InputError(
            "this pipeline has no bi-encoder, so there is nothing to search with",
            hint="use a pipeline that has one, such as the shipped model, or add one to yours",
        )
    return pipeline.embedder


@dataclass(frozen=True, slots=True)
class Decider:
    """Calibrator, thresholds and base rate.

    Attributes:
        calibrator: Raw score -> probability. That of candidates may read the cosine of the pair as a second input.
        rule: The thresholds, chosen for `base_rate`.
        base_rate: Share of duplicates in (0, 1) that probabilities are stated at. A pipeline's decider has that of the
            pairs which it was calibrated on, unless another is given; see `mining.find_duplicates`.
        threshold_override: A probability set by hand, from which a pair is a duplicate, in place of the rule; nothing
            is guaranteed then. None: the rule decides.
        warning: Why nothing is guaranteed at this base rate; None where the rule's own guarantee holds.
        allow_unknown_language: Decide "duplicate" also where a text is in an unknown language; False: "review".
        candidates: The calibration on judged candidates, whose calibrator and threshold then decide; the distinct
            threshold of the rule stays. None: the pairs are no candidates, or none were judged.
    """

    calibrator: Calibrator
    rule: DecisionRule
    base_rate: float
    threshold_override: float | None = None
    warning: str | None = None
    allow_unknown_language: bool = False
    candidates: CandidateCalibration | None = None

    def at(self, *, threshold: float | None = None, base_rate: float | None = None) -> Decider:
        """Return the decider with a threshold set by hand, or at another base rate.

        Where the evidence cannot support the guarantee at that rate, the threshold stays at the score that was chosen
        for another one, and `warning` is set.

        Args:
            threshold: A probability in (0, 1] at the base rate of the returned decider.
            base_rate: In (0, 1).

        Raises:
            InputError: A value outside its range.
        """
        check_threshold(threshold)
        decider = self
        if base_rate is not None and not same_rate(rate := checked_rate(base_rate), self.base_rate):
            try:
                rule = self.rule if self.candidates is not None else self.rule.at_base_rate(rate)
                decider = replace(self, rule=rule, base_rate=rate, warning=None)
            except NotEnoughLabelsError as error:
                decider = replace(self, base_rate=rate, warning=error.message)
        return decider if threshold is None else replace(decider, threshold_override=threshold, warning=None)

    def probabilities(self, scores: ArrayLike, cosines: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the calibrated P(duplicate) of raw scores (n,): float64 (n,).

        Args:
            scores: Raw scores (n,).
            cosines: Cosines of the candidates (n,), unused where the calibrator reads the score alone.

        Raises:
            InputError: There are no cosines, and the calibrator reads them.
        """
        return self.calibrator.probabilities(scores, self.base_rate, cosines=cosines)

    def log_odds(self, scores: ArrayLike, cosines: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the log-odds of P(duplicate), float64 (n,).

        Arguments and errors are those of `probabilities`.
        """
        return self.calibrator.log_odds(scores, self.base_rate, cosines=cosines)

    def codes(
        self,
        scores: ArrayLike,
        unknown_language: NDArray[np.bool_] | None = None,
        *,
        cosines: ArrayLike | None = None,
    ) -> NDArray[np.int8]:
        """Return the decisions as int8 (n,): 0 distinct, 1 review, 2 duplicate.

        Args:
            scores: Raw scores (n,).
            unknown_language: Pairs (n,) with a text in an unknown language: these go to review where they would be
                duplicates, unless `allow_unknown_language`. None: no pair.
            cosines: As in `probabilities`.
        """
        if self.threshold_override is None and self.candidates is None:
            codes = self.rule.codes(scores)
        else:
            reviewed = self.threshold_override is None and self.rule.distinct is not None
            below = np.minimum(self.rule.codes(scores), 1) if reviewed else 0
            codes = np.where(self.probabilities(scores, cosines) >= self.threshold, 2, below).astype(np.int8)
        if unknown_language is None or self.allow_unknown_language:
            return codes
        return np.where(unknown_language, np.minimum(codes, 1), codes).astype(np.int8)

    def decide(
        self,
        scores: ArrayLike,
        unknown_language: NDArray[np.bool_] | None = None,
        *,
        cosines: ArrayLike | None = None,
    ) -> list[Decision]:
        """Return the decisions of n raw scores; see `codes`."""
        return [DECISIONS[code] for code in self.codes(scores, unknown_language, cosines=cosines)]

    @property
    def threshold(self) -> float:
        """The probability, at `base_rate`, from which a pair is a duplicate."""
        if self.threshold_override is not None:
            return self.threshold_override
        if self.candidates is not None:
            return self.candidates.threshold
        return float(self.probabilities([self.rule.duplicate.score])[0])

    @property
    def guarantee(self) -> str:
        """The guarantee of the threshold, in one line."""
        if self.threshold_override is not None:
            return f"duplicate from a probability of {self.threshold_override:.3f}, set by hand: nothing is guaranteed"
        if self.candidates is not None:
            audited = self.candidates.guarantee
            if audited is not None and same_rate(self.base_rate, self.candidates.calibrator.base_rate):
                return f"duplicate from a probability of {self.threshold:.3f}: {audited}"
            own = self.candidates.calibrator.base_rate
            rate = (
                "" if same_rate(self.base_rate, own) else f" at a base rate of {own:.3g}, not of {self.base_rate:.3g}"
            )
            return (
                f"no guarantee: duplicate from a probability of {self.threshold:.3f}, chosen for the expected "
                f"{self.candidates.policy} among candidates{rate}; probabilities rest on {self.candidates.rests_on}"
            )
        if self.warning is None:
            return self.rule.guarantee
        return (
            f"nothing is guaranteed at a base rate of {100 * self.base_rate:.3g}% ({self.warning}); the threshold "
            "stays at the score that was chosen for another base rate"
        )


def check_threshold(threshold: object) -> None:
    """Raise InputError for a threshold that is no number in (0, 1] and not None."""
    if threshold is None:
        return
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)) or not 0 < threshold <= 1:
        raise InputError(f"threshold must be a probability in (0, 1], got {threshold!r}", hint="try 0.5")
