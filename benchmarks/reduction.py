"""How many dimensions a bi-encoder needs: average precision of the cosine, with fewer and fewer of the principal ones.

    python -m benchmarks.reduction BI_ENCODER --splits DIR --train PAIRS

BI_ENCODER: a stock network that has all its dimensions; --splits: a folder with validation and calibration pairs that
it has not met, --train: the pairs that it learned. The directions are those of training questions, as `dupq reduce`
finds them. Training pairs are measured too: what a network has by heart shows there. No test pair is read, as the
number that ships was chosen by this. Writes `benchmarks/results/reduction.md`, in two minutes.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks.readme import RESULTS
from dupq.data.splits import PairTable, load_pairs
from dupq.data.writing import write_json, write_text
from dupq.models.bi_encoder import BiEncoder
from dupq.training.reduction import MOST_TEXTS, principal_directions

DIMENSIONS = (320, 256, 224, 192, 160, 128, 64, 32)
POWERS = (0.0, 0.1, 0.2, 0.5)
TRAINING_PAIRS = 8000


def precisions(parts: dict[str, PairTable], known: dict[str, int], vectors: NDArray[np.float32]) -> dict[str, float]:
    """The average precision on each part, and on all that were not trained on together."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = {
        name: (unit[[known[text] for text in part.left]] * unit[[known[text] for text in part.right]]).sum(axis=1)
        for name, part in parts.items()
    }
    found = {name: float(average_precision_score(part.labels, cosines[name])) for name, part in parts.items()}
    new = [name for name in parts if name != "training"]
    labels, scores = (
        np.concatenate(list(each)) for each in zip(*((parts[n].labels, cosines[n]) for n in new), strict=True)
    )
    return {**found, "both": float(average_precision_score(labels, scores))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bi_encoder", type=Path)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    args = parser.parse_args()
    natural, every = load_pairs(args.train, where={"natural": "1"}), load_pairs(args.train)
    parts = {
        "training": natural.take(np.sort(np.random.default_rng(0).permutation(len(natural))[:TRAINING_PAIRS])),
        **{name: load_pairs(args.splits / f"{name}.jsonl") for name in ("validation", "calibration")},
    }
    drawn = random.Random(0).sample(distinct := sorted({*every.left, *every.right}), min(MOST_TEXTS, len(distinct)))
    texts = sorted({text for part in parts.values() for text in (*part.left, *part.right)} | set(drawn))
    known = {text: row for row, text in enumerate(texts)}
    vectors = BiEncoder(args.bi_encoder, device="cpu").embed(texts)
    found = [{"dimensions": vectors.shape[1], "power": 0.0, "kept": 1.0, **precisions(parts, known, vectors)}]
    for dimensions in DIMENSIONS:
        for power in POWERS:
            matrix, kept = principal_directions(vectors[[known[text] for text in drawn]], dimensions, power)
            reduced = vectors @ matrix.T.astype(np.float32)
            found.append({"dimensions": dimensions, "power": power, "kept": kept, **precisions(parts, known, reduced)})
    sizes = {name: len(part) for name, part in parts.items()}
    write_json(RESULTS / "reduction.json", {"command": "python -m benchmarks.reduction", "pairs": sizes, "rows": found})
    names = [*parts, "both"]
    lines = [
        "# A bi-encoder of fewer dimensions",
        "",
        f"`python -m benchmarks.reduction`: average precision of the cosine on {sizes['training']:,} training pairs, "
        f"{sizes['validation']:,} validation and {sizes['calibration']:,} calibration pairs, and on the last two "
        "together. The directions are those of training questions (`dupq reduce`); a direction counts by its singular "
        "value to the power. The first row is the network as it was trained.",
        "",
        f"| dimensions | power | squared length kept | {' | '.join(names)} |",
        f"|{'---|' * (3 + len(names))}",
        *(
            f"| {row['dimensions']} | {row['power']:g} | {row['kept']:.1%} | "
            + " | ".join(f"{row[name]:.4f}" for name in names)
            + " |"
            for row in found
        ),
        "",
    ]
    write_text(RESULTS / "reduction.md", "\n".join(lines))


if __name__ == "__main__":
    main()
