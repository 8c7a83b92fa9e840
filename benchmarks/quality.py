"""How good each network is, alone and together, on pairs of question groups that no network was trained on.

    python -m benchmarks.quality --splits DIR --base DIR --bi-encoder DIR --cross-encoder DIR

Splits come from `dupq split`; networks from `dupq train`, or, in int8, out of a pipeline that was exported. Scores are
stacked on the validation split; for each scorer a calibrator is fitted on the calibration split, a pair counts as
called a duplicate from a calibrated probability of 0.5, and all is measured on the test split. Results go to
`benchmarks/results/quality.json`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.readme import RESULTS
from dupq.data.splits import PairTable, load_pairs
from dupq.data.writing import write_json
from dupq.decisions.calibration import fit_calibrator
from dupq.decisions.metrics import evaluate
from dupq.models.bi_encoder import BiEncoder
from dupq.models.networks import form_of, in_both_orders, open_bi_encoder, open_cross_encoder
from dupq.models.scorers import BlendScorer, CosineScorer, Scorer, fit_weights
from dupq.training.stacked_teacher import SharedWordsScorer
from dupq.training.trainer import versions


def score(name: str, scorer: Scorer, splits: dict[str, PairTable]) -> dict[str, Any]:
    """The raw scores of one scorer on every split, and how fast it went."""
    start = time.perf_counter()
    scores = {split: scorer.score(pairs.left, pairs.right) for split, pairs in splits.items()}
    pairs = sum(len(split) for split in splits.values())
    return {"name": name, "scores": scores, "pairs_per_second": pairs / (time.perf_counter() - start)}


def combined(name: str, blend: BlendScorer, members: list[dict[str, Any]]) -> dict[str, Any]:
    """The scores of a blend, from those of its members."""
    stacked = {split: np.stack([member["scores"][split] for member in members]) for split in members[0]["scores"]}
    seconds = sum(1 / member["pairs_per_second"] for member in members)
    return {
        "name": name,
        "scores": {split: blend.combine(scores) for split, scores in stacked.items()},
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
    figures = evaluate(scores["test"], probabilities, test.labels, test.groups, cut, resamples=resamples)
    ap, accuracy, ece = (figures[name] for name in ("average_precision", "accuracy", "ece_mass"))
    print(f"{row['name']:<40} AP {ap}  accuracy {accuracy}  ECE {ece}", flush=True)
    metrics = {name: figure.to_dict() for name, figure in figures.items()}
    return {**row, "calibrator": calibrator.kind, "cut": cut, "metrics": metrics}


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
    bi_encoder = CosineScorer(open_bi_encoder(form_of(args.bi_encoder), Path(args.bi_encoder)))
    cross_encoder = open_cross_encoder(form_of(args.cross_encoder), Path(args.cross_encoder))
    bi, cross = score("bi-encoder", bi_encoder, splits), score("cross-encoder", cross_encoder, splits)
    members, labels = [cross, bi], splits["validation"].labels
    weights, offset = fit_weights(np.stack([member["scores"]["validation"] for member in members]), labels)
    stacked = BlendScorer((cross_encoder, bi_encoder), weights, offset)
    # A plain mean, each first put on the scale of log-odds by itself.
    alone = [fit_weights(member["scores"]["validation"][None], labels) for member in members]
    averaged = BlendScorer(stacked.scorers, tuple(w[0] / 2 for w, _ in alone), sum(b for _, b in alone) / 2)
    twice = in_both_orders(cross_encoder)
    both_orders = score("cross-encoder, both orders averaged", twice, splits)
    # The stack that `dupq distil targets --pipeline` makes, of scores that are at hand.
    shared = SharedWordsScorer.of(text for pairs in splits.values() for text in (*pairs.left, *pairs.right))
    teachers = [both_orders, bi, score("shared words", shared, splits)]
    weights, offset = fit_weights(np.stack([one["scores"]["validation"] for one in teachers]), labels, signed=True)
    teacher = BlendScorer((twice, bi_encoder, shared), weights, offset)
    rows = [
        score("untrained encoder (cosine)", CosineScorer(BiEncoder(args.base)), splits),
        bi,
        cross,
        both_orders,
        combined("both, averaged logits", averaged, members),
        combined("both, stacked logits", stacked, members),
        combined("both orders and both networks, stacked with the shared words", teacher, teachers),
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
