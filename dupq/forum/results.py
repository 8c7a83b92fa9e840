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
    """n questions of one collection or two, and which of them are copies of one text (see `copies`).

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
    """The candidates, strongest cosine first, and all that follows from their scores.

    Attributes:
        questions: What was searched.
        left, right: Distinct texts of each candidate, int64 (m,).
        cosine: Of their vectors, float64 (m,).
        score: Raw scores, float64 (m,).
        judged: Which of them the scorer gave, bool (m,); the others say what their cosine means.
        copies_left, copies_right: Questions that are one text up to case, space and sentence punctuation, int64
            (c,); a text that stands k times makes k - 1 such pairs. They are duplicates by definition, and not judged.
        certificate: What the search for candidates promises.
        decider: Calibrator and thresholds.
        unknown: Distinct texts of which the model knows no word, and which it therefore cannot compare.
        folded: Templates whose pairs were taken out by `fold`.
    """

    questions: Questions
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    cosine: NDArray[np.float64]
    score: NDArray[np.float64]
    judged: NDArray[np.bool_]
    copies_left: NDArray[np.int64]
    copies_right: NDArray[np.int64]
    certificate: Certificate
    decider: Decider
    unknown: int = 0
    folded: tuple[Template, ...] = ()

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """P(duplicate) of each candidate, float64 (m,)."""
        return self.decider.probabilities(self.score)

    @property
    def codes(self) -> NDArray[np.int8]:
        """The decision on each candidate, int8 (m,): 0 distinct, 1 review, 2 duplicate."""
        return self.decider.codes(self.score)

    def at(self, *, threshold: float | None = None, base_rate: float | None = None) -> MiningResult:
        """The same pairs decided at a threshold set by hand, or at another base rate; nothing is computed anew."""
        return replace(self, decider=self.decider.at(threshold=threshold, base_rate=base_rate))

    @property
    def base_rate(self) -> float:
        """The estimated share of duplicates among the candidates: the mean of their probabilities; 0 without any."""
        return float(self.probabilities.mean()) if len(self.score) else 0.0

    @property
    def expected(self) -> dict[str, float | None]:
        """What to expect of the decisions, from the probabilities: `precision` of the flagged pairs, and `recall`.

        The recall is over the duplicates among the candidates. None where nothing is flagged, or nothing expected.
        """
        probabilities, flagged = self.probabilities, self.codes == 2
        found, every = float(probabilities[flagged].sum()), float(probabilities.sum())
        return {
            "precision": found / int(flagged.sum()) if flagged.any() else None,
            "recall": found / every if every else None,
        }

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
            judged=self.judged[kept],
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
                kind = "judged" if self.judged[at] else "guessed"
                yield row(left, right, (kind, *values, str(DECISIONS[codes[at]])))

    def summary(self) -> dict[str, Any]:
        """The counts and promises, as JSON can hold them."""
        counts = np.bincount(self.codes, minlength=3)
        return {
            "questions": len(self.questions),
            "distinct_texts": len(self.questions.first),
            "copies": len(self.copies_left),
            "candidates": len(self.left),
            "judged": int(self.judged.sum()),
            "unknown_to_the_model": self.unknown,
            "decisions": {str(DECISIONS[code]): int(counts[code]) for code in (2, 1, 0)},
            "threshold": self.decider.threshold,
            "base_rate": self.base_rate,
            "expected": self.expected,
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
