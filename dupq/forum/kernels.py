"""Quick rough products of unit vectors, each with a proven bound of its error.

Let a, b be float32 rows and â, b̂ what the machine multiplies: their bfloat16 roundings, or themselves. By Cauchy and
Schwarz ``|a·b - â·b̂| ≤ |a|·|b - b̂| + |a - â|·|b̂|``, whose norms are computed here, not assumed. A sum of d products in
float32 adds at most ``d · 2⁻²³ · |â|·|b̂|``, in whatever order it is taken (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, §3.1); a result stored in bfloat16 is off by at most 2⁻⁸ of itself.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError

if TYPE_CHECKING:
    import torch

Kernel = Literal["bfloat16", "float32"]
KERNELS: tuple[Kernel, ...] = ("bfloat16", "float32")
_SUM_ERROR: float = 2.0**-23
_STORE_ERROR: float = 2.0**-8
UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a row may be."""


class Block:
    """Rows made ready for products.

    Attributes:
        exact: float32 (n, d), the rows themselves.
        length: The largest |â|.
        lost: The largest |a - â|; 0 for float32.
    """

    def __init__(self, rows: NDArray[np.float32], kernel: Kernel) -> None:
        self.exact = np.ascontiguousarray(rows, dtype=np.float32)
        self.kernel = kernel
        lengths = np.sqrt(np.einsum("ij,ij->i", self.exact, self.exact, dtype=np.float64))
        # A text of which a model knows no word may have a row of zeros, which is near nothing. NaN is wrong too.
        wrong = np.flatnonzero(~((np.abs(lengths - 1) <= UNIT_TOLERANCE) | (lengths == 0)))
        if len(wrong):
            raise InputError(
                f"row {int(wrong[0])} of this block has length {lengths[wrong[0]]:.4g}, not 1",
                mend="divide each row by its length; drop rows with NaN",
            )
        self.length, self.lost = float(lengths.max(initial=1.0)), 0.0
        self.rough: torch.Tensor | NDArray[np.float32] = self.exact
        if kernel == "bfloat16":
            import torch

            whole = torch.from_numpy(self.exact)
            self.rough = whole.bfloat16()
            self.lost = float(torch.linalg.vector_norm(whole - self.rough.float(), dim=1).max()) if len(rows) else 0.0
            self.lost *= 1 + 1e-4  # the norm itself was summed in float32
            self.length += self.lost


def error_bound(left: Block, right: Block) -> float:
    """The most that the true dot product of two rows can differ from what the kernel sums, before it is stored."""
    d = int(left.exact.shape[1])
    product = left.length * right.length
    return left.length * right.lost + left.lost * right.length + d * _SUM_ERROR * product


class RoughProduct:
    """Finds the entries of a tile that may reach a floor; keeps one buffer for the products.

    Args:
        kernel: What both blocks were made for.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._buffer: torch.Tensor | None = None

    def reaching(self, left: Block, right: Block, rows: slice, floor: float) -> NDArray[np.int64]:
        """Flat positions, in the tile `left[rows]` by `right`, of all entries whose true value may be `floor` or more.

        Args:
            floor: In (0, 1].
        """
        least = floor - error_bound(left, right)
        if isinstance(left.rough, np.ndarray) or isinstance(right.rough, np.ndarray):
            return np.flatnonzero(left.exact[rows] @ right.exact.T >= np.float32(least))
        import torch

        least -= _STORE_ERROR * abs(least)
        part = left.rough[rows]
        size = len(part) * len(right.rough)
        if self._buffer is None or len(self._buffer) < size:
            self._buffer = torch.empty(size, dtype=torch.bfloat16)
        product = torch.matmul(part, right.rough.T, out=self._buffer[:size].view(len(part), -1))
        entry = torch.tensor([least]).bfloat16()
        if entry[0] <= 0:
            return np.flatnonzero((product.float() >= least).numpy())
        # Positive bfloat16 numbers order as their bits do, and a negative number has negative bits; so bits are
        # compared, which NumPy does dozens at a time. The floor's rounding may have gone up: one step down mends it.
        return np.flatnonzero(product.view(torch.int16).numpy() >= np.int16(int(entry.view(torch.int16)[0]) - 1))


@lru_cache(maxsize=8)
def fastest_kernel(dimensions: int) -> Kernel:
    """The kernel that is faster on this machine for vectors of this many dimensions, measured once (some 50 ms).

    bfloat16 is refused where a probe of it breaks its own bound: a library may sum in less than float32.
    """
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((3072, dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    seconds: dict[Kernel, float] = {}
    for kernel in KERNELS:
        left, right, product = Block(rows[:1024], kernel), Block(rows[1024:], kernel), RoughProduct(kernel)
        for _ in range(3):  # the first warms up
            start = time.perf_counter()
            product.reaching(left, right, slice(None), 0.9)
            seconds[kernel] = time.perf_counter() - start
        if not isinstance(left.rough, np.ndarray) and not isinstance(right.rough, np.ndarray):
            stored = (left.rough @ right.rough.T).float().numpy()
            true = left.exact.astype(np.float64) @ right.exact.T.astype(np.float64)
            if (np.abs(stored - true) > error_bound(left, right) + _STORE_ERROR * np.abs(stored)).any():
                seconds[kernel] = float("inf")
    return min(seconds, key=lambda name: seconds[name])
