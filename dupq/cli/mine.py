"""`dupq mine`: find likely duplicates in a whole collection of questions."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dupq.cli.console import emit, join_lines, progress_bar
from dupq.cli.engine_options import add_engine_options, closing_engine, open_engine, open_work
from dupq.cli.inputs import add_question_options
from dupq.cli.mine_input import MineInput
from dupq.cli.outputs import check_outputs, check_writable
from dupq.cli.pipeline_options import add_model_options, add_threshold, add_verbose, open_pipeline, threshold_line
from dupq.errors import InputError

STAGES = {
    "reading": "checking texts",
    "embedding": "embedding questions",
    "searching": "searching candidates",
    "judging": "scoring candidates",
}
"""Stage of `find_duplicates` -> title of its progress bar."""
MAX_TEMPLATES = 10
"""Templates that are listed under `--verbose`."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    mine = commands.add_parser("mine", parents=[shared], help="find likely duplicates among many questions")
    mine.add_argument(
        "questions",
        nargs="+",
        metavar="QUESTIONS",
        help="CSV, TSV, JSONL or Parquet, or a Stack Exchange dump; the ids of several must differ",
    )
    mine.add_argument(
        "--against", metavar="OLD", help="find duplicates of QUESTIONS in this collection (default: in QUESTIONS)"
    )
    mine.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="duplicate pairs as JSONL, CSV, TSV or Parquet"
    )
    mine.add_argument(
        "--groups", metavar="FILE", help="duplicate groups as JSONL, CSV, TSV or Parquet (default: not written)"
    )
    mine.add_argument("--all-pairs", action="store_true", help="also write scored pairs that are distinct")
    add_threshold(mine)
    mine.add_argument(
        "--linkage",
        choices=("average", "complete", "connected"),
        default="average",
        help="join groups whose pairs reach the threshold on average, in all pairs, or in a chain (default: average)",
    )
    mine.add_argument(
        "--representative",
        choices=("central", "oldest"),
        default="central",
        help="question that represents a group (default: central)",
    )
    mine.add_argument("--fold-templates", action="store_true", help="leave out pairs made from one template")
    add_verbose(mine)
    search = mine.add_argument_group("search")
    search.add_argument(
        "--neighbours",
        type=int,
        metavar="N",
        help="nearest questions of each question that are candidates from --min-cosine on, beside every pair from 0.8 "
        "on; 0: every pair from --min-cosine on (default: the pipeline's, else 0)",
    )
    search.add_argument(
        "--min-cosine",
        type=float,
        metavar="C",
        help="minimum cosine of a candidate pair, in (0, 1] (default: the pipeline's, else 0.8, or 0.4 with "
        "--neighbours)",
    )
    search.add_argument(
        "--max-pairs",
        type=int,
        metavar="N",
        help="maximum number of candidate pairs, the nearest (default: 2,000,000)",
    )
    search.add_argument(
        "--max-judged",
        type=int,
        metavar="N",
        help="maximum number of candidates to score, the most uncertain; the others get a probability by cosine, "
        "without a guarantee (default: all)",
    )
    search.add_argument(
        "--approximate-above",
        type=int,
        metavar="N",
        help="number of distinct questions above which the search is by cells, with a certified recall (default: "
        "2,000,000)",
    )
    add_model_options(mine)
    add_question_options(mine)
    add_engine_options(mine, work="OUT.work without an engine")
    mine.set_defaults(run=run_mine)


