"""Tables of the documentation from the results of `benchmarks.index`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
SEARCHES = {"flag": "exact", "approximate": "approximate"}
ON_DISK = ("database_bytes", "log_bytes", "vectors_bytes")
NOT_MEASURED = "Not measured yet: `python -m benchmarks.index --scratch DIR`.\n"
Rows = list[list[str]]


def table(head: list[str], rows: Rows) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def adds(results: Any) -> str:
    """Return questions per second of one client and of eight."""
    kinds = ("given_1", "given_8_threads", "given_8_processes", "network_1", "network_8_threads")
    rows = [
        [*head, *(f"{figures['add'][kind]['per_second']:,.0f}" for kind in kinds)]
        for head, figures in _sizes(results, "add")
    ]
    given, network = "vectors given", "with the network"
    head = ["store", "questions", f"{given}, 1 client", "8 threads", "8 processes", f"{network}, 1 client", "8 threads"]
    return _with_reasons(results, "add", head, rows)


def flags(results: Any) -> str:
    """Return latencies of a flag, with the shares of the network, of scoring and of the search."""
    rows = []
    for kind, search in SEARCHES.items():
        for head, figures in _sizes(results, kind):
            figure = figures[kind]
            latencies = [_latency(figure[clients]) for clients in ("1", "8_threads", "8_processes")]
            shares = [f"{figure['shares'][part]:,.1f}" for part in ("network_ms", "search_ms", "scoring_ms")]
            rows.append([*head, search, *latencies, *shares])
    clients = ["1 client, p50 / p99", "8 threads", "8 processes"]
    head = ["store", "questions", "search", *clients, "of one flag: embedding", "search and rows", "scoring"]
    text = _with_reasons(results, "flag", head, rows)
    return text + "\nMilliseconds; the last three columns are medians.\n" if rows else text


def recalls(results: Any) -> str:
    """Return recall of the approximate search, and the time to build it."""
    rows = []
    for head, figures in _sizes(results, "approximate"):
        figure, own = figures["approximate"], figures["approximate"]["own_questions"]
        low, high = own["interval"]
        rows.append(
            [
                *head,
                f"{figure['recall_at_10']:.3f}",
                f"{own['recall_at_10']:.3f} ({low:.3f}-{high:.3f})",
                f"{figure['build_s']:,.0f} s",
            ]
        )
    head = ["store", "questions", "recall@10 of queries", "of its own questions", "time to build"]
    return _with_reasons(results, "approximate", head, rows)


def sizes(results: Any) -> str:
    """Return memory and disk."""
    rows = []
    for head, figures in _sizes(results, "disk"):
        memory = [figures.get(kind, {}).get("memory", {}) for kind in SEARCHES]
        used = [_megabytes(memory[0].get("before_mb"))]
        used += [_megabytes(held.get(kind)) for held in memory for kind in ("peak_mb", "anonymous_mb")]
        stored = {name: value / 2**20 for name, value in figures["disk"].items() if name in ON_DISK}
        cached = stored.pop("vectors_bytes", 0)
        rows.append([*head, *used, _megabytes(sum(stored.values())), _megabytes(cached)])
    memory_head = [
        "memory before it is opened",
        "exact search: at most",
        "after flags, without mapped files",
        "approximate: at most",
        "after flags, without mapped files",
    ]
    head = ["store", "questions", *memory_head, "database", "vector cache"]
    text = _with_reasons(results, "disk", head, rows)
    note = "\nMegabytes; resident memory. The vector cache is a mapped file, whose pages the system can take.\n"
    return text + note if rows else text


def busy(results: Any) -> str:
    """Return flags beside adds and beside re-embedding."""
    names = {"add": "adds", "reembed": "re-embedding", "reembed_given": "re-embedding, vectors given"}
    rows = []
    for store, title in STORES.items():
        figure = results.get("stores", {}).get(store, {}).get("busy", {})
        for work, name in names.items():
            if work in figure:
                row = figure[work]
                rate = f"{row['per_second']:,.0f}"
                rows.append([title, name, rate, _latency(row["idle"]), _latency(row["busy"])])
    questions = next((held["busy"]["questions"] for held in _stores(results) if "questions" in held.get("busy", {})), 0)
    head = ["store", "beside", "questions/s", "flag alone, p50 / p99", "flag beside it"]
    text = _with_reasons(results, "busy", head, rows)
    return text + f"\n{questions:,} questions; milliseconds.\n" if rows else text


def crashes(results: Any) -> str:
    """Return what killed writers lost."""
    names = {"crash_adds": "adds", "crash_verdicts": "verdicts", "crash_reembedding": "re-embedding"}
    rows = []
    for store, title in STORES.items():
        held = results.get("stores", {}).get(store, {})
        for name, kind in names.items():
            if "kills" in held.get(name, {}):
                columns = ("kills", "acknowledged", "lost", "torn", "damaged")
                rows.append([title, kind, *(f"{held[name][column]:,}" for column in columns)])
    head = ["store", "killed in", "`kill -9`", "acknowledged rows", "of them lost", "torn rows", "damaged indexes"]
    return _with_reasons(results, "crash_adds", head, rows)


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _latency(figure: dict[str, float]) -> str:
    return f"{figure['p50_ms']:,.0f} / {figure['p99_ms']:,.0f}"


def _stores(results: Any) -> Iterator[dict[str, Any]]:
    yield from (held for name, held in results.get("stores", {}).items() if name in STORES)


def _sizes(results: Any, figure: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield the first cells and the figures of each store and size at which a figure was measured."""
    for store, title in STORES.items():
        held = results.get("stores", {}).get(store, {}).get("sizes", {})
        for size in sorted(held, key=int):
            if figure in held[size] and "left_out" not in held[size][figure]:
                yield [title, f"{int(size):,}"], held[size]


def _with_reasons(results: Any, figure: str, head: list[str], rows: Rows) -> str:
    """Return a table, and below it why a store or a size is not in it."""
    lines = []
    for store, title in STORES.items():
        held = results.get("stores", {}).get(store, {})
        places = {
            "": held.get(figure, {}),
            **{f", {int(n):,}": row.get(figure, {}) for n, row in held.get("sizes", {}).items()},
        }
        reasons = (
            {"": held["left_out"]}
            if "left_out" in held
            else {at: found["left_out"] for at, found in places.items() if "left_out" in found}
        )
        lines += [f"\n{title}{at}: left out; {reason}.\n" for at, reason in reasons.items()]
    return (table(head, rows) if rows else NOT_MEASURED) + "".join(lines)
