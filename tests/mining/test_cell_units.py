"""Search by cells as units: the result of one process to the last bit, whatever is lost in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.engine.base import Task
from dupq.engine.local import LocalEngine
from dupq.engine.unit_queue import ATTEMPTS
from dupq.errors import InputError
from dupq.mining import cell_units
from dupq.mining.candidates import shared_from
from dupq.mining.cell_units import CellSearch, join_blocks, read_block, search_by_cells
from dupq.mining.units import array_bytes
from dupq.search import cells
from dupq.search.cells import cell_pairs
from dupq.search.exact import similar_pairs
from dupq.search.pairs import SimilarPairs
from dupq.search.tiles import WantedPairs
from tests.search.test_cells import found, with_ties
from tests.search.vectors import clustered

SIZE = 8
STAGES = ("sample", "centroids", "true", "cells", "members", "groups", "merged")


class Parts(dict[str, bytes]):
    """A work folder in memory."""

    def names(self, folder: str = "") -> set[str]:
        return {name for name in self if name.startswith(f"{folder}/")}

    def exists(self, name: str) -> bool:
        return name in self

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        return self[name][start:stop]

    def write(self, name: str, data: bytes) -> None:
        self[name] = data

    def finished(self) -> dict[str, bytes]:
        return {name: data for name, data in self.items() if not name.startswith(f"{ATTEMPTS}/")}


class Engine:
    """An engine that notes the units that it ran, and stops after a number of them."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.ran: list[str] = []
        self.left = stop_after

    def run(self, task: Task, units: Any, work: Any, progress: Any = None) -> None:
        missing = [unit for unit in units if not work.exists(unit.name)]
        now = missing[: self.left]
        self.left -= len(now)
        LocalEngine().run(task, now, work, progress)
        self.ran += [unit.name for unit in now]
        if len(now) < len(missing):
            raise KeyboardInterrupt

    def close(self) -> None:
        pass


