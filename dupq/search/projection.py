"""Projection to fewer dimensions that bounds dot products from above.

Let W have orthonormal columns. With p = Wᵀa and the length r of the rest of a, Cauchy and Schwarz give
``a·b ≤ p·p' + r·r'``. So the rows (p, r) are multiplied. Most of a is in p where W spans the directions in which the
vectors are longest, their principal components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUM_ERROR: float = 2.0**-23
"""A float32 sum of d products is off by at most d times this, relative to the lengths of the vectors."""
_REST = 4
"""Dimensions that the length of the rest is spread over. It is the largest number, and int8 steps grow with that."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Map of unit vectors to k dimensions.

    The first k - 4 are coordinates. The last 4 hold the length of the rest.

    Attributes:
        matrix: float32 (d, k - 4), nearly orthonormal columns U.
        slack: The largest difference between a row's computed coordinates and Wᵀa for one orthonormal W near U.
    """

    matrix: NDArray[np.float32]
    slack: float

    @property
    def dimensions(self) -> int:
        """k."""
        return int(self.matrix.shape[1]) + _REST

    def apply(self, rows: NDArray[np.float32], squares: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the map of rows, float32 (n, k); the length of the rest is rounded up.

        Args:
            rows: float32 (n, d), of unit length or zero.
            squares: Their squared lengths, summed in float32.
        """
        inner = rows @ self.matrix
        length = np.sqrt(np.einsum("ij,ij->i", inner, inner).astype(np.float64))
        rounding = 4 * len(self.matrix) * SUM_ERROR  # of both sums of squares, which are below 2
        rest = np.sqrt(np.maximum(squares - np.maximum(length - self.slack, 0) ** 2, 0) + rounding)
        part = (rest * (1 + 1e-6) / _REST**0.5).astype(np.float32)
        return np.hstack([inner, np.repeat(part[:, None], _REST, axis=1)])


def fit_projection(rows: NDArray[np.float32], dimensions: int) -> Projection:
    """Fit a projection to the principal components of rows.

    Args:
        rows: float32 (n, d), a sample of the vectors. The bound holds for others too.
        dimensions: The number k, above 4 and below d.
    """
    d, p = rows.shape[1], dimensions - _REST
    whole = rows.astype(np.float64)
    _, directions = np.linalg.eigh(whole.T @ whole)
    # Turned within their span, so that no coordinate is much larger than the others.
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((p, p)))
    matrix = (directions[:, d - p :] @ turn).astype(np.float32)
    # W is the nearest orthonormal matrix: |U - W| is at most the largest |s - 1| over the singular values s of U, which
    # is at most |UᵀU - 1|. The product with U is summed in float32.
    gram = matrix.T.astype(np.float64) @ matrix.astype(np.float64)
    error = float(np.linalg.norm(gram - np.eye(p))) + 1e-9
    return Projection(matrix, 1.01 * (error + d * SUM_ERROR * p**0.5))


def longest(rows: NDArray[np.float32]) -> float:
    """Return the largest length of rows, rounded up.

    The rounding covers the error of sums in float32 (see `SUM_ERROR`).
    """
    squares = np.einsum("ij,ij->i", rows, rows)
    return float(np.sqrt(squares.max(initial=0)) * (1 + (rows.shape[1] + 4) * SUM_ERROR))
