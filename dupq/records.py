"""The frozen records that every part of dupq speaks in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Decision(str, Enum):
    """What a pipeline says of a pair."""

    DUPLICATE = "duplicate"
    REVIEW = "review"
    DISTINCT = "distinct"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class QuestionPair:
    """Two questions, and whether they ask the same thing.

    Attributes:
        question1, question2: The texts, as they were read.
        label: 1 = duplicate, 0 = distinct, None = not known.
        row: The row of the source they came from, counted from 1 after the header.
    """

    question1: str
    question2: str
    label: int | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class PairScore:
    """What a pipeline says of one pair.

    Attributes:
        question1, question2: The texts, unaltered, in the order in which they were given.
        score: The raw logit; higher = more alike; no unit.
        probability: Calibrated P(duplicate) in [0, 1] at `base_rate`.
        decision: Duplicate, review or distinct.
        threshold: The probability, at `base_rate`, from which a pair is called a duplicate.
        base_rate: The share of duplicates, in (0, 1), among the pairs that the probability speaks of.
    """

    question1: str
    question2: str
    score: float
    probability: float
    decision: Decision
    threshold: float
    base_rate: float


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Questions found to be the same.

    Attributes:
        members: The ids of the questions, canonical first.
        canonical: The id of the question that stands for the group.
        weakest: The lowest probability between two members that were compared.
    """

    members: Sequence[int | str]
    canonical: int | str
    weakest: float
