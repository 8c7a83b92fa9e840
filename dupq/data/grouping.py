"""Question groups, splits that share none, and the report of a leak between two files.

A question recurs in many pairs, so a split by rows puts half of a question's pairs in training and half in the test.
Here a *question group* is a connected component of the graph whose nodes are normalised questions and whose edges
are all pairs, labelled 1 or 0 alike; a split gives each group to one part, whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dupq.data.text import fingerprints
from dupq.errors import InputError, LeakError

DEFAULT_FRACTIONS: Mapping[str, float] = {"train": 0.70, "validation": 0.03, "calibration": 0.07, "test": 0.20}


def question_groups(left: Sequence[str], right: Sequence[str]) -> NDArray[np.int64]:
    """The question group of each pair.

    Args:
        left, right: n texts each.

    Returns:
        int64 array (n,): the group's key, which is the smallest fingerprint among its questions. It does not depend on
        the order of the rows, on the order within a pair, or on the rows of other groups.
    """
    _check_lengths(left, right)
    n = len(left)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    prints, node = np.unique(np.concatenate([fingerprints(list(left)), fingerprints(list(right))]), return_inverse=True)
    # Edges that recur are added up, so they must not be of a type that overflows to "no edge".
    edges = coo_matrix((np.ones(n), (node[:n], node[n:])), shape=(len(prints), len(prints)))
    _, component = connected_components(edges, directed=False)
    key = np.full(component.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(key, component, prints)
    return np.asarray(key[component[node[:n]]])


def _check_lengths(left: Sequence[str], right: Sequence[str]) -> None:
    if len(left) != len(right):
        raise InputError(f"{len(left)} left texts but {len(right)} right texts", mend="give two of each pair")


def assign_splits(groups: NDArray[np.int64], fractions: Mapping[str, float], seed: int) -> NDArray[np.str_]:
    """The name of the split of each pair, drawn by a hash of its group: string array (n,).

    Args:
        groups: Group keys, (n,), as `question_groups` gives them.
        fractions: Name of each split -> its expected share of the *groups*; they sum to 1.
        seed: Another seed gives another draw.

    Raises:
        InputError: Shares that are below 0 or do not sum to 1.
    """
    # Put so that a share of NaN fails too.
    if not (all(share >= 0 for share in fractions.values()) and abs(sum(fractions.values()) - 1) <= 1e-6):
        raise InputError(
            f"split fractions {dict(fractions)} do not sum to 1", mend="give shares such as 0.7 0.1 0.1 0.1"
        )
    keys, inverse = np.unique(groups, return_inverse=True)
    draws = np.array([_uniform(int(key), seed) for key in keys], dtype=np.float64)
    names = list(fractions)
    edges = np.cumsum([fractions[name] for name in names])
    picked = np.minimum(np.searchsorted(edges, draws, side="right"), len(names) - 1)
    return np.asarray(np.array(names)[picked][inverse])


def _uniform(key: int, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") / 2**64)


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What two sets of pairs have in common.

    Attributes:
        pairs_a, pairs_b: Number of pairs in each.
        shared_questions: Questions, up to case, space and punctuation, that both hold.
        leaking_pairs_b: Pairs of B in a question group that A also reaches.
        rows_b: Which pairs of B those are, counted from 0; the first 20.
    """

    pairs_a: int
    pairs_b: int
    shared_questions: int
    leaking_pairs_b: int
    rows_b: tuple[int, ...]

    @property
    def clean(self) -> bool:
        """True: not one pair of B leaks."""
        return self.leaking_pairs_b == 0

    def __str__(self) -> str:
        if self.clean:
            return f"no leak: none of {self.pairs_b:,} pairs shares a question group with the other {self.pairs_a:,}"
        share = self.leaking_pairs_b / self.pairs_b
        first = ", ".join(str(row + 1) for row in self.rows_b)
        return (
            f"LEAK: {self.leaking_pairs_b:,} of {self.pairs_b:,} pairs ({share:.1%}) are in question groups that the "
            f"other {self.pairs_a:,} reach; {self.shared_questions:,} questions stand in both. First: pair {first}"
        )


def leak_report(a: tuple[Sequence[str], Sequence[str]], b: tuple[Sequence[str], Sequence[str]]) -> LeakReport:
    """Compares two sets of pairs, each given as (left texts, right texts).

    Two pairs leak when a chain of pairs of either set joins them: groups are taken over both sets together.
    """
    for left, right in (a, b):
        _check_lengths(left, right)
    n = len(a[0])
    groups = question_groups([*a[0], *b[0]], [*a[1], *b[1]])
    leaking = np.flatnonzero(np.isin(groups[n:], groups[:n]))
    shared = np.intersect1d(fingerprints([*a[0], *a[1]]), fingerprints([*b[0], *b[1]]))
    return LeakReport(n, len(b[0]), len(shared), len(leaking), tuple(int(row) for row in leaking[:20]))


def holds_trained(trained_on: NDArray[np.int64] | None, left: Sequence[str], right: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each of n pairs holds a question that the network was trained on, (n,); see `refuse_overlap`."""
    if trained_on is None or len(trained_on) == 0:
        return np.zeros(len(left), dtype=bool)
    return np.isin(fingerprints(list(left)), trained_on) | np.isin(fingerprints(list(right)), trained_on)


def refuse_overlap(
    trained_on: NDArray[np.int64] | None, left: Sequence[str], right: Sequence[str], purpose: str
) -> None:
    """Raises LeakError if a question that the network was trained on is in these pairs.

    Args:
        trained_on: Fingerprints of all questions of the training groups, or None where they are not known.
        left, right: The pairs that are to be used.
        purpose: What for, in words, for the error.
    """
    seen = holds_trained(trained_on, left, right)
    if seen.any():
        rows = np.flatnonzero(seen)
        first = ", ".join(str(int(row) + 1) for row in rows[:5])
        raise LeakError(
            f"{len(rows):,} of {len(seen):,} pairs hold a question that the network was trained on "
            f"(first: pair {first}), so they cannot serve to {purpose}",
            mend="split with `dupq split`, which gives each question group to one part only",
        )
