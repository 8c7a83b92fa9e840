"""`dupq calibrate` and `dupq evaluate`: from trained networks to a pipeline that decides, and to its report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.cli.console import (
    add_reading_options,
    emit,
    note,
    parse_where,
    progress_bar,
    reading_options,
    report_skipped,
    told_if_slow,
)
from dupq.cli.scoring import add_running_options, running_options
from dupq.errors import InputError
from dupq.models.networks import READINGS

if TYPE_CHECKING:
    from dupq.data.splits import PairTable
    from dupq.decisions.report import Report
    from dupq.pipeline import DuplicatePipeline


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    calibrate = commands.add_parser(
        "calibrate", parents=[shared], help="make a pipeline of trained networks: fit calibrator and thresholds"
    )
    calibrate.add_argument(
        "pairs", nargs="?", help="a folder made by `dupq split`, or a labelled file in its natural mix"
    )
    calibrate.add_argument("-o", "--output", required=True, metavar="DIR", help="the pipeline folder to write")
    calibrate.add_argument("--bi-encoder", metavar="DIR|ID")
    calibrate.add_argument("--cross-encoder", metavar="DIR|ID")
    calibrate.add_argument("--model", metavar="DIR|ID", help="calibrate this pipeline anew, its networks untouched")
    calibrate.add_argument(
        "--add", metavar="FILE", help="adapt --model to these verdicts of your own forum (50 or more)"
    )
    calibrate.add_argument("--validation", metavar="FILE", help="pairs on which two networks are blended")
    calibrate.add_argument(
        "--no-blend",
        action="store_true",
        help="of two networks, the cross-encoder alone makes the score: half the work; the bi-encoder finds candidates",
    )
    calibrate.add_argument(
        "--symmetry",
        choices=READINGS["symmetry"],
        help="orders in which the cross-encoder reads a pair: one; both where it matters (doubtful, the default); both",
    )
    calibrate.add_argument(
        "--long-texts",
        choices=READINGS["long_texts"],
        help="how the bi-encoder embeds texts of over 32 words: as a whole, or their head once more (the default)",
    )
    calibrate.add_argument(
        "--reblend", action="store_true", help="blend the networks of --model anew too, and have them read as is told"
    )
    calibrate.add_argument(
        "--corpus",
        metavar="FILE",
        help="correct the blend by the rare words that two questions share; these pairs tell which are rare",
    )
    add_policy_options(calibrate)
    add_reading_options(calibrate)
    calibrate.set_defaults(run=run_calibrate)

    export = commands.add_parser("export", parents=[shared], help="a pipeline's int8 form, which runs without torch")
    export.add_argument("model", metavar="DIR|ID", help="a pipeline folder or Hub id")
    export.add_argument("pairs", help="labelled pairs to calibrate it anew, or a folder made by `dupq split`")
    export.add_argument("-o", "--output", required=True, metavar="DIR", help="the pipeline folder to write")
    export.add_argument(
        "--cascade",
        nargs="?",
        type=float,
        const=0.999,
        metavar="SHARE",
        help="let one network settle what it can; so many decisions are to stay the same (0.999)",
    )
    export.add_argument(
        "--most-lost",
        type=float,
        metavar="AP",
        help="of the average precision, that the cascade may lose on these pairs (0.002)",
    )
    export.add_argument(
        "--word-bits", type=int, choices=(4, 8), default=8, help="of the word embeddings: 4 make smaller files (8)"
    )
    add_reading_options(export)
    export.set_defaults(run=run_export)

    drift = commands.add_parser(
        "drift", parents=[shared], help="say whether live pairs, unlabelled, still look like those it was calibrated on"
    )
    drift.add_argument("reference", metavar="REFERENCE", help="the pipeline, whose calibration is the reference")
    drift.add_argument("live", metavar="LIVE", help="a file of live pairs")
    drift.add_argument("--false-alarm-rate", type=float, default=0.01, metavar="RATE")
    add_running_options(drift)
    add_reading_options(drift, labelled=False)
    drift.set_defaults(run=run_drift)

    evaluate = commands.add_parser("evaluate", parents=[shared], help="measure a pipeline on unseen labelled pairs")
    evaluate.add_argument("model", metavar="DIR|ID", help="a pipeline folder or Hub id")
    evaluate.add_argument("pairs", help="a labelled file, or a folder made by `dupq split` (its test split)")
    evaluate.add_argument("-o", "--output", metavar="REPORT.json", help="where the report goes")
    evaluate.add_argument("--html", metavar="REPORT.html", help="the report with its pictures, in one file")
    evaluate.add_argument(
        "--attach", action="store_true", help="put the report into the pipeline folder, which is a local one"
    )
    add_running_options(evaluate)
    evaluate.add_argument("--where", action="append", metavar="COLUMN=VALUE", help="measure on such rows only")
    evaluate.add_argument(
        "--unseen", action="store_true", help="leave out pairs that hold a question it was trained on, and say how many"
    )
    add_reading_options(evaluate)
    evaluate.set_defaults(run=run_evaluate)


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """What the thresholds are to promise."""
    parser.add_argument(
        "--policy",
        default="f1",
        help="of the duplicate threshold: f1 (default), accuracy, cost=5:1, recall>=0.9 or precision>=0.95",
    )
    parser.add_argument("--delta", type=float, default=0.05, help="a promise may fail with this probability (0.05)")
    parser.add_argument(
        "--miss-rate", type=float, metavar="SHARE", help="drop at most this share of all duplicates; the rest is review"
    )


def policy_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments for `DuplicatePipeline.calibrate` that `add_policy_options` asked for."""
    from dupq.decisions.thresholds import Policy

    return {"policy": Policy.parse(args.policy, args.delta), "miss_rate": args.miss_rate}


