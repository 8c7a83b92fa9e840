"""Tables of the documentation from the results of `benchmarks.scale`."""

from __future__ import annotations

from typing import Any

from benchmarks.index.tables import Rows, table

NOT_MEASURED = "Not measured yet: `python -m benchmarks.scale --scratch DIR`.\n"
PEERS = {
    "cells": "dupq, cells",
    "usearch": "usearch, HNSW",
    "faiss": "faiss, IVF",
    "paraphrase_mining": "sentence-transformers, paraphrase_mining",
    "datasketch": "datasketch, MinHash of the words",
}
ENGINES = {
    "none": "none",
    "local-1": "local, 1 worker",
    "local-2": "local, 2 workers",
    "ray-1": "Ray, 1 worker",
    "ray-2": "Ray, 2 workers",
}
EARLIER = "bfloat16 scan"
"""Kernel of results before the int8 one."""
STAGES = ("embedding", "searching", "judging")
END_TO_END = {"embedding": "texts", "searching": "questions", "judging": "pairs"}
"""Stage -> what is counted."""


def recalls(results: Any) -> str:
    """Return recall and work by cells and overlap."""
    rows: Rows = []
    for n, figures in _sizes(results):
        for row in figures.get("cells", {}).values():
            for m, held in row.get("overlaps", {}).items():
                bands = [f"{band['value']:.3f}" if band["pairs"] else "-" for band in held["bands"].values()]
                seconds = "-"
                if "search_s" in held:
                    seconds = f"{row['fit_s'] + row['assign_s'] + held['search_s']:,.0f}"
                rows.append([n, f"{row['cells']:,}", m, _interval(held["recall"]), *bands, _share(held), seconds])
    bands = ["0.8-0.85", "0.85-0.9", "0.9-0.95", "0.95-1"]
    head = ["questions", "cells K", "overlap m", "recall (95 % interval)", *bands, "pairs compared", "seconds"]
    return _or_not(results, "cells", head, rows)


def scans(results: Any) -> str:
    """Return the seconds of the exact search."""
    rows = [
        [n, held["method"].partition(",")[0], f"{held['seconds']:,.0f}", f"{held['pairs']:,}", f"{held['peak_mb']:,}"]
        for n, figures in _sizes(results)
        if "seconds" in (held := figures.get("exact", {}))
    ]
    return _or_not(
        results, "exact", ["questions", "kernel", "seconds", "pairs from 0.8 on", "memory, MB at most"], rows
    )


def peers(results: Any) -> str:
    """Return dupq's search by cells beside others."""
    rows: Rows = []
    for n, figures in _sizes(results):
        for name, title in PEERS.items():
            held = figures.get("peers", {}).get(name, {})
            if "seconds" in held:
                found = [_interval(held["recall"]), f"{held['seconds']:,.0f}", f"{held['peak_mb']:,}"]
                rows.append([n, f"{title} {held['version']}", *found])
    head = ["questions", "search", "recall (95 % interval)", "seconds", "memory, MB at most"]
    text = table(head, rows) if rows else NOT_MEASURED
    for n, figures in _sizes(results):
        reasons = {name: held["left_out"] for name, held in figures.get("peers", {}).items() if "left_out" in held}
        text += "".join(f"\n{n} questions, {PEERS[name]}: left out; {why}.\n" for name, why in reasons.items())
    return text


def engines(results: Any) -> str:
    """Return seconds and memory of one mining run through each engine."""
    rows: Rows = []
    reasons = ""
    for size, held in sorted(results.get("engines", {}).items(), key=lambda item: int(item[0])):
        base, n = held.get("none", {}), f"{int(size):,}"
        for name, title in ENGINES.items():
            row = held.get(name, {})
            if "seconds" in row:
                over = f"{row['seconds'] / base['seconds'] - 1:+.0%}" if "seconds" in base and name != "none" else "-"
                equal = (
                    "-" if name == "none" or "equal" not in base else "yes" if row["equal"] == base["equal"] else "NO"
                )
                stages = [f"{row['stages'].get(stage, 0):,.0f}" for stage in STAGES]
                memory = [f"{row[key]:,}" if key in row else "-" for key in ("peak_mb", "worker_mb")]
                rows.append([n, title, f"{row['seconds']:,.0f}", over, *stages, equal, *memory])
            elif "left_out" in row:
                reasons += f"\n{n} questions, {title}: left out; {row['left_out']}.\n"
    head = ["questions", "engine", "seconds", "against none", *STAGES, "equal result", "memory of the driver, MB"]
    head.append("of the largest worker, MB")
    return (table(head, rows) if rows else NOT_MEASURED) + reasons


