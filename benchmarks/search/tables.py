"""Table of the documentation from the results of `benchmarks.search`."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.index.tables import Rows, table

SEARCHES = {"dupq": "dupq", "paraphrase_mining": "sentence-transformers"}
"""Search -> package."""
TITLES = {"dupq": "dupq, exact search", "paraphrase_mining": "sentence-transformers, paraphrase_mining"}


def ratios(report: Any, unit: str) -> list[float]:
    """Return seconds of `paraphrase_mining_embeddings` for one of dupq, of each whole round."""
    whole = [row for row in report.get("rounds", []) if {*SEARCHES} <= {*row}]
    return [row["paraphrase_mining"][unit] / row["dupq"][unit] for row in whole]


def speed(report: Any) -> str:
    """Return seconds, missed pairs and memory of both searches, and the ratios of the rounds."""
    if not ratios(report, "seconds"):
        return "Not measured yet: `python -m benchmarks.search PAIRS --scratch DIR`.\n"
    rows: Rows = []
    true, settings = report["truth"], report["settings"]
    for name, title in TITLES.items():
        held = [row[name] for row in report["rounds"] if name in row]
        seconds = [f"{median(row[key] for row in held):,.1f}" for key in ("seconds", "cpu_seconds")]
        most = [f"{max(row[key] for row in held):,}" for key in ("missed", "peak_mb")]
        rows.append([f"{title} {settings['versions'][SEARCHES[name]]}", *seconds, *most])
    text = table(["search", "seconds", "processor seconds", "pairs missed", "memory, MB at most"], rows)
    times = [
        f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f}) in {words}"
        for words in ("seconds", "processor seconds")
        for values in [ratios(report, "seconds" if words == "seconds" else "cpu_seconds")]
    ]
    rounds, threads = len(ratios(report, "seconds")), settings["threads"]
    return text + (
        f"\n{settings['questions']:,} questions of {settings['dimensions']} dimensions; {true['pairs']:,} pairs have a "
        f"cosine of at least {settings['threshold']}, at most {true['most_neighbours']:,} of them with one question. "
        f"Neighbours that paraphrase_mining reads: {settings['top_k']}. "
        f"Threads: {threads}; paired rounds: {rounds}. Median ratio (range): {', '.join(times)}.\n"
    )
