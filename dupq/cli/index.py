"""`dupq index`, `dupq flag`: index questions, and find duplicates of new ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dupq.cli import index_calibration, index_model, index_sync, index_verdicts
from dupq.cli.console import emit, format_table, join_lines, note, progress_bar
from dupq.cli.index_options import add_id_type, add_index, index_files, open_without_model, typed_ids
from dupq.cli.inputs import add_question_options, new_report, open_questions, print_report, question_arguments
from dupq.cli.outputs import check_outputs
from dupq.cli.pipeline_options import add_model_options, add_threshold, add_verbose, open_pipeline, threshold_line
from dupq.errors import InputError
from dupq.types import Decision

if TYPE_CHECKING:
    from dupq.data.questions import Question
    from dupq.index.flags import FlagReport
    from dupq.index.question_index import QuestionIndex
    from dupq.types import TextWarning

FLAG_COLUMNS = [
    *("id", "question", "duplicate_id", "duplicate", "cosine", "score", "probability", "decision", "copy", "warnings")
]
CHUNK = 1024
"""Questions of a file that are flagged at a time."""
MAX_LISTED = 20
"""Repeated or missing ids that are printed."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    flag = commands.add_parser("flag", parents=[shared], help="find stored duplicates of new questions")
    add_index(flag)
    flag.add_argument("question", nargs="?", metavar="QUESTION", help="new question (default: those of --questions)")
    flag.add_argument(
        "--questions", metavar="FILE", help="file of new questions; - for standard input (default: one QUESTION)"
    )
    flag.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="flags as JSONL, CSV, TSV or Parquet; - for standard output (default: none, needed with --questions)",
    )
    flag.add_argument(
        "-k",
        type=int,
        help="stored questions to score for each new one, the nearest (default: the pipeline's neighbours, else 10)",
    )
    flag.add_argument(
        "--min-cosine",
        type=float,
        metavar="C",
        help="minimum cosine of a stored question to score, in (0, 1] (default: the pipeline's if it has neighbours, "
        "else none)",
    )
    add_threshold(flag)
    add_verbose(flag)
    add_model_options(flag)
    add_question_options(flag)
    flag.set_defaults(run=run_flag)

    index = commands.add_parser("index", help="keep an index of a forum's questions")
    actions = index.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", parents=[shared], help="add questions, or replace their texts")
    add_index(add, "index file, or postgresql://user@host/database; created if it does not exist")
    add.add_argument("questions", metavar="FILE", help="CSV, TSV, JSON, JSONL or Parquet, or a Stack Exchange dump")
    add_model_options(add)
    add_question_options(add)
    add.set_defaults(run=run_add)

    remove = actions.add_parser("remove", parents=[shared], help="remove questions by id")
    add_index(remove)
    remove.add_argument("ids", nargs="+", metavar="ID", help="ids of the questions to remove")
    add_id_type(remove)
    remove.set_defaults(run=run_remove)
    for name, run, help_text in (
        ("stats", run_stats, "print counts, sizes and the model"),
        ("verify", run_verify, "check every row for damage"),
        ("compact", run_compact, "free the space of removed questions"),
    ):
        action = actions.add_parser(name, parents=[shared], help=help_text)
        add_index(action)
        action.set_defaults(run=run)
    for module in (index_sync, index_model, index_verdicts, index_calibration):
        module.add_actions(actions, shared)


# ---- index --------------------------------------------------------------------------------------------------------


def _check_options(args: argparse.Namespace) -> None:
    """Refuse a wrong option before a file is read or a model is opened."""
    from dupq.data.arguments import as_int, as_number
    from dupq.data.checks import checked_rate
    from dupq.decisions.decider import check_threshold
    from dupq.decisions.decision_rule import policies_of
    from dupq.index.question_index import checked_wait

    checked_wait(args.wait)
    if (k := getattr(args, "k", None)) is not None:
        as_int(k, "k")
    if (min_cosine := getattr(args, "min_cosine", None)) is not None:
        as_number(min_cosine, "min_cosine", 0, 1, above=True, hint="try 0.4")
    check_threshold(getattr(args, "threshold", None))
    if args.base_rate is not None:
        checked_rate(args.base_rate)
    policies_of(args.policy, args.miss_rate, args.delta)


def _open_index(args: argparse.Namespace) -> QuestionIndex:
    from dupq.index.question_index import QuestionIndex

    return QuestionIndex(args.index, open_pipeline(args), wait=args.wait)


