"""How the shipped model does on pairs of other worlds, beside the cosine of encoders that were not trained by us.

    python -m benchmarks.elsewhere [NAME=PAIRS...] [--other DIR] --encoders DIR|ID... [--model DIR]

PAIRS is a labelled set, or a folder of splits whose test part is taken; no network may have been trained on it. DIR of
`--other` holds the sets of `OTHER`; the parts that `data_scripts.mix` trains on are left out. So are pairs that hold a
question the model has met all the same, as by `dupq evaluate --unseen`.

Ranking: average precision and ROC AUC, and the gain over each encoder, of the difference within the same resampled
question groups. The encoders run in bfloat16 where that is faster. Accuracy: at the shipped threshold. Calibration: the
expected calibration error (ECE) of the shipped calibrator at the set's own base rate, as `with_base_rate` states it,
and after `adapt` with 200 labels, measured on question groups without a label and averaged over draws. A debiased ECE
is the ECE less that of a perfectly calibrated model on the same pairs, 0 where that is more.

Results go to `benchmarks/results/elsewhere.json`; sets measured earlier with the same model stay in it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.readme import RESULTS
from data_scripts.mix import other_rows
from dupq import DuplicatePipeline
from dupq.calibration.adaptation import adapt_calibrator
from dupq.data.grouping import holds_trained
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.reading import ReadReport
from dupq.data.writing import write_json
from dupq.decisions.decider import Decider
from dupq.evaluation.metrics import compute_metrics, ece_of_calibrated
from dupq.models.bi_encoder import BiEncoder
from dupq.models.ensemble import CosineScorer
from dupq.training.precision import bfloat16_is_faster
from dupq.types import Scorer

Floats = NDArray[np.float64]

OTHER = {
    "PARADE": "parade_validation",
    "SemAntoNeg": "semantoneg",
    "syntactic swaps": "syntactic_swaps",
    "text-to-SQL": "text2sql_questions",
}
"""Row -> file of `--other`, of which the part held out is measured; of a file that trains nothing, all."""
RANKING = {"average_precision": average_precision_score, "roc_auc": roc_auc_score}
LABELS, DRAWS = 200, 20
"""Number of labels that `adapt` gets, and how often they are drawn."""
ENOUGH = 2000
"""Calibration errors of fewer pairs are mostly noise."""


def ranking(scores: list[Floats], pairs: PairTable, resamples: int) -> tuple[Floats, Floats]:
    """Return the metrics of `RANKING`, (metrics, scorers), and those of each resample of the groups, the first axis."""
    _, groups = np.unique(pairs.groups, return_inverse=True)
    rng, count = np.random.default_rng(0), int(groups.max()) + 1

    def figures(weights: NDArray[np.int64]) -> list[list[float]]:
        return [[measure(pairs.labels, one, sample_weight=weights) for one in scores] for measure in RANKING.values()]

    drawn = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(count, size=count), minlength=count)[groups]
        if 0 < weights @ pairs.labels < weights.sum():
            drawn.append(figures(weights))
    return np.array(figures(np.ones_like(groups))), np.array(drawn)


def interval(value: float, drawn: Floats) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(value), "low": float(low), "high": float(high)}


def decided(decider: Decider, scores: Floats, pairs: PairTable, resamples: int) -> dict[str, Any]:
    """Return accuracy at the shipped threshold, and calibration at the base rate of the pairs."""
    p = decider.calibrator.probabilities(scores, pairs.base_rate)
    found = compute_metrics(scores, p, pairs.labels, pairs.groups, decider.rule.duplicate.score, resamples=resamples)
    noise, ece = ece_of_calibrated(p), found["ece_mass"].to_dict()
    return {
        "accuracy": found["accuracy"].to_dict(),
        "ece": ece,
        "ece_of_calibrated": noise,
        "ece_debiased": {key: max(value - noise, 0.0) for key, value in ece.items()},
        "rms_debiased": found["ece_debiased"].to_dict(),
    }


def labelled_draws(pairs: PairTable) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield positions of `LABELS` pairs of random question groups, and of all pairs of the other groups."""
    _, groups = np.unique(pairs.groups, return_inverse=True)
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        rank = rng.permutation(groups.max() + 1)[groups]
        order = np.lexsort((rng.random(len(pairs)), rank))
        labelled = order[:LABELS]
        yield labelled, np.flatnonzero(rank > rank[labelled[-1]])


