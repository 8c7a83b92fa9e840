"""Batches: of like lengths, so that little is computed on padding; where a loss makes negatives, without false ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers.base.sampler import DefaultBatchSampler

from dupq.data.grouping import question_groups

if TYPE_CHECKING:
    from datasets import Dataset

POOL = 50
"""Batches whose rows are sorted by length together; a larger pool pads less and shuffles less."""
OPEN_BATCHES = 4
"""Batches that are filled at a time; more would mix lengths."""


class LengthBucketedBatchSampler(DefaultBatchSampler):
    """Shuffles rows, sorts pools of `POOL` batches by length, and shuffles the batches.

    The draw depends on seed and epoch alone, so that a resumed run sees the batches it would have seen.
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
    """Batches that keep the pairs of a question group together, for losses that look for triplets in a batch.

    So a question meets its other duplicates, and the questions that were labelled distinct from them, the hardest
    others there are. Within a pool, groups stand by their mean length. A pair is a row once an epoch, as elsewhere.
    """

    def __init__(self, dataset: Dataset, batch_size: int, drop_last: bool, **kwargs: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **kwargs)
        left, right = _text_columns(dataset)[:2]
        self.groups = np.unique(question_groups(list(dataset[left]), list(dataset[right])), return_inverse=True)[1]
        self.group_lengths = np.bincount(self.groups, self.lengths) / np.bincount(self.groups)

    def _sorted_pools(self, draw: np.random.Generator) -> Iterator[np.ndarray[Any, Any]]:
        # The groups in random order, and the rows of each in random order.
        order = draw.permutation(len(self.lengths))
        order = order[np.argsort(draw.permutation(len(self.group_lengths))[self.groups[order]], kind="stable")]
        for start in range(0, len(order), pool := self.batch_size * POOL):
            rows = order[start : start + pool]
            yield rows[np.lexsort((self.groups[rows], self.group_lengths[self.groups[rows]]))]


class DisjointGroupBatchSampler(LengthBucketedBatchSampler):
    """Length-bucketed batches of duplicate pairs in which no two rows belong together.

    A loss that takes the other rows of a batch for negatives must not find a duplicate of a row among them. Rows are
    joined by the transitive closure of all duplicates in the data set; no two rows of one closure share a batch. An
    epoch has exactly n // batch_size batches; rows of a large closure that find no place sit that epoch out.
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
                place = next((batch for batch in started if group not in batch[1]), None)
                if place is None:
                    if len(started) == OPEN_BATCHES:
                        continue
                    started.append(place := ([], set()))
                place[0].append(row)
                place[1].add(group)
                if len(place[0]) == self.batch_size:
                    full.append(place[0])
                    started.remove(place)
        if not full:
            full = [max((batch for batch, _ in started), key=len)]
        picked = draw.permutation(len(full))
        for index in range(len(self)):
            yield full[picked[index % len(full)]]


def _text_columns(dataset: Dataset) -> list[str]:
    return [name for name in dataset.column_names if name not in ("label", "dataset_name")]


def batches(dataset: Dataset, **kwargs: Any) -> DefaultBatchSampler:
    """The batches a data set needs.

    One without labels holds duplicates alone and is for losses that make negatives; one whose labels are keys of
    closures is for losses that look for triplets.
    """
    if "label" not in dataset.column_names:
        return DisjointGroupBatchSampler(dataset, **kwargs)
    keyed = len(dataset) and isinstance(dataset[0]["label"], list)
    return (NeighbourhoodBatchSampler if keyed else LengthBucketedBatchSampler)(dataset, **kwargs)


def closures(left: Sequence[str], right: Sequence[str], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Which questions are known to be the same: keys (n, 2) of the left and the right question of each pair.

    Two questions have one key where a chain of pairs labelled 1 joins them, or where they are the same but for case,
    space and punctuation. A pair labelled 0 whose questions are so joined contradicts the others, and has one key too.

    Args:
        left, right: n texts each.
        labels: (n,), 1 = duplicate.
    """
    duplicate = np.asarray(labels) == 1
    # A question that is in no duplicate is joined with itself, and so has a key of its own.
    sides = [[text for text, joined in zip(side, duplicate, strict=True) if joined] for side in (left, right)]
    texts = [*left, *right]
    keys = question_groups([*sides[0], *texts], [*sides[1], *texts])[len(sides[0]) :]
    return np.unique(keys, return_inverse=True)[1].reshape(2, -1).T.astype(np.int64)
