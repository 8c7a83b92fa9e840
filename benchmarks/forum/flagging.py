"""The live index at several sizes: how long a flag takes, how fast questions are added, how many neighbours it misses.

python -m benchmarks.forum flagging --data FILE --scratch DIR [--model DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.forum import vectors
from benchmarks.forum.corpus import Corpus
from dupq.data.writing import write_json
from dupq.forum.index import K, QuestionIndex
from dupq.forum.judging import embedder_of
from dupq.models.scorers import chunks
from dupq.pipeline import DuplicatePipeline
from dupq.training.trainer import versions

SIZES = (10_000, 100_000, 1_000_000_000)
OPENING = """
import sys, time, json
from dupq.forum.index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
pipeline = DuplicatePipeline.from_pretrained(sys.argv[2] or None)
pipeline.embedder.embed(["warm up"]), pipeline.raw_scores(["warm"], ["up"])
start = time.perf_counter()
index = QuestionIndex(sys.argv[1], pipeline)
opened = time.perf_counter()
index.flag("How do I learn to play chess?")
print(json.dumps({"open_s": opened - start, "first_flag_s": time.perf_counter() - opened}))
"""


class Given:
    """An embedder that knows the vectors of the corpus already: what it takes to add with it, the store takes."""

    form = "given"

    def __init__(self, embedder: Any, texts: Any, rows: NDArray[np.float32]) -> None:
        self.fingerprint, self.dimensions = embedder.fingerprint, embedder.dimensions
        self.place = {text: at for at, text in enumerate(texts)}
        self.rows = rows

    def embed(self, texts: Any, progress: Any = None) -> Any:
        return self.rows[[self.place[text] for text in texts]]

    def save(self, folder: Path) -> None:
        """Never called."""


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99, in milliseconds."""
    return {"p50_ms": float(np.quantile(seconds, 0.5) * 1e3), "p99_ms": float(np.quantile(seconds, 0.99) * 1e3)}


def nearest(rows: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k nearest rows of each query, (m, k), by products in double precision."""
    best = np.zeros((len(queries), 0), np.int64)
    cosine = np.zeros((len(queries), 0))
    for part in chunks(len(rows), 16_384):
        cosine = np.hstack([cosine, queries.astype(np.float64) @ rows[part].astype(np.float64).T])
        best = np.hstack([best, np.broadcast_to(np.arange(part.start, part.stop), (len(queries), len(rows[part])))])
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        cosine, best = np.take_along_axis(cosine, order, axis=1), np.take_along_axis(best, order, axis=1)
    return best


def measured(
    args: argparse.Namespace, pipeline: DuplicatePipeline, corpus: Corpus, rows: NDArray[np.float32], n: int
) -> dict[str, Any]:
    """One size of the index."""
    embedder, path = embedder_of(pipeline), Path(args.scratch) / "flagging.db"
    for file in path.parent.glob("flagging.db*"):
        file.unlink()
    given = n - args.adds
    with QuestionIndex(path, replace(pipeline, bi_encoder=Given(embedder, corpus.texts, rows))) as filling:
        start = time.perf_counter()
        filling.add(range(given), corpus.texts[:given])
        stored = given / (time.perf_counter() - start)
    with QuestionIndex(path, pipeline) as index:
        start = time.perf_counter()
        index.add(range(given, n), corpus.texts[given:n])
        added = args.adds / (time.perf_counter() - start)
        index.flag(corpus.texts[0])
        index.compact()
        asked = np.random.default_rng(0).choice(len(corpus.texts), args.flags, replace=False).tolist()
        flags, singles, searches, found = [], [], [], []
        for at in asked:
            text = corpus.texts[at]
            start = time.perf_counter()
            report = index.flag(text, k=K)
            flags.append(time.perf_counter() - start)
            found.append({flag.id for flag in report.flags})
            start = time.perf_counter()
            query = embedder.embed([text])
            singles.append(time.perf_counter() - start)
            start = time.perf_counter()
            index._nearest.search(query, K)
            searches.append(time.perf_counter() - start)
        size = index.stats()["database_bytes"]
    true = nearest(rows[:n], rows[asked], K)
    command = [sys.executable, "-c", OPENING, str(path), args.model or ""]
    opening = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return {
        "questions": n,
        "flags": len(asked),
        "k": K,
        **percentiles(flags),
        "embedding": percentiles(singles),
        "search": percentiles(searches),
        "recall_at_k": sum(len(a & {*b}) for a, b in zip(found, true.tolist(), strict=True)) / true.size,
        "adds_per_second": added,
        "adds_per_second_without_network": stored,
        **opening,
        "bytes": size,
    }


def run(args: argparse.Namespace) -> None:
    corpus, output = Corpus.of(args.data), Path(args.output)
    held = vectors.made(corpus, args.model, Path(args.scratch))
    rows = held.read(len(corpus.texts))
    report: dict[str, Any] = {
        "command": "python -m benchmarks.forum flagging",
        "vectors": held.path.stem,
        "versions": versions(),
        "rows": [],
    }
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        report["rows"] = before["rows"] if before.get("vectors") == report["vectors"] else []
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    for size in args.sizes or SIZES:
        n = min(size, len(corpus.texts))
        if any(row["questions"] == n for row in report["rows"]):
            continue
        report["rows"].append(measured(args, pipeline, corpus, rows, n))
        print(json.dumps(report["rows"][-1]), flush=True)
        write_json(output, report)
