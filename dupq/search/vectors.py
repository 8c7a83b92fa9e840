"""Vectors on disk that are read in slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class StoredRows:
    """Matrix in a file that is read in slices; nothing of it stays in memory.

    Args:
        path: Raw little-endian float32, row after row.
        shape: (n, d).
        first: The row of the file that is row 0 of this matrix.
    """

    def __init__(self, path: Path, shape: tuple[int, int], first: int = 0) -> None:
        self.path = path
        self.shape = shape
        self.first = first

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.float32]:
        """Return a slice of rows, or rows by number in any order, float32 (m, d)."""
        d = self.shape[1]
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            count = max(0, stop - start) * d
            return np.fromfile(self.path, "<f4", count, offset=4 * (self.first + start) * d).reshape(-1, d)
        if not len(rows):  # an empty file cannot be mapped
            return np.zeros((0, d), np.float32)
        return np.asarray(np.memmap(self.path, "<f4", "r", 4 * self.first * d, self.shape)[rows])


def slice_rows(rows: NDArray[np.float32] | StoredRows, start: int, stop: int) -> NDArray[np.float32] | StoredRows:
    """Return the rows from `start` to `stop` without reading them."""
    if isinstance(rows, StoredRows):
        return StoredRows(rows.path, (stop - start, rows.shape[1]), rows.first + start)
    return rows[start:stop]
