"""`dupq train bi-encoder|cross-encoder`, `dupq methods|dequantise|average|reduce`, and `dupq fit`, the whole chain."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dupq.cli.console import add_reading_options, emit, note, parse_where, reading_options, report_skipped
from dupq.cli.deciding import add_policy_options
from dupq.errors import InputError

DEFAULT_BASE = "sentence-transformers/all-MiniLM-L6-v2"


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    train = commands.add_parser("train", help="train one network")
    kinds = train.add_subparsers(dest="kind", required=True, metavar="bi-encoder|cross-encoder")
    for kind, what in (
        ("bi-encoder", "a Siamese sentence network, which embeds a question by itself"),
        ("cross-encoder", "a pair classifier, which reads both questions at once"),
    ):
        one = kinds.add_parser(kind, parents=[shared], help=what)
        one.add_argument("pairs", help="a folder made by `dupq split`, or a labelled file")
        one.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the trained network")
        one.add_argument(
            "--base", default=DEFAULT_BASE, help=f"encoder to start from: folder or Hub id ({DEFAULT_BASE})"
        )
        one.add_argument("--validation", metavar="FILE", help="pairs whose average precision is logged each epoch")
        one.add_argument("--where", action="append", metavar="COLUMN=VALUE", help="train on such rows only")
        one.add_argument("--method", metavar="NAME", help="how it is trained; `dupq methods` lists the names")
        one.add_argument(
            "--targets", metavar="COLUMN", help="learn these numbers in [0, 1], as `dupq distil` writes them"
        )
        one.add_argument("--restart", action="store_true", help="throw away what the output folder holds")
        add_training_options(one)
        add_reading_options(one)
        one.set_defaults(run=run_train)

    methods = commands.add_parser("methods", parents=[shared], help="list the ways of training a network")
    methods.set_defaults(run=run_methods)

    dequantise = commands.add_parser(
        "dequantise", parents=[shared], help="the stock networks of an int8 pipeline, to train on from there"
    )
    dequantise.add_argument("model", nargs="?", metavar="DIR|ID", help="a pipeline in int8 (default: the shipped one)")
    dequantise.add_argument("-o", "--output", required=True, metavar="DIR", help="the pipeline folder to write")
    dequantise.set_defaults(run=run_dequantise)

    average = commands.add_parser("average", help="one network of several: the mean of their weights")
    kinds = average.add_subparsers(dest="kind", required=True, metavar="bi-encoder|cross-encoder")
    for kind in ("bi-encoder", "cross-encoder"):
        one = kinds.add_parser(kind, parents=[shared], help="networks trained from one start")
        one.add_argument("networks", nargs="+", metavar="DIR|ID")
        one.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the averaged network")
        one.add_argument("--weights", nargs="+", type=float, help="one a network (default: all alike)")
        one.set_defaults(run=run_average)

    reduce = commands.add_parser(
        "reduce", parents=[shared], help="a bi-encoder of fewer dimensions: the principal ones of its embeddings"
    )
    reduce.add_argument("network", metavar="DIR|ID", help="a trained bi-encoder")
    reduce.add_argument("pairs", help="pairs, labelled or not, best those it was trained on: their questions tell")
    reduce.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the reduced network")
    reduce.add_argument("--dimensions", type=int, required=True, help="how many to keep")
    reduce.add_argument(
        "--power", type=float, default=0.0, help="0: all alike; above, a direction counts by its singular value to this"
    )
    add_reading_options(reduce, labelled=False)
    reduce.set_defaults(run=run_reduce)

    fit = commands.add_parser(
        "fit", parents=[shared], help="the whole chain: split, train both networks, calibrate, evaluate"
    )
    fit.add_argument("pairs", help="a labelled file: TSV, CSV, JSONL or Parquet, plain, .gz or .xz")
    fit.add_argument("-o", "--output", required=True, metavar="DIR", help="the pipeline folder to write")
    fit.add_argument("--work", metavar="DIR", help="where splits and networks go (default: OUTPUT.work)")
    fit.add_argument("--base", default=DEFAULT_BASE, help=f"encoder to start from: folder or Hub id ({DEFAULT_BASE})")
    fit.add_argument(
        "--held-out-where", action="append", metavar="COLUMN=VALUE", help="as of `dupq split`; others only train"
    )
    add_training_options(fit)
    add_policy_options(fit)
    add_reading_options(fit)
    fit.set_defaults(run=run_fit)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Options that, where they are not given, leave `TrainSettings` its defaults."""
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--dropout", type=float, help="share in [0, 1)")
    parser.add_argument("--freeze-layers", type=int, help="leave so many of the lowest layers as they are")
    parser.add_argument("--max-length", type=int, help="tokens a text is cut to")
    parser.add_argument("--max-steps", type=int, help="stop after so many steps")
    parser.add_argument("--save-steps", type=int, help="steps between checkpoints")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--seed", type=int)


def _settings(args: argparse.Namespace, base: str) -> Any:
    from dupq.training.trainer import TrainSettings

    names = (
        "epochs",
        "batch_size",
        "learning_rate",
        "dropout",
        "freeze_layers",
        "max_length",
        "max_steps",
        "save_steps",
        "precision",
        "seed",
    )
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return TrainSettings(base=base, **given)


