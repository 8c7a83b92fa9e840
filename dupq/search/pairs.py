"""Pairs that a search found, and the guarantee that comes with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import written_beside
from dupq.errors import InputError

MAX_PAIRS = 2_000_000


class Rows(Protocol):
    """Vectors in memory or on disk, float32 (n, d).

    They are an array, a memory map, or `vectors.StoredRows`, which holds nothing in memory.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class SearchGuarantee:
    """Guarantee of a search for similar pairs: complete, or with a measured recall.

    Attributes:
        exact: True: every pair at or above `complete_above` was found. False: `recall` is the share that was found.
        method: The arithmetic or the index of the search.
        left, right: Number of vectors on each side; `right` is None where one collection was compared with itself.
        compared: Pairs whose cosine was bounded or computed.
        threshold: The lowest cosine that the search was called with.
        complete_above: Every pair that was searched for and has this cosine or a higher one is in the result (or
            `recall` of them). It is `threshold`, or higher where there were more than `max_pairs` of them and the
            strongest were kept.
        rescored: Pairs that the rough product could not rule out, so that they were computed in double precision.
        recall, recall_low, recall_high: Share of the true pairs that was found, measured on a sample of questions, with
            its 95 % interval; 1 for an exact search.
        sampled: True pairs in that sample; None for an exact search.
        dropped: Lower bound on the number of pairs at or above `threshold` that are not in the result. It depends on
            when they were dropped, and so on interruptions; `complete_above` does not.
        neighbours: 0: every pair from `threshold` on was searched for. Otherwise every pair from `every_from` on, and
            below it the pairs with one of the `neighbours` nearest rows of a row.
        every_from: The cosine from which every pair was searched for; None: `threshold`.
    """

    exact: bool
    method: str
    left: int
    right: int | None
    compared: int
    threshold: float
    complete_above: float
    rescored: int = 0
    recall: float = 1.0
    recall_low: float = 1.0
    recall_high: float = 1.0
    sampled: int | None = None
    dropped: int = field(default=0, compare=False)
    neighbours: int = 0
    every_from: float | None = None

    @property
    def truncated(self) -> bool:
        """True if too many pairs reached the threshold, so that some were left out."""
        return self.complete_above > self.threshold

    def __str__(self) -> str:
        over = f"of {self.left:,} questions" if self.right is None else f"of {self.left:,} with {self.right:,}"
        bound = f"with a cosine of at least {self.complete_above:.4f}"
        if self.neighbours and self.every_from is not None and self.complete_above < self.every_from:
            bound = (
                f"with a cosine of at least {self.every_from:.4f}, or from {self.complete_above:.4f} on among the "
                f"{self.neighbours:,} nearest of a question,"
            )
        share = "every pair"
        if not self.exact:
            interval = f"{self.recall_low:.1%} to {self.recall_high:.1%}, measured on {self.sampled or 0:,} pairs"
            share = f"{self.recall:.1%} (95 % interval {interval}) of the pairs"
        cut = ""
        if self.truncated:
            cut = f"; at least {self.dropped:,} pairs from {self.threshold:.4f} up to there are NOT: too many to keep"
        return f"{share} {over} {bound} {'is' if self.exact else 'were found and are'} in the result{cut}"


@dataclass(frozen=True, slots=True)
class SimilarPairs:
    """Pairs of rows, sorted by falling cosine, then by row numbers.

    Attributes:
        left, right: Row numbers, int64 (m,). Within one collection left < right; between two, `left` is a row of the
            first.
        cosine: float64 (m,), the dot product of the float32 rows in double precision.
        search_guarantee: States which pairs the result is certain to hold.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    cosine: NDArray[np.float64]
    search_guarantee: SearchGuarantee

    def __len__(self) -> int:
        return len(self.left)


class NearestRows:
    """Collector that keeps the k nearest columns of each row.

    Columns may be added in any order. Those at equal cosine go by their number.

    Args:
        rows: Number of rows n.
        k: Number of columns to keep, at least 1.
        threshold: The lowest cosine.
    """

    def __init__(self, rows: int, k: int, threshold: float) -> None:
        self.k = k
        self._least = np.full(rows, threshold)
        self._column = np.full((rows, k), -1, np.int64)
        self._cosine = np.full((rows, k), -np.inf)

    @property
    def floor(self) -> NDArray[np.float64]:
        """Cosine of each row below which no further column is kept, float64 (n,)."""
        return np.asarray(np.maximum(self._cosine[:, -1], self._least))

    def raise_floor(self, rows: slice, cosine: NDArray[np.float64]) -> None:
        """Raise the floor of rows to a cosine that k columns of each will reach.

        These columns are still to be added. `cosine` is float64 (r,).
        """
        self._least[rows] = np.maximum(self._least[rows], cosine)

    def add(self, row: NDArray[np.int64], column: NDArray[np.int64], cosine: NDArray[np.float64]) -> None:
        """Add columns of rows; each column at most once to a row."""
        kept = cosine >= self.floor[row]
        touched, place = np.unique(row[kept], return_inverse=True)
        k = self._column.shape[1]
        owner = np.concatenate([np.repeat(np.arange(len(touched)), k), place])
        column = np.concatenate([self._column[touched].ravel(), column[kept]])
        cosine = np.concatenate([self._cosine[touched].ravel(), cosine[kept]])
        order = np.lexsort((column, -cosine, owner))
        best = order[np.searchsorted(owner[order], np.arange(len(touched)))[:, None] + np.arange(k)]
        self._column[touched], self._cosine[touched] = column[best], cosine[best]

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return row, column and cosine of all that are kept."""
        row, place = np.nonzero(self._column >= 0)
        return row, self._column[row, place], self._cosine[row, place]


