"""`dupq calibrate`, `evaluate` and `drift`: fit, measure and monitor decisions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.cli.console import emit, note, note_if_slow, progress_bar
from dupq.cli.inputs import (
    add_pair_options,
    pair_options,
    parse_where,
    print_report,
    split_path,
    validation_path,
)
from dupq.cli.pipeline_options import add_policy_options, add_running_options, running_options
from dupq.errors import InputError, LeakError
from dupq.models.scoring_options import SCORING_OPTIONS

if TYPE_CHECKING:
    from dupq.data.pairs import PairTable
    from dupq.evaluation.report import Report


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    calibrate = commands.add_parser("calibrate", parents=[shared], help="fit calibrator and thresholds of a pipeline")
    calibrate.add_argument(
        "pairs",
        nargs="?",
        metavar="PAIRS",
        help="folder made by `dupq data split`, or labelled file with the natural share of duplicates (default: none, "
        "needed without --add and --candidates-from)",
    )
    calibrate.add_argument("-o", "--output", required=True, metavar="DIR", help="pipeline folder to write")
    networks = calibrate.add_argument_group("networks")
    networks.add_argument("--bi-encoder", metavar="DIR|ID", help="trained bi-encoder (default: none)")
    networks.add_argument("--cross-encoder", metavar="DIR|ID", help="trained cross-encoder (default: none)")
    networks.add_argument(
        "--model",
        metavar="DIR|ID",
        help="pipeline to calibrate again, with its networks (default: none; with --add, --candidates and "
        "--candidates-from, the shipped model)",
    )
    networks.add_argument(
        "--add", metavar="FILE", help="adapt --model to 50 or more labelled pairs of your own forum (default: none)"
    )
    networks.add_argument(
        "--candidates",
        metavar="FILE",
        help="fit the probability and threshold of mined and flagged candidates of --model to these judged ones; rows "
        'without a label, or with "?", are left out (default: none)',
    )
    networks.add_argument(
        "--weight-column",
        metavar="NAME",
        help="column of the candidates that a judged one stands for (default: weight if there is one, else all count "
        "the same)",
    )
    networks.add_argument(
        "--about", metavar="TEXT", help="origin of the judged candidates, for the statements of results (default: none)"
    )
    networks.add_argument(
        "--allow-trained",
        action="store_true",
        help="accept judged candidates with a question of the training (default: refuse them)",
    )
    networks.add_argument(
        "--validation",
        metavar="FILE",
        help="labelled pairs that fit the blend of two networks (default: validation.jsonl of the folder PAIRS)",
    )
    networks.add_argument(
        "--no-blend",
        action="store_true",
        help="score by the cross-encoder alone, which halves the work; the bi-encoder finds candidates",
    )
    networks.add_argument(
        "--reblend",
        action="store_true",
        help="also refit the blend weights of --model; allows --symmetry, --long-texts and --long-pairs",
    )
    networks.add_argument(
        "--symmetry",
        choices=SCORING_OPTIONS["symmetry"],
        help="score the swapped order too: never (canonical), for uncertain pairs, or always (both) (default: for "
        "uncertain pairs)",
    )
    networks.add_argument(
        "--long-texts",
        choices=SCORING_OPTIONS["long_texts"],
        help="embed texts of more than 32 words as a whole, or as the mean of the whole and of its first words "
        "(default: the mean)",
    )
    networks.add_argument(
        "--long-pairs",
        choices=SCORING_OPTIONS["long_pairs"],
        help="score texts of more than 520 characters by their beginning, as far as the cross-encoder reads, or by "
        "their first 350 and last 150 characters (default: that of --model, or the beginning)",
    )
    networks.add_argument(
        "--corpus",
        metavar="FILE",
        help="pairs whose texts give the IDF weights; adds the IDF overlap to the blend (default: none)",
    )
    add_policy_options(calibrate.add_argument_group("thresholds"))
    candidates = calibrate.add_argument_group("candidates of mining and flagging")
    candidates.add_argument(
        "--candidates-from",
        metavar="FILE",
        help="labelled pairs whose duplicates the candidate rule of --model has to find; only the rule is fitted "
        "(default: none)",
    )
    candidates.add_argument(
        "--among",
        metavar="FILE",
        help="questions of a forum to find them among, as many as will be mined (default: those pairs alone)",
    )
    candidates.add_argument(
        "--candidate-recall",
        type=float,
        metavar="SHARE",
        help="least share of those duplicates that the rule has to find, in (0, 1] (default: 0.9)",
    )
    add_pair_options(calibrate)
    calibrate.set_defaults(run=run_calibrate)

    evaluate = commands.add_parser("evaluate", parents=[shared], help="measure a pipeline on unseen labelled pairs")
    evaluate.add_argument("model", metavar="DIR|ID", help="pipeline folder or Hub id")
    evaluate.add_argument(
        "pairs", metavar="PAIRS", help="labelled file, or folder made by `dupq data split` (its test)"
    )
    evaluate.add_argument("-o", "--output", metavar="REPORT.json", help="report as JSON (default: not written)")
    evaluate.add_argument("--html", metavar="REPORT.html", help="report as a page with plots (default: not written)")
    evaluate.add_argument("--attach", action="store_true", help="save the report in the local pipeline folder")
    evaluate.add_argument(
        "--where", action="append", metavar="COLUMN=VALUE", help="use such rows only (default: all rows)"
    )
    evaluate.add_argument(
        "--unseen",
        action="store_true",
        help="leave out and count pairs with a question that the pipeline was trained or calibrated on",
    )
    add_running_options(evaluate)
    add_pair_options(evaluate)
    evaluate.set_defaults(run=run_evaluate)

    drift = commands.add_parser("drift", parents=[shared], help="compare live pairs with the calibration pairs")
    drift.add_argument("reference", metavar="DIR|ID", help="pipeline whose calibration scores are the reference")
    drift.add_argument("live", metavar="LIVE", help="file of live pairs, without labels")
    drift.add_argument(
        "--false-alarm-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="share of alarms among checks without a drift, in (0, 1) (default: 0.01)",
    )
    add_running_options(drift)
    add_pair_options(drift, labelled=False)
    drift.set_defaults(run=run_drift)


def policy_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the policy options as arguments of `DuplicatePipeline.calibrate`.

    Raises:
        InputError: A value is out of its range.
    """
    from dupq.decisions.decision_rule import policies_of

    policies_of(args.policy, args.miss_rate, args.delta)  # checked before any work
    return {"policy": args.policy, "miss_rate": args.miss_rate, "delta": args.delta}


