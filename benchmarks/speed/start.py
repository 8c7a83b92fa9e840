"""The first score of a new process, its memory, the time to import the package, and the next scores.

A new process finds its files in the cache of the system and its modules compiled, as after an installation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.readme import ROOT
from benchmarks.speed.contenders import fresh_rounds, read, spread, tokenizer, workers
from benchmarks.speed.shapes import CROSS_ENCODERS, cross_encoder
from benchmarks.speed.throughput import pipeline

FIRST_PAIR = ("How old are you?", "What is your age?")
OURS, STOCK = "dupq", f"{CROSS_ENCODERS[0].name}, float32"
NOTHING = "python without imports"
PREDICT = (
    "import sys\nfrom sentence_transformers import CrossEncoder\n"
    "CrossEncoder(sys.argv[1], device='cpu').predict([(sys.argv[2], sys.argv[3])])"
)

LAUNCH = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - began
process.returncode = os.waitstatus_to_exitcode(status)
used = usage.ru_utime + usage.ru_stime
print(json.dumps([seconds, used, usage.ru_maxrss / 1024, process.returncode]))
"""


def start(args: argparse.Namespace) -> dict[str, Any]:
    """Wall and processor seconds from a process's start to its end, and the most memory that it held."""
    stock = str(cross_encoder(CROSS_ENCODERS[0], tokenizer(args), args.scratch))
    model = ["--model", args.model] if args.model else []
    commands = {
        OURS: {"score": ["-m", "dupq.cli.main", "score", *model, *FIRST_PAIR], "import": ["-c", "import dupq"]},
        STOCK: {"score": ["-c", PREDICT, stock, *FIRST_PAIR], "import": ["-c", "import sentence_transformers"]},
        NOTHING: {"import": ["-c", "pass"]},
    }
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for at in range(args.rounds + 1):
        for name, each in commands.items():
            for what, words in each.items():
                figures = run([sys.executable, *words], args)
                if at:  # the first compiles modules and reads files
                    found.setdefault((name, what), []).append(figures)
    rows = {name: {} for name in commands}
    for (name, what), figures in found.items():
        wall, used, memory = zip(*figures, strict=True)
        rows[name][what] = {"wall_s": spread(wall), "processor_s": spread(used), "peak_mb": spread(memory)}
    (left, right), parts = fresh_rounds(read(args), argparse.Namespace(pairs=args.pairs, rounds=1, count=args.singles))
    wanted = {OURS: pipeline(args), STOCK: {"kind": "stock", "model": stock}}
    with workers(wanted, args, (left, right)) as (running, failed):
        for name, worker in running.items():
            times = np.array(worker.ask(left=parts[0][0], right=parts[0][1], single=True)["times"]) * 1000
            rows[name]["warm"] = {"p50_ms": float(np.quantile(times, 0.5)), "p99_ms": float(np.quantile(times, 0.99))}
    return {"singles": args.singles, "rows": [{"name": name, **row} for name, row in rows.items()], "failed": failed}


def run(command: list[str], args: argparse.Namespace) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory in MB of a command."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(args.scratch / "bytecode"), "HF_HUB_OFFLINE": "1"}
    # A process counts the memory of the one that started it, up to its own first page, so a small one starts it.
    words = [sys.executable, "-S", "-c", LAUNCH, *command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env, check=True)
    seconds, used, memory, status = json.loads(done.stdout)
    if status:
        raise SystemExit(f"{' '.join(command[:4])} ... ended with {status}")
    return seconds, used, memory
