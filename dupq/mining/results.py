"""Result of mining: pairs, decisions and groups.

The pairs can be decided again at another threshold or base rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_choice, as_kind, as_list
from dupq.decisions.decider import DECISIONS, Decider
from dupq.errors import InputError
from dupq.mining.clustering import LINKAGES, REPRESENTATIVES, Linkage, Representative, duplicate_groups
from dupq.mining.questions import Questions, id_key
from dupq.mining.stored_questions import BLOCK, Selected, take
from dupq.mining.templates import Template, find_templates
from dupq.models.batching import chunks
from dupq.search.pairs import SearchGuarantee
from dupq.types import Decision, DuplicateGroup, Id

Ints = NDArray[np.int64]

PAIR_COLUMNS = [
    "id1", "id2", "question1", "question2", "kind", "cosine", "score", "probability", "decision", "group",
    "representative", "warnings",
]  # fmt: skip
GROUP_COLUMNS = ["group", "representative", "id", "question", "is_representative", "min_probability"]
"""In both files `group` is the number of a group, from 1, and `representative` the id of its representative."""
ESTIMATE_RESTS_ON = "calibrated probabilities of labelled pairs; not verified on mined candidates"
GUARANTEE_RESTS_ON = "computed on the labelled calibration pairs, not on mined candidates"
MAX_LISTED = 20
"""Number of left-out questions that a summary lists."""


@dataclass(frozen=True, eq=False, repr=False)
class MiningResult:
    """Candidates, strongest cosine first, with their scores and decisions.

    Attributes:
        questions: The questions that were mined.
        left, right: Distinct texts of each candidate, int64 (m,).
        cosine: Cosine of their vectors, float64 (m,).
        score: Raw scores, float64 (m,).
        judged: bool (m,): True where the scorer gave the score, False where it was estimated from the cosine.
        copies_left, copies_right: Questions that are one text up to case, space and sentence punctuation, int64 (c,);
            within one collection a text that occurs k times makes k - 1 pairs. They are duplicates by definition, and
            are not scored.
        search_guarantee: Guarantee of the search for candidates.
        decider: Calibrator and thresholds.
        unknown_language: Distinct texts in a script or language that the networks were not trained on, bool (u,). Their
            pairs are decided "review" instead of "duplicate", unless the decider allows them. Copies stay duplicates.
        truncated: Distinct texts that are too long for the networks to read in full, bool (u,).
        unknown: Number of distinct texts without a word of the vocabulary, which cannot be compared.
        folded: Templates whose pairs were removed by `fold`.
        left_out: One line for each question that was left out as a bad text: its place and the reason.
    """

    questions: Questions
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    cosine: NDArray[np.float64]
    score: NDArray[np.float64]
    judged: NDArray[np.bool_]
    copies_left: NDArray[np.int64]
    copies_right: NDArray[np.int64]
    search_guarantee: SearchGuarantee
    decider: Decider
    unknown_language: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    unknown: int = 0
    folded: tuple[Template, ...] = ()
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        flagged = int((self.codes == 2).sum())
        return (
            f"MiningResult({len(self.questions):,} questions, {len(self.left):,} candidates, "
            f"{flagged:,} duplicate pairs, {len(self.copies_left):,} copies)"
        )

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """P(duplicate) of each candidate, float64 (m,)."""
        return self.decider.probabilities(self.score, self.cosine)

    @property
    def codes(self) -> NDArray[np.int8]:
        """Decision on each candidate, int8 (m,): 0 distinct, 1 review, 2 duplicate."""
        return self.decider.codes(self.score, self._unknown_pairs, cosines=self.cosine)

    @property
    def _unknown_pairs(self) -> NDArray[np.bool_]:
        """Candidates with a text in an unknown language, bool (m,)."""
        return np.asarray(self.unknown_language[self.left] | self.unknown_language[self.right])

    def at(self, *, threshold: float | None = None, base_rate: float | None = None) -> MiningResult:
        """Return the same pairs decided at another threshold or base rate.

        Nothing is scored again: within a budget, the scored pairs are those near the threshold of the settings.

        Raises:
            InputError: A threshold outside (0, 1], or a base rate outside (0, 1).
        """
        return replace(self, decider=self.decider.at(threshold=threshold, base_rate=base_rate))

    @property
    def base_rate(self) -> float:
        """Mean probability of the candidates; 0 if there are none.

        It estimates the share of duplicates among them where the decider was calibrated on judged candidates, else
        among pairs drawn like the labelled ones, which candidates are not.
        """
        return float(self.probabilities.mean()) if len(self.score) else 0.0

    @property
    def expected(self) -> dict[str, float | None]:
        """Expected precision of the flagged pairs, and their recall among candidates.

        The calibrated probabilities give both estimates. `rests_on` states the evidence. Where that is no judged
        candidates, have a sample of the pairs read before you rely on them. None where nothing is flagged, or nothing
        is expected.
        """
        probabilities, flagged = self.probabilities, self.codes == 2
        found, every = float(probabilities[flagged].sum()), float(probabilities.sum())
        return {
            "precision": found / int(flagged.sum()) if flagged.any() else None,
            "recall": found / every if every else None,
        }

    @property
    def rests_on(self) -> str:
        """The evidence of the probabilities, in words."""
        candidates = self.decider.candidates
        return ESTIMATE_RESTS_ON if candidates is None else candidates.rests_on

    # ---- templates ------------------------------------------------------------------------------------------------

    def _flagged_templates(self) -> tuple[NDArray[np.int64], list[Template], NDArray[np.int64]]:
        """Return the flagged candidates, the templates, and each one's template index.

        The index is -1 for a candidate without a template.
        """
        flagged, every = np.flatnonzero(self.codes == 2), self.questions
        left, right = every.first[self.left[flagged]], every.second[self.right[flagged]]
        return flagged, *find_templates(Selected(every.texts, left), Selected(every.texts, right))

    def templates(self) -> list[Template]:
        """Return the templates that flood the flagged pairs, most pairs first."""
        return self._flagged_templates()[1]

    def fold(self) -> MiningResult:
        """Return the result without the flagged pairs of `templates()`.

        `folded` lists the removed templates.
        """
        flagged, templates, of_pair = self._flagged_templates()
        kept = np.ones(len(self.left), bool)
        kept[flagged[of_pair >= 0]] = False
        columns = {name: getattr(self, name)[kept] for name in ("left", "right", "cosine", "score", "judged")}
        return replace(self, **columns, folded=(*self.folded, *templates))

    # ---- groups and rows ------------------------------------------------------------------------------------------

    def groups(
        self, *, linkage: Linkage = "average", representative: Representative = "central"
    ) -> list[DuplicateGroup]:
        """Return the duplicate groups, largest first.

        Copies join their text. Between two collections, each group holds a question of the new one. See
        `clustering.duplicate_groups`.

        Args:
            linkage: "average", "complete" or "connected".
            representative: "central" (the highest sum of probabilities to the others) or "oldest"; a question without a
                date counts as youngest.

        Raises:
            InputError: An unknown linkage or representative, or "oldest" where no question has a date.
        """
        as_choice(linkage, LINKAGES, "linkage")
        as_choice(representative, REPRESENTATIVES, "representative")
        every, oldest = self.questions, None
        if representative == "oldest" and len(every):
            if every.ages is None or not np.isfinite(every.ages).any():
                hint = 'give `created`, or use representative="central"'
                raise InputError('representative "oldest" needs dates, and no question has one', hint=hint)
            oldest = every.ages
        threshold = self.decider.threshold
        # All pairs of a text in an unknown language lie below the threshold, so that no average of them reaches it.
        held_back = self._unknown_pairs & (not self.decider.allow_unknown_language)
        below = np.minimum(self.probabilities, np.nextafter(threshold, 0.0))
        probabilities = np.where(held_back, below, self.probabilities)
        # A text without a copy and without a pair at the threshold stays alone: it and its questions are left out.
        kept, strong = np.bincount(every.text_of, minlength=len(every.first)) > 1, probabilities >= threshold
        kept[self.left[strong]] = kept[self.right[strong]] = True
        number = np.cumsum(kept, dtype=np.int64)
        number -= 1  # in place: there is one for each text
        inside = kept[self.left] & kept[self.right]
        questions = np.flatnonzero(kept[every.text_of])
        ids = dict(zip(questions.tolist(), take(every.ids, questions), strict=True))
        members: list[list[int]] = [[] for _ in range(int(kept.sum()))]
        for question in sorted(ids, key=lambda at: id_key(ids[at])):
            members[number[every.text_of[question]]].append(question)
        order = np.empty(len(members), np.int64)
        order[sorted(range(len(members)), key=lambda row: id_key(ids[members[row][0]]))] = np.arange(len(members))
        clustering = duplicate_groups(
            len(members),
            number[self.left[inside]],
            number[self.right[inside]],
            probabilities[inside],
            threshold=threshold,
            linkage=linkage,
            order=order,
            side=None if every.sides is None else np.searchsorted(every.sides, np.flatnonzero(kept), side="right"),
        )
        clusters = [*zip(clustering.members, clustering.min_probability, strict=True)]
        clustered = {row for rows, _ in clusters for row in rows}
        copies = (row for row in range(len(members)) if row not in clustered and len(members[row]) > 1)
        # Copies within the old collection are no duplicates of a new question.
        clusters += [((row,), 1.0) for row in copies if min(members[row]) < every.new]
        found = []
        for rows, min_probability in clusters:
            together = [question for row in rows for question in members[row]]
            # The first row is the central text; of its copies, the one with the first id.
            chosen = together[0]
            if oldest is not None:
                chosen = min(together, key=lambda at: (oldest[at], id_key(ids[at])))
            others = sorted((ids[at] for at in together if at != chosen), key=id_key)
            found.append(DuplicateGroup((ids[chosen], *others), ids[chosen], min_probability))
        return sorted(found, key=lambda group: (-len(group.members), id_key(group.representative)))

    def rows(self, groups: Sequence[DuplicateGroup] = (), *, all_pairs: bool = False) -> Iterator[dict[str, Any]]:
        """Yield one mapping a pair, with the keys `PAIR_COLUMNS`.

        Copies come first, then duplicate and review pairs by falling probability. All values are plain Python, as JSON
        can hold them. `warnings` lists the warnings of each text, such as "question1: truncated", and is empty if there
        are none.

        Args:
            groups: Those of `groups()`. Where a group holds both questions, its number (from 1) is in the column
                `group` and the id of its representative in `representative`, as in `group_rows`.
            all_pairs: Include distinct pairs.

        Raises:
            InputError: `groups` holds something else.
        """
        as_kind(all_pairs, bool, "all_pairs", "give True or False")
        every = self.questions
        for group in as_list(groups, "groups"):
            as_kind(group, DuplicateGroup, "each of groups", "give those of `result.groups()`")
        number = {id_: at for at, group in enumerate(groups, 1) for id_ in group.members}

        def block(left: Ints, right: Ints, values: Iterable[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
            # Both sides at once, so that no part of stored questions is read twice.
            both = np.concatenate([left, right])
            ids, texts = take(every.ids, both), take(every.shown, both)
            for at, (i, j, own) in enumerate(zip(left.tolist(), right.tolist(), values, strict=True)):
                a, b = ids[at], ids[at + len(left)]
                shared = number.get(a) if number.get(a) == number.get(b) else None
                representative = None if shared is None else groups[shared - 1].representative
                shown = (texts[at], texts[at + len(left)])
                found = (a, b, *shown, *own, shared, representative, self._warnings(i, j))
                yield dict(zip(PAIR_COLUMNS, found, strict=True))

        for part in chunks(len(self.copies_left), BLOCK):
            left, right = self.copies_left[part], self.copies_right[part]
            yield from block(left, right, [("copy", 1.0, None, 1.0, str(Decision.DUPLICATE))] * len(left))
        probabilities, codes = self.probabilities, self.codes
        order = np.lexsort((-self.cosine, -probabilities))
        order = order if all_pairs else order[codes[order] > 0]

        def values(at: int) -> tuple[Any, ...]:
            kind = "judged" if self.judged[at] else "guessed"
            numbers = (float(self.cosine[at]), float(self.score[at]), float(probabilities[at]))
            return (kind, *numbers, str(DECISIONS[codes[at]]))

        for part in chunks(len(order), BLOCK):
            rows = order[part]
            left, right = every.first[self.left[rows]], every.second[self.right[rows]]
            yield from block(left, right, map(values, rows.tolist()))

    def group_rows(self, groups: Sequence[DuplicateGroup]) -> Iterator[dict[str, Any]]:
        """Yield one mapping a member of a group, with the keys `GROUP_COLUMNS`.

        The representative of a group comes first.
        """
        every = self.questions
        members = [id_ for group in groups for id_ in group.members]
        number: dict[Id, int] = dict.fromkeys(members, -1)
        for at, id_ in enumerate(every.ids):
            if id_ in number:
                number[id_] = at
        texts = iter(Selected(every.shown, np.array([number[id_] for id_ in members], np.int64)))
        for at, group in enumerate(groups, 1):
            chosen = group.representative
            for id_ in group.members:
                found = (at, chosen, id_, next(texts), id_ == chosen, group.min_probability)
                yield dict(zip(GROUP_COLUMNS, found, strict=True))

    def _warnings(self, left: int, right: int) -> str:
        found = []
        for name, question in (("question1", left), ("question2", right)):
            text = self.questions.text_of[question]
            kinds = (("truncated", self.truncated), ("unknown_language", self.unknown_language))
            found += [f"{name}: {kind}" for kind, warned in kinds if warned[text]]
        return "; ".join(found)

    def summary(self) -> dict[str, Any]:
        """Return the counts and the evidence behind them, as JSON can hold them."""
        counts = np.bincount(self.codes, minlength=3)
        held_back = int((self.decider.codes(self.score, cosines=self.cosine) == 2).sum() - counts[2])
        by_rule = self.decider.threshold_override is None and self.decider.candidates is None
        guaranteed = by_rule and self.decider.warning is None
        return {
            "questions": len(self.questions),
            "left_out": len(self.left_out),
            "left_out_rows": list(self.left_out[:MAX_LISTED]),
            "distinct_texts": len(self.questions.first),
            "copies": len(self.copies_left),
            "candidates": len(self.left),
            "judged": int(self.judged.sum()),
            "unknown_to_the_model": self.unknown,
            "unknown_language": int(self.unknown_language.sum()),
            "allow_unknown_language": self.decider.allow_unknown_language,
            "held_back_for_language": held_back,
            "truncated_texts": int(self.truncated.sum()),
            "decisions": {str(DECISIONS[code]): int(counts[code]) for code in (2, 1, 0)},
            "threshold": self.decider.threshold,
            "base_rate": self.base_rate,
            "judged_candidates": 0 if self.decider.candidates is None else self.decider.candidates.pairs,
            "expected": {**self.expected, "rests_on": self.rests_on},
            "guarantee": self.decider.guarantee + (f" ({GUARANTEE_RESTS_ON})" if guaranteed else ""),
            "search": str(self.search_guarantee),
            "exact": self.search_guarantee.exact,
            "min_cosine": self.search_guarantee.threshold,
            "neighbours": self.search_guarantee.neighbours,
            "truncated": self.search_guarantee.truncated,
            "complete_above": self.search_guarantee.complete_above,
            "dropped_at_least": self.search_guarantee.dropped,
            "recall_of_search": self.search_guarantee.recall,
            "templates": [
                {"pattern": template.pattern, "pairs": template.pairs, "share": template.share, "folded": folded}
                for templates, folded in ((self.folded, True), (self.templates(), False))
                for template in templates
            ],
        }
