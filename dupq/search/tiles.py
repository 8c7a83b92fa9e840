"""Exact search in tiles, with the pairs and cosines of one scan.

Any tiling of rows and columns gives them. A tile holds the strongest pairs of a panel of rows with a block of columns,
and the nearest columns of each row within it. Tiles depend on nothing but their vectors, so that they may be searched
anywhere and in any order. Memory is that of one tile; `merge_panel` holds one panel of rows, and `merge_pairs` at most
2·`max_pairs` pairs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.models.batching import chunks
from dupq.search import exact
from dupq.search.kernels import Block, Kernel, RoughProduct
from dupq.search.pairs import NearestRows, Rows, SearchGuarantee, SimilarPairs, StrongestPairs

Ints = NDArray[np.int64]

TILE_PRODUCTS = 2**31
"""Pairs that a tile compares, some seconds of one core."""


@dataclass(frozen=True, slots=True)
class WantedPairs:
    """Pairs that a search is to find.

    Attributes:
        threshold, neighbours, every_from, max_pairs, shared_from: As for `similar_pairs`.
        one: True within one collection, False between two.
    """

    threshold: float
    neighbours: int
    every_from: float
    max_pairs: int
    one: bool
    shared_from: int | None = None

    @property
    def triangle(self) -> bool:
        """True where only columns behind a row are compared with it."""
        return self.one and not self.neighbours


@dataclass(frozen=True, slots=True)
class Tile:
    """Range of rows and range of columns that are compared.

    `last_row` and `last_column` are not included.
    """

    first_row: int
    last_row: int
    first_column: int
    last_column: int


@dataclass(frozen=True, eq=False, slots=True)
class TilePairs:
    """Pairs of a tile or a panel, in the numbers of the whole search.

    Attributes:
        left, right, cosine: Strongest pairs first, (m,).
        row, column, nearest: The nearest columns of each row and their cosines, (k,); empty without neighbours, and
            after `merge_panel`.
        dropped: Lower bound on the number of pairs that reach the threshold and were dropped; 0 if none was.
        rescored: Number of pairs that were computed in double precision.
    """

    left: Ints
    right: Ints
    cosine: NDArray[np.float64]
    row: Ints
    column: Ints
    nearest: NDArray[np.float64]
    dropped: int
    rescored: int

    def to_bytes(self) -> bytes:
        """Return it as an .npz file; equal pairs give equal bytes."""
        stream = io.BytesIO()
        arrays = {part.name: np.asarray(getattr(self, part.name)) for part in fields(self)}
        np.savez(stream, allow_pickle=False, **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> TilePairs:
        """Read the file of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            arrays = [held[part.name] for part in fields(cls)]
        return cls(*arrays[:-2], *(int(count) for count in arrays[-2:]))


