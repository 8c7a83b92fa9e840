"""Split texts and pairs into batches, and remove duplicate pairs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.types import Progress


@dataclass(frozen=True, slots=True)
class UniquePairs:
    """Distinct pairs in canonical order, sorted by text.

    The network receives the same rows in the same batches, whatever the order of the pairs and of their texts. This
    makes a score symmetric to the last bit without a second forward pass.

    Attributes:
        left, right: Lists of m texts; in each pair, the text that sorts first by code point is the left one.
        inverse: int64 (n,), the row of each of the n given pairs among the m distinct ones.
    """

    left: list[str]
    right: list[str]
    inverse: NDArray[np.int64]

    @classmethod
    def of(cls, left: Sequence[str], right: Sequence[str]) -> UniquePairs:
        """Collect the distinct pairs of n left and n right texts.

        Raises:
            InputError: As raised by `check_lengths`.
        """
        check_lengths(left, right)
        ordered = [(a, b) if a <= b else (b, a) for a, b in zip(left, right, strict=True)]
        distinct = sorted(set(ordered))
        return cls([a for a, _ in distinct], [b for _, b in distinct], rows_of(ordered, distinct))


def check_lengths(left: Sequence[str], right: Sequence[str]) -> None:
    """Check that both arguments are sequences of equal length.

    Raises:
        InputError: One is a str, or the lengths differ.
    """
    for side, texts in (("left", left), ("right", right)):
        if isinstance(texts, str):
            raise InputError(f"{side} must be a sequence of texts, got one str", hint="give lists, or use score(a, b)")
    if len(left) != len(right):
        raise InputError(
            f"left and right must have the same length, got {len(left)} and {len(right)}",
            hint="give both texts of each pair",
        )


def rows_of(items: Sequence[Hashable], distinct: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return the row of each item among the distinct ones: int64 (n,).

    Raises:
        KeyError: An item is not among the distinct ones.
    """
    rows = {item: row for row, item in enumerate(distinct)}
    return np.fromiter((rows[item] for item in items), np.int64, len(items))


def chunks(n: int, size: int) -> Iterator[slice]:
    """Yield slices of `size` rows that cover 0 to n; the last one may be shorter."""
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def part_of(progress: Progress | None, before: int, size: int, total: int) -> Progress | None:
    """Return the progress callback of one stage of a longer task.

    The stage is `size` of `total` steps and starts after `before` of them.
    """
    return None if progress is None else lambda done, of: progress(before + done * size // max(of, 1), total)
