"""In other worlds than Quora: calibration as shipped, with the base rate found without labels, and after local labels.

Each draw takes 50, 200 or 1,000 labelled pairs of a world, by first question, refits the shipped calibrator to them as
`dupq calibrate --add` does, and measures on the pairs of all others. "Alone" is scikit-learn's CalibratedClassifierCV
(sigmoid) on the same local labels, without the shipped calibrator.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.decisions.calibrated import scikit_learn
from benchmarks.decisions.scored import WORLDS, Scored, Source
from dupq.decisions.base_rate import ScoreReference, estimate_base_rate
from dupq.decisions.local import refit
from dupq.decisions.metrics import evaluate

SIZES = (50, 200, 1000)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=20)


def errors(pairs: Scored, probabilities: Any, resamples: int = 0) -> dict[str, Any]:
    figures = evaluate(pairs.scores, probabilities, pairs.labels, pairs.groups, None, resamples=max(resamples, 1))
    if resamples:
        return {name: figures[name].to_dict() for name in ("ece_mass", "ece_debiased", "log_loss", "roc_auc")}
    return {name: figures[name].value for name in ("ece_mass", "ece_debiased", "log_loss")}


def mean(rows: list[dict[str, float]]) -> dict[str, Any]:
    return {
        name: dict(
            zip(("value", "low", "high"), (float(np.mean(x)), *np.quantile(x, [0.1, 0.9]).tolist()), strict=True)
        )
        for name in rows[0]
        for x in [[row[name] for row in rows]]
    }


def local(source: Source, world: Scored, size: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The mean over draws with local labels: by `refit`, and by those labels alone."""
    pipeline = source.pipeline
    keys, group = np.unique(world.groups, return_inverse=True)
    ours, alone = [], []
    for draw in range(source.args.repeats):
        order = np.argsort(np.random.default_rng(draw).permutation(len(keys))[group], kind="stable")
        known, rest = world.take(order[:size]), world.take(order[size:])
        rest = rest.take(~np.isin(rest.groups, known.groups))
        if len(rest) < 500 or len(np.unique(known.labels)) < 2:
            continue
        fit = refit(pipeline.calibrator, pipeline.rule, known.scores, known.labels, known.groups, seed=draw)
        ours.append(errors(rest, fit.calibrator.probabilities(rest.scores)))
        if min(known.labels.sum(), (1 - known.labels).sum()) >= 5:
            alone.append(errors(rest, scikit_learn("sigmoid", known, rest.scores)))
    return (mean(ours), mean(alone) if alone else {}) if ours else None


def run(source: Source) -> dict[str, Any]:
    pipeline = source.pipeline
    reference = ScoreReference.from_evidence(pipeline.rule.evidence)
    rows = []
    for name in WORLDS:
        world = source.world(name)
        shipped = pipeline.calibrator.probabilities(world.scores)
        estimate = estimate_base_rate(world.scores, reference, groups=world.groups)
        moved = pipeline.calibrator.probabilities(world.scores, min(max(estimate.rate, 1e-4), 1 - 1e-4))
        known = pipeline.calibrator.probabilities(world.scores, float(world.labels.mean()))
        row: dict[str, Any] = {
            "name": name,
            "pairs": len(world),
            "groups": len(np.unique(world.groups)),
            "base_rate": float(world.labels.mean()),
            "shipped": errors(world, shipped, 200),
            "label_free": errors(world, moved, 200),
            "true_rate": errors(world, known, 200),
            "estimate": estimate.to_dict(),
            "local": {},
            "alone": {},
        }
        for size in SIZES:
            found = local(source, world, size)
            if found is not None:
                row["local"][str(size)], row["alone"][str(size)] = found
        rows.append(row)
        print(name, {k: v for k, v in row.items() if k in ("shipped", "label_free")}, flush=True)
    return {"repeats": source.args.repeats, "rows": rows}
