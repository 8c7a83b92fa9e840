"""Tables of README and of the documentation from the results of `benchmarks.speed`.

Every function takes the results by part. A part of another model than the one that ships counts as not measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.index.tables import Rows, table

NOT_MEASURED = "Not measured yet: `python -m benchmarks.speed PAIRS`.\n"
PARTS = ("pairs", "stored", "sentences", "flag", "mine", "start", "training", "energy")
SHIPPED = Path(__file__).resolve().parents[2] / "dupq" / "pretrained" / "dupq.json"
FLOAT32 = ", float32"


def results(folder: Path) -> dict[str, Any]:
    """The results of all parts that were measured on the model that ships."""
    model, found = _shipped()["fingerprint"], {}
    for part in PARTS:
        path = folder / f"speed_{part}.json"
        held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if held.get("model") == model:
            found[part] = held
    return found


def readme(held: dict[str, Any]) -> str:
    """Our fresh and stored pairs, the float32 networks that people use, and the fastest of all."""
    if not {"pairs", "stored"} <= {*held}:
        return NOT_MEASURED
    fresh, stored = held["pairs"]["rows"], held["stored"]["rows"]
    rows = [["dupq, fresh pairs", _rate(fresh[0]), "-"], ["dupq, stored questions", _rate(stored[0]), "-"]]
    fastest = max(row["per_second"] for row in fresh)
    others = [row for row in fresh[1:] if FLOAT32 in row["name"] or row["per_second"] == fastest]
    rows += [[_quoted(row["name"]), _rate(row), _times(row)] for row in others]
    part, link = held["pairs"], "[All figures](docs/explanation/speed.md)"
    note = (
        f"Medians (min-max), {part['cores']} cores of an {part['cpu']}; others: `CrossEncoder`, random weights. {link}."
    )
    return table(["network, or shape", "pairs/s", "dupq, fresh pairs: times as fast"], rows) + f"\n{note}\n"


def pairs(held: dict[str, Any]) -> str:
    """Fresh pairs a second beside other networks and forms; quality where weights are real."""
    if "pairs" not in held:
        return NOT_MEASURED
    part = held["pairs"]
    rows: Rows = []
    for at, row in enumerate(part["rows"]):
        quality = part.get("quality") if not at else None
        cells = [
            f"{quality[name]['value']:.3f}" if quality else "-"
            for name in ("average_precision", "accuracy", "ece_mass")
        ]
        rows.append([row["name"], f"{row['a_round']:,}", _rate(row), _times(row) if at else "-", *cells])
    head = ["network", "pairs a round", "pairs/s", "dupq: times as fast", "average precision", "accuracy", "ECE"]
    return table(head, rows) + _failed(part) + _others(part) + _machine(part)


def stored(held: dict[str, Any]) -> str:
    """Pairs of questions that were embedded before."""
    return _race(held, "stored", "pairs/s", "stored questions: times as fast")


def sentences(held: dict[str, Any]) -> str:
    """Sentences a second of the bi-encoder."""
    return _race(held, "sentences", "sentences/s", "dupq: times as fast")


def flags(held: dict[str, Any], index: Any) -> str:
    """Latency of a flag.

    Args:
        held: The results.
        index: Results of `benchmarks.index`, for a part that refers to them.
    """
    if "flag" not in held:
        return NOT_MEASURED
    part = held["flag"]
    sizes = part["sizes"]
    if part["from"]:
        of_model = of_index(index, _shipped()["networks"]["bi-encoder"]["fingerprint"])
        sizes = {size: of_model[size] for size in sizes if size in of_model}
    rows = []
    for size, row in _sizes(sizes):
        parts = [f"{row['shares'][name]:,.1f}" for name in ("network_ms", "search_ms", "scoring_ms")]
        rows.append([size, f"{row['p50_ms']:,.0f}", f"{row['p99_ms']:,.0f}", *parts])
    head = ["questions", "p50, ms", "p99, ms", "of one flag: embedding", "search and rows", "scoring"]
    where = "From `benchmarks/results/index.json`. " if part["from"] else ""
    note = f"\n{where}SQLite, exact search, one client; the last three columns are medians.\n"
    return table(head, rows) + note if rows else NOT_MEASURED


def of_index(results: Any, model: str) -> dict[str, Any]:
    """Figures of one client by size, if the results of `benchmarks.index` are of this bi-encoder."""
    if results.get("settings", {}).get("model") != model:
        return {}
    sizes = results["stores"].get("sqlite", {}).get("sizes", {})
    return {
        size: {**held["flag"]["1"], "shares": held["flag"]["shares"]}
        for size, held in sizes.items()
        if "1" in held.get("flag", {})
    }


def mining(held: dict[str, Any]) -> str:
    """Seconds of a mining run from text."""
    if "mine" not in held:
        return NOT_MEASURED
    rows = [
        [
            size,
            *(f"{row['stages'][stage]:,.1f}" for stage in ("reading", "embedding", "searching", "judging")),
            f"{row['seconds']:,.1f}",
            f"{row['judged']:,} of {row['candidates']:,}",
            f"{row['peak_mb']:,}",
        ]
        for size, row in _sizes(held["mine"]["sizes"])
    ]
    head = ["questions", "reading, s", "embedding, s", "searching, s", "judging, s", "all, s"]
    note = _machine(held["mine"], "One run of each size. ")
    return table([*head, "candidates judged", "memory, MB at most"], rows) + note


def start(held: dict[str, Any]) -> str:
    """The first score of a new process, its memory, and the next scores."""
    if "start" not in held:
        return NOT_MEASURED
    rows: Rows = []
    for row in held["start"]["rows"]:
        score, warm = row.get("score"), row.get("warm")
        first = (
            [_figure(score["wall_s"], 2), _figure(score["processor_s"], 2), _figure(score["peak_mb"], 0)]
            if score
            else ["-"] * 3
        )
        next_ones = [f"{warm['p50_ms']:.1f} / {warm['p99_ms']:.1f}"] if warm else ["-"]
        rows.append([row["name"], *first, _figure(row["import"]["wall_s"], 3), *next_ones])
    head = ["", "first score, s", "of it processor, s", "memory, MB at most", "import, s", "next scores, p50 / p99, ms"]
    return table(head, rows) + _machine(held["start"])


def training(held: dict[str, Any]) -> str:
    """`dupq train` beside the stock trainer."""
    if "training" not in held:
        return NOT_MEASURED
    part = held["training"]
    rows: Rows = []
    for row in part["rows"]:
        rates = [_figure(row["per_second"][name], 0) for name in ("dupq", "stock")]
        precision = [_figure(row["average_precision"][name], 3) for name in ("dupq", "stock")]
        gain = "{value:+.3f} ({low:+.3f} to {high:+.3f})".format(**row["gain"])
        rows.append([row["kind"], *rates, _figure(row["times"], 2), *precision, gain])
    head = ["network", "`dupq train`, pairs/s", "stock trainer, pairs/s", "times as fast"]
    head += ["average precision", "of the stock trainer", "difference"]
    note = f"\nBase: {part['base']}; {part['train_pairs']:,} pairs a training, {part['dev_pairs']:,} held out.\n"
    return table(head, rows) + note + _machine(part)


def energy(held: dict[str, Any]) -> str:
    """Joules of a thousand pairs."""
    part = held.get("energy", {})
    if "rows" not in part:
        return f"Not measured: {part['left_out']}.\n" if part else NOT_MEASURED
    rows = [
        [row["name"], _figure({name: 1000 * joules for name, joules in row["joules"].items()}, 0)]
        for row in part["rows"]
    ]
    return table(["network", "joules a thousand pairs"], rows) + _machine(part)


def _shipped() -> Any:
    return json.loads(SHIPPED.read_text(encoding="utf-8"))


def _race(held: dict[str, Any], part: str, unit: str, times: str) -> str:
    if part not in held:
        return NOT_MEASURED
    rows = [[row["name"], _rate(row), _times(row) if at else "-"] for at, row in enumerate(held[part]["rows"])]
    return table(["network", unit, times], rows) + _failed(held[part]) + _machine(held[part])


def _figure(spread: dict[str, float], digits: int) -> str:
    value, low, high = (f"{spread[name]:,.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low}-{high})"


def _rate(row: dict[str, Any]) -> str:
    digits = 0 if row["per_second"] >= 20 else 1
    return _figure({"value": row["per_second"], "low": min(row["rates"]), "high": max(row["rates"])}, digits)


def _quoted(name: str) -> str:
    network, comma, form = name.partition(",")
    return f"`{network}`{comma}{form}"


def _times(row: dict[str, Any]) -> str:
    return _figure(row["times"], 1)


def _sizes(sizes: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for size in sorted(sizes, key=int):
        yield f"{int(size):,}", sizes[size]


def _failed(part: dict[str, Any]) -> str:
    return "".join(f"\nNot measured: {row['name']} ({row['error']}).\n" for row in part.get("failed", ()))


def _others(part: dict[str, Any]) -> str:
    """Versions of those contenders that have others than we."""
    rows = [row for row in part["rows"] if (row.get("versions") or part["versions"]) != part["versions"]]
    if not rows:
        return ""
    return f"\n{', '.join(row['name'] for row in rows)}: {_listed(rows[0]['versions'])}.\n"


def _machine(part: dict[str, Any], runs: str = "") -> str:
    instructions = f" ({', '.join(part['int8_instructions'])})" if part["int8_instructions"] else ""
    rounds = runs or (f"{part['rounds']} rounds: medians, least and largest. " if part.get("rounds") else "")
    return f"\n{rounds}{part['cores']} cores of an {part['cpu']}{instructions}; {_listed(part['versions'])}.\n"


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
