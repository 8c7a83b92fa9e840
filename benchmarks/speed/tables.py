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
                f"pairs, and {band['agreement']:.2%} of all decisions stayed the same; "
                f"`--max-ap-loss {band['max_ap_loss']:g}` was allowed, and {band['ap_loss']:.4f} of the average "
                "precision lost there.\n"
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


PARTS = {
    "pairs": ("Pairs a second", pairs_table),
    "sentences": ("Sentences a second", sentences_table),
    "start": ("The first score, and the next", start_table),
}


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
