"""`python -m benchmarks.family run|plan|speed|fewshot|table`: the Siamese family on the same pairs, as tables.

    python -m benchmarks.family run --splits DIR --base DIR --work DIR
    python -m benchmarks.family plan --splits DIR --base DIR --work DIR
    python -m benchmarks.family speed --splits DIR --base DIR --work DIR
    python -m benchmarks.family fewshot --network NAME=DIR ... --train FILE --test FILE
    python -m benchmarks.family table

`run` writes one JSON a method, seed and training set at once, and leaves what is there already: interrupted, it goes
on. Start it once a core, each with `OMP_NUM_THREADS=1`: processes share the runs out. `plan` estimates what is left.
`table` writes `benchmarks/family.md`, `docs/explanation/family.md` and its pictures from the JSON alone.
"""

from __future__ import annotations

import argparse

from benchmarks.family import fewshot, plan, runs, speed, tables


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.family", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, module in (("run", runs), ("plan", plan), ("speed", speed), ("fewshot", fewshot), ("table", tables)):
        command = commands.add_parser(name, description=module.__doc__)
        module.add_options(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
