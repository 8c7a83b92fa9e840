"""`dupq model`: convert, inspect and share networks and pipeline folders.

It also averages networks, reduces the dimensions of a bi-encoder, and writes model cards.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dupq.cli.console import emit, note, note_if_slow, progress_bar
from dupq.cli.inputs import add_pair_options, pair_options, print_report, split_path
from dupq.errors import InputError, ModelFolderError


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    model = commands.add_parser("model", help="convert, inspect and share model folders")
    actions = model.add_subparsers(dest="action", required=True, metavar="ACTION")

    export = actions.add_parser("export", parents=[shared], help="write the int8 form, which runs without torch")
    export.add_argument("model", metavar="DIR|ID", help="pipeline folder or Hub id")
    export.add_argument(
        "pairs", metavar="PAIRS", help="labelled pairs to calibrate it again, or folder made by `dupq data split`"
    )
    export.add_argument("-o", "--output", required=True, metavar="DIR", help="pipeline folder to write")
    export.add_argument(
        "--cascade",
        nargs="?",
        type=float,
        const=0.999,
        metavar="SHARE",
        help="add a cascade that keeps this share of decisions unchanged, 0.999 if no SHARE is given (default: no "
        "cascade)",
    )
    export.add_argument(
        "--max-ap-loss",
        type=float,
        metavar="AP",
        help="maximum loss of average precision by the cascade (default: 0.002)",
    )
    export.add_argument(
        "--embedding-bits",
        type=int,
        choices=(4, 8),
        default=8,
        help="bits per weight of the embedding table; 4 makes smaller files (default: 8)",
    )
    add_pair_options(export)
    export.set_defaults(run=run_export)

    to_torch = actions.add_parser("to-torch", parents=[shared], help="write stock networks of an int8 pipeline")
    to_torch.add_argument(
        "model", nargs="?", metavar="DIR|ID", help="int8 pipeline folder or Hub id (default: the shipped model)"
    )
    to_torch.add_argument("-o", "--output", required=True, metavar="DIR", help="pipeline folder to write, uncalibrated")
    to_torch.set_defaults(run=run_to_torch)

    average = actions.add_parser("average", parents=[shared], help="average the weights of several networks")
    average.add_argument("kind", choices=("bi-encoder", "cross-encoder"), help="kind of the networks")
    average.add_argument(
        "networks", nargs="+", metavar="NETWORK", help="two or more folders or Hub ids, trained from one start"
    )
    average.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the averaged network")
    average.add_argument(
        "--weights", nargs="+", type=float, metavar="W", help="weight of each network (default: equal weights)"
    )
    average.set_defaults(run=run_average)

    reduce = actions.add_parser("reduce", parents=[shared], help="reduce a bi-encoder's dimensions by PCA")
    reduce.add_argument("network", metavar="DIR|ID", help="trained bi-encoder")
    reduce.add_argument(
        "pairs", metavar="PAIRS", help="file of pairs whose questions are used to fit the PCA; use training data"
    )
    reduce.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the reduced network")
    reduce.add_argument("--dimensions", type=int, required=True, metavar="N", help="number of dimensions to keep")
    add_pair_options(reduce, labelled=False)
    reduce.set_defaults(run=run_reduce)

    inspect = actions.add_parser("inspect", parents=[shared], help="verify a folder and print what it holds")
    inspect.add_argument("model", metavar="DIR|ID", help="folder or Hub id")
    inspect.add_argument("--revision", help="branch, tag or commit on the Hub (default: the main branch)")
    inspect.set_defaults(run=run_inspect)

    card = actions.add_parser("card", parents=[shared], help="write the model card of a pipeline folder")
    card.add_argument("folder", metavar="DIR", help="pipeline folder")
    card.add_argument(
        "--about",
        metavar="FILE.json",
        help="title, licence, languages, data and other facts for the card (default: those of the folder)",
    )
    card.add_argument(
        "--elsewhere",
        action="append",
        default=[],
        metavar="NAME=REPORT.json",
        help="report of `dupq evaluate DIR PAIRS -o REPORT.json` on other questions (default: those of the folder)",
    )
    card.add_argument(
        "-o",
        "--output",
        metavar="CARD.md",
        help="write a copy of the card, with its plots beside it; alone, it leaves DIR unchanged (default: no copy)",
    )
    card.set_defaults(run=run_card)

    push = actions.add_parser("push", parents=[shared], help="upload a pipeline folder to the Hugging Face Hub")
    push.add_argument("folder", metavar="DIR", help="pipeline folder")
    push.add_argument("name", metavar="ID", help="owner/name on the Hub; created if it does not exist")
    push.add_argument(
        "--private", action="store_true", default=None, help="create a private repository, and refuse a public one"
    )
    push.add_argument("--branch", help="branch to push to; created if it does not exist (default: main)")
    push.add_argument("--tag", help="new tag of the commit (default: none)")
    push.add_argument("--message", help="message of the commit (default: one that names dupq)")
    push.set_defaults(run=run_push)


def run_export(args: argparse.Namespace) -> int:
    from dupq.data.pairs import load_pairs
    from dupq.fit import check_cascade
    from dupq.hub.folder import require_place
    from dupq.models.cascade import MAX_AP_LOSS
    from dupq.pipeline import DuplicatePipeline

    options = pair_options(args)
    if args.max_ap_loss is not None and args.cascade is None:
        raise InputError("--max-ap-loss needs --cascade", hint="give --cascade too, or leave it out")
    max_ap_loss = MAX_AP_LOSS if args.max_ap_loss is None else args.max_ap_loss
    if args.cascade is not None:
        check_cascade(args.cascade, max_ap_loss)
    require_place(args.output)
    pairs = load_pairs(split_path(args.pairs, "calibration"), **options)
    print_report(options["report"])
    with note_if_slow(f"opening {args.model} ..."):
        pipeline = DuplicatePipeline.from_pretrained(args.model)
    if pipeline.candidate_calibration is not None:
        note("the calibration on candidates is not kept: repeat `dupq calibrate --candidates` on the result")
    if args.cascade is None or not pipeline.is_int8:
        with progress_bar("exporting") as bar:
            pipeline = pipeline.export(pairs, bar, word_bits=args.embedding_bits)
    if args.cascade is not None:
        with progress_bar("fitting the cascade") as bar:
            pipeline = pipeline.with_cascade(pairs, min_agreement=args.cascade, max_ap_loss=max_ap_loss, progress=bar)
    pipeline.save(args.output)
    text = f"{pipeline.report}\n-> {args.output}"
    if cascade := pipeline.cascade:
        text += (
            f"\ncascade: {cascade.settled:.1%} of the pairs are decided by the {cascade.first} alone; "
            f"{cascade.agreement:.2%} of all decisions are unchanged, and the average precision falls by "
            f"{cascade.ap_loss:.4f}"
        )
    emit(args, {**pipeline.report.to_dict(), "cascade": cascade.to_dict() if cascade else None}, text)
    return 0


def run_to_torch(args: argparse.Namespace) -> int:
    from dupq.hub.folder import require_place
    from dupq.pipeline import DuplicatePipeline

    require_place(args.output)
    pipeline = DuplicatePipeline.from_pretrained(args.model).to_torch()
    pipeline.save(args.output)
    networks = [
        f"{args.output}/{name}" for name in ("bi-encoder", "cross-encoder") if (Path(args.output) / name).is_dir()
    ]
    emit(args, {"networks": networks}, f"stock networks, not calibrated -> {', '.join(networks)}")
    return 0


def run_average(args: argparse.Namespace) -> int:
    from dupq.training.averaging import average

    record = average(args.kind, args.networks, args.output, args.weights)
    emit(args, record, f"average of {len(args.networks)} networks -> {args.output}")
    return 0


def run_reduce(args: argparse.Namespace) -> int:
    from dupq.data.pairs import load_pairs
    from dupq.training.reduction import check_reduction, reduce_dimensions

    check_reduction(args.dimensions, 0.0)
    options = pair_options(args)
    pairs = load_pairs(args.pairs, labelled=False, **options)
    print_report(options["report"])
    record = reduce_dimensions(args.network, [*pairs.left, *pairs.right], args.output, args.dimensions)
    kept = f"{record['kept']:.1%} of the squared length of {record['texts']:,} questions is kept"
    emit(args, record, f"bi-encoder of {args.dimensions} dimensions -> {args.output}; {kept}")
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    from dupq.hub.inspect import format_summary, inspect_folder
    from dupq.hub.save_load import resolve

    found = inspect_folder(resolve(args.model, args.revision, pages=True))
    emit(args, {"model": args.model, **found}, f"{args.model}\n{format_summary(found)}")
    return 0


def run_card(args: argparse.Namespace) -> int:
    from dupq.hub.card import CARD
    from dupq.hub.card_metadata import read_about
    from dupq.hub.inspect import copy_card, rewrite_card
    from dupq.pipeline import SHIPPED

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
    """Return the name and the report of `NAME=REPORT.json`.

    Raises:
        InputError: It has another form, or the file is no report.
    """
    from dupq.evaluation.report import Report
    from dupq.models.safety import read_json

    name, equals, path = value.partition("=")
    if not name or not equals:
        raise InputError(
            f"--elsewhere must be NAME=REPORT.json, got {value!r}", hint='write it as "Ask Ubuntu=askubuntu.json"'
        )
    try:
        return name, Report.from_dict(read_json(Path(path)))
    except ModelFolderError as error:
        raise InputError(
            f"this is no report ({error.message})", location=path, hint="make one with `dupq evaluate`"
        ) from error


def run_push(args: argparse.Namespace) -> int:
    from dupq.hub.push import push

    pushed = push(args.folder, args.name, private=args.private, branch=args.branch, tag=args.tag, message=args.message)
    text = f"{pushed.files} files in one commit -> {pushed.url}\nopen it: DuplicatePipeline.from_pretrained("
    emit(args, asdict(pushed), f'{text}"{pushed.repository}", revision="{args.tag or pushed.commit}")')
    return 0
