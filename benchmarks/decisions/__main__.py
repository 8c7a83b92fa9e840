"""`python -m benchmarks.decisions guarantee|elsewhere|tables`: figures as JSON, then tables.

Raw scores are kept in `--cache`, so each part scores only what no earlier one did. `all` runs every part that has not
been run with this pipeline, each writing its JSON at once, and then the tables: a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from types import ModuleType

from benchmarks.decisions import elsewhere, guarantee, scored, tables
from benchmarks.readme import RESULTS
from dupq.data.writing import write_json

PARTS: dict[str, ModuleType] = {
    "guarantee": guarantee,
    "elsewhere": elsewhere,
}


def run_part(args: argparse.Namespace) -> None:
    measure(args.part, scored.Source(args), args.output)


def measure(part: str, source: scored.Source, output: str | Path) -> None:
    start = time.perf_counter()
    write_json(output, {**source.identity, **PARTS[part].run(source)})
    print(f"{part}: {time.perf_counter() - start:.0f} s -> {output}", flush=True)


def run_all(args: argparse.Namespace) -> None:
    source = scored.Source(args)
    for part in PARTS:
        output = result_of(part)
        done = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
        if {key: done.get(key) for key in source.identity} == source.identity:
            print(f"{part}: has been run", flush=True)
        else:
            measure(part, source, output)
    args.output = str(RESULTS / "decisions.md")
    tables.run(args)


def result_of(part: str) -> Path:
    return RESULTS / f"decisions_{part}.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="part")
    for name, module in PARTS.items():
        command = commands.add_parser(
            name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        scored.add_options(command)
        module.add_options(command)
        command.add_argument("-o", "--output", default=str(result_of(name)))
        command.set_defaults(run=run_part)
    command = commands.add_parser(
        "all", description="Every part that has not been run with this pipeline, then tables."
    )
    scored.add_options(command)
    for module in PARTS.values():
        module.add_options(command)
    command.set_defaults(run=run_all)
    command = commands.add_parser("tables", description=tables.__doc__)
    command.add_argument("-o", "--output", default=str(RESULTS / "decisions.md"))
    command.set_defaults(run=tables.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
