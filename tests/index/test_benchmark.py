"""The figures of `benchmarks.index`: that they count what they state, and that a run goes on where it stopped."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.index import __main__ as benchmark
from benchmarks.index import clients, corpus, crash, tables
from benchmarks.index.places import LeftOutError, SqlitePlace
from dupq.data.text import duplicate_key
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder


def words_only(patched: pytest.MonkeyPatch) -> None:
    """Embed by counting words, in place of the shipped network."""
    opened = DuplicatePipeline(bi_encoder=WordEmbedder())
    patched.setattr(DuplicatePipeline, "from_pretrained", lambda *_, **__: opened)


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do without the shipped network."""
    words_only(monkeypatch)


# ---- the corpus -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def made(scratch: Path) -> corpus.Corpus:
    """A corpus of 6,000 questions."""
    with pytest.MonkeyPatch.context() as patched:
        words_only(patched)
        return corpus.made(scratch, 6000, clusters=200)


def test_all_texts_are_distinct_and_no_query_is_among_them(scratch: Path, made: corpus.Corpus) -> None:
    texts = made.texts(0, len(made))
    assert len(made.real) < len(texts) == 6000
    keys = {duplicate_key(text) for text in texts}
    assert len(keys) == 6000
    assert not keys & {duplicate_key(text) for text in made.queries}
    with pytest.raises(ValueError, match="are distinct"):
        corpus.made(scratch, 10**6, clusters=20)


@given(st.integers(0, 6000), st.integers(0, 6000))
def test_a_range_of_the_corpus_does_not_depend_on_its_borders(made: corpus.Corpus, one: int, other: int) -> None:
    start, stop = sorted((one, other))
    rows = made.embedded(start, stop)
    assert len(made.texts(start, stop)) == len(rows) == stop - start
    middle = (start + stop) // 2
    assert np.array_equal(np.concatenate([made.embedded(start, middle), made.embedded(middle, stop)]), rows)
    assert made.texts(start, middle) + made.texts(middle, stop) == made.texts(start, stop)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(scratch: Path, made: corpus.Corpus) -> None:
    small, large = corpus.made(scratch, 2000, clusters=200), made
    assert small.texts(0, 2000) == large.texts(0, 2000)
    assert np.array_equal(small.embedded(0, 2000), large.embedded(0, 2000))
    pair = large.sources[-1]
    mean = large.vectors[pair[0]] + large.vectors[pair[1]]
    # By chance, two vectors of the corpus have a far smaller cosine.
    assert float(large.embedded(5999, 6000)[0] @ mean / np.linalg.norm(mean)) > 0.95


@given(st.integers(200, 2_000_000))
def test_measured_adds_end_at_the_size(size: int) -> None:
    adds = clients.measured_adds(size)
    assert adds[0].start >= 0
    assert adds[-1].stop == size
    assert [part.stop for part in adds[:-1]] == [part.start for part in adds[1:]]
    assert all(part.stop - part.start >= part.threads * part.processes for part in adds)


# ---- killed writers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*crash.KINDS])
def test_killed_writers_lose_nothing(kind: str, tmp_path: Path) -> None:
    found = crash.run(SqlitePlace(tmp_path), kind, 3)
    assert found["kills"] == 3
    assert found["acknowledged"] > 0
    assert (found["lost"], found["torn"], found["damaged"]) == (0, 0, 0)


def test_a_lost_and_a_torn_question_are_counted(tmp_path: Path) -> None:
    kind = crash.Adds(str(tmp_path / "forum.db"))
    with QuestionIndex(kind.where, crash.pipeline()) as index:
        index.add(["7-0", "7-1"], [crash.text_of("7-0"), "Another text"])
    assert kind.check(7, [1, 2]) == (2, 0, 1)
    assert kind.check(7, [5]) == (5, 3, 1)


