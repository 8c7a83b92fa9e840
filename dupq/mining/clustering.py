"""Clustering of scored pairs into duplicate groups that do not chain.

Connected components join two groups by a single pair. A forum's pairs always include wrong ones, so that half of the
forum ends in one group. Agglomerative clustering compares whole groups instead (average linkage, Sokal & Michener 1958;
complete linkage, Sørensen 1948): two groups join while their average, or their lowest, probability reaches the
threshold. Two questions that are no candidates, because their vectors are not near, count as probability 0. Between two
collections, two questions of one of them are never compared, and do not count.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_choice, as_number
from dupq.errors import InputError

Linkage = Literal["average", "complete", "connected"]
LINKAGES: tuple[Linkage, ...] = ("average", "complete", "connected")
Representative = Literal["central", "oldest"]
REPRESENTATIVES: tuple[Representative, ...] = ("central", "oldest")


@dataclass(frozen=True, slots=True)
class Clustering:
    """Groups of two or more questions.

    Attributes:
        members: For each group its question numbers: the most central one first, then the others in order.
        min_probability: For each group the lowest probability between two members that were compared.
    """

    members: Sequence[tuple[int, ...]]
    min_probability: Sequence[float]

    def __len__(self) -> int:
        return len(self.members)

    def labels(self, n: int) -> NDArray[np.int64]:
        """Return the group of each of n questions, int64 (n,).

        A group goes by the smallest number in it, a lone question by its own.
        """
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
    order: Sequence[int] | NDArray[np.int64] | None = None,
    side: NDArray[np.int64] | None = None,
) -> Clustering:
    """Group questions by the probabilities of their pairs.

    The result does not depend on the order of the pairs.

    Args:
        n: Number of questions.
        left, right: Question numbers, int64 (m,), each pair once.
        probabilities: P(duplicate) of each pair, float64 (m,). Include pairs below the threshold: they keep groups
            apart.
        threshold: The average (or lowest) probability from which two groups join, in (0, 1].
        linkage: "average"; "complete" (every two members that can be compared are a pair and reach the threshold); or
            "connected" for plain connected components, as a baseline.
        order: A rank of the questions, (n,), that breaks ties. With a rank that follows the ids, the result does not
            depend on the order of the questions. None: their numbers.
        side: For each question 0 if it is in the new collection alone, 2 if it is in the old one alone, and 1 if it is
            in both, int64 (n,). Two questions of side 0, or of side 2, cannot be compared. None: all can.

    Raises:
        InputError: An unknown linkage, lengths that differ, a threshold outside (0, 1], a pair that is given twice, or
            a question that is paired with itself.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    as_choice(linkage, LINKAGES, "linkage")
    if not len(left) == len(right) == len(probabilities):
        raise InputError(
            f"left, right and probabilities must be equally long, got {len(left)}, {len(right)}, {len(probabilities)}",
            hint="give one of each for a pair",
        )
    as_number(threshold, "threshold", 0, 1, above=True)
    # From here on a question goes by its rank, and pairs are sorted, so that the order of the input has no effect.
    by_rank = np.argsort(np.arange(n) if order is None else np.asarray(order), kind="stable")
    rank = np.empty(n, np.int64)
    rank[by_rank] = np.arange(n)
    low, high = np.minimum(rank[left], rank[right]), np.maximum(rank[left], rank[right])
    sorting = np.lexsort((high, low))
    low, high, weight = low[sorting], high[sorting], np.asarray(probabilities, np.float64)[sorting]
    if len(low) and ((low == high).any() or ((np.diff(low) == 0) & (np.diff(high) == 0)).any()):
        raise InputError("a pair is given twice, or a question is paired with itself", hint="give each pair once")
    strong = weight >= threshold
    edges = coo_matrix((np.ones(strong.sum(), np.int8), (low[strong], high[strong])), shape=(n, n))
    _, component = connected_components(edges, directed=False)
    label = np.asarray(component, np.int64)
    if linkage != "connected":
        inside = component[low] == component[high]
        sides = np.ones(n, np.int64) if side is None else side[by_rank]
        label = _agglomerate(low[inside], high[inside], weight[inside], threshold, linkage == "complete", sides)
    return _describe(label, low, high, weight, by_rank)


