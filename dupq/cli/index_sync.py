"""`dupq index sync`: bring an index to the state of an export of the forum."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dupq.cli.console import emit, note, progress_bar
from dupq.cli.index_options import add_index, open_without_model
from dupq.cli.inputs import add_question_options, new_report, open_questions, print_report, question_arguments
from dupq.cli.pipeline_options import add_model_options, open_pipeline
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.data.questions import Question
    from dupq.data.reading import ReadReport


def add_actions(actions: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command below `dupq index`."""
    sync = actions.add_parser("sync", parents=[shared], help="bring an index to the state of an export")
    add_index(sync, "index file, or postgresql://user@host/database; created if it does not exist")
    sources = sync.add_mutually_exclusive_group(required=True)
    sources.add_argument(
        "--stackexchange", metavar="DUMP", help="folder of a Stack Exchange dump, or its Posts.xml (default: none)"
    )
    sources.add_argument(
        "--discourse-export",
        metavar="FILE",
        help="export of Discourse, the file of `script/discourse export_categories` (default: none)",
    )
    sources.add_argument(
        "--csv", metavar="FILE", help="CSV, TSV, JSON, JSONL or Parquet file of questions (default: none)"
    )
    sync.add_argument("--keep-missing", action="store_true", help="keep questions that the export lacks")
    sync.add_argument(
        "--allow-removals",
        metavar="N|PERCENT",
        default="20%",
        help="maximum number of questions to remove, such as 500, or share of the stored ones, such as 35%% "
        "(default: 20%%)",
    )
    sync.add_argument("--dry-run", action="store_true", help="print the counts, and change nothing")
    add_model_options(sync)
    add_question_options(sync)
    sync.set_defaults(run=run_sync)


def run_sync(args: argparse.Namespace) -> int:
    from dupq.index.question_index import QuestionIndex
    from dupq.index.stores.base import MissingIndexError
    from dupq.index.syncing import check_removals

    max_removals = parse_removals(args.allow_removals)
    with suppress(MissingIndexError):
        open_without_model(args).close()  # refuses a file that is no index before the questions are read
    reading = new_report(args)
    questions = _read(args, reading)
    given = {**question_arguments(args, questions, reading), "keep_missing": args.keep_missing}
    print_report(reading)
    if args.dry_run:
        with open_without_model(args) as index:
            report, place = index.sync(**given, dry_run=True), index.location
        try:
            check_removals(report, max_removals)
        except InputError as error:
            note(f"the sync would be refused: {error}")
        count = report.stored + report.added - report.removed
    else:
        with QuestionIndex(args.index, open_pipeline(args), wait=args.wait) as index:
            with progress_bar("syncing") as bar:
                report = index.sync(**given, max_removals=max_removals, progress=bar)
            count, place = len(index), index.location
    counts = asdict(report)
    text = ", ".join(f"{counts[name]:,} {name}" for name in counts if name != "stored")
    text += f"; {count:,} questions in {place}"
    emit(args, {**counts, "questions": count, "dry_run": args.dry_run}, f"{'dry run: ' * args.dry_run}{text}")
    return 0


def parse_removals(text: str) -> int | float:
    """Return "500" as 500 and "35%" as 0.35.

    Raises:
        InputError: It is neither a whole number nor a percentage from 0 to 100.
    """
    digits = text.strip().removesuffix("%").strip()
    try:
        value = float(digits) / 100 if text.strip().endswith("%") else int(digits)
    except ValueError:
        value = -1
    if not value >= 0 or (isinstance(value, float) and value > 1):
        raise InputError(
            f"--allow-removals must be a number of questions or a percentage up to 100%, got {text!r:.60}",
            hint="write it as 500 or 35%",
        )
    return value


def _read(args: argparse.Namespace, report: ReadReport) -> list[Question]:
    from dupq.data.questions import read_discourse
    from dupq.data.stackexchange import is_dump

    if args.discourse_export is not None:
        for name in ("id_column", "created_column", "format", "delimiter", "encoding"):
            if getattr(args, name) is not None:
                raise InputError(
                    f"--{name.replace('_', '-')} does not apply to --discourse-export",
                    hint="leave it out, or use --csv",
                )
        return list(
            read_discourse(
                args.discourse_export,
                text_columns=args.text_column or (),
                id_type=args.id_type,
                html=args.html,
                report=report,
            )
        )
    source = args.csv if args.stackexchange is None else args.stackexchange
    if (args.stackexchange is None) == is_dump(source):
        raise InputError(
            f"{source} is {'a' if args.stackexchange is None else 'no'} Stack Exchange dump",
            hint="use --stackexchange for Posts.xml or its folder, and --csv for other files",
        )
    return list(open_questions(args, source, report, details=True))