def plan_tiles(
    rows: int, columns: int, wanted: WantedPairs, *, align: int = 1, products: int = TILE_PRODUCTS
) -> Iterator[Tile]:
    """Yield tiles that cover all pairs, panel after panel.

    In a triangle, tiles that lie below its diagonal are left out.

    Args:
        rows, columns: Numbers of them.
        wanted: The search.
        align: Panels begin at multiples of it.
        products: Pairs a tile compares at most, unless `align` is wider.
    """
    # A tile is twice as wide as high: fewer blocks a panel leave fewer nearest columns to be merged.
    height = max(align, int((products / 2) ** 0.5) // align * align)
    width = max(align, products // height // align * align)
    for row in chunks(rows, height):
        for column in chunks(columns, width):
            if not wanted.triangle or column.stop > row.start + 1:
                yield Tile(row.start, row.stop, column.start, column.stop)


def search_tile(
    rows: Rows,
    columns: Rows,
    tile: Tile,
    wanted: WantedPairs,
    *,
    own: Ints | None = None,
    kernel: Kernel | Literal["auto"] = "auto",
) -> TilePairs:
    """Search one tile.

    Args:
        rows, columns: Their vectors, float32 (r, d) and (c, d), rows of unit length.
        tile: Their numbers.
        wanted: The search.
        own: Between two collections, the column that is the same text as each row, or a negative number, int64 (r,);
            None: none is.
        kernel: As for `similar_pairs`.

    Raises:
        InputError: Rows that are not of unit length.
    """
    projection = None
    if kernel == "auto":
        kernel, projection = exact.kernel_for(rows, columns, wanted.threshold, bounds=not wanted.neighbours)
    if own is None and not wanted.one:
        own = np.full(len(rows), -1)
    # `own` is looked up by row: between two collections, rows are numbered within the tile.
    before = 0 if wanted.one else tile.first_row
    shared_from = None if wanted.shared_from is None else wanted.shared_from - before
    pairs = StrongestPairs(wanted.threshold, wanted.max_pairs, shared_from=shared_from)
    product = RoughProduct(kernel)
    found: list[tuple[Ints, Ints, NDArray[np.float64]]] = []
    for part in chunks(len(rows), exact.PANEL):
        panel, start = Block(rows[part], kernel, projection), tile.first_row - before + part.start
        nearest = None
        if wanted.neighbours and len(columns):
            nearest = NearestRows(len(panel.exact), min(wanted.neighbours, len(columns)), wanted.threshold)
        for block_part in chunks(len(columns), exact.TILE_COLUMNS):
            at = tile.first_column + block_part.start
            if wanted.triangle and tile.first_column + block_part.stop <= start + 1:
                continue  # below the diagonal
            block = Block(columns[block_part], kernel, projection)
            if nearest is None:
                exact._compare(panel, block, start, at, pairs, product, own)
            else:
                first = not block_part.start
                exact._compare_nearest(
                    panel, block, start, at, pairs, product, nearest, own, wanted.every_from, first=first
                )
        if nearest is not None:
            row, column, cosine = nearest.columns()
            found.append((tile.first_row + part.start + row, column, cosine))
    left, right, cosine = pairs.columns()
    row, column, near = (np.concatenate(values) for values in zip(_no_pairs(), *found, strict=True))
    return TilePairs(left + before, right, cosine, row, column, near, pairs.dropped, pairs.rescored)


def merge_panel(tiles: Iterable[TilePairs], first_row: int, last_row: int, wanted: WantedPairs) -> TilePairs:
    """Merge all tiles of a panel of rows.

    The result holds the pairs of the tiles, and those with one of the nearest columns of a row.

    Args:
        tiles: The tiles, in any order; one at a time is in memory.
        first_row, last_row: Rows of the panel, the last one not included.
        wanted: The search.
    """
    pairs = StrongestPairs(
        wanted.threshold, wanted.max_pairs, repeats=wanted.neighbours > 0, shared_from=wanted.shared_from
    )
    nearest = NearestRows(last_row - first_row, wanted.neighbours, wanted.threshold) if wanted.neighbours else None
    dropped = rescored = 0
    for tile in tiles:
        pairs.add(tile.left, tile.right, tile.cosine)
        if nearest is not None:
            nearest.add(tile.row - first_row, tile.column, tile.nearest)
        dropped, rescored = dropped + tile.dropped, rescored + tile.rescored
    if nearest is not None:
        row, column, cosine = nearest.columns()
        below = cosine < wanted.every_from
        i, j = first_row + row[below], column[below]
        if wanted.one:
            i, j = np.minimum(i, j), np.maximum(i, j)
        pairs.add(i, j, cosine[below])
    return TilePairs(*pairs.columns(), *_no_pairs(), dropped + pairs.dropped, rescored)


def merge_pairs(panels: Iterable[TilePairs], rows: int, columns: int, wanted: WantedPairs) -> SimilarPairs:
    """Merge panels to the result of `similar_pairs`.

    Pairs, cosines and `complete_above` are the same. Two counts of the guarantee may differ from those of one scan:
    `rescored`, because a tile begins without the floor that earlier tiles raise, and `dropped`, which remains a lower
    bound.

    Args:
        panels: Results of `merge_panel`; without neighbours, tiles.
        rows, columns: Numbers of vectors that were searched.
        wanted: The search.
    """
    both_sides = (wanted.one or wanted.shared_from is not None) and wanted.neighbours > 0
    pairs = StrongestPairs(wanted.threshold, wanted.max_pairs, repeats=wanted.neighbours > 0)
    dropped = rescored = 0
    for panel in panels:
        pairs.add(panel.left, panel.right, panel.cosine)
        # A pair that two panels dropped counts once.
        dropped = max(dropped, panel.dropped) if both_sides else dropped + panel.dropped
        rescored += panel.rescored
    left, right, cosine = pairs.columns()
    total = dropped + pairs.dropped if not both_sides else max(dropped, pairs.dropped)
    guarantee = SearchGuarantee(
        exact=True,
        method="scan in tiles, pairs in float64",
        left=rows,
        right=None if wanted.one else columns,
        compared=rows * (rows - 1) // 2 if wanted.triangle else rows * columns,
        threshold=wanted.threshold,
        # Pairs as strong as the weakest kept one may have been cut, hence the next number.
        complete_above=float(np.nextafter(cosine[-1], 2.0)) if total else wanted.threshold,
        rescored=rescored,
        dropped=total,
        neighbours=wanted.neighbours,
        every_from=max(wanted.threshold, wanted.every_from) if wanted.neighbours else None,
    )
    return SimilarPairs(left, right, cosine, guarantee)


def _no_pairs() -> tuple[Ints, Ints, NDArray[np.float64]]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
