"""Rule that selects the pairs to be scored, by the cosine of their vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dupq.data.arguments import as_int, as_number
from dupq.errors import InputError, ModelFolderError

NEAR_COSINE = 0.8
"""From here on every pair is a candidate: a question may have more near duplicates than `neighbours`."""
NEIGHBOUR_COSINE = 0.4
"""`min_cosine` where neighbours are switched on without one."""
MAX_NEIGHBOURS = 1000
"""The lists of neighbours of a panel of the search, 8,192 rows, then take 131 MB."""


@dataclass(frozen=True, slots=True)
class CandidateRule:
    """Rule that selects the pairs to be scored, with the recall measured at its fit.

    A pair is a candidate if its cosine is at least `min_cosine` and one question is among the `neighbours` nearest of
    the other. Between two collections, only the neighbours of the new questions count. Every pair from `every_from` on
    is a candidate too. Neighbours at equal cosine go by row number.

    Attributes:
        neighbours: Number of nearest questions of each question, up to 1,000; 0: no neighbours, and every pair from
            `min_cosine` on is a candidate.
        min_cosine: The lowest cosine of a candidate, in (0, 1].
        near_cosine: With neighbours, the cosine from which every pair is a candidate, in (0, 1].
        recall: Share of the labelled duplicates that the rule found when it was fitted; None: it was not fitted.
        duplicates: Number of those labelled duplicates.
        questions: Number of texts that they were searched in. Neighbours grow with it: a rule fitted on fewer texts
            than are mined finds less.
        candidates: Number of candidate pairs a question among those texts; None: it was not fitted.

    Raises:
        InputError: A value is of a wrong type or out of its range.
    """

    neighbours: int = 0
    min_cosine: float = NEAR_COSINE
    near_cosine: float = NEAR_COSINE
    recall: float | None = None
    duplicates: int = 0
    questions: int = 0
    candidates: float | None = None

    def __post_init__(self) -> None:
        as_int(self.neighbours, "neighbours", 0, MAX_NEIGHBOURS, hint="try 10, or 0 for none")
        as_number(self.min_cosine, "min_cosine", 0, 1, above=True, hint="try 0.8")
        as_number(self.near_cosine, "near_cosine", 0, 1, above=True, hint="try 0.8")
        for name in ("duplicates", "questions"):
            as_int(getattr(self, name), name, 0)
        if self.recall is not None:
            as_number(self.recall, "recall", 0, 1)
        if self.candidates is not None:
            as_number(self.candidates, "candidates", 0, float("inf"))

    @property
    def every_from(self) -> float:
        """The cosine from which every pair is a candidate."""
        return max(self.min_cosine, self.near_cosine) if self.neighbours else self.min_cosine

    def at(self, neighbours: int | None = None, min_cosine: float | None = None) -> CandidateRule:
        """Return the rule with other numbers, which are not fitted.

        Args:
            neighbours: None: those of this rule.
            min_cosine: None: that of this rule; or where `neighbours` switches neighbours on or off, 0.4 and
                `near_cosine`.

        Raises:
            InputError: A value is of a wrong type or out of its range.
        """
        if neighbours is None and min_cosine is None:
            return self
        changed = CandidateRule(self.neighbours if neighbours is None else neighbours, near_cosine=self.near_cosine)
        if min_cosine is None:
            switched = bool(changed.neighbours) != bool(self.neighbours)
            min_cosine = self.min_cosine
            if switched:
                min_cosine = NEIGHBOUR_COSINE if changed.neighbours else self.near_cosine
        return CandidateRule(changed.neighbours, min_cosine, self.near_cosine)

    def __str__(self) -> str:
        text = f"every pair with a cosine of at least {self.every_from:.4g}"
        if self.neighbours and self.min_cosine < self.every_from:
            text += f", and the {self.neighbours:,} nearest of each question from {self.min_cosine:.4g} on"
        if self.recall is None:
            return text
        return (
            f"{text}; it found {self.recall:.1%} of {self.duplicates:,} duplicates among {self.questions:,} questions, "
            f"with {self.candidates or 0:.1f} candidates a question"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CandidateRule:
        """Return the rule that `to_dict` wrote.

        Raises:
            ModelFolderError: A field is missing, unknown, or of a wrong kind.
        """
        names = {field.name for field in fields(cls)}
        if {*content} != names:
            odd = ", ".join(sorted({*content} ^ names))
            raise ModelFolderError(f"the candidate rule is damaged (missing or unknown: {odd})", hint="fit it again")
        try:
            return cls(**content)
        except InputError as error:
            raise ModelFolderError(f"the candidate rule is damaged ({error.message})", hint="fit it again") from error