def calibrate_networks(
    bi_encoder: str | Path,
    cross_encoder: str | Path,
    validation: PairTable,
    pairs: PairTable,
    **policy: Any,
) -> DuplicatePipeline:
    """A calibrated pipeline of two trained networks, blended on the validation pairs."""
    from dupq.pipeline import DuplicatePipeline

    pipeline = DuplicatePipeline.from_networks(cross_encoder, bi_encoder).with_blend(validation)
    with progress_bar("calibrating") as bar:
        return pipeline.calibrate(pairs, **policy, progress=bar)


def evaluate_pipeline(
    model: str | Path, pairs: PairTable, attach: bool = True, unseen: bool = False, **running: Any
) -> Report:
    """The report of a pipeline on these pairs, put into its folder if `attach`; on those new to it if `unseen`.

    Raises:
        InputError: `attach`, and the pipeline is in no folder here.
    """
    from dataclasses import replace

    from dupq.data.grouping import holds_trained
    from dupq.pipeline import DuplicatePipeline

    if attach and not Path(model).is_dir():
        raise InputError(
            "a report is attached to a pipeline folder here, and this is none",
            where=str(model),
            mend="leave out --attach, or save the pipeline to a folder first",
        )
    with told_if_slow(f"opening {model} ..."):
        pipeline = DuplicatePipeline.from_pretrained(model, **running)
    if unseen:
        seen = holds_trained(pipeline.trained_on, pairs.left, pairs.right)
        pairs = pairs.take(~seen)
        note(f"left out {int(seen.sum()):,} pairs that hold a question it was trained on; {len(pairs):,} remain")
    with progress_bar("evaluating") as bar:
        report = pipeline.evaluate(pairs, bar)
    if attach:
        # Networks that were opened in half precision are not what the folder holds.
        whole = DuplicatePipeline.from_pretrained(model) if running.get("device") else pipeline
        replace(whole, evaluation=report).save(model)
    return report


