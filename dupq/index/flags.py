"""Flags of a question: the stored questions that are likely duplicates of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dupq.decisions.decider import Decider
from dupq.types import Decision, Id, TextWarning


@dataclass(frozen=True, slots=True)
class Flag:
    """A stored question that may be a duplicate of the new one.

    Attributes:
        id, text: As they were added.
        cosine: Cosine of the two vectors.
        score: Raw score; higher = more alike.
        probability: Calibrated P(duplicate) in [0, 1] at the report's base rate; 1 for a copy.
        decision: Duplicate, review or distinct.
        copy: True: the same text up to case, space and sentence punctuation, a duplicate by definition.
        warnings: Warnings about the stored text, such as an unknown language.
    """

    id: Id
    text: str
    cosine: float
    score: float
    probability: float
    decision: Decision
    copy: bool = False
    warnings: tuple[TextWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class FlagReport:
    """Flags of one question, the most probable first.

    Attributes:
        question: The text, unaltered.
        flags: The k nearest stored questions from `min_cosine` on with their decisions, distinct ones included.
        decider: Calibrator, thresholds and base rate of the decisions.
        stored: Number of questions that were searched.
        warnings: Warnings about the question's own text.
    """

    question: str
    flags: tuple[Flag, ...]
    decider: Decider
    stored: int
    warnings: tuple[TextWarning, ...] = ()

    @property
    def duplicates(self) -> tuple[Flag, ...]:
        """The flags that are decided "duplicate"."""
        return tuple(flag for flag in self.flags if flag.decision is Decision.DUPLICATE)

    @property
    def guarantee(self) -> str:
        """Guarantee of the threshold, in one line."""
        return self.decider.guarantee

    def at(self, *, threshold: float | None = None, base_rate: float | None = None) -> FlagReport:
        """Return the same flags decided at another threshold or base rate.

        Nothing is scored again.

        Raises:
            InputError: A threshold outside (0, 1], or a base rate outside (0, 1).
        """
        return replace(self, decider=self.decider.at(threshold=threshold, base_rate=base_rate)).decided()

    def decided(self) -> FlagReport:
        """Return the report with the decider's probabilities and decisions.

        The most probable flag comes first.
        """
        scores, cosines = (np.array([getattr(flag, name) for flag in self.flags]) for name in ("score", "cosine"))
        unknown_language = np.array([self._has_unknown_language(flag) for flag in self.flags], bool)
        probabilities = self.decider.probabilities(scores, cosines).tolist()
        decisions = self.decider.decide(scores, unknown_language, cosines=cosines)
        flags = []
        for flag, probability, decision in zip(self.flags, probabilities, decisions, strict=True):
            if flag.copy:
                probability, decision = 1.0, Decision.DUPLICATE
            flags.append(replace(flag, probability=probability, decision=decision))
        flags.sort(key=lambda flag: (-flag.probability, -flag.cosine))
        return replace(self, flags=tuple(flags))

    def _has_unknown_language(self, flag: Flag) -> bool:
        return any(warning.kind == "unknown_language" for warning in (*self.warnings, *flag.warnings))
