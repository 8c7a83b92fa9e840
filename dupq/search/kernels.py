"""Fast rough products of unit vectors, each with a proven error bound.

Let a, b be rows and â, b̂ the rows that are multiplied. By Cauchy and Schwarz
``|a·b - â·b̂| ≤ |a|·|b - b̂| + |a - â|·|b̂|``, whose norms are computed here, not assumed.

- int8: â is a multiple of one step per block, and the sum of products of integers is exact.
- float32: â is a. A sum of d products adds at most ``d · 2⁻²³ · |â|·|b̂|``, in any order of summation (Higham, Accuracy
  and Stability of Numerical Algorithms, 2002, §3.1).

A product of fewer dimensions bounds the product of all from above (see `projection`). What the rough product cannot
rule out is multiplied in float32, in full.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.models.batching import chunks
from dupq.models.per_process import PerProcess
from dupq.search.projection import SUM_ERROR, Projection, fit_projection, longest

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from dupq.search.pairs import Rows

Kernel = Literal["int8", "float32"]
KERNELS: tuple[Kernel, ...] = ("int8", "float32")
UNIT_TOLERANCE = 1e-3
"""Largest difference from 1 of the length of a row."""
SAMPLE = 3072
"""Rows that projections are fitted and measured on."""
MAX_INT8_DIMENSIONS = 2**17
"""The sum of this many products of two bytes is below 2³¹."""
_WIDTHS = (64, 96, 128, 192, 256)
"""Numbers of dimensions that are tried."""
_GATHERED = 4096
"""Pairs that are multiplied in full at a time."""
_CHANGED = 0.15
"""Vectors whose mean length outside a projection is larger by this get a projection of their own."""
_CHOSEN: dict[tuple[int, float], _Choice] = {}


class Block:
    """Rows in the number format of a kernel, with the terms of its error bound.

    Args:
        rows: float32 (n, d), of unit length or zero.
        kernel: The number format of the products.
        projection: A map to fewer dimensions, whose product bounds the product of all from above; None: all.

    Attributes:
        exact: float32 (n, d), the rows themselves.
        rough: int8 or float32 (n, k), the rows that are multiplied, each a multiple of `step`.
        length: The largest |â|, rounded up.
        lost: The largest |a - â|, rounded up.
    """

    def __init__(self, rows: NDArray[np.float32], kernel: Kernel, projection: Projection | None = None) -> None:
        self.exact = np.ascontiguousarray(rows, dtype=np.float32)
        self.kernel, self.projection = kernel, projection
        squares = np.einsum("ij,ij->i", self.exact, self.exact)
        # A row of zeros stands for a text without a word of the vocabulary; it is near nothing. NaN is wrong too.
        wrong = np.flatnonzero(~((np.abs(np.sqrt(squares) - 1) <= UNIT_TOLERANCE) | (squares == 0)))
        if len(wrong):
            raise InputError(
                f"row {int(wrong[0])} of this block has length {np.sqrt(squares[wrong[0]]):.4g}, not 1",
                hint="divide each row by its length; drop rows with NaN",
            )
        values, self.lost, self.step = self.exact, 0.0, 1.0
        if projection is not None:
            values, self.lost = projection.apply(self.exact, squares), projection.slack
        self.length: float = longest(values) + self.lost
        self.rough: NDArray[np.int8] | NDArray[np.float32] = values
        if kernel == "int8":
            if not int8_levels():
                raise InputError("kernel must be float32 on this machine, got int8", hint="use 'auto'")
            step = np.float32(np.abs(values).max(initial=0) / int8_levels()) or np.float32(1)
            rounded = np.rint(values / step)
            # The product with the step is rounded to float32 itself, by at most 2⁻²⁴ of each number.
            error = longest(values - rounded * step) + 2.0**-23 * self.length
            self.rough, self.step = rounded.astype(np.int8), float(step)
            self.lost, self.length = self.lost + error, self.length + error

    @cached_property
    def columns(self) -> NDArray[Any]:
        """`rough` as columns, contiguous (k, n)."""
        return np.ascontiguousarray(self.rough.T)


def error_bound(left: Block, right: Block) -> float:
    """Return a bound on the error of the kernel's dot products.

    With a projection, the error is that of the upper bound which the projection gives.
    """
    rounding = int(left.exact.shape[1]) * SUM_ERROR * left.length * right.length
    return left.length * right.lost + left.lost * right.length + rounding


class RoughProduct:
    """Product of two blocks that selects the entries which may reach a floor.

    Args:
        kernel: The kernel of both blocks.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def reaching(
        self, left: Block, right: Block, rows: slice, floor: float | NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of `left` and `right` whose true product may reach `floor`.

        Args:
            left, right: The blocks.
            rows: Rows of `left` to be compared.
            floor: In (0, 1]: one for all entries, or one for each of those rows, float64 (r,).
        """
        least = np.reshape(floor, (-1, 1)) - error_bound(left, right)
        if self.kernel == "int8":
            reached = self._int8("reached", left, right, rows, np.floor(least / (left.step * right.step)) - 1)
        else:
            reached = self._product(left, right, rows) >= least.astype(np.float32)
        i, j = _places(reached, rows)
        if self.kernel == "float32" and left.projection is None:
            return i, j
        # In float32 the sum of a product of two unit vectors is off by at most d · 2⁻²³ (and 2⁻²² for their lengths).
        least = np.broadcast_to(floor, len(reached)) - (left.exact.shape[1] + 2) * SUM_ERROR
        kept = np.zeros(len(i), bool)
        for part in chunks(len(i), _GATHERED):
            products = np.einsum("ij,ij->i", left.exact.take(i[part], axis=0), right.exact.take(j[part], axis=0))
            kept[part] = products >= least[i[part] - (rows.start or 0)]
        return i[kept], j[kept]

    def kth_largest(self, left: Block, right: Block, rows: slice, k: int) -> NDArray[np.float64]:
        """Return a lower bound of the k-th largest true value of each row, float64 (r,).

        Args:
            left, right, rows: As in `reaching`; blocks without a projection.
            k: From 1 to the number of rows of `right`.
        """
        product = self._product(left, right, rows)
        kth = np.partition(product, -k, axis=1)[:, -k] * (left.step * right.step)
        return np.asarray(kth - error_bound(left, right), np.float64)

    def _product(self, left: Block, right: Block, rows: slice) -> NDArray[Any]:
        if self.kernel == "int8":
            return self._int8("product", left, right, rows, np.zeros((1, 1)))
        return np.asarray(left.rough[rows] @ right.rough.T)

    def _int8(self, output: str, left: Block, right: Block, rows: slice, least: NDArray[np.float64]) -> NDArray[Any]:
        # No product is as large as the largest int32, which also stands for larger floors.
        entries = np.minimum(least, np.iinfo(np.int32).max).astype(np.int32)
        return int8_product(output, left.rough[rows], right.columns, entries)


def int8_product(
    output: str, left: NDArray[Any], columns: NDArray[Any], least: NDArray[np.int32]
) -> NDArray[np.int32] | NDArray[np.bool_]:
    """Multiply two matrices of integers in the graph `int8_product.onnx`.

    Args:
        output: "product", int32 (r, c), or "reached", its entries that are `least` or more, bool (r, c).
        left: int8 (r, k).
        columns: int8 (k, c), contiguous.
        least: int32 (r, 1) or (1, 1).
    """
    # Processors multiply unsigned with signed bytes; the graph subtracts 128 again.
    feeds = {"left": left.view(np.uint8) ^ np.uint8(128), "right": columns, "least": least}
    result: NDArray[np.int32] | NDArray[np.bool_] = _SESSION.get().run([output], feeds)[0]
    return result


def _open_session() -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "")  # as NumPy and torch do, and as an engine sets it for its workers
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = (Path(__file__).parent / "int8_product.onnx").read_bytes()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


_SESSION = PerProcess(_open_session)


@lru_cache(maxsize=1)
def int8_levels() -> int:
    """Return the largest number that this machine's int8 products handle exactly.

    It is 127, 79, or 0 for neither. Processors without VNNI add two products of an unsigned and a signed byte in 16
    bits. The sum overflows at 127 and not at 79, where it is at most 2 · (128 + 79) · 79.
    """
    draw = np.random.default_rng(0)
    for levels in (127, 79):
        left, right = (draw.choice(np.array([-levels, levels], np.int8), (rows, 70)) for rows in (67, 131))
        left[0], right[0] = levels, levels
        columns, any_floor = np.ascontiguousarray(right.T), np.zeros((1, 1), np.int32)
        true = left.astype(np.int32) @ right.T.astype(np.int32)
        # A library may multiply a single row in another way.
        if all(np.array_equal(int8_product("product", left[:r], columns, any_floor), true[:r]) for r in (1, len(left))):
            return levels
    return 0


def _places(reached: NDArray[np.bool_], rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    flat, width = np.flatnonzero(reached), reached.shape[1]
    return (rows.start or 0) + flat // width, flat % width


def choose_kernel(vectors: Rows, floor: float, *, bounds: bool) -> tuple[Kernel, Projection | None]:
    """Choose the kernel of this machine, and the projection that searches fastest.

    Projections are measured (some 50 ms) once in a process for a number of dimensions and a floor, and again where the
    vectors lie outside a projection that was fitted to others. All choices give the same pairs.

    Args:
        vectors: The vectors to be searched, float32 (n, d), of which `SAMPLE` are read.
        floor: The cosine of the search.
        bounds: True to try projections, where only pairs from the floor on are wanted.
    """
    d = vectors.shape[1]
    kernel: Kernel = "int8" if d <= MAX_INT8_DIMENSIONS and int8_levels() else "float32"
    if not bounds or d <= _WIDTHS[0]:
        return kernel, None
    known = (d, round(floor, 2))
    places = np.unique(np.linspace(0, len(vectors) - 1, SAMPLE).astype(np.int64))
    rows = Block(vectors[places], "float32").exact
    if known not in _CHOSEN or _CHOSEN[known].rest(rows) > _CHOSEN[known].fitted_rest + _CHANGED:
        _CHOSEN[known] = _fastest(rows, floor, kernel)
    return kernel, _CHOSEN[known].projection


@dataclass(frozen=True, slots=True)
class _Choice:
    """Fastest projection, and the smallest one that was tried.

    `fitted_rest` is the mean length, outside the smallest one, of the rows that it was fitted to.
    """

    projection: Projection | None
    smallest: Projection
    fitted_rest: float = 0.0

    def rest(self, rows: NDArray[np.float32]) -> float:
        """Return the mean length of rows outside the smallest projection."""
        inner = np.square(rows @ self.smallest.matrix).sum(axis=1)
        return float(np.mean(np.sqrt(np.maximum(1 - inner, 0))))


def _fastest(rows: NDArray[np.float32], floor: float, kernel: Kernel) -> _Choice:
    third, seconds = len(rows) // 3, []
    tried = [fit_projection(rows, width) for width in _WIDTHS if width < rows.shape[1]]
    for projection in (None, *tried):
        left, right = (Block(part, kernel, projection) for part in (rows[:third], rows[third:]))
        product, times = RoughProduct(kernel), []
        for _ in range(3):  # the first warms up
            start = time.perf_counter()
            for part in chunks(third, 512):
                product.reaching(left, right, part, floor)
            times.append(time.perf_counter() - start)
        seconds.append(min(times))
    choice = _Choice((None, *tried)[int(np.argmin(seconds))], tried[0])
    return replace(choice, fitted_rest=choice.rest(rows))
