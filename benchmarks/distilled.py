"""How near the students of the shipped model's teacher come to it, on pairs they learned from and on pairs never met.

    python -m benchmarks.distilled --teacher DIR --student NAME=DIR... --learned PAIRS --new PAIRS [--where natural=1]

Of either file `--count` pairs are drawn. A student that is ahead of its teacher on pairs it learned from, and behind on
new ones, has them by heart. The networks run in bfloat16 where that is faster. Results go to
`benchmarks/results/distilled.json`; `python -m benchmarks.model` puts them beside the log of training.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.elsewhere import interval, precisions
from benchmarks.model import DISTILLED
from dupq.cli.console import parse_where
from dupq.data.splits import PairTable, load_pairs
from dupq.data.writing import write_json
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.training.precision import bfloat16_is_faster


def sample(path: str, where: list[str] | None, count: int) -> PairTable:
    """So many pairs of a file, always the same."""
    pairs = load_pairs(path, where=parse_where(where))
    return pairs.take(np.sort(np.random.default_rng(0).permutation(len(pairs))[:count]))


def compare(scores: list[NDArray[np.float64]], pairs: PairTable, resamples: int) -> list[dict[str, Any]]:
    """Average precision of each scorer, the first of which is the teacher, what it is behind, and how far off it is."""
    point, resampled = precisions(scores, pairs, resamples)
    probabilities = [1 / (1 + np.exp(-score)) for score in scores]
    return [
        {
            "average_precision": interval(value, resampled[:, at]),
            "behind": interval(point[0] - value, resampled[:, 0] - resampled[:, at]),
            "distance": float(np.abs(probabilities[at] - probabilities[0]).mean()),
        }
        for at, value in enumerate(point)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", required=True, action="append", metavar="NAME=DIR")
    parser.add_argument("--learned", required=True, help="labelled pairs that all of them were trained on")
    parser.add_argument("--new", required=True, help="labelled pairs that none of them was trained on")
    parser.add_argument("--where", action="append", metavar="COLUMN=VALUE", help="such rows only, of the former")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--resamples", type=int, default=500)
    args = parser.parse_args()
    networks = {"teacher": args.teacher} | dict(told.split("=", 1) for told in args.student)
    scorers = [CrossEncoderScorer(folder) for folder in networks.values()]
    rows: list[dict[str, Any]] = [{"network": name} for name in networks]
    for name, path, where in (("learned", args.learned, args.where), ("new", args.new, None)):
        pairs = sample(path, where, args.count)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16_is_faster()):
            scores = [scorer.score(pairs.left, pairs.right) for scorer in scorers]
        for row, figures in zip(rows, compare(scores, pairs, args.resamples), strict=True):
            row[name] = figures
            print(name, row["network"], figures, flush=True)
    write_json(DISTILLED, {"command": "python -m benchmarks.distilled", "pairs": args.count, "rows": rows})


if __name__ == "__main__":
    main()
