"""`dupq split` and `dupq leaks`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from dupq.cli.console import add_reading_options, emit, parse_where, reading_options, report_skipped


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    split = commands.add_parser(
        "split", parents=[shared], help="split labelled pairs into files that share no question group"
    )
    split.add_argument("pairs", help="a labelled file: TSV, CSV, JSONL or Parquet, plain, .gz or .xz")
    split.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the files of the splits")
    split.add_argument("--seed", type=int, default=0)
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
        help="only such rows may enter a split other than train (rows whose class mix is natural, say)",
    )
    add_reading_options(split)
    split.set_defaults(run=run_split)

    leaks = commands.add_parser("leaks", parents=[shared], help="say which pairs of B are in question groups of A")
    leaks.add_argument("a", metavar="A")
    leaks.add_argument("b", metavar="B")
    add_reading_options(leaks)
    leaks.set_defaults(run=run_leaks)


def run_split(args: argparse.Namespace) -> int:
    from dupq.data.splits import SplitSettings, split_file

    names = ("train", "validation", "calibration", "test")
    fractions = dict(zip(names, args.fractions, strict=True)) if args.fractions else None
    settings = SplitSettings(fractions, args.seed, parse_where(args.held_out_where))
    options = reading_options(args)
    report = split_file(args.pairs, args.output, settings, **options)
    report_skipped(options["skipped"])
    lines = [f"{report['pairs']:,} pairs -> {args.output}"]
    for name, part in report["splits"].items():
        rate = "" if part["base_rate"] is None else f", {part['base_rate']:.1%} duplicates"
        lines.append(f"  {name:<12} {part['pairs']:>9,} pairs in {part['groups']:>8,} question groups{rate}")
    if report["left_out"]:
        lines.append(f"  left out     {report['left_out']:>9,} rows that may only train, in groups held out")
    emit(args, report, "\n".join(lines))
    return 0


def run_leaks(args: argparse.Namespace) -> int:
    from dupq.data.grouping import leak_report
    from dupq.data.splits import load_pairs

    options = reading_options(args)
    a, b = (load_pairs(path, labelled=False, **options) for path in (args.a, args.b))
    report = leak_report((a.left, a.right), (b.left, b.right))
    report_skipped(options["skipped"])
    emit(args, {**asdict(report), "clean": report.clean}, str(report))
    return 0 if report.clean else 1
