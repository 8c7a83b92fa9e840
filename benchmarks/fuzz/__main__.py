"""`python -m benchmarks.fuzz`: run random inputs up to a number or a time."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OFFLINE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONHASHSEED": "0",
    "RUST_BACKTRACE": "0",
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    made.add_argument(
        "--seconds", type=float, default=float("inf"), help="seconds after which to stop (default: no limit)"
    )
    made.add_argument("--inputs", type=int, default=100_000, help="number of inputs in all (default: 100,000)")
    made.add_argument("--seed", type=int, default=0, help="seed of all inputs (default: 0)")
    made.add_argument(
        "--out",
        type=Path,
        default=Path("benchmarks/results/fuzz.json"),
        help="result as JSON (default: benchmarks/results/fuzz.json)",
    )
    made.add_argument(
        "--state", type=Path, help="file that a run resumes from, written every two seconds (default: none)"
    )
    made.add_argument(
        "--no-networks", action="store_true", help="use only the model that counts words, which starts at once"
    )
    made.add_argument(
        "--one", nargs=2, metavar=("KIND", "NUMBER"), help="run this input alone and print its traceback (default: all)"
    )
    made.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return made


def main() -> int:
    args = parser().parse_args()
    if args.worker is None:
        return supervise(args)
    from benchmarks.fuzz.runner import State, quiet, work
    from benchmarks.fuzz.world import build_world

    world = build_world(args.worker, not args.no_networks)
    quiet()
    if args.one:
        return show(args, world)
    state = State.load(args.state, args.seed)
    retry(state, world)
    work(state, args.state, args.worker / "journal", world, args.inputs, args.seconds)
    return 0


def show(args: argparse.Namespace, world) -> int:  # type: ignore[no-untyped-def]
    """Run one input and print its traceback."""
    from benchmarks.fuzz import runner

    kind, number = args.one[0], int(args.one[1])
    given = runner.KINDS[kind]

    def traced(rng, world) -> None:  # type: ignore[no-untyped-def]
        try:
            given(rng, world)
        except BaseException:
            import traceback

            print(traceback.format_exc(), file=sys.__stderr__)
            raise

    runner.KINDS[kind] = traced
    print(runner.attempt(kind, args.seed, number, world), file=sys.__stderr__)
    return 0


def retry(state, world) -> None:  # type: ignore[no-untyped-def]
    """Repeat the findings of an earlier run, and close those that no longer occur."""
    from benchmarks.fuzz.runner import attempt

    found, state.findings = state.findings, []
    for old in found:
        inputs = [(old.kind, old.seed, old.number), *(tuple(line.split()) for line in old.more)]
        if old.error == "Death":
            continue
        for kind, seed, number in inputs:
            new = attempt(kind, int(seed), int(number), world)
            if new is not None:
                state.add(new)
        if old.key not in {finding.key for finding in state.findings}:
            state.closed.append(str(old))


def supervise(args: argparse.Namespace) -> int:
    """Start workers until all inputs are done, because an input may kill its process."""
    root = Path(tempfile.mkdtemp(prefix="dupq-fuzz-"))
    state_file = args.state.absolute() if args.state else root / "state.json"
    out = args.out.absolute()
    started = time.monotonic()
    try:
        while True:
            left = args.seconds - (time.monotonic() - started)
            command = [sys.executable, "-m", "benchmarks.fuzz", "--worker", str(root), "--state", str(state_file)]
            command += ["--seed", str(args.seed), "--inputs", str(args.inputs), "--seconds", str(left)]
            command += [*(["--no-networks"] if args.no_networks else []), *(["--one", *args.one] if args.one else [])]
            result = subprocess.run(command, env=os.environ | OFFLINE, check=False)
            if args.one or result.returncode == 0:
                break
            if not died(root / "journal", state_file, args.seed, result.returncode):
                return 1
        if args.one:
            return result.returncode
        return report(state_file, out, args)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def died(journal: Path, state_file: Path, seed: int, status: int) -> bool:
    """Record the input that killed the worker as a finding, and skip it; return False if no input did."""
    from benchmarks.fuzz.runner import Finding, State

    words = journal.read_text(encoding="ascii").split() if journal.is_file() else []
    if len(words) != 2 or status in (-2, 130):
        return False
    kind, number = words[0], int(words[1])
    state = State.load(state_file, seed)
    state.add(Finding(kind, seed, number, "Death", f"status {status}", f"{kind} {number}"))
    state.done[kind] = number + 1
    state.save(state_file)
    journal.unlink()
    return True


def report(state_file: Path, out: Path, args: argparse.Namespace) -> int:
    from benchmarks.fuzz.runner import State

    state = State.load(state_file, args.seed)
    data = {
        "command": f"python -m benchmarks.fuzz --inputs {args.inputs} --seed {args.seed}",
        "seed": state.seed,
        "inputs": {**state.done, "total": state.total},
        "seconds": state.seconds,
        "peak_mb": state.peak_mb,
        "networks": not args.no_networks,
        "findings": [str(finding) for finding in state.findings],
        "closed": len(state.closed),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for finding in state.findings:
        print(finding)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in state.done.items())
    print(f"{state.total:,} inputs ({counts}) in {state.seconds:,.0f} s: {len(state.findings)} findings -> {out}")
    return 1 if state.findings else 0


if __name__ == "__main__":
    sys.exit(main())
