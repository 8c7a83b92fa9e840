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


def _signed(metric: dict[str, float]) -> str:
    return f"{metric['value']:+.4f} ({metric['low']:+.4f} to {metric['high']:+.4f})"


def _change(value: float | None) -> str:
    if value is None:
        return "not padded"
    return "0" if not value else f"{value:.1g}" if value < 0.001 else f"{value:.3f}"
