"""Batches: of like lengths, so that little is computed on padding; where a loss makes negatives, without false ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
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
    """The batches a data set needs: one without labels holds duplicates alone and is for losses that make negatives."""
    kind = LengthBucketedBatchSampler if "label" in dataset.column_names else DisjointGroupBatchSampler
    return kind(dataset, **kwargs)
