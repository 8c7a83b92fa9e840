"""All pairs of vectors at or above a threshold, with a certificate that none was missed.

The scan is quick and rough, the answer is not: blocks of the upper triangle are multiplied by the fastest kernel of the
machine; every entry that could reach the threshold within the proven error of that product (see `kernels`) is computed
again from the float32 rows in double precision; and those that do reach it are kept.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.forum.candidates import MAX_PAIRS, Certificate, Rows, SimilarPairs, StrongestPairs
from dupq.forum.kernels import Block, Kernel, RoughProduct, error_bound, fastest_kernel
from dupq.models.scorers import Progress, chunks

PANEL = 8192
"""Rows that are held while all columns pass by them."""
TILE_ROWS, TILE_COLUMNS = 512, 2048
"""One product; its entries stay in the cache while they are compared."""
CHECKPOINT_SECONDS = 20.0
SMALL = 4_000_000
"""Below so many pairs, measuring the kernels costs more than the better one gains."""


def similar_pairs(
    vectors: Rows,
    others: Rows | None = None,
    *,
    threshold: float,
    max_pairs: int = MAX_PAIRS,
    kernel: Kernel | Literal["auto"] = "auto",
    resume: str | Path | None = None,
    progress: Progress | None = None,
) -> SimilarPairs:
    """All pairs whose cosine is at or above a threshold.

    Memory does not grow with n: a panel of rows, one tile, and at most 2·`max_pairs` pairs of 24 bytes.

    Args:
        vectors: (n, d) float32, rows of unit length.
        others: (m, d): pairs are taken between the two. None: within `vectors`, each once.
        threshold: In (0, 1].
        max_pairs: Where more pairs reach the threshold, the strongest `max_pairs` are kept, and the certificate says
            from which cosine upwards the result is complete.
        kernel: "auto" measures which is faster here. All give the same pairs.
        resume: A file that progress is kept in and taken up from; in the end it holds the result.
        progress: Called with (pairs compared, pairs in all).

    Raises:
        InputError: Shapes that do not fit, rows that are not of unit length, a threshold outside (0, 1], or a `resume`
            file of another scan.
    """
    check_search(vectors, others, threshold, max_pairs)
    n, m = len(vectors), len(vectors if others is None else others)
    total = n * (n - 1) // 2 if others is None else n * m
    if kernel == "auto":
        kernel = "float32" if total < SMALL else fastest_kernel(vectors.shape[1])
    pairs = StrongestPairs(threshold, max_pairs)
    search = _key(vectors, others, threshold, max_pairs) if resume else ""
    first = pairs.load(Path(resume), search) if resume else 0
    done = _products(np.arange(first), 0, m, others is None)
    saved, product = time.monotonic(), RoughProduct(kernel)
    for start in range(first, n, PANEL):
        rows = np.arange(start, min(n, start + PANEL))
        panel = Block(vectors[start : start + PANEL], kernel)
        for at in range(start if others is None else 0, m, TILE_COLUMNS):
            columns = (vectors if others is None else others)[at : at + TILE_COLUMNS]
            block = Block(columns, kernel)
            pairs.error = max(pairs.error, error_bound(panel, block))
            _compare(panel, block, start, at, pairs, product, others is None)
            done += _products(rows, at, at + len(columns), others is None)
            if progress is not None:
                progress(done, total)
        if resume and time.monotonic() - saved > CHECKPOINT_SECONDS:
            pairs.save(Path(resume), search, min(n, start + PANEL))
            saved = time.monotonic()
    left, right, cosine = pairs.columns()
    if resume and first < n:
        pairs.save(Path(resume), search, n)
    certificate = Certificate(
        exact=True,
        method=f"{kernel} scan, pairs in float64",
        left=n,
        right=None if others is None else m,
        compared=total,
        threshold=threshold,
        complete_above=pairs.complete_above,
        rescored=pairs.rescored,
        error=pairs.error,
    )
    return SimilarPairs(left, right, cosine, certificate)


def _compare(
    panel: Block, block: Block, start: int, at: int, pairs: StrongestPairs, product: RoughProduct, triangle: bool
) -> None:
    """Adds to `pairs` what reaches its floor between a panel that starts at `start` and a block at column `at`."""
    width = len(block.exact)
    for rows in chunks(len(panel.exact), TILE_ROWS):
        if triangle and at + width <= start + rows.start + 1:
            return  # this tile and those under it lie below the diagonal
        flat = product.reaching(panel, block, rows, pairs.floor)
        left, right = rows.start + flat // width, flat % width
        if triangle:
            above = at + right > start + left
            left, right = left[above], right[above]
        for part in chunks(len(left), 65_536):
            i, j = left[part], right[part]
            cosine = dot(panel.exact[i], block.exact[j])
            pairs.add(start + i, at + j, cosine)


def dot(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """The dot products of float32 rows, two by two, in double precision: float64 array (n,)."""
    return np.asarray(np.einsum("ij,ij->i", left.astype(np.float64), right.astype(np.float64)))


def _products(rows: NDArray[np.int64], first: int, stop: int, triangle: bool) -> int:
    """How many pairs these rows make with columns `first` to `stop`; in a triangle, with those right of them."""
    if not triangle:
        return len(rows) * (stop - first)
    return int(np.maximum(stop - np.maximum(first, rows + 1), 0).sum())


def check_search(vectors: Rows, others: Rows | None, threshold: float, max_pairs: int) -> None:
    """Raises InputError for what no search for similar pairs can use."""
    for name, rows in (("vectors", vectors), ("others", others)):
        if rows is not None and len(rows.shape) != 2:
            raise InputError(f"the shape is {rows.shape}, not (n, d)", where=name, mend="give one row a question")
    if others is not None and others.shape[1] != vectors.shape[1]:
        raise InputError(
            f"the rows have {others.shape[1]} dimensions, those of the first {vectors.shape[1]}",
            where="others",
            mend="embed both with one model",
        )
    check_threshold(threshold, max_pairs)


def check_threshold(threshold: float, max_pairs: int) -> None:
    """Raises InputError for a cosine outside (0, 1], or for no pairs at all."""
    if not 0 < threshold <= 1:
        raise InputError("a cosine threshold lies in (0, 1]", where=f"threshold {threshold}", mend="try 0.8")
    if max_pairs < 1:
        raise InputError("at least one pair must be kept", where=f"max_pairs {max_pairs}", mend="give 1 or more")


def _key(vectors: Rows, others: Rows | None, threshold: float, max_pairs: int) -> str:
    """A hash of all that decides what a scan finds."""
    digest = hashlib.blake2b(f"{threshold!r} {max_pairs} {PANEL}".encode(), digest_size=16)
    for rows in (vectors, others):
        digest.update(b"|" if rows is None else str(rows.shape).encode())
        for part in chunks(0 if rows is None else len(rows), PANEL):
            digest.update(np.ascontiguousarray(rows[part] if rows is not None else [], np.float32).tobytes())
    return digest.hexdigest()
