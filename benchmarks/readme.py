"""Writes the tables of README.md from the results that the benchmarks left as JSON.

    python -m benchmarks.readme            # rewrites them
    python -m benchmarks.readme --check    # exit status 1 if a table differs from its results

A table stands between `<!-- table:NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
_TABLE = re.compile(r"(<!-- table:([a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def load(name: str) -> Any:
    """The results of one benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def figure(metric: dict[str, float], digits: int = 3) -> str:
    """`0.912 (0.908-0.916)`"""
    value, low, high = (f"{metric[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low}-{high})"


def quality() -> str:
    """Each network alone and together."""
    results = load("quality")
    test = results["splits"]["test"]
    lines = [
        "| scorer | average precision | accuracy | ECE |",
        "|---|---|---|---|",
    ]
    for row in results["rows"]:
        metrics = row["metrics"]
        cells = (figure(metrics["average_precision"]), figure(metrics["accuracy"]), figure(metrics["ece_mass"]))
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    size = f"{test['pairs']:,} pairs, {test['base_rate']:.1%} duplicates"
    form = "; the trained networks in int8" if "onnx-int8" in results.get("forms", {}).values() else ""
    lines += ["", f"Test split: {size}; 95 % intervals over question groups{form}."]
    return "\n".join(lines) + "\n"


def output_score() -> str:
    """What the first command prints."""
    from dupq.cli.main import main as dupq

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        dupq(["score", "How old are you?", "What is your age?"])
    return f"```text\n{printed.getvalue()}```\n"


def shipped() -> str:
    """What was measured of the shipped model, by its own report."""
    report = json.loads((ROOT / "dupq" / "pretrained" / "report.json").read_text(encoding="utf-8"))
    names = {
        "average_precision": "average precision",
        "accuracy": "accuracy",
        "f1": "F1",
        "ece_mass": "ECE (15 bins of equal mass)",
        "brier": "Brier score",
        "log_loss": "log loss",
    }
    lines = ["| shipped model, int8 | value (95 % interval) |", "|---|---|"]
    lines += [f"| {name} | {figure(report['metrics'][key])} |" for key, name in names.items()]
    return "\n".join(lines) + "\n"


def elsewhere() -> str:
    """Other worlds, beside encoders that were not trained by us."""
    rows = load("elsewhere")["rows"]
    encoders = list(rows[0]["encoders"])
    heads = [part for name in encoders for part in (f"untrained {name}", "gain")]
    lines = [f"| pairs of | number | dupq | {' | '.join(heads)} |", "|---" * (3 + len(heads)) + "|"]
    for row in rows:
        cells = [row["name"], f"{row['pairs']:,}", figure(row["average_precision"])]
        for told in row["encoders"].values():
            gain = told["gain"]
            cells += [figure(told["average_precision"])]
            cells += [f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Average precision; 95 % intervals over question groups, of a gain within the same resamples."]
    return "\n".join(lines) + "\n"


def contrast() -> str:
    """How pairs of nearly the same words are decided."""
    results = load("contrast")
    lines = ["| what was changed | pairs | of them duplicates | decided wrongly |", "|---|---|---|---|"]
    for row in results["rows"]:
        lines.append(f"| {row['kind']} | {row['pairs']:,} | {row['duplicates']:.0%} | {figure(row['error'], 2)} |")
    return "\n".join(lines) + "\n"


def forum() -> str:
    """How fast and how complete mining and flagging are."""
    from benchmarks.forum.tables import summary

    return summary()


def speed() -> str:
    """How many times as fast as a stock cross-encoder."""
    from benchmarks.speed.tables import summary

    return summary()


TABLES: dict[str, Callable[[], str]] = {
    "contrast": contrast,
    "elsewhere": elsewhere,
    "forum": forum,
    "quality": quality,
    "output_score": output_score,
    "shipped": shipped,
    "speed": speed,
}


def rendered(text: str) -> str:
    """README's text with every table made anew."""
    return _TABLE.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    fresh = rendered(text)
    if args.check:
        return int(fresh != text)
    README.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