def _agglomerate(
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    weight: NDArray[np.float64],
    threshold: float,
    complete: bool,
    side: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the group of each question, int64 (n,), named by its smallest member."""
    near: dict[int, dict[int, float]] = {}  # between groups: the sum of probabilities, or the lowest one
    for a, b, p in zip(low.tolist(), high.tolist(), weight.tolist(), strict=True):
        near.setdefault(a, {})[b] = p
        near.setdefault(b, {})[a] = p
    # Members of each group, and those in the new and in the old collection alone.
    counts: dict[int, tuple[int, ...]] = {a: (1, int(side[a] == 0), int(side[a] == 2)) for a in near}
    joined = np.arange(len(side), dtype=np.int64)
    # (-likeness, a, b) of two groups that may join. An entry is stale once either group has changed; its likeness is
    # then not the present one.
    heap = [(-p, a, b) for a, b, p in zip(low.tolist(), high.tolist(), weight.tolist(), strict=True) if p >= threshold]
    heapq.heapify(heap)

    def likeness(a: int, b: int) -> float:
        return near[a][b] if complete else near[a][b] / _comparable(counts[a], counts[b])

    while heap:
        negative, a, b = heapq.heappop(heap)
        if a not in near or b not in near[a] or likeness(a, b) != -negative:
            continue
        mine, theirs = near[a], near.pop(b)
        joined[b] = a
        del mine[b], theirs[a]
        parts = (mine, counts[a]), (theirs, counts.pop(b))
        counts[a] = tuple(map(sum, zip(parts[0][1], parts[1][1], strict=True)))
        for other in sorted({*mine, *theirs}):
            near[other].pop(b, None)
            values = [found[other] for found, _ in parts if other in found]
            if complete and any(other not in found and _comparable(part, counts[other]) for found, part in parts):
                mine.pop(other, None)
                near[other].pop(a, None)
                continue
            mine[other] = near[other][a] = min(values) if complete else sum(values)
            if (alike := likeness(a, other)) >= threshold:
                heapq.heappush(heap, (-alike, min(a, other), max(a, other)))
    while (joined != joined[joined]).any():
        joined = joined[joined]
    return joined


def _comparable(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return the number of comparable pairs of two groups, from their counts."""
    (members, new, old), (others, other_new, other_old) = one, other
    return members * others - new * other_new - old * other_old


def _describe(
    label: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    weight: NDArray[np.float64],
    by_rank: NDArray[np.int64],
) -> Clustering:
    """Return members and lowest probability of each group of two or more.

    Groups go by the lowest rank of their members.
    """
    n = len(label)
    inside = label[low] == label[high]
    low, high, weight = low[inside], high[inside], weight[inside]
    count = np.bincount(label, minlength=n)
    min_probability = np.full(n, np.inf)
    np.minimum.at(min_probability, label[low], weight)
    central = np.bincount(low, weight, minlength=n) + np.bincount(high, weight, minlength=n)
    # By group, then the most central one first, then by rank.
    members = np.lexsort((np.arange(n), -central, label))
    members = members[count[label[members]] > 1]
    starts = np.flatnonzero(np.diff(label[members], prepend=-1))
    groups = []
    for part in np.split(members, starts[1:]) if len(members) else []:
        rest = np.sort(part[1:])
        lowest = float(min_probability[label[part[0]]])
        groups.append((int(part.min()), tuple(by_rank[[part[0], *rest]].tolist()), lowest))
    groups.sort()
    return Clustering(tuple(group for _, group, _ in groups), tuple(lowest for _, _, lowest in groups))
