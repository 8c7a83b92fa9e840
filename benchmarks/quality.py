"""How good each network is, alone and together, on pairs of question groups that no network was trained on.

    python -m benchmarks.quality --splits DIR --base DIR --bi-encoder DIR --cross-encoder DIR

Splits come from `dupq split`, networks from `dupq train`. For each scorer a calibrator and a maximum-F1 threshold are
fitted on the calibration split, the threshold of highest accuracy on the validation split, and all is measured on the
test split. Results go to `benchmarks/results/quality.json`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from dupq.decisions.calibration import fit_calibrator

from benchmarks.readme import RESULTS
from dupq.data.splits import PairTable, load_pairs
from dupq.data.writing import write_json
from dupq.decisions.metrics import evaluate
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.scorers import BlendScorer, CosineScorer, Scorer, fit_blend
from dupq.training.trainer import versions


def best_accuracy_cut(scores: Any, labels: Any) -> float:
    """The score from which calling pairs duplicates is right most often."""
    order = np.argsort(-scores, kind="stable")
    gain = np.cumsum(np.where(labels[order] == 1, 1, -1))
    return float(scores[order][int(np.argmax(gain))])


def measure(name: str, scorer: Scorer, splits: dict[str, PairTable], resamples: int) -> dict[str, Any]:
    """The row of one scorer."""
    start = time.perf_counter()
    scores = {split: scorer.score(pairs.left, pairs.right) for split, pairs in splits.items()}
    seconds = time.perf_counter() - start
    calibration, test = splits["calibration"], splits["test"]
    calibrator = fit_calibrator(scores["calibration"], calibration.labels, calibration.groups)
    cut = best_accuracy_cut(scores["validation"], splits["validation"].labels)
    figures = evaluate(
        scores["test"],
        calibrator.probabilities(scores["test"]),
        test.labels,
        test.groups,
        cut,
        resamples=resamples,
    )
    row = {key: figure.to_dict() for key, figure in figures.items()}
    pairs = sum(len(split) for split in splits.values())
    print(
        f"{name:<44} AP {figures['average_precision']}  accuracy {figures['accuracy']}  ECE {figures['ece_mass']}",
        flush=True,
    )
    return {
        "name": name,
        "calibrator": type(calibrator).__name__,
        "cut": cut,
        "pairs_per_second": pairs / seconds,
        "metrics": row,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--bi-encoder", required=True)
    parser.add_argument("--cross-encoder", required=True)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("-o", "--output", default=str(RESULTS / "quality.json"))
    args = parser.parse_args()
    splits = {name: load_pairs(Path(args.splits) / f"{name}.jsonl") for name in ("validation", "calibration", "test")}
    bi_encoder, cross_encoder = CosineScorer(BiEncoder(args.bi_encoder)), CrossEncoderScorer(args.cross_encoder)
    validation = splits["validation"]
    stacked = fit_blend([cross_encoder, bi_encoder], validation.left, validation.right, validation.labels)
    # A plain mean of the two, once each is on the scale of a logit: the cosine's slope there is the stack's own.
    alone = fit_blend([bi_encoder], validation.left, validation.right, validation.labels)
    averaged = BlendScorer((cross_encoder, bi_encoder), (0.5, 0.5 * alone.weights[0]), 0.5 * alone.offset)
    scorers: list[tuple[str, Scorer]] = [
        ("untrained encoder (cosine)", CosineScorer(BiEncoder(args.base))),
        ("bi-encoder", bi_encoder),
        ("cross-encoder", cross_encoder),
        ("cross-encoder, both orders averaged", CrossEncoderScorer(args.cross_encoder, symmetry="both")),
        ("both, averaged logits", averaged),
        ("both, stacked logits", stacked),
    ]
    rows = [measure(name, scorer, splits, args.resamples) for name, scorer in scorers]
    write_json(
        args.output,
        {
            "command": "python -m benchmarks.quality",
            "splits": {
                name: {"pairs": len(pairs), "base_rate": pairs.base_rate, "fingerprint": pairs.fingerprint}
                for name, pairs in splits.items()
            },
            "versions": versions(),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
