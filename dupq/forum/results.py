"""What mining found: pairs, decisions and groups, which can be taken at another threshold without computing anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.forum.candidates import Certificate
from dupq.forum.groups import Canonical, Linkage, duplicate_groups
from dupq.forum.judging import DECISIONS, Decider
from dupq.forum.store import Id
from dupq.forum.templates import Template, find_templates
from dupq.records import Decision, DuplicateGroup

PAIR_COLUMNS = ["id1", "id2", "question1", "question2", "kind", "cosine", "score", "probability", "decision", "group"]


@dataclass(frozen=True, slots=True)
class Questions:
    """n questions of one collection or two, and which of them are one text up to case, space and punctuation.

    Attributes:
        ids: The caller's ids, unique.
        texts: As they were given.
        text_of: For each question the number of its distinct text, int64 (n,).
        first: For each of the u distinct texts the question that stands for it, int64 (u,).
        second: The same for the right side of a pair: of two collections, a question of the second where there is one.
        ages: For each question a number that is smaller for older ones, float64 (n,); None where nothing is known.
    """

    ids: Sequence[Id]
    texts: Sequence[str]
    text_of: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    ages: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class MiningResult:
    """The judged candidates, strongest cosine first, and all that follows from their scores.

    Attributes:
        questions: What was searched.
        left, right: Distinct texts of each judged pair, int64 (m,).
        cosine: Of their vectors, float64 (m,).
        score: Raw scores, float64 (m,).
        copies_left, copies_right: Questions that are one text up to case, space and punctuation, int64 (c,); a text
            that stands k times makes k - 1 such pairs. They are duplicates by definition, and are not judged.
        certificate: What the search for candidates promises.
        decider: Calibrator, thresholds, and the share of duplicates among the candidates.
        base_rate_note: Where that share comes from, and whether to believe it.
        unknown: Distinct texts of which the model knows no word, and which it therefore cannot compare.
        folded: Templates whose pairs were taken out by `fold`.
    """

    questions: Questions
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    cosine: NDArray[np.float64]
    score: NDArray[np.float64]
    copies_left: NDArray[np.int64]
    copies_right: NDArray[np.int64]
    certificate: Certificate
    decider: Decider
    base_rate_note: str
    unknown: int = 0
    folded: tuple[Template, ...] = ()

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """P(duplicate) of each judged pair at the base rate of the candidates, float64 (m,)."""
        return self.decider.probabilities(self.score)

    @property
    def codes(self) -> NDArray[np.int8]:
        """The decision on each judged pair, int8 (m,): 0 distinct, 1 review, 2 duplicate."""
        return self.decider.codes(self.score)

    def at(self, *, threshold: float | None = None, base_rate: float | None = None) -> MiningResult:
        """The same pairs decided at a threshold set by hand, or at another base rate; nothing is computed anew."""
        note = self.base_rate_note if base_rate is None else f"{base_rate:.2%} of the candidates, as given"
        return replace(self, decider=self.decider.at(threshold=threshold, base_rate=base_rate), base_rate_note=note)

    # ---- templates ------------------------------------------------------------------------------------------------

    def _flagged_texts(self) -> tuple[NDArray[np.int64], list[str], list[str]]:
        flagged, every = np.flatnonzero(self.codes == 2), self.questions
        left, right = every.first[self.left[flagged]].tolist(), every.second[self.right[flagged]].tolist()
        return flagged, [every.texts[at] for at in left], [every.texts[at] for at in right]

    def templates(self) -> list[Template]:
        """The templates that flood the flagged pairs, most pairs first."""
        _, left, right = self._flagged_texts()
        return find_templates(left, right)[0]

    def fold(self) -> MiningResult:
        """Without the flagged pairs of those templates; they are counted in `folded`."""
        flagged, left, right = self._flagged_texts()
        templates, of_pair = find_templates(left, right)
        kept = np.ones(len(self.left), bool)
        kept[flagged[of_pair >= 0]] = False
        return replace(
            self,
            left=self.left[kept],
            right=self.right[kept],
            cosine=self.cosine[kept],
            score=self.score[kept],
            folded=(*self.folded, *templates),
        )

    # ---- groups and rows ------------------------------------------------------------------------------------------

    def groups(self, *, linkage: Linkage = "average", canonical: Canonical = "central") -> list[DuplicateGroup]:
        """The duplicate groups, largest first; see `groups.duplicate_groups`. Copies go where their text goes.

        Raises:
            InputError: "oldest" was asked for, and the questions have no ages.
        """
        every = self.questions
        if canonical == "oldest" and every.ages is None:
            raise InputError("the age of the questions is not known", mend='give `created`, or use canonical="central"')
        by_id = sorted(range(len(every)), key=lambda question: id_key(every.ids[question]))
        members: list[list[int]] = [[] for _ in every.first]
        for question in by_id:
            members[every.text_of[question]].append(question)
        order = np.empty(len(members), np.int64)
        order[sorted(range(len(members)), key=lambda row: id_key(every.ids[members[row][0]]))] = np.arange(len(members))
        grouping = duplicate_groups(
            len(members),
            self.left,
            self.right,
            self.probabilities,
            threshold=self.decider.threshold,
            linkage=linkage,
            order=order,
        )
        grouped = {row for group in grouping.members for row in group}
        alone = [(row,) for row in range(len(members)) if row not in grouped and len(members[row]) > 1]
        found = []
        for rows, weakest in [*zip(grouping.members, grouping.weakest, strict=True), *((row, 1.0) for row in alone)]:
            everyone = [question for row in rows for question in members[row]]
            ages = every.ages
            # The first row is the central one; of its copies the one with the first id.
            stands = (
                min(everyone, key=lambda at: (ages[at], id_key(every.ids[at])))
                if canonical == "oldest" and (ages is not None)
                else everyone[0]
            )
            others = sorted((every.ids[at] for at in everyone if at != stands), key=id_key)
            found.append(DuplicateGroup((every.ids[stands], *others), every.ids[stands], weakest))
        return sorted(found, key=lambda group: (-len(group.members), id_key(group.canonical)))

    def rows(self, groups: Sequence[DuplicateGroup] = (), *, all_pairs: bool = False) -> Iterator[dict[str, Any]]:
        """One mapping a pair, with the keys `PAIR_COLUMNS`: copies first, then duplicates and reviews by probability.

        Args:
            groups: Fill the column `group` with the canonical id of a group that holds both questions.
            all_pairs: Distinct pairs too.
        """
        every = self.questions
        canonical = {id_: group.canonical for group in groups for id_ in group.members}

        def row(left: int, right: int, values: tuple[Any, ...]) -> dict[str, Any]:
            a, b = every.ids[left], every.ids[right]
            shared = canonical.get(a) if a in canonical and canonical.get(a) == canonical.get(b) else None
            texts = (every.texts[left], every.texts[right])
            return dict(zip(PAIR_COLUMNS, (a, b, *texts, *values, shared), strict=True))

        for left, right in zip(self.copies_left.tolist(), self.copies_right.tolist(), strict=True):
            yield row(left, right, ("copy", 1.0, None, 1.0, str(Decision.DUPLICATE)))
        probabilities, codes = self.probabilities, self.codes
        for at in np.lexsort((-self.cosine, -probabilities)).tolist():
            if codes[at] or all_pairs:
                values = (float(self.cosine[at]), float(self.score[at]), float(probabilities[at]))
                left, right = int(every.first[self.left[at]]), int(every.second[self.right[at]])
                yield row(left, right, ("judged", *values, str(DECISIONS[codes[at]])))

    def summary(self) -> dict[str, Any]:
        """The counts and promises, as JSON can hold them."""
        counts = np.bincount(self.codes, minlength=3)
        return {
            "questions": len(self.questions),
            "distinct_texts": len(self.questions.first),
            "copies": len(self.copies_left),
            "judged": len(self.left),
            "unknown_to_the_model": self.unknown,
            "decisions": {str(DECISIONS[code]): int(counts[code]) for code in (2, 1, 0)},
            "threshold": self.decider.threshold,
            "base_rate": self.decider.base_rate,
            "base_rate_note": self.base_rate_note,
            "promise": self.decider.promise,
            "search": str(self.certificate),
            "exact": self.certificate.exact,
            "min_cosine": self.certificate.complete_above,
            "recall_of_search": self.certificate.recall,
            "templates": [
                {"pattern": template.pattern, "pairs": template.pairs, "share": template.share, "folded": folded}
                for templates, folded in ((self.folded, True), (self.templates(), False))
                for template in templates
            ],
        }


def id_key(id_: Id) -> tuple[bool, Any]:
    """Sorts ids: numbers before words, so that a mixture has an order too."""
    return (isinstance(id_, str), id_)
