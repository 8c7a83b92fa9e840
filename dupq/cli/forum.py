"""`dupq mine` and `dupq pairs-from-stackexchange`: a whole forum at once."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.cli.console import emit, note, progress_bar, report_skipped
from dupq.cli.index import add_question_options, questions_of, skipped_of
from dupq.cli.scoring import add_model_options, open_pipeline
from dupq.data.reading import Skipped

if TYPE_CHECKING:
    from dupq.data.questions import Question

GROUP_COLUMNS = ["group", "id", "question", "canonical", "weakest"]
STAGES = {"embedding": "embedding questions", "searching": "comparing pairs", "judging": "judging candidates"}


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    _add_mine(commands, shared)
    pairs = commands.add_parser(
        "pairs-from-stackexchange", parents=[shared], help="make labelled pairs of a Stack Exchange dump"
    )
    pairs.add_argument("dump", metavar="DUMP", help="the folder with Posts.xml and PostLinks.xml, or Posts.xml itself")
    pairs.add_argument("--links", metavar="FILE", help="PostLinks.xml, if it is elsewhere")
    pairs.add_argument("-o", "--output", required=True, metavar="OUT", help="JSONL, CSV, TSV or Parquet")
    pairs.add_argument("--negatives", type=float, default=2.0, help="distinct pairs for each duplicate (2)")
    pairs.add_argument("--hard", type=float, default=0.5, metavar="SHARE", help="share of them that is hard (0.5)")
    pairs.add_argument("--seed", type=int, default=0)
    pairs.add_argument("--model", metavar="DIR|ID", help="find hard negatives by its bi-encoder, not by shared words")
    pairs.set_defaults(run=run_stackexchange)


def _add_mine(commands: Any, shared: argparse.ArgumentParser) -> None:
    mine = commands.add_parser("mine", parents=[shared], help="find all duplicates of a collection of questions")
    mine.add_argument("questions", help="CSV, TSV, JSONL or Parquet, or a Stack Exchange dump")
    mine.add_argument("--against", metavar="OLD", help="find the duplicates of QUESTIONS in this older collection")
    mine.add_argument("-o", "--output", required=True, metavar="OUT", help="the pairs: JSONL, CSV, TSV or Parquet")
    mine.add_argument("--groups", metavar="FILE", help="the duplicate groups too: JSONL, CSV, TSV or Parquet")
    mine.add_argument("--all-pairs", action="store_true", help="write pairs that were judged distinct too")
    mine.add_argument("--min-cosine", type=float, metavar="C", help="judge pairs of vectors this near or nearer")
    mine.add_argument("--max-pairs", type=int, metavar="N", help="judge at most so many pairs, the nearest")
    mine.add_argument(
        "--judge-at-most", type=int, metavar="N", help="judge only the N most uncertain pairs by the scorer (all)"
    )
    mine.add_argument(
        "--approximate-above", type=int, metavar="N", help="search approximately among more questions than this"
    )
    mine.add_argument("--threshold", type=float, metavar="P", help="call it a duplicate from this probability on")
    mine.add_argument("--linkage", choices=("average", "complete", "connected"), default="average")
    mine.add_argument("--canonical", choices=("central", "oldest"), default="central", help="who stands for a group")
    mine.add_argument("--fold-templates", action="store_true", help="leave out posts made from one template")
    mine.add_argument("--work", metavar="DIR", help="where an interrupted run is kept (OUT.work)")
    add_model_options(mine)
    add_question_options(mine)
    mine.set_defaults(run=run_mine)


# ---- mine ---------------------------------------------------------------------------------------------------------


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each stage, one after the other."""
    with ExitStack() as stack:
        now = ""
        update: Callable[[int, int], None] = lambda done, total: None  # noqa: E731

        def told(stage: str, done: int, total: int) -> None:
            nonlocal now, update
            if stage != now:
                stack.close()
                now, update = stage, stack.enter_context(progress_bar(STAGES[stage]))
            update(done, total)

        yield told


