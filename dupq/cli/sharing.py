"""`dupq card`, `dupq push` and `dupq inspect`: a pipeline folder, its card, and the Hugging Face Hub."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dupq.cli.console import emit
from dupq.errors import InputError, ModelFolderError


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    card = commands.add_parser("card", parents=[shared], help="write the model card of a pipeline folder anew")
    card.add_argument("folder", metavar="DIR", help="a pipeline folder")
    card.add_argument("--about", metavar="FILE.json", help="what you tell of it: title, licence, languages, data, ...")
    card.add_argument(
        "--elsewhere",
        action="append",
        default=[],
        metavar="NAME=REPORT.json",
        help="what `dupq evaluate DIR PAIRS -o REPORT.json` found on other questions",
    )
    card.add_argument(
        "-o", "--output", metavar="CARD.md", help="write it there, pictures beside it; alone, it leaves DIR as it is"
    )
    card.set_defaults(run=run_card)

    push = commands.add_parser("push", parents=[shared], help="put a pipeline folder on the Hugging Face Hub")
    push.add_argument("folder", metavar="DIR", help="a pipeline folder")
    push.add_argument("name", metavar="ID", help="owner/name on the Hub; made if it is not there")
    push.add_argument("--private", action="store_true", default=None, help="make it private; refuse a public one")
    push.add_argument("--branch", help="push to this branch; made if it is not there")
    push.add_argument("--tag", help="set this new tag on the commit")
    push.add_argument("--message", help="of the commit")
    push.set_defaults(run=run_push)

    inspect = commands.add_parser("inspect", parents=[shared], help="check a pipeline folder and say what is in it")
    inspect.add_argument("model", metavar="DIR|ID", help="a folder, or an id of the Hub")
    inspect.add_argument("--revision", help="branch, tag or commit on the Hub")
    inspect.set_defaults(run=run_inspect)


def run_card(args: argparse.Namespace) -> int:
    from dupq.pipeline import SHIPPED
    from dupq.sharing.about import read_about
    from dupq.sharing.card import CARD
    from dupq.sharing.release import copy_card, rewrite_card

    folder = Path(args.folder)
    about = read_about(args.about) if args.about else None
    reports = dict(_named_report(value) for value in args.elsewhere)
    written = []
    if about or reports or not args.output:
        rewrite_card(folder, about, reports)
        written.append(str(folder / CARD))
    if args.output:
        copy_card(folder, Path(args.output), shipped=folder.resolve() == SHIPPED.resolve())
        written.append(args.output)
    emit(args, {"written": written}, "\n".join(f"card -> {path}" for path in written))
    return 0


def _named_report(value: str) -> tuple[str, Any]:
    from dupq.decisions.report import Report
    from dupq.models.safety import read_json

    name, equals, path = value.partition("=")
    if not name or not equals:
        raise InputError(f"{value!r} is not NAME=REPORT.json", mend='write it as "Ask Ubuntu=askubuntu.json"')
    try:
        return name, Report.from_dict(read_json(Path(path)))
    except ModelFolderError as error:
        raise InputError(
            f"this is no report ({error.problem})", where=path, mend="make one with `dupq evaluate`"
        ) from error


def run_push(args: argparse.Namespace) -> int:
    from dupq.sharing.hub import push

    pushed = push(args.folder, args.name, private=args.private, branch=args.branch, tag=args.tag, message=args.message)
    text = f"{pushed.files} files in one commit -> {pushed.url}\nopen it: DuplicatePipeline.from_pretrained("
    emit(args, asdict(pushed), f'{text}"{pushed.repository}", revision="{args.tag or pushed.commit}")')
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    from dupq.sharing.pipeline_folder import resolve
    from dupq.sharing.release import inspect_folder, told

    found = inspect_folder(resolve(args.model, args.revision, pages=True))
    emit(args, {"model": args.model, **found}, f"{args.model}\n{told(found)}")
    return 0