def test_a_lost_and_a_torn_verdict_are_counted(tmp_path: Path) -> None:
    kind = crash.Verdicts(str(tmp_path / "forum.db"))
    kind.prepare()
    with QuestionIndex(kind.where, crash.pipeline()) as index:
        for at in range(4):
            one, other, answer, by, note = kind.expected(3, at)
            index.verdict(one, other, "distinct" if at == 0 else answer, by=by, note=note)
    assert kind.check(3, [4]) == (4, 0, 1)
    assert kind.check(3, [6]) == (6, 2, 1)


def test_a_lost_and_a_torn_vector_are_counted(tmp_path: Path) -> None:
    kind = crash.Reembedding(str(tmp_path / "forum.db"))
    kind.prepare()
    with QuestionIndex(kind.where) as index:

        def put(transaction: Any) -> None:
            model = transaction.add_model("successor", 64, "float16")
            slots = [row.slot for row, _ in transaction.rows(limit=3)]
            texts = [transaction.questions([slot])[slot].text for slot in slots]
            rows = crash.Hashed("successor").embed(texts)
            rows[1] = rows[0]
            transaction.put_vectors(model, slots, rows)

        index._store.write(put)
    assert kind.check(0, [3]) == (3, 0, 1)
    assert kind.check(0, [256]) == (253, 253, 1)
    assert not kind.finished


# ---- a run ----------------------------------------------------------------------------------------------------------


