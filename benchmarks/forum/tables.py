"""The results of `benchmarks.forum` as tables, from the JSON that the commands left."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.readme import RESULTS
from dupq.data.writing import write_text


def add_options(parser: argparse.ArgumentParser) -> None:
    """None but the output."""


def load(name: str) -> Any:
    return json.loads((RESULTS / f"forum_{name}.json").read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _sizes(results: Any) -> list[int]:
    return sorted({row["n"] for row in results["rows"]})


def scan_table() -> str:
    """Given the same vectors: seconds at each size, the exponent, memory, and what is missed."""
    results = load("mining")
    sizes = _sizes(results)
    rows = []
    for name in dict.fromkeys(row["name"] for row in results["rows"] if "missed" in row):
        mine = {row["n"]: row for row in results["rows"] if row["name"] == name}
        last = mine[max(mine)]
        slope = results["exponents"].get(name)
        rows.append(
            [
                name,
                *(f"{mine[n]['seconds']:.1f} s" if n in mine else "" for n in sizes),
                "" if slope is None else f"{slope:.2f}",
                f"{last['added_mb']:,.0f} MB",
                f"{last['above_threshold']:,}",
                f"{last['missed']:,}",
            ]
        )
    head = ["", *(f"{n:,}" for n in sizes), "exponent", "memory added", "pairs", "missed"]
    return (
        table(head, rows)
        + f"\nPairs with a cosine of at least {results['threshold']}; the last three columns at {sizes[-1]:,}.\n"
    )


def text_table() -> str:
    """From text: seconds, memory and quality at each size."""
    results = load("mining")
    rows = [
        [
            f"{row['n']:,}",
            row["name"],
            f"{row['seconds']:.1f} s",
            f"{row['peak_mb']:,.0f} MB",
            f"{row['average_precision']:.3f}",
            f"{row['flagged']:,}",
            f"{row['recall']:.3f}",
            f"{row['precision']:.3f}",
        ]
        for row in sorted(results["rows"], key=lambda row: row["n"])
        if "missed" not in row
    ]
    return table(["questions", "", "time", "memory", "AP", "flagged", "recall", "precision"], rows)


def flag_table() -> str:
    """One flag at a time."""
    rows = [
        [
            f"{row['questions']:,}",
            f"{row['p50_ms']:.0f} ms",
            f"{row['p99_ms']:.0f} ms",
            f"{row['search']['p50_ms']:.1f} ms",
            f"{row['recall_at_k']:.4f}",
            f"{row['adds_per_second']:,.0f}",
            f"{row['adds_per_second_without_network']:,.0f}",
        ]
        for row in load("flagging")["rows"]
    ]
    head = ["stored", "flag p50", "flag p99", "of it search p50", "recall@10", "adds/s", "adds/s, vectors given"]
    return table(head, rows)


def group_table() -> str:
    """Each linkage at its best threshold, and at the fitted one."""
    rows = []
    for linkage in ("connected", "average", "complete"):
        mine = [row for row in load("groups")["rows"] if row["linkage"] == linkage]
        for told, row in (
            ("fitted", next(row for row in mine if row["fitted"])),
            ("best", max(mine, key=lambda row: row["f1"])),
        ):
            rows.append(
                [
                    linkage,
                    f"{row['threshold']:.2f} ({told})",
                    *(f"{row[name]:.3f}" for name in ("precision", "recall", "f1")),
                    f"{row['labelled']['f1']:.3f}",
                    f"{row['largest_found']:,.0f}",
                    f"{row['largest_true']:,.0f}",
                ]
            )
    head = ["linkage", "threshold", "precision", "recall", "F1", "F1, labelled pairs", "largest", "largest true"]
    return table(head, rows)


def crash_line() -> str:
    """What two hundred kills lost."""
    told = load("crash")
    return (
        f"{told['kills']} kills at random moments of a batch add: of {told['acknowledged']:,} acknowledged questions "
        f"{told['lost']} were lost and {told['torn']} torn; the index opened {told['opened']} times of "
        f"{told['kills']}, and was damaged {told['damaged']} times.\n"
    )


PARTS = (
    ("Mining, the vectors given", "mining", scan_table),
    ("Mining, from text", "mining", text_table),
    ("Flagging", "flagging", flag_table),
    ("Groups", "groups", group_table),
    ("Crashes", "crash", crash_line),
)


def run(args: argparse.Namespace) -> None:
    text = "# A whole forum\n\nMade by `python -m benchmarks.forum tables` from the JSON beside it.\n"
    for title, name, part in PARTS:
        if (RESULTS / f"forum_{name}.json").exists():
            text += f"\n## {title}\n\n{part()}"
    write_text(Path(args.output), text)
    print(text)
