"""Pairs a second, sentences a second, the first score from a cold start, and one warm score."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks.readme import ROOT
from benchmarks.speed.contenders import about, pipelines, read, workers
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.writing import write_json, write_rows
from dupq.evaluation.metrics import compute_metrics

STOCK = "CrossEncoder.predict, float32"
FITTING_PAIRS = 300
FIRST_PAIR = ("How old are you?", "What is your age?")


def pairs(args: argparse.Namespace) -> None:
    """Each round gives every contender the same fresh slice of the pairs, so that ratios are of like with like."""
    table = read(args, args.count)
    wanted: dict[str, dict[str, Any]] = {STOCK: {"kind": "stock", "model": f"{args.stock}/cross-encoder"}}
    for backend in args.backends:
        settings = {"kind": "stock", "backend": backend, "scratch": args.scratch, "texts": _fitting_texts(args)}
        wanted[f"CrossEncoder.predict, {backend} int8"] = {**settings, "model": f"{args.stock}/cross-encoder"}
    if args.alone:
        wanted["dupq, int8, no blend"] = {"kind": "pipeline", "model": args.alone, "threads": args.threads}
    else:
        alone = {"kind": "cross-encoder", "model": args.model, "threads": args.threads}
        wanted["dupq, int8, cross-encoder alone"] = alone
    wanted |= pipelines(args)
    bounds = np.linspace(0, len(table), args.rounds + 1).astype(int)
    with workers(wanted, args, table) as (running, failed):
        seconds: dict[str, list[float]] = {name: [] for name in running}
        scores: dict[str, list[float]] = {name: [] for name in running}
        for first, last in pairwise(bounds):
            for name, worker in running.items():
                done = worker.ask(left=table.left[first:last], right=table.right[first:last])
                seconds[name].append(done["seconds"])
                scores[name] += done["scores"]
                print(f"{name:<40} {(last - first) / done['seconds']:,.0f} pairs/s", flush=True)
        rows = []
        for name, worker in running.items():
            decided = worker.ask(decide=scores[name]) if wanted[name]["kind"] == "pipeline" else {}
            sizes = np.diff(bounds)
            ratios = [a / b for a, b in zip(seconds[STOCK], seconds[name], strict=True)]
            rows.append(
                {
                    "name": name,
                    "pairs_per_second": median(size / s for size, s in zip(sizes, seconds[name], strict=True)),
                    "ratio": median(ratios),
                    "ratios": ratios,
                    "seconds": seconds[name],
                    **_quality(table, np.array(scores[name]), decided),
                    **{key: worker.ready.get(key) for key in ("cascade", "blend", "fingerprint", "versions")},
                }
            )
        failures = [{"name": name, "error": error} for name, error in failed.items()]
    write_json(args.output, {**about(args, table), "rows": rows, "failed": failures})


def _fitting_texts(args: argparse.Namespace) -> str:
    """A data set of unlabelled pairs, the last of the file, for a quantiser to take the ranges of values from."""
    table = load_pairs(args.pairs)
    some = slice(max(0, len(table) - FITTING_PAIRS), len(table))
    folder = Path(args.scratch) / "fitting-texts"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"{a} [SEP] {b}"} for a, b in zip(table.left[some], table.right[some], strict=True)]
    write_rows(folder / "train.jsonl", rows, ["text"])
    return str(folder)


def _quality(table: PairTable, scores: Any, decided: dict[str, Any]) -> dict[str, Any]:
    """A pipeline by its own calibrator and threshold; any other by what a user has: a sigmoid, and 0.5."""
    if not decided:
        if scores.min() < 0 or scores.max() > 1:
            return {"average_precision": float(average_precision_score(table.labels, scores))}
        found = compute_metrics(scores, scores, table.labels, None, 0.5, resamples=2)
    else:
        found = compute_metrics(scores, decided["probabilities"], table.labels, None, decided["threshold"], resamples=2)
    return {name: found[name].value for name in ("average_precision", "accuracy", "ece_mass")}


def sentences(args: argparse.Namespace) -> None:
    table = read(args, args.count)
    texts = list(dict.fromkeys([*table.left, *table.right]))[: args.sentences]
    stock = "SentenceTransformer.encode, float32"
    wanted: dict[str, dict[str, Any]] = {
        stock: {"kind": "encoder", "model": f"{args.stock}/bi-encoder"},
        "dupq, int8": {"kind": "embedder", "model": args.model, "threads": args.threads},
    }
    bounds = np.linspace(0, len(texts), args.rounds + 1).astype(int)
    with workers(wanted, args, table) as (running, failed):
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for first, last in pairwise(bounds):
            for name, worker in running.items():
                seconds[name].append(worker.ask(left=texts[first:last])["seconds"])
    rows = [
        {
            "name": name,
            "sentences_per_second": median(n / s for n, s in zip(np.diff(bounds), found, strict=True)),
            "ratio": median(a / b for a, b in zip(seconds[stock], found, strict=True)),
            "seconds": found,
        }
        for name, found in seconds.items()
    ]
    write_json(args.output, {**about(args), "sentences": len(texts), "rows": rows, "failed": failed})


def start(args: argparse.Namespace) -> None:
    """A new process each time: wall seconds from its start to its end, and the most memory that it held."""
    code = (
        "import sys\nfrom sentence_transformers import CrossEncoder\n"
        "print(CrossEncoder(sys.argv[1], device='cpu').predict([(sys.argv[2], sys.argv[3])])[0])"
    )
    model = ["--model", args.model] if args.model else []
    commands = {
        "sentence-transformers": [sys.executable, "-c", code, f"{args.stock}/cross-encoder", *FIRST_PAIR],
        "dupq score": [sys.executable, "-m", "dupq.cli.main", "score", *model, *FIRST_PAIR],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(args.rounds):
        for name, command in commands.items():
            found[name].append(_run(command))
            print(f"{name:<40} {found[name][-1][0]:.2f} s", flush=True)
    table = read(args, args.singles)
    wanted: dict[str, dict[str, Any]] = {
        "sentence-transformers": {"kind": "stock", "model": f"{args.stock}/cross-encoder"},
        "dupq score": {"kind": "pipeline", "model": args.model, "threads": args.threads},
    }
    rows = []
    with workers(wanted, args, table) as (running, _):
        for name, worker in running.items():
            times = np.array(worker.ask(left=table.left, right=table.right, single=True)["times"]) * 1000
            rows.append(
                {
                    "name": name,
                    "cold_seconds": median(seconds for seconds, _ in found[name]),
                    "all_cold_seconds": [seconds for seconds, _ in found[name]],
                    "peak_mb": median(peak for _, peak in found[name]),
                    "warm_p50_ms": float(np.percentile(times, 50)),
                    "warm_p99_ms": float(np.percentile(times, 99)),
                }
            )
    write_json(args.output, {**about(args), "singles": args.singles, "rows": rows})


def _run(command: list[str]) -> tuple[float, float]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... ended with {process.returncode}")
    return seconds, usage.ru_maxrss / 1024