def evaluate_pipeline(
    model: str | Path, pairs: PairTable, attach: bool = True, unseen: bool = False, **running: Any
) -> Report:
    """Measure a pipeline on labelled pairs.

    Args:
        model: Folder or Hub id.
        pairs: n labelled pairs.
        attach: Save the report in the folder.
        unseen: Leave out pairs with a question that the pipeline was fitted on.
        running: Device and threads.

    Raises:
        InputError: `attach`, and the pipeline is not in a local folder.
        LeakError: A pair holds a question that the pipeline was fitted on; under `unseen`, all do.
    """
    from dataclasses import replace

    from dupq.pipeline import DuplicatePipeline

    if attach and not Path(model).is_dir():
        raise InputError(
            "--attach needs a local pipeline folder",
            location=str(model),
            hint="leave out --attach, or save the pipeline to a folder first",
        )
    with note_if_slow(f"opening {model} ..."):
        pipeline = DuplicatePipeline.from_pretrained(model, **running)
    if unseen:
        seen = pipeline.seen_pairs(pairs)
        if seen.all():
            raise LeakError(
                "every pair holds a question that the pipeline was trained or calibrated on", hint="give other pairs"
            )
        pairs = pairs.take(~seen)
        note(f"left out {int(seen.sum()):,} pairs with a question that was fitted on; {len(pairs):,} remain")
    with progress_bar("evaluating") as bar:
        report = pipeline.evaluate(pairs, bar)
    if attach:
        # On a device, networks may be open in half precision, which is not the form in the folder.
        stored = DuplicatePipeline.from_pretrained(model) if running.get("device") else pipeline
        replace(stored, evaluation=report).save(model)
    return report


