"""Time, recall and memory of the search of an index, without its network and database.

    python -m benchmarks.index.search --scratch DIR [--sizes N...] [--threads T] [--no-graph]

The vectors are those of questions of the worlds, recombined: unit means of two of them with a little noise. Queries are
other such means. `exact` and `approximate` are milliseconds a query, alone and in a batch of 32 (medians). recall@10 is
counted on stored questions, with its 95 % interval. `resident_mb` is the growth of the process's own memory, without
mapped files, while the file of the vectors is written and searched. Results go to
`benchmarks/results/index_search.json`. Exact searches of all sizes take about 2 minutes on two idle cores, the graph of
a million rows about 3 more: run it alone, with `--sizes 1000000`.

`--scans` compares what a scan may read. 50,000 rows of 192 dimensions, one thread of a Xeon with AVX-512 (beside other
work; the best of 5), in milliseconds, with one query and with 32 queries:

    rows in float32, multiplied directly            3.1     55
    float16, widened to float32 512 rows at a time   60     82
    the upper 16 bits of float32, widened           5.0     64
    8 bits with a scale a row, widened              2.5     42

NumPy widens float16 one number at a time. So the scan reads 8 bits, which are also the smallest.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES = (10_000, 100_000, 224_000, 1_000_000)
BLOCK = 4096
REAL = 4096
"""Questions that are embedded."""
NOISE = 0.2
SINGLE, BATCH = 40, 32


def embedded(scratch: Path) -> NDArray[np.float32]:
    """Vectors of real questions, computed once."""
    path = scratch / "search-real.npy"
    if not path.exists():
        from data_scripts.clusters import read_clusters, world_texts
        from dupq.decisions.decider import embedder_of
        from dupq.pipeline import DuplicatePipeline

        texts = list(dict.fromkeys(world_texts(read_clusters("worlds_train"))))
        picked = np.random.default_rng(0).permutation(len(texts))[:REAL]
        vectors = embedder_of(DuplicatePipeline.from_pretrained()).embed([texts[at] for at in picked.tolist()])
        np.save(path, vectors[vectors.any(axis=1)])
    return np.asarray(np.load(path))


def recombined(real: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """One block of vectors; block -1 is that of the queries."""
    draw = np.random.default_rng(block + 1)
    pairs = real[draw.integers(len(real), size=(2, BLOCK))]
    rows = unit(pairs[0] + pairs[1]) + NOISE * unit(draw.standard_normal(pairs[0].shape))
    return unit(rows).astype(np.float32)


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class Made:
    """A store of n vectors that are made while they are read; it has what the cache of the vectors asks for."""

    location = "made"

    def __init__(self, real: NDArray[np.float32], n: int) -> None:
        from dupq.index.stores.base import Position, StoredModel

        self.real, self.n = real, n
        self.now, self.bi_encoder = Position("made", 0, n, 0), StoredModel(1, "made", real.shape[1], "float16")

    @contextmanager
    def reading(self) -> Iterator[Made]:
        yield self

    def position(self) -> Any:
        return self.now

    def model(self) -> Any:
        return self.bi_encoder

    def count(self, table: str) -> int:
        return self.n

    def encoded_texts(self, slots: Iterable[int]) -> dict[int, tuple[str, str]]:
        return {}

    def last_slots(self, limit: int) -> list[int]:
        return []

    def removals(self, after: int) -> dict[int, int]:
        return {}

    def vectors_after(self, model: Any, slot: int) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        for block, start in enumerate(range(0, self.n, BLOCK)):
            stop = min(self.n, start + BLOCK)
            yield np.arange(start + 1, stop + 1), recombined(self.real, block)[: stop - start].astype(np.float16)


def own_memory() -> float:
    """Memory of this process without mapped files, in MB; 0 where /proc is missing."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def milliseconds(search: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32]) -> dict[str, float]:
    """Medians of a query alone and of a query in a batch."""

    def taken(rows: NDArray[np.float32]) -> float:
        start = time.perf_counter()
        search(rows)
        return 1000 * (time.perf_counter() - start)

    search(queries[:1])
    alone = [taken(queries[at : at + 1]) for at in range(SINGLE)]
    together = [taken(queries[at : at + BATCH]) / BATCH for at in range(0, 3 * BATCH, BATCH)]
    return {
        "one": float(np.median(alone)),
        "one_p99": float(np.quantile(alone, 0.99)),
        "of_32": float(np.median(together)),
    }


