"""Records and protocols that all parts of dupq use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Decision(str, Enum):
    """The decision on a pair."""

    DUPLICATE = "duplicate"
    REVIEW = "review"
    DISTINCT = "distinct"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class QuestionPair:
    """Two questions and their label.

    Attributes:
        question1, question2: The texts, as they were read.
        label: 1 = duplicate, 0 = distinct, None = not known.
        row: Row of the source, counted from 1 after the header; None = not known.
    """

    question1: str
    question2: str
    label: int | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class TextWarning:
    """A reason not to rely on the score of a text.

    Attributes:
        kind: "truncated": the network reads only a part of the text. "unknown_language": it is in a script or language
            that the model was not trained on.
        message: The warning as text, with the numbers.
        side: 1 for the first text of a pair, 2 for the second; None for a single text.
    """

    kind: Literal["truncated", "unknown_language"]
    message: str
    side: Literal[1, 2] | None = None

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class PairScore:
    """Score, probability and decision of one pair.

    Attributes:
        question1, question2: The texts, unaltered, in the order in which they were given.
        score: The raw logit; higher = more alike; no unit.
        probability: Calibrated P(duplicate) in [0, 1] at `base_rate`.
        decision: Duplicate, review or distinct.
        threshold: The probability, at `base_rate`, from which a pair is a duplicate.
        base_rate: The share of duplicates, in (0, 1), that the probability is stated at.
        warnings: Warnings about either text; most are empty.
    """

    question1: str
    question2: str
    score: float
    probability: float
    decision: Decision
    threshold: float
    base_rate: float
    warnings: tuple[TextWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """A group of duplicate questions.

    Attributes:
        members: Ids of the questions, the representative first.
        representative: Id of the question that represents the group.
        min_probability: The lowest probability between two members that were compared.
    """

    members: Sequence[int | str]
    representative: int | str
    min_probability: float


Id = int | str

Progress = Callable[[int, int], None]
"""Called with (done, total) during long work."""


@runtime_checkable
class Scorer(Protocol):
    """Protocol of a scorer: two texts to one raw score.

    It is symmetric to the last bit, and a pair's score does not depend on the pairs beside it (to 1e-5).
    """

    @property
    def fingerprint(self) -> str:
        """A hash of the weights and settings that make the score."""
        ...

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        """Return raw logits of n pairs of texts, float64 (n,); higher = more alike."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Protocol of an embedder: texts to unit vectors with cosine similarity."""

    @property
    def fingerprint(self) -> str:
        """A hash of the weights and settings that make the vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """The length d of a vector."""
        ...

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the vectors of n texts: float32 (n, d), rows of unit length."""
        ...
