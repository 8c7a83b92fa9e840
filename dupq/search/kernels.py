"""Fast rough products of unit vectors, each with a proven error bound.

Let a, b be float32 rows and â, b̂ the rows that are multiplied: their bfloat16 roundings, or themselves. By Cauchy and
Schwarz ``|a·b - â·b̂| ≤ |a|·|b - b̂| + |a - â|·|b̂|``, whose norms are computed here, not assumed. A sum of d products in
float32 adds at most ``d · 2⁻²³ · |â|·|b̂|``, in any order of summation (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, §3.1); a result stored in bfloat16 is off by at most 2⁻⁸ of itself.
"""

from __future__ import annotations

import time
from functools import lru_cache
from importlib.util import find_spec
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
"""Largest difference from 1 of the length of a row."""


class Block:
    """Rows in the number format of a kernel, with the bounds that its error follows from.

    Attributes:
        exact: float32 (n, d), the rows themselves.
        length: The largest |â|.
        lost: The largest |a - â|; 0 for float32.
    """

    def __init__(self, rows: NDArray[np.float32], kernel: Kernel) -> None:
        self.exact = np.ascontiguousarray(rows, dtype=np.float32)
        self.kernel = kernel
        lengths = np.sqrt(np.einsum("ij,ij->i", self.exact, self.exact, dtype=np.float64))
        # A row of zeros stands for a text without a word of the vocabulary; it is near nothing. NaN is wrong too.
        wrong = np.flatnonzero(~((np.abs(lengths - 1) <= UNIT_TOLERANCE) | (lengths == 0)))
        if len(wrong):
            raise InputError(
                f"row {int(wrong[0])} of this block has length {lengths[wrong[0]]:.4g}, not 1",
                hint="divide each row by its length; drop rows with NaN",
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
    """Return the largest difference between a true dot product and the kernel's sum, before that is stored."""
    d = int(left.exact.shape[1])
    product = left.length * right.length
    return left.length * right.lost + left.lost * right.length + d * _SUM_ERROR * product


class RoughProduct:
    """Product of two blocks that selects the entries which may reach a floor; it reuses one buffer.

    Args:
        kernel: The kernel of both blocks.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._buffer: torch.Tensor | None = None

    def reaching(
        self, left: Block, right: Block, rows: slice, floor: float | NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of `left` and of `right` whose product may truly be `floor` or more.

        Args:
            left, right: The blocks.
            rows: Rows of `left` to be compared.
            floor: In (0, 1]: one for all entries, or one for each of those rows, float64 (r,).
        """
        least = np.reshape(floor, (-1, 1)) - error_bound(left, right)
        product = self._product(left, right, rows)
        if isinstance(product, np.ndarray):
            return _places(product >= least.astype(np.float32), rows)
        import torch

        least -= _STORE_ERROR * np.abs(least)
        entries = torch.from_numpy(least).bfloat16()
        if (entries <= 0).any():
            return _places(product.float().numpy() >= least, rows)
        # Positive bfloat16 numbers order as their bits do, and a negative number has negative bits; so bits are
        # compared, which NumPy does dozens at a time. The floor may have been rounded up, so one step is taken off.
        return _places(product.view(torch.int16).numpy() >= entries.view(torch.int16).numpy() - np.int16(1), rows)

    def kth_largest(self, left: Block, right: Block, rows: slice, k: int) -> NDArray[np.float64]:
        """Return a lower bound of the k-th largest true value of each row, float64 (r,).

        Args:
            left, right, rows: As in `reaching`.
            k: From 1 to the number of rows of `right`.
        """
        product = self._product(left, right, rows)
        rough = product if isinstance(product, np.ndarray) else product.float().numpy()
        kth = np.partition(rough, -k, axis=1)[:, -k].astype(np.float64)
        stored = 0.0 if isinstance(product, np.ndarray) else _STORE_ERROR
        return np.asarray(kth - stored * np.abs(kth) - error_bound(left, right))

    def _product(self, left: Block, right: Block, rows: slice) -> NDArray[np.float32] | torch.Tensor:
        if isinstance(left.rough, np.ndarray) or isinstance(right.rough, np.ndarray):
            return np.asarray(left.exact[rows] @ right.exact.T)
        import torch

        part = left.rough[rows]
        size = len(part) * len(right.rough)
        if self._buffer is None or len(self._buffer) < size:
            self._buffer = torch.empty(size, dtype=torch.bfloat16)
        return torch.matmul(part, right.rough.T, out=self._buffer[:size].view(len(part), -1))


def _places(reaching: NDArray[np.bool_], rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    flat, width = np.flatnonzero(reaching), reaching.shape[1]
    return (rows.start or 0) + flat // width, flat % width


@lru_cache(maxsize=8)
def fastest_kernel(dimensions: int) -> Kernel:
    """Measure once (some 50 ms) which kernel is faster for d dimensions on this machine, and return it.

    bfloat16 needs torch. It is ruled out where a trial product breaks its error bound: a library may sum in less than
    float32.
    """
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((3072, dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    seconds: dict[Kernel, float] = {}
    for kernel in KERNELS if find_spec("torch") else ("float32",):
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
