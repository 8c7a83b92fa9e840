"""From pairs to duplicate groups that do not chain.

Connected components join two groups by one pair, and a forum's pairs always hold wrong ones: half the forum ends in one
"duplicate" group. Agglomerative clustering asks the groups instead (Sokal & Michener 1958 for the average, Sørensen
1948 for the complete linkage): two of them join while their average, or their weakest, probability is at the threshold.
Two questions that were never compared, because not even their vectors were close, count as probability 0.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dupq.errors import InputError

Linkage = Literal["average", "complete", "connected"]
LINKAGES: tuple[Linkage, ...] = ("average", "complete", "connected")
Canonical = Literal["central", "oldest"]

_Neighbours = dict[int, dict[int, float]]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups of two or more questions.

    Attributes:
        members: Of each group its question numbers, the canonical one first, the others in order.
        weakest: Of each group the lowest probability between two members that were compared.
        compared: Of each group the share of its pairs that were compared.
    """

    members: Sequence[tuple[int, ...]]
    weakest: Sequence[float]
    compared: Sequence[float]

    def __len__(self) -> int:
        return len(self.members)

    def labels(self, n: int) -> NDArray[np.int64]:
        """The group of each of n questions, int64 (n,): the smallest number in it; its own where it is alone."""
        found = np.arange(n, dtype=np.int64)
        for group in self.members:
            found[list(group)] = min(group)
        return found


def duplicate_groups(
    n: int,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    threshold: float,
    linkage: Linkage = "average",
    canonical: Canonical = "central",
    ages: Sequence[float] | NDArray[np.float64] | None = None,
    order: Sequence[int] | NDArray[np.int64] | None = None,
) -> Grouping:
    """Groups questions by the probabilities of their pairs; the order of the pairs does not matter.

    Args:
        n: Number of questions.
        left, right: Question numbers, int64 (m,), each pair once.
        probabilities: P(duplicate) of each pair, float64 (m,). Give those below the threshold too: they are what keeps
            groups apart.
        threshold: What the average (or weakest) probability between two groups must reach for them to join, in (0, 1].
        linkage: "average", "complete" (every two members must have been compared and reach the threshold), or
            "connected" for plain connected components, to compare with.
        canonical: The question that stands for its group: the most "central" (highest sum of probabilities to the
            others), or the "oldest".
        ages: When each question was asked, (n,), smaller = older; needed for "oldest".
        order: A rank of the questions, (n,), that breaks ties; give one that follows the ids, and the result does not
            depend on the order of the questions either. None: their numbers.

    Raises:
        InputError: Lengths that differ, a threshold outside (0, 1], a pair twice or of a question with itself, or
            "oldest" without ages.
    """
    rank = np.arange(n) if order is None else np.asarray(order)
    _check(n, left, right, probabilities, threshold, canonical, ages)
    # From here on a question is its rank, and pairs are sorted: what follows cannot see the order they came in.
    of_rank = np.argsort(rank, kind="stable")
    place = np.empty(n, np.int64)
    place[of_rank] = np.arange(n)
    low, high = np.minimum(place[left], place[right]), np.maximum(place[left], place[right])
    sorting = np.lexsort((high, low))
    low, high, weight = low[sorting], high[sorting], np.asarray(probabilities, np.float64)[sorting]
    if len(low) and ((low == high).any() or ((np.diff(low) == 0) & (np.diff(high) == 0)).any()):
        raise InputError("a pair is given twice, or a question is paired with itself", mend="give each pair once")
    strong = weight >= threshold
    edges = coo_matrix((np.ones(strong.sum(), np.int8), (low[strong], high[strong])), shape=(n, n))
    _, component = connected_components(edges, directed=False)
    label = np.asarray(component, np.int64)
    if linkage != "connected":
        inside = component[low] == component[high]
        label = _agglomerate(n, low[inside], high[inside], weight[inside], threshold, linkage == "complete")
    return _describe(label, low, high, weight, of_rank, None if canonical == "central" else np.asarray(ages))


