"""Contrast cases among labelled pairs: questions of the same words but for a number, a negation, a name, an order.

A network that looks at the words alone flags them all. They are found by the rules of `explain`, so which pairs count
as contrast cases is as good as those rules: for English, and silent where a rule is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.decisions import checks
from dupq.decisions.conflicts import ConflictKind
from dupq.decisions.explanation import Explanation, explain
from dupq.decisions.metrics import effective_size, wilson
from dupq.decisions.words import Word

FEWEST_PAIRS = 30
LEAST_OVERLAP = 0.4
MOST_PAIRS = 25_000
NONE = "none"


@dataclass(frozen=True, slots=True)
class ContrastRow:
    """The contrast cases of one kind.

    Attributes:
        kind: What conflicts; "none": the words are the same, and no conflict was found.
        pairs: How many there are.
        distinct: The share of them that is labelled distinct.
        error: The share decided wrongly: distinct and flagged, or a duplicate and not flagged.
        low, high: The 95 % interval of that: Wilson's, the pairs divided by the design effect of the question groups.
        false_flags: The share of the distinct ones that is flagged; None where there are none.
    """

    kind: str
    pairs: int
    distinct: float
    error: float
    low: float
    high: float
    false_flags: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def contrast_rows(
    left: Sequence[str], right: Sequence[str], labels: ArrayLike, flagged: ArrayLike, groups: ArrayLike | None = None
) -> list[ContrastRow]:
    """How contrast cases are decided: a row for each kind of which there are 30 pairs or more.

    A pair is a contrast case if two fifths of its words or more are in both texts, and all that carry meaning match but
    for those of a conflict; it is counted for each kind of conflict it has.
    Of more than 25,000 pairs so many are drawn.

    Args:
        left, right: Questions, n of each.
        labels: 0 or 1 (n,).
        flagged: Whether each pair was called a duplicate, (n,).
        groups: Question group keys (n,); None: each pair is its own group.
    """
    y, said = np.asarray(labels) == 1, np.asarray(flagged, dtype=bool)
    g = checks.checked_groups(groups, len(y))
    found: dict[str, list[int]] = {kind: [] for kind in (*map(str, ConflictKind), NONE)}
    for index in np.random.default_rng(0).permutation(len(y))[:MOST_PAIRS].tolist():
        # Looking at each word takes milliseconds; most pairs have too little in common to be worth it.
        if _overlap(left[index], right[index]) >= LEAST_OVERLAP:
            for kind in _kinds(explain(left[index], right[index])):
                found[kind].append(index)
    rows = ((kind, np.array(places)) for kind, places in found.items() if len(places) >= FEWEST_PAIRS)
    return [_row(kind, y[places], said[places], g[places]) for kind, places in rows]


def _overlap(a: str, b: str) -> float:
    """The share of the words of either text that are in both."""
    one, other = set(a.lower().split()), set(b.lower().split())
    return len(one & other) / max(1, len(one | other))


def _kinds(explanation: Explanation) -> set[str]:
    """The kinds of contrast that a pair is a case of; none if its words differ otherwise."""

    def same(words: Sequence[Word], unmatched: Sequence[int], shown: set[int]) -> bool:
        return all(place in shown or words[place].function for place in unmatched)

    conflicts = explanation.conflicts
    shown1 = {place for conflict in conflicts for place in conflict.words1}
    shown2 = {place for conflict in conflicts for place in conflict.words2}
    alike = same(explanation.words1, explanation.unmatched1, shown1)
    if not (alike and same(explanation.words2, explanation.unmatched2, shown2)):
        return set()
    return {str(conflict.kind) for conflict in conflicts} or {NONE}


def _row(kind: str, y: NDArray[np.bool_], flagged: NDArray[np.bool_], groups: NDArray[np.int64]) -> ContrastRow:
    wrong = y != flagged
    error = float(wrong.mean())
    low, high = wilson(error, effective_size(wrong.astype(np.int8), groups))
    false = None if y.all() else float(flagged[~y].mean())
    return ContrastRow(kind, len(y), float(1 - y.mean()), error, low, high, false)
