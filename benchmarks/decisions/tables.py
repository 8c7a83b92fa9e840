"""The results of `benchmarks.decisions` as Markdown tables, and a picture of the other worlds, from the JSON alone."""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.decisions.guarantee import DUPQ
from benchmarks.readme import RESULTS
from dupq.data.writing import write_text


def add_options(parser: argparse.ArgumentParser) -> None:
    """None but the output."""


def load(name: str) -> Any:
    return json.loads((RESULTS / f"decisions_{name}.json").read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def interval(metric: dict[str, float], digits: int = 4) -> str:
    value, low, high = (f"{metric[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low}-{high})"


def guarantee_table() -> str:
    results = load("guarantee")
    rows = [
        [
            f"{row['precision']:g}",
            f"{row['delta']:g}",
            row["name"],
            f"{row['below']:.1%}",
            f"{row['below_groups']:.1%}",
            f"{row['none']:.1%}",
            f"{row['recall']:.3f}",
            f"{row['oracle']:.3f}",
            f"{row['oracle_groups']:.3f}",
        ]
        for row in results["rows"]
    ]
    head = [
        "p",
        "δ",
        "threshold",
        "below p, pairs",
        "below p, groups",
        "none found",
        "recall",
        "oracle",
        "oracle, groups",
    ]
    return table(head, rows) + (
        f"\n{results['draws']} draws; each calibrates on {results['calibration_share_of_groups']:.0%} of "
        f'{results["groups"]:,} question groups ({results["pairs"]:,} pairs) and measures on the rest. "Pairs": over '
        f'all pairs of the rest ({results["base_rate"]:.1%} duplicates); "groups": each question group counts as one '
        f"({results['base_rate_of_groups']:.1%}). The recall counts 0 where no threshold was found. The oracle knows "
        'the labels of the rest; "oracle, groups" must reach p with each group counting as one.\n'
    )


def elsewhere_table() -> str:
    results = load("elsewhere")
    first = table(
        ["base rate", "log loss, re-based", "log loss, fitted there", "difference (95 % of halvings)"],
        [
            [
                f"{row['base_rate']:.0%}",
                f"{row['rebased_log_loss']:.4f}",
                f"{row['fitted_there_log_loss']:.4f}",
                f"{row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})",
            ]
            for row in results["rebased"]
        ],
    )
    second = table(
        [
            "true base rate",
            "mean error",
            "median absolute error",
            "within 20 %",
            "interval covers",
            "believed",
            "least possible standard error",
            "within 20 % at that error",
        ],
        [
            [
                f"{row['base_rate']:.0%}",
                f"{row['mean_relative_error']:+.1%}",
                f"{row['median_absolute_relative_error']:.1%}",
                f"{row['within_20_percent']:.0%}",
                f"{row['interval_covers']:.0%}",
                f"{row['believable']:.0%}",
                f"{row['least_relative_standard_error']:.1%}",
                f"{row['within_20_percent_at_least_error']:.0%}",
            ]
            for row in results["estimated"]
        ],
    )
    return (
        f"{first}\n{results['halvings']} halvings of {results['pairs']:,} test pairs.\n\n{second}\n"
        f"Estimated without labels from {results['sample_pairs']:,} pairs, {results['samples']} samples each; errors "
        "are relative. The least possible error is the Cramer-Rao bound of unbiased estimates from so many unlabelled "
        "scores, the shapes of both kinds known: at 1 % it is the scores, not the method, that leave the rate open.\n"
    )


def run(args: argparse.Namespace) -> None:
    parts = [
        ("Is a guaranteed precision kept?", guarantee_table()),
        ("At other base rates", elsewhere_table()),
    ]
    text = "# Decisions: what was measured\n\nWritten by `python -m benchmarks.decisions tables`.\n\n"
    write_text(args.output, text + "\n".join(f"## {title}\n\n{part}" for title, part in parts))
    kept = [row for row in load("guarantee")["rows"] if row["name"] == DUPQ]
    print(
        f"{args.output}; guarantees broken: " + ", ".join(f"{row['below']:.1%} of {row['delta']:.0%}" for row in kept)
    )
