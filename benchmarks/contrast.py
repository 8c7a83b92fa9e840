"""How a pipeline decides contrast pairs made from words and templates that were kept out of training.

    python -m benchmarks.contrast PAIRS [--model DIR]

PAIRS is a test split; its questions are rewritten (`dupq distil contrast --held-out`). Of each kind of change: the
share decided wrongly, that is a pair that is distinct and flagged, or a duplicate and not flagged. A pair sent to
review is not flagged. Results go to `benchmarks/results/contrast.json`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.readme import RESULTS
from dupq import DuplicatePipeline
from dupq.data.splits import load_pairs
from dupq.data.writing import write_json
from dupq.decisions.metrics import wilson
from dupq.records import Decision
from dupq.training.contrast import KINDS, contrast_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs")
    parser.add_argument("--model", help="pipeline folder (default: the shipped one)")
    parser.add_argument("--per-kind", type=int, default=500)
    parser.add_argument("-o", "--output", default=str(RESULTS / "contrast.json"))
    args = parser.parse_args()
    pairs = load_pairs(args.pairs)
    made = contrast_pairs(sorted({*pairs.left, *pairs.right}), args.per_kind, held_out=True)
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    scored = pipeline.score_pairs(made.pairs.left, made.pairs.right)
    flagged = np.array([score.decision == Decision.DUPLICATE for score in scored])
    wrong, kinds = flagged != (made.pairs.labels == 1), np.array(made.kinds)
    rows: list[dict[str, Any]] = []
    for kind in (*KINDS, "all"):
        place = kinds == kind if kind != "all" else np.ones(len(kinds), dtype=bool)
        low, high = wilson(float(wrong[place].mean()), int(place.sum()))
        rows.append(
            {
                "kind": kind,
                "pairs": int(place.sum()),
                "duplicates": float((made.pairs.labels[place] == 1).mean()),
                "error": {"value": float(wrong[place].mean()), "low": low, "high": high},
                "mean_probability": float(
                    np.mean([score.probability for score, at in zip(scored, place, strict=True) if at])
                ),
            }
        )
        print(f"{kind:<14} {rows[-1]['pairs']:>5} pairs  error {rows[-1]['error']['value']:.3f} ({low:.3f}-{high:.3f})")
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