def run_add(args: argparse.Namespace) -> int:
    from dupq.index.stores.base import MissingIndexError

    _check_options(args)
    with suppress(MissingIndexError):
        open_without_model(args).close()  # refuses a file that is no index before the questions are read
    reading = new_report(args)
    questions = list(open_questions(args, args.questions, reading, details=True))
    columns = question_arguments(args, questions, reading)
    print_report(reading)
    with _open_index(args) as index:
        with progress_bar("adding questions") as bar:
            written = index.add(**columns, progress=bar)
        count, place = len(index), index.location
    repeated = sum(len(places) - 1 for places in written.repeated.values())
    data: dict[str, Any] = {
        "added": written.added,
        "replaced": written.replaced,
        "unchanged": written.unchanged,
        "repeated": repeated,
        "questions": count,
    }
    for id_, places in list(written.repeated.items())[:MAX_LISTED]:
        note(f"the id {id_!r} stands in questions {', '.join(map(str, places))} of the file; the last one is kept")
    if len(written.repeated) > MAX_LISTED:
        note(f"... and {len(written.repeated) - MAX_LISTED:,} more ids")
    text = f"{written.added:,} added, {written.replaced:,} replaced, {written.unchanged:,} unchanged"
    text += f", {repeated:,} left out (repeated id)" if repeated else ""
    emit(args, data, f"{text}; {count:,} questions in {place}")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        ids = typed_ids(args.ids, args.id_type, index)
        missing = [id_ for id_ in ids if id_ not in index]
        removed = index.remove(ids)
        left, place = len(index), index.location
    if missing:
        more = f" and {len(missing) - MAX_LISTED:,} more" if len(missing) > MAX_LISTED else ""
        note(f"not in the index: {', '.join(map(str, missing[:MAX_LISTED]))}{more}")
    data = {"removed": removed, "missing": missing, "questions": left}
    emit(args, data, f"{removed:,} removed; {left:,} questions in {place}")
    return 0