def run_calibrate(args: argparse.Namespace) -> int:
    from dupq.data.pairs import load_pairs
    from dupq.hub.folder import require_place
    from dupq.pipeline import DuplicatePipeline

    named = bool(args.model), bool(args.bi_encoder or args.cross_encoder)
    if all(named) or not (any(named) or args.add or args.candidates or args.candidates_from):
        raise InputError(
            "either --model, or --bi-encoder and/or --cross-encoder, is needed",
            hint="dupq calibrate SPLITS --cross-encoder DIR",
        )
    require_place(args.output)
    if args.candidates and args.candidates_from:
        raise InputError("--candidates excludes --candidates-from", hint="calibrate twice, --candidates last")
    if args.candidates_from:
        return _run_fit_candidates(args)
    for name in ("among", "candidate_recall"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} needs --candidates-from", hint="give both, or leave it out")
    if args.candidates:
        return _run_candidates(args)
    for name in ("weight_column", "about", "allow_trained"):
        if getattr(args, name):
            raise InputError(f"--{name.replace('_', '-')} needs --candidates", hint="give both, or leave it out")
    if args.add:
        return _run_adapt(args)
    policy = policy_options(args)
    if args.pairs is None:
        raise InputError("PAIRS is missing", hint="give a folder made by `dupq data split`, or a labelled file")
    options = pair_options(args)
    pairs = load_pairs(split_path(args.pairs, "calibration"), **options)
    validation = validation_path(args)
    print_report(options["report"])
    scoring_options = {key: value for key in SCORING_OPTIONS if (value := getattr(args, key)) is not None}
    if args.model:
        pipeline = DuplicatePipeline.from_pretrained(args.model)
        if scoring_options and not args.reblend:
            raise InputError(
                "--symmetry, --long-texts and --long-pairs change the blend of --model", hint="give --reblend too"
            )
        if args.reblend:
            pipeline = pipeline.with_options(**scoring_options)
    else:
        pipeline = DuplicatePipeline.from_networks(args.cross_encoder, args.bi_encoder, **scoring_options)
    if args.reblend or (args.bi_encoder and args.cross_encoder and not args.no_blend):
        if not validation:
            raise InputError(
                "the blend of two networks needs validation pairs",
                hint="name them with --validation FILE, or "
                + ("leave out --reblend" if args.reblend else "give --no-blend"),
            )
        pipeline = pipeline.with_blend(load_pairs(validation, **options), _corpus(args.corpus) if args.corpus else None)
    with progress_bar("calibrating") as bar:
        pipeline = pipeline.calibrate(pairs, **policy, progress=bar)
    pipeline.save(args.output)
    emit(args, pipeline.report.to_dict(), f"{pipeline.report}\n-> {args.output}")
    return 0


def _corpus(path: str) -> set[str]:
    """Return the questions of a file of pairs."""
    from dupq.data.reading import read_pairs

    return {text for pair in read_pairs(path) for text in (pair.question1, pair.question2)}


def _run_adapt(args: argparse.Namespace) -> int:
    from dupq.data.pairs import load_pairs
    from dupq.pipeline import DuplicatePipeline

    _refuse_others(args, "--add", "VERDICTS")
    _refuse_policies(args, "--add")
    options = pair_options(args)
    verdicts = load_pairs(args.add, **options)
    print_report(options["report"])
    if clash := verdicts.contradictions:
        note(f"CAUTION: {clash.text(verdicts.rows)}")
    with progress_bar("adapting") as bar:
        pipeline = DuplicatePipeline.from_pretrained(args.model).adapt(verdicts, bar)
    if fitted := pipeline.candidate_calibration:
        note(f"mined and flagged candidates stay with {fitted.rests_on}; give verdicts on such pairs to --candidates")
    pipeline.save(args.output)
    data = {"verdicts": len(verdicts), "base_rate": pipeline.base_rate, "threshold": pipeline.threshold}
    text = (
        f"adapted to {len(verdicts):,} verdicts -> {args.output}\n"
        f"base rate {pipeline.base_rate:.1%}; duplicate from {pipeline.threshold:.3f}\nthreshold: {pipeline.guarantee}"
    )
    emit(args, {**data, "guarantee": pipeline.guarantee}, text)
    return 0


def _refuse_others(args: argparse.Namespace, mode: str, values: str) -> None:
    """Refuse other labels and other networks beside those that a mode adapts to."""
    others = {"PAIRS": args.pairs, "--add": args.add, "--bi-encoder": args.bi_encoder}
    others["--cross-encoder"] = args.cross_encoder
    if given := [name for name, value in others.items() if value is not None and name != mode]:
        raise InputError(
            f"{mode} excludes {' and '.join(given)}", hint=f"dupq calibrate --model DIR {mode} {values} -o NEW"
        )


