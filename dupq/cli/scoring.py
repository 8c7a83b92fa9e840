"""`dupq score`: one pair, or a file of any size."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from dupq.cli.console import (
    add_reading_options,
    emit,
    note,
    progress_bar,
    reading_options,
    report_skipped,
    told_if_slow,
)
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.pipeline import DuplicatePipeline
    from dupq.records import QuestionPair

CHUNK = 4096
"""Pairs in memory at a time."""

COLUMNS = ["row", "question1", "question2", "score", "probability", "decision"]


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    score = commands.add_parser("score", parents=[shared], help="score two questions, or a file of pairs")
    score.add_argument("questions", nargs="*", metavar="QUESTION", help="two questions")
    score.add_argument("--pairs", metavar="FILE", help="a file of pairs; - for standard input (with --format)")
    score.add_argument("-o", "--output", metavar="OUT", help="JSONL, CSV, TSV or Parquet; - for standard output")
    score.add_argument("--output-format", choices=("jsonl", "csv", "tsv", "parquet"), help="if OUT does not tell")
    add_model_options(score)
    add_reading_options(score, labelled=False)
    score.set_defaults(run=run_score)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which pipeline a command uses, and at what base rate."""
    parser.add_argument("--model", metavar="DIR|ID", help="a pipeline folder or Hub id (default: the shipped model)")
    parser.add_argument("--base-rate", type=float, metavar="RATE", help="share of duplicates among your pairs")
    parser.add_argument(
        "--policy", help="of the duplicate threshold: f1, accuracy, cost=5:1, recall>=0.9 or precision>=0.95"
    )
    parser.add_argument("--delta", type=float, default=0.05, help="a promise may fail with this probability (0.05)")
    parser.add_argument("--miss-rate", type=float, metavar="SHARE", help="drop at most this share of all duplicates")
    add_running_options(parser)


def add_running_options(parser: argparse.ArgumentParser) -> None:
    """What the networks run on."""
    parser.add_argument("--threads", type=int, metavar="N", help="of the processor (default: all there are)")
    parser.add_argument("--device", metavar="cpu|cuda", help="cuda: stock networks in float16 (default: what there is)")


def running_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `from_pretrained` that `add_running_options` asked for."""
    return {"device": args.device, "threads": args.threads}


def open_pipeline(args: argparse.Namespace) -> DuplicatePipeline:
    """The pipeline that `add_model_options` asked for."""
    from dupq.pipeline import DuplicatePipeline

    with told_if_slow(f"opening {args.model or 'the shipped model'} ..."):
        pipeline = DuplicatePipeline.from_pretrained(args.model, **running_options(args))
    if args.policy is not None or args.miss_rate is not None:
        from dupq.decisions.policies import Policy

        pipeline = pipeline.with_policy(Policy.parse(args.policy or "f1", args.delta), args.miss_rate)
    return pipeline if args.base_rate is None else pipeline.with_base_rate(args.base_rate)


def run_score(args: argparse.Namespace) -> int:
    if args.pairs is None:
        if len(args.questions) != 2:
            raise InputError(
                f"{len(args.questions)} questions were given, not 2", mend="quote each, or use --pairs FILE"
            )
        return _score_one(args)
    if args.questions:
        raise InputError("both questions and --pairs were given", mend="give one of them")
    if args.output is None:
        raise InputError("no output was named", mend="add -o OUT, or -o - for standard output")
    return _score_file(args)


def _score_one(args: argparse.Namespace) -> int:
    pipeline = open_pipeline(args)
    result = pipeline.score(*args.questions)
    text = (
        f"{result.decision}  (probability {result.probability:.3f}, duplicate from {result.threshold:.3f}, "
        f"at a base rate of {result.base_rate:.1%})\n"
        f"threshold: {pipeline.promise}"
    )
    data = {name: getattr(result, name) for name in ("question1", "question2", "score", "probability")}
    data |= {"decision": str(result.decision), "threshold": result.threshold, "base_rate": result.base_rate}
    emit(args, {**data, "promise": pipeline.promise}, text)
    return 0


def _score_file(args: argparse.Namespace) -> int:
    from dupq.data.reading import read_pairs
    from dupq.data.writing import output_format, write_rows

    # A wrong output name should not be found out after an hour's scoring.
    output_format(args.output, args.output_format)
    pipeline = _remembering(open_pipeline(args))
    options = reading_options(args)
    counts: dict[str, int] = {}
    with progress_bar("scoring") as bar:
        pairs = read_pairs(args.pairs, **options)
        rows = _scored(pipeline, pairs, counts, bar)
        written = write_rows(args.output, rows, COLUMNS, args.output_format)
    report_skipped(options["skipped"])
    summary = {"pairs": written, "decisions": counts, "output": args.output}
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    if args.output == "-":
        note(f"{written:,} pairs: {told}")
    else:
        emit(args, summary, f"{written:,} pairs: {told} -> {args.output}")
    return 0


def _remembering(pipeline: DuplicatePipeline) -> DuplicatePipeline:
    """The same, with the vectors of a file's questions kept from chunk to chunk."""
    from dataclasses import replace

    from dupq.models.caching import CachedEmbedder

    return (
        pipeline if pipeline.bi_encoder is None else replace(pipeline, bi_encoder=CachedEmbedder(pipeline.bi_encoder))
    )


def _scored(
    pipeline: DuplicatePipeline,
    pairs: Iterator[QuestionPair],
    counts: dict[str, int],
    bar: Callable[[int, int], None],
) -> Iterator[dict[str, Any]]:
    done = 0
    while chunk := list(islice(pairs, CHUNK)):
        results = pipeline.score_pairs(
            [pair.question1 for pair in chunk],
            [pair.question2 for pair in chunk],
            progress=lambda part, _, before=done: bar(before + part, 0),  # type: ignore[misc]
        )
        done += len(chunk)
        bar(done, 0)
        for pair, result in zip(chunk, results, strict=True):
            decision = str(result.decision)
            counts[decision] = counts.get(decision, 0) + 1
            yield {
                "row": pair.row,
                "question1": pair.question1,
                "question2": pair.question2,
                "score": result.score,
                "probability": result.probability,
                "decision": decision,
            }
