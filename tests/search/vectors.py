"""Unit vectors for tests, and the plain way to find similar pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(n: int, d: int, seed: int, spread: float = 0.6) -> NDArray[np.float32]:
    """n unit vectors around n / 3 centres, so that some pairs are near and most are not."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((n // 3 + 1, d))
    return unit(centres[draw.integers(len(centres), size=n)] + spread * draw.standard_normal((n, d)))


def all_pairs(
    left: NDArray[np.float32], right: NDArray[np.float32] | None, threshold: float
) -> dict[tuple[int, int], float]:
    """Every pair at or above the threshold, by one full product in double precision."""
    products = left.astype(np.float64) @ (left if right is None else right).astype(np.float64).T
    i, j = np.nonzero(products >= threshold)
    return {(a, b): products[a, b] for a, b in zip(i.tolist(), j.tolist(), strict=True) if right is not None or a < b}
