"""`dupq score`: score one pair, or a file of any size."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from dupq.cli.console import emit, join_lines, note, progress_bar
from dupq.cli.engine_options import add_engine_options, closing_engine, open_engine, open_work
from dupq.cli.inputs import add_html_option, add_pair_options, pair_options, print_report
from dupq.cli.outputs import check_outputs
from dupq.cli.pipeline_options import (
    add_model_options,
    add_verbose,
    format_percent,
    open_pipeline,
    threshold_line,
)
from dupq.errors import InputError
from dupq.types import Decision

if TYPE_CHECKING:
    from dupq.engine.base import Engine
    from dupq.engine.work_folder import WorkFolder
    from dupq.pipeline import DuplicatePipeline
    from dupq.types import PairScore, QuestionPair

CHUNK = 4096
"""Pairs in memory at a time."""

COLUMNS = ["row", "question1", "question2", "score", "probability", "decision", "warnings"]

WARNINGS = {
    "truncated": "the networks read only a part",
    "unknown_language": "in a language the model was not trained on; no duplicates unless --allow-unknown-language",
}
"""Kind of warning -> its meaning."""

_NO_LOG = logging.NullHandler()
"""Keeps the log of each chunk off the screen, because the command prints the counts of the whole file."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    score = commands.add_parser("score", parents=[shared], help="score two questions, or a file of pairs")
    score.add_argument("questions", nargs="*", metavar="QUESTION", help="two questions (default: those of --pairs)")
    score.add_argument(
        "--pairs", metavar="FILE", help="file of pairs; - for standard input, with --format (default: two QUESTIONs)"
    )
    score.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="scored pairs as JSONL, CSV, TSV or Parquet; - for standard output (default: none, needed with --pairs)",
    )
    score.add_argument(
        "--output-format", choices=("jsonl", "csv", "tsv", "parquet"), help="format of OUT (default: by its name)"
    )
    add_verbose(score)
    add_model_options(score)
    add_pair_options(score, labelled=False)
    add_html_option(score)
    add_engine_options(score, work="none")
    score.set_defaults(run=run_score)


def run_score(args: argparse.Namespace) -> int:
    if args.pairs is None:
        if open_engine(args) is not None:
            raise InputError("--engine and --workers need --pairs", hint="add --pairs FILE, or leave them out")
        if len(args.questions) != 2:
            raise InputError(
                f"QUESTION must be given twice, got {len(args.questions)}", hint="quote each, or use --pairs FILE"
            )
        return _score_one(args)
    if args.questions:
        raise InputError("QUESTION and --pairs exclude each other", hint="give one of them")
    if args.output is None:
        raise InputError("--pairs needs an output", hint="add -o OUT, or -o - for standard output")
    return _score_file(args)


def _score_one(args: argparse.Namespace) -> int:
    pipeline = open_pipeline(args)
    result = pipeline.score(*args.questions)
    data = {name: getattr(result, name) for name in ("question1", "question2", "score", "probability")}
    data |= {"decision": str(result.decision), "threshold": result.threshold, "base_rate": result.base_rate}
    data |= {"guarantee": pipeline.guarantee, "warnings": [asdict(warning) for warning in result.warnings]}
    emit(args, data, _format_result(pipeline, result, args.verbose))
    if not args.json:
        note_warnings(result)
    return 0


def _format_result(pipeline: DuplicatePipeline, result: PairScore, verbose: bool) -> str:
    """Return a line on the decision and a line on the threshold that made it."""
    decider = pipeline.decider
    limits = f"duplicate from {result.threshold:.3f}"
    if decider.rule.distinct is not None:
        distinct = decider.rule.distinct.probability(decider.calibrator, result.base_rate)
        if result.decision is Decision.DISTINCT:
            limits = f"distinct below {distinct:.3f}"
        elif result.decision is Decision.REVIEW and result.probability < result.threshold:
            limits = f"review from {distinct:.3f} to {result.threshold:.3f}"
    head = f"{result.decision!s:<11} probability {result.probability:.3f} "
    head += f"({limits} at a base rate of {format_percent(result.base_rate)})"
    if verbose:
        return join_lines((head, f"score: {result.score:.4f} (raw logit)", f"threshold: {pipeline.guarantee}"))
    return f"{head}\n{threshold_line(decider, distinct=result.decision is Decision.DISTINCT)}"


def note_warnings(result: PairScore) -> None:
    """Print the warnings of a pair on standard error."""
    for warning in result.warnings:
        note(f"note: question {warning.side}: {warning.message}")


