"""The tables of `roofline.json`."""

from __future__ import annotations

from typing import Any

MISSING = "It is not measured yet.\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _part(results: Any, name: str) -> Any:
    return results["parts"].get(name) if results else None


def _about(part: Any, text: str = "") -> str:
    machine = f"{part['processor']} with {part['instructions']}, onnxruntime {part['versions']['onnxruntime']}"
    return f"\n{text}{machine}.\n"


def _times(metric: Any) -> str:
    return f"{metric['value']:.2f} ({metric['low']:.2f} to {metric['high']:.2f})"


def shares(results: Any) -> str:
    part, peaks = _part(results, "shares"), _part(results, "peaks")
    if not part:
        return MISSING
    cross, bi = part["found"]["cross-encoder"], part["found"]["bi-encoder"]
    others = {group["name"]: group for group in bi["groups"]}
    rows = []
    for group in cross["groups"]:
        other = others.get(group["name"])
        rows.append(
            [
                group["name"],
                f"{group['share']:.1%}",
                f"{other['share']:.1%}" if other else "-",
                f"{group['operations'] / group['seconds'] / 1e9:,.0f}" if group["operations"] else "-",
                f"{group['operations'] / group['bytes']:,.0f}" if group["operations"] else "-",
                f"{group['bytes'] / group['seconds'] / 1e9:,.0f}",
            ]
        )
    head = ["time in", "cross-encoder", "bi-encoder", "10⁹ operations/s", "operations a byte", "10⁹ bytes/s"]
    text = (
        f"{cross['inputs']:,} pairs of {cross['tokens'] / cross['inputs']:.0f} tokens in {cross['batches']:,} batches "
        f"of equal length, and their {bi['inputs']:,} distinct questions of {bi['tokens'] / bi['inputs']:.0f}; one "
        "thread. The last three columns are of the cross-encoder. "
    )
    if peaks:
        ridge = best_product(peaks) / peaks["found"]["copies"]["1"]
        text += f"From {ridge:.0f} operations a byte on, the processor bounds a product, below it the memory. "
    return table(head, rows) + _about(part, text)


def best_product(peaks: Any) -> float:
    """Return the most billions of int8 operations a second of any shape."""
    return float(max(row["int8"] for row in peaks["found"]["products"]))


def reached(network: Any, best: float) -> str:
    products = network["groups"][0]
    rate = products["operations"] / products["seconds"] / 1e9
    whole = sum(group["operations"] for group in network["groups"]) / sum(
        group["seconds"] for group in network["groups"]
    )
    return (
        f"Its products reach {rate / best:.0%} of the fastest product that we measured alone, "
        f"the whole network {whole / 1e9 / best:.0%}."
    )


def reading(results: Any) -> str:
    """Return the findings in sentences."""
    cost, limit, other = (_part(results, name) for name in ("shares", "peaks", "operators"))
    if not (cost and limit and other):
        return MISSING
    network, best = cost["found"]["cross-encoder"], best_product(limit)
    share = network["groups"][0]["share"]
    floating = max(row["float32"] for row in limit["found"]["products"])
    fastest = max(other["found"]["rows"][1:], key=lambda row: float(row["gain"]["value"]))
    lines = [
        f"- {reached(network, best)} One AVX-512 VNNI instruction does 128 operations. At one a cycle, as on AMD's "
        f"Zen 4, the fastest product is that of {best / 128:.1f} GHz. Float32 reaches {floating / best:.0%} of it.",
        f"- Products take {share:.0%} of the time. If all else took none, the network would be {1 / share:.1f} times "
        "as fast. That is the bound of every fusion.",
        f"- The fastest other operator, {fastest['name']}, is {fastest['gain']['value']:.2f} times as fast. An "
        "operator replaces ours from 1.08 times on, if a score stays independent of its batch.",
        "- A large gain has to come from less work: fewer layers, fewer tokens, or kept states of a question.",
    ]
    return "\n".join(lines) + "\n"


def peaks(results: Any) -> str:
    part = _part(results, "peaks")
    if not part:
        return MISSING
    kinds = ("int8", "float32", "int8 in blocks")
    rows = [
        [row["name"], " x ".join(map(str, row["shape"])), *(f"{row[kind]:,.0f}" for kind in kinds)]
        for row in part["found"]["products"]
    ]
    copies = part["found"]["copies"]
    text = (
        "Billions of operations a CPU second on one thread, best of 5. In blocks: `MatMulNBits`, which rounds the "
        f"tokens by itself. A copy in memory reads and writes {copies['1']:.0f} billion bytes a second on one thread, "
        f"{copies['2']:.0f} on two. "
    )
    return table(["product", "tokens x inputs x outputs", *kinds], rows) + _about(part, text)


def padding(results: Any) -> str:
    part = _part(results, "padding")
    if not part:
        return MISSING
    rows = [
        [row["name"], f"{row['padding']:.1%}", f"{row['inputs']:.1f}", f"{row['tokens']:,.0f}"] for row in part["found"]
    ]
    return table(["batches of", "tokens that are padding", "pairs a batch", "tokens a batch"], rows) + (
        f"\n{part['pairs']:,} pairs in one call.\n"
    )


def batches(results: Any) -> str:
    part = _part(results, "batches")
    if not part:
        return MISSING
    rows = [
        [f"{row['tokens']:,}", f"{row['batches']:,}", f"{row['pairs_per_cpu_second']:,.0f}", _times(row["gain"])]
        for row in part["found"]
    ]
    head = ["most tokens of a batch", "batches", "pairs a CPU second", "times as fast as 512"]
    return table(head, rows) + _rounds(part)


def operators(results: Any) -> str:
    part = _part(results, "operators")
    if not part:
        return MISSING
    rows = [
        [row["name"], _times(row["gain"]), f"{row['change']:.2g}", f"{row['change_alone']:.1g}"]
        for row in part["found"]["rows"][1:]
    ]
    found = table(["in place of ours", "times as fast", "largest change of a logit", "alone and in a batch"], rows)
    for name, error in part["found"]["failed"].items():
        found += f"\n{name}: onnxruntime cannot run it here (`{error}`).\n"
    return found + _rounds(part)


def threads(results: Any) -> str:
    part = _part(results, "threads")
    if not part:
        return MISSING
    rows = [[row["name"], f"{row['pairs_per_second']:,.0f}", _times(row["gain"])] for row in part["found"]]
    return table(["", "pairs/s", "times as fast"], rows) + _rounds(part)


def pruning(results: Any) -> str:
    part = _part(results, "pruning")
    if not part:
        return MISSING
    rows = []
    for row in part["found"]:
        loss = row["difference"]
        interval = f"{loss['value']:+.4f} ({loss['low']:+.4f} to {loss['high']:+.4f})" if loss["value"] else ""
        rows.append([row["name"], _times(row["gain"]), f"{row['average_precision']['value']:.4f}", interval])
    head = ["the cross-encoder reads", "times as fast", "average precision", "difference (95 %)"]
    return table(head, rows) + _rounds(part)


def _rounds(part: Any) -> str:
    return f"\n{part['pairs']:,} pairs, one order; median of {part['rounds']} rounds, the least and the largest.\n"