def run_calibrate(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.pipeline import DuplicatePipeline

    if bool(args.model) == bool(args.bi_encoder or args.cross_encoder):
        raise InputError(
            "name either --model, or --bi-encoder and/or --cross-encoder",
            mend="dupq calibrate SPLITS --cross-encoder DIR",
        )
    if args.add:
        return _run_adapt(args)
    if args.pairs is None:
        raise InputError("no pairs were named", mend="give a folder made by `dupq split`, or a labelled file")
    options = reading_options(args)
    folder = Path(args.pairs)
    pairs = load_pairs(folder / "calibration.jsonl" if folder.is_dir() else folder, **options)
    held = args.validation or (folder / "validation.jsonl" if folder.is_dir() else None)
    report_skipped(options["skipped"])
    policy = policy_options(args)
    readings = {key: value for key in READINGS if (value := getattr(args, key)) is not None}
    if args.model:
        pipeline = DuplicatePipeline.from_pretrained(args.model)
        if readings and not args.reblend:
            raise InputError("how networks read is settled before they are blended", mend="give --reblend too")
        if args.reblend:
            pipeline = pipeline.with_readings(**readings)
    else:
        pipeline = DuplicatePipeline.from_networks(args.cross_encoder, args.bi_encoder, **readings)
    if args.reblend or (args.bi_encoder and args.cross_encoder and not args.no_blend):
        if not held:
            raise InputError(
                "two networks are blended on validation pairs",
                mend="name them with --validation FILE, or give --no-blend",
            )
        pipeline = pipeline.with_blend(load_pairs(held, **options), _corpus(args.corpus) if args.corpus else None)
    with progress_bar("calibrating") as bar:
        pipeline = pipeline.calibrate(pairs, **policy, progress=bar)
    pipeline.save(args.output)
    emit(args, pipeline.report.to_dict(), f"{pipeline.report}\n-> {args.output}")
    return 0


def _corpus(path: str) -> set[str]:
    """The questions of a file of pairs."""
    from dupq.data.reading import read_pairs

    return {text for pair in read_pairs(path) for text in (pair.question1, pair.question2)}


def _run_adapt(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.pipeline import DuplicatePipeline

    if args.pairs is not None or not args.model:
        raise InputError("--add adapts a pipeline", mend="dupq calibrate --model DIR --add VERDICTS -o NEW")
    options = reading_options(args)
    verdicts = load_pairs(args.add, **options)
    report_skipped(options["skipped"])
    with progress_bar("adapting") as bar:
        pipeline = DuplicatePipeline.from_pretrained(args.model).adapt(verdicts, bar)
    pipeline.save(args.output)
    told = {"verdicts": len(verdicts), "base_rate": pipeline.base_rate, "threshold": pipeline.threshold}
    text = (
        f"adapted to {len(verdicts):,} verdicts -> {args.output}\n"
        f"base rate {pipeline.base_rate:.1%}; duplicate from {pipeline.threshold:.3f}\nthreshold: {pipeline.promise}"
    )
    emit(args, {**told, "promise": pipeline.promise}, text)
    return 0


def run_export(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.models.cascade import MOST_LOST
    from dupq.pipeline import DuplicatePipeline

    options = reading_options(args)
    if args.most_lost is not None and args.cascade is None:
        raise InputError("--most-lost is said of a cascade", mend="give --cascade too, or leave it out")
    folder = Path(args.pairs)
    pairs = load_pairs(folder / "calibration.jsonl" if folder.is_dir() else folder, **options)
    report_skipped(options["skipped"])
    with told_if_slow(f"opening {args.model} ..."):
        pipeline = DuplicatePipeline.from_pretrained(args.model)
    if args.cascade is None or not pipeline.is_int8:
        with progress_bar("exporting") as bar:
            pipeline = pipeline.export(pairs, bar, word_bits=args.word_bits)
    if args.cascade is not None:
        most_lost = MOST_LOST if args.most_lost is None else args.most_lost
        with progress_bar("fitting the cascade") as bar:
            pipeline = pipeline.with_cascade(pairs, share=args.cascade, most_lost=most_lost, progress=bar)
    pipeline.save(args.output)
    text = f"{pipeline.report}\n-> {args.output}"
    if band := pipeline.cascade:
        text += (
            f"\ncascade: the {band.first} alone settles {band.settled:.1%} of the pairs; {band.equal:.2%} of all "
            f"decisions are those of the whole, and {band.lost:.4f} of the average precision is lost"
        )
    emit(args, {**pipeline.report.to_dict(), "cascade": band.to_dict() if band else None}, text)
    return 0


def run_drift(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.decisions.drift import DriftMonitor
    from dupq.pipeline import DuplicatePipeline

    options = reading_options(args)
    live = load_pairs(args.live, labelled=False, **options)
    report_skipped(options["skipped"])
    pipeline = DuplicatePipeline.from_pretrained(args.reference, **running_options(args))
    monitor = DriftMonitor(pipeline.score_reference(), args.false_alarm_rate)
    with progress_bar("scoring") as bar:
        result = monitor.check(pipeline.raw_scores(live.left, live.right, bar), live.groups)
    emit(args, result.to_dict(), str(result))
    return int(result.alarm)


def run_evaluate(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.data.writing import write_json, write_text

    options = reading_options(args)
    folder = Path(args.pairs)
    pairs = load_pairs(folder / "test.jsonl" if folder.is_dir() else folder, where=parse_where(args.where), **options)
    report_skipped(options["skipped"])
    report = evaluate_pipeline(args.model, pairs, args.attach, args.unseen, **running_options(args))
    if args.output:
        write_json(args.output, report.to_dict())
        note(f"report -> {args.output}")
    if args.html:
        write_text(args.html, report.to_html())
        note(f"pictures -> {args.html}")
    emit(args, report.to_dict(), str(report))
    return 0
