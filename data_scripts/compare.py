"""Compare networks on pairs that none was trained on, to choose between them before any dev set is read.

    python -m data_scripts.compare --work DIR --other DIR NETWORK...

NETWORK is a stock folder of a cross-encoder or a bi-encoder. ROC AUC on the held-out worlds of the clusters and on held
out parts of other sets, average precision on validation parts. WORK is the folder of `data_scripts.shipped_model`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from data_scripts import mix
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.ensemble import CosineScorer
from dupq.training.precision import bfloat16_is_faster
from dupq.types import Scorer

MAX_PAIRS = 1_000
WIDTH = 36
"""Characters of the column of names."""
OTHER = ("semantoneg", "syntactic_swaps", "text2sql_questions", "parade_train")


def held_out_sets(work: Path, other: Path, max_pairs: int = MAX_PAIRS) -> dict[str, mix.Rows]:
    """Return held-out rows by name, at most `max_pairs` of each."""
    sets = {"worlds": mix.cluster_rows(True), "posts": mix.post_rows(True)}
    sets |= {name: mix.other_rows(other, name, held_out=True) for name in OTHER}
    sets |= {name: mix.labelled_rows(work / name / "validation.jsonl", name) for name in ("splits", "paws", "twitter")}
    return {name: mix.sample(rows, max_pairs) for name, rows in sets.items()}


def open_scorer(folder: Path) -> Scorer:
    """Open a stock network as a scorer."""
    names = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    if any("Pooling" in module["type"] for module in names):
        return CosineScorer(BiEncoder(str(folder)))
    return CrossEncoderScorer(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", type=Path, metavar="NETWORK")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--max-pairs", type=int, default=MAX_PAIRS, help=f"pairs of each set (default: {MAX_PAIRS})")
    args = parser.parse_args()
    sets = held_out_sets(args.work, args.other, args.max_pairs)
    print("network".ljust(WIDTH), *(f"{name[:9]:>9}" for name in sets))
    for folder in args.networks:
        scorer, figures = open_scorer(folder), []
        for name, rows in sets.items():
            left, right, labels = ([row[key] for row in rows] for key in ("question1", "question2", "label"))
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16_is_faster()):
                scores = scorer.score(left, right)
            measure = average_precision_score if name in ("splits", "paws", "twitter") else roc_auc_score
            figures.append(measure(np.array(labels), scores))
        print("/".join(folder.parts[-2:]).ljust(WIDTH), *(f"{figure:9.4f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
