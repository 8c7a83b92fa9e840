"""The live index at several sizes: how long a flag takes, how fast questions are added, how many neighbours it misses.

python -m benchmarks.forum flagging --data FILE --model DIR --scratch DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forum.corpus import Corpus
from dupq.data.writing import write_json
from dupq.training.trainer import versions

SIZES = (10_000, 100_000, 1_000_000_000)
OPENING = """
import sys, time, json
from dupq.forum.index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
pipeline = DuplicatePipeline.from_pretrained(sys.argv[2])
pipeline.embedder.embed(["warm up"]), pipeline.raw_scores(["warm"], ["up"])
start = time.perf_counter()
index = QuestionIndex(sys.argv[1], pipeline)
opened = time.perf_counter()
index.flag("How do I learn to play chess?")
print(json.dumps({"open_s": opened - start, "first_flag_s": time.perf_counter() - opened}))
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="labelled pairs")
    parser.add_argument("--model", required=True, help="a calibrated pipeline with both networks")
    parser.add_argument("--scratch", required=True, help="a folder for the index and for vectors made before")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--flags", type=int, default=500, help="questions flagged one by one")
    parser.add_argument("--adds", type=int, default=2048, help="questions added with their vectors computed")
    parser.add_argument("-k", type=int, default=10)


class Given:
    """An embedder that knows the vectors of the corpus already: what it takes to add with it, the store takes."""

    def __init__(self, embedder: Any, texts: Any, vectors: Any) -> None:
        self.fingerprint, self.dimensions = embedder.fingerprint, embedder.dimensions
        self.place = {text: at for at, text in enumerate(texts)}
        self.vectors = vectors

    def embed(self, texts: Any, progress: Any = None) -> Any:
        return self.vectors[[self.place[text] for text in texts]]


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99, in milliseconds."""
    return {"p50_ms": float(np.quantile(seconds, 0.5) * 1e3), "p99_ms": float(np.quantile(seconds, 0.99) * 1e3)}


def run(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from dupq.forum.index import QuestionIndex
    from dupq.forum.judging import embedder_of
    from dupq.pipeline import DuplicatePipeline

    corpus, scratch = Corpus.of(args.data), Path(args.scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    embedder = embedder_of(pipeline)
    held = scratch / f"vectors-{embedder.fingerprint}.f32"
    if not held.exists():
        embedder.embed(corpus.texts).tofile(held)
    vectors = np.fromfile(held, np.float32).reshape(len(corpus.texts), -1)
    rows = []
    for size in args.sizes:
        n = min(size, len(corpus.texts)) - args.adds
        path = scratch / "flagging.db"
        for file in scratch.glob("flagging.db*"):
            file.unlink()
        filling = QuestionIndex(path, replace(pipeline, bi_encoder=Given(embedder, corpus.texts, vectors)))
        start = time.perf_counter()
        filling.add(range(n), corpus.texts[:n])
        stored = n / (time.perf_counter() - start)
        filling.close()
        index = QuestionIndex(path, pipeline)
        new = corpus.texts[n : n + args.adds]
        start = time.perf_counter()
        index.add(range(n, n + len(new)), new)
        added = len(new) / (time.perf_counter() - start)
        n += len(new)
        index.flag(corpus.texts[0], k=args.k)
        index.compact()
        asked = np.random.default_rng(0).choice(len(corpus.texts), args.flags, replace=False)
        flags, searches, singles = [], [], []
        hits = 0
        for at in asked.tolist():
            text = corpus.texts[at]
            start = time.perf_counter()
            index.flag(text, k=args.k)
            flags.append(time.perf_counter() - start)
            start = time.perf_counter()
            query = embedder.embed([text])
            singles.append(time.perf_counter() - start)
            start = time.perf_counter()
            ((slots, _),) = index._nearest.search(query, args.k)
            searches.append(time.perf_counter() - start)
            exact = (
                vectors[:n].astype(np.float64) @ query[0] if n <= 100_000 else vectors[:n] @ query[0].astype(np.float64)
            )
            best = np.argsort(-exact, kind="stable")[: args.k]
            # Slots count from 1 in the order in which the questions were added.
            hits += len({*(slots - 1).tolist()} & {*best.tolist()})
        opening = json.loads(
            subprocess.run(
                [sys.executable, "-c", OPENING, str(path), args.model], capture_output=True, text=True, check=True
            ).stdout
        )
        row = {
            "questions": n,
            "flags": len(asked),
            "k": args.k,
            **percentiles(flags),
            "embedding": percentiles(singles),
            "search": percentiles(searches),
            "recall_at_k": hits / (args.k * len(asked)),
            "adds_per_second": added,
            "adds_per_second_without_network": stored,
            **opening,
            "bytes": index.stats()["database_bytes"],
        }
        index.close()
        print(json.dumps(row), flush=True)
        rows.append(row)
        write_json(
            args.output, {"command": "python -m benchmarks.forum flagging", "versions": versions(), "rows": rows}
        )
