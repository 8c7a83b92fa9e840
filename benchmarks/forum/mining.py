"""Mining, side by side: seconds, memory, what is found and what is missed.

    python -m benchmarks.forum scan --data FILE --scratch DIR [--model DIR]
    python -m benchmarks.forum text --data FILE --scratch DIR --static DIR [--model DIR]

`scan`: all contenders are given the same vectors. `text`: they start from the questions. Each runs in a process of its
own. A contender and size that the output holds already, of the same setup, is not run again.

`forum_text_2c87c53.json` is `text` with `--model`, the `dupq/pretrained` of that commit, `--scratch` and `--output` of
its own, and `--only` our two contenders.

So that the whole takes minutes, slow contenders get fewer sizes; and from more than `EMBED_UP_TO` questions on, those
that use our encoder read its vectors, and the seconds that embedding just these questions took (see `vectors`) are
added to theirs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forum import vectors
from benchmarks.forum.corpus import Corpus
from dupq.data.writing import write_json
from dupq.decisions.candidate_rule import NEAR_COSINE
from dupq.training.trainer import versions

ALL = 1_000_000_000
SCAN = {
    "dupq scan": (1_000, 10_000, 50_000, 100_000, ALL),
    "dupq scan, float32": (1_000, 10_000, 50_000, 100_000),
    "dupq cells": (10_000, 50_000, 100_000),
    "numpy square": (1_000, 10_000, 50_000, 100_000),
    "paraphrase_mining": (1_000, 10_000, 50_000, 100_000),
}
TEXT = {
    "dupq, judging all": (1_000, 10_000),
    "dupq, judging n / 10": (1_000, 10_000, 100_000, ALL),
    "SemHash, static": (1_000, 10_000, 100_000, ALL),
    "SemHash, our encoder": (1_000, 10_000, 100_000),
}
OURS = ("dupq, judging all", "dupq, judging n / 10", "SemHash, our encoder")
EMBED_UP_TO = 10_000


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
    if len(points) < 3:
        return None
    n, seconds = np.log(np.array(points)).T
    return float(np.polyfit(n, seconds, 1)[0])


def compare(args: argparse.Namespace, contenders: dict[str, tuple[int, ...]]) -> None:
    """Runs what is not in the output yet, and writes each row as it comes."""
    scratch, output = Path(args.scratch), Path(args.output)
    corpus = Corpus.of(args.data)
    held = vectors.made(corpus, args.model, scratch)
    (scratch / "texts.json").write_text(json.dumps(corpus.texts), encoding="utf-8")
    settings = {
        "vectors": str(held.path),
        "texts": str(scratch / "texts.json"),
        "dimensions": held.dimensions,
        "threshold": NEAR_COSINE,
        "model": args.model,
        "static": args.static,
        "threads": args.threads,
        "pairs": str(scratch / "pairs.npz"),
        "work": str(scratch / "work"),
    }
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.forum {args.part}",
        "questions": len(corpus.texts),
        "labelled_pairs": len(corpus.left),
        "threshold": NEAR_COSINE,
        "threads": args.threads,
        "vectors": held.path.stem,
        "embedded_up_to": EMBED_UP_TO,
        "versions": versions(),
    }
    rows = []
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if all(before.get(key) == report[key] for key in ("questions", "threshold", "vectors")):
            rows = before["rows"]
    for size in sorted({size for sizes in contenders.values() for size in sizes}):
        part = corpus.prefix(min(size, len(corpus.texts)))
        n = len(part.texts)
        for name, sizes in contenders.items():
            wanted = size in sizes and (not args.sizes or size in args.sizes) and (not args.only or name in args.only)
            if wanted and not any(row["name"] == name and row["n"] == n for row in rows):
                rows.append(_measured(name, {**settings, "n": n}, part, held))
                print(json.dumps(rows[-1]), flush=True)
            slopes = {name: exponent([row for row in rows if row["name"] == name]) for name in contenders}
            write_json(output, {**report, "exponents": slopes, "rows": rows})


def _measured(name: str, settings: dict[str, Any], part: Corpus, held: vectors.Vectors) -> dict[str, Any]:
    read = name in OURS and settings["n"] > EMBED_UP_TO
    told = run_one(name, {**settings, "read": read})
    if read:
        # Reading them back is counted too; it is little.
        told["embedding_added"] = held.seconds_for(settings["n"])
        told["seconds"] += told["embedding_added"]
    with np.load(settings["pairs"]) as found:
        left, right, score = found["left"], found["right"], found["score"]
    row = {**told, **part.quality(left, right, score, int(told["stages"].get("flagged", len(left))))}
    if name not in SCAN:
        return row
    # What our scan finds stands for the truth, and every pair that another finds is held against it.
    keys = np.sort(part.keys(left, right)[score >= settings["threshold"]])
    kept = Path(settings["vectors"]).with_name(f"truth-{held.path.stem}-{settings['n']}.npy")
    if name == next(iter(SCAN)):
        np.save(kept, keys)
    truth = np.load(kept) if kept.exists() else None
    row["above_threshold"] = len(keys)
    row["missed"] = None if truth is None else int((~np.isin(truth, keys)).sum())
    row["beyond"] = None if truth is None else int((~np.isin(keys, truth)).sum())
    return row


def scan(args: argparse.Namespace) -> None:
    compare(args, SCAN)


def text(args: argparse.Namespace) -> None:
    if not args.static:
        raise SystemExit("text: --static, the folder of SemHash's static encoder, is needed")
    compare(args, TEXT)
