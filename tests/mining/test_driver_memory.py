"""The memory of the driver of an engine run hardly grows with the number of questions."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.engine.local import LocalEngine
from dupq.mining import checkpoint, distinct_texts, stored_questions, units
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

MAX_BYTES = 70
"""Bytes a question, of growth; a list of these texts takes 170."""


class HashEmbedder(WordEmbedder):
    """Unit vectors at random; copies have one vector."""

    def embed(self, texts: Any, progress: Any = None) -> Any:
        drawn = b"".join(hashlib.blake2b(text.casefold().encode()).digest() for text in texts)
        vectors = np.frombuffer(drawn, np.uint8).reshape(len(texts), 64).astype(np.float32) - 127.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def texts(n: int) -> Iterator[str]:
    for at in range(n):
        yield f"How do I get number {at - (at % 100 == 1):,} on the road?"


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> DuplicatePipeline:
    pipeline = DuplicatePipeline(WordScorer(), HashEmbedder()).calibrate(labelled_table())
    monkeypatch.setattr(checkpoint, "PART", 1024)
    monkeypatch.setattr(distinct_texts, "RUN", 2)
    monkeypatch.setattr(stored_questions, "BLOCK", 256)
    monkeypatch.setattr(units, "open_pipeline", lambda work: pipeline)
    return pipeline


class Unwatched(LocalEngine):
    """An engine whose units, which run elsewhere in earnest, do not count, nor what they leave in memory."""

    peak = left = 0

    def run(self, *arguments: Any) -> None:
        self.watch()
        before, _ = tracemalloc.get_traced_memory()
        super().run(*arguments)
        self.left += tracemalloc.get_traced_memory()[0] - before
        tracemalloc.reset_peak()

    def watch(self) -> None:
        self.peak = max(self.peak, tracemalloc.get_traced_memory()[1] - self.left)


def peak(pipeline: DuplicatePipeline, n: int, work: Path, *, listed: bool = False) -> int:
    """Return the peak of allocated bytes of a driver with n questions."""
    gc.collect()
    engine = Unwatched()
    tracemalloc.start()
    try:
        found = find_duplicates(
            pipeline,
            list(texts(n)) if listed else texts(n),
            ids=(f"question-{at}" for at in range(n)),
            settings=MiningSettings(min_cosine=0.9),
            engine=engine,
            work=work,
        )
        groups = found.groups()
        assert sum(1 for _ in found.rows(groups)) == len(found.copies_left) + sum(found.codes > 0) > n / 200
        assert sum(1 for _ in found.group_rows(groups)) >= 2 * len(groups) > n / 200
        engine.watch()
        return engine.peak
    finally:
        tracemalloc.stop()


def growth(pipeline: DuplicatePipeline, work: Path, **options: bool) -> float:
    """Return the bytes a question, of runs with 3,000 and 9,000."""
    peak(pipeline, 500, work / "first")  # what is loaded once
    few, many = (peak(pipeline, n, work / str(n), **options) for n in (3_000, 9_000))
    return (many - few) / 6_000


def test_a_question_takes_few_bytes_of_the_driver(hashing: DuplicatePipeline, tmp_path: Path) -> None:
    assert growth(hashing, tmp_path) < MAX_BYTES


def test_the_measure_sees_texts_that_are_held(hashing: DuplicatePipeline, tmp_path: Path) -> None:
    assert growth(hashing, tmp_path, listed=True) > 2 * MAX_BYTES
