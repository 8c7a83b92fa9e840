"""From raw scores of candidates to probabilities and decisions, at the pipeline's base rate or one that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError, ModelFolderError, NotCalibratedError, NotEnoughLabelsError
from dupq.models.scorers import Embedder, Progress
from dupq.records import Decision

if TYPE_CHECKING:
    from dupq.decisions.calibration import Calibrator
    from dupq.decisions.thresholds import DecisionRule

DECISIONS = (Decision.DISTINCT, Decision.REVIEW, Decision.DUPLICATE)
"""By the codes that a `DecisionRule` gives."""


class Judge(Protocol):
    """What mining and the live index ask of a pipeline; `DuplicatePipeline` is one."""

    @property
    def embedder(self) -> Embedder | None:
        """What candidates are searched with."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of all that makes a raw score."""
        ...

    @property
    def calibrator(self) -> Calibrator | None:
        """Raw score -> probability."""
        ...

    @property
    def rule(self) -> DecisionRule | None:
        """The fitted thresholds, at `base_rate`."""
        ...

    @property
    def base_rate(self) -> float | None:
        """The share of duplicates that the pipeline's own probabilities are stated at."""
        ...

    def raw_scores(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """n pairs of texts -> raw logits, float64 (n,)."""
        ...


def embedder_of(judge: Judge) -> Embedder:
    """The judge's embedder; raises InputError if it has none."""
    if judge.embedder is None:
        raise InputError(
            "this pipeline has no bi-encoder, so there is nothing to search with",
            mend="use a pipeline that has one, such as the shipped model, or add one to yours",
        )
    return judge.embedder


@dataclass(frozen=True, slots=True)
class Decider:
    """Calibrator, thresholds and base rate, ready for the scores of candidates.

    Attributes:
        calibrator: Raw score -> probability.
        rule: The thresholds, chosen for `base_rate`.
        base_rate: Share of duplicates in (0, 1) that probabilities are stated at: that of the pairs which the pipeline
            was calibrated on, unless another is given; `mining.find_duplicates` says why it stays.
        cut: A probability set by hand, from which a pair is a duplicate; it takes the place of the rule, and promises
            nothing. None: the rule decides.
        note: What stands in the way of the promise at this base rate; None if nothing does.
    """

    calibrator: Calibrator
    rule: DecisionRule
    base_rate: float
    cut: float | None = None
    note: str | None = None

    @classmethod
    def of(cls, judge: Judge, base_rate: float | None = None) -> Decider:
        """The judge's own, moved to a base rate; None: to the pipeline's.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or no threshold.
        """
        if judge.calibrator is None or judge.rule is None:
            raise NotCalibratedError(
                "this pipeline is uncalibrated, so it cannot decide what is a duplicate",
                mend="run `dupq calibrate`, or pipeline.calibrate(pairs), on labelled pairs of your own",
            )
        own = judge.calibrator.base_rate if judge.base_rate is None else judge.base_rate
        return cls(judge.calibrator, judge.rule, own).at(base_rate=base_rate)

    def _moved(self, base_rate: float) -> Decider:
        if base_rate == self.base_rate:
            return self
        try:
            return replace(self, rule=self.rule.at_base_rate(base_rate), base_rate=base_rate, note=None)
        except (NotEnoughLabelsError, ModelFolderError) as error:
            # The cut stays where its evidence put it: flagging goes on, and the promise says what it is worth.
            note = f"at a base rate of {base_rate:.1%} the promise does not hold ({error.problem})"
            return replace(self, base_rate=base_rate, note=note)

    def at(self, *, threshold: float | None = None, base_rate: float | None = None) -> Decider:
        """With a probability set by hand as the threshold, or at another base rate."""
        if threshold is not None and not 0 < threshold <= 1:
            raise InputError(
                "the threshold is not in (0, 1]", where=f"threshold {threshold}", mend="give a probability"
            )
        moved = self if base_rate is None else self._moved(base_rate)
        return moved if threshold is None else replace(moved, cut=threshold, note=None)

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated P(duplicate) at `base_rate`, float64 (n,)."""
        return self.calibrator.probabilities(scores, self.base_rate)

    def codes(self, scores: NDArray[np.float64]) -> NDArray[np.int8]:
        """0 distinct, 1 review, 2 duplicate, int8 (n,); see `DECISIONS`."""
        if self.cut is None:
            return self.rule.codes(scores)
        return np.where(self.probabilities(scores) >= self.cut, 2, 0).astype(np.int8)

    @property
    def threshold(self) -> float:
        """The probability, at `base_rate`, from which a pair is called a duplicate."""
        if self.cut is not None:
            return self.cut
        return float(self.probabilities(np.array([self.rule.duplicate.score]))[0])

    @property
    def promise(self) -> str:
        """What the threshold promises, in one line."""
        if self.cut is not None:
            return f"duplicate from a probability of {self.cut:.3f}, set by hand: nothing is promised"
        return self.rule.promise if self.note is None else f"{self.rule.promise}; BUT {self.note}"
