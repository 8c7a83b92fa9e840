"""Add the options that open a pipeline, and describe its threshold."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from dupq.cli.console import note_if_slow
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.decisions.decider import Decider
    from dupq.decisions.thresholds import Threshold
    from dupq.pipeline import DuplicatePipeline

_POLICIES = "f1, accuracy, cost=5:1, recall>=0.9 or precision>=0.95"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a pipeline, its base rate and its thresholds."""
    group = parser.add_argument_group("model and decisions")
    group.add_argument("--model", metavar="DIR|ID", help="pipeline folder or Hub id (default: the shipped model)")
    group.add_argument(
        "--base-rate",
        type=float,
        metavar="RATE",
        help="share of duplicates among your pairs, in (0, 1) (default: that of the calibration pairs)",
    )
    add_policy_options(group, policy="that of the pipeline", miss_rate="that of the pipeline")
    group.add_argument(
        "--allow-unknown-language",
        action="store_true",
        help="also call pairs duplicates where a text is in a language the model was not trained on, instead of review",
    )
    add_running_options(group)


def add_policy_options(parser: argparse._ActionsContainer, *, policy: str = "f1", miss_rate: str = "none") -> None:
    """Add the options that choose thresholds.

    `policy` and `miss_rate` are the defaults in their help.
    """
    parser.add_argument("--policy", help=f"choose the duplicate threshold by {_POLICIES} (default: {policy})")
    parser.add_argument(
        "--delta",
        type=float,
        help="probability with which a guarantee of --policy or --miss-rate may fail, in (0, 1) (default: 0.05)",
    )
    parser.add_argument(
        "--miss-rate",
        type=float,
        metavar="SHARE",
        help="maximum share of all duplicates that is called distinct, in (0, 1); the pairs in between go to review "
        f"(default: {miss_rate})",
    )


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """Add `--threshold`."""
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="probability from which a pair is a duplicate, in (0, 1], without a guarantee (default: the pipeline's)",
    )


def add_running_options(parser: argparse._ActionsContainer) -> None:
    """Add the options that choose threads and device."""
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all)")
    parser.add_argument(
        "--device",
        metavar="cpu|cuda",
        help="run stock networks on this device, on cuda in float16 (default: cuda where it is available)",
    )


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add `--verbose`."""
    parser.add_argument("--verbose", action="store_true", help="print the full guarantee and further details")


def running_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `from_pretrained` for `add_running_options`."""
    return {"device": args.device, "threads": args.threads}


def open_pipeline(args: argparse.Namespace) -> DuplicatePipeline:
    """Open the pipeline that the options of `add_model_options` describe.

    Raises:
        InputError: An option is out of its range, or `--delta` stands alone.
        ModelFolderError: The pipeline cannot be opened.
        NotEnoughLabelsError: The calibration pairs do not support the guarantee.
    """
    from dupq.decisions.decision_rule import policies_of
    from dupq.pipeline import DuplicatePipeline

    chosen = args.policy is not None or args.miss_rate is not None
    if args.delta is not None and not chosen:
        raise InputError("--delta needs --policy or --miss-rate", hint="give one of them, or leave out --delta")
    policies_of(args.policy, args.miss_rate, args.delta)  # checked before the pipeline is opened
    with note_if_slow(f"opening {args.model or 'the shipped model'} ..."):
        pipeline = DuplicatePipeline.from_pretrained(args.model, **running_options(args))
    if chosen:
        pipeline = pipeline.with_policy(args.policy or "f1", args.miss_rate, delta=args.delta)
    if args.allow_unknown_language:
        pipeline = pipeline.with_languages(allow_unknown=True)
    return pipeline if args.base_rate is None else pipeline.with_base_rate(args.base_rate)


def format_percent(share: float) -> str:
    """Return a share in [0, 1] as a percentage of three digits."""
    return f"{100 * share:.3g} %"


def threshold_line(decider: Decider, *, distinct: bool = False) -> str:
    """Return one line on a threshold, and a second one if the rule has a warning.

    Args:
        decider: The thresholds and their base rate.
        distinct: Describe the distinct threshold, if it is guaranteed, instead of the duplicate threshold.
    """
    rule = decider.rule
    line = f"Threshold: {_basis(rule.duplicate)}"
    if decider.threshold_override is not None:
        line = f"Threshold: {decider.threshold_override:g}, set by hand; no guarantee"
    elif decider.candidates is not None:
        candidates = decider.candidates
        basis = f"{candidates.policy} expected among candidates, from {candidates.pairs:,} judged ones"
        line = f"Threshold: {basis}; no guarantee"
    elif decider.warning is not None:
        line = f"Threshold: no guarantee at a base rate of {format_percent(decider.base_rate)}"
    elif distinct and rule.distinct is not None and (delta := rule.distinct.policy.delta):
        missed, confidence = format_percent(1 - rule.distinct.policy.level), format_percent(1 - delta)
        line = f"At most {missed} of duplicates fall below it, confidence {confidence}"
    warning = f"\nWARNING: {rule.warning}" if rule.warning else ""
    return f"{line} (--verbose: details){warning}"


def _basis(threshold: Threshold) -> str:
    """Return the basis of a threshold as text.

    It is the policy with its confidence or its number of labelled pairs, or the base rate that has no guarantee.
    """
    if threshold.used_at is not None and not threshold.guaranteed:
        return f"no guarantee at a base rate of {format_percent(threshold.used_at)}"
    if threshold.policy.delta is None:
        return f"{threshold.policy} on {threshold.pairs:,} labelled pairs; no guarantee"
    return f"{threshold.policy} with confidence {format_percent(1 - threshold.policy.delta)}"
