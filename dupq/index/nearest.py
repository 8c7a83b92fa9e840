"""Exact search for the nearest of many vectors, in bounded memory.

A rough scan selects, and exact arithmetic decides. The scan reads a copy v' = scale · codes of each vector v in 8 bits.
The cosine of a query q with the copy differs from the true one by at most ``|q| · |v - v'|`` (Cauchy and Schwarz); that
norm is computed when the copy is made. A sum of d products in float32 adds at most ``d · 2⁻²³ · |q| · |v'|`` (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, §3.1). Each row whose upper bound reaches the k-th best cosine is
computed again from the stored vector in double precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.models.batching import chunks

STEP = 2048
"""Rows that are widened to float32 at a time, so few that they stay in the processor's cache."""
SPAN = 16 * STEP
"""Rows from which the best are selected at a time."""
QUERIES = 32
"""Queries in one matrix product."""
PART = 4096
"""Rows that are computed in double precision at a time."""

Slots = NDArray[np.int64]
Cosines = NDArray[np.float64]
Found = tuple[Slots, Cosines]
"""Slots of rows and their cosines, best first; at equal cosine the older slot first."""


@dataclass(frozen=True, slots=True)
class Block:
    """Vectors of ascending slots, with their copies in 8 bits.

    Attributes:
        slots: int64 (n,), ascending.
        rows: float16 or float32 (n, d), of unit length, or zero.
        codes: int8 (n, d); scale · codes is near the row.
        scale: float32 (n,).
        slack: float32 (n,), an upper bound of the error of a rough cosine with a query of unit length.
    """

    slots: Slots
    rows: NDArray[Any]
    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    slack: NDArray[np.float32]

    @classmethod
    def of(cls, slots: Slots, rows: NDArray[Any]) -> Block:
        """Make the block of these rows."""
        n, d = rows.shape
        codes = np.empty((n, d), np.int8)
        scale, slack = np.empty(n, np.float32), np.empty(n, np.float32)
        for part in chunks(n, PART):
            exact = rows[part].astype(np.float64)
            peak = np.abs(exact).max(axis=1, initial=0.0).astype(np.float32)
            scale[part] = np.where(peak > 1e-30, peak, 127) / np.float32(127)
            step = scale[part].astype(np.float64)[:, None]
            rounded = np.clip(np.rint(exact / step), -127, 127)
            codes[part] = rounded
            lost = np.linalg.norm(exact - step * rounded, axis=1)
            length = np.linalg.norm(exact, axis=1) + lost
            bound = lost + (d + 8) * 2.0**-23 * length  # 8 for the scale, and for the sum with this bound
            slack[part] = np.nextafter((bound * (1 + 1e-6)).astype(np.float32), np.float32(np.inf))
        return cls(slots, rows, codes, scale, slack)

    @classmethod
    def joined(cls, blocks: Sequence[Block]) -> Block:
        """Make one block of blocks whose slots ascend."""
        return cls(
            np.concatenate([block.slots for block in blocks]),
            np.concatenate([block.rows for block in blocks]),
            np.concatenate([block.codes for block in blocks]),
            np.concatenate([block.scale for block in blocks]),
            np.concatenate([block.slack for block in blocks]),
        )

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, part: slice | NDArray[Any]) -> Block:
        """Return some of the rows, without a copy for a slice."""
        return Block(self.slots[part], self.rows[part], self.codes[part], self.scale[part], self.slack[part])

    @property
    def nbytes(self) -> int:
        """Size of the vectors and their copies, in bytes."""
        arrays = (self.slots, self.rows, self.codes, self.scale, self.slack)
        return sum(array.nbytes for array in arrays)


def cosines(query: NDArray[np.float32], rows: NDArray[Any]) -> Cosines:
    """Return the dot product of a query with each row in double precision.

    It is the cosine of every flag, float64 (n,). Products and sums go in one order for each row, so a result is equal
    to the last bit whatever rows are computed beside it, and for float16 rows as for their values in float32.

    Args:
        query: float32 (d,).
        rows: float16 or float32 (n, d).
    """
    # Row-major, because NumPy adds the products of a row in another order where they are not adjacent.
    products = rows.astype(np.float64, order="C")
    products *= query.astype(np.float64)
    return np.asarray(np.add.reduce(products, axis=1))