class StrongestPairs:
    """Collector that keeps the `max_pairs` strongest pairs.

    After each `add` it holds at most twice as many. When there are more, the weakest are dropped and `floor` rises to
    the weakest that remains. The result is the first `max_pairs` by falling cosine, left and right, whatever the order
    in which they were added.

    Args:
        threshold: The lowest cosine.
        max_pairs: Number of pairs to keep.
        repeats: True where a pair may be added twice, from either row; False where it is added once, or from both rows
            if `shared_from` is given.
        shared_from: The left row that is right row 0, where the last left rows are the first right ones. Two such rows
            are one pair, the lower one on the left, and no row is paired with itself. None: no row is on both sides.

    Attributes:
        floor: A pair below it cannot be in the result any more.
        rescored: Number of pairs that were added, all computed in double precision.
        dropped: Lower bound on the number of dropped pairs that reach `threshold`.
    """

    def __init__(
        self, threshold: float, max_pairs: int, *, repeats: bool = False, shared_from: int | None = None
    ) -> None:
        self.threshold = self.floor = threshold
        self.max_pairs = max_pairs
        self.rescored = 0
        self.dropped = 0
        self._repeats = repeats
        self._shared_from = shared_from
        self._count = 0
        self._cut = False
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []

    def add(self, left: NDArray[np.int64], right: NDArray[np.int64], cosine: NDArray[np.float64]) -> None:
        """Add pairs, and drop those below the floor."""
        self.rescored += len(cosine)
        if self._shared_from is not None:
            other = right + self._shared_from  # the right rows, in the numbers of the left ones
            if self._repeats:
                left, right = np.minimum(left, other), np.maximum(left, other) - self._shared_from
            else:
                first = left < other
                left, right, cosine = left[first], right[first], cosine[first]
        kept = cosine >= self.floor
        if self._cut and not self._repeats:
            self.dropped += int(((cosine >= self.threshold) & ~kept).sum())
        if not kept.any():
            return
        self._parts.append((left[kept], right[kept], cosine[kept]))
        self._count += len(self._parts[-1][0])
        if self._count > 2 * self.max_pairs:
            self._trim()

    def _trim(self) -> None:
        left, right, cosine = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((right, left, -cosine))
        # Neighbours may be found from either side.
        same = (np.diff(left[order]) == 0) & (np.diff(right[order]) == 0)
        order = order[np.concatenate([[True], ~same])]
        if len(order) > self.max_pairs:
            over = len(order) - self.max_pairs
            self.dropped = max(self.dropped, over) if self._repeats else self.dropped + over
            order = order[: self.max_pairs]
            self._cut = True
            self.floor = float(cosine[order[-1]])
        self._parts = [(left[order], right[order], cosine[order])]
        self._count = len(order)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return left, right and cosine of the pairs that are kept now, strongest first."""
        if not self._parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        self._trim()
        return self._parts[0]

    @property
    def complete_above(self) -> float:
        """`SearchGuarantee.complete_above`, once `columns` has been called."""
        # Pairs as strong as the weakest kept one may have been cut, hence the next number.
        return float(np.nextafter(self.floor, 2.0)) if self._cut else self.threshold

    def save(self, path: Path, search: str, position: int) -> None:
        """Write the pairs and the row at which the scan goes on, whole or not at all.

        Raises:
            OutputError: The file could not be written.
        """
        left, right, cosine = self.columns()
        state = np.array([self.floor, float(self._cut), float(self.rescored), float(self.dropped)])
        with written_beside(path) as beside, beside.open("wb") as stream:
            np.savez(
                stream, left=left, right=right, cosine=cosine, state=state, position=position, search=np.array(search)
            )

    def load(self, path: Path, search: str) -> int:
        """Read the file of `save` and return its position; 0 where there is no file.

        Raises:
            InputError: The file is damaged, or belongs to another search.
        """
        if not path.exists():
            return 0
        try:
            with np.load(path, allow_pickle=False) as held:
                found, position = str(held["search"]), int(held["position"])
                self.floor, cut, rescored, dropped = (float(value) for value in held["state"])
                parts = (held["left"], held["right"], held["cosine"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(
                f"this progress file is not readable ({error})", location=str(path), hint="delete it and start again"
            ) from error
        if found != search:
            raise InputError(
                "this progress file belongs to another search (other vectors, threshold, neighbours or max_pairs)",
                location=str(path),
                hint="name another file, or delete this one",
            )
        self._cut, self.rescored, self.dropped = bool(cut), int(rescored), int(dropped)
        self._count = len(parts[0])
        self._parts = [parts] if len(parts[0]) else []
        return position
