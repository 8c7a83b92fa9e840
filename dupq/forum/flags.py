"""What the live index says of one question: its likely duplicates, each judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dupq.forum.judging import DECISIONS, Decider
from dupq.forum.store import Id
from dupq.records import Decision


@dataclass(frozen=True, slots=True)
class Flag:
    """A stored question that may be asked again.

    Attributes:
        id, text: As they were added.
        cosine: Of the two vectors.
        score: Raw score, higher = more alike.
        probability: Calibrated P(duplicate) in [0, 1] at the report's base rate; 1 for a copy.
        decision: Duplicate, review or distinct.
        copy: True: the same text up to case, space and sentence punctuation; it is a duplicate by definition.
    """

    id: Id
    text: str
    cosine: float
    score: float
    probability: float
    decision: Decision
    copy: bool = False


@dataclass(frozen=True, slots=True)
class FlagReport:
    """The likely duplicates of one question, most likely first.

    Attributes:
        question: As it was given.
        flags: The k nearest stored questions, each judged, whatever was decided of it.
        decider: Calibrator, thresholds and base rate that decided.
        stored: How many questions were searched.
        notes: What to know before trusting it: that the question is cut off, or of a language the model does not know.
    """

    question: str
    flags: tuple[Flag, ...]
    decider: Decider
    stored: int
    notes: tuple[str, ...] = ()

    @property
    def duplicates(self) -> tuple[Flag, ...]:
        """Those that are called duplicates."""
        return tuple(flag for flag in self.flags if flag.decision is Decision.DUPLICATE)

    @property
    def promise(self) -> str:
        """What the threshold promises, in one line."""
        return self.decider.promise

    def at(self, *, threshold: float | None = None, base_rate: float | None = None) -> FlagReport:
        """The same flags decided at a threshold set by hand, or at another base rate; nothing is computed anew."""
        decider = self.decider.at(threshold=threshold, base_rate=base_rate)
        return FlagReport.of(self.question, self.flags, decider, self.stored, self.notes)

    @classmethod
    def of(
        cls, question: str, flags: Sequence[Flag], decider: Decider, stored: int, notes: tuple[str, ...] = ()
    ) -> FlagReport:
        """The report of these flags, whose scores the decider turns to probabilities and decisions."""
        scores = np.array([flag.score for flag in flags])
        odds, codes = decider.probabilities(scores).tolist(), decider.codes(scores).tolist()
        judged = [
            replace(flag, probability=1.0, decision=Decision.DUPLICATE)
            if flag.copy
            else replace(flag, probability=probability, decision=DECISIONS[code])
            for flag, probability, code in zip(flags, odds, codes, strict=True)
        ]
        judged.sort(key=lambda flag: (-flag.probability, -flag.cosine))
        return cls(question, tuple(judged), decider, stored, notes)