def best(k: int, found: Iterable[Found]) -> Found:
    """Return the k best of several results, which have no slot in common."""
    slots, values = zip(*found, strict=True)
    slot, value = np.concatenate(slots), np.concatenate(values)
    order = np.lexsort((slot, -value))[:k]
    return slot[order], value[order]


def nothing() -> Found:
    """Return an empty result."""
    return np.zeros(0, np.int64), np.zeros(0)


def exact_nearest(blocks: Sequence[Block], queries: NDArray[np.float32], k: int, gone: Slots) -> list[Found]:
    """Return the k rows with the largest cosine to each query.

    Memory beside the blocks: `STEP` rows in float32, `SPAN` rough cosines for each of `QUERIES` queries.

    Args:
        blocks: Rows; no slot is in two of them.
        queries: float32 (m, d).
        k: Number of rows, 0 or more; fewer are returned if there are fewer.
        gone: Slots that are left out, ascending.

    Returns:
        For each query the slots and their cosines.
    """
    results = [nothing() for _ in queries]
    if k < 1 or not len(queries):
        return results
    for part in chunks(len(queries), QUERIES):
        search = _Search(np.ascontiguousarray(queries[part], np.float32), k, gone)
        for block in blocks:
            for span in chunks(len(block), SPAN):
                search.read(block[span])
        results[part] = search.found
    return results


class _Search:
    """Search for a few queries at once."""

    def __init__(self, queries: NDArray[np.float32], k: int, gone: Slots) -> None:
        m, d = queries.shape
        self.queries, self.k, self.gone = queries, k, gone
        self.found: list[Found] = [nothing() for _ in range(m)]
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1) * (1 + 1e-6)
        self._lengths = lengths.astype(np.float32)[:, None]
        self._wide = np.empty((STEP, d), np.float32)
        self._upper = np.empty((m, SPAN), np.float32)

    def read(self, block: Block) -> None:
        """Add the best rows of a block of at most `SPAN` rows."""
        upper = self._upper[:, : len(block)]
        for part in chunks(len(block), STEP):
            wide = self._wide[: part.stop - part.start]
            wide[...] = block.codes[part]
            # One query is multiplied as a vector, which is the faster routine.
            if len(self.queries) == 1:
                np.dot(wide, self.queries[0], out=upper[0, part])
            else:
                upper[:, part] = self.queries @ wide.T
        upper *= block.scale
        upper += block.slack * self._lengths
        first, stop = np.searchsorted(self.gone, [block.slots[0], block.slots[-1] + 1])
        if stop > first:
            upper[:, np.isin(block.slots, self.gone[first:stop], assume_unique=True)] = -np.inf
        for at, row in enumerate(upper):
            self._select(at, row, block)

    def _select(self, at: int, upper: NDArray[np.float32], block: Block) -> None:
        """Add the rows of a block that may be among the best of one query."""
        k, rest = self.k, upper > -np.inf
        if not self._lengths[at, 0]:
            # A query of zeros ties with every row, and older ones go first.
            self._add(at, block, np.flatnonzero(rest)[:k])
            return
        if len(self.found[at][0]) < k < len(block):
            # Any k cosines give a floor; without one every row would be computed in double precision.
            likely = np.argpartition(upper, len(upper) - k)[len(upper) - k :]
            likely = np.sort(likely[rest[likely]])
            self._add(at, block, likely)
            rest[likely] = False
        if len(self.found[at][0]) == k:
            rest &= upper >= self.found[at][1][-1]
        self._add(at, block, np.flatnonzero(rest))

    def _add(self, at: int, block: Block, rows: NDArray[np.int64]) -> None:
        for part in chunks(len(rows), PART):
            these = rows[part]
            new = (block.slots[these], cosines(self.queries[at], block.rows[these]))
            self.found[at] = best(self.k, [self.found[at], new])
