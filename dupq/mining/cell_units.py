"""Search by cells as units of an engine, where all pairs are too many to compare.

It is the plan of `search.cells.cell_pairs`, and its result is equal to the last bit. A unit holds the rows of a few
shards, or the members of one group of cells; this process holds the pairs of the sampled questions and the result. The
parts, in the order of the stages::

    run-HASH/
        sample/ROW.bin        vectors of the rows of a few shards that were drawn
        centroids.npy         float32 (K, d)
        true/ROW.npz          pairs of the sampled questions with the rows of a few shards
        cells/00000.npy       cells of the rows of a shard, int32 (n, M), M the largest overlap
        cells.json            the overlap m that was chosen, and the groups of cells
        members/ROW.bin       rows of a few shards with cells and vectors, a block for each group
        groups/00000.bin      pairs of a group, a block for each range of rows
        merged/00000.npz      pairs of a range of rows, or of a few groups
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.engine.base import Engine, Task, Unit, Work
from dupq.engine.work_folder import WorkFolder
from dupq.mining.units import array_bytes, read_array, read_pairs, read_rows
from dupq.models.batching import chunks, part_of
from dupq.search import cells, kmeans
from dupq.search.cells import (
    SAMPLE,
    TARGET,
    CellMerge,
    CellPlan,
    cell_products,
    cell_result,
    choose_plan,
    draw_samples,
    first_shared,
    group_cells,
    largest_overlap,
    search_cells,
)
from dupq.search.certificate import TruePairs, named_pairs, true_search
from dupq.search.kmeans import Cells, cell_counts, default_cells, fit_centroids, fit_sample, nearest_cells
from dupq.search.pairs import SimilarPairs
from dupq.search.tiles import Tile, TilePairs, WantedPairs, merge_panel, search_tile
from dupq.types import Progress

Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]

ROWS = 2**16
"""Rows that a unit reads, or whose neighbours it merges."""
MEMBERS = 2**18
"""Rows that a unit writes for the groups, one as often as it has cells."""
GROUPS = 64
"""Groups whose pairs a unit merges."""


@dataclass(frozen=True, slots=True)
class CellSearch:
    """Search by cells in the vectors of a work folder.

    Attributes:
        folder: Folder of its parts.
        n: Number of vectors.
        sides: Within one collection None. Between two, the rows up to `sides[1]` are compared with those from
            `sides[0]` on.
        wanted: The search.
        size: Rows of a shard.
        cells, overlap, target, sample, seed: As for `cells.plan_cells`.
    """

    folder: str
    n: int
    sides: tuple[int, int] | None
    wanted: WantedPairs
    size: int
    cells: int | None = None
    overlap: int | None = None
    target: float = TARGET
    sample: int = SAMPLE
    seed: int = 0

    @property
    def start(self) -> int:
        """The row that is column 0."""
        return 0 if self.sides is None else self.sides[0]

    @property
    def rows(self) -> int:
        """Number of rows that are compared with the columns."""
        return self.n if self.sides is None else self.sides[1]

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.n - self.start

    @property
    def count(self) -> int:
        """Number of cells to fit."""
        return default_cells(self.columns) if self.cells is None else self.cells

    def samples(self) -> tuple[Ints, Ints]:
        """Draw the two samples of questions."""
        return draw_samples(self.rows, self.sample, self.seed)

    def drawn(self) -> tuple[Ints, Ints]:
        """Draw the rows to fit the cells on, and all sampled questions, rising."""
        return self.start + fit_sample(self.columns, self.count, self.seed), np.sort(np.concatenate(self.samples()))

    def spans(self, rows: int, first: int = 0) -> list[dict[str, int]]:
        """Return ranges of whole shards that hold all rows from `first` on.

        Each range holds about `rows` rows.
        """
        size = max(1, rows // self.size) * self.size
        return [{"first_row": part.start, "last_row": part.stop} for part in chunks(self.n, size) if part.stop > first]

    def name(self, stage: str, at: int, kind: str) -> str:
        """Return the name of a part."""
        return f"{self.folder}/{stage}/{at:0{5 if stage in ('cells', 'groups', 'merged') else 10}}.{kind}"

    def units(self, stage: str, spans: Sequence[dict[str, int]], kind: str) -> list[Unit]:
        """Return a unit for each range of rows."""
        return [Unit(self.name(stage, span["first_row"], kind), span) for span in spans]


def sizes() -> tuple[object, ...]:
    """Return the constants that the parts of a search depend on."""
    search = cells.OVERLAPS, cells.SAMPLE, cells.TARGET, cells.GROUP_PRODUCTS, cells.GROUP_ROWS
    fit = kmeans.ROWS_PER_CELL, kmeans.PASSES, kmeans.BATCH_PER_CELL, kmeans.PART
    return (*search, *fit, ROWS, MEMBERS, GROUPS)


def search_by_cells(
    engine: Engine, work: WorkFolder, search: CellSearch, progress: Progress | None = None
) -> SimilarPairs:
    """Find most pairs by an engine, with a certified recall.

    The result is that of `search.cells.cell_pairs`.

    Args:
        engine: Runs the units.
        work: Holds the vectors.
        search: The search.
        progress: Called with (percent done, 100).

    Raises:
        InputError: The recall is below the target.
        UnitError: Units failed repeatedly.
        OutputError: The work folder cannot be written.
    """

    def run(name: str, make: type[Work], units: Sequence[Unit], before: int, after: int) -> None:
        if units:
            engine.run(Task(name, make, (search,)), units, work, part_of(progress, before, after - before, 100))

    spans = search.spans(ROWS)
    run("sampling", SampleRows, search.units("sample", spans, "bin"), 0, 5)
    run("fitting", FitCells, [Unit(f"{search.folder}/centroids.npy")], 5, 10)
    samples = search.units("true", search.spans(ROWS, search.start), "npz")
    run("comparing", CompareSample, samples, 10, 25)
    shards = [Unit(name, {"shard": at}) for at, name in enumerate(_cell_names(search))]
    run("assigning", AssignCells, shards, 25, 45)
    plan, total, groups = _plan(work, search, [unit.name for unit in samples])
    members = search.spans(MEMBERS // plan.overlap) if groups else []
    run("collecting", CollectMembers, search.units("members", members, "bin"), 45, 60)
    found = [Unit(search.name("groups", at, "bin"), {"group": at}) for at in range(groups)]
    run("searching", SearchGroup, found, 60, 90)
    merged = _merge_units(search, groups)
    run("merging", MergeGroups, merged, 90, 99)
    merge = CellMerge(search.wanted, 0, 0)
    for part in read_pairs(work, [unit.name for unit in merged]):
        merge.add(part)
    if progress is not None:
        progress(100, 100)
    return cell_result(merge.pairs(), plan, search.rows, search.columns, total, search.wanted)


def _plan(work: WorkFolder, search: CellSearch, samples: Sequence[str]) -> tuple[CellPlan, int, int]:
    """Choose the overlap, certify it and write `cells.json`.

    Return the plan, the number of pairs to compare, and the number of groups.
    """
    centroids, (_, questions) = read_array(work, f"{search.folder}/centroids.npy"), search.drawn()
    panel = merge_panel(read_pairs(work, samples), 0, len(questions), true_search(search.wanted))
    true = named_pairs(panel, questions)
    needed = _needed(work, search, true, len(centroids))
    plan = choose_plan(true, needed, search.samples(), search.wanted, centroids, search.overlap, search.target)
    left, right = (np.zeros((2, len(centroids)), np.int64) for _ in range(2))
    for at, name in enumerate(_cell_names(search)):
        cells = read_array(work, name)[:, : plan.overlap]
        left += cell_counts(cells[: max(0, search.rows - at * search.size)], len(centroids))
        right += cell_counts(cells[max(0, search.start - at * search.size) :], len(centroids))
    counts = left, None if search.sides is None else right
    groups = group_cells(*counts, search.wanted)
    edges = [*(group.start for group in groups), *(group.stop for group in groups[-1:])]
    note = f"{search.folder}/cells.json"
    if not work.exists(note):
        work.write(note, json.dumps({"overlap": plan.overlap, "edges": edges}).encode())
    return plan, int(cell_products(*counts, search.wanted).sum()), len(groups)


def _needed(work: WorkFolder, search: CellSearch, true: TruePairs, count: int) -> Ints:
    """Return the overlap that each pair needs, from the cells of its rows.

    One shard of cells at a time is in memory.
    """
    rows, place = np.unique(np.concatenate([true.left, search.start + true.right]), return_inverse=True)
    cells = [np.zeros((0, min(largest_overlap(search.overlap), count)), np.int32)]
    for shard in np.unique(rows // search.size).tolist():
        found = read_array(work, search.name("cells", shard, "npy"))
        cells.append(found[rows[rows // search.size == shard] - shard * search.size])
    left, right = np.concatenate(cells)[place.reshape(2, -1)]
    return first_shared(left, right, count)


def _cell_names(search: CellSearch) -> list[str]:
    return [search.name("cells", at, "npy") for at in range(-(-search.n // search.size))]


def _merge_units(search: CellSearch, groups: int) -> list[Unit]:
    """Return the units that merge the pairs of groups.

    With neighbours, a unit merges a range of rows over all groups. Otherwise it merges all pairs of a few groups.
    """
    parts = []
    if search.wanted.neighbours and groups:
        for block, rows in enumerate(chunks(search.rows, ROWS)):
            parts.append({"block": block, "rows": [rows.start, rows.stop], "groups": [0, groups]})
    else:
        parts += [{"block": 0, "rows": [0, 0], "groups": [part.start, part.stop]} for part in chunks(groups, GROUPS)]
    return [Unit(search.name("merged", at, "npz"), part) for at, part in enumerate(parts)]


# ---- workers ------------------------------------------------------------------------------------------------------


class SampleRows:
    """Worker that reads the drawn rows of a few shards.

    Its part holds two blocks: the rows to fit cells on, and the sampled questions.
    """

    def __init__(self, work: WorkFolder, search: CellSearch) -> None:
        self.work, self.size, self.drawn = work, search.size, search.drawn()

    def __call__(self, unit: Unit) -> bytes:
        first, last = unit.spec["first_row"], unit.spec["last_row"]
        vectors = read_rows(self.work, first, last, self.size)
        inside = (rows[(rows >= first) & (rows < last)] - first for rows in self.drawn)
        return join_blocks([array_bytes(vectors[rows]) for rows in inside])


def _read_drawn(work: WorkFolder, search: CellSearch, block: int) -> Vectors:
    names = [search.name("sample", span["first_row"], "bin") for span in search.spans(ROWS)]
    return np.concatenate([np.load(io.BytesIO(read_block(work, name, block)), allow_pickle=False) for name in names])


class FitCells:
    """Worker that fits the centroids."""

    def __init__(self, work: WorkFolder, search: CellSearch) -> None:
        self.work, self.search = work, search

    def __call__(self, unit: Unit) -> bytes:
        drawn = _read_drawn(self.work, self.search, 0)
        return array_bytes(fit_centroids(drawn, self.search.count, seed=self.search.seed))


class CompareSample:
    """Worker that compares the sampled questions with the rows of a few shards."""

    def __init__(self, work: WorkFolder, search: CellSearch) -> None:
        self.work, self.search, self.wanted = work, search, true_search(search.wanted)
        self.questions, self.own = _read_drawn(work, search, 1), search.drawn()[1] - search.start

    def __call__(self, unit: Unit) -> bytes:
        start = self.search.start
        first, last = max(start, unit.spec["first_row"]), unit.spec["last_row"]
        columns = read_rows(self.work, first, last, self.search.size)
        tile = Tile(0, len(self.questions), first - start, last - start)
        return search_tile(self.questions, columns, tile, self.wanted, own=self.own).to_bytes()


class AssignCells:
    """Worker that finds the cells of a shard's rows for all overlaps to choose from."""

    def __init__(self, work: WorkFolder, search: CellSearch) -> None:
        self.work, self.most = work, largest_overlap(search.overlap)
        self.centroids = read_array(work, f"{search.folder}/centroids.npy")

    def __call__(self, unit: Unit) -> bytes:
        vectors = read_array(self.work, f"vectors/{unit.spec['shard']:05}.npy")
        return array_bytes(nearest_cells(vectors, self.centroids, self.most))