def parts_of(vectors: NDArray[np.float32]) -> Parts:
    shards = range(-(-len(vectors) // SIZE))
    return Parts({f"vectors/{at:05}.npy": array_bytes(vectors[SIZE * at : SIZE * at + SIZE]) for at in shards})


@pytest.fixture(autouse=True)
def _small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_units, "ROWS", 20)
    monkeypatch.setattr(cell_units, "MEMBERS", 100)
    monkeypatch.setattr(cell_units, "GROUPS", 2)
    monkeypatch.setattr(cells, "GROUP_ROWS", 60)


def in_this_process(vectors: NDArray[np.float32], search: CellSearch) -> SimilarPairs:
    wanted, (start, stop) = search.wanted, search.sides or (0, len(vectors))
    return cell_pairs(
        vectors[:stop],
        None if wanted.one else vectors[start:],
        threshold=wanted.threshold,
        neighbours=wanted.neighbours,
        every_from=wanted.every_from,
        max_pairs=wanted.max_pairs,
        shared_from=wanted.shared_from,
        cells=search.cells,
        overlap=search.overlap,
        target=search.target,
        sample=search.sample,
        seed=search.seed,
    )


def outcome(search: Callable[[], SimilarPairs]) -> SimilarPairs | str:
    """The result of a search, or its error."""
    try:
        return search()
    except InputError as error:
        return str(error)


def assert_same(one: SimilarPairs, other: SimilarPairs) -> None:
    for name in ("left", "right", "cosine"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert one.search_guarantee == other.search_guarantee


@st.composite
def searches(draw: st.DrawFn) -> tuple[NDArray[np.float32], CellSearch]:
    n, seed = draw(st.integers(1, 70)), draw(st.integers(0, 10**6))
    vectors = with_ties(n, seed) if draw(st.booleans()) else clustered(n, 8, seed)
    sides = None
    if draw(st.booleans()):
        start = draw(st.integers(0, n))
        sides = (start, draw(st.integers(start, n)))
    neighbours, most = draw(st.integers(0, 4)), draw(st.sampled_from([3, 20, 10**6]))
    wanted = WantedPairs(
        draw(st.floats(0.05, 1)),
        neighbours,
        0.8 if neighbours else 1.0,
        most,
        one=sides is None,
        shared_from=shared_from(sides),
    )
    count, overlap = draw(st.none() | st.integers(1, 12)), draw(st.none() | st.integers(1, 12))
    sample = draw(st.sampled_from([1, 9, 1000]))
    return vectors, CellSearch("run-0", n, sides, wanted, SIZE, count, overlap, 1e-9, sample, seed)


@given(searches(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_units_give_the_result_of_one_process_also_where_parts_are_lost(
    drawn: tuple[NDArray[np.float32], CellSearch], choice: random.Random
) -> None:
    vectors, search = drawn
    work, told = parts_of(vectors), list[tuple[int, int]]()
    expected = outcome(lambda: in_this_process(vectors, search))
    result = outcome(lambda: search_by_cells(Engine(), work, search, lambda *at: told.append(at)))  # type: ignore[arg-type]
    if isinstance(expected, str) or isinstance(result, str):  # the recall is 0
        assert result == expected
        return
    assert_same(result, expected)
    assert [*told] == sorted(told)
    assert told[-1] == (100, 100)
    before = work.finished()
    made = sorted(name for name in before if name.startswith("run-0/"))
    lost = choice.sample(made, choice.randint(0, len(made)))
    for name in lost:
        del work[name]
    engine = Engine()
    assert_same(search_by_cells(engine, work, search), expected)  # type: ignore[arg-type]
    assert sorted(engine.ran) == sorted(name for name in lost if not name.endswith("cells.json"))
    assert work.finished() == before


@given(searches())
@settings(deadline=None, max_examples=40)
def test_with_every_cell_it_finds_what_the_exact_search_finds(drawn: tuple[NDArray[np.float32], CellSearch]) -> None:
    vectors, search = drawn
    wanted, (start, stop) = search.wanted, search.sides or (0, len(vectors))
    search = CellSearch("run-0", len(vectors), search.sides, wanted, SIZE, 10, 10)
    exact = similar_pairs(
        vectors[:stop],
        None if wanted.one else vectors[start:],
        threshold=wanted.threshold,
        neighbours=wanted.neighbours,
        every_from=wanted.every_from,
        max_pairs=wanted.max_pairs,
        shared_from=wanted.shared_from,
    )
    assert found(search_by_cells(Engine(), parts_of(vectors), search)) == found(exact)  # type: ignore[arg-type]


@pytest.mark.parametrize("neighbours", [0, 3])
def test_it_goes_on_after_a_kill_in_any_stage(neighbours: int) -> None:
    vectors = clustered(80, 8, seed=2)
    wanted = WantedPairs(0.3, neighbours, 0.8 if neighbours else 1.0, 10**6, one=True)
    search = CellSearch("run-0", 80, None, wanted, SIZE, 9, 4, 0.3)
    whole, first = parts_of(vectors), Engine()
    expected = search_by_cells(first, whole, search)  # type: ignore[arg-type]
    stages = [name.split("/")[1].partition(".")[0] for name in first.ran]
    assert [*dict.fromkeys(stages)] == [*STAGES]
    assert all(stages.count(stage) > 2 for stage in STAGES if stage not in ("centroids", "merged"))
    for stop in range(0, len(first.ran), 3):
        work, killed, again = parts_of(vectors), Engine(stop), Engine()
        with pytest.raises(KeyboardInterrupt):
            search_by_cells(killed, work, search)  # type: ignore[arg-type]
        assert_same(search_by_cells(again, work, search), expected)  # type: ignore[arg-type]
        assert killed.ran + again.ran == first.ran
        assert work.finished() == whole.finished()


def test_a_recall_below_the_target_is_refused_before_the_search() -> None:
    vectors = clustered(400, 16, seed=1)
    wanted = WantedPairs(0.6, 0, 1.0, 10**6, one=True)
    search, engine = CellSearch("run-0", 400, None, wanted, SIZE, 60, 1), Engine()
    with pytest.raises(InputError, match=r"recall .* must be at least 0.99, got 0\.\d{4} .* K = 60 .* m = 1") as error:
        search_by_cells(engine, parts_of(vectors), search)  # type: ignore[arg-type]
    assert "approximate_above" in str(error.value.hint)
    assert not any("/members/" in name or "/groups/" in name for name in engine.ran)


def test_a_unit_reads_the_vectors_of_its_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(400, 8, seed=3)
    held: list[int] = []
    search_cells = cells.search_cells

    def counting(rows: Any, *arguments: Any, **options: Any) -> Any:
        held.append(len(rows))
        return search_cells(rows, *arguments, **options)

    monkeypatch.setattr(cell_units, "search_cells", counting)
    wanted = WantedPairs(0.5, 2, 0.8, 10**6, one=True)
    search_by_cells(Engine(), parts_of(vectors), CellSearch("run-0", 400, None, wanted, SIZE, 60, 2, 0.1))  # type: ignore[arg-type]
    assert len(held) > 10
    assert max(held) <= 60


def test_a_block_is_read_alone() -> None:
    work = Parts({"a/b.bin": join_blocks([b"one", b"", b"three"])})
    assert [read_block(work, "a/b.bin", at) for at in range(3)] == [b"one", b"", b"three"]  # type: ignore[arg-type]