def measured(real: NDArray[np.float32], n: int, scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    from dupq.index.hnsw import ApproximateRows, Graphs
    from dupq.index.search import RECALL_AT, _recall, wilson
    from dupq.index.vector_cache import VectorCache

    store: Any = Made(real, n)
    for name in ("vectors", "hnsw"):
        (scratch / f"search.{name}").unlink(missing_ok=True)
    before = own_memory()
    cache, graphs = VectorCache(scratch / "search.vectors"), Graphs(scratch / "search.hnsw")
    queries, start = recombined(real, -1)[: 4 * BATCH + SINGLE], time.perf_counter()
    with cache.following(store) as (_, snapshot):
        row: dict[str, Any] = {"questions": n, "threads": args.threads, "file_seconds": time.perf_counter() - start}
        row["exact"] = milliseconds(lambda rows: snapshot.search(rows, 10), queries)
        row |= {"resident_mb": own_memory() - before, "file_mb": cache.file.stat().st_size / 1e6}
    if not args.no_graph:
        start = time.perf_counter()
        graphs.build(cache, store, threads=args.threads)
        row["graph_seconds"] = time.perf_counter() - start
        with cache.following(store) as (view, snapshot):
            graph = graphs.fitting(view, snapshot)
            if graph is None:
                raise RuntimeError("the graph was not built")
            near = ApproximateRows(snapshot, graph)
            row |= {"approximate": milliseconds(lambda rows: near.search(rows, 10), queries)}
            row["graph_mb"] = graphs.file.stat().st_size / 1e6
            slots = np.random.default_rng(0).choice(n, args.sample, replace=False) + 1
            held = snapshot.vectors(slots.tolist())
            rows = np.stack([*held.values()])
            true, found = snapshot.search(rows, RECALL_AT + 1), near.search(rows, RECALL_AT + 1)
            shares = [*map(_recall, held, true, found)]
            low, high = wilson(float(np.mean(shares)), len(shares))
            row["recall_at_10"] = {"value": float(np.mean(shares)), "low": low, "high": high, "sample": len(shares)}
    cache.close()
    return row


def scans(real: NDArray[np.float32], n: int) -> dict[str, dict[str, float]]:
    """Best milliseconds of a scan of n rows in several forms, with one query and with 32."""
    rows = np.concatenate([recombined(real, block) for block in range(-(-n // BLOCK))])[:n]
    codes = np.rint(rows / np.abs(rows).max(axis=1, keepdims=True) * 127).astype(np.int8)
    forms: dict[str, NDArray[Any]] = {"float32": rows, "float16": rows.astype(np.float16), "int8": codes}
    wide, results = np.empty((2048, rows.shape[1]), np.float32), {}
    for name, form in forms.items():
        results[name] = {}
        for m in (1, BATCH):
            query, best = rows[0] if m == 1 else rows[:m], np.inf
            for _ in range(5):
                start = time.perf_counter()
                for at in range(0, n, len(wide)):
                    part = form[at : at + len(wide)]
                    if form.dtype != np.float32:
                        wide[: len(part)] = part
                        part = wide[: len(part)]
                    part @ query if m == 1 else query @ part.T
                best = min(best, 1000 * (time.perf_counter() - start))
            results[name][f"queries_{m}"] = best
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", required=True, type=Path, help="folder for vectors and graphs")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="numbers of questions")
    parser.add_argument("--threads", type=int, default=2, help="threads of a product and of the graph (default: 2)")
    parser.add_argument("--sample", type=int, default=500, help="questions of the recall (default: 500)")
    parser.add_argument("--no-graph", action="store_true", help="exact search only")
    parser.add_argument("--scans", action="store_true", help="compare the forms of a scan too")
    parser.add_argument("--output", type=Path, help="file of the results")
    args = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(args.threads):
        # Before NumPy has started its threads.
        os.environ |= {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads)}
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.index.search", *sys.argv[1:]])
    from benchmarks.readme import RESULTS
    from dupq.data.writing import write_json

    args.scratch.mkdir(parents=True, exist_ok=True)
    real, output = embedded(args.scratch), args.output or RESULTS / "index_search.json"
    report: dict[str, Any] = {"command": "python -m benchmarks.index.search", "dimensions": real.shape[1], "rows": []}
    if args.scans:
        report["scans_of_50000"] = scans(real, 50_000)
    for n in args.sizes:
        report["rows"].append(measured(real, n, args.scratch, args))
        print(report["rows"][-1], flush=True)
        write_json(output, report)


if __name__ == "__main__":
    main()