def _agglomerate(
    n: int,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    weight: NDArray[np.float64],
    threshold: float,
    complete: bool,
) -> NDArray[np.int64]:
    """The group of each question; a group goes by its smallest member."""
    near: _Neighbours = {}
    for a, b, p in zip(low.tolist(), high.tolist(), weight.tolist(), strict=True):
        near.setdefault(a, {})[b] = p
        near.setdefault(b, {})[a] = p
    size = dict.fromkeys(near, 1)
    joined = np.arange(n, dtype=np.int64)
    # (-likeness, a, b) of two groups that may join; an entry is stale once either has changed, and is then known by a
    # likeness that is not the present one.
    heap = [(-p, a, b) for a, b, p in zip(low.tolist(), high.tolist(), weight.tolist(), strict=True) if p >= threshold]
    heapq.heapify(heap)

    def likeness(a: int, b: int) -> float:
        return near[a][b] if complete else near[a][b] / (size[a] * size[b])

    while heap:
        negative, a, b = heapq.heappop(heap)
        if a not in near or b not in near[a] or likeness(a, b) != -negative:
            continue
        mine, theirs = near[a], near.pop(b)
        joined[b] = a
        size[a] += size.pop(b)
        del mine[b], theirs[a]
        for other in sorted({*mine, *theirs}):
            del_mine = complete and (other not in mine or other not in theirs)
            near[other].pop(b, None)
            if del_mine:
                mine.pop(other, None)
                near[other].pop(a, None)
                continue
            values = [side[other] for side in (mine, theirs) if other in side]
            mine[other] = near[other][a] = min(values) if complete else sum(values)
            if (alike := likeness(a, other)) >= threshold:
                heapq.heappush(heap, (-alike, min(a, other), max(a, other)))
    while (joined != joined[joined]).any():
        joined = joined[joined]
    return joined


def _describe(
    label: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    weight: NDArray[np.float64],
    of_rank: NDArray[np.int64],
    ages: NDArray[np.float64] | None,
) -> Grouping:
    """Members, canonical question and weakest pair of each group of two or more, in the order of its first member."""
    n = len(label)
    inside = label[low] == label[high]
    low, high, weight = low[inside], high[inside], weight[inside]
    count, found = np.bincount(label, minlength=n), np.bincount(label[low], minlength=n)
    weakest = np.full(n, np.inf)
    np.minimum.at(weakest, label[low], weight)
    central = np.bincount(low, weight, minlength=n) + np.bincount(high, weight, minlength=n)
    first = -central if ages is None else ages[of_rank]
    # Sorted by group, then canonical first, then by rank.
    members = np.lexsort((np.arange(n), first, label))
    members = members[count[label[members]] > 1]
    starts = np.flatnonzero(np.diff(label[members], prepend=-1))
    groups = []
    for part in np.split(members, starts[1:]) if len(members) else []:
        rest = np.sort(part[1:])
        groups.append((int(rest.min(initial=part[0])), tuple(of_rank[[part[0], *rest]].tolist()), int(label[part[0]])))
    groups.sort()
    keys = [key for _, _, key in groups]
    sizes = count[keys] if keys else np.zeros(0, np.int64)
    shares = found[keys] / (sizes * (sizes - 1) / 2) if keys else np.zeros(0)
    return Grouping(
        tuple(group for _, group, _ in groups), tuple(weakest[keys].tolist()) if keys else (), tuple(shares.tolist())
    )


def _check(
    n: int,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    threshold: float,
    canonical: Canonical,
    ages: Sequence[float] | NDArray[np.float64] | None,
) -> None:
    if not len(left) == len(right) == len(probabilities):
        raise InputError(
            f"{len(left)} left, {len(right)} right questions and {len(probabilities)} probabilities",
            mend="give one of each for a pair",
        )
    if not 0 < threshold <= 1:
        raise InputError("the threshold is not in (0, 1]", where=f"threshold {threshold}", mend="give a probability")
    if canonical == "oldest" and (ages is None or len(ages) != n):
        raise InputError("the oldest question needs an age for each", where="ages", mend='give ages, or use "central"')


def pairwise_quality(found: NDArray[np.int64], true: NDArray[np.int64]) -> dict[str, float]:
    """How well groups agree with known ones, counted over pairs of questions that are in one group.

    Args:
        found, true: The group of each question, (n,).

    Returns:
        precision, recall and f1 of the pairs, and the size of the largest found and true group.
    """

    def pairs(keys: NDArray[np.int64]) -> float:
        count = np.unique(keys, return_counts=True)[1].astype(np.float64)
        return float((count * (count - 1) / 2).sum())

    both = np.unique(np.stack([found, true]), axis=1, return_inverse=True)[1]
    hit, said, wanted = pairs(both), pairs(found), pairs(true)
    precision, recall = hit / said if said else 1.0, hit / wanted if wanted else 1.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "largest_found": float(np.unique(found, return_counts=True)[1].max(initial=0)),
        "largest_true": float(np.unique(true, return_counts=True)[1].max(initial=0)),
    }