def adapted(decider: Decider, scores: Floats, pairs: PairTable) -> dict[str, Any] | None:
    """Return calibration on groups without a label, after adapting to `LABELS` pairs; None if they are too few."""
    errors, rms, rest_sizes = [], [], []
    groups = pairs.groups
    for labelled, rest in labelled_draws(pairs):
        if len(rest) < LABELS or len(set(pairs.labels[rest])) < 2:
            return None
        local = adapt_calibrator(decider.calibrator, scores[labelled], pairs.labels[labelled], groups[labelled])
        p = local.probabilities(scores[rest])
        found = compute_metrics(scores[rest], p, pairs.labels[rest], groups[rest], None, resamples=0)
        errors.append(found["ece_mass"].value - ece_of_calibrated(p))
        rms.append(found["ece_debiased"].value)
        rest_sizes.append(len(rest))
    debiased = interval(float(np.mean(errors)), np.array(errors))
    return {
        "labels": LABELS,
        "draws": DRAWS,
        "measured_on": float(np.mean(rest_sizes)),
        "ece_debiased": {key: max(value, 0.0) for key, value in debiased.items()},
        "rms_debiased": interval(float(np.mean(rms)), np.array(rms)),
    }


def row_of(pipeline: DuplicatePipeline, encoders: Mapping[str, Scorer], every: PairTable, resamples: int) -> Any:
    """Return all figures of one labelled set."""
    pairs = every.take(~holds_trained(pipeline.trained_on, every.left, every.right))
    scores = [pipeline.raw_scores(pairs.left, pairs.right)]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16_is_faster()):
        scores += [scorer.score(pairs.left, pairs.right) for scorer in encoders.values()]
    point, drawn = ranking(scores, pairs, resamples)
    beside: dict[str, Any] = {}
    for at, encoder in enumerate(encoders, start=1):
        beside[encoder] = {name: interval(point[m, at], drawn[:, m, at]) for m, name in enumerate(RANKING)}
        beside[encoder]["gain"] = {
            name: interval(point[m, 0] - point[m, at], drawn[:, m, 0] - drawn[:, m, at])
            for m, name in enumerate(RANKING)
        }
    return {
        "pairs": len(pairs),
        "groups": len(set(pairs.groups)),
        "left_out": len(every) - len(pairs),
        "duplicates": pairs.base_rate,
        "enough_for_calibration": len(pairs) >= ENOUGH,
        "metrics": {
            **{name: interval(point[m, 0], drawn[:, m, 0]) for m, name in enumerate(RANKING)},
            **decided(pipeline.decider, scores[0], pairs, resamples),
        },
        "adapted": adapted(pipeline.decider, scores[0], pairs),
        "encoders": beside,
    }


def other_pairs(folder: Path, file: str) -> PairTable:
    """Return the part of a set of `--other` that trains nothing."""
    if file.endswith("_validation"):
        return load_pairs(folder / f"{file}.tsv.xz")
    return load_pairs(other_rows(folder, file, held_out=True))


def sets(named: list[str], other: str | None) -> Iterator[tuple[str, PairTable, int]]:
    """Yield name, pairs and number of bad rows of each set."""
    for name, _, place in (text.partition("=") for text in named):
        path, reading = Path(place), ReadReport(skip_bad=True)
        yield name, load_pairs(path / "test.jsonl" if path.is_dir() else path, report=reading), reading.rejected
    for name, file in OTHER.items() if other else ():
        yield name, other_pairs(Path(str(other)), file), 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="NAME=PAIRS")
    parser.add_argument("--other", metavar="DIR", help="folder of the sets of `OTHER`")
    parser.add_argument("--encoders", nargs="+", required=True, metavar="DIR|ID")
    parser.add_argument("--model", help="pipeline folder (default: the shipped one)")
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("-o", "--output", default=str(RESULTS / "elsewhere.json"))
    args = parser.parse_args()
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    encoders = {Path(name).name: CosineScorer(BiEncoder(name)) for name in args.encoders}
    output = Path(args.output)
    result = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    same = result.get("model") == pipeline.fingerprint
    rows = {row["name"]: row for row in result["rows"]} if same else {}
    for name, pairs, skipped in sets(args.sets, args.other):
        row = {"name": name, "skipped": skipped, **row_of(pipeline, encoders, pairs, args.resamples)}
        rows[name] = row
        about = {"command": "python -m benchmarks.elsewhere", "model": pipeline.fingerprint}
        write_json(output, {**about, "resamples": args.resamples, "rows": list(rows.values())})
        found = {key: row["metrics"][key]["value"] for key in ("average_precision", "roc_auc", "ece_debiased")}
        print(name, len(pairs), *(f"{key} {value:.3f}" for key, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