def run_train(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.training.distillation import read_targets
    from dupq.training.methods import find_method
    from dupq.training.trainer import train

    options = reading_options(args)
    folder = Path(args.pairs)
    source = folder / "train.jsonl" if folder.is_dir() else folder
    held = args.validation or (folder / "validation.jsonl" if folder.is_dir() else None)
    targets = None
    if args.targets:
        if args.where or args.columns or args.label_column or args.skip_bad:
            raise InputError(
                "--targets reads a file as `dupq distil targets` writes it", mend="leave out the other reading options"
            )
        table = read_targets(source, args.targets)
        pairs, targets = table.pairs, table.targets
    else:
        labelled = not find_method(args.kind, args.method).unsupervised
        pairs = load_pairs(source, labelled=labelled, where=parse_where(args.where), **options)
    validation = load_pairs(held, **options) if held else None
    report_skipped(options["skipped"])
    record = train(
        args.kind,
        pairs,
        args.output,
        _settings(args, args.base),
        method=args.method,
        targets=targets,
        validation=validation,
        restart=args.restart,
        quiet=args.json,
    )
    emit(args, record, _told(record, args.output))
    return 0


def run_methods(args: argparse.Namespace) -> int:
    from dupq.training.methods import METHODS

    lines = []
    for kind in ("bi-encoder", "cross-encoder"):
        lines += ["", f"dupq train {kind} --method NAME"]
        named = [method for method in METHODS.values() if method.kind == kind]
        lines += [f"  {method.name:<20} {method.line} [{method.source}]" for method in named]
    told = [
        {"name": method.name, "kind": method.kind, "line": method.line, "source": method.source}
        for method in METHODS.values()
    ]
    emit(args, told, "\n".join(lines[1:]))
    return 0


def run_average(args: argparse.Namespace) -> int:
    from dupq.training.averaging import average

    record = average(args.kind, args.networks, args.output, args.weights)
    emit(args, record, f"the mean of {len(args.networks)} networks -> {args.output}")
    return 0


def run_reduce(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.training.reduction import reduce_dimensions

    options = reading_options(args)
    pairs = load_pairs(args.pairs, labelled=False, **options)
    report_skipped(options["skipped"])
    texts = [*pairs.left, *pairs.right]
    record = reduce_dimensions(args.network, texts, args.output, args.dimensions, power=args.power)
    kept = f"{record['kept']:.1%} of the squared length of {record['texts']:,} questions is kept"
    emit(args, record, f"a bi-encoder of {args.dimensions} dimensions -> {args.output}: {kept}")
    return 0


def run_dequantise(args: argparse.Namespace) -> int:
    from dupq.pipeline import DuplicatePipeline

    pipeline = DuplicatePipeline.from_pretrained(args.model).dequantise()
    pipeline.save(args.output)
    networks = [
        f"{args.output}/{name}" for name in ("bi-encoder", "cross-encoder") if (Path(args.output) / name).is_dir()
    ]
    emit(args, {"networks": networks}, f"stock networks to train on, not calibrated -> {', '.join(networks)}")
    return 0


def _told(record: dict[str, Any], output: str | Path) -> str:
    precision = [value for entry in record["log"] for key, value in entry.items() if key.endswith("average_precision")]
    precision += [value for entry in record["log"] for key, value in entry.items() if key.endswith("cosine_ap")]
    scored = f", average precision on validation {precision[-1]:.3f}" if precision else ""
    return f"{record['kind']} -> {output}: {record['data']['pairs']:,} pairs, {record['seconds']:,.0f} s{scored}"


def run_fit(args: argparse.Namespace) -> int:
    from dupq.cli.deciding import calibrate_networks, evaluate_pipeline, policy_options
    from dupq.data.splits import SplitSettings, load_pairs, split_file
    from dupq.training.trainer import train

    output = Path(args.output)
    work = Path(args.work) if args.work else output.with_name(output.name + ".work")
    if work.exists() and not work.is_dir():
        raise InputError("this is a file, not a folder", where=str(work), mend="name another folder with --work")
    options, policy = reading_options(args), policy_options(args)
    split = split_file(
        args.pairs, work / "splits", SplitSettings(None, args.seed or 0, parse_where(args.held_out_where)), **options
    )
    report_skipped(options["skipped"])
    counts = ", ".join(f"{part['pairs']:,} {name}" for name, part in split["splits"].items())
    note(f"[1/5] split: {counts}")
    pairs, validation = load_pairs(work / "splits" / "train.jsonl"), load_pairs(work / "splits" / "validation.jsonl")
    bi_encoder, cross_encoder = work / "bi-encoder", work / "cross-encoder"
    record = train("bi-encoder", pairs, bi_encoder, _settings(args, args.base), validation=validation, quiet=args.json)
    note(f"[2/5] {_told(record, bi_encoder)}")
    # Started from the trained bi-encoder, the cross-encoder knows the questions' world from its first step.
    natural = load_pairs(work / "splits" / "train.jsonl", where={"natural": "1"})
    record = train(
        "cross-encoder",
        natural,
        cross_encoder,
        _settings(args, str(bi_encoder)),
        validation=validation,
        quiet=args.json,
    )
    note(f"[3/5] {_told(record, cross_encoder)}")
    calibration = load_pairs(work / "splits" / "calibration.jsonl")
    pipeline = calibrate_networks(bi_encoder, cross_encoder, validation, calibration, **policy)
    pipeline.save(output)
    note(f"[4/5] calibrated -> {output}")
    report = evaluate_pipeline(output, load_pairs(work / "splits" / "test.jsonl"))
    note(f"[5/5] evaluated -> {output / 'report.html'}")
    emit(args, report.to_dict(), str(report))
    return 0