def run_mine(args: argparse.Namespace) -> int:
    from dupq.data.writing import output_format, write_rows
    from dupq.forum.mining import MiningSettings, find_duplicates
    from dupq.forum.results import PAIR_COLUMNS

    # A wrong output name should not be found out after hours of work.
    for output in filter(None, (args.output, args.groups)):
        output_format(output)
    skipped = skipped_of(args)
    new = list(questions_of(args, args.questions, skipped))
    old = list(questions_of(args, args.against, skipped)) if args.against else []
    report_skipped(skipped)
    every, ids = [*new, *old], _ids(new, old)
    dated = any(question.created is not None for question in every)
    given = {
        name: getattr(args, name)
        for name in ("min_cosine", "max_pairs", "judge_at_most", "approximate_above", "base_rate")
    }
    settings = MiningSettings(**{name: value for name, value in given.items() if value is not None})
    rate, args.base_rate = args.base_rate, None  # it speaks of the candidates, not of the pipeline's own pairs
    pipeline = open_pipeline(args)
    work = Path(args.work or f"{args.output}.work") if args.work or args.output != "-" else None
    with _stages() as told:
        result = find_duplicates(
            pipeline,
            [question.text for question in new],
            against=[question.text for question in old] if args.against else None,
            ids=ids,
            created=[question.created for question in every] if dated else None,
            settings=settings,
            work=work,
            progress=told,
        )
    if args.threshold is not None:
        result = result.at(threshold=args.threshold, base_rate=rate)
    if args.fold_templates:
        result = result.fold()
    groups = result.groups(linkage=args.linkage, canonical=args.canonical)
    written = write_rows(args.output, result.rows(groups, all_pairs=args.all_pairs), PAIR_COLUMNS)
    if args.groups:
        texts = dict(zip(ids, (question.text for question in every), strict=True))
        rows = (
            dict(zip(GROUP_COLUMNS, (number, id_, texts[id_], id_ == group.canonical, group.weakest), strict=True))
            for number, group in enumerate(groups, 1)
            for id_ in group.members
        )
        write_rows(args.groups, rows, GROUP_COLUMNS)
    if work is not None and not args.work:
        shutil.rmtree(work, ignore_errors=True)
    largest = max((len(group.members) for group in groups), default=0)
    summary = {**result.summary(), "pairs_written": written, "groups": len(groups), "largest_group": largest}
    text = _told_mining(summary, args.output)
    if args.output == "-":
        note(text)
    else:
        emit(args, summary, text)
    return 0


def _ids(new: Sequence[Question], old: Sequence[Question]) -> list[int | str]:
    """The ids of both files; where the two have ids in common, they are told apart by the name of their side."""
    first, second = [question.id for question in new], [question.id for question in old]
    if not {*first} & {*second}:
        return [*first, *second]
    return [*(f"new:{id_}" for id_ in first), *(f"old:{id_}" for id_ in second)]


def _told_mining(summary: dict[str, Any], output: str) -> str:
    decided, expected = summary["decisions"], summary["expected"]["precision"]
    lines = [
        f"{summary['questions']:,} questions: {summary['copies']:,} copies, {decided['duplicate']:,} duplicate pairs "
        f"and {decided['review']:,} to review of {summary['candidates']:,} candidates; {summary['groups']:,} groups, "
        f"the largest of {summary['largest_group']:,} -> {output}",
        f"search: {summary['search']}",
        f"threshold: {summary['promise']}",
        f"share of duplicates among the candidates: {summary['base_rate']:.3f}, estimated"
        + (f"; expected precision of the duplicate pairs: {expected:.3f}" if expected is not None else ""),
    ]
    if guessed := summary["candidates"] - summary["judged"]:
        lines.append(f"{guessed:,} of the candidates were judged by their cosine: for them nothing is promised")
    if summary["unknown_to_the_model"]:
        lines.append(f"{summary['unknown_to_the_model']:,} texts hold no word that the model knows, and match nothing")
    lines += [
        f"template{' (folded)' if template['folded'] else ''}: {template['share']:.1%} of the duplicate pairs are "
        f"{template['pattern']!r}"
        for template in summary["templates"][:10]
    ]
    return "\n".join(lines)


# ---- Stack Exchange -----------------------------------------------------------------------------------------------


def run_stackexchange(args: argparse.Namespace) -> int:
    from dupq.data.stackexchange import COLUMNS, pairs_from_stackexchange
    from dupq.data.writing import output_format, write_rows

    output_format(args.output)
    embed = None
    if args.model is not None:
        from dupq.forum.judging import embedder_of
        from dupq.pipeline import DuplicatePipeline

        embed = embedder_of(DuplicatePipeline.from_pretrained(args.model)).embed
    skipped = Skipped()
    found = pairs_from_stackexchange(
        args.dump,
        args.links,
        negatives=args.negatives,
        hard=args.hard,
        embed=embed,
        seed=args.seed,
        skipped=skipped,
    )
    write_rows(args.output, found.rows, COLUMNS)
    report_skipped(skipped)
    report = found.report
    text = (
        f"{report['closed']:,} duplicates, {report['hard']:,} hard and {report['random']:,} random distinct pairs, of "
        f"{report['questions']:,} questions -> {args.output}\n"
        "their share of duplicates is made, not natural: give --base-rate when the model is used"
    )
    if args.output == "-":
        note(text)
    else:
        emit(args, report, text)
    return 0
