"""Refit, list, roll back and monitor the calibration of an index.

The calibration is fitted to the verdicts of the index.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from dupq.cli.console import emit, format_table
from dupq.cli.index_options import add_index, add_model, open_without_model
from dupq.cli.pipeline_options import open_pipeline

BY = "command line"


def add_actions(actions: Any, shared: argparse.ArgumentParser) -> None:
    """Add the commands below `dupq index`."""
    calibrate = actions.add_parser("calibrate", parents=[shared], help="refit calibrator and threshold from verdicts")
    add_index(calibrate)
    add_model(calibrate)
    calibrate.add_argument(
        "--target",
        metavar="POLICY",
        help="policy of the threshold, such as 'precision>=0.95' (default: that of the pipeline)",
    )
    _add_by(calibrate)
    calibrate.add_argument("--dry-run", action="store_true", help="fit and evaluate only, and change nothing")
    calibrate.set_defaults(run=run_calibrate)

    versions = actions.add_parser("calibrations", parents=[shared], help="list the versions of the calibration")
    add_index(versions)
    versions.set_defaults(run=run_calibrations)

    back = actions.add_parser("roll-back", parents=[shared], help="decide by an earlier version of the calibration")
    add_index(back)
    back.add_argument(
        "number", type=int, metavar="NUMBER", help="number of the version; 0 for the calibration of the pipeline"
    )
    _add_by(back)
    back.set_defaults(run=run_roll_back)

    monitor = actions.add_parser("monitor", parents=[shared], help="compare the index with its calibration")
    add_index(monitor)
    add_model(monitor)
    monitor.add_argument(
        "--level",
        type=float,
        metavar="P",
        help="precision that the alarm tests, in (0, 1); exit status 1 if it is raised (default: that of the guarantee "
        "or policy)",
    )
    monitor.set_defaults(run=run_monitor)


def _add_by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by", default=BY, metavar="NAME", help=f"name that the version is recorded under (default: {BY})"
    )


def run_calibrate(args: argparse.Namespace) -> int:
    from dupq.index.question_index import QuestionIndex

    open_without_model(args).close()  # refuses a file that is no index before the model is opened
    with QuestionIndex(args.index, open_pipeline(args), wait=args.wait) as index:
        result = index.calibrate(policy=args.target, by=args.by, dry_run=args.dry_run)
    emit(args, {"number": result.number, **result.to_dict()}, str(result))
    return 0


def run_calibrations(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        versions = index.calibrations()
    rows = [
        ("in use" if version.in_use else "", version.number, version.at, version.by, version.guarantee)
        for version in versions
    ]
    text = format_table(rows, ("", "version", "at", "by", "guarantee")) if rows else "the pipeline's own calibration"
    emit(args, {"calibrations": [asdict(version) for version in versions]}, text)
    return 0


def run_roll_back(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        index.roll_back(args.number, by=args.by)
        place = index.location
    used = f"version {args.number}" if args.number else "the calibration of the pipeline"
    emit(args, {"calibration": args.number}, f"{place} decides by {used}")
    return 0


def run_monitor(args: argparse.Namespace) -> int:
    from dupq.index.question_index import QuestionIndex

    open_without_model(args).close()
    with QuestionIndex(args.index, open_pipeline(args), wait=args.wait) as index:
        report = index.monitor(level=args.level)
    emit(args, report.to_dict(), str(report))
    return 1 if report.alarm is not None and report.alarm.raised else 0
