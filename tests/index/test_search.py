"""Exact and approximate search of an index, its file of the graph, and the recall that is stated for it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.errors import InputError, MissingExtraError
from dupq.index import hnsw, search, vector_cache
from dupq.index.question_index import QuestionIndex
from dupq.index.search import wilson
from dupq.index.stores.sql import View
from dupq.pipeline import DuplicatePipeline
from tests.index.stored import IDS, TEXTS
from tests.index.test_shared import in_thread, needs_fork, needs_proc

pytest.importorskip("usearch")

Open = Callable[..., QuestionIndex]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Insert rows in one thread with a wide search: else a graph of many equal vectors may miss some of them."""
    monkeypatch.setattr(hnsw.Graphs, "build", partialmethod(hnsw.Graphs.build, threads=1))
    monkeypatch.setattr(hnsw, "EXPANSION", 1024)


@pytest.fixture
def opened(path: Path, pipeline: DuplicatePipeline) -> Iterator[Open]:
    """Opens the index with an approximate search."""
    found: list[QuestionIndex] = []

    def open_(**options: Any) -> QuestionIndex:
        found.append(QuestionIndex(path, pipeline, **({"search": "approximate"} | options)))
        return found[-1]

    yield open_
    for index in found:
        index.close()


def flags(index: QuestionIndex, text: str, k: int = 10) -> list[tuple[Any, float, float]]:
    return [(flag.id, flag.cosine, flag.probability) for flag in index.flag(text, k=k).flags]


def uses_graph(index: QuestionIndex) -> bool:
    with index._search.following() as (_, rows):
        return isinstance(rows, hnsw.ApproximateRows)


def test_both_searches_find_the_same_flags_to_the_bit(opened: Open) -> None:
    approximate, exact = opened(), opened(search="exact")
    approximate.add(IDS, TEXTS)
    approximate.build_search()
    assert uses_graph(approximate)
    assert not uses_graph(exact)
    for text in [*TEXTS[::9], "Who invented chess?"]:
        # Each flag of a small index is found, so they differ in nothing.
        assert flags(approximate, text) == flags(exact, text)
    alone = [flags(exact, text) for text in TEXTS[:40]]
    together = exact.flag_all(TEXTS[:40], k=10)
    assert alone == [[(flag.id, flag.cosine, flag.probability) for flag in report.flags] for report in together]


def test_rows_that_changed_after_the_graph_are_found_and_removed_ones_are_not(opened: Open) -> None:
    index, exact = opened(), opened(search="exact")
    index.add(IDS[:60], TEXTS[:60])
    index.build_search()
    index.add(IDS[60:], TEXTS[60:])
    index.add([IDS[1]], ["Who eats glass?"])
    index.remove(IDS[2:40:2])
    assert uses_graph(index)
    for text in [*TEXTS[::7], "Who eats glass?"]:
        assert flags(index, text, 25) == flags(exact, text, 25)
    before = index._search._graphs.file.stat().st_ino
    index.build_search()  # extends the graph
    assert index._search._graphs.file.stat().st_ino != before
    with index._search.following() as (_, rows):
        assert isinstance(rows, hnsw.ApproximateRows)
        assert rows._graph.last == IDS.__len__() + 1
        assert len(rows._graph.index) == len(index)
    for text in [*TEXTS[::7], "Who eats glass?"]:
        assert flags(index, text, 25) == flags(exact, text, 25)


