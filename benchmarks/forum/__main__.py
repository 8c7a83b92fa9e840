"""Figures of a whole forum, part by part: `python -m benchmarks.forum PART --data FILE --scratch DIR ...`.

Each part writes its results as JSON, as they come, and leaves out what an earlier run has measured: delete the JSON to
measure anew. `tables` makes `forum.md` of them, and `all` runs one part after the other. On two idle cores: vectors 5
minutes, scan 5, text 5, groups 2. The live index is measured by `python -m benchmarks.index`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.forum import groups, mining, tables, vectors
from benchmarks.readme import RESULTS

PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "vectors": vectors.run,
    "scan": mining.scan,
    "text": mining.text,
    "groups": groups.run,
    "tables": tables.run,
}


NEEDED = {"groups": ("test", "scratch"), "tables": ()}
"""Without which options a part cannot run, where these are not data and scratch."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forum", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--data", help="labelled pairs, whose questions are the forum")
    parser.add_argument("--scratch", help="a folder for vectors, indexes and what is found")
    parser.add_argument("--model", help="a calibrated pipeline with both networks (the shipped one)")
    parser.add_argument("--static", help="text: the folder of SemHash's static encoder")
    parser.add_argument("--test", help="groups: labelled pairs that the model never saw, in their natural mix")
    parser.add_argument("--where", metavar="COLUMN=VALUE", help="groups: only these rows of them")
    parser.add_argument("--questions", type=int, default=20_000, help="groups: only so many of their questions")
    parser.add_argument("--output", help="where the JSON goes, for one part (benchmarks/results/forum_PART.json)")
    parser.add_argument("--sizes", type=int, nargs="+", help="scan, text: these of their sizes only")
    parser.add_argument("--only", nargs="+", help="scan, text: these contenders only")
    parser.add_argument("--threads", type=int, default=2, help="scan: threads of torch")
    args = parser.parse_args()
    output = args.output
    for name in PARTS if args.part == "all" else [args.part]:
        needed = NEEDED.get(name, ("data", "scratch"))
        missing = [f"--{option}" for option in needed if getattr(args, option) is None]
        if missing:
            parser.error(f"{name} needs {', '.join(missing)}")
        args.part = name
        args.output = output or str(RESULTS / ("forum.md" if name == "tables" else f"forum_{name}.json"))
        PARTS[name](args)


if __name__ == "__main__":
    main()
