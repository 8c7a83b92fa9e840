"""Find question groups, assign them to splits, and report leaks between sets.

A question recurs in many pairs, so a split by rows puts half of a question's pairs in training and half in the test. A
*question group* is a connected component of the graph whose nodes are normalised questions and whose edges are all
pairs, labelled 1 or 0 alike. A split assigns each group as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_number, as_texts
from dupq.data.text import fingerprints
from dupq.errors import InputError, LeakError

DEFAULT_FRACTIONS: Mapping[str, float] = {"train": 0.70, "validation": 0.03, "calibration": 0.07, "test": 0.20}


def question_groups(left: Sequence[str], right: Sequence[str]) -> NDArray[np.int64]:
    """Return the question group of each pair.

    Args:
        left, right: n texts each.

    Returns:
        int64 array (n,): the group's key, the smallest fingerprint among its questions. It depends neither on the
        order of the rows, nor on the order within a pair, nor on the rows of other groups.

    Raises:
        InputError: The numbers of texts differ, or a text is no str.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left, right = _text_columns(left, right)
    n = len(left)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    prints, node = np.unique(fingerprints([*left, *right]), return_inverse=True)
    # Repeated edges are added up; a float sum does not overflow to 0, which would be no edge.
    edges = coo_matrix((np.ones(n), (node[:n], node[n:])), shape=(len(prints), len(prints)))
    _, component = connected_components(edges, directed=False)
    key = np.full(component.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(key, component, prints)
    return np.asarray(key[component[node[:n]]])


def _text_columns(left: object, right: object) -> tuple[list[str], list[str]]:
    columns = as_texts(left, "left"), as_texts(right, "right")
    _check_lengths(*columns)
    for name, texts in zip(("left", "right"), columns, strict=True):
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise InputError(
                    f"text must be a str, got {type(text).__name__}",
                    location=f"{name} text of pair {number}",
                    hint="convert it to str",
                )
    return columns


def _check_lengths(left: Sequence[str], right: Sequence[str]) -> None:
    if len(left) != len(right):
        raise InputError(
            f"left and right must have one length, got {len(left)} and {len(right)}", hint="give two texts a pair"
        )


def assign_splits(groups: NDArray[np.int64], fractions: Mapping[str, float], seed: int) -> NDArray[np.str_]:
    """Return the name of the split of each pair, drawn by a hash of its group.

    Args:
        groups: Group keys (n,) of `question_groups`.
        fractions: Name of each split -> its expected share of the *groups*; they sum to 1.
        seed: The seed of the draw.

    Returns:
        String array (n,).

    Raises:
        InputError: A fraction is outside [0, 1], or they do not sum to 1.
    """
    check_fractions(fractions)
    keys, inverse = np.unique(groups, return_inverse=True)
    draws = np.array([_uniform(int(key), seed) for key in keys], dtype=np.float64)
    names = list(fractions)
    edges = np.cumsum([fractions[name] for name in names])
    picked = np.minimum(np.searchsorted(edges, draws, side="right"), len(names) - 1)
    return np.asarray(np.array(names)[picked][inverse])


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Check that the fractions of splits are in [0, 1] and sum to 1.

    Raises:
        InputError: A fraction is no number in [0, 1], or they do not sum to 1.
    """
    hint = "give shares such as 0.7 0.1 0.1 0.1"
    for name, share in fractions.items():
        as_number(share, f"the fraction of {name!r}", 0, 1, hint=hint)
    if abs(sum(fractions.values()) - 1) > 1e-6:
        raise InputError(f"split fractions must sum to 1, got {dict(fractions)}", hint=hint)


def _uniform(key: int, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") / 2**64)


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Pairs that occur in a set with both labels, in either order of their questions.

    Attributes:
        pairs: The number of different pairs with both labels.
        entries: The number of rows that hold them.
        of: The number of rows of the set.
        first: Positions of the first two rows that contradict each other, counted from 0; None without any.
    """

    pairs: int
    entries: int
    of: int
    first: tuple[int, int] | None

    def __bool__(self) -> bool:
        return self.pairs > 0

    def text(self, rows: NDArray[np.int64] | None = None) -> str:
        """Return the counts as a sentence.

        Args:
            rows: The row of the source of each pair, (n,); None: the first two are named by position, from 1.
        """
        if self.first is None:
            return "no pair has both labels"
        one, other = (index + 1 if rows is None else int(rows[index]) for index in self.first)
        subject = "1 pair has" if self.pairs == 1 else f"{self.pairs:,} pairs have"
        unit = "pairs" if rows is None else "rows"
        return (
            f"{subject} both labels ({self.entries:,} of {self.of:,} rows; first: {unit} {one:,} and {other:,}); "
            "all are kept, and each label counts"
        )


def contradictions(left: Sequence[str], right: Sequence[str], labels: NDArray[np.integer[Any]]) -> Contradictions:
    """Find the pairs, up to normalisation and order, that are labelled both 1 and 0.

    Args:
        left, right: n texts each.
        labels: (n,): 1, 0, or -1 = unknown, which contradicts nothing.

    Raises:
        InputError: The numbers of texts differ.
    """
    _check_lengths(left, right)
    none = Contradictions(0, 0, len(left), None)
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        return none
    sides = np.stack([fingerprints(left), fingerprints(right)])[:, known]
    _, pair = np.unique(np.sort(sides, axis=0), axis=1, return_inverse=True)
    pair = pair.reshape(-1)
    duplicate = labels[known] == 1
    ones, total = np.bincount(pair, duplicate), np.bincount(pair)
    both = (ones > 0) & (ones < total)
    if not both.any():
        return none
    entries = np.flatnonzero(both[pair])
    same_pair = entries[pair[entries] == pair[entries[0]]]
    other = same_pair[duplicate[same_pair] != duplicate[same_pair[0]]][0]
    return Contradictions(int(both.sum()), len(entries), len(left), (int(known[same_pair[0]]), int(known[other])))


@dataclass(frozen=True, slots=True)
class LeakReport:
    """Overlap of two sets of pairs.

    Attributes:
        pairs_a, pairs_b: The number of pairs in each.
        shared_questions: The number of normalised questions that both hold.
        leaking_pairs_b: The number of pairs of B in a question group that also holds pairs of A.
        rows_b: Positions of those pairs in B, counted from 0; at most 20.
    """

    pairs_a: int
    pairs_b: int
    shared_questions: int
    leaking_pairs_b: int
    rows_b: tuple[int, ...]

    @property
    def clean(self) -> bool:
        """True if no pair of B leaks."""
        return self.leaking_pairs_b == 0

    def __str__(self) -> str:
        if self.clean:
            return f"no leak: none of {self.pairs_b:,} pairs shares a question group with the other {self.pairs_a:,}"
        share = self.leaking_pairs_b / self.pairs_b
        first = ", ".join(str(row + 1) for row in self.rows_b)
        return (
            f"LEAK: {self.leaking_pairs_b:,} of {self.pairs_b:,} pairs ({share:.1%}) share a question group with the "
            f"other {self.pairs_a:,}; both sets hold {self.shared_questions:,} questions. First: pair {first}"
        )


def leak_report(a: tuple[Sequence[str], Sequence[str]], b: tuple[Sequence[str], Sequence[str]]) -> LeakReport:
    """Compare two sets of pairs and report the question groups that they share.

    Two pairs leak when a chain of pairs of either set joins them: the groups are those of both sets together.

    Args:
        a, b: (left texts, right texts) each.

    Raises:
        InputError: A set is not two columns of one length, or a text is no str.
    """
    for name, sides in (("a", a), ("b", b)):
        if not isinstance(sides, (tuple, list)) or len(sides) != 2:
            raise InputError(f"{name} must be two columns, got {type(sides).__name__}", hint="give (left, right)")
    a, b = _text_columns(*a), _text_columns(*b)
    n = len(a[0])
    groups = question_groups([*a[0], *b[0]], [*a[1], *b[1]])
    leaking = np.flatnonzero(np.isin(groups[n:], groups[:n]))
    shared = np.intersect1d(fingerprints([*a[0], *a[1]]), fingerprints([*b[0], *b[1]]))
    return LeakReport(n, len(b[0]), len(shared), len(leaking), tuple(int(row) for row in leaking[:20]))


def holds_trained(trained_on: NDArray[np.int64] | None, left: Sequence[str], right: Sequence[str]) -> NDArray[np.bool_]:
    """Return a mask (n,) of the pairs that hold a training question.

    Args:
        trained_on: Fingerprints of all questions of the training groups; None: unknown, and the mask is False.
        left, right: n texts each.
    """
    if trained_on is None or len(trained_on) == 0:
        return np.zeros(len(left), dtype=bool)
    return np.isin(fingerprints(left), trained_on) | np.isin(fingerprints(right), trained_on)


def refuse_overlap(
    trained_on: NDArray[np.int64] | None, left: Sequence[str], right: Sequence[str], purpose: str
) -> None:
    """Raise LeakError if one of n pairs holds a training question.

    Args:
        trained_on, left, right: As in `holds_trained`.
        purpose: The use of the pairs, for the error; it follows "they cannot serve to".

    Raises:
        LeakError: A pair holds a training question.
    """
    seen = holds_trained(trained_on, left, right)
    if seen.any():
        rows = np.flatnonzero(seen)
        first = ", ".join(str(int(row) + 1) for row in rows[:5])
        raise LeakError(
            f"{len(rows):,} of {len(seen):,} pairs hold a question that the network was trained on "
            f"(first: pair {first}), so they cannot serve to {purpose}",
            hint="split with `dupq data split`, which assigns each question group to one part",
        )
