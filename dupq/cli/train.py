"""`dupq fit` and `dupq train`: train networks, alone or for a pipeline."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from dupq.cli.calibrate import evaluate_pipeline, policy_options
from dupq.cli.console import emit, format_table, note, progress_bar
from dupq.cli.inputs import (
    add_pair_options,
    pair_options,
    parse_where,
    print_report,
    split_path,
    validation_path,
)
from dupq.cli.pipeline_options import add_policy_options
from dupq.errors import InputError

DEFAULT_BASE = "sentence-transformers/all-MiniLM-L6-v2"
_BASE_HELP = f"encoder to start from, a folder or Hub id (default: {DEFAULT_BASE})"


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    fit = commands.add_parser("fit", parents=[shared], help="make a pipeline: split, train, calibrate, evaluate")
    fit.add_argument("pairs", metavar="PAIRS", help="labelled file: TSV, CSV, JSONL or Parquet, plain, .gz or .xz")
    fit.add_argument("-o", "--output", required=True, metavar="DIR", help="pipeline folder to write")
    fit.add_argument("--work", metavar="DIR", help="folder of splits and networks (default: OUTPUT.work)")
    fit.add_argument("--base", default=DEFAULT_BASE, metavar="DIR|ID", help=_BASE_HELP)
    fit.add_argument(
        "--held-out-where",
        action="append",
        metavar="COLUMN=VALUE",
        help="use other rows for training only, as in `dupq data split` (default: no condition)",
    )
    fit.add_argument("--restart", action="store_true", help="delete the networks of a run with other settings")
    _add_training_options(fit)
    add_policy_options(fit.add_argument_group("thresholds"))
    add_pair_options(fit)
    fit.set_defaults(run=run_fit)

    train = commands.add_parser("train", help="train one network")
    train.add_argument("--list-methods", action="store_true", help="list the values of --method")
    train.add_argument("--json", action="store_true", dest="methods_json", help="print the list as JSON")
    train.set_defaults(run=run_list_methods, parser=train)
    kinds = train.add_subparsers(dest="kind", metavar="KIND")
    for kind, help_text in (
        ("bi-encoder", "train a network that embeds each question"),
        ("cross-encoder", "train a network that reads both questions"),
    ):
        one = kinds.add_parser(kind, parents=[shared], help=help_text)
        one.add_argument("pairs", metavar="PAIRS", help="folder made by `dupq data split`, or labelled file")
        one.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the trained network")
        one.add_argument("--base", default=DEFAULT_BASE, metavar="DIR|ID", help=_BASE_HELP)
        one.add_argument(
            "--validation",
            metavar="FILE",
            help="labelled pairs whose average precision is logged each epoch (default: validation.jsonl of the folder "
            "PAIRS)",
        )
        one.add_argument(
            "--where", action="append", metavar="COLUMN=VALUE", help="train on such rows only (default: all rows)"
        )
        one.add_argument(
            "--method",
            metavar="NAME",
            help="training method, see `dupq train --list-methods` (default: that of the kind)",
        )
        one.add_argument(
            "--soft-labels",
            metavar="COLUMN",
            help="train on this column of numbers in [0, 1], as `dupq distill soft-labels` writes it (default: the "
            "labels)",
        )
        one.add_argument("--restart", action="store_true", help="delete what the output folder holds")
        _add_training_options(one)
        add_pair_options(one)
        one.set_defaults(run=run_train)


_SETTINGS: dict[str, tuple[Any, str]] = {
    "epochs": (float, "passes over the pairs (default: 3)"),
    "batch_size": (int, "pairs per step (default: 64)"),
    "learning_rate": (float, "peak learning rate, after warm-up (default: 8e-5)"),
    "dropout": (float, "dropout of the encoder, in [0, 1) (default: 0)"),
    "freeze_layers": (int, "number of the lowest layers that are not trained (default: 0)"),
    "max_length": (int, "tokens after which a text is truncated (default: 128)"),
    "max_steps": (int, "maximum number of steps (default: by --epochs)"),
    "save_steps": (int, "steps between checkpoints (default: 500)"),
    "seed": (int, "seed of the order of pairs, and of a new head (default: 0)"),
}
"""Number in `TrainSettings` that is an option -> its type and help."""


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add options whose default is that of `TrainSettings`."""
    group = parser.add_argument_group("training")
    for name, (kind, help_text) in _SETTINGS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=help_text)
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        help="arithmetic of the training (default: auto, the faster one on this machine)",
    )


def _settings(args: argparse.Namespace, base: str) -> Any:
    from dupq.training.trainer import TrainSettings

    given = {name: value for name in (*_SETTINGS, "precision") if (value := getattr(args, name)) is not None}
    return TrainSettings(base=base, **given)


