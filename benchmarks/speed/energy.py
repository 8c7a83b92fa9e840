"""Joules of a pair, by the counters of the processor (RAPL), where the machine shows them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.speed.contenders import fresh_rounds, race, read, tokenizer
from benchmarks.speed.shapes import CROSS_ENCODERS, cross_encoder
from benchmarks.speed.throughput import OURS, pipeline

COUNTERS = Path("/sys/class/powercap")


def energy(args: argparse.Namespace) -> dict[str, Any]:
    """Energy of whole processors, what idles included."""
    try:
        joules()
    except OSError:
        return {"left_out": "the machine shows no energy counters (RAPL)"}
    shape = CROSS_ENCODERS[0]
    stock = {"kind": "stock", "model": str(cross_encoder(shape, tokenizer(args), args.scratch))}
    wanted = {OURS: pipeline(args), f"{shape.name}, float32": stock}
    return race(wanted, args, *fresh_rounds(read(args), args), meter=joules)


def joules() -> float:
    """Sum of the counters of all processors, in joules.

    Raises:
        OSError: There are none, or they cannot be read.
    """
    files = sorted(COUNTERS.glob("intel-rapl:[0-9]*/energy_uj"))
    files = [file for file in files if file.parent.name.count(":") == 1]  # parts of a processor are in its sum
    if not files:
        raise OSError("no counters")
    return sum(int(file.read_text()) for file in files) / 1e6
