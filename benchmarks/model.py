"""The log of the networks that were trained on the way to the shipped model, from the records beside their weights.

    python -m benchmarks.model FOLDER...      # adds to benchmarks/results/model.json, writes benchmarks/model.md
    python -m benchmarks.model FOLDER --name long-texts --left "ranks posts better, questions worse"

A FOLDER is one that `dupq train` wrote; its name is that of the run, or else `--name`. Average precision is that on the
validation split after each epoch: it decided what was tried next, so it flatters; the figures of the test split stand
in README.md. What was tried and left has its reason in the last column.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.readme import RESULTS, ROOT
from dupq.data.writing import write_json, write_text
from dupq.models.stock import RECORD

DISTILLED = RESULTS / "distilled.json"
SHOWN = ("epochs", "batch_size", "learning_rate", "dropout", "freeze_layers")


def row(folder: Path, name: str | None, base: str | None, left: str) -> dict[str, Any]:
    """What one record tells."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    precisions = [
        round(value, 4)
        for entry in record["log"]
        for name, value in entry.items()
        if name.endswith(("average_precision", "cosine_ap"))
    ]
    return {
        "run": name or folder.name,
        "left": left,
        "identity": record["identity"],
        "kind": record["kind"],
        "base": base or Path(record["settings"]["base"]).name,
        "settings": {name: record["settings"].get(name, 0) for name in SHOWN},
        "pairs": record["data"]["pairs"],
        "soft": "targets" in record["data"],
        "seconds": record["seconds"],
        "bfloat16": record["bfloat16"],
        "validation": precisions,
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = (
        "| run | network | from | pairs | targets | epochs | rate | dropout | frozen | minutes | AP after each epoch "
        "| left because it |"
    )
    lines = [head, "|---" * 12 + "|"]
    for told in rows:
        s = told["settings"]
        cells = [
            told["run"],
            told["kind"],
            told["base"],
            f"{told['pairs']:,}",
            "teacher's" if told["soft"] else "labels",
            f"{s['epochs']:g}",
            f"{s['learning_rate']:g}",
            f"{s['dropout']:g}",
            f"{s['freeze_layers']}",
            f"{told['seconds'] / 60:.0f}",
            ", ".join(f"{value:.3f}" for value in told["validation"]),
            told.get("left", ""),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def distilled(told: dict[str, Any]) -> str:
    """What `python -m benchmarks.distilled` found, as a section."""

    def shown(figure: dict[str, float], sign: str = "") -> str:
        low, high = (format(figure[end], f"{sign}.3f") for end in ("low", "high"))
        return f"{figure['value']:{sign}.3f} ({low} to {high})"

    lines = [
        "## Students and their teacher",
        "",
        f"`{told['command']}`: average precision on {told['pairs']:,} pairs that the networks learned from and as many "
        "that they never met; what a student is behind its teacher there; and the mean distance of its probability "
        "from the teacher's. Intervals of 95 % over question groups.",
        "",
        "| network | AP, learned | behind | distance | AP, new | behind | distance |",
        "|---" * 7 + "|",
    ]
    for row in told["rows"]:
        cells = [row["network"]]
        for name in ("learned", "new"):
            figures = row[name]
            cells += [shown(figures["average_precision"]), shown(figures["behind"], "+"), f"{figures['distance']:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--name", help="of the run, where the folder's would mislead")
    parser.add_argument("--from", dest="base", help="the run that it began from, where the folder's name would mislead")
    parser.add_argument("--left", default="", help="why what was tried did not go on to the shipped model")
    args = parser.parse_args()
    if (args.name or args.base) and len(args.folders) != 1:
        parser.error("--name and --from are those of one folder")
    store = RESULTS / "model.json"
    rows = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else []
    new = [row(folder, args.name, args.base, args.left) for folder in args.folders]
    rows = [told for told in rows if told["identity"] not in {added["identity"] for added in new}] + new
    write_json(store, rows)
    about = (__doc__ or "").split("\n\n")
    sections = [f"# {about[0].rstrip('.')}\n", f"{about[2].rstrip()}\n", table(rows)]
    if DISTILLED.is_file():
        sections.append(distilled(json.loads(DISTILLED.read_text(encoding="utf-8"))))
    write_text(ROOT / "benchmarks" / "model.md", "\n".join(sections))


if __name__ == "__main__":
    main()
