"""Batch samplers: by length to save padding, by group to avoid false negatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers.base.sampler import DefaultBatchSampler

from dupq.data.grouping import question_groups
from dupq.data.text import fingerprints
from dupq.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

POOL = 50
"""Number of batches whose rows are sorted by length together; a larger pool pads less and shuffles less."""
OPEN_BATCHES = 4
"""Number of batches filled at a time; more would mix lengths."""


class LengthBucketedBatchSampler(DefaultBatchSampler):
    """Batches of similar lengths.

    Rows are shuffled, pools of `POOL` batches are sorted by length, and the batches are shuffled. The draw depends on
    seed and epoch alone, so that a resumed run draws the same batches.
    """

    def __init__(self, dataset: Dataset, batch_size: int, drop_last: bool, **kwargs: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **kwargs)
        self.lengths = np.zeros(len(dataset), dtype=np.int64)
        for name in _text_columns(dataset):
            self.lengths += np.fromiter((len(text) for text in dataset[name]), np.int64, len(dataset))

    def _sorted_pools(self, draw: np.random.Generator) -> Iterator[np.ndarray[Any, Any]]:
        order = draw.permutation(len(self.lengths))
        for start in range(0, len(order), pool := self.batch_size * POOL):
            rows = order[start : start + pool]
            yield rows[np.argsort(self.lengths[rows], kind="stable")]

    def __iter__(self) -> Iterator[list[int]]:
        draw = np.random.default_rng([self.seed, getattr(self, "epoch", 0)])
        batches: list[list[int]] = []
        for rows in self._sorted_pools(draw):
            batches += [rows[at : at + self.batch_size].tolist() for at in range(0, len(rows), self.batch_size)]
        for index in draw.permutation(len(batches)):
            if len(batches[index]) == self.batch_size or not self.drop_last:
                yield batches[index]


class NeighbourhoodBatchSampler(LengthBucketedBatchSampler):
    """Batches that keep question groups together, for losses that mine triplets.

    A batch then has several duplicates of a question, and the distinct questions of its group as hard negatives. Within
    a pool, groups are sorted by mean length. Each pair occurs once per epoch.
    """

    def __init__(self, dataset: Dataset, batch_size: int, drop_last: bool, **kwargs: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **kwargs)
        left, right = _text_columns(dataset)[:2]
        self.groups = np.unique(question_groups(list(dataset[left]), list(dataset[right])), return_inverse=True)[1]
        self.group_lengths = np.bincount(self.groups, self.lengths) / np.bincount(self.groups)

    def _sorted_pools(self, draw: np.random.Generator) -> Iterator[np.ndarray[Any, Any]]:
        # Groups in random order, and the rows of each group in random order.
        order = draw.permutation(len(self.lengths))
        order = order[np.argsort(draw.permutation(len(self.group_lengths))[self.groups[order]], kind="stable")]
        for start in range(0, len(order), pool := self.batch_size * POOL):
            rows = order[start : start + pool]
            yield rows[np.lexsort((self.groups[rows], self.group_lengths[self.groups[rows]]))]


class DisjointGroupBatchSampler(LengthBucketedBatchSampler):
    """Batches of duplicate pairs with at most one row per component of duplicates.

    Each has rows of similar lengths. In-batch negatives then include no duplicate. An epoch has n // batch_size
    batches; rows of a large component that do not fit are skipped in that epoch.
    """

    def __init__(self, dataset: Dataset, batch_size: int, drop_last: bool, **kwargs: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **kwargs)
        left, right = _text_columns(dataset)[:2]
        self.groups = question_groups(list(dataset[left]), list(dataset[right]))

    def __len__(self) -> int:
        return max(1, len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        draw = np.random.default_rng([self.seed, getattr(self, "epoch", 0)])
        full: list[list[int]] = []
        started: list[tuple[list[int], set[int]]] = []
        for rows in self._sorted_pools(draw):
            for row, group in zip(rows.tolist(), self.groups[rows].tolist(), strict=True):
                batch = next((batch for batch in started if group not in batch[1]), None)
                if batch is None:
                    if len(started) == OPEN_BATCHES:
                        continue
                    started.append(batch := ([], set()))
                batch[0].append(row)
                batch[1].add(group)
                if len(batch[0]) == self.batch_size:
                    full.append(batch[0])
                    started.remove(batch)
        if not full:
            full = [max((rows for rows, _ in started), key=len)]
        picked = draw.permutation(len(full))
        for index in range(len(self)):
            yield full[picked[index % len(full)]]


def _text_columns(dataset: Dataset) -> list[str]:
    return [name for name in dataset.column_names if name not in ("label", "dataset_name")]


def choose_batch_sampler(dataset: Dataset, **kwargs: Any) -> DefaultBatchSampler:
    """Return the batch sampler for the rows of a data set.

    Rows without labels are duplicates, for losses with in-batch negatives; rows whose labels are keys are for losses
    that mine triplets.
    """
    if "label" not in dataset.column_names:
        return DisjointGroupBatchSampler(dataset, **kwargs)
    keyed = len(dataset) and isinstance(dataset[0]["label"], list)
    return (NeighbourhoodBatchSampler if keyed else LengthBucketedBatchSampler)(dataset, **kwargs)


def duplicate_components(left: Sequence[str], right: Sequence[str], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the connected component of each question in the graph of duplicate pairs.

    Two questions share a component where a chain of pairs labelled 1 joins them, or where they differ only in case,
    whitespace and punctuation. A pair labelled 0 within a component contradicts its other labels.

    Args:
        left, right: n texts each.
        labels: (n,), 1 = duplicate.

    Returns:
        int64 array (n, 2): the component of the left and of the right question.
    """
    duplicate = np.asarray(labels) == 1
    sides = [[text for text, joined in zip(side, duplicate, strict=True) if joined] for side in (left, right)]
    # Every question is joined with itself, so that one without a duplicate is a component of its own.
    texts = [*left, *right]
    keys = question_groups([*sides[0], *texts], [*sides[1], *texts])[len(sides[0]) :]
    return np.unique(keys, return_inverse=True)[1].reshape(2, -1).T.astype(np.int64)


