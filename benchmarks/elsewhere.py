"""How the shipped model ranks pairs of other worlds, beside the cosine of encoders that were not trained by us.

    python -m benchmarks.elsewhere NAME=PAIRS... --encoders DIR|ID... [--model DIR]

PAIRS is a labelled set, or a folder of splits whose test part is taken; no network may have been trained on it. Pairs
that hold a question the model has met all the same are left out, as by `dupq evaluate --unseen`. The gain over each
encoder comes with its 95 % interval, of the difference within the same resampled question groups. The encoders run in
bfloat16 where that is faster. Results go to `benchmarks/results/elsewhere.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks.readme import RESULTS
from dupq import DuplicatePipeline
from dupq.data.grouping import holds_trained
from dupq.data.reading import Skipped
from dupq.data.splits import PairTable, load_pairs
from dupq.data.writing import write_json
from dupq.models.bi_encoder import BiEncoder
from dupq.models.scorers import CosineScorer
from dupq.training.precision import bfloat16_is_faster


def precisions(
    scores: list[NDArray[np.float64]], pairs: PairTable, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average precisions of the scorers, (scorers,), and of each resample of the groups, (resamples, scorers)."""
    _, groups = np.unique(pairs.groups, return_inverse=True)
    rng, count = np.random.default_rng(0), int(groups.max()) + 1
    point = np.array([average_precision_score(pairs.labels, score) for score in scores])
    drawn = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(count, size=count), minlength=count)[groups]
        drawn.append([average_precision_score(pairs.labels, score, sample_weight=weights) for score in scores])
    return point, np.array(drawn)


def interval(value: float, drawn: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(value), "low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=PAIRS")
    parser.add_argument("--encoders", nargs="+", required=True, metavar="DIR|ID")
    parser.add_argument("--model", help="pipeline folder (default: the shipped one)")
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("-o", "--output", default=str(RESULTS / "elsewhere.json"))
    args = parser.parse_args()
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    encoders = {Path(name).name: CosineScorer(BiEncoder(name)) for name in args.encoders}
    rows: list[dict[str, Any]] = []
    for told in args.sets:
        name, _, place = told.partition("=")
        path, skipped = Path(place), Skipped()
        every = load_pairs(path / "test.jsonl" if path.is_dir() else path, skipped=skipped)
        pairs = every.take(~holds_trained(pipeline.trained_on, every.left, every.right))
        scores = [pipeline.raw_scores(pairs.left, pairs.right)]
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16_is_faster()):
            scores += [scorer.score(pairs.left, pairs.right) for scorer in encoders.values()]
        point, drawn = precisions(scores, pairs, args.resamples)
        flagged = scores[0] >= pipeline.rule.duplicate.score
        rows.append(
            {
                "name": name,
                "pairs": len(pairs),
                "left_out": len(every) - len(pairs),
                "skipped": skipped.count,
                "duplicates": float(pairs.labels.mean()),
                "average_precision": interval(point[0], drawn[:, 0]),
                "accuracy": float((flagged == (pairs.labels == 1)).mean()),
                "encoders": {
                    encoder: {
                        "average_precision": interval(point[at], drawn[:, at]),
                        "gain": interval(point[0] - point[at], drawn[:, 0] - drawn[:, at]),
                    }
                    for at, encoder in enumerate(encoders, start=1)
                },
            }
        )
        print(name, point.round(4), flush=True)
    write_json(args.output, {"command": "python -m benchmarks.elsewhere", "resamples": args.resamples, "rows": rows})


if __name__ == "__main__":
    main()
