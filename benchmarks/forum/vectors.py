"""Embeds the corpus once, by the pipeline's bi-encoder, and notes how long each prefix of it took.

    python -m benchmarks.forum vectors --data FILE --scratch DIR [--model DIR]

An interrupted run goes on where it stopped. The other parts read these vectors, and make them first if they are not
there.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.forum.corpus import Corpus
from dupq.data.writing import write_json
from dupq.decisions.decider import embedder_of
from dupq.models.batching import chunks
from dupq.pipeline import DuplicatePipeline

PART = 8192


@dataclass(frozen=True)
class Vectors:
    """The vectors of a corpus, in its order.

    Attributes:
        path: Raw float32 rows.
        dimensions: Numbers a row.
        rows, seconds: After so many questions, the seconds that embedding had taken.
    """

    path: Path
    dimensions: int
    rows: list[int]
    seconds: list[float]

    def read(self, n: int) -> NDArray[np.float32]:
        """The first n rows."""
        return np.fromfile(self.path, np.float32, n * self.dimensions).reshape(n, -1)

    def seconds_for(self, n: int) -> float:
        """How long embedding the first n questions took."""
        return float(np.interp(n, [0, *self.rows], [0.0, *self.seconds]))


def made(corpus: Corpus, model: str | None, scratch: Path) -> Vectors:
    """The vectors of the corpus; those that are not in `scratch` yet are computed."""
    embedder = embedder_of(DuplicatePipeline.from_pretrained(model))
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / f"vectors-{embedder.fingerprint}.f32"
    note = path.with_suffix(".json")
    held: dict[str, Any] = {"rows": [], "seconds": []}
    if note.exists():
        held = json.loads(note.read_text(encoding="utf-8"))
    n, width = len(corpus.texts), 4 * embedder.dimensions
    if held["rows"][-1:] == [n]:
        return Vectors(path, embedder.dimensions, held["rows"], held["seconds"])
    embedder.embed(corpus.texts[:64])
    for part in chunks(n, PART):
        if held["rows"] and held["rows"][-1] >= part.stop:
            continue
        start = time.perf_counter()
        rows = embedder.embed(corpus.texts[part])
        took = time.perf_counter() - start
        with path.open("r+b" if path.exists() else "w+b") as stream:
            stream.seek(part.start * width)
            stream.write(rows.tobytes())
        held["rows"].append(part.stop)
        held["seconds"].append(took + (held["seconds"][-1] if held["seconds"] else 0.0))
        write_json(note, held)
        print(f"\rembedded {part.stop:,} of {n:,} in {held['seconds'][-1]:.0f} s", end="", flush=True)
    print()
    return Vectors(path, embedder.dimensions, held["rows"], held["seconds"])


def run(args: argparse.Namespace) -> None:
    made(Corpus.of(args.data), args.model, Path(args.scratch))
