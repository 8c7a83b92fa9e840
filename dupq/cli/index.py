"""`dupq index` and `dupq flag`: a forum that lives, and each new question as it comes in."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.cli.console import emit, note, progress_bar, report_skipped
from dupq.cli.scoring import add_model_options, open_pipeline
from dupq.data.reading import FORMATS, Skipped
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.data.questions import Question
    from dupq.forum.flags import FlagReport
    from dupq.forum.index import QuestionIndex

FLAG_COLUMNS = ["id", "question", "duplicate_id", "duplicate", "cosine", "score", "probability", "decision", "copy"]
CHUNK = 1024
"""Questions flagged at a time where a file of them is."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    index = commands.add_parser("index", help="keep a live index of a forum's questions")
    actions = index.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", parents=[shared], help="add questions, or give them another text")
    add.add_argument("index", metavar="DB", help="the index; made if it is not there")
    add.add_argument("questions", help="CSV, TSV, JSONL or Parquet, or a Stack Exchange dump")
    add.add_argument("--reembed", action="store_true", help="if another model made the index, embed it anew")
    add_model_options(add)
    add_question_options(add)
    add.set_defaults(run=run_add)
    remove = actions.add_parser("remove", parents=[shared], help="remove questions by their ids")
    remove.add_argument("index", metavar="DB")
    remove.add_argument("ids", nargs="+", metavar="ID")
    remove.set_defaults(run=run_remove)
    for name, run, told in (
        ("stats", run_stats, "counts, sizes and the model"),
        ("verify", run_verify, "read every row and say what is damaged"),
        ("compact", run_compact, "give the space of removed questions back"),
    ):
        action = actions.add_parser(name, parents=[shared], help=told)
        action.add_argument("index", metavar="DB")
        action.set_defaults(run=run)
    flag = commands.add_parser("flag", parents=[shared], help="say which stored questions a new one asks again")
    flag.add_argument("index", metavar="DB", help="an index made by `dupq index add`")
    flag.add_argument("question", nargs="?", metavar="QUESTION")
    flag.add_argument("--questions", metavar="FILE", help="a file of new questions instead; - for standard input")
    flag.add_argument("-o", "--output", metavar="OUT", help="where their flags go: JSONL, CSV, TSV or Parquet")
    flag.add_argument("-k", type=int, default=10, help="stored questions to judge for each (10)")
    flag.add_argument("--threshold", type=float, metavar="P", help="call it a duplicate from this probability on")
    add_model_options(flag)
    add_question_options(flag)
    flag.set_defaults(run=run_flag)


def add_question_options(parser: argparse.ArgumentParser) -> None:
    """The options of a command that reads a file of single questions."""
    parser.add_argument("--id-column", metavar="NAME")
    parser.add_argument(
        "--text-column", action="append", metavar="NAME", help="several are joined, such as title and body"
    )
    parser.add_argument("--created-column", metavar="NAME", help="when it was asked, such as an ISO date")
    parser.add_argument("--format", choices=FORMATS, help="format of the input, where its name does not tell")
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad rows, count and list them")


def questions_of(args: argparse.Namespace, source: str, skipped: Skipped | None) -> Iterator[Question]:
    """The questions of a file, by the options of `add_question_options`."""
    from dupq.data.questions import read_questions

    return read_questions(
        source,
        id_column=args.id_column,
        text_columns=args.text_column or (),
        created_column=args.created_column,
        file_format=args.format,
        skipped=skipped,
    )


def skipped_of(args: argparse.Namespace) -> Skipped | None:
    """Where bad rows are noted, if they are to be left out."""
    return Skipped() if args.skip_bad else None


def _open_index(args: argparse.Namespace, **options: Any) -> QuestionIndex:
    from dupq.forum.index import QuestionIndex

    with progress_bar("embedding anew") as bar:
        return QuestionIndex(args.index, open_pipeline(args), progress=bar, **options)


def run_add(args: argparse.Namespace) -> int:
    skipped = skipped_of(args)
    questions = list(questions_of(args, args.questions, skipped))
    report_skipped(skipped)
    with _open_index(args, reembed=args.reembed) as index:
        with progress_bar("adding questions") as bar:
            written = index.add(
                [question.id for question in questions],
                [question.text for question in questions],
                created=[question.created for question in questions],
                progress=bar,
            )
        data: dict[str, Any] = {
            "added": written.added,
            "replaced": written.replaced,
            "unchanged": written.unchanged,
            "questions": len(index),
        }
        text = (
            f"{written.added:,} added, {written.replaced:,} given another text, {written.unchanged:,} there already; "
            f"{len(index):,} questions in {args.index}"
        )
    emit(args, data, text)
    return 0