def run_list_methods(args: argparse.Namespace) -> int:
    from dupq.training.methods import METHODS

    if not args.list_methods:
        args.parser.error("KIND must be bi-encoder or cross-encoder")
    args.json = args.methods_json
    data = [
        {"name": method.name, "kind": method.kind, "line": method.line, "source": method.source}
        for method in METHODS.values()
    ]
    tables = []
    for kind in ("bi-encoder", "cross-encoder"):
        rows = [(method.name, f"{method.line} [{method.source}]") for method in METHODS.values() if method.kind == kind]
        tables.append(f"dupq train {kind} --method NAME\n{format_table(rows, indent=2)}")
    emit(args, data, "\n\n".join(tables))
    return 0


def run_train(args: argparse.Namespace) -> int:
    from dupq.data.pairs import load_pairs
    from dupq.training.methods import find_method
    from dupq.training.teacher import read_soft_labels
    from dupq.training.trainer import train

    args.json |= args.methods_json  # `dupq train --json bi-encoder ...`
    options, settings, where = pair_options(args), _settings(args, args.base), parse_where(args.where)
    method = find_method(args.kind, args.method)
    source, validation_file = split_path(args.pairs, "train"), validation_path(args)
    soft_labels = None
    if args.soft_labels:
        if args.where or args.columns or args.label_column or args.skip_bad:
            raise InputError(
                "--soft-labels reads a file as `dupq distill soft-labels` writes it",
                hint="leave out the other reading options",
            )
        table = read_soft_labels(source, args.soft_labels)
        pairs, soft_labels = table.pairs, table.soft_labels
    else:
        pairs = load_pairs(source, labelled=not method.unsupervised, where=where, **options)
    validation = load_pairs(validation_file, **options) if validation_file else None
    print_report(options["report"])
    if soft_labels is None and (clash := pairs.contradictions):
        note(f"CAUTION: {clash.text(pairs.rows)}")
    record = train(
        args.kind,
        pairs,
        args.output,
        settings,
        method=args.method,
        soft_labels=soft_labels,
        validation=validation,
        restart=args.restart,
        quiet=args.json,
    )
    emit(args, record, _format_record(record, args.output, len(validation) if validation else 0))
    return 0


def _format_record(record: dict[str, Any], output: str | Path, validation: int) -> str:
    """Return one line on a trained network.

    It includes the average precision on the validation pairs, if there are any.
    """
    from dupq.evaluation.report import MIN_PAIRS

    endings = ("average_precision", "cosine_ap")
    values = [value for end in endings for log in record["log"] for key, value in log.items() if key.endswith(end)]
    measured = ""
    if values:
        few = "" if validation >= MIN_PAIRS else f" ({validation:,} pairs, too few to rely on)"
        measured = f", average precision on validation {values[-1]:.3f}{few}"
    return f"{record['kind']} -> {output}: {record['data']['pairs']:,} pairs, {record['seconds']:,.0f} s{measured}"


def run_fit(args: argparse.Namespace) -> int:
    from dupq.data.pairs import load_pairs
    from dupq.data.splits import SplitSettings, split_file
    from dupq.hub.folder import require_place
    from dupq.pipeline import DuplicatePipeline
    from dupq.training.trainer import train

    output = Path(args.output)
    work = Path(args.work or f"{os.path.abspath(output)}.work")  # "." has no name of its own
    if work.exists() and not work.is_dir():
        raise InputError(
            "the work folder must be a folder, got a file",
            location=str(work),
            hint="name another folder with --work",
        )
    options, policy, settings = pair_options(args), policy_options(args), _settings(args, args.base)
    held_out = parse_where(args.held_out_where)
    require_place(output)
    split = split_file(args.pairs, work / "splits", SplitSettings(None, settings.seed, held_out), **options)
    print_report(options["report"])
    for line in split["notes"]:
        note(f"CAUTION: {line}")
    counts = ", ".join(f"{part['pairs']:,} {name}" for name, part in split["splits"].items())
    note(f"[1/5] split: {counts}")
    pairs, validation = load_pairs(work / "splits" / "train.jsonl"), load_pairs(work / "splits" / "validation.jsonl")
    bi_encoder, cross_encoder = work / "bi-encoder", work / "cross-encoder"
    running = {"validation": validation, "restart": args.restart, "quiet": args.json}
    record = train("bi-encoder", pairs, bi_encoder, settings, **running)
    note(f"[2/5] {_format_record(record, bi_encoder, len(validation))}")
    # The cross-encoder starts from the trained bi-encoder, which has adapted to the questions.
    natural = load_pairs(work / "splits" / "train.jsonl", where={"natural": "1"})
    record = train("cross-encoder", natural, cross_encoder, _settings(args, str(bi_encoder)), **running)
    note(f"[3/5] {_format_record(record, cross_encoder, len(validation))}")
    calibration = load_pairs(work / "splits" / "calibration.jsonl")
    pipeline = DuplicatePipeline.from_networks(cross_encoder, bi_encoder).with_blend(validation)
    with progress_bar("calibrating") as bar:
        pipeline = pipeline.calibrate(calibration, **policy, progress=bar)
    pipeline.save(output)
    note(f"[4/5] calibrated -> {output}")
    report = evaluate_pipeline(output, load_pairs(work / "splits" / "test.jsonl"))
    note(f"[5/5] evaluated -> {output / 'report.html'}")
    emit(args, report.to_dict(), str(report))
    return 0
