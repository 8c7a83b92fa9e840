"""Questions for an index of any size: the project's own, and recombinations of two of them.

A recombined text is the first half of one question and the second half of another one of the same world. Its vector is
not that of the network: it is the mean of the two questions' vectors with a little noise, of unit length, so that a
million of them take seconds. Queries are held-out paraphrases, one of each cluster, and are embedded by the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_scripts.clusters import read_clusters
from dupq.data.text import duplicate_key, duplicate_key_hash
from dupq.data.writing import written_beside
from dupq.decisions.decider import embedder_of
from dupq.models.batching import chunks
from dupq.pipeline import DuplicatePipeline

SEED = 0
NOISE = 0.2
"""Length of the noise, beside a mean vector of unit length."""
BLOCK = 4096
"""Rows whose noise is drawn together."""
DRAWS = 65_536
"""Recombinations drawn together, so that a smaller corpus is the beginning of a larger one."""

MIN_YIELD = 0.02
"""Share of the draws that must be new, below which the recombinations are exhausted."""


@dataclass(frozen=True)
class Corpus:
    """n questions, all distinct up to case, space and punctuation.

    Attributes:
        real: The first questions of the corpus, (r,).
        vectors: Their vectors, float32 (r, d).
        sources: Places of the two real questions that each later question is made of, int32 (n - r, 2).
        queries: Held-out questions, in random order.
        fingerprint: Of the bi-encoder.
    """

    real: Sequence[str]
    vectors: NDArray[np.float32]
    sources: NDArray[np.int32]
    queries: Sequence[str]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.real) + len(self.sources)

    def texts(self, start: int, stop: int) -> list[str]:
        """Return the questions from `start` to `stop`."""
        r = len(self.real)
        pairs = self.sources[max(start - r, 0) : max(stop - r, 0)].tolist()
        return [*self.real[start:stop], *(recombined(self.real[a], self.real[b]) for a, b in pairs)]

    def embedded(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the vectors of these questions, float32 (stop - start, d), rows of unit length."""
        r = len(self.real)
        parts = [self.vectors[start:stop]]
        first, last = max(start - r, 0), max(stop - r, 0)
        for block in range(first // BLOCK, -(-last // BLOCK)):
            pairs = self.sources[block * BLOCK : (block + 1) * BLOCK]
            noise = np.random.default_rng([SEED, block]).standard_normal((len(pairs), self.vectors.shape[1]))
            rows = _unit(self.vectors[pairs[:, 0]] + self.vectors[pairs[:, 1]]) + NOISE * _unit(noise)
            parts.append(_unit(rows)[max(first - block * BLOCK, 0) : last - block * BLOCK])
        return np.concatenate(parts).astype(np.float32)


def recombined(first: str, second: str) -> str:
    """Return the first half of the words of one text and the second half of those of another."""
    one, other = first.split(), second.split()
    return " ".join(one[: (len(one) + 1) // 2] + other[len(other) // 2 :])


def made(scratch: Path, size: int, model: str | None = None, clusters: int | None = None) -> Corpus:
    """Return a corpus of `size` questions; what is not in `scratch` yet is computed.

    Args:
        scratch: A folder that keeps vectors and sources.
        size: Number of questions.
        model: A pipeline with a bi-encoder; None: the shipped one.
        clusters: Number of clusters of the worlds, fewer for a quick run; None: all.
    """
    groups = read_clusters("worlds_train")
    groups = groups if clusters is None else groups[:: -(-len(groups) // clusters)]
    queries = [group["s"][-1] for group in groups]
    world_of: dict[str, str] = {}
    keys = {duplicate_key(text) for text in queries}
    for group in groups:
        for text in (*group["s"][:-1], *(near_miss for _, near_miss in group["d"])):
            if (key := duplicate_key(text)) not in keys:
                keys.add(key)
                world_of[text] = group["w"]
    draw, texts = np.random.default_rng(SEED), [*world_of]
    real = [texts[at] for at in draw.permutation(len(texts)).tolist()]
    queries = [queries[at] for at in draw.permutation(len(queries)).tolist()]
    scratch.mkdir(parents=True, exist_ok=True)
    name = f"{model or 'shipped'}-{len(real)}".replace("/", "_")
    vectors, fingerprint = _vectors(scratch, name, real, model)
    sources = _sources(scratch, name, real, [world_of[text] for text in real], size)
    return Corpus(real[:size], vectors[:size], sources[: max(size - len(real), 0)], queries, fingerprint)


def _vectors(scratch: Path, name: str, texts: Sequence[str], model: str | None) -> tuple[NDArray[np.float32], str]:
    path, note = scratch / f"real-{name}.npy", scratch / f"real-{name}.txt"
    if not note.exists():
        embedder = embedder_of(DuplicatePipeline.from_pretrained(model))
        _save(path, embedder.embed(list(texts)))
        note.write_text(embedder.fingerprint, encoding="utf-8")
    return np.load(path, mmap_mode="r"), note.read_text(encoding="utf-8")


def _sources(scratch: Path, name: str, real: Sequence[str], worlds: Sequence[str], size: int) -> NDArray[np.int32]:
    """Return the sources of at least `size - len(real)` distinct texts.

    Raises:
        ValueError: There are fewer.
    """
    path, wanted = scratch / f"sources-{name}-{size}.npy", max(size - len(real), 0)
    if path.exists():
        return np.load(path, mmap_mode="r")
    members: dict[str, list[int]] = {}
    for at, world in enumerate(worlds):
        members.setdefault(world, []).append(at)
    beside = [np.array(members[world], np.int32) for world in worlds]
    seen = {duplicate_key_hash(text) for text in real}
    draw, found = np.random.default_rng(SEED), []
    new = DRAWS
    while len(found) < wanted and new > MIN_YIELD * DRAWS:
        new = -len(found)
        first, share = draw.integers(len(real), size=DRAWS).tolist(), draw.random(DRAWS).tolist()
        for a, u in zip(first, share, strict=True):
            b = int(beside[a][int(u * len(beside[a]))])
            key = duplicate_key_hash(recombined(real[a], real[b]))
            if key not in seen:
                seen.add(key)
                found.append((a, b))
                if len(found) == wanted:
                    break
        new += len(found)
    if len(found) < wanted:
        raise ValueError(f"only {len(found):,} recombinations of {len(real):,} questions are distinct, not {wanted:,}")
    rows = np.array(found[:wanted], np.int32).reshape(-1, 2)
    _save(path, rows)
    return rows


def _save(path: Path, rows: NDArray[Any]) -> None:
    with written_beside(path) as beside, beside.open("wb") as stream:
        np.save(stream, rows)


def _unit(rows: NDArray[Any]) -> NDArray[Any]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def parts(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """Return the range from `start` to `stop` in ranges of at most `size`."""
    return [(start + part.start, start + part.stop) for part in chunks(stop - start, size)]
