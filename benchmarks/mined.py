"""How well a pipeline decides mined candidates, with and without a calibrator of their own.

    python -m benchmarks.mined --judged FILE [--model DIR]

FILE holds judged candidates with sampling weights. The calibrator and threshold of candidates are fitted on four fifths
of the question groups and measured on the last, five times; the figures are of the held-out parts alone and weighted.
Intervals are 95 % percentiles over resampled question groups. `metrics` is of the calibrator that
`pipeline.calibrate_candidates` fits, which reads the cosine of a pair beside its score; `score_alone` of one without
it; `without` of the plain probability and threshold, which know no candidate. `trade_off` has precision and recall
of what each calibrator flags at several expected precisions. Results go to `benchmarks/results/mined.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks.readme import RESULTS
from dupq import DuplicatePipeline, load_judged
from dupq.calibration.calibrators import Calibrator, group_folds
from dupq.calibration.candidates import effective_number
from dupq.data.grouping import holds_trained
from dupq.data.writing import write_json
from dupq.decisions.candidate_calibration import DEFAULT_POLICY, calibrate_candidates
from dupq.decisions.thresholds import Policy
from dupq.models.ensemble import COSINE_SCALE, CosineScorer

Floats = NDArray[np.float64]
FOLDS = 5
LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Expected precisions of the trade-off between precision and recall."""


def figures(p: Floats, flagged: NDArray[np.bool_], y: Floats, w: Floats) -> dict[str, float]:
    """The weighted figures of one way to decide; NaN where nothing is flagged."""
    mass, true = float(w @ flagged), float(w @ (flagged * y))
    precision = true / mass if mass else float("nan")
    stated = float(w @ (flagged * p)) / mass if mass else float("nan")
    return {
        "precision": precision,
        "stated": stated,
        "gap": abs(stated - precision),
        "recall": true / float(w @ y),
        "average_precision": float(average_precision_score(y, p, sample_weight=w)),
    }


def measure(
    p: Floats, flagged: NDArray[np.bool_], y: Floats, w: Floats, groups: NDArray[np.int64], resamples: int
) -> dict[str, dict[str, float | None]]:
    """The figures with their intervals over resampled groups; None where undefined."""
    rng, count = np.random.default_rng(0), int(groups.max()) + 1
    drawn: list[dict[str, float]] = []
    while len(drawn) < resamples:
        again = w * np.bincount(rng.integers(count, size=count), minlength=count)[groups]
        if again @ y > 0:
            drawn.append(figures(p, flagged, y, again))
    found: dict[str, dict[str, float | None]] = {}
    for name, value in figures(p, flagged, y, w).items():
        values = np.array([row[name] for row in drawn])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (float("nan"),) * 2
        numbers = {"value": value, "low": float(low), "high": float(high)}
        found[name] = {end: number if np.isfinite(number) else None for end, number in numbers.items()}
    return found


def cross_fitted(
    calibrator: Calibrator,
    inputs: tuple[Floats, Floats | None],
    y: Floats,
    w: Floats,
    fold: NDArray[np.int64],
    policies: list[Policy],
) -> tuple[Floats, NDArray[np.bool_]]:
    """Probabilities (n,) and flags (policies, n) of each fold by a calibration on the others.

    Args:
        calibrator: That of labelled pairs.
        inputs: Raw scores and cosines (n,); None: the score is the only input.
        y, w, fold: Labels, weights and folds, (n,).
        policies: Policies of the threshold.
    """
    scores, cosines = inputs
    p, flagged = np.empty(len(y)), np.zeros((len(policies), len(y)), bool)
    for k in np.unique(fold):
        learn, test = fold != k, fold == k
        known, new = (None if cosines is None else cosines[part] for part in (learn, test))
        fitted = calibrate_candidates(calibrator, scores[learn], y[learn], w[learn], cosines=known)
        p[test] = fitted.calibrator.probabilities(scores[test], cosines=new)
        for row, policy in zip(flagged, policies, strict=True):
            row[test] = p[test] >= fitted.with_policy(policy).threshold
    return p, flagged


def log_loss(p: Floats, y: Floats) -> Floats:
    """The log loss of each pair, (n,)."""
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return np.asarray(-np.where(y == 1, np.log(p), np.log1p(-p)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judged", required=True)
    parser.add_argument("--model", help="pipeline folder (default: the shipped model)")
    parser.add_argument("--policy", default=None, help="policy of the threshold (default: that of dupq)")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("-o", "--output", default=str(RESULTS / "mined.json"))
    args = parser.parse_args()
    pairs, w = load_judged(args.judged)
    policy = DEFAULT_POLICY if args.policy is None else Policy.parse(args.policy)
    y, (_, groups) = pairs.labels.astype(np.float64), np.unique(pairs.groups, return_inverse=True)
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    plain = pipeline.decider
    scores = pipeline.raw_scores(pairs.left, pairs.right)
    embedder, cosines = pipeline.bi_encoder, None
    if embedder is not None and pipeline.cross_encoder is not None:
        cosines = CosineScorer(embedder).score(pairs.left, pairs.right) / COSINE_SCALE
    fold = group_folds(groups, FOLDS, 0)
    policies = [policy, *(Policy.precision(level, delta=None) for level in LEVELS)]
    ways = {"metrics": (scores, cosines), "score_alone": (scores, None)}
    found = {name: cross_fitted(plain.calibrator, inputs, y, w, fold, policies) for name, inputs in ways.items()}
    before = plain.probabilities(scores)
    results: dict[str, Any] = {
        "command": "python -m benchmarks.mined",
        "pairs": len(y),
        "duplicates": int(y.sum()),
        "base_rate": float(w @ y / w.sum()),
        "effective_pairs": effective_number(w),
        "question_groups": int(groups.max()) + 1,
        "with_a_training_question": int(holds_trained(pipeline.trained_on, pairs.left, pairs.right).sum()),
        "folds": FOLDS,
        "policy": str(policy),
        "reads_cosines": cosines is not None,
        "flagged": int(found["metrics"][1][0].sum()),
        **{name: measure(p, flagged[0], y, w, groups, args.resamples) for name, (p, flagged) in found.items()},
        "without": measure(before, plain.codes(scores) == 2, y, w, groups, args.resamples),
        "trade_off": {
            name: [
                {"level": level, "flagged": int(row.sum()), **measure(p, row, y, w, groups, args.resamples)}
                for level, row in zip(LEVELS, flagged[1:], strict=True)
            ]
            for name, (p, flagged) in found.items()
        },
        "log_loss": {
            name: float(np.average(log_loss(p, y), weights=w))
            for name, p in (*((name, p) for name, (p, _) in found.items()), ("without", before))
        },
    }
    for name in ("without", "score_alone", "metrics"):
        for figure, row in results[name].items():
            text = ["   -  " if row[end] is None else f"{row[end]:.3f}" for end in ("value", "low", "high")]
            print(f"{name:11} {figure:18} {text[0]} [{text[1]}, {text[2]}]")
    for name, rows in results["trade_off"].items():
        for row in rows:
            precision, recall = row["precision"], row["recall"]
            ends = [precision[end] for end in ("value", "low", "high")]
            text = "-" if ends[0] is None else "{:.3f} [{:.3f}, {:.3f}]".format(*ends)
            print(
                f"{name:11} expected precision {row['level']}: precision {text}, recall {recall['value']:.3f} "
                f"[{recall['low']:.3f}, {recall['high']:.3f}]"
            )
    print("log loss", results["log_loss"])
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, results)


if __name__ == "__main__":
    main()