def run_remove(args: argparse.Namespace) -> int:
    from dupq.forum.index import QuestionIndex

    # On the command line a number cannot be told from its digits; both are meant.
    numbers = [int(id_) for id_ in args.ids if id_.isascii() and id_.lstrip("-").isdigit()]
    with QuestionIndex(args.index) as index:
        removed = index.remove([*args.ids, *numbers])
        left = len(index)
    emit(args, {"removed": removed, "questions": left}, f"{removed:,} removed; {left:,} questions in {args.index}")
    return 0


def run_stats(args: argparse.Namespace) -> int:
    from dupq.forum.index import QuestionIndex

    with QuestionIndex(args.index) as index:
        stats = index.stats()
    emit(args, stats, "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in stats.items()))
    return 0


def run_verify(args: argparse.Namespace) -> int:
    from dupq.forum.index import QuestionIndex

    with QuestionIndex(args.index) as index:
        problems = index.verify()
        count = len(index)
    emit(args, {"problems": problems, "questions": count}, "\n".join(problems) or f"{count:,} questions, all is well")
    return 1 if problems else 0


def run_compact(args: argparse.Namespace) -> int:
    from dupq.forum.index import QuestionIndex

    with QuestionIndex(args.index) as index:
        before = index.stats()["database_bytes"]
        index.compact()
        after = index.stats()["database_bytes"]
    emit(args, {"bytes_before": before, "bytes_after": after}, f"{before:,} bytes before, {after:,} now")
    return 0


def run_flag(args: argparse.Namespace) -> int:
    if (args.question is None) == (args.questions is None):
        raise InputError("one question, or --questions FILE, is needed", mend="give one of them")
    if not Path(args.index).is_file():
        raise InputError("there is no such index", where=args.index, mend="make it with `dupq index add`")
    if args.questions is not None and args.output is None:
        raise InputError("no output was named", mend="add -o OUT, or -o - for standard output")
    return _flag_one(args) if args.questions is None else _flag_file(args)


def _flag_one(args: argparse.Namespace) -> int:
    with _open_index(args) as index:
        report = _decided(index.flag(args.question, k=args.k), args)
    lines = [f"{flag.decision!s:9}  {flag.probability:.3f}  {flag.id}  {flag.text}" for flag in report.flags]
    lines += [*(f"note: {line}" for line in report.notes), f"threshold: {report.promise}"]
    data = {
        "question": report.question,
        "flags": list(_flag_rows(None, report)),
        "threshold": report.decider.threshold,
        "base_rate": report.decider.base_rate,
        "promise": report.promise,
        "stored": report.stored,
        "notes": report.notes,
    }
    emit(args, data, "\n".join(lines))
    return 0


def _decided(report: FlagReport, args: argparse.Namespace) -> FlagReport:
    if args.threshold is None and args.base_rate is None:
        return report
    return report.at(threshold=args.threshold, base_rate=args.base_rate)


def _flag_rows(id_: int | str | None, report: FlagReport) -> Iterator[dict[str, Any]]:
    for flag in report.flags:
        values = (flag.id, flag.text, flag.cosine, flag.score, flag.probability, str(flag.decision), flag.copy)
        yield dict(zip(FLAG_COLUMNS, (id_, report.question, *values), strict=True))


def _flag_file(args: argparse.Namespace) -> int:
    from dupq.data.writing import output_format, write_rows
    from dupq.models.scorers import chunks

    output_format(args.output)
    skipped = skipped_of(args)
    questions = list(questions_of(args, args.questions, skipped))
    report_skipped(skipped)
    counts: dict[str, int] = {}
    with _open_index(args) as index, progress_bar("flagging") as bar:

        def rows() -> Iterator[dict[str, Any]]:
            for part in chunks(len(questions), CHUNK):
                asked = questions[part]
                reports = index.flag_all([question.text for question in asked], k=args.k)
                for question, report in zip(asked, reports, strict=True):
                    for row in _flag_rows(question.id, _decided(report, args)):
                        counts[row["decision"]] = counts.get(row["decision"], 0) + 1
                        yield row
                bar(part.stop, len(questions))

        written = write_rows(args.output, rows(), FLAG_COLUMNS)
    told = f"{len(questions):,} questions: {', '.join(f'{count:,} {name}' for name, count in sorted(counts.items()))}"
    data = {"questions": len(questions), "flags": written, "decisions": counts, "output": args.output}
    if args.output == "-":
        note(told)
    else:
        emit(args, data, f"{told} -> {args.output}")
    return 0