def question_keys(left: Sequence[str], right: Sequence[str], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the component of duplicates and the question of each side, as numbers.

    They are the labels of losses that mine triplets. Texts that differ only in case, whitespace and punctuation are one
    question.

    Args:
        left, right: n texts each.
        labels: (n,), 1 = duplicate.

    Returns:
        int64 array (n, 2, 2): [row, side] is a component and a question.
    """
    questions = np.unique(fingerprints([*left, *right]), return_inverse=True)[1].reshape(2, -1).T
    return np.stack([duplicate_components(left, right, labels), questions], axis=2)


def hard_triplets(
    left: Sequence[str], right: Sequence[str], labels: NDArray[Any]
) -> tuple[list[str], list[str], list[str]]:
    """Return each duplicate pair with a question labelled distinct from its anchor.

    An anchor with several takes them in turn. A duplicate pair without such a question gives no triplet. The anchor is
    the question of the pair that has more.

    Args:
        left, right: n texts each.
        labels: (n,), 1 = duplicate.

    Returns:
        Anchors, their duplicates and their distinct questions, one of each a triplet.

    Raises:
        InputError: No question of a duplicate pair has a distinct one.
    """
    distinct: dict[str, list[str]] = {}
    for a, b, label in zip(left, right, np.asarray(labels).tolist(), strict=True):
        if label != 1:
            distinct.setdefault(a, []).append(b)
            distinct.setdefault(b, []).append(a)
    used: dict[str, int] = {}
    triplets: list[tuple[str, str, str]] = []
    for a, b, label in zip(left, right, np.asarray(labels).tolist(), strict=True):
        anchor, positive = (a, b) if len(distinct.get(a, ())) >= len(distinct.get(b, ())) else (b, a)
        if label == 1 and anchor in distinct:
            turn = used[anchor] = used.get(anchor, -1) + 1
            triplets.append((anchor, positive, distinct[anchor][turn % len(distinct[anchor])]))
    if not triplets:
        raise InputError(
            "no question of a duplicate pair is labelled distinct from another",
            hint="add labelled pairs of these questions, or train by --method ranking",
        )
    anchors, positives, negatives = map(list, zip(*triplets, strict=True))
    return anchors, positives, negatives
