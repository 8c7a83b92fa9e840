"""Exact search beside `paraphrase_mining_embeddings`: `python -m benchmarks.search PAIRS --scratch DIR`.

PAIRS holds question pairs; their first --questions distinct questions are embedded by the shipped model, once, and the
vectors are kept in DIR. Rounds alternate which of the two goes first. Each search runs in a process of its own, that
has the vectors in memory and its libraries loaded when the clock starts; the choice of a kernel counts.

Both find the pairs with a cosine of at least 0.8. `paraphrase_mining_embeddings` has no threshold: it reads the --top-k
nearest of each question (its default: 100) and misses pairs of a question with more. Where more pairs reach the
threshold than its default `max_pairs`, it has that number. The truth is computed by NumPy: one product in float32, and
double precision where that is near the threshold or above.

Results are written to `benchmarks/results/search.json` after each search, and a later run goes on where this one
stopped; delete the file to measure again. `python -m benchmarks.readme` writes the table of the documentation.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.readme import RESULTS
from benchmarks.scale.memory import apart
from benchmarks.search.searches import THRESHOLD, TOP_K, measured, truth, truth_file
from benchmarks.search.tables import SEARCHES
from dupq.data.reading import read_pairs
from dupq.data.text import duplicate_key
from dupq.data.writing import write_json, written_beside
from dupq.decisions.decider import embedder_of
from dupq.pipeline import DuplicatePipeline


def embedded(source: str, n: int, scratch: Path) -> Path:
    """Embed the first n distinct questions of a file of pairs, once."""
    texts: dict[str, str] = {}
    for pair in read_pairs(source):
        for text in (pair.question1, pair.question2):
            texts.setdefault(duplicate_key(text), text)
        if len(texts) >= n:
            break
    embedder, chosen = embedder_of(DuplicatePipeline.from_pretrained()), [*texts.values()][:n]
    key = hashlib.sha256("\n".join([embedder.fingerprint, *chosen]).encode()).hexdigest()[:12]
    path = scratch / f"search-{len(chosen)}-{key}.npy"
    if not path.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        vectors = embedder.embed(chosen)
        with written_beside(path) as beside, beside.open("wb") as stream:
            np.save(stream, vectors)
    return path


def run(args: argparse.Namespace) -> None:
    """Measure what the results lack."""
    path, output = str(embedded(args.pairs, args.questions, Path(args.scratch).absolute())), Path(args.output)
    n, dimensions = np.load(path, mmap_mode="r").shape
    settings = {
        "questions": n,
        "dimensions": dimensions,
        "vectors": Path(path).stem,
        "threshold": THRESHOLD,
        "top_k": args.top_k,
        "threads": args.threads,
        "versions": {package: version(package) for package in SEARCHES.values()},
    }
    report: dict[str, Any] = {
        "command": "python -m benchmarks.search PAIRS --scratch DIR",
        "settings": settings,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "rounds": [],
    }
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if before["settings"] == settings:
            report |= {name: before[name] for name in ("truth", "rounds") if name in before}
    if "truth" not in report or not truth_file(path).exists():
        report["truth"] = apart(truth, path)
    for number in range(args.rounds):
        held = report["rounds"][number : number + 1] or [{}]
        report["rounds"][number : number + 1] = held
        for name in [*SEARCHES][:: 1 if number % 2 == 0 else -1]:
            if name not in held[0]:
                held[0][name] = apart(measured, name, path, args.top_k)
                print(number + 1, name, json.dumps(held[0][name]), flush=True)
                write_json(output, report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", metavar="PAIRS", help="a file of question pairs")
    parser.add_argument("--scratch", required=True, metavar="DIR", help="keeps the vectors and the true pairs")
    parser.add_argument("--questions", type=int, default=100_000, metavar="N", help="(default: 100000)")
    parser.add_argument(
        "--top-k", type=int, default=TOP_K, metavar="K", help="neighbours that paraphrase_mining reads (default: 100)"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(default: 5)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="of each search (default: all cores)"
    )
    parser.add_argument("--output", default=str(RESULTS / "search.json"), metavar="FILE", help="the results")
    args = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(args.threads):
        # Before NumPy starts its threads, here and in the processes of the searches.
        os.environ |= {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads)}
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.search", *sys.argv[1:]])
    run(args)


if __name__ == "__main__":
    main()