def options(tmp_path: Path, **others: Any) -> argparse.Namespace:
    defaults = {
        "scratch": tmp_path,
        "output": tmp_path / "index.json",
        "stores": ["sqlite"],
        "sizes": [300],
        "only": None,
        "leave_out": None,
        "flags": 4,
        "kills": 1,
        "model": None,
        "clusters": 200,
    }
    return argparse.Namespace(**{**defaults, **others})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make few questions more than are stored, and restore the variable that a benchmark sets."""
    monkeypatch.setattr(benchmark, "EXTRA", 500)
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path))


def test_a_later_run_measures_what_is_missing(tmp_path: Path) -> None:
    calls: list[str] = []

    def figure(name: str) -> dict[str, Any]:
        calls.append(name)
        if name == "nowhere":
            raise LeftOutError("no such place")
        return {"value": name}

    for _ in range(2):
        run = benchmark.Benchmark(options(tmp_path, leave_out=[["sqlite/300/slow", "it takes hours"]]))
        held = run.report["stores"].setdefault("sqlite", {"sizes": {}})
        for name in ("quick", "nowhere", "slow"):
            run.measure(held, name, f"sqlite/300/{name}", lambda name=name: figure(name))
    # What was left out is tried again; what was measured is not.
    assert calls == ["quick", "nowhere", "nowhere"]
    stored = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["stores"]["sqlite"]
    assert stored["quick"]["value"] == "quick"
    assert stored["nowhere"] == {"left_out": "no such place"}
    assert stored["slow"] == {"left_out": "it takes hours"}
    # Results of another corpus are not those of this one.
    assert benchmark.Benchmark(options(tmp_path, clusters=100)).report["stores"] == {}


def test_sizes_on_disk_and_crashes_of_a_small_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(base: dict[str, Any], start: int, stop: int) -> None:
        made = corpus.made(tmp_path, base["size"], clusters=base["clusters"])
        with QuestionIndex(base["where"], DuplicatePipeline.from_pretrained()) as index:
            index.add(range(start, stop), made.texts(start, stop))

    monkeypatch.setattr(clients, "fill", fill)
    for sizes in ([300, 500], [400]):  # the second run needs a smaller index than the first one has left
        benchmark.Benchmark(options(tmp_path, sizes=sizes, only=["disk", "crash_adds"])).run()
    results = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    rows = results["stores"]["sqlite"]["sizes"]
    assert [*rows] == ["300", "500", "400"]
    assert 0 < rows["300"]["disk"]["database_bytes"] < rows["500"]["disk"]["database_bytes"]
    assert results["stores"]["sqlite"]["crash_adds"]["kills"] == 1
    assert benchmark.count(str(tmp_path / "main.db")) == 400
    assert benchmark.count(str(tmp_path / "none.db")) == 0


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_has_a_row_for_each_store_and_size_and_the_reasons() -> None:
    latency = {"p50_ms": 12.4, "p99_ms": 33.6, "count": 10}
    flag = {
        **dict.fromkeys(("1", "8_threads", "8_processes"), latency),
        "shares": {"network_ms": 3.0, "scoring_ms": 7.0, "search_ms": 2.4},
        "memory": {"before_mb": 100.0, "anonymous_mb": 120.0, "peak_mb": 2000.4},
    }
    kinds = ("given_1", "given_8_threads", "given_8_processes", "network_1", "network_8_threads")
    figures = {
        "add": {kind: {"per_second": 1234.5 + at} for at, kind in enumerate(kinds)},
        "flag": flag,
        "disk": {"database_bytes": 3 * 2**20, "log_bytes": 2**20, "vectors_bytes": 2**21, "vectors_memory_bytes": 1},
        "approximate": {
            **flag,
            "build_s": 61.2,
            "recall_at_10": 0.987,
            "own_questions": {"recall_at_10": 0.991, "interval": [0.98, 0.995]},
        },
    }
    work = {"idle": latency, "busy": {**latency, "p99_ms": 40.0}, "per_second": 222.0}
    crashed = {"kills": 200, "acknowledged": 54_321, "lost": 0, "torn": 0, "damaged": 0}
    results = {
        "stores": {
            "sqlite": {
                "sizes": {"1000000": {**figures, "approximate": {"left_out": "too long"}}, "2000": figures},
                "busy": {"questions": 2000, "add": work},
                "crash_adds": crashed,
            },
            "postgres": {"sizes": {}, "left_out": "no PostgreSQL"},
        }
    }
    assert "| SQLite | 2,000 | 1,234 | 1,236 | 1,236 | 1,238 | 1,238 |" in tables.adds(results)
    rows = tables.flags(results).splitlines()
    assert [row.split(" | ")[1:3] for row in rows if "SQLite |" in row] == [
        ["2,000", "exact"],
        ["1,000,000", "exact"],
        ["2,000", "approximate"],
    ]
    assert "| 12 / 34 | 12 / 34 | 12 / 34 | 3.0 | 2.4 | 7.0 |" in rows[2]
    recalls = tables.recalls(results)
    assert "| SQLite | 2,000 | 0.987 | 0.991 (0.980-0.995) | 61 s |" in recalls
    assert "SQLite, 1,000,000: left out; too long." in recalls
    assert "PostgreSQL: left out; no PostgreSQL." in recalls
    assert "| SQLite | 1,000,000 | 100 | 2,000 | 120 | - | - | 4 | 2 |" in tables.sizes(results)
    assert "| SQLite | adds | 222 | 12 / 34 | 12 / 40 |" in tables.busy(results)
    assert "| SQLite | adds | 200 | 54,321 | 0 | 0 | 0 |" in tables.crashes(results)
    for table in (tables.adds, tables.flags, tables.recalls, tables.sizes, tables.busy, tables.crashes):
        assert table({}) == tables.NOT_MEASURED


# ---- the whole, with the shipped model ------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_figure_of_a_small_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the shipped network is used, by the clients too
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path))
    benchmark.Benchmark(options(tmp_path, sizes=[400], flags=8)).run()
    held = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["stores"]["sqlite"]
    for figures in (*held["sizes"].values(), held):
        assert not [name for name, figure in figures.items() if isinstance(figure, dict) and "left_out" in figure]
    for figures in held["sizes"].values():
        assert all(add["per_second"] > 0 for name, add in figures["add"].items() if name != "took_s")
        assert figures["flag"]["8_threads"]["count"] == 8
        # So few questions are searched by a graph with nearly no loss.
        assert figures["approximate"]["recall_at_10"] > 0.9
    assert held["busy"]["reembed"]["per_second"] > 0
