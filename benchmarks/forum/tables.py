"""The results of `benchmarks.forum` as tables, and as sentences for README, from the JSON that its parts left."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forum.cosine import KINDS
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


def cosine_table() -> str:
    """Bi-encoders alone, without anything fitted to their scores."""
    results, kinds = load("cosine"), KINDS
    first, *others = results["rows"]
    rows = [[row["name"], *(_interval(row, kind) for kind in kinds)] for row in results["rows"]]
    differences = [[row["name"], *(_interval(row, kind, first) for kind in kinds)] for row in others]
    head = ["AP, labelled pairs", "AP in mining", "mining, closures", "mining, labelled"]
    return (
        table(["", *head], rows)
        + f"\nHow far each is above `{first['name']}`:\n\n"
        + table(["", *head], differences)
        + f"\n{results['questions']:,} questions of the test split with {results['labelled_pairs']:,} labelled pairs, "
        f"{results['labelled_duplicates']:,} of them duplicates; {results['closure_pairs']:,} pairs are joined by a "
        "chain of such. In mining all pairs of questions are ranked; the three ways of counting are those of the table "
        "before. Intervals of 95 %, over closures, of a difference within the same resamples.\n"
    )


def _interval(row: Any, kind: str, above: Any = None) -> str:
    """A value, or how far it is above another's, and where 95 % of its resamples lie."""
    value, again = row["average_precision"][kind], np.array(row["resamples"][kind])
    if above is None:
        low, high = np.quantile(again, [0.025, 0.975])
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    value, again = value - above["average_precision"][kind], again - np.array(above["resamples"][kind])
    low, high = np.quantile(again, [0.025, 0.975])
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


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


def crash_line() -> str:
    """What the kills lost."""
    told = load("crash")
    return (
        f"{told['kills']} kills at random moments of a batch add ({told['before_the_first_batch']} of them before its "
        f"first batch was acknowledged): of {told['acknowledged']:,} acknowledged questions {told['lost']} were lost "
        f"and {told['torn']} torn; the index opened {told['opened']} times of {told['kills']}, and was damaged "
        f"{told['damaged']} times.\n"
    )


def _held(name: str) -> bool:
    return (RESULTS / f"forum_{name}.json").exists()


def summary() -> str:
    """The sentences of README; what has not been measured is left out."""
    told = []
    if _held("scan"):
        named = _by_name(load("scan"))
        ours, theirs = named["dupq scan"], named.get("paraphrase_mining", {})
        last = ours[max(ours)]
        told.append(
            f"Given their vectors, all {last['above_threshold']:,} pairs of {last['n']:,} questions with a cosine of "
            f"at least {load('scan')['threshold']} are found in {_seconds(last['seconds'])}"
        )
        if theirs and max(theirs) in ours:
            n = max(theirs)
            share = theirs[n]["seconds"] / ours[n]["seconds"]
            told[-1] += (
                f"; at {n:,} that is {share:.1f} times as fast as `paraphrase_mining`, "
                f"which misses {theirs[n]['missed']:,} of {ours[n]['above_threshold']:,}"
            )
    if _held("text"):
        named = _by_name(load("text"))
        ours, theirs = named.get("dupq, judging n / 10", {}), named.get("SemHash, static", {})
        if both := {*ours} & {*theirs}:
            n = max(both)
            told.append(
                f"From text, {n:,} questions take {_seconds(ours[n]['seconds'])} at an average precision of "
                f"{ours[n]['average_precision']:.3f}; SemHash takes {_seconds(theirs[n]['seconds'])} at "
                f"{theirs[n]['average_precision']:.3f}. Where every pair is right that a chain of labelled duplicates "
                f"joins, that is {ours[n]['closure_average_precision']:.3f} and "
                f"{theirs[n]['closure_average_precision']:.3f}"
            )
    if _held("flagging"):
        row = max(load("flagging")["rows"], key=lambda row: row["questions"])
        told.append(
            f"Among {row['questions']:,} stored questions, `flag` takes {row['p50_ms']:.0f} ms "
            f"(99 of 100 within {row['p99_ms']:.0f} ms)"
        )
    if _held("crash"):
        row = load("crash")
        told.append(f"Of {row['acknowledged']:,} acknowledged questions, {row['kills']} `kill -9` lost {row['lost']}")
    if not told:
        return "How fast and how complete this is on a large forum has not been measured in full yet.\n"
    missing = [part for part in ("scan", "text", "flagging", "groups", "crash") if not _held(part)]
    text = ". ".join(told) + ". Tables: `benchmarks/results/forum.md`."
    if missing:
        text += f" Not measured yet: {', '.join(missing)}."
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False) + "\n"


PARTS = (
    ("Mining, the vectors given", "scan", scan_table),
    ("Mining, from text", "text", text_table),
    ("Mining, from text, by the networks of 2c87c53", "text_2c87c53", lambda: text_table("text_2c87c53")),
    ("Mining, by the cosine of a bi-encoder alone", "cosine", cosine_table),
    ("Flagging", "flagging", flag_table),
    ("Groups", "groups", lambda: group_table() + candidate_line()),
    ("Crashes", "crash", crash_line),
)


def run(args: argparse.Namespace) -> None:
    text = "# A whole forum\n\nMade by `python -m benchmarks.forum tables` from the JSON beside it.\n"
    for title, name, part in PARTS:
        if _held(name):
            text += f"\n## {title}\n\n{part()}"
    write_text(Path(args.output), text)
    print(text)
