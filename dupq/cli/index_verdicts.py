"""Record, take back, list and export the verdicts of an index.

Further commands decide stored questions, list the review queue, and write the groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dupq.cli.console import emit, format_table, join_lines, progress_bar
from dupq.cli.index_options import add_id_type, add_index, add_model, index_files, open_without_model, typed_ids
from dupq.cli.outputs import check_outputs
from dupq.cli.pipeline_options import open_pipeline
from dupq.types import Id

if TYPE_CHECKING:
    from dupq.index.question_index import QuestionIndex
    from dupq.index.stores.base import StoredQuestion, StoredVerdict

HISTORY_COLUMNS = [
    *("number", "id1", "id2", "question1", "question2", "answer", "by", "at", "probability", "decision", "threshold"),
    *("base_rate", "score", "scorer", "chosen", "sampled", "note", "undoes"),
]
STANDING_COLUMNS = ["id1", "id2", "question1", "question2", "answer", "by", "at", "probability", "decision"]
GROUP_COLUMNS = ["group", "canonical", "id", "question", "members"]
OUTPUT_HELP = "as JSONL, CSV, TSV or Parquet; - for standard output"


def add_actions(actions: Any, shared: argparse.ArgumentParser) -> None:
    """Add the commands below `dupq index`."""
    decide = actions.add_parser("decide", parents=[shared], help="decide stored questions, for the review queue")
    add_index(decide)
    add_model(decide)
    decide.add_argument(
        "--all", action="store_true", help="decide all questions again (default: those that this model has not decided)"
    )
    decide.set_defaults(run=run_decide)

    verdict = actions.add_parser("verdict", parents=[shared], help="record a verdict on two stored questions")
    add_index(verdict)
    verdict.add_argument("ids", nargs=2, metavar="ID", help="ids of the two questions")
    verdict.add_argument("answer", choices=("duplicate", "distinct", "skip"), help="the verdict")
    verdict.add_argument("--by", required=True, metavar="NAME", help="name of the moderator")
    verdict.add_argument("--note", default="", metavar="TEXT", help="reason of the verdict (default: none)")
    verdict.add_argument(
        "--chosen",
        choices=("queue", "audit"),
        help="column `chosen` of `dupq index queue` that the pair was listed with; an audited pair counts for the "
        "monitor (default: chosen by the moderator)",
    )
    add_id_type(verdict)
    verdict.set_defaults(run=run_verdict)

    undo = actions.add_parser("undo", parents=[shared], help="take a verdict back")
    add_index(undo)
    undo.add_argument(
        "number", nargs="?", type=int, metavar="NUMBER", help="number of the verdict (default: the moderator's last)"
    )
    undo.add_argument("--by", required=True, metavar="NAME", help="name of the moderator")
    undo.add_argument("--force", action="store_true", help="take back the verdict of another moderator too")
    undo.set_defaults(run=run_undo)

    verdicts = actions.add_parser("verdicts", parents=[shared], help="write the verdicts to a file")
    add_index(verdicts)
    verdicts.add_argument("-o", "--output", required=True, metavar="OUT", help=f"verdicts {OUTPUT_HELP}")
    verdicts.add_argument(
        "--standing",
        action="store_true",
        help="write the present answer of each pair (default: the history, one row for each verdict)",
    )
    verdicts.set_defaults(run=run_verdicts)

    queue = actions.add_parser("queue", parents=[shared], help="list the pairs to review first")
    add_index(queue)
    queue.add_argument("--limit", type=int, default=20, metavar="N", help="maximum number of pairs (default: 20)")
    queue.add_argument("--contested", action="store_true", help="list pairs whose moderators differ instead")
    queue.set_defaults(run=run_queue)

    groups = actions.add_parser("groups", parents=[shared], help="write the groups by verdicts and merges")
    add_index(groups)
    groups.add_argument("-o", "--output", required=True, metavar="OUT", help=f"members of the groups {OUTPUT_HELP}")
    groups.set_defaults(run=run_groups)


def run_decide(args: argparse.Namespace) -> int:
    from dupq.index.question_index import QuestionIndex

    open_without_model(args).close()  # refuses a file that is no index before the model is opened
    with QuestionIndex(args.index, open_pipeline(args), wait=args.wait) as index, progress_bar("deciding") as bar:
        questions, pairs = index.decide(everything=args.all, progress=bar)
    emit(args, {"questions": questions, "pairs": pairs}, f"{questions:,} questions decided, {pairs:,} pairs")
    return 0


def run_verdict(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        one, other = typed_ids(args.ids, args.id_type, index)
        sampled = index.review_item(one, other).sampled if args.chosen else None
        row = index.verdict(
            one, other, args.answer, by=args.by, note=args.note, chosen=args.chosen or "", sampled=sampled
        )
        answer = index.verdict_of(one, other).answer
    text = f"verdict {row.number}: {row.id} and {row.other} are {answer}"
    emit(args, {"verdict": asdict(row), "answer": answer}, text)
    return 0


def run_undo(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        row = index.undo(args.number, by=args.by, force=args.force)
        answer = index.verdict_of(row.id, row.other).answer
    text = f"verdict {row.undoes} was taken back; the present answer on {row.id} and {row.other}: {answer}"
    emit(args, {"verdict": asdict(row), "answer": answer}, text)
    return 0


def run_verdicts(args: argparse.Namespace) -> int:
    from dupq.data.writing import write_rows

    check_outputs({"-o": args.output}, index_files(args))
    with open_without_model(args) as index:
        history = index.history()
        texts = index.questions(list(dict.fromkeys(id_ for row in history for id_ in (row.id, row.other))))
        rows = _standing(index, history, texts) if args.standing else _history(history, texts)
        count = write_rows(args.output, rows, STANDING_COLUMNS if args.standing else HISTORY_COLUMNS)
    unit = "pairs" if args.standing else "verdicts"
    emit(args, {unit: count, "output": args.output}, _written(count, unit, args.output))
    return 0


def _history(history: Iterable[StoredVerdict], texts: Mapping[Id, StoredQuestion]) -> Iterator[dict[str, Any]]:
    for row in history:
        yield {**asdict(row), **_pair(row.id, row.other, texts)}


def _standing(
    index: QuestionIndex, history: Iterable[StoredVerdict], texts: Mapping[Id, StoredQuestion]
) -> Iterator[dict[str, Any]]:
    for id_, other in dict.fromkeys((row.id, row.other) for row in history):
        state = index.verdict_of(id_, other)
        if state.opinions:
            last = state.opinions[-1]
            yield {
                **_pair(id_, other, texts),
                "answer": state.answer,
                "by": ", ".join(state.by),
                **{name: getattr(last, name) for name in ("at", "probability", "decision")},
            }


def _pair(id_: Id, other: Id, texts: Mapping[Id, StoredQuestion]) -> dict[str, Any]:
    """Return ids and texts of a pair; the text of a removed question is None."""
    found = [texts[id_].text if id_ in texts else None for id_ in (id_, other)]
    return {"id1": id_, "id2": other, "question1": found[0], "question2": found[1]}


def run_queue(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        items = index.review_queue(args.limit, contested=args.contested)
    rows = [
        (
            item.chosen or "contested",
            "" if item.decision is None else item.decision.decision,
            "" if item.decision is None else f"{item.decision.probability:.3f}",
            f"{item.question.id}: {item.question.text}\n{item.other.id}: {item.other.text}",
        )
        for item in items
    ]
    headers = ("chosen", "decision", "probability", "questions")
    text = format_table(rows, headers) if rows else "no pair is to be reviewed; `dupq index decide` makes them"
    emit(args, {"pairs": [asdict(item) for item in items]}, join_lines([text]))
    return 0


def run_groups(args: argparse.Namespace) -> int:
    from dupq.data.writing import write_rows

    check_outputs({"-o": args.output}, index_files(args))
    with open_without_model(args) as index:
        groups = index.groups()
        texts = index.questions([id_ for group in groups for id_ in group.members])
    rows = (
        {
            "group": number,
            "canonical": group.canonical,
            "id": id_,
            "question": texts[id_].text if id_ in texts else None,
            "members": len(group.members),
        }
        for number, group in enumerate(groups, 1)
        for id_ in group.members
    )
    count = write_rows(args.output, rows, GROUP_COLUMNS)
    data = {"groups": len(groups), "questions": count, "output": args.output}
    emit(args, data, _written(len(groups), "groups", args.output))
    return 0


def _written(count: int, unit: str, output: str) -> str:
    return f"{count:,} {unit}" + ("" if output == "-" else f" -> {output}")
