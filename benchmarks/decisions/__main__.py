"""`python -m benchmarks.decisions calibrated|promise|elsewhere|worlds|handpicked|tables`: figures as JSON, then tables.

Raw scores are kept in `--cache`, so each part scores only what no earlier one did.
"""

from __future__ import annotations

import argparse
import time
from types import ModuleType

from benchmarks.decisions import calibrated, elsewhere, handpicked, promise, scored, tables, worlds
from benchmarks.readme import RESULTS
from dupq.data.writing import write_json

PARTS: dict[str, ModuleType] = {
    "calibrated": calibrated,
    "promise": promise,
    "elsewhere": elsewhere,
    "worlds": worlds,
    "handpicked": handpicked,
}


def run_part(args: argparse.Namespace) -> None:
    source = scored.Source(args)
    start = time.perf_counter()
    results = {"pipeline": source.pipeline.fingerprint, **PARTS[args.part].run(source)}
    write_json(args.output, results)
    print(f"{args.part}: {time.perf_counter() - start:.0f} s -> {args.output}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="part")
    for name, module in PARTS.items():
        command = commands.add_parser(
            name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        scored.add_options(command)
        module.add_options(command)
        command.add_argument("-o", "--output", default=str(RESULTS / f"decisions_{name}.json"))
        command.set_defaults(run=run_part)
    command = commands.add_parser("tables", description=tables.__doc__)
    command.add_argument("-o", "--output", default=str(RESULTS / "decisions.md"))
    command.set_defaults(run=tables.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
