"""Remembered vectors are the same vectors, and no more of them than was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.models.caching import CachedEmbedder
from dupq.models.scorers import Progress
from tests.fakes import WordEmbedder

WORDS = ["chess", "go", "archery", "sailing", "knitting", "rowing", "fencing"]


@dataclass
class Counting(WordEmbedder):
    seen: list[str] = field(default_factory=list)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        self.seen += texts
        return super().embed(texts, progress)


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=9), max_size=12), st.integers(1, 8))
def test_any_calls_give_the_vectors_of_the_inner_embedder(calls: list[list[str]], size: int) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, size)
    for texts in calls:
        assert np.array_equal(cached.embed(texts), WordEmbedder().embed(texts))
        assert len(cached._places) <= size
        assert {cached._texts[place] for place in cached._places.values()} == {*cached._places}
    if size >= len(WORDS):
        assert len(inner.seen) == len({*inner.seen})


def test_the_oldest_is_forgotten_first(tmp_path: Path) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, 2)
    for word in ("chess", "go", "archery", "go", "chess"):
        cached.embed([word, word])
    assert inner.seen == ["chess", "go", "archery", "chess"]
    assert (cached.fingerprint, cached.form, cached.dimensions) == (inner.fingerprint, inner.form, inner.dimensions)
    told: list[tuple[int, int]] = []
    cached.embed(["chess"], lambda done, of: told.append((done, of)))
    assert told == [(1, 1)]
    cached.save(tmp_path / "network")
    assert (tmp_path / "network" / "words.json").is_file()
