"""Pairs of rows that a search found, the strongest of them if there are too many, and what is promised of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import written_beside
from dupq.errors import InputError

MAX_PAIRS = 2_000_000


class Rows(Protocol):
    """Vectors by rows: an array, a memory map, or `vectors.StoredRows`, which holds nothing in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a search for similar pairs promises of its result.

    Attributes:
        exact: True: no pair at or above `complete_above` was missed. False: `recall` says how many were found.
        method: The arithmetic, or the index, that found them.
        left, right: Number of vectors on each side; `right` is None where one collection was compared with itself.
        compared: Pairs whose cosine was bounded or computed.
        threshold: The cosine that was asked for.
        complete_above: Every pair with this cosine or a higher one is in the result (or `recall` of them). It equals
            `threshold`, unless more than `max_pairs` pairs reached that, and only the strongest were kept.
        rescored: Pairs that the rough product could not rule out, computed again in double precision.
        error: The largest error bound of a rough product, as a cosine.
        recall, recall_low, recall_high: Share of the true pairs that was found, measured on a sample of questions, with
            its 95 % interval; 1 where exact.
        sampled: True pairs in that sample; None where exact.
    """

    exact: bool
    method: str
    left: int
    right: int | None
    compared: int
    threshold: float
    complete_above: float
    rescored: int = 0
    error: float = 0.0
    recall: float = 1.0
    recall_low: float = 1.0
    recall_high: float = 1.0
    sampled: int | None = None

    @property
    def truncated(self) -> bool:
        """Whether pairs at or above the threshold were left out because there were too many."""
        return self.complete_above > self.threshold

    def __str__(self) -> str:
        over = f"of {self.left:,} questions" if self.right is None else f"of {self.left:,} with {self.right:,}"
        bound = f"with a cosine of at least {self.complete_above:.4f}"
        share = "every pair"
        if not self.exact:
            interval = f"{self.recall_low:.1%} to {self.recall_high:.1%}, measured on {self.sampled or 0:,} pairs"
            share = f"{self.recall:.1%} (95 % interval {interval}) of the pairs"
        cut = f"; more pairs reached the {self.threshold:.4f} asked for than may be kept" if self.truncated else ""
        return f"{share} {over} {bound} {'is' if self.exact else 'were found and are'} in the result{cut}"


@dataclass(frozen=True, slots=True)
class SimilarPairs:
    """Pairs of rows, strongest first; of equal cosine, by row numbers.

    Attributes:
        left, right: Row numbers, int64 (m,). In one collection left < right; of two, left is a row of the first.
        cosine: float64 (m,), the dot product of the float32 rows in double precision.
        certificate: What is promised of them.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    cosine: NDArray[np.float64]
    certificate: Certificate

    def __len__(self) -> int:
        return len(self.left)

    def above(self, threshold: float) -> SimilarPairs:
        """Those at or above a higher threshold, without another search.

        Raises:
            InputError: The search did not go down so far.
        """
        if threshold < self.certificate.complete_above:
            raise InputError(
                f"the search went down to a cosine of {self.certificate.complete_above:.4f} only",
                where=f"threshold {threshold}",
                mend="search again with a lower threshold, or a larger max_pairs",
            )
        kept = int(np.searchsorted(-self.cosine, -threshold, side="right"))
        certificate = replace(self.certificate, threshold=threshold, complete_above=threshold)
        return SimilarPairs(self.left[:kept], self.right[:kept], self.cosine[:kept], certificate)


class StrongestPairs:
    """Gathers pairs, and never holds more than twice `max_pairs`.

    When they become too many the weakest go, and `floor` rises to the weakest that is left. What remains in the end are
    the first `max_pairs` by falling cosine, left and right, whatever the order in which they came.

    Attributes:
        floor: A pair below it cannot be in the result any more.
        rescored: How many pairs were computed in double precision on the way.
        error: The largest error bound of the products on the way.
    """

    def __init__(self, threshold: float, max_pairs: int) -> None:
        self.threshold = self.floor = threshold
        self.max_pairs = max_pairs
        self.rescored = 0
        self.error = 0.0
        self._count = 0
        self._cut = False
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []

    def add(self, left: NDArray[np.int64], right: NDArray[np.int64], cosine: NDArray[np.float64]) -> None:
        """Takes in pairs; those below the floor are dropped."""
        self.rescored += len(cosine)
        kept = cosine >= self.floor
        if not kept.any():
            return
        self._parts.append((left[kept], right[kept], cosine[kept]))
        self._count += len(self._parts[-1][0])
        if self._count > 2 * self.max_pairs:
            self._trim()

    def _trim(self) -> None:
        left, right, cosine = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((right, left, -cosine))
        # An approximate search may find a pair from either side.
        same = (np.diff(left[order]) == 0) & (np.diff(right[order]) == 0)
        order = order[np.concatenate([[True], ~same])]
        if len(order) > self.max_pairs:
            order = order[: self.max_pairs]
            self._cut = True
            self.floor = float(cosine[order[-1]])
        self._parts = [(left[order], right[order], cosine[order])]
        self._count = len(order)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Left, right and cosine of what is kept now, strongest first."""
        if not self._parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        self._trim()
        return self._parts[0]

    @property
    def complete_above(self) -> float:
        """What `Certificate.complete_above` says, once `columns` has been called."""
        # Pairs as strong as the weakest kept one may have been cut, hence the next number.
        return float(np.nextafter(self.floor, 2.0)) if self._cut else self.threshold

    def save(self, path: Path, search: str, position: int) -> None:
        """Writes all of it to a file, whole or not at all."""
        left, right, cosine = self.columns()
        state = np.array([self.floor, float(self._cut), float(self.rescored), self.error])
        with written_beside(path) as beside, beside.open("wb") as stream:
            np.savez(
                stream, left=left, right=right, cosine=cosine, state=state, position=position, search=np.array(search)
            )

    def load(self, path: Path, search: str) -> int:
        """Takes up what `save` wrote and returns its position; 0 where there is no file.

        Raises:
            InputError: The file is not readable, or of another search.
        """
        if not path.exists():
            return 0
        try:
            with np.load(path, allow_pickle=False) as held:
                found, position = str(held["search"]), int(held["position"])
                self.floor, cut, rescored, self.error = (float(value) for value in held["state"])
                parts = (held["left"], held["right"], held["cosine"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(
                f"this progress file is not readable ({error})", where=str(path), mend="delete it and start anew"
            ) from error
        if found != search:
            raise InputError(
                "this progress file is of another search (other vectors, threshold or max_pairs)",
                where=str(path),
                mend="name another file, or delete this one",
            )
        self._cut, self.rescored, self._count = bool(cut), int(rescored), len(parts[0])
        self._parts = [parts] if len(parts[0]) else []
        return position
