"""The results of `benchmarks.decisions` as Markdown tables, and a picture of the other worlds, from the JSON alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.decisions.promise import DUPQ
from benchmarks.decisions.worlds import SIZES
from benchmarks.readme import RESULTS
from dupq.data.writing import write_text
from dupq.decisions.plots import COLOURS, Plot


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


def calibrated_table() -> str:
    results = load("calibrated")
    names = ("ece_mass", "ece_width", "ece_debiased", "log_loss", "brier")
    rows = [[row["name"], *(interval(row["metrics"][name]) for name in names)] for row in results["rows"]]
    head = ["calibrator", "ECE, equal mass", "ECE, equal width", "debiased RMS error", "log loss", "Brier"]
    return table(head, rows) + (
        f"\nFitted on {results['calibration_pairs']:,} pairs, measured on {results['pairs']:,} of "
        f"{results['groups']:,} question groups ({results['base_rate']:.1%} duplicates); 15 bins, 95 % intervals over "
        "question groups.\n"
    )


def promise_table() -> str:
    results = load("promise")
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


def worlds_table() -> str:
    results = load("worlds")
    head = ["world", "pairs", "duplicates", "ROC AUC", "as shipped", "label-free base rate"]
    head += ["true base rate", *(f"{size:,} labels" for size in SIZES), *(f"{size:,} alone" for size in SIZES)]
    rows = []
    for row in results["rows"]:
        estimate = row["estimate"]
        mark = "" if estimate["believable"] else ", not believed"
        cells = [
            row["name"],
            f"{row['pairs']:,}",
            f"{row['base_rate']:.1%}",
            f"{row['shipped']['roc_auc']['value']:.3f}",
        ]
        cells += [f"{row['shipped']['ece_mass']['value']:.3f}"]
        cells += [f"{row['label_free']['ece_mass']['value']:.3f} (found {estimate['rate']:.1%}{mark})"]
        cells += [f"{row['true_rate']['ece_mass']['value']:.3f}"]
        for kind in ("local", "alone"):
            for size in SIZES:
                found = row[kind].get(str(size)) or {}
                cells.append(interval(found["ece_mass"], 3) if "ece_mass" in found else "-")
        rows.append(cells)
    return table(head, rows) + (
        "\nPairs that hold a question of the training are left out. ECE, 15 bins of equal mass. With labels: the mean "
        f"of {results['repeats']} draws of labelled pairs, by first"
        ' question, on the pairs of all others (and the middle 80 % of draws); "-" where too few pairs are left.'
        ' "Alone": CalibratedClassifierCV (sigmoid) of scikit-learn on the same labels, no shipped calibrator.\n'
    )


def worlds_picture() -> str:
    results = load("worlds")
    names = ["as shipped", "base rate found", *(f"{size:,} labels" for size in SIZES)]
    lines = []
    for row in results["rows"]:
        values = [row["shipped"]["ece_mass"]["value"], row["label_free"]["ece_mass"]["value"]]
        values += [row["local"][str(size)]["ece_mass"]["value"] for size in SIZES if str(size) in row["local"]]
        lines.append((row["name"], values))
    top = max(max(values) for _, values in lines) * 1.1
    plot = Plot(
        "Calibration error in other worlds",
        "",
        "ECE, 15 bins of equal mass",
        (-0.3, 4.3),
        (0, top),
        x_names=names,
        width=640,
    )
    for (name, values), colour in zip(lines, COLOURS, strict=False):
        plot.line(list(enumerate(values)), colour, name)
        for place, value in enumerate(values):
            plot.dot(place, value, colour, hint=f"{name}, {names[place]}: {value:.3f}")
    return plot.svg(legend="top-right")


def handpicked_table() -> str:
    results = load("handpicked")
    names = ("precision", "recall", "f1", "accuracy")
    rows = [[row["name"], *(interval(row["metrics"][n], 3) for n in names), row["said"]] for row in results["rows"]]
    return table(["threshold", "precision", "recall", "F1", "accuracy", "what it said beforehand"], rows) + (
        f"\nQuora test split, {results['pairs']:,} pairs; the untrained encoder is {results['encoder']}, which was "
        "itself trained on Quora duplicates among other sets.\n"
    )


def run(args: argparse.Namespace) -> None:
    parts = [
        ("Is a stated probability true?", calibrated_table()),
        ("Is a promised precision kept?", promise_table()),
        ("At other base rates", elsewhere_table()),
        ("In other worlds", worlds_table() + "\n![Calibration error in other worlds](decisions_worlds.svg)\n"),
        ("Against a hand-picked cosine", handpicked_table()),
    ]
    text = "# Decisions: what was measured\n\nWritten by `python -m benchmarks.decisions tables`.\n\n"
    write_text(args.output, text + "\n".join(f"## {title}\n\n{part}" for title, part in parts))
    write_text(Path(args.output).with_name("decisions_worlds.svg"), worlds_picture() + "\n")
    kept = [row for row in load("promise")["rows"] if row["name"] == DUPQ]
    print(f"{args.output}; promises broken: " + ", ".join(f"{row['below']:.1%} of {row['delta']:.0%}" for row in kept))
