"""How a pipeline decides contrast pairs made from words and templates that were kept out of training.

    python -m benchmarks.contrast PAIRS [--model DIR]

PAIRS is a test split; its questions and duplicates are rewritten (`dupq distill contrast --held-out`). The error of a
kind of change is the share decided wrongly, that is a pair that is distinct and flagged, or a duplicate and not
flagged. A pair sent to review is not flagged. The row "unchanged" has labelled duplicates as they are: kinds that
start from them ("paired ...") inherit its error where they keep the label. Results go to
`benchmarks/results/contrast.json`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.readme import RESULTS
from dupq import DuplicatePipeline
from dupq.data.pairs import load_pairs
from dupq.data.writing import write_json
from dupq.evaluation.metrics import wilson
from dupq.training.contrast_sets import KINDS, contrast_pairs
from dupq.types import Decision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs")
    parser.add_argument("--model", help="pipeline folder (default: the shipped one)")
    parser.add_argument("--per-kind", type=int, default=500)
    parser.add_argument("-o", "--output", default=str(RESULTS / "contrast.json"))
    args = parser.parse_args()
    pairs = load_pairs(args.pairs)
    made = contrast_pairs(sorted({*pairs.left, *pairs.right}), args.per_kind, duplicates=pairs, held_out=True)
    known = np.random.default_rng(0).permutation(np.flatnonzero(pairs.labels == 1))[: args.per_kind]
    unchanged = pairs.take(known)
    labels = np.concatenate([made.pairs.labels, unchanged.labels])
    kinds = np.array([*made.kinds, *["unchanged"] * len(unchanged)])
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    scored = pipeline.score_pairs([*made.pairs.left, *unchanged.left], [*made.pairs.right, *unchanged.right])
    wrong = np.array([score.decision == Decision.DUPLICATE for score in scored]) != (labels == 1)
    probabilities = np.array([score.probability for score in scored])
    rows: list[dict[str, Any]] = []
    for kind in (*KINDS, "all", "unchanged"):
        place = kinds == kind if kind != "all" else kinds != "unchanged"
        by_label = [float(wrong[at].mean()) if (at := place & (labels == label)).any() else None for label in (0, 1)]
        low, high = wilson(float(wrong[place].mean()), int(place.sum()))
        rows.append(
            {
                "kind": kind,
                "pairs": int(place.sum()),
                "duplicates": float((labels[place] == 1).mean()),
                "error": {"value": float(wrong[place].mean()), "low": low, "high": high},
                "error_of_distinct": by_label[0],
                "error_of_duplicates": by_label[1],
                "mean_probability": float(probabilities[place].mean()),
            }
        )
        parts = "  ".join(f"{'-' if value is None else f'{value:.3f}':>5}" for value in by_label)
        print(
            f"{kind:<15} {rows[-1]['pairs']:>5} pairs  error {wrong[place].mean():.3f} ({low:.3f}-{high:.3f})  {parts}"
        )
    write_json(
        args.output,
        {
            "command": "python -m benchmarks.contrast",
            "threshold": scored[0].threshold,
            "base_rate": scored[0].base_rate,
            "pairs_fingerprint": pairs.fingerprint,
            "model": pipeline.scorer.fingerprint,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
