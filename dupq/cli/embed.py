"""`dupq embed`: write the vectors of a collection of questions."""

from __future__ import annotations

import argparse
from typing import Any

from dupq.cli.console import emit, note_if_slow, progress_bar
from dupq.cli.engine_options import add_engine_options, closing_engine, open_engine
from dupq.cli.inputs import add_question_options, new_report, open_question_files, print_report
from dupq.cli.pipeline_options import add_running_options, running_options
from dupq.errors import InputError


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    embed = commands.add_parser("embed", parents=[shared], help="write the vectors of a collection of questions")
    embed.add_argument(
        "questions",
        nargs="+",
        metavar="QUESTIONS",
        help="CSV, TSV, JSONL or Parquet, or a Stack Exchange dump; the ids of several must differ",
    )
    embed.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR|URL",
        help="folder that gets vectors/*.npy, ids/*.json and embeddings.json; every worker must reach it",
    )
    embed.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="format of the numbers (default: float32)"
    )
    group = embed.add_argument_group("model")
    group.add_argument("--model", metavar="DIR|ID", help="pipeline folder or Hub id (default: the shipped model)")
    add_running_options(group)
    add_question_options(embed)
    add_engine_options(embed)
    embed.set_defaults(run=run_embed)


def run_embed(args: argparse.Namespace) -> int:
    from dupq.engine.local import LocalEngine
    from dupq.engine.work_folder import WorkFolder
    from dupq.mining.streams import embed_stream

    if args.output == "-":
        raise InputError("the output must be a folder, got standard output", hint="name a folder with -o")
    engine = open_engine(args) or LocalEngine()
    work = WorkFolder(args.output)
    reading = new_report(args)
    questions = ((question.id, question.text) for question in open_question_files(args, args.questions, reading))
    pipeline = _open_pipeline(args)
    with closing_engine(engine), progress_bar("embedding questions") as bar:
        summary = embed_stream(engine, work, pipeline, questions, dtype=args.dtype, fresh=args.fresh, progress=bar)
    print_report(reading)
    text = (
        f"{summary['questions']:,} questions -> {args.output}: {summary['shards']:,} shards of {summary['dtype']}, "
        f"{summary['dimensions']:,} dimensions"
    )
    emit(args, {**summary, "output": args.output}, text)
    return 0


def _open_pipeline(args: argparse.Namespace) -> Any:
    from dupq.pipeline import DuplicatePipeline

    with note_if_slow(f"opening {args.model or 'the shipped model'} ..."):
        return DuplicatePipeline.from_pretrained(args.model, **running_options(args))
