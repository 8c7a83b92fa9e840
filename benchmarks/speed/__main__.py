"""How fast, part by part: `python -m benchmarks.speed PAIRS --model DIR --stock DIR [--part PART ...]`.

    PAIRS      labelled pairs that no network was trained on, in their natural mix
    --model    the int8 pipeline, as `dupq model export` makes it (the shipped model)
    --stock    the pipeline that it was exported from, whose networks sentence-transformers opens
    --cascade  the int8 pipeline with a cascade, as `dupq model export --cascade` makes it, once or at several shares
    --alone    the int8 pipeline without a blend, as `dupq calibrate --no-blend` and `dupq model export` make it

Each part writes its JSON as soon as it is done, and can be run alone. `tables` makes `speed.md` of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.readme import RESULTS
from benchmarks.speed import tables, throughput

PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "start": throughput.start,
    "pairs": throughput.pairs,
    "sentences": throughput.sentences,
    "tables": tables.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", metavar="PAIRS")
    parser.add_argument("--model", metavar="DIR")
    parser.add_argument("--stock", metavar="DIR", required=True)
    parser.add_argument("--cascade", metavar="DIR", nargs="*", default=[])
    parser.add_argument("--alone", metavar="DIR")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--results", default=str(RESULTS), metavar="DIR", help="where the JSON and the tables go")
    parser.add_argument("--count", type=int, default=20_000, help="pairs (20,000)")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions, of which the median is told (5)")
    parser.add_argument("--sentences", type=int, default=10_000)
    parser.add_argument("--singles", type=int, default=300, help="pairs scored one by one (300)")
    parser.add_argument("--threads", type=int, help="of every contender (all cores)")
    parser.add_argument("--backends", nargs="*", default=["onnx", "openvino"], choices=("onnx", "openvino"))
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="where those export their networks")
    parser.add_argument("--other-python", metavar="PYTHON", help="an interpreter that has what the backends need")
    args = parser.parse_args()
    for name in args.part:
        began = time.perf_counter()
        args.output = str(Path(args.results) / ("speed.md" if name == "tables" else f"speed_{name}.json"))
        PARTS[name](args)
        print(f"{name}: {time.perf_counter() - began:,.0f} s -> {args.output}", flush=True)


if __name__ == "__main__":
    main()
