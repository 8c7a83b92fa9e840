"""Tables of the documentation from the results of `benchmarks.service`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.index.tables import table

NOT_MEASURED = "Not measured yet: `python -m benchmarks.service --scratch DIR`.\n"
SERVERS = {"dupq": "dupq", "baseline": "FastAPI and sentence-transformers"}
KINDS = {"score_1": "`/v1/score`, 1 pair", "score_32": "`/v1/score`, 32 pairs", "flag": "`/v1/flag`"}
REFUSED = {"retry_after": "wait for Retry-After", "at_once": "ask again after 0.1 s"}


def loads(results: Any) -> str:
    """Return requests a second and latencies by kind of request and number of clients."""
    rows, shares = [], []
    for kind, title in KINDS.items():
        figures = {server: found["clients"] for server, found in _figures(results, kind)}
        for number in sorted({number for found in figures.values() for number in found}, key=int):
            cells = []
            for server in SERVERS:
                row = figures.get(server, {}).get(number)
                cells += ["-", "-"] if row is None else [f"{row['per_second']:,.1f}", _latency(row)]
                shares += [row["load_cpu_share"]] if row else []
            rows.append([title, number, *cells])
    head = ["request", "clients", *(part for name in SERVERS.values() for part in (f"{name}: requests/s", "p50 / p99"))]
    text = _with_reasons(results, [*KINDS], head, rows)
    if not rows:
        return text
    questions = results["settings"]["questions"]
    cores = results["machine"]["cores"]
    errors = Counter[str]()
    for kind in KINDS:
        for server, found in _figures(results, kind):
            errors[server] += _errors(found)
    lines = [
        f"\nMilliseconds; {questions:,} stored questions; {cores} processor cores, of which the load generator used at"
        f" most {max(shares):.0%} of one."
    ]
    lines += [
        f"{SERVERS[server]} answered {count:,} requests with an error." for server, count in errors.items() if count
    ]
    return text + " ".join(lines) + "\n"


def latency(results: Any) -> str:
    """Return the time of one request, in a sentence."""
    found = dict(_figures(results, "flag")), dict(_figures(results, "score_1"))
    if not all("dupq" in part and "1" in part["dupq"]["clients"] for part in found):
        return NOT_MEASURED
    flag, score = (part["dupq"]["clients"]["1"]["p50_ms"] for part in found)
    cores = results["machine"]["cores"]
    return (
        f"On {cores} processor cores, a single client waits {flag:,.0f} ms for a flag at the median, and {score:,.0f}"
        " ms for the score of\none pair.\n"
    )


def capacity(results: Any) -> str:
    """Return the flags a second of one process, in a sentence."""
    found = dict(_figures(results, "flag"))
    if "dupq" not in found:
        return NOT_MEASURED
    rates = sorted(row["per_second"] for row in found["dupq"]["clients"].values())
    questions, cores = results["settings"]["questions"], results["machine"]["cores"]
    return (
        f"One process answered {rates[0]:,.1f} to {rates[-1]:,.1f} flags a second among {questions:,} questions on"
        f" {cores} processor cores:\n[How the service works](../explanation/service.md#figures).\n"
    )


def starts(results: Any) -> str:
    """Return start to ready, and memory."""
    rows = []
    for server, found in _figures(results, "start"):
        held = results["servers"][server]
        peaks = [_megabytes(held.get(kind, {}).get("peak_mb")) for kind in KINDS]
        first = f"{found['ready_s']:.1f}" if "ready_s" in found else "-"
        times = [first, f"{found['score_s']:.1f}", f"{found['flag_s']:.1f}"]
        rows.append([SERVERS[server], *times, _megabytes(found["resident_mb"]), *peaks])
    peak = [f"at most, {title}" for title in KINDS.values()]
    head = ["server", "start to `/readyz`, s", "to the first score", "to the first flag", "memory then, MB", *peak]
    return _with_reasons(results, ["start"], head, rows)


def pressure(results: Any) -> str:
    """Return memory and refusals under 200 clients."""
    rows = []
    for server, found in _figures(results, "pressure"):
        for refused, title in REFUSED.items():
            if refused in found:
                row = found[refused]
                rows.append(
                    [
                        SERVERS[server],
                        title if server == "dupq" else "-",
                        f"{row['per_second']:,.1f}",
                        _latency(row),
                        f"{row['refused_share']:.0%}",
                        f"{row['statuses'].get('lost', 0):,}",
                        f"{_errors_of(row) - row['statuses'].get('lost', 0):,}",
                        _latency(row["refused"]) if row["refused"] else "-",
                        f"{row['least_mb']:,.0f} to {row['most_mb']:,.0f}",
                        f"{row['last_less_first_mb']:+,.1f}",
                    ]
                )
    head = [
        "server",
        "refused clients",
        "answered/s",
        "p50 / p99, ms",
        "refused (429)",
        "no connection",
        "errors",
        "refused in, p50 / p99, ms",
        "memory, MB",
        "last quarter less first",
    ]
    return _with_reasons(results, ["pressure"], head, rows)


def crashes(results: Any) -> str:
    """Return what `kill -9` under load has lost."""
    rows = []
    for _, found in _figures(results, "crash"):
        names = ("kills", "acknowledged", "lost", "torn", "jobs_lost", "twice", "damaged")
        again = found["jobs"]["started_again"], found["events_delivered_again"]
        rows.append([f"{found['minutes']:g}", *(f"{found[name]:,}" for name in names), *(f"{n:,}" for n in again)])
    head = [
        "minutes",
        "`kill -9`",
        "acknowledged writes",
        "of them lost",
        "torn",
        "jobs lost",
        "done twice",
        "damaged indexes",
        "jobs run again",
        "events delivered again",
    ]
    return _with_reasons(results, ["crash"], head, rows)


def _figures(results: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """Yield each server that has a figure, with it."""
    for server in SERVERS:
        found = results.get("servers", {}).get(server, {}).get(kind)
        if found and "left_out" not in found:
            yield server, found


def _errors(found: Any) -> int:
    """Return the number of answers of a load that are neither 200 nor 429."""
    return sum(map(_errors_of, found["clients"].values()))


def _errors_of(row: Any) -> int:
    return sum(count for status, count in row["statuses"].items() if status not in ("200", "429"))


def _latency(row: Any) -> str:
    return f"{row['p50_ms']:,.0f} / {row['p99_ms']:,.0f}" if "p50_ms" in row else "-"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _with_reasons(results: Any, kinds: list[str], head: list[str], rows: list[list[str]]) -> str:
    """Return a table, and below it why a figure is not in it."""
    lines = []
    for server, title in SERVERS.items():
        for kind in kinds:
            found = results.get("servers", {}).get(server, {}).get(kind, {})
            if "left_out" in found:
                lines.append(f"\n{title}, {KINDS.get(kind, kind)}: left out; {found['left_out']}.\n")
    return (table(head, rows) if rows else NOT_MEASURED) + "".join(lines)
