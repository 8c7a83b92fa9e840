"""Tables of the results that the parts of `benchmarks.forum` left as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.readme import RESULTS
from dupq.data.writing import write_text


def load(name: str) -> Any:
    return json.loads((RESULTS / f"forum_{name}.json").read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.0f} s"


def _by_name(results: Any) -> dict[str, dict[int, Any]]:
    """Contender -> size -> its row."""
    found: dict[str, dict[int, Any]] = {}
    for row in results["rows"]:
        found.setdefault(row["name"], {})[row["n"]] = row
    return found


def _exponent(results: Any, name: str) -> str:
    slope = results["exponents"].get(name)
    return "" if slope is None else f"n^{slope:.2f}"


def scan_table() -> str:
    """Given the same vectors: seconds at each size, the exponent, memory, and what is missed."""
    results = load("scan")
    named, sizes = _by_name(results), sorted({row["n"] for row in results["rows"]})
    rows = []
    for name, mine in named.items():
        last = max(mine)
        missed = "" if mine[last]["missed"] is None else f"{mine[last]['missed']:,}"
        rows.append(
            [
                name,
                *(_seconds(mine[n]["seconds"]) if n in mine else "" for n in sizes),
                _exponent(results, name),
                f"{mine[min(mine)]['added_mb']:,.0f} to {mine[last]['added_mb']:,.0f} MB",
                f"{mine[last]['above_threshold']:,}",
                f"{missed} (of {last:,})",
            ]
        )
    head = ["", *(f"{n:,}" for n in sizes), "grows as", "memory added", "pairs", "missed"]
    return table(head, rows) + (
        f"\nSeconds by number of questions; empty: not run, for it would take minutes. Pairs with a cosine of at least "
        f"{results['threshold']} and those missed at the largest size that was run, against `dupq scan`, whose result "
        f"the other exact ones confirm. `grows as` is fitted from 10,000 questions on. {results['threads']} threads.\n"
    )


def text_table(name: str = "text") -> str:
    """From text: seconds, memory and quality at each size."""
    results = load(name)
    rows = [
        [
            f"{row['n']:,}",
            row["name"],
            _seconds(row["seconds"]) + ("*" if "embedding_added" in row else ""),
            f"{row['peak_mb']:,.0f} MB",
            *(f"{row[f'{kind}average_precision']:.3f}" for kind in ("", "closure_", "labelled_")),
            f"{row['flagged']:,}",
            f"{row['recall']:.3f}",
            f"{row['precision']:.3f}",
            _exponent(results, row["name"]),
        ]
        for row in sorted(results["rows"], key=lambda row: row["n"])
    ]
    precisions = ["AP", "AP, closures", "AP, labelled"]
    head = ["questions", "", "time", "memory", *precisions, "flagged", "recall", "precision", "time grows as"]
    return table(head, rows) + (
        "\nAP: average precision as `ParaphraseMiningEvaluator` counts it, a pair without a label being wrong. AP, "
        "closures: every pair that a chain of labelled duplicates joins is right, as with its "
        "`add_transitive_closure`; AP, labelled: of these and of the pairs labelled distinct alone. Recall over all "
        "labelled duplicates, precision over the flagged pairs that have a label. *: the seconds that embedding these "
        "questions took were measured once, for all contenders with our encoder, and added.\n"
    )


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


def candidate_line() -> str:
    """Whether the probabilities of candidates hold."""
    results = load("groups")
    told = results["candidates"]
    return (
        f"\n{results['questions']:,} questions; {told['all']:,} candidates, of which the pipeline expects "
        f"{told['base_rate']:.1%} to be duplicates. {told['labelled']:,} of them have a label: their mean probability "
        f"is {told['mean_probability']:.3f}, and {told['share_of_duplicates']:.3f} of them are duplicates. Of the "
        f"flagged ones among them ({told['flagged']:,}) {told['flagged_share_of_duplicates']:.3f} are, where the "
        f"probabilities said {told['flagged_mean_probability']:.3f}.\n"
    )


def _held(name: str) -> bool:
    return (RESULTS / f"forum_{name}.json").exists()


PARTS = (
    ("Mining, the vectors given", "scan", scan_table),
    ("Mining, from text", "text", text_table),
    ("Groups", "groups", lambda: group_table() + candidate_line()),
)


def run(args: argparse.Namespace) -> None:
    text = "# A whole forum\n\nMade by `python -m benchmarks.forum tables` from the JSON beside it.\n"
    for title, name, part in PARTS:
        if _held(name):
            text += f"\n## {title}\n\n{part()}"
    write_text(Path(args.output), text)
    print(text)