def _score_file(args: argparse.Namespace) -> int:
    from dupq.data.reading import read_pairs
    from dupq.data.writing import write_rows

    check_outputs({"-o": args.output}, {"--pairs": args.pairs}, args.output_format)
    engine = open_engine(args)
    if engine is None and (args.work or args.fresh):
        raise InputError("--work and --fresh need --engine or --workers", hint="add --engine local, or leave them out")
    work = None if engine is None else open_work(args)
    pipeline = open_pipeline(args)
    options = pair_options(args)
    counts: Counter[str] = Counter()
    warned: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    logging.getLogger("dupq").addHandler(_NO_LOG)
    with closing_engine(engine), progress_bar("scoring") as bar:
        pairs = read_pairs(args.pairs, **options)
        strip = _stripper(args.html)
        if engine is None or work is None:
            rows = _score_rows(_with_embedding_cache(pipeline), pairs, counts, warned, changed, strip, bar)
        else:
            rows = _engine_rows(engine, work, pipeline, pairs, counts, warned, changed, strip, bar, fresh=args.fresh)
        written = write_rows(args.output, rows, COLUMNS, args.output_format)
    print_report(options["report"])
    if changed["html"]:
        note(f"HTML was removed from {changed['html']:,} of {2 * written:,} texts")
    for kind, count in sorted(warned.items()):
        note(f"note: {count:,} of {2 * written:,} texts: {WARNINGS[kind]}")
    data = {"pairs": written, "decisions": counts, "warnings": warned, "output": args.output}
    text = f"{written:,} pairs: {', '.join(f'{count:,} {name}' for name, count in sorted(counts.items()))}"
    text += "" if args.output == "-" else f" -> {args.output}"
    text += f"\n{f'threshold: {pipeline.guarantee}' if args.verbose else threshold_line(pipeline.decider)}"
    emit(args, data, text)
    return 0


def _stripper(mode: str) -> Callable[[str], str]:
    """Return the function that removes HTML by the value of `--html`.

    A text that is all tags stays.
    """
    from dupq.data.html import strip_clear_html, strip_html

    if mode == "keep":
        return str
    remove = strip_html if mode == "strip" else strip_clear_html
    return lambda text: stripped if (stripped := remove(text)).strip() else text


def _with_embedding_cache(pipeline: DuplicatePipeline) -> DuplicatePipeline:
    """Return the pipeline with a cache of embeddings.

    A question of several chunks is not embedded again while it is in the cache.
    """
    from dataclasses import replace

    from dupq.models.embedding_cache import EmbeddingCache

    return (
        pipeline if pipeline.bi_encoder is None else replace(pipeline, bi_encoder=EmbeddingCache(pipeline.bi_encoder))
    )


def _score_rows(
    pipeline: DuplicatePipeline,
    pairs: Iterator[QuestionPair],
    counts: Counter[str],
    warned: Counter[str],
    changed: Counter[str],
    strip: Callable[[str], str],
    bar: Callable[[int, int], None],
) -> Iterator[dict[str, Any]]:
    """Yield one output row for each pair, and count decisions and warnings.

    The texts of a row are those of the file.

    Args:
        pipeline: It scores the texts.
        pairs: The pairs of the file.
        counts, warned, changed: Counters of decisions, of warnings, and of texts whose HTML was removed.
        strip: Text of the file -> text for the networks.
        bar: Called with (pairs scored, 0).
    """
    done = 0
    while chunk := list(islice(pairs, CHUNK)):
        left, right = [strip(pair.question1) for pair in chunk], [strip(pair.question2) for pair in chunk]
        changed["html"] += sum(
            (pair.question1 != a) + (pair.question2 != b) for pair, a, b in zip(chunk, left, right, strict=True)
        )
        results = pipeline.score_pairs(
            left,
            right,
            progress=lambda part, _, before=done: bar(before + part, 0),  # type: ignore[misc]
        )
        done += len(chunk)
        bar(done, 0)
        for pair, result in zip(chunk, results, strict=True):
            kinds = [warning.kind for warning in result.warnings]
            counts[str(result.decision)] += 1
            warned.update(kinds)
            yield _row(pair, result, kinds)


def _row(pair: Any, result: Any, kinds: Sequence[str]) -> dict[str, Any]:
    return {
        "row": pair.row,
        "question1": pair.question1,
        "question2": pair.question2,
        "score": result.score,
        "probability": result.probability,
        "decision": str(result.decision),
        "warnings": "; ".join(dict.fromkeys(kinds)),
    }


def _engine_rows(
    engine: Engine,
    work: WorkFolder,
    pipeline: DuplicatePipeline,
    pairs: Iterator[QuestionPair],
    counts: Counter[str],
    warned: Counter[str],
    changed: Counter[str],
    strip: Callable[[str], str],
    bar: Callable[[int, int], None],
    *,
    fresh: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `_score_rows`, scored through an engine.

    `fresh` removes the work of an earlier run.
    """
    from dupq.mining.streams import StreamPair, score_stream

    def read() -> Iterator[StreamPair]:
        for pair in pairs:
            found = StreamPair(pair.row, pair.question1, pair.question2, strip(pair.question1), strip(pair.question2))
            changed["html"] += (found.question1 != found.text1) + (found.question2 != found.text2)
            yield found

    for pair, result in score_stream(engine, work, pipeline, read(), fresh=fresh, progress=bar):
        counts[result.decision] += 1
        warned.update(result.warnings)
        yield _row(pair, result, result.warnings)
