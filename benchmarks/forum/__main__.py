"""`python -m benchmarks.forum mining|flagging|groups|crash|tables`: figures of a whole forum, as JSON and tables."""

from __future__ import annotations

import argparse

from benchmarks.forum import crash, flagging, groups, mining, tables
from benchmarks.readme import RESULTS

PARTS = {"mining": mining, "flagging": flagging, "groups": groups, "crash": crash, "tables": tables}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forum", description="Figures of a whole forum.")
    commands = parser.add_subparsers(required=True, dest="part")
    for name, module in PARTS.items():
        command = commands.add_parser(
            name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_options(command)
        ending = "forum.md" if name == "tables" else f"forum_{name}.json"
        command.add_argument("-o", "--output", default=str(RESULTS / ending))
        command.set_defaults(run=module.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
