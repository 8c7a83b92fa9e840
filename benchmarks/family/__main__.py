"""`python -m benchmarks.family run|speed|fewshot|table`: the Siamese family on the same pairs, as JSON and a table.

    python -m benchmarks.family run --splits DIR --base DIR --work DIR
    python -m benchmarks.family speed --splits DIR --base DIR --work DIR
    python -m benchmarks.family fewshot --network NAME=DIR ... --train FILE --test FILE
    python -m benchmarks.family table

`run` writes one JSON a method and seed at once, and leaves what is there already: interrupted, it goes on. Processes
with other `--seeds` or `--methods` may run beside it. `table` writes `benchmarks/family.md` from the JSON alone.
"""

from __future__ import annotations

import argparse

from benchmarks.family import fewshot, runs, speed, tables


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.family", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, module in (("run", runs), ("speed", speed), ("fewshot", fewshot), ("table", tables)):
        command = commands.add_parser(name, description=module.__doc__)
        module.add_options(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
