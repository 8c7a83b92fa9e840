"""Contrast slices: errors on labelled pairs of nearly the same words.

Such pairs differ, for example, in a number, a negation, a name or the word order. A network that compares words alone
flags them. `dupq.explain` finds them by rule, so the slices are as complete as its rules, which are for English.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.numerics import effective_size
from dupq.data import checks
from dupq.data.arguments import as_texts
from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.evaluation.metrics import wilson
from dupq.explain.conflicts import ConflictKind
from dupq.explain.explanation import Explanation, explain

MIN_PAIRS = 30
"""Minimum number of pairs of a slice."""
MIN_OVERLAP = 0.4
"""Minimum share of words that both texts have; `explain` takes milliseconds, so other pairs are skipped before it."""
MAX_PAIRS = 25_000
"""Maximum number of pairs searched; of more, a random sample."""
NO_CONFLICT = "none"


@dataclass(frozen=True, slots=True)
class ContrastRow:
    """Errors on the contrast cases of one kind.

    Attributes:
        kind: Kind of conflict; "none": the words are the same, without a conflict.
        pairs: Number of pairs.
        distinct: Share of pairs labelled distinct.
        error: Share of wrong decisions: distinct and flagged, or a duplicate and not flagged.
        low, high: 95 % interval of `error`: Wilson's, with n divided by the design effect of the question groups.
        false_flags: Share of the distinct pairs that is flagged; None without distinct pairs.
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
    """Measure the errors of the decisions on each kind of contrast case.

    A pair is a contrast case if both texts have at least 40 % of its words and all content words match except those of
    a conflict. It counts for each kind of conflict that it has.

    Args:
        left, right: Questions, n of each.
        labels: 0 or 1 (n,).
        flagged: 1 where the pair is flagged as a duplicate, else 0 (n,).
        groups: Question group keys (n,); None: each pair is its own group.

    Returns:
        One row per kind that has at least `MIN_PAIRS` pairs.

    Raises:
        InputError: A text cannot be read, or lengths differ.
    """
    left, right, decisions = as_texts(left, "left"), as_texts(right, "right"), checks.as_numbers(flagged, "flagged")
    truth = checks.as_numbers(labels, "labels")
    if not len(left) == len(right) == truth.size == decisions.size or truth.ndim != 1 or decisions.ndim != 1:
        counts = f"{len(left)} and {len(right)} texts, {truth.size} labels and {decisions.size} flags"
        raise InputError(f"left, right, labels and flagged must be of one length, got {counts}", hint="give n of each")
    for side, texts in (("left", left), ("right", right)):
        for number, text in enumerate(texts, 1):
            check_text(text, f"{side} text of pair {number}")
    y, flags = truth == 1, decisions != 0
    g = checks.checked_groups(groups, len(y))
    cases: dict[str, list[int]] = {kind: [] for kind in (*map(str, ConflictKind), NO_CONFLICT)}
    for index in np.random.default_rng(0).permutation(len(y))[:MAX_PAIRS].tolist():
        if _overlap(left[index], right[index]) >= MIN_OVERLAP:
            for kind in _kinds(explain(left[index], right[index])):
                cases[kind].append(index)
    rows = ((kind, np.array(places)) for kind, places in cases.items() if len(places) >= MIN_PAIRS)
    return [_row(kind, y[places], flags[places], g[places]) for kind, places in rows]


def _overlap(a: str, b: str) -> float:
    """Return the Jaccard index of two texts' words."""
    one, other = set(a.lower().split()), set(b.lower().split())
    return len(one & other) / max(1, len(one | other))


def _kinds(explanation: Explanation) -> set[str]:
    """Return the kinds of conflict of a contrast case.

    The set is empty for a pair that is no contrast case.
    """
    conflicts = explanation.conflicts
    for words, unmatched, in_conflict in (
        (explanation.words1, explanation.unmatched1, {place for c in conflicts for place in c.words1}),
        (explanation.words2, explanation.unmatched2, {place for c in conflicts for place in c.words2}),
    ):
        if not all(place in in_conflict or words[place].function for place in unmatched):
            return set()
    return {str(conflict.kind) for conflict in conflicts} or {NO_CONFLICT}


def _row(kind: str, y: NDArray[np.bool_], flagged: NDArray[np.bool_], groups: NDArray[np.int64]) -> ContrastRow:
    wrong = y != flagged
    error = float(wrong.mean())
    low, high = wilson(error, effective_size(wrong.astype(np.int8), groups))
    false = None if y.all() else float(flagged[~y].mean())
    return ContrastRow(kind, len(y), float(1 - y.mean()), error, low, high, false)
