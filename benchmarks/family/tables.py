"""Writes the pages and pictures of the family from the JSON that `run`, `speed` and `fewshot` left, and nothing else.

`benchmarks/family.md` has all figures, `docs/explanation/family.md` what they answer.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.family import answers, picture, sets
from benchmarks.family.fewshot import RESULT as FEWSHOT
from benchmarks.family.results import (
    CLOSE_AUC,
    POSTS_AUC,
    WORLDS_AUC,
    Found,
    Row,
    load,
    mean,
    paired,
    pooled,
    spread,
    wrong,
)
from benchmarks.family.runs import FOLDER, MADE_OF, NAMES, setup_of
from benchmarks.family.speed import place
from benchmarks.readme import ROOT
from dupq.data.writing import write_text
from dupq.training.methods import METHODS

PAGE = ROOT / "benchmarks" / "family.md"
ORDER = ("hybrid", "classification", "logistic", "triplet-hard", "contrastive")
"""From best to worst, as Vo & Hays 2016 found it for images; triplets mined hard, all else as in their paper."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="exit status 1 if a page differs from the results")


def speeds_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Of each method, and a sentence on how they were taken; nothing where `speed` was not run."""
    path = place(folder.name, folder.parent)
    if not path.is_file():
        return {}, "Speeds were not measured"
    found = json.loads(path.read_text(encoding="utf-8"))
    how = f"{found['precision']}, {found['threads']} threads, one method after the other"
    return found["rows"], f"Speeds: {how}, at a load of {found['load']:.1f} in the end"


def cells(name: str, rows: list[Row], speeds: dict[str, Any]) -> list[str]:
    line, source = MADE_OF.get(name) or (METHODS[name].line.removesuffix(" (default)"), METHODS[name].source)
    errors = [row["metrics"]["ece_mass"]["value"] for row in rows]
    trained, scored = (
        f"{speeds[name][f'{what}_pairs_per_second']:,.0f}" if name in speeds else "-" for what in ("train", "score")
    )
    collapsed = sum(row["collapse"] is not None for row in rows)
    return [
        f"`{name}`" + (f" (told of a collapse with {collapsed} of {len(rows)} seeds)" if collapsed else ""),
        f"{line} ({source})" if source != "-" else line,
        f"**{mean(rows, 'average_precision'):.3f}** ({spread(pooled(rows, 'average_precision'))})",
        f"{mean(rows, 'accuracy'):.3f} ({spread(pooled(rows, 'accuracy'))})",
        f"{np.mean(errors):.3f} ({min(errors):.3f} to {max(errors):.3f})",
        trained,
        scored,
        str(len(rows)),
    ]


def encoder_part(folder: Path) -> str:
    # The first results, of more steps, stand until they are removed.
    found: Found = load(folder) or load(folder / sets.QUORA)
    if not found:
        return ""
    ranked = sorted(found.items(), key=lambda item: -mean(item[1], "average_precision"))
    first = ranked[0][1][0]
    setup = setup_of(first)
    head = ["method", "what it is", "average precision", "accuracy", "ECE", "trained/s", "scored/s", "seeds"]
    speeds, taken = speeds_of(folder)
    lines = [
        f"## {folder.name}, trained on {answers.TRAINED[sets.QUORA]}",
        "",
        f"{setup['rows']:,} training pairs, {setup['steps']:,} steps of {setup['batch_size']}, learning rate "
        f"{setup['learning_rate']:g}, {setup['precision']}. Test: {first['pairs']:,} pairs of {first['groups']:,} "
        f"question groups that no training pair reaches, {first['base_rate']:.1%} duplicates; groups of more than "
        f"{setup['largest']} pairs are left out, for one of them would decide the figures. Ensembles are of "
        f"`{setup['ensemble_of']}`. {taken}.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cells(name, rows, speeds))} |" for name, rows in ranked),
        "",
        order_part(found),
    ]
    return "\n".join(lines)


def order_part(found: dict[str, list[Row]]) -> str:
    """Whether each step of the order found for images holds, by the difference on the same resampled groups."""
    missing = [name for name in ORDER if name not in found]
    if missing:
        return f"Whether the order found for images holds is not told yet: no results of {', '.join(missing)}.\n"
    lines, held, turned = [], 0, 0
    for better, worse in pairwise(ORDER):
        differences = paired(found[better], found[worse])
        low, high = np.percentile(differences, (2.5, 97.5))
        verdict = "holds" if low > 0 else "is reversed" if high < 0 else "is undecided"
        held, turned = held + (low > 0), turned + (high < 0)
        lines.append(f"- {better} > {worse} {verdict}: {differences.mean():+.3f} ({low:+.3f} to {high:+.3f})")
    by_score = sorted(ORDER, key=lambda name: -mean(found[name], "average_precision"))
    steps = len(ORDER) - 1
    answer = "It holds" if held == steps else "It does not hold" if turned else "It is not settled"
    return "\n".join(
        [
            f"Does the order found for images, {' > '.join(ORDER)}, hold here? {answer}: of its {steps} steps {held} "
            f"hold, {turned} are reversed, and {steps - held - turned} are undecided (difference of average precision, "
            "95 % interval over seeds and question groups).",
            "",
            *lines,
            "",
            f"By average precision the order here is {' > '.join(by_score)}.",
            "",
        ]
    )


def near_miss_part(folder: Path, training: str) -> str:
    """ROC AUC and errors on near misses of an encoder and a training set."""
    found = load(folder / training)
    kinds = list(dict.fromkeys(sets.kinds(sets.measured_pairs(sets.WORLDS)).tolist()))
    parts = list(dict.fromkeys(sets.kinds(sets.measured_pairs(sets.POSTS)).tolist()))
    head = ["method", "seeds", "near misses", "where few words decide", "posts", *kinds, *parts]
    lines = [
        f"## {folder.name}, trained on {answers.TRAINED[training]}: near misses",
        "",
        "ROC AUC, and the share decided wrongly of each kind of pair of `worlds_dev` and `posts_dev`.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    measured = sorted(found.items(), key=lambda item: -pooled(item[1], WORLDS_AUC).mean())
    for name, rows in measured:
        aucs = [pooled(rows, measure) for measure in (WORLDS_AUC, CLOSE_AUC, POSTS_AUC)]
        errors = [pooled(rows, wrong(kind)) for kind in kinds] + [pooled(rows, wrong(p, sets.POSTS)) for p in parts]
        figures = [f"{values.mean():.3f} ({spread(values)})" for values in aucs]
        figures += [f"{values.mean():.2f} ({spread(values, 2)})" for values in errors]
        lines.append(f"| `{name}` | {len(rows)} | {' | '.join(figures)} |")
    missing = [f"`{name}`" for name in NAMES if name not in found]
    if missing:
        lines += ["", f"Not measured: {', '.join(missing)}."]
    return "\n".join([*lines, ""])


def fewshot_part() -> str:
    results = json.loads(FEWSHOT.read_text(encoding="utf-8"))
    lines = [
        "## Few-shot matching",
        "",
        "A question gets the class of the nearest known one, or of the nearest centre of a class; "
        f"{results['classes']} classes of banking77, {results['questions']:,} questions, nothing retrained (Koch et "
        f"al. 2015). Accuracy, with the middle 95 % of {results['draws']} draws of the known questions.",
        "",
        "| network | known a class | nearest question | nearest centre |",
        "|---|---|---|---|",
    ]
    cell = {(r["network"], r["shots"], r["by"]): r for r in results["rows"]}
    for network, shots in dict.fromkeys((r["network"], r["shots"]) for r in results["rows"]):
        texts = [
            "{value:.3f} ({low:.3f} to {high:.3f})".format(**cell[network, shots, by]) for by in ("nearest", "centroid")
        ]
        lines.append(f"| {network} | {shots} | {' | '.join(texts)} |")
    return "\n".join([*lines, ""])


def encoders() -> list[Path]:
    """Folders of encoders with results."""
    return sorted(path for path in FOLDER.glob("*") if path.is_dir() and any(path.rglob("*.json")))


def page() -> str:
    folders = encoders()
    parts = [
        "# The Siamese family on questions",
        "",
        "Every method of `dupq train --list-methods` on the same encoder, rows, batches, steps and seeds. Written by "
        "`python -m benchmarks.family table` from `benchmarks/results/family/`. Average precision and accuracy (at "
        "the threshold that is best on validation): mean over seeds, and the 95 % interval over seeds and question "
        "groups. ECE: after calibration on a split of its own, mean and range over seeds. Speeds: pairs a second; of "
        "training, without what comes before the first step. All share one learning rate; a pair head or an embedding "
        "head learns at ten times that. Methods without training are the same for every seed. What the figures on near "
        "misses answer is in `docs/explanation/family.md`.",
        "",
        *(encoder_part(folder) for folder in folders),
        *(
            near_miss_part(folder, training)
            for folder in folders
            for training in sets.TRAININGS
            if any((folder / training).glob("*.json"))
        ),
    ]
    return "\n".join(parts + ([fewshot_part()] if FEWSHOT.is_file() else []))


def pages() -> dict[Path, str]:
    """The text of every file."""
    folders = encoders()
    return {PAGE: page(), answers.PAGE: answers.page(folders)} | {
        picture.place(folder.name): drawn for folder in folders if (drawn := picture.picture(folder))
    }


def run(args: argparse.Namespace) -> None:
    texts = pages()
    if args.check:
        stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
        raise SystemExit(int(bool(stale)))
    for path, text in texts.items():
        write_text(path, text)
        print(f"-> {path}")
