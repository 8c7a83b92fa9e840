"""Is a guaranteed precision kept? Many draws of question groups to calibrate on, the precision measured on the rest.

The calibration and the test split are joined. Each draw calibrates on a quarter of their question groups, and measures
on all others: how often the precision falls below the guaranteed one, over all pairs and with each group counting as
one; and what is left of the recall of an oracle, which knows the labels of the rest. Beside it what half of dupq's
guarantee would give, the bound that holds over all pairs alone and is approximate; and what a user would take instead:
the threshold that reaches the precision on the calibration pairs (no bound), the same exact bound with pairs taken for
independent, and MAPIE's precision control, if it is installed (`pip install mapie`).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.decisions.scored import Scored, Source
from dupq.calibration.calibrators import Calibrator, fit_calibrator
from dupq.decisions.threshold_table import ThresholdTable, build_threshold_table
from dupq.decisions.thresholds import Policy, choose_threshold
from dupq.errors import NotEnoughLabelsError

SHARE = 0.25
LEVELS = (0.8, 0.9, 0.95)
DELTAS = (0.05, 0.1)
OTHER_RATE = 0.2
DUPQ = "dupq"
ELSEWHERE = f"dupq, for base rate {OTHER_RATE}"
REACHED = "reached on the calibration pairs"
INDEPENDENT = "exact bound, pairs taken for independent"
PAIRS_ALONE = "bound over all pairs alone, approximate"
MAPIE = "MAPIE"

Chooser = Callable[[float, float], float | None]


def guaranteed_precision(table: ThresholdTable, rate: float | None = None) -> Chooser:
    def choose(level: float, delta: float) -> float | None:
        try:
            return choose_threshold(Policy.precision(level, delta), table, rate).score
        except NotEnoughLabelsError:
            return None

    return choose


def pairs_alone(table: ThresholdTable) -> ThresholdTable:
    """Evidence whose pairs drawn one a group are all pairs: what is left is the bound for clustered samples."""
    return replace(
        table,
        one_per_group_tp=table.tp,
        one_per_group_fp=table.fp,
        one_per_group_duplicates=table.duplicates,
        one_per_group_distinct=table.distinct,
    )


def by_mapie(pairs: Scored, calibrator: Calibrator) -> Chooser | None:
    """MAPIE's controller with its defaults: Holm's correction over 100 probabilities, pairs taken for independent."""
    try:
        from mapie.risk_control import BinaryClassificationController
    except ImportError:
        return None
    probabilities = calibrator.probabilities(pairs.scores)

    def predict(x: Any) -> Any:
        return np.stack([1 - x[:, 0], x[:, 0]], axis=1)

    def choose(level: float, delta: float) -> float | None:
        controller = BinaryClassificationController(predict, "precision", level, confidence_level=1 - delta)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it finds no threshold, which is counted here
            controller.calibrate(probabilities[:, None], pairs.labels)
        best = controller.best_predict_param
        above = pairs.scores[probabilities >= best] if best is not None else []
        return float(np.min(above)) if len(above) else None

    return choose


def oracle(pairs: Scored, level: float, weights: Any = None) -> float | None:
    """The threshold with the most recall among those whose precision on these very pairs is enough."""
    order = np.argsort(-pairs.scores, kind="stable")
    w = np.ones(len(pairs)) if weights is None else weights[order]
    enough = np.flatnonzero(np.cumsum(w * pairs.labels[order]) >= level * np.cumsum(w))
    return float(pairs.scores[order[enough[-1]]]) if len(enough) else None


def realised(pairs: Scored, cut: float, weights: Any = None, rate: float | None = None) -> tuple[float, float]:
    """Precision (at a base rate, if given) and recall of a cut on these pairs, weighted."""
    w = np.ones(len(pairs)) if weights is None else weights
    flagged, ones = pairs.scores >= cut, pairs.labels == 1
    recall = float(w[flagged & ones].sum() / w[ones].sum())
    false = float(w[flagged & ~ones].sum() / w[~ones].sum())
    base = float(w[ones].sum() / w.sum()) if rate is None else rate
    true, wrong = base * recall, (1 - base) * false
    return (true / (true + wrong) if true + wrong else 1.0), recall


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--draws", type=int, default=500)


def choosers(known: Scored, calibrator: Calibrator, seed: int) -> dict[str, Chooser | None]:
    table = build_threshold_table(known.scores, known.labels, known.groups, seed=seed)
    return {
        DUPQ: guaranteed_precision(table),
        ELSEWHERE: guaranteed_precision(table, OTHER_RATE),
        PAIRS_ALONE: guaranteed_precision(pairs_alone(table)),
        REACHED: lambda level, delta: oracle(known, level),
        INDEPENDENT: guaranteed_precision(build_threshold_table(known.scores, known.labels)),
        MAPIE: by_mapie(known, calibrator),
    }


def run(source: Source) -> dict[str, Any]:
    calibration, test = source.split("calibration"), source.split("test")
    pool = Scored(*(np.append(getattr(calibration, k), getattr(test, k)) for k in ("scores", "labels", "groups")), "")
    _, group, size = np.unique(pool.groups, return_inverse=True, return_counts=True)
    calibrator = fit_calibrator(calibration.scores, calibration.labels, calibration.groups)
    rows: dict[tuple[float, float, str], list[dict[str, float]]] = {}
    start = time.perf_counter()
    for draw in range(source.args.draws):
        chosen = (np.random.default_rng(draw).random(len(size)) < SHARE)[group]
        known, rest, even = pool.take(chosen), pool.take(~chosen), (1 / size[group])[~chosen]
        by = choosers(known, calibrator, draw)
        for level in LEVELS:
            best = {mix: oracle(rest, level, w) for mix, w in (("oracle", None), ("oracle_groups", even))}
            top = {mix: realised(rest, cut)[1] if cut is not None else 0.0 for mix, cut in best.items()}
            for delta in DELTAS:
                for name, choose in by.items():
                    if choose is None:
                        continue
                    cut = choose(level, delta)
                    row = {"none": float(cut is None), **top, "recall": 0.0, "below": 0.0, "below_groups": 0.0}
                    if cut is not None:
                        rate = OTHER_RATE if name == ELSEWHERE else None
                        precision, row["recall"] = realised(rest, cut, None, rate)
                        row["below"] = float(precision < level)
                        row["below_groups"] = float(realised(rest, cut, even, rate)[0] < level)
                    rows.setdefault((level, delta, name), []).append(row)
        if draw % 50 == 49:
            print(f"guarantee: {draw + 1} of {source.args.draws} draws", flush=True)
    return {
        "draws": source.args.draws,
        "pairs": len(pool),
        "groups": len(size),
        "calibration_share_of_groups": SHARE,
        "other_rate": OTHER_RATE,
        "base_rate": float(pool.labels.mean()),
        "base_rate_of_groups": float((pool.labels / size[group]).sum() / len(size)),
        "seconds": round(time.perf_counter() - start, 1),
        "rows": [
            {"precision": level, "delta": delta, "name": name}
            | {key: float(np.mean([row[key] for row in found])) for key in found[0]}
            for (level, delta, name), found in rows.items()
        ],
    }