def run_stats(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        stats = index.stats()
    shown = [(name, value) for name, value in stats.items() if not isinstance(value, list)]
    rows = [(name.replace("_", " "), f"{value:,}" if type(value) is int else value) for name, value in shown]
    emit(args, stats, format_table(rows))
    return 0


def run_verify(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        problems = index.verify()
        count = None if problems else len(index)  # a damaged table cannot be counted
    data = {"problems": problems, "questions": count}
    emit(args, data, "\n".join(problems) or f"{count:,} questions, no damage found")
    return 1 if problems else 0


def run_compact(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        before = index.stats()["database_bytes"]
        index.compact()
        after = index.stats()["database_bytes"]
    emit(args, {"bytes_before": before, "bytes_after": after}, f"{before:,} bytes before, {after:,} bytes after")
    return 0


# ---- flag ---------------------------------------------------------------------------------------------------------


def run_flag(args: argparse.Namespace) -> int:
    from dupq.data.text import check_text
    from dupq.index.stores import is_url

    if (args.question is None) == (args.questions is None):
        raise InputError("one question, or --questions FILE, is needed", hint="give one of them")
    if args.questions is not None and args.output is None:
        raise InputError("--questions needs an output", hint="add -o OUT, or -o - for standard output")
    _check_options(args)
    if args.output is not None and is_url(args.output):
        raise InputError("-o must be a file, got the URL of a database", hint="name a file, or - for standard output")
    check_outputs({"-o": args.output}, {"--questions": args.questions, **index_files(args)})
    open_without_model(args).close()  # refuses a file that is no index before the model is opened
    if args.questions is None:
        check_text(args.question, "the question")
        return _flag_one(args)
    return _flag_file(args)


def _flag_one(args: argparse.Namespace) -> int:
    with _open_index(args) as index:
        report = _with_options(index.flag(args.question, k=args.k, min_cosine=args.min_cosine), args)
        _check_id_types(args, index, [])
    if args.output is not None:
        from dupq.data.writing import write_rows

        write_rows(args.output, _flag_rows(None, report), FLAG_COLUMNS)
    data = {
        "question": report.question,
        "flags": [
            {**row, "warnings": _warning_data(flag.warnings)}
            for row, flag in zip(_flag_rows(None, report), report.flags, strict=False)
        ],
        "threshold": report.decider.threshold,
        "base_rate": report.decider.base_rate,
        "guarantee": report.guarantee,
        "stored": report.stored,
        "warnings": _warning_data(report.warnings),
    }
    emit(args, data, _format_flags(report, args.verbose))
    return 0


def _format_flags(report: FlagReport, verbose: bool) -> str:
    """Return a headline, a table of flags, the warnings, and the threshold line."""
    counts = {kind: sum(flag.decision is kind for flag in report.flags) for kind in Decision}
    near = f"{len(report.flags):,} nearest of {report.stored:,} stored questions"
    if not report.flags:
        lines = [f"no question is near, of {report.stored:,} stored questions"]
    else:
        lines = [f"{counts[Decision.DUPLICATE]} duplicate, {counts[Decision.REVIEW]} to review of the {near}"]
    shown = [flag for flag in report.flags if verbose or flag.decision is not Decision.DISTINCT]
    if shown:
        rows = [
            (
                flag.decision,
                f"{flag.probability:.3f}",
                str(flag.id),
                flag.text + _format_warnings(flag.warnings, "  ! "),
            )
            for flag in shown
        ]
        lines.append(format_table(rows, ("decision", "probability", "id", "question"), indent=2))
    lines += [f"warning: {warning}" for warning in report.warnings]
    lines.append(f"threshold: {report.guarantee}" if verbose else threshold_line(report.decider))
    return join_lines(lines)


def _with_options(report: FlagReport, args: argparse.Namespace) -> FlagReport:
    """Return the flags decided at `--threshold` and `--base-rate`."""
    if args.threshold is None and args.base_rate is None:
        return report
    return report.at(threshold=args.threshold, base_rate=args.base_rate)


def _warning_data(warnings: Sequence[TextWarning]) -> list[dict[str, str]]:
    return [{"kind": warning.kind, "message": warning.message} for warning in warnings]


def _format_warnings(warnings: Sequence[TextWarning], prefix: str = "") -> str:
    return prefix + "; ".join(f"{warning.kind}: {warning}" for warning in warnings) if warnings else ""


def _flag_rows(id_: int | str | None, report: FlagReport) -> Iterator[dict[str, Any]]:
    """Yield one row per flag.

    A question with warnings and without flags gets one row with its warnings.
    """
    own = _format_warnings(report.warnings)
    for flag in report.flags:
        stored = _format_warnings(flag.warnings, "stored question: ")
        values = (flag.id, flag.text, flag.cosine, flag.score, flag.probability, str(flag.decision), flag.copy)
        warnings = "; ".join(filter(None, (own, stored)))
        yield dict(zip(FLAG_COLUMNS, (id_, report.question, *values, warnings), strict=True))
    if own and not report.flags:
        yield dict(zip(FLAG_COLUMNS, (id_, report.question, *[None] * 7, own), strict=True))


def _check_id_types(args: argparse.Namespace, index: QuestionIndex, questions: Sequence[Question]) -> None:
    """Refuse Parquet for ids of two types, because a column of Parquet has one type."""
    from dupq.data.writing import output_format

    if args.output is None or output_format(args.output) != "parquet":
        return
    new, stored = {type(question.id) for question in questions}, index.id_kinds()
    for name, kinds in (("of --questions", new), (f"in {index.location}", stored)):
        if len(kinds) > 1:
            raise InputError(
                f"the ids {name} are numbers and texts, and a column of Parquet has one type",
                location=args.output,
                hint="write JSONL: -o OUT.jsonl",
            )


def _flag_file(args: argparse.Namespace) -> int:
    from dupq.data.writing import write_rows
    from dupq.models.batching import chunks

    reading = new_report(args)
    questions = list(open_questions(args, args.questions, reading))
    print_report(reading)
    counts: dict[str, int] = {}
    flags = warned = 0
    last: FlagReport | None = None
    with _open_index(args) as index, progress_bar("flagging") as bar:
        _check_id_types(args, index, questions)

        def rows() -> Iterator[dict[str, Any]]:
            nonlocal flags, warned, last
            for part in chunks(len(questions), CHUNK):
                new = questions[part]
                texts = [question.text for question in new]
                reports = index.flag_all(texts, k=args.k, min_cosine=args.min_cosine)
                for question, report in zip(new, reports, strict=True):
                    warned += bool(report.warnings)
                    # The networks read the question without its HTML; the output has it as in the file.
                    last = replace(_with_options(report, args), question=question.original)
                    for row in _flag_rows(question.id, last):
                        if row["decision"] is not None:
                            flags += 1
                            counts[row["decision"]] = counts.get(row["decision"], 0) + 1
                        yield row
                bar(part.stop, len(questions))

        write_rows(args.output, rows(), FLAG_COLUMNS)
    found = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("duplicate", "review", "distinct") if kind in counts)
    text = f"{len(questions):,} questions: {found or 'no flags'}"
    text += "" if args.output == "-" else f" -> {args.output}"
    if warned:
        text += f"\n{warned:,} questions have a warning"
    if last is not None:
        text += f"\n{f'threshold: {last.guarantee}' if args.verbose else threshold_line(last.decider)}"
    data = {
        "questions": len(questions),
        "flags": flags,
        "decisions": counts,
        "warned": warned,
        "rejected": reading.rejected,
        "output": args.output,
    }
    emit(args, data, text)
    return 0