@contextmanager
def _stage_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar for each stage; yield a function of (stage, done, total)."""
    with ExitStack() as stack:
        current = ""
        update: Callable[[int, int], None] = lambda done, total: None  # noqa: E731

        def update_stage(stage: str, done: int, total: int) -> None:
            nonlocal current, update
            if stage != current:
                stack.close()
                current, update = stage, stack.enter_context(progress_bar(STAGES[stage]))
            update(done, total)

        yield update_stage


def run_mine(args: argparse.Namespace) -> int:
    from dupq.data.dates import check_date_format
    from dupq.data.writing import output_format, write_rows
    from dupq.mining.checkpoint import Checkpoint
    from dupq.mining.find_duplicates import MiningSettings, find_duplicates
    from dupq.mining.results import GROUP_COLUMNS, PAIR_COLUMNS
    from dupq.mining.stored_questions import in_form

    # All options and files are checked before hours of work.
    names = ("neighbours", "min_cosine", "max_pairs", "max_judged", "approximate_above", "base_rate", "threshold")
    given = {name: getattr(args, name) for name in names}
    settings = MiningSettings(**{name: value for name, value in given.items() if value is not None})
    check_date_format(args.date_format)
    outputs = {"-o": args.output, "--groups": args.groups}
    for path in args.questions:
        check_outputs(outputs, {"QUESTIONS": path, "--against": args.against})
    engine = open_engine(args)
    work = _work_folder(args, engine is not None)
    formats = [output_format(path) for path in (args.output, args.groups) if path is not None]
    reader = MineInput(args, one_type="parquet" in formats)
    source: dict[str, Any] = {}
    if engine is None:
        new = list(reader.new())
        old = list(reader.old()) if args.against else []
        every = [*new, *old]
        form = reader.finish([question.id for question in every])
        source["questions"] = [question.text for question in new]
        source["against"] = [question.text for question in old] if args.against else None
        source["ids"] = [in_form(question.id, form, old=at >= len(new)) for at, question in enumerate(every)]
        source["created"] = [question.created for question in every] if reader.dated else None
    else:
        source["questions"] = reader.stream()
    args.base_rate = None  # that of the candidates, which `settings` holds
    pipeline = open_pipeline(args)
    with closing_engine(engine), _stage_bars() as progress:
        result = find_duplicates(
            pipeline, **source, settings=settings, work=work, fresh=args.fresh, engine=engine, progress=progress
        )
    if engine is None:
        # The networks read the texts without their HTML; the output has them as in the file.
        result = replace(result, questions=replace(result.questions, shown=[question.shown for question in every]))
    if args.fold_templates:
        result = result.fold()
    groups = result.groups(linkage=args.linkage, representative=args.representative)
    rows = result.rows(groups, all_pairs=args.all_pairs)
    written = write_rows(args.output, rows, PAIR_COLUMNS)
    if args.groups:
        write_rows(args.groups, result.group_rows(groups), GROUP_COLUMNS)
    if work is not None and not args.work:
        Checkpoint(Path(work)).remove()
    largest = max((len(group.members) for group in groups), default=0)
    summary = {**result.summary(), "pairs_written": written, "groups": len(groups), "largest_group": largest}
    lines = _format_summary(summary, args.output)
    if args.verbose:
        lines += _format_details(summary)
    else:
        lines.append(threshold_line(result.decider))
    emit(args, summary, join_lines(lines))
    return 0


def _work_folder(args: argparse.Namespace, engine: bool) -> str | Path | None:
    """Return the checked work folder.

    It is None where the output is no file and no folder is named.

    Args:
        args: The options.
        engine: True where an engine uses the folder, which then checks what is in it.

    Raises:
        InputError: The folder holds the input, an output or other files.
        OutputError: The folder cannot be written.
    """
    from dupq.mining.checkpoint import RUN, Checkpoint

    no_file = args.output == "-" or (os.path.exists(args.output) and not os.path.isfile(args.output))
    if not args.work and no_file and not engine:
        return None
    if engine and open_work(args).is_url:
        return str(args.work)
    work = Path(args.work or f"{args.output}.work")
    outputs = (("-o", args.output), ("--groups", args.groups))
    for name, path in (*outputs, *(("the input", path) for path in args.questions)):
        if path not in (None, "-") and Path(os.path.realpath(work)) in (
            real := Path(os.path.realpath(path)),
            *real.parents,
        ):
            raise InputError(
                f"the work folder must hold nothing but work, got one with {name} {path} in it",
                location=str(work),
                hint="name another folder with --work",
            )
    if not engine:
        Checkpoint(work).check()
    check_writable(work / RUN)
    return work


def _format_summary(summary: dict[str, Any], output: str) -> list[str]:
    """Return the lines that summarise a run.

    They count the pairs and groups, and all that was cut, left out or not scored.
    """
    found, cosine = summary["decisions"], f"{summary['min_cosine']:.4f}"
    lines = [
        f"{summary['questions']:,} questions" + ("" if output == "-" else f" -> {output}"),
        f"  pairs   {summary['copies']:,} copies, {found['duplicate']:,} duplicates, {found['review']:,} to review "
        f"({summary['candidates']:,} candidates)",
        f"  groups  {summary['groups']:,}, the largest of {summary['largest_group']:,} questions",
    ]
    if summary["truncated"]:
        lines.append(
            f"NOT ALL PAIRS: at least {summary['dropped_at_least']:,} pairs with a cosine of {cosine} or more were "
            f"left out; all are found from {summary['complete_above']:.4f}. Raise --max-pairs, or --min-cosine."
        )
    if unscored := summary["candidates"] - summary["judged"]:
        lines.append(f"{unscored:,} candidates were not scored: their probability is by cosine, without a guarantee")
    if count := summary["left_out"]:
        lines.append(f"{count:,} bad texts were left out")
    if count := summary["unknown_to_the_model"]:
        lines.append(f"{count:,} texts hold no word of the model's vocabulary, and match nothing")
    if count := summary["unknown_language"]:
        effect = f"{summary['held_back_for_language']:,} of their pairs go to review instead of the duplicates"
        if summary["allow_unknown_language"]:
            effect = "their pairs are decided like all others"
        lines.append(f"{count:,} texts seem to be in a language the model was not trained on: {effect}")
    if count := summary["truncated_texts"]:
        lines.append(f"{count:,} texts are longer than the model reads: it reads a part of each")
    if share := sum(template["share"] for template in summary["templates"] if not template["folded"]):
        lines.append(f"{share:.1%} of the duplicate pairs come from templates; --fold-templates leaves them out")
    return lines


def _format_details(summary: dict[str, Any]) -> list[str]:
    """Return the lines for `--verbose`."""
    share = f"share of duplicates among candidates: {summary['base_rate']:.3f}"
    if not summary["judged_candidates"]:
        share += " (an estimate from the calibrated probabilities, for pairs drawn like the calibration pairs; mined "
        share += "pairs are not: check a sample)"
    lines = [
        f"search: {summary['search']}",
        f"threshold: {summary['guarantee']}",
        share,
    ]
    if summary["judged_candidates"] and (precision := summary["expected"]["precision"]) is not None:
        lines.append(f"expected precision of the duplicates: {precision:.3f}, by {summary['expected']['rests_on']}")
    for template in summary["templates"][:MAX_TEMPLATES]:
        folded = " (folded)" if template["folded"] else ""
        lines.append(f"template{folded}: {template['share']:.1%} of the duplicate pairs are {template['pattern']!r}")
    return lines
