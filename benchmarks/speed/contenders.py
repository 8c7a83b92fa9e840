"""The contenders, each a process that is driven from here."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.readme import ROOT
from dupq.data.pairs import PairTable, load_pairs
from dupq.pipeline import DuplicatePipeline

WORKER = Path(__file__).with_name("worker.py")
WARM_UP = 64


class Worker:
    """A contender in a process of its own.

    Attributes:
        ready: What it told of itself: versions, and, of a pipeline, its cascade; "error" where it could not start.
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
        self.ready = self._read()

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


@contextmanager
def workers(
    wanted: dict[str, dict[str, Any]], args: argparse.Namespace, pairs: PairTable
) -> Iterator[tuple[dict[str, Worker], dict[str, str]]]:
    """Those that start, warmed up, and, by name, why the others did not."""
    with ExitStack() as stack:
        running, failed = {}, {}
        for name, settings in wanted.items():
            python = args.other_python if settings.get("backend") and args.other_python else sys.executable
            worker = Worker(settings, args.threads, python)
            stack.callback(worker.close)
            if "error" in worker.ready:
                failed[name] = worker.ready["error"]
            else:
                worker.ask(left=pairs.left[:WARM_UP], right=pairs.right[:WARM_UP], quiet=True)
                running[name] = worker
        yield running, failed


def pipelines(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Our own paths."""
    folders = {"dupq, int8": args.model, **cascades(args)}
    return {name: {"kind": "pipeline", "model": folder, "threads": args.threads} for name, folder in folders.items()}


def cascades(args: argparse.Namespace) -> dict[str, str]:
    """Name -> folder; a cascade is named by the share of decisions that it was to keep."""
    shares = {folder: DuplicatePipeline.from_pretrained(folder).cascade.min_agreement for folder in args.cascade}
    return {f"dupq, int8, cascade that keeps {share:.1%}": folder for folder, share in shares.items()}


def read(args: argparse.Namespace, count: int) -> PairTable:
    """The first pairs of the file."""
    table = load_pairs(args.pairs)
    if len(table) < count:
        raise SystemExit(f"{args.pairs} holds {len(table):,} pairs, and {count:,} were asked for")
    return table.take(slice(0, count))


def about(args: argparse.Namespace, table: PairTable | None = None) -> dict[str, Any]:
    """What every part tells: the machine, the versions, the pairs."""
    from benchmarks.speed.worker import versions

    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    names = {line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")}
    flags = {flag for line in cpu.splitlines() if line.startswith("flags") for flag in line.split()}
    found: dict[str, Any] = {
        "cpu": ", ".join(sorted(names)) or None,
        "int8_instructions": sorted(flags & {"amx_int8", "avx512_vnni", "avx_vnni"}),
        "cores": len(os.sched_getaffinity(0)),
        "threads": args.threads,
        "versions": versions(),
    }
    if table is not None:
        found["pairs"] = {"count": len(table), "base_rate": table.base_rate, "fingerprint": table.fingerprint}
    return found
