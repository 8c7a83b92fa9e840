"""How good each network is, alone and together, on pairs of question groups that no network was trained on.

    python -m benchmarks.quality --splits DIR --corpus FILE --base DIR... --bi-encoder DIR --cross-encoder DIR

Splits come from `dupq data split`; networks from `dupq train`, or, in int8, from an exported pipeline. Scores are
stacked on the validation split; for each scorer a calibrator is fitted on the calibration split, a pair counts as
called a duplicate from a calibrated probability of 0.5, and all is measured on the test split. Results go to
`benchmarks/results/quality.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.readme import RESULTS
from dupq.calibration.calibrators import fit_calibrator
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.reading import read_pairs
from dupq.data.writing import write_json
from dupq.evaluation.metrics import compute_metrics
from dupq.models.bi_encoder import BiEncoder
from dupq.models.ensemble import CosineScorer, fit_weights
from dupq.models.idf_overlap import IdfOverlap
from dupq.models.loading import form_of, load_bi_encoder, load_cross_encoder
from dupq.models.scoring_options import with_symmetry
from dupq.training.trainer import versions
from dupq.types import Scorer


def score(name: str, scorer: Scorer, splits: dict[str, PairTable]) -> dict[str, Any]:
    """The raw scores of one scorer on every split, and how fast it went."""
    start = time.perf_counter()
    scores = {split: scorer.score(pairs.left, pairs.right) for split, pairs in splits.items()}
    pairs = sum(len(split) for split in splits.values())
    return {"name": name, "scores": scores, "pairs_per_second": pairs / (time.perf_counter() - start)}


def combined(name: str, weights: Sequence[float], offset: float, members: list[dict[str, Any]]) -> dict[str, Any]:
    """The weighted sum of the scores of some members, and an offset."""
    stacked = {split: np.stack([member["scores"][split] for member in members]) for split in members[0]["scores"]}
    seconds = sum(1 / member["pairs_per_second"] for member in members)
    return {
        "name": name,
        "scores": {split: offset + np.tensordot(weights, scores, 1) for split, scores in stacked.items()},
        "pairs_per_second": 1 / seconds,
    }


def measure(row: dict[str, Any], splits: dict[str, PairTable], resamples: int) -> dict[str, Any]:
    """The figures of one scorer on the test split."""
    scores, calibration, test = row.pop("scores"), splits["calibration"], splits["test"]
    calibrator = fit_calibrator(scores["calibration"], calibration.labels, calibration.groups)
    # The cut of highest accuracy that a calibrated probability promises; the best of few pairs would be a lucky one.
    sure = calibrator.probabilities(scores["calibration"]) >= 0.5
    cut = float(scores["calibration"][sure].min())
    probabilities = calibrator.probabilities(scores["test"])
    figures = compute_metrics(scores["test"], probabilities, test.labels, test.groups, cut, resamples=resamples)
    ap, accuracy, ece = (figures[name] for name in ("average_precision", "accuracy", "ece_mass"))
    print(f"{row['name']:<40} AP {ap}  accuracy {accuracy}  ECE {ece}", flush=True)
    metrics = {name: figure.to_dict() for name, figure in figures.items()}
    return {**row, "calibrator": calibrator.kind, "cut": cut, "metrics": metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", required=True)
    parser.add_argument("--corpus", required=True, help="pairs that tell which words are rare: those trained on")
    parser.add_argument("--base", nargs="+", required=True, help="encoders that were not trained by us")
    parser.add_argument("--bi-encoder", required=True)
    parser.add_argument("--cross-encoder", required=True)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("-o", "--output", default=str(RESULTS / "quality.json"))
    args = parser.parse_args()
    splits = {name: load_pairs(Path(args.splits) / f"{name}.jsonl") for name in ("validation", "calibration", "test")}
    bi_encoder = CosineScorer(load_bi_encoder(form_of(args.bi_encoder), Path(args.bi_encoder), long_texts="lead"))
    cross_encoder = load_cross_encoder(form_of(args.cross_encoder), Path(args.cross_encoder))
    bi, cross = (
        score("bi-encoder", bi_encoder, splits),
        score("cross-encoder, one order (canonical)", cross_encoder, splits),
    )
    doubtful, twice = with_symmetry(cross_encoder, "adaptive"), with_symmetry(cross_encoder, "both")
    first = score("cross-encoder, both orders where it matters (adaptive)", doubtful, splits)
    members, labels = [first, bi], splits["validation"].labels
    # A plain mean, each first put on the scale of log-odds by itself.
    alone = [fit_weights(member["scores"]["validation"][None], labels) for member in members]
    halves, constant = [weights[0] / 2 for weights, _ in alone], sum(offset for _, offset in alone) / 2
    told = (text for pair in read_pairs(args.corpus) for text in (pair.question1, pair.question2))
    words = score("shared words", IdfOverlap.of(told), splits)

    def stacked(name: str, *rows: dict[str, Any], signed: tuple[int, ...] = ()) -> dict[str, Any]:
        weights, offset = fit_weights(np.stack([row["scores"]["validation"] for row in rows]), labels, signed=signed)
        return combined(name, weights, offset, list(rows))

    rows = [
        *(score(f"{Path(base).name} as published", CosineScorer(BiEncoder(base)), splits) for base in args.base),
        bi,
        cross,
        score("cross-encoder, the mean of both orders (both)", twice, splits),
        first,
        combined("that and the bi-encoder, averaged logits", halves, constant, members),
        stacked("that and the bi-encoder, stacked logits", *members),
        stacked("that, the bi-encoder and shared words, stacked", *members, words, signed=(2,)),
    ]
    rows = [measure(row, splits, args.resamples) for row in rows]
    write_json(
        args.output,
        {
            "command": "python -m benchmarks.quality",
            "splits": {
                name: {"pairs": len(pairs), "base_rate": pairs.base_rate, "fingerprint": pairs.fingerprint}
                for name, pairs in splits.items()
            },
            "versions": versions(),
            "forms": {"bi-encoder": form_of(args.bi_encoder), "cross-encoder": form_of(args.cross_encoder)},
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
