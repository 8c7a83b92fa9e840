"""Contenders, each a process that is driven from here, and a race of them over the same rows."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.readme import ROOT
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.text import duplicate_key
from dupq.hub.manifest import MANIFEST
from dupq.pipeline import SHIPPED

WORKER = Path(__file__).with_name("worker.py")
WARM_UP = 64
SEED = 0
Rows = tuple[Sequence[str], Sequence[str]]
"""Left and right texts; of sentences only the left."""


class Worker:
    """A contender in a process of its own.

    Attributes:
        ready: Versions of its packages; "error" where it could not start.
    """

    def __init__(self, settings: dict[str, Any], threads: int | None = None, python: str = sys.executable) -> None:
        names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
        env = {name: value for name, value in os.environ.items() if name not in names}
        env |= {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        env |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
        self.process = subprocess.Popen(
            [python, str(WORKER), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )
        try:
            self.ready = self._read()
        except RuntimeError as error:  # such as for want of memory
            self.ready = {"error": str(error)}

    def ask(self, **job: Any) -> dict[str, Any]:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contender died with status {self.process.wait()}")
        return dict(json.loads(line))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def workers(
    wanted: dict[str, dict[str, Any]], args: argparse.Namespace, warm_up: Rows
) -> Iterator[tuple[dict[str, Worker], dict[str, str]]]:
    """Those that start, warmed up, and, by name, why the others did not."""
    with ExitStack() as stack:
        running, failed = {}, {}

        def started(settings: dict[str, Any]) -> Worker:
            python = args.other_python if settings.get("backend") and args.other_python else sys.executable
            return Worker(settings, args.threads, python)

        # An export takes several times the memory of its network, so each is made before any other contender is open.
        for settings in wanted.values():
            if settings.get("backend"):
                started(settings).close()
        for name, settings in wanted.items():
            worker = started(settings)
            stack.callback(worker.close)
            if "error" in worker.ready:
                failed[name] = worker.ready["error"]
            else:
                worker.ask(left=warm_up[0], right=warm_up[1])
                running[name] = worker
        yield running, failed


def race(
    wanted: dict[str, dict[str, Any]],
    args: argparse.Namespace,
    warm_up: Rows,
    rounds: Sequence[Rows],
    shares: dict[str, float] | None = None,
    meter: Callable[[], float] | None = None,
) -> dict[str, Any]:
    """Give every contender the same rows, round by round, so that ratios are of like with like.

    Args:
        wanted: Settings of contenders by name; ours is the first.
        args: The options.
        warm_up: Rows before the first round, not measured.
        rounds: Fresh rows of each round.
        shares: Share of a round's rows, its first ones, that a slow contender gets (1).
        meter: Reading of an energy meter, in joules.

    Returns:
        "rows" with `per_second` (median), `times` (median, least and largest ratio of our rows a second to theirs in
        the same round), `rates`, `ratios`, and with a meter `joules` a row; "failed".
    """
    rates: dict[str, list[float]] = {}
    joules: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    with workers(wanted, args, warm_up) as (running, failed):
        names = [*running]
        for at, (left, right) in enumerate(rounds):
            turn = at % len(names)
            for name in names[turn:] + names[:turn]:
                n = counts[name] = max(1, round((shares or {}).get(name, 1.0) * len(left)))
                before = meter() if meter else 0.0
                seconds = running[name].ask(left=left[:n], right=right[:n])["seconds"]
                rates.setdefault(name, []).append(n / seconds)
                joules.setdefault(name, []).append(((meter() - before) if meter else 0.0) / n)
                print(f"{name:<50} {n / seconds:9,.1f} a second", flush=True)
        versions = {name: worker.ready.get("versions") for name, worker in running.items()}
    ours = rates[next(iter(wanted))]
    rows = []
    for name in names:
        ratios = [mine / theirs for mine, theirs in zip(ours, rates[name], strict=True)]
        row = {
            "name": name,
            "per_second": median(rates[name]),
            "times": spread(ratios),
            "rates": rates[name],
            "ratios": ratios,
            "a_round": counts[name],
            "versions": versions[name],
        }
        rows.append(row | ({"joules": spread(joules[name])} if meter else {}))
    return {"rows": rows, "failed": [{"name": name, "error": error} for name, error in failed.items()]}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"value": median(values), "low": min(values), "high": max(values)}


def fresh_rounds(table: PairTable, args: argparse.Namespace) -> tuple[Rows, list[Rows]]:
    """Rows to warm up, and rounds of --count pairs; no text occurs twice.

    Raises:
        SystemExit: The file has too few such pairs.
    """
    seen: set[str] = set()
    rows: list[int] = []
    wanted = WARM_UP + args.rounds * args.count
    for row in np.random.default_rng(SEED).permutation(len(table)).tolist():
        keys = {duplicate_key(table.left[row]), duplicate_key(table.right[row])}
        if len(keys) == 2 and not keys & seen and len(rows) < wanted:
            seen |= keys
            rows.append(row)
    if len(rows) < wanted:
        raise SystemExit(f"{args.pairs} holds {len(rows):,} pairs of distinct texts, and {wanted:,} were asked for")
    taken = table.take(np.array(rows))
    left, right = taken.left, taken.right
    starts = range(WARM_UP, wanted, args.count)
    parts = [(left[start : start + args.count], right[start : start + args.count]) for start in starts]
    return (left[:WARM_UP], right[:WARM_UP]), parts


def read(args: argparse.Namespace) -> PairTable:
    return load_pairs(args.pairs)


def model_folder(args: argparse.Namespace) -> Path:
    return SHIPPED if args.model is None else Path(args.model)


def tokenizer(args: argparse.Namespace) -> Path:
    """The file of the model's tokenizer."""
    return sorted(model_folder(args).rglob("tokenizer.json"))[0]


def about(args: argparse.Namespace) -> dict[str, Any]:
    """What every part holds: the machine, the versions, the model."""
    from benchmarks.speed.worker import versions

    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    names = {line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")}
    flags = {flag for line in cpu.splitlines() if line.startswith("flags") for flag in line.split()}
    return {
        "command": "python -m benchmarks.speed",
        "model": json.loads((model_folder(args) / MANIFEST).read_text(encoding="utf-8"))["fingerprint"],
        "cpu": ", ".join(sorted(names)) or None,
        "int8_instructions": sorted(flags & {"amx_int8", "avx512_vnni", "avx_vnni"}),
        "cores": len(os.sched_getaffinity(0)),
        "threads": args.threads,
        "rounds": args.rounds,
        "versions": versions(),
    }
