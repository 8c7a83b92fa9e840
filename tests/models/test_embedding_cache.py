"""Remembered vectors are the same vectors, and no more of them than was said."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.models.embedding_cache import EmbeddingCache
from dupq.types import Progress
from tests.fakes import WordEmbedder

WORDS = ["chess", "go", "archery", "sailing", "knitting", "rowing", "fencing"]


@dataclass
class Counting(WordEmbedder):
    seen: list[str] = field(default_factory=list)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        self.seen += texts
        return super().embed(texts, progress)


def check_memory(cached: EmbeddingCache, size: int) -> None:
    """The cache holds no more than was allowed, and the vectors of its texts."""
    cache, _ = cached._cache.get()
    assert len(cache) == cache.currsize <= size == cache.maxsize
    for text, vector in cache.items():
        assert np.array_equal(vector, WordEmbedder().embed([text])[0])


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=9), max_size=12), st.integers(1, 8))
def test_any_calls_give_the_vectors_of_the_inner_embedder(calls: list[list[str]], size: int) -> None:
    inner = Counting()
    cached = EmbeddingCache(inner, size)
    for texts in calls:
        assert np.array_equal(cached.embed(texts), WordEmbedder().embed(texts))
        check_memory(cached, size)
    if size >= len(WORDS):
        assert len(inner.seen) == len({*inner.seen})


def test_the_text_used_longest_ago_is_forgotten_first(tmp_path: Path) -> None:
    inner = Counting()
    cached = EmbeddingCache(inner, 2)
    for word in ("chess", "go", "chess", "archery", "chess", "go"):
        cached.embed([word, word])
    assert inner.seen == ["chess", "go", "archery", "go"]
    assert (cached.fingerprint, cached.form, cached.dimensions) == (inner.fingerprint, inner.form, inner.dimensions)
    calls: list[tuple[int, int]] = []
    cached.embed(["go"], lambda done, of: calls.append((done, of)))
    assert calls == [(1, 1)]
    cached.save(tmp_path / "network")
    assert (tmp_path / "network" / "words.json").is_file()


# ---- shared ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _hasty_threads() -> Iterator[None]:
    """Threads take turns so often that a race is met in a second."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hasty_threads")
@pytest.mark.parametrize("size", [1, 7, 60, 500])
def test_threads_share_a_cache(size: int) -> None:
    texts = [f"{first} or {second} {number}" for first in WORDS for second in WORDS for number in range(3)]
    plain = dict(zip(texts, WordEmbedder().embed(texts), strict=True))
    cached = EmbeddingCache(WordEmbedder(), size)

    def ask(seed: int) -> bool:
        draw = np.random.default_rng(seed)
        asked = [[texts[row] for row in draw.integers(len(texts), size=draw.integers(1, 12))] for _ in range(40)]
        return all(np.array_equal(cached.embed(some), [plain[text] for text in some]) for some in asked)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(48)))
    check_memory(cached, size)


def _asked_in_child(cached: EmbeddingCache, answers: multiprocessing.SimpleQueue) -> None:  # type: ignore[type-arg]
    answers.put(cached.embed(WORDS))


def test_a_fork_while_the_lock_is_held_stops_nothing() -> None:
    cached = EmbeddingCache(WordEmbedder(), 4)
    cached.embed(WORDS)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with cached._cache.get()[1]:
        child = context.Process(target=_asked_in_child, args=(cached, answers), daemon=True)
        child.start()
        child.join(30)
    assert child.exitcode == 0
    assert np.array_equal(answers.get(), WordEmbedder().embed(WORDS))


def test_a_copy_has_an_empty_cache_and_is_equal() -> None:
    cached = EmbeddingCache(WordEmbedder(), 4)
    cached.embed(WORDS)
    again = deepcopy(cached)
    assert len(again._cache.get()[0]) == 0
    assert (again, hash(again)) == (cached, hash(cached))
    assert again != EmbeddingCache(WordEmbedder(fingerprint="another"), 4)
    assert np.array_equal(again.embed(WORDS), cached.embed(WORDS))


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="size must be an integer of at least 1, got 0"):
        EmbeddingCache(WordEmbedder(), 0)
