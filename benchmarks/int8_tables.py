"""The table of `int8.json`."""

from __future__ import annotations

from typing import Any


def contenders(results: Any) -> str:
    """Return a row for each network and contender."""
    if not results:
        return "It is not measured yet.\n"
    head = ("average precision", "difference", "pairs a CPU second", "times the work", "MB")
    changes = ("alone / equal lengths", "alone / padded", "other order")
    lines = [f"| | {' | '.join([*head, *changes])} |", f"|---{'|---' * (len(head) + len(changes))}|"]
    for kind, network in results["networks"].items():
        lines.append(f"| **{kind}** |{' |' * (len(head) + len(changes))}")
        for row in network["rows"]:
            gain, found = row["difference"], row["largest_change"]
            cells = [
                row["name"],
                f"{row['average_precision']['value']:.4f}",
                "" if not gain["high"] and not gain["low"] else _signed(gain),
                f"{row['pairs_per_cpu_second']:,.0f}",
                f"{row['ratio']:.2f}",
                f"{row['bytes'] / 1e6:.1f}",
                *(_change(found[name]) for name in ("equal_lengths", "padded", "other_order")),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    about = next(iter(results["networks"].values()))
    spreads = ", ".join(f"{network['spread']:.2f} ({kind})" for kind, network in results["networks"].items())
    lines += [
        "",
        f"{about['pairs']:,} pairs in {about['rounds']} rounds, one thread, {about['processor']} with "
        f"{about['instructions']}, onnxruntime {about['versions']['onnxruntime']}, ranges from "
        f"{about['fitting_pairs']} training pairs. Difference: average precision less that of our graph, 95 % interval "
        f"over {about['resamples']:,} resamples of question groups. Last three columns: largest change of a score "
        f"(standard deviation {spreads}).",
    ]
    return "\n".join(lines) + "\n"


def reading(results: Any) -> str:
    """Return the findings of the cross-encoder in sentences."""
    network = results.get("networks", {}).get("cross-encoder") if results else None
    if not network:
        return "It is not measured yet.\n"
    rows = {row["name"]: row for row in network["rows"]}
    static = [row for name, row in rows.items() if name.startswith("static")]
    ours, dynamic = rows["our graph"], rows["dynamic"]
    best = max(static, key=lambda row: float(row["average_precision"]["value"]))
    lines = [
        f"- *Speed:* for the cross-encoder, static QDQ takes {min(row['ratio'] for row in static):.2f} to "
        f"{max(row['ratio'] for row in static):.2f} times the work of our graph, dynamic quantisation "
        f"{dynamic['ratio']:.2f} times.",
        f"- *Quality:* the error of a logit (root mean square) is {ours['rms_to_float']:.3f} in our graph, "
        f"{best['rms_to_float']:.3f} in the better static form, {dynamic['rms_to_float']:.3f} in the dynamic one. "
        f"Average precision of the better static form differs by {_signed(best['difference'])}, of the dynamic one by "
        f"{_signed(dynamic['difference'])}.",
        f"- *Batches:* a logit of the dynamic form moves by up to "
        f"{_change(dynamic['largest_change']['equal_lengths'])} with the pairs beside it. Fixed scales keep a score "
        "its own, in a stock graph too.",
    ]
    return "\n".join(lines) + "\n"


def _signed(metric: dict[str, float]) -> str:
    return f"{metric['value']:+.4f} ({metric['low']:+.4f} to {metric['high']:+.4f})"


def _change(value: float | None) -> str:
    if value is None:
        return "not padded"
    return "0" if not value else f"{value:.1g}" if value < 0.001 else f"{value:.3f}"