class CollectMembers:
    """Worker that divides the rows of a few shards among the groups of their cells."""

    def __init__(self, work: WorkFolder, search: CellSearch) -> None:
        self.work, self.search = work, search
        self.overlap, self.edges = _read_groups(work, search)

    def __call__(self, unit: Unit) -> bytes:
        first, last = unit.spec["first_row"], unit.spec["last_row"]
        vectors = read_rows(self.work, first, last, self.search.size)
        shards = range(first // self.search.size, -(-last // self.search.size))
        cells = np.concatenate([read_array(self.work, self.search.name("cells", at, "npy")) for at in shards])
        cells = cells[:, : self.overlap]
        row, place = np.nonzero((cells >= 0) & (cells < self.edges[-1]))
        group = np.searchsorted(self.edges, cells[row, place], side="right") - 1
        group, row = np.divmod(np.unique(group * (last - first) + row), last - first)
        ends = np.searchsorted(group, np.arange(len(self.edges)))
        members = (row[start:stop] for start, stop in pairwise(ends.tolist()))
        return join_blocks(_arrays_bytes(rows=first + at, cells=cells[at], vectors=vectors[at]) for at in members)


class SearchGroup:
    """Worker that searches a group of cells; it holds the members of the group."""

    def __init__(self, work: WorkFolder, search: CellSearch) -> None:
        self.work, self.search = work, search
        overlap, self.edges = _read_groups(work, search)
        spans = search.spans(MEMBERS // overlap)
        self.names = [search.name("members", span["first_row"], "bin") for span in spans]

    def __call__(self, unit: Unit) -> bytes:
        search, at = self.search, unit.spec["group"]
        rows, cells, vectors = _read_members(self.work, self.names, at)
        group = slice(int(self.edges[at]), int(self.edges[at + 1]))
        # Rows and columns keep their order, so that equal cosines go by number as in the whole search.
        if search.sides is None:
            columns = rows
            found = search_cells(vectors, None, cells, None, group, search.wanted)
        else:
            stop, start = np.searchsorted(rows, [search.rows, search.start]).tolist()
            columns, rows = rows[start:] - search.start, rows[:stop]
            both = vectors[:stop], vectors[start:], cells[:stop], cells[start:]
            shared_from = None if search.wanted.shared_from is None else start
            found = search_cells(*both, group, replace(search.wanted, shared_from=shared_from))
        found = replace(
            found, left=rows[found.left], right=columns[found.right], row=rows[found.row], column=columns[found.column]
        )
        parts = _by_rows(found, search.rows) if search.wanted.neighbours else [found]
        return join_blocks(part.to_bytes() for part in parts)


class MergeGroups:
    """Worker that merges the pairs of groups, in the units of `_merge_units`."""

    def __init__(self, work: WorkFolder, search: CellSearch) -> None:
        self.work, self.search = work, search

    def __call__(self, unit: Unit) -> bytes:
        merge = CellMerge(self.search.wanted, *unit.spec["rows"])
        for group in range(*unit.spec["groups"]):
            name = self.search.name("groups", group, "bin")
            merge.add(TilePairs.from_bytes(read_block(self.work, name, unit.spec["block"])))
        return merge.pairs().to_bytes()


def _read_groups(work: WorkFolder, search: CellSearch) -> tuple[int, Ints]:
    """Return the overlap, and the cells at which groups begin and the last one ends."""
    note = json.loads(work.read(f"{search.folder}/cells.json"))
    return int(note["overlap"]), np.array(note["edges"], np.int64)


def _read_members(work: WorkFolder, names: Sequence[str], group: int) -> tuple[Ints, Cells, Vectors]:
    found = []
    for name in names:
        with np.load(io.BytesIO(read_block(work, name, group)), allow_pickle=False) as held:
            found.append((held["rows"], held["cells"], held["vectors"]))
    rows, cells, vectors = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return rows, cells, vectors


def _by_rows(found: TilePairs, rows: int) -> Iterator[TilePairs]:
    """Yield the pairs of each range of rows."""
    order = np.argsort(found.left, kind="stable")
    edges = np.append(np.arange(0, rows, ROWS), rows)
    lefts, nearest = np.searchsorted(found.left[order], edges), np.searchsorted(found.row, edges)
    for at in range(len(edges) - 1):
        pairs, near = order[lefts[at] : lefts[at + 1]], slice(nearest[at], nearest[at + 1])
        arrays = found.left[pairs], found.right[pairs], found.cosine[pairs]
        columns = found.row[near], found.column[near], found.nearest[near]
        yield TilePairs(*arrays, *columns, found.dropped, 0 if at else found.rescored)


# ---- blocks -------------------------------------------------------------------------------------------------------


def _arrays_bytes(**arrays: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def join_blocks(blocks: Iterator[bytes] | Sequence[bytes]) -> bytes:
    """Join blocks into a part from which `read_block` reads one alone.

    The start of the first block and the end of each come first, as int64, then the blocks.
    """
    every = [*blocks]
    ends = np.cumsum([8 * (len(every) + 1), *(len(block) for block in every)]).astype("<i8")
    return b"".join([ends.tobytes(), *every])


def read_block(work: WorkFolder, name: str, at: int) -> bytes:
    """Return a block of a part of `join_blocks`."""
    start, stop = np.frombuffer(work.read(name, 8 * at, 8 * (at + 2)), "<i8").tolist()
    return work.read(name, start, stop)
