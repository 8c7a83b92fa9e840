"""Figures of an index under load: clients are processes of their own, so that each has its own memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dupq.index.question_index import BATCH

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 8
SHARES_EVERY = 5
"""The shares of network, search and scoring are measured of each n-th flag."""
GIVEN_BATCHES = 32
"""Batches that are added with given vectors for a figure."""
NETWORK_BATCHES = 2
"""Batches that one client adds with the network; eight clients add twice as many."""


def run(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run jobs side by side, each in a process, which begin together; return their results.

    Raises:
        RuntimeError: A process failed; its traceback is on stderr.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.index.client", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        for job in jobs
    ]
    try:
        for process in running:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError(f"a client could not begin: {process.args}")
        for process in running:
            if process.stdin is not None:
                process.stdin.write("go\n")
                process.stdin.flush()
        # Not by `communicate`, which would read one after the other: each prints one line.
        lines = [process.stdout.readline() if process.stdout is not None else "" for process in running]
        if not all(lines) or any(process.wait() for process in running):
            raise RuntimeError("a client failed")
    finally:
        for process in running:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
    return [json.loads(line) for line in lines]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds, and the number of measurements."""
    return {
        "p50_ms": float(np.quantile(seconds, 0.5) * 1e3),
        "p99_ms": float(np.quantile(seconds, 0.99) * 1e3),
        "count": len(seconds),
    }


def fill(base: dict[str, Any], start: int, stop: int) -> None:
    """Add the questions from `start` to `stop` with given vectors."""
    if start < stop:
        run([{**base, "task": "add", "start": start, "stop": stop, "threads": 1, "network": False}])


@dataclass(frozen=True)
class Adds:
    """Adds that are measured: questions from `start` to `stop`, with the network or with given vectors."""

    name: str
    network: bool
    threads: int
    processes: int
    start: int
    stop: int


def measured_adds(size: int) -> list[Adds]:
    """Return the measured adds of an index of `size` questions, which are its last ones, in order."""
    kinds = (
        ("given_1", False, 1, 1, GIVEN_BATCHES),
        ("given_8_threads", False, CLIENTS, 1, GIVEN_BATCHES),
        ("given_8_processes", False, 1, CLIENTS, GIVEN_BATCHES),
        ("network_1", True, 1, 1, NETWORK_BATCHES),
        ("network_8_threads", True, CLIENTS, 1, 2 * NETWORK_BATCHES),
    )
    batch = max(1, min(BATCH, size // (2 * sum(kind[-1] for kind in kinds))))
    found, stop = [], size
    for name, network, threads, processes, batches in reversed(kinds):
        rows = max(batches * batch, CLIENTS)
        found.append(Adds(name, network, threads, processes, stop - rows, stop))
        stop -= rows
    return found[::-1]


def measure_add(base: dict[str, Any], adds: Adds) -> dict[str, float]:
    """Add questions that are not stored yet; return questions per second and their number.

    Raises:
        RuntimeError: Not all of them were new.
    """
    share = -(-(adds.stop - adds.start) // adds.processes)
    job = {**base, "task": "add", "threads": adds.threads, "network": adds.network}
    jobs = [{**job, "start": low, "stop": min(low + share, adds.stop)} for low in range(adds.start, adds.stop, share)]
    results = run(jobs)
    added = sum(result["added"] for result in results)
    if added != adds.stop - adds.start:
        raise RuntimeError(f"{added} of {adds.stop - adds.start} questions were added")
    seconds = results[0]["seconds"] if len(results) == 1 else _elapsed(results)
    return {"per_second": added / seconds, "count": added}


def measure_flags(base: dict[str, Any], flags: int, search: str) -> dict[str, Any]:
    """Return latencies of flags of one client and of eight, shares of one flag, and the memory of the one.

    Args:
        base: The common part of the jobs.
        flags: Number of flags of one client, and of eight together.
        search: "exact" or "approximate".
    """
    job = {**base, "task": "flag", "search": search, "first": 0, "threads": 1, "shares_every": 0}
    each = max(1, flags // CLIENTS)
    one = run([{**job, "count": flags, "shares_every": SHARES_EVERY}])
    threads = run([{**job, "count": each, "threads": CLIENTS}])
    processes = run([{**job, "count": each, "first": at * each, "network_threads": 1} for at in range(CLIENTS)])
    found: dict[str, Any] = {}
    for name, results in (("1", one), ("8_threads", threads), ("8_processes", processes)):
        seconds = [second for result in results for second in result["seconds"]]
        found[name] = percentiles(seconds)
        if name != "1":
            found[name]["per_second"] = len(seconds) / _elapsed(results)
    shares = np.median(one[0]["shares"], axis=0) * 1e3
    found["shares"] = dict(zip(("network_ms", "search_ms", "scoring_ms"), shares.tolist(), strict=True))
    found["memory"] = {**one[0]["memory"], "before_mb": one[0]["before"].get("resident_mb")}
    found["first_flag_s"] = one[0]["first_flag_s"]
    return found


def _elapsed(results: Sequence[dict[str, Any]]) -> float:
    return float(max(result["ended"] for result in results) - min(result["began"] for result in results))