def test_every_copy_is_found_even_if_the_graph_has_none_of_them(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opened()
    index.add(IDS, TEXTS)
    index.add(range(30), [TEXTS[5]] * 30)
    index.build_search()
    monkeypatch.setattr(hnsw.Graph, "candidates", lambda graph, query, count: np.arange(1, 1 + count))
    report = index.flag(TEXTS[5], k=31)
    assert {flag.id for flag in report.flags if flag.copy} == {*range(30), IDS[5]}


def test_a_neighbourhood_that_was_removed_is_searched_exactly(opened: Open) -> None:
    index, exact = opened(), opened(search="exact")
    index.add(IDS, TEXTS)
    index.add(range(80), [TEXTS[3]] * 80)
    index.build_search()
    index.remove(range(80))
    assert uses_graph(index)
    assert flags(index, TEXTS[3], 10) == flags(exact, TEXTS[3], 10)


def damaged(data: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]


@pytest.mark.parametrize(
    "fault",
    [damaged, lambda data: data[: len(data) // 2], lambda data: data[:-1], lambda data: b"", lambda data: data[:4000]],
    ids=["one bit", "half", "a byte short", "empty", "a part of the trailer"],
)
@pytest.mark.parametrize("name", ["hnsw", "vectors"])
def test_a_damaged_file_is_not_used_and_is_built_again(
    path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, fault: Callable[[bytes], bytes], name: str
) -> None:
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 7)
    with opened() as index:
        index.add(IDS, TEXTS)
        index.build_search()
        index.compact()
        index.build_search()
        expected = flags(index, TEXTS[4])
    file = path.resolve().with_name(f"forum.db.{name}")
    whole = file.read_bytes()
    file.write_bytes(fault(whole))
    index = opened()
    assert uses_graph(index) == (name == "vectors")
    assert flags(index, TEXTS[4]) == expected
    index.build_search()
    index._vectors.save(index._store)
    assert uses_graph(index)
    assert flags(index, TEXTS[4]) == expected
    if name == "vectors":
        assert file.read_bytes() == whole
    else:
        assert hnsw._read(file) is not None


def test_a_graph_of_another_epoch_or_of_another_index_is_built_again(
    path: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hnsw.Graphs, "build_beside", lambda *_: None)  # or a thread of it may come first
    index = opened()
    index.add(IDS, TEXTS)
    index.build_search()
    old = index._search._graphs.file.read_bytes()
    index.compact()
    assert not uses_graph(opened())
    index.build_search()
    assert uses_graph(index)
    index.close()
    index._search._graphs.file.write_bytes(old)
    assert not uses_graph(opened())
    other = QuestionIndex(tmp_path / "other.db", index._require_pipeline(), search="approximate")
    other.add(IDS, TEXTS)
    path.with_name("other.db.hnsw").write_bytes(old)
    assert not uses_graph(other)
    other.close()


def test_the_graph_is_built_beside_the_flags(opened: Open) -> None:
    index = opened()
    index.add(IDS, TEXTS)
    expected = flags(index, TEXTS[4])  # exact, and starts the thread
    with index._search._graphs._builds:
        pass
    for _ in range(1000):
        if index._search._graphs.file.exists():
            break
        with index._search._graphs._builds:
            os.sched_yield() if hasattr(os, "sched_yield") else None
    assert uses_graph(index)
    assert flags(index, TEXTS[4]) == expected


def test_threads_search_while_the_graph_is_built_and_rows_change(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 9)
    monkeypatch.setattr(hnsw, "NEW_ROWS", 5)
    index = opened()
    index.add(IDS[:40], TEXTS[:40])
    wrong: list[set[Any]] = []

    def searches() -> None:
        for text in TEXTS[:30]:
            found = {flag.id for flag in index.flag(text, k=1000).flags}
            if not {*IDS[:40]} <= found:
                wrong.append({*IDS[:40]} - found)

    def changes() -> None:
        for at in range(15):
            index.add([f"new{at}"], [f"Who has the number {at}?"])
            index.remove([f"new{at - 2}"])
            if at % 5 == 4:
                index.build_search()
            if at == 7:
                index.compact()

    running = [in_thread(searches), in_thread(searches), in_thread(changes)]
    for thread, raised in running:
        thread.join(120)
        assert not thread.is_alive()
        assert raised == []
    assert wrong == []
    index.build_search()
    assert uses_graph(index)
    assert {flag.id for flag in index.flag(TEXTS[0], k=1000).flags} == {*IDS[:40], "new13", "new14"}


@needs_fork
def test_a_forked_child_searches_with_the_graph_too(opened: Open) -> None:
    index = opened()
    index.add(IDS, TEXTS)
    index.build_search()
    expected = flags(index, TEXTS[4])
    if (process := os.fork()) == 0:
        code = 7
        try:
            code = 0 if flags(index, TEXTS[4]) == expected and uses_graph(index) else 6
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert flags(index, TEXTS[4]) == expected


def test_another_process_reads_the_file_and_only_later_rows_from_the_store(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 50)
    first = opened(search="exact")
    first.add(IDS[:100], TEXTS[:100])
    expected = flags(first, TEXTS[4])
    read: list[int] = []
    true = View.vectors_after

    def counted(view: View, model: Any, slot: int) -> Any:
        for slots, rows in true(view, model, slot):
            read.extend(slots.tolist())
            yield slots, rows

    monkeypatch.setattr(View, "vectors_after", counted)
    assert flags(opened(search="exact"), TEXTS[4]) == expected
    assert read == []
    first.add(IDS[100:], TEXTS[100:])
    second = opened(search="exact")
    assert len(second.flag(TEXTS[4], k=500).flags) == len(TEXTS)
    assert read == [*range(101, len(TEXTS) + 1)]


# ---- the choice ---------------------------------------------------------------------------------------------------


def test_auto_is_exact_up_to_the_limit(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opened(search="auto")
    index.add(IDS, TEXTS)
    monkeypatch.setattr(search, "EXACT_LIMIT", len(TEXTS))
    index.build_search()
    assert not uses_graph(index)
    assert index.stats()["search"] == "exact"
    monkeypatch.setattr(search, "EXACT_LIMIT", len(TEXTS) - 1)
    assert uses_graph(index)
    assert index.stats()["search"] == "approximate"


def test_without_usearch_auto_is_exact_with_a_warning_and_approximate_is_refused(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = opened(search="auto")
    index.add(IDS, TEXTS)
    monkeypatch.setattr(search, "EXACT_LIMIT", 3)
    monkeypatch.setattr(search, "has_usearch", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert not uses_graph(index)
        assert not uses_graph(index)
    assert [record.getMessage() for record in caplog.records] == [
        f"the search of {len(TEXTS)} questions is exact and slow; install dupq[large] for an approximate one"
    ]

    def missing(extra: str, what: str) -> None:
        raise MissingExtraError(f"{what} needs {extra}")

    monkeypatch.setattr(search, "require_extra", missing)
    with pytest.raises(MissingExtraError, match="large"):
        opened(search="approximate")
    with pytest.raises(InputError, match="search must be one of auto, exact, approximate, got 'fast'"):
        opened(search="fast")


# ---- recall -------------------------------------------------------------------------------------------------------


def test_the_recall_is_measured_stored_and_shown(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opened()
    index.add(IDS, TEXTS)
    index.build_search()
    assert index.stats()["recall_at_10"] is None
    report = index.measure_recall(sample=50)
    assert (report.search, report.sample, report.questions) == ("approximate", 50, len(TEXTS))
    assert report.recall_at_10 == 1.0
    true_candidates = hnsw.Graph.candidates
    # A graph that knows one half of the rows finds less than all, and the measure shows it.
    monkeypatch.setattr(
        hnsw.Graph, "candidates", lambda graph, query, count: np.unique(true_candidates(graph, query, 1000) // 2 * 2)
    )
    worse = index.measure_recall(sample=50, seed=1)
    assert 0.1 < worse.recall_at_10 < 0.9
    assert worse.interval[0] < worse.recall_at_10 < worse.interval[1]
    index.add(["later"], ["Who eats glass?"])
    shown = opened().stats()
    assert shown["recall_at_10"] == worse.recall_at_10
    assert shown["recall_interval"] == [*worse.interval]
    assert shown["recall_measured_at"] == len(TEXTS)
    assert index.stats()["vectors_memory_bytes"] > len(TEXTS) * 3 * index.stats()["dimensions"]


def test_the_recall_of_an_exact_search_is_one_and_bad_samples_are_refused(opened: Open) -> None:
    index = opened(search="exact")
    with pytest.raises(InputError, match="at least 2 questions, got 0"):
        index.measure_recall()
    index.add(IDS, TEXTS)
    assert index.measure_recall().recall_at_10 == 1.0
    assert index.stats()["recall_at_10"] is None
    with pytest.raises(InputError, match="sample"):
        index.measure_recall(sample=0)


@pytest.mark.parametrize(
    ("share", "trials", "low", "high"), [(1.0, 200, 0.9812, 1.0), (0.5, 100, 0.4038, 0.5962), (0.9, 0, 0.0, 1.0)]
)
def test_the_interval_is_that_of_wilson(share: float, trials: int, low: float, high: float) -> None:
    assert wilson(share, trials) == pytest.approx((low, high), abs=1e-4)


# ---- memory -------------------------------------------------------------------------------------------------------

FILL = """
    import numpy as np, sys
    from pathlib import Path
    from dupq.index.stores import open_store
    from dupq.index.stores.base import NewQuestion
    store, n, d = open_store(sys.argv[1]), int(sys.argv[2]), 192
    model = store.write(lambda t: t.add_model("f", d, "float16"))
    store.write(lambda t: t.use_model(model))
    draw = np.random.default_rng(0)
    def put(first):
        def action(t):
            rows = [NewQuestion(at, f"question {at}") for at in range(first, first + 10_000)]
            vectors = draw.standard_normal((len(rows), d)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            t.put(rows, {model.number: dict(zip([row.text for row in rows], vectors))})
        return action
    for first in range(0, n, 10_000):
        store.write(put(first))
    store.close()
"""
SEARCH = """
    import numpy as np, resource, sys
    from pathlib import Path
    from dupq.index.stores import open_store
    from dupq.index.vector_cache import VectorCache
    def anonymous():
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    store = open_store(sys.argv[1])
    cache, before, start = VectorCache(store.vectors_file), anonymous(), peak()
    for _ in range(2):
        with cache.following(store) as (_, snapshot):
            queries = np.stack([*snapshot.vectors(range(1, 65)).values()])
            found = snapshot.search(queries, 10)
            right = [int(slots[0]) for slots, _ in found] == [*range(1, 65)]
            print(right, anonymous() - before, peak() - start, snapshot.memory_bytes / 2**20, len(snapshot))
"""


@pytest.mark.slow
@needs_proc
def test_a_process_holds_no_copy_of_the_vectors(tmp_path: Path) -> None:
    n, file = 300_000, str(tmp_path / "forum.db")

    def run(code: str) -> list[list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), file, str(n)], check=True, capture_output=True, text=True
        )
        return [line.split() for line in done.stdout.splitlines()]

    run(FILL)
    for _ in range(2):  # the first process writes the file, the second one reads it
        for right, anonymous, peak, mapped, count in run(SEARCH):
            assert (right, int(count)) == ("True", n)
            # 300,000 vectors are 165 MB in float32: they are in the mapped file only, whose pages the system may drop.
            assert float(anonymous) < 60
            assert float(mapped) == pytest.approx(n * (192 * 3 + 16) / 2**20, rel=0.01)
            assert float(peak) < float(mapped) + 100