def end_to_end(results: Any) -> str:
    """Return the stages of a whole run, in part extrapolated."""
    rows: Rows = []
    text = ""
    for size, held in sorted(results.get("end_to_end", {}).items(), key=lambda item: int(item[0])):
        n, whole = f"{int(size):,}", 0.0
        for name, unit in END_TO_END.items():
            row = held.get(name, {})
            if "left_out" in row:
                text += f"\n{n} questions, {name}: left out; {row['left_out']}.\n"
            if "seconds" not in row:
                continue
            whole += row["all_s"]
            part = f"{row['measured']:,} of {row['of']:,} {unit}"
            how = "measured" if row["measured"] == row["of"] else "extrapolated"
            seconds = f"{row['seconds'] + row.get('select_s', 0):,.0f}"
            rows.append([n, name, part, seconds, f"{row['all_s']:,.0f}", how, f"{row['peak_mb']:,}"])
        if all("seconds" in held.get(name, {}) for name in END_TO_END):
            rows.append([n, "all", "-", "-", f"{whole:,.0f}", "extrapolated", "-"])
        if "recall" in (row := held.get("searching", {})):
            text += f"\n{n} questions: {row['pairs']:,} pairs from {row['complete_above']:.4f} on, "
            text += f"{row['method']}, recall {_interval(row['recall'])}.\n"
    head = [
        "questions",
        "stage",
        "measured",
        "seconds of these",
        "seconds of all",
        "of all: figures",
        "memory, MB at most",
    ]
    return (table(head, rows) if rows else NOT_MEASURED) + text


def costs(results: Any) -> str:
    """Return core-hours and bytes, measured and extrapolated."""
    rows: Rows = []
    for n, figures in _sizes(results):
        exact = figures.get("exact", {}).get("seconds")
        threads = results["settings"]["threads"]
        searched = [
            (row["fit_s"] + row["assign_s"] + 2 * row["sample_s"] + held["search_s"], row["cells"], m)
            for row in figures.get("cells", {}).values()
            for m, held in row.get("overlaps", {}).items()
            if "search_s" in held and held["recall"]["value"] >= 0.99
        ]
        best = min(searched, default=None)
        of_cells = f"{_hours(best[0] * threads / 3600)} (K = {best[1]:,}, m = {best[2]})" if best else "-"
        if exact or best:
            scan = _hours(exact * threads / 3600) if exact else "-"
            size = _bytes(4 * results["settings"]["dimensions"] * int(n.replace(",", "")))
            rows.append([n, "measured", scan, of_cells, "-", "-", "-", size, "-"])
    for row in results.get("cost", {}).get("rows", []):
        of_cells = "-"
        if "cells_core_h" in row:
            of_cells = f"{_hours(row['cells_core_h'])} (K = {row['cells']:,}, m = {row['overlap']})"
        hours = [_hours(row.get(key)) for key in ("embed_core_h", "judge_core_h", "judge_budget_core_h")]
        scan, sizes = (
            _hours(row.get("exact_core_h")),
            [_bytes(row.get(key)) for key in ("vectors_bytes", "pairs_bytes")],
        )
        rows.append([f"{row['questions']:,}", "extrapolated", scan, of_cells, *hours, *sizes])
    head = ["questions", "figures", "exact search", "search by cells", "embedding", "judging all pairs from 0.8 on"]
    head += ["judging 50,000 pairs", "vectors", "pairs"]
    if not rows:
        return NOT_MEASURED
    return table(head, rows) + "\nCore-hours; the last two columns are sizes.\n"


def _sizes(results: Any) -> list[tuple[str, dict[str, Any]]]:
    held = results.get("sizes", {})
    return [(f"{int(n):,}", held[n]) for n in sorted(held, key=int)]


def _or_not(results: Any, name: str, head: list[str], rows: Rows) -> str:
    """Return a table, and below it the reasons why sizes are not in it."""
    text = table(head, rows) if rows else NOT_MEASURED
    for n, figures in _sizes(results):
        held = figures.get(name, {})
        for row in [held, *held.values()]:
            if isinstance(row, dict) and "left_out" in row:
                text += f"\n{n} questions: left out; {row['left_out']}.\n"
    return text


def _interval(recall: dict[str, float]) -> str:
    return f"{recall['value']:.4f} ({recall['low']:.4f}-{recall['high']:.4f})"


def _share(held: dict[str, float]) -> str:
    return f"{held['share']:.2%}"


def _hours(hours: float | None) -> str:
    return "-" if hours is None else f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _bytes(size: float | None) -> str:
    if size is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} PB"
