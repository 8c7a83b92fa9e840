"""The results of `benchmarks.speed` as tables, and the one of README, from the JSON that its parts left."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.readme import RESULTS
from dupq.data.writing import write_text


def load(name: str, folder: Path = RESULTS) -> Any:
    path = folder / f"speed_{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _figure(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.3f}" if row.get(name) is not None else ""


def pairs_table(results: Any, failures: bool = True) -> str:
    rows = [
        [
            row["name"],
            f"{row['pairs_per_second']:,.0f}",
            f"{row['ratio']:.1f}",
            *(_figure(row, name) for name in ("average_precision", "accuracy", "ece_mass")),
        ]
        for row in results["rows"]
    ]
    told = table(["", "pairs/s", "times", "average precision", "accuracy", "ECE"], rows)
    for failed in results["failed"] if failures else ():
        told += f"\nNot measured: {failed['name']} ({failed['error']}).\n"
    for row in results["rows"]:
        if band := row.get("cascade"):
            told += (
                f"\n{row['name']}: the {band['first']} alone settled {band['settled']:.1%} of the calibration "
                f"pairs, and {band['equal']:.2%} of all decisions stayed the same; `--most-lost {band['most_lost']:g}` "
                f"was allowed, and {band['lost']:.4f} of the average precision lost there.\n"
            )
    others = [row for row in results["rows"] if (row.get("versions") or results["versions"]) != results["versions"]]
    if others:
        told += f"\n{' and '.join(row['name'] for row in others)}: {_listed(others[0]['versions'])}.\n"
    count, rounds = results["pairs"]["count"], len(results["rows"][0]["seconds"])
    return told + (
        f"\n{count:,} pairs in {rounds} rounds of fresh pairs, each contender on the same ones; medians. Ours use "
        "their own calibrator and threshold, the others a sigmoid and 0.5.\n"
    )


def sentences_table(results: Any) -> str:
    rows = [[row["name"], f"{row['sentences_per_second']:,.0f}", f"{row['ratio']:.1f}"] for row in results["rows"]]
    return table(["", "sentences/s", "times"], rows)


def start_table(results: Any) -> str:
    head = ["", "first score from a cold start", "most memory", "warm score, p50", "p99"]
    rows = [
        [
            row["name"],
            f"{row['cold_seconds']:.2f} s",
            f"{row['peak_mb']:,.0f} MB",
            f"{row['warm_p50_ms']:.1f} ms",
            f"{row['warm_p99_ms']:.1f} ms",
        ]
        for row in results["rows"]
    ]
    return table(head, rows)


def roofline_table(results: Any) -> str:
    head = ["", "tokens", "GFLOP each", "GFLOP/s", "of the int8 peak", "of the float32 peak"]
    rows = [
        [
            row["name"],
            f"{row['tokens']:.1f}",
            f"{row['gflop_per_input']:.2f}",
            f"{row['gflop_per_second']:,.0f}",
            f"{row['share_of_int8_peak']:.0%}",
            f"{row['share_of_float32_peak']:.0%}",
        ]
        for row in results["rows"]
    ]
    peaks = results["peak_gflop_per_second"]
    return table(head, rows) + (
        f"\nPeaks of onnxruntime's matrix products in the same run: float32 {peaks['float32']:,.0f} GFLOP/s, int8 "
        f"{peaks['int8']:,.0f}. Counted: matrix products and attention, 2 operations a multiplication; texts are "
        "read as words, so that tokenising counts.\n"
    )


def numbers_table(results: Any) -> str:
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    at = {(row["name"], row["n"]): row for row in results["rows"]}
    rows = [
        [f"{n:,}", *(_time_and_memory(at.get((name, n))) for name in names)]
        for n in sorted({row["n"] for row in results["rows"]})
    ]
    told = table(["pairs", *names], rows)
    for row in results["left_out"]:
        told += f"\nNot run: {row['name']} on {row['n']:,} pairs, {row['foreseen_seconds']:,.0f} s foreseen.\n"
    return told + (
        "\nSeconds, and the most memory until then, texts included. Beyond the file's own pairs, its questions are "
        "paired at random.\n"
    )


def _time_and_memory(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['seconds']:.3g} s, {row['peak_mb']:,.0f} MB"


def lengths_table(results: Any) -> str:
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    at = {(row["name"], row["words"]): row["pairs"] / row["seconds"] for row in results["rows"]}
    rows = [
        [str(words), *(f"{at[name, words]:,.0f}" for name in names)]
        for words in sorted({row["words"] for row in results["rows"]})
    ]
    return table(["words of a pair", *(f"{name}: pairs/s" for name in names)], rows)


def same_table(results: Any) -> str:
    changes = list(results["rows"][0]["largest_change"])
    head = [
        "",
        "equal answers",
        "to int8's",
        "equal at one threshold",
        "rms of the score",
        "average precision",
        *changes,
    ]
    rows = [
        [
            row["name"],
            f"{row['equal_answers']:.2%}",
            f"{row['equal_to_int8']:.2%}",
            f"{row['equal_at_the_same_threshold']:.2%}",
            f"{row['rms']:.3f} (spread {row['spread']:.2f})",
            f"{row['average_precision']:.4f}",
            *(f"{row['largest_change'][name]:.0e}" for name in changes),
        ]
        for row in results["rows"]
    ]
    return table(head, rows) + (
        f"\n{results['pairs']['count']:,} pairs. Answers (duplicate, review, distinct) are compared with those of "
        "the stock networks in float32, and with those in int8 without a cascade, each path by its own thresholds; the "
        "last columns are the most that a score moved.\n"
    )


def vocabulary_table(results: Any) -> str:
    others = list(results["rows"][0]["texts_changed"])
    head = ["kept if it occurs", "dropped", "saved", *(f"texts of {name} that lose a word" for name in others)]
    rows = [
        [
            f"{row['least']} times" if row["least"] > 1 else "at all",
            f"{row['dropped']:,} of {results['words']:,}",
            f"{row['mb']:.1f} of {results['mb']:.1f} MB",
            *(f"{row['texts_changed'][name]:.0%}" for name in others),
        ]
        for row in results["rows"]
    ]
    return table(head, rows) + (
        f"\nCounted in the {results['texts'][results['counted_in']]:,} texts of {results['counted_in']}. No word is "
        "dropped; both networks share one table instead.\n"
    )


def layers_table(results: Any) -> str:
    head = ["left after layer", "settled there", "pairs", "layers saved", "equal answers"]
    head += ["average precision", "of a cut"]
    rows = [
        [
            f"{row['layer']} of {results['layers']}",
            "duplicates and distinct pairs" if row["settles"] == "both" else "distinct pairs only",
            f"{row['settled']:.0%}",
            f"{row['saved']:.0%}",
            f"{row['equal']:.2%}",
            f"{row['average_precision']:.3f}",
            f"{row['guess_average_precision']:.3f}",
        ]
        for row in results["rows"]
    ]
    return table(head, rows) + (
        f"\nThe cross-encoder alone, whose average precision is {results['average_precision']:.3f} on these "
        f"{results['pairs']['count'] // 2:,} pairs. A head after the layer, taught on {results['taught']:,} training "
        f"pairs, guesses the score; where that settles the pair, with {results['share']:.1%} of answers to stay the "
        "same, the other layers would be saved. `of a cut`: the guesses alone, as if the network ended there.\n"
    )


PARTS = {
    "pairs": ("Pairs a second", pairs_table),
    "sentences": ("Sentences a second", sentences_table),
    "start": ("The first score, and the next", start_table),
    "roofline": ("Roofline", roofline_table),
    "numbers": ("Against the number of pairs", numbers_table),
    "lengths": ("Against the length of a pair", lengths_table),
    "same": ("The same answer on every path", same_table),
    "vocabulary": ("Words that never occur", vocabulary_table),
    "layers": ("Fewer layers", layers_table),
}


def summary() -> str:
    """README's table."""
    told = ""
    if results := load("pairs"):
        told += pairs_table(results, failures=False)
    if results := load("start"):
        told += "\n" + start_table(results)
    if not told:
        return "Not measured yet.\n"
    return told + f"\n{_machine(results or load('pairs'))}\n"


def _machine(results: Any) -> str:
    versions = _listed(results["versions"])
    return f"{results['cores']} cores of {results['cpu']} ({', '.join(results['int8_instructions'])}); {versions}."


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def run(args: argparse.Namespace) -> None:
    parts = ["# How fast dupq is", "", "Written by `python -m benchmarks.speed tables` from the JSON beside it.", ""]
    for name, (title, made) in PARTS.items():
        if results := load(name, Path(args.results)):
            parts += [f"## {title}", "", made(results), _machine(results), ""]
    write_text(args.output, "\n".join(parts))
