"""`dupq data`: split pairs, find leaks, and build pairs from Stack Exchange."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from dupq.cli.console import emit, format_table
from dupq.cli.inputs import add_pair_options, pair_options, parse_where, print_report
from dupq.data.reading import ReadReport


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    data = commands.add_parser("data", help="prepare labelled pairs")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    split = actions.add_parser("split", parents=[shared], help="split pairs so that no question group is shared")
    split.add_argument("pairs", metavar="PAIRS", help="labelled file: TSV, CSV, JSONL or Parquet, plain, .gz or .xz")
    split.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the splits")
    split.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    split.add_argument(
        "--fractions",
        nargs=4,
        type=float,
        metavar=("TRAIN", "VALIDATION", "CALIBRATION", "TEST"),
        help="shares of the question groups (default: 0.70 0.03 0.07 0.20)",
    )
    split.add_argument(
        "--held-out-where",
        action="append",
        metavar="COLUMN=VALUE",
        help="keep other rows out of all splits but train, such as rows whose share of duplicates is not natural "
        "(default: no condition)",
    )
    add_pair_options(split)
    split.set_defaults(run=run_split)

    check = actions.add_parser("check", parents=[shared], help="find pairs of B in question groups of A")
    check.add_argument("a", metavar="A", help="file of pairs, such as the training pairs")
    check.add_argument("b", metavar="B", help="file of pairs to check")
    add_pair_options(check, labelled=False)
    check.set_defaults(run=run_check)

    dump = actions.add_parser("from-stackexchange", parents=[shared], help="build labelled pairs from a dump")
    dump.add_argument("dump", metavar="DUMP", help="folder with Posts.xml and PostLinks.xml, or Posts.xml itself")
    dump.add_argument("--links", metavar="FILE", help="path of PostLinks.xml (default: beside Posts.xml)")
    dump.add_argument("-o", "--output", required=True, metavar="OUT", help="pairs as JSONL, CSV, TSV or Parquet")
    dump.add_argument("--negatives", type=float, default=2.0, help="distinct pairs per duplicate (default: 2.0)")
    dump.add_argument(
        "--hard", type=float, default=0.5, metavar="SHARE", help="share of hard distinct pairs (default: 0.5)"
    )
    dump.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    dump.add_argument(
        "--model",
        metavar="DIR|ID",
        help="pipeline whose bi-encoder finds the hard pairs (default: none, by shared words)",
    )
    dump.set_defaults(run=run_stackexchange)


def run_split(args: argparse.Namespace) -> int:
    from dupq.data.splits import SplitSettings, split_file

    names = ("train", "validation", "calibration", "test")
    fractions = dict(zip(names, args.fractions, strict=True)) if args.fractions else None
    settings = SplitSettings(fractions, args.seed, parse_where(args.held_out_where))
    options = pair_options(args)
    report = split_file(args.pairs, args.output, settings, **options)
    print_report(options["report"])
    rows = []
    for name, part in report["splits"].items():
        rate = "-" if part["base_rate"] is None else f"{part['base_rate']:.1%}"
        rows.append((name, part["pairs"], part["groups"], rate))
    table = format_table(rows, ("split", "pairs", "question groups", "duplicates"), indent=2)
    lines = [f"{report['pairs']:,} pairs -> {args.output}", table]
    if report["left_out"]:
        lines.append(f"{report['left_out']:,} rows left out: they may only train, and their groups are held out")
    lines += [f"CAUTION: {line}" for line in report["notes"]]
    emit(args, report, "\n".join(lines))
    return 0


def run_check(args: argparse.Namespace) -> int:
    from dupq.data.grouping import leak_report
    from dupq.data.pairs import load_pairs

    options = pair_options(args)
    a, b = (load_pairs(path, labelled=False, **options) for path in (args.a, args.b))
    report = leak_report((a.left, a.right), (b.left, b.right))
    print_report(options["report"])
    emit(args, {**asdict(report), "clean": report.clean}, str(report))
    return 0 if report.clean else 1


def run_stackexchange(args: argparse.Namespace) -> int:
    from dupq.data.stackexchange import COLUMNS, pairs_from_stackexchange
    from dupq.data.writing import output_format, write_rows

    output_format(args.output)
    embed = None
    if args.model is not None:
        from dupq.decisions.decider import embedder_of
        from dupq.pipeline import DuplicatePipeline

        embed = embedder_of(DuplicatePipeline.from_pretrained(args.model)).embed
    reading = ReadReport(skip_bad=True)
    found = pairs_from_stackexchange(
        args.dump,
        args.links,
        negatives=args.negatives,
        hard=args.hard,
        embed=embed,
        seed=args.seed,
        report=reading,
    )
    write_rows(args.output, found.rows, COLUMNS, escape_formulas=False)
    print_report(reading)
    report = found.report
    arrow = "" if args.output == "-" else f" -> {args.output}"
    text = (
        f"{report['closed']:,} duplicates, {report['hard']:,} hard and {report['random']:,} random distinct pairs "
        f"of {report['questions']:,} questions{arrow}\n"
        "Their share of duplicates is not natural: give --base-rate when you use the model."
    )
    emit(args, report, text)
    return 0