def _refuse_policies(args: argparse.Namespace, mode: str) -> None:
    for name in ("policy", "miss_rate", "delta"):
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} has no effect with {mode}, which keeps the policies of --model",
                hint="leave it out, or give it to `dupq score`",
            )


def _run_fit_candidates(args: argparse.Namespace) -> int:
    from dupq.data.arguments import as_number
    from dupq.data.pairs import load_pairs
    from dupq.data.questions import read_questions
    from dupq.mining.candidate_fit import fit_candidate_rule
    from dupq.pipeline import DuplicatePipeline

    _refuse_others(args, "--candidates-from", "PAIRS --among QUESTIONS")
    _refuse_policies(args, "--candidates-from")
    recall = 0.9 if args.candidate_recall is None else args.candidate_recall
    as_number(recall, "candidate_recall", 0, 1, above=True, hint="try 0.9")
    options = pair_options(args)
    pairs = load_pairs(args.candidates_from, **options)
    among = [question.text for question in read_questions(args.among, report=options["report"])] if args.among else []
    print_report(options["report"])
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    with progress_bar("embedding questions") as bar:
        rule = fit_candidate_rule(pipeline, pairs, among, recall=recall, progress=bar)
    pipeline.with_candidate_rule(rule).save(args.output)
    emit(args, rule.to_dict(), f"candidates: {rule}\n-> {args.output}")
    return 0


def _run_candidates(args: argparse.Namespace) -> int:
    from dupq.data.judged import load_judged
    from dupq.pipeline import DuplicatePipeline

    _refuse_others(args, "--candidates", "JUDGED")
    for name in ("miss_rate", "delta"):
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} has no effect with --candidates, for which nothing is guaranteed",
                hint="leave it out",
            )
    policy_options(args)
    options = pair_options(args)
    pairs, weights = load_judged(args.candidates, weight_column=args.weight_column, **options)
    print_report(options["report"])
    if clash := pairs.contradictions:
        note(f"CAUTION: {clash.text(pairs.rows)}")
    with progress_bar("calibrating") as bar:
        pipeline = DuplicatePipeline.from_pretrained(args.model).calibrate_candidates(
            pairs,
            weights,
            policy=args.policy,
            about=args.about or "",
            allow_trained=args.allow_trained,
            progress=bar,
        )
    pipeline.save(args.output)
    decider = pipeline.candidate_decider
    data = {
        "judged": len(pairs),
        "duplicates": int(pairs.labels.sum()),
        "base_rate": decider.base_rate,
        "threshold": decider.threshold,
        "guarantee": decider.guarantee,
    }
    text = (
        f"calibrated on {len(pairs):,} judged candidates -> {args.output}\n"
        f"{decider.base_rate:.1%} of the candidates are duplicates; duplicate from {decider.threshold:.3f}\n"
        f"threshold: {decider.guarantee}"
    )
    emit(args, data, text)
    return 0


def run_drift(args: argparse.Namespace) -> int:
    from dupq.data.checks import checked_rate
    from dupq.data.pairs import load_pairs
    from dupq.decisions.drift import DriftMonitor
    from dupq.pipeline import DuplicatePipeline

    checked_rate(args.false_alarm_rate, "false-alarm rate")
    options = pair_options(args)
    live = load_pairs(args.live, labelled=False, **options)
    print_report(options["report"])
    pipeline = DuplicatePipeline.from_pretrained(args.reference, **running_options(args))
    monitor = DriftMonitor(pipeline.score_reference(), args.false_alarm_rate)
    with progress_bar("scoring") as bar:
        result = monitor.check(pipeline.raw_scores(live.left, live.right, bar), live.groups)
    emit(args, result.to_dict(), str(result))
    return int(result.alarm)


def run_evaluate(args: argparse.Namespace) -> int:
    from dupq.data.pairs import load_pairs
    from dupq.data.writing import write_json, write_text

    options = pair_options(args)
    pairs = load_pairs(split_path(args.pairs, "test"), where=parse_where(args.where), **options)
    print_report(options["report"])
    report = evaluate_pipeline(args.model, pairs, args.attach, args.unseen, **running_options(args))
    if args.output:
        write_json(args.output, report.to_dict())
        note(f"report -> {args.output}")
    if args.html:
        write_text(args.html, report.to_html())
        note(f"page -> {args.html}")
    emit(args, report.to_dict(), str(report))
    return 0
