"""Mining, side by side: seconds, memory, what is found and what is missed.

    python -m benchmarks.forum mining --data FILE --model DIR --static DIR --scratch DIR

Each contender runs in a process of its own. Vectors are made once, by the bi-encoder of the pipeline, and given to all
that take vectors; the others start from text.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forum.corpus import Corpus
from dupq.data.writing import write_json
from dupq.training.trainer import versions

SIZES = (1_000, 10_000, 50_000, 100_000, 1_000_000_000)
GIVEN = ("dupq scan", "dupq scan, float32", "dupq approximate", "numpy square", "paraphrase_mining")
FROM_TEXT = ("dupq", "dupq, judging n / 2", "SemHash, static", "SemHash, our encoder")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="labelled pairs")
    parser.add_argument("--model", required=True, help="a calibrated pipeline with both networks")
    parser.add_argument("--static", required=True, help="the folder of SemHash's static encoder")
    parser.add_argument("--scratch", required=True, help="a folder for vectors and pairs")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", nargs="+", help="these contenders, the others as the results have them")
    parser.add_argument("--threshold", type=float, help="least cosine (default: that of mining)")
    parser.add_argument("--max-pairs", type=int, default=2_000_000)
    parser.add_argument("--threads", type=int, default=2)


def run_one(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One contender in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.forum.contenders", name, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def exponent(rows: list[dict[str, Any]]) -> float | None:
    """The slope of log seconds over log n, from 10,000 questions on, where the start no longer counts."""
    points = [(row["n"], row["seconds"]) for row in rows if row["n"] >= 10_000]
    if len(points) < 2:
        return None
    n, seconds = np.log(np.array(points)).T
    return float(np.polyfit(n, seconds, 1)[0])


def run(args: argparse.Namespace) -> None:
    from dupq.forum.judging import embedder_of
    from dupq.forum.mining import MIN_COSINE
    from dupq.pipeline import DuplicatePipeline

    scratch = Path(args.scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    corpus = Corpus.of(args.data)
    embedder = embedder_of(DuplicatePipeline.from_pretrained(args.model))
    vectors = scratch / f"vectors-{embedder.fingerprint}.f32"
    if not vectors.exists():
        embedder.embed(corpus.texts).tofile(vectors)
    (scratch / "texts.json").write_text(json.dumps(corpus.texts), encoding="utf-8")
    threshold = args.threshold or MIN_COSINE
    settings = {
        "vectors": str(vectors),
        "texts": str(scratch / "texts.json"),
        "dimensions": embedder.dimensions,
        "threshold": threshold,
        "max_pairs": args.max_pairs,
        "model": args.model,
        "static": args.static,
        "threads": args.threads,
        "pairs": str(scratch / "pairs.npz"),
    }
    output = Path(args.output)
    held = json.loads(output.read_text(encoding="utf-8"))["rows"] if output.exists() else []
    rows = [row for row in held if args.only and row["name"] not in args.only]
    for size in args.sizes:
        part = corpus.prefix(min(size, len(corpus.texts)))
        n = len(part.texts)
        truth: Any = None
        for name in (*GIVEN, *FROM_TEXT):
            if args.only and name not in args.only:
                continue
            told = run_one(name, {**settings, "n": n})
            with np.load(scratch / "pairs.npz") as found:
                left, right, score = found["left"], found["right"], found["score"]
            row = {**told, **part.quality(left, right, int(told["stages"].get("flagged", len(left))))}
            if name in GIVEN:
                keys = np.sort(part.keys(left, right)[score >= threshold])
                # What the scan in float32 finds stands for the truth; every pair that another finds is checked too.
                truth = keys if truth is None else truth
                row |= {"above_threshold": len(keys), "missed": int((~np.isin(truth, keys)).sum())}
                row["beyond"] = int((~np.isin(keys, truth)).sum())
            print(json.dumps(row), flush=True)
            rows.append(row)
            write_json(
                output,
                {
                    "command": "python -m benchmarks.forum mining",
                    "questions": len(corpus.texts),
                    "labelled_pairs": len(corpus.left),
                    "threshold": threshold,
                    "threads": args.threads,
                    "embedder": embedder.fingerprint,
                    "exponents": {
                        name: exponent([r for r in rows if r["name"] == name]) for name in (*GIVEN, *FROM_TEXT)
                    },
                    "versions": versions(),
                    "rows": rows,
                },
            )
