"""Latency of a flag in an index on disk, and a mining run from text."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index import clients
from benchmarks.index.corpus import made
from benchmarks.index.places import SqlitePlace
from benchmarks.readme import optional
from benchmarks.scale.memory import apart
from benchmarks.speed.contenders import SEED, model_folder
from benchmarks.speed.tables import of_index
from dupq.data.pairs import load_pairs
from dupq.hub.manifest import BI_ENCODER, MANIFEST
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.pipeline import DuplicatePipeline

SHARES = ("network_ms", "search_ms", "scoring_ms")
STAGES = ("reading", "embedding", "searching", "judging")


def flag(args: argparse.Namespace) -> dict[str, Any]:
    """Flags of one client with the exact search, unless `benchmarks.index` measured them with this model."""
    manifest = json.loads((model_folder(args) / MANIFEST).read_text(encoding="utf-8"))
    held = of_index(optional("index"), manifest["networks"][BI_ENCODER]["fingerprint"])
    if {str(size) for size in args.sizes} <= {*held}:
        return {"from": "index.json", "sizes": dict.fromkeys(map(str, args.sizes))}
    scratch = args.scratch / "index"
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["DUPQ_CACHE"] = str(scratch / "cache")
    corpus, place = made(scratch, max(args.sizes), args.model, args.clusters), SqlitePlace(scratch)
    place.clear("speed")
    base = {"scratch": str(scratch), "size": len(corpus), "model": args.model, "clusters": args.clusters}
    base["where"] = place.where("speed")
    sizes: dict[str, Any] = {}
    stored = 0
    for size in sorted(args.sizes):
        clients.fill(base, stored, stored := size)
        job = {**base, "task": "flag", "search": "exact", "first": 0, "threads": 1, "count": args.flags}
        found = clients.run([{**job, "shares_every": clients.SHARES_EVERY}])[0]
        shares = np.median(found["shares"], axis=0) * 1e3
        sizes[str(size)] = {
            **clients.percentiles(found["seconds"]),
            "shares": dict(zip(SHARES, shares.tolist(), strict=True)),
            "peak_mb": found["memory"].get("peak_mb"),
        }
        print(f"flag, {size:,} questions: {sizes[str(size)]}", flush=True)
    return {"from": None, "sizes": sizes}


def mine(args: argparse.Namespace) -> dict[str, Any]:
    """A mining run of each size, of distinct questions in random order."""
    files = args.questions or sorted(Path(args.pairs).parent.glob(f"*{Path(args.pairs).suffix}"))
    questions = distinct(files)
    sizes: dict[str, Any] = {}
    for size in dict.fromkeys(min(size, len(questions)) for size in sorted(args.sizes)):
        sizes[str(size)] = apart(mined, questions[:size], args.model, args.judged, args.threads)
        print(f"mine, {size:,} questions: {sizes[str(size)]}", flush=True)
    return {"sizes": sizes, "questions": len(questions)}


def distinct(files: list[Path]) -> list[str]:
    """Distinct questions of files of pairs, in random order."""
    found: dict[str, None] = {}
    for file in files:
        table = load_pairs(file)
        found |= dict.fromkeys([*table.left, *table.right])
    texts = [*found]
    return [texts[at] for at in np.random.default_rng(SEED).permutation(len(texts)).tolist()]


def mined(texts: list[str], model: str | None, judged: int, threads: int | None) -> dict[str, Any]:
    """Seconds of a run and of its stages; the pipeline is open, and has scored a pair."""
    pipeline = DuplicatePipeline.from_pretrained(model, threads=threads)
    pipeline.raw_scores(["warm"], ["up"])
    stages: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    last = start = time.perf_counter()

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        stages[stage] += now - last
        last = now

    found = find_duplicates(pipeline, texts, settings=MiningSettings(max_judged=judged), progress=progress)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "stages": stages,
        "candidates": len(found.cosine),
        "judged": int(found.judged.sum()),
    }
