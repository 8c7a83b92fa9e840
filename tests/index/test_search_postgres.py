"""Approximate search by pgvector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dupq.index import search
from dupq.index.question_index import QuestionIndex
from dupq.index.search import StoredRows
from dupq.index.stores.postgres import PostgresStore
from dupq.pipeline import DuplicatePipeline
from tests.index.stored import IDS, TEXTS

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a new index, whose planner takes the graph for a table of any size."""
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path / "cache"))
    return str(postgres_server.new_schema(options="-c enable_seqscan=off"))


@pytest.fixture
def index(url: str, pipeline: DuplicatePipeline) -> Iterator[QuestionIndex]:
    made = QuestionIndex(url, pipeline, search="approximate")
    made.add(IDS, TEXTS)
    made.build_search()
    yield made
    made.close()


def flags(index: QuestionIndex, text: str, k: int = 10) -> list[tuple[Any, float, float]]:
    return [(flag.id, flag.cosine, flag.probability) for flag in index.flag(text, k=k).flags]


def in_server(index: QuestionIndex) -> bool:
    with index._search.following() as (_, rows):
        return isinstance(rows, StoredRows)


def test_pgvector_and_sqlite_give_the_same_flags_to_the_bit(
    index: QuestionIndex, pipeline: DuplicatePipeline, tmp_path: Path
) -> None:
    with QuestionIndex(tmp_path / "forum.db", pipeline, search="exact") as exact:
        exact.add(IDS, TEXTS)
        for changed in (index, exact):
            changed.add(range(20), [TEXTS[5]] * 20)
            changed.add([IDS[1]], ["Who eats glass?"])
            changed.remove(IDS[2:40:2])
        assert in_server(index)
        assert not index._store.vectors_file.exists()
        for text in [*TEXTS[::9], TEXTS[5], "Who eats glass?"]:
            for k in (3, 25, 700):
                assert flags(index, text, k) == flags(exact, text, k)
        report = index.flag(TEXTS[5], k=3)
        assert report.stored == len(index) == len(exact)
        assert len(index._vectors._snapshot) == 0  # nothing was read into this process


def test_the_search_reads_the_graph(index: QuestionIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    store = index._store
    assert isinstance(store, PostgresStore)
    with store.reading() as view:
        model = view.model()
        assert model is not None
        query = index._require_pipeline().bi_encoder.embed([TEXTS[0]])[0]  # type: ignore[union-attr]
        nearest = store.nearest(view, model, query, 5)
        assert len(nearest) == 5
        (packed,) = view.session.packed(query[None], model)
        plan = view.session.run(
            f"EXPLAIN SELECT slot FROM vectors_{model.number} ORDER BY vector <#> ? LIMIT 5", [packed]
        )
        assert "hnsw" in str(plan)
        assert set(nearest) <= set(store.nearest(view, model, query, 2000))


def test_a_build_that_was_interrupted_is_done_again(index: QuestionIndex, postgres_server: Any) -> None:
    assert in_server(index)
    schema = index._store.schema  # type: ignore[attr-defined]
    postgres_server.run(
        f"UPDATE pg_index SET indisvalid=false WHERE indexrelid='\"{schema}\".vectors_1_hnsw'::regclass"
    )
    assert not in_server(index)
    assert len(flags(index, TEXTS[0])) == 10
    index.build_search()
    assert in_server(index)
    index.build_search()
    assert in_server(index)


def test_the_recall_is_measured_on_the_server(index: QuestionIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    report = index.measure_recall(sample=30)
    assert (report.search, report.recall_at_10, report.questions) == ("approximate", 1.0, len(TEXTS))
    assert index.stats()["recall_at_10"] == 1.0
    monkeypatch.setattr(PostgresStore, "nearest", lambda store, view, model, query, count: [1, 2, 3])
    assert index.measure_recall(sample=30).recall_at_10 < 0.5


def test_auto_counts_the_questions(url: str, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "EXACT_LIMIT", 50)
    with QuestionIndex(url, pipeline) as index:
        index.add(IDS[:40], TEXTS[:40])
        index.build_search()
        assert not in_server(index)
        index.add(IDS[:60], TEXTS[:60])
        assert in_server(index)
        index.remove(IDS[:10])
        index.compact()
        assert not in_server(index)
        assert index.stats()["search"] == "exact"
