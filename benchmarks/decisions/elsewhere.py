"""At another base rate: are re-based probabilities as good as a calibrator fitted there, and is the rate found?

Probabilities: each draw halves the test split's question groups. One half, thinned to the base rate, fits a calibrator
there; the other, weighted to the base rate, measures its log loss and that of the shipped calibrator, re-based.

Base rate: each draw takes 5,000 pairs of the test split at the base rate, hides their labels, and estimates it. Beside
it the best that any estimate could do, were the shapes of the scores known: by the Cramer-Rao bound.
"""

from __future__ import annotations

import argparse
from math import erf, sqrt
from typing import Any

import numpy as np

from benchmarks.decisions.scored import Scored, Source
from dupq.calibration.calibrators import Calibrator, fit_calibrator
from dupq.calibration.prior_shift import ScoreReference, attainable_error, estimate_base_rate
from dupq.decisions.threshold_table import build_threshold_table

RATES = (0.1, 0.01)
ESTIMATED = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
PAIRS = 5000


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--halvings", type=int, default=100)
    parser.add_argument("--samples", type=int, default=100)


def thinned(pairs: Scored, rate: float, rng: np.random.Generator) -> Scored:
    """All distinct pairs, and so many duplicates that they are `rate` of all."""
    ones, zeros = np.flatnonzero(pairs.labels == 1), np.flatnonzero(pairs.labels == 0)
    kept = rng.permutation(ones)[: round(len(zeros) * rate / (1 - rate))]
    return pairs.take(np.sort(np.append(zeros, kept)))


def weighted_loss(calibrator: Calibrator, pairs: Scored, rate: float, base_rate: float | None) -> float:
    odds = calibrator.log_odds(pairs.scores, base_rate)
    ones = pairs.labels == 1
    losses = np.logaddexp(0, odds) - pairs.labels * odds
    return float(rate * losses[ones].mean() + (1 - rate) * losses[~ones].mean())


def rebased(source: Source, shipped: Calibrator, test: Scored) -> list[dict[str, Any]]:
    _, group = np.unique(test.groups, return_inverse=True)
    rows = []
    for rate in RATES:
        ours, theirs = [], []
        for draw in range(source.args.halvings):
            rng = np.random.default_rng(draw)
            half = (rng.random(group.max() + 1) < 0.5)[group]
            learn, rest = thinned(test.take(half), rate, rng), test.take(~half)
            fitted = fit_calibrator(learn.scores, learn.labels, learn.groups, seed=draw)
            ours.append(weighted_loss(shipped, rest, rate, rate))
            theirs.append(weighted_loss(fitted, rest, rate, None))
        gap = np.array(ours) - np.array(theirs)
        low, high = np.quantile(gap, [0.025, 0.975])
        rows.append(
            {
                "base_rate": rate,
                "rebased_log_loss": float(np.mean(ours)),
                "fitted_there_log_loss": float(np.mean(theirs)),
                "difference": float(gap.mean()),
                "low": float(low),
                "high": float(high),
            }
        )
    return rows


def estimated(source: Source, reference: ScoreReference, test: Scored) -> list[dict[str, Any]]:
    ones, zeros = np.flatnonzero(test.labels == 1), np.flatnonzero(test.labels == 0)
    rows = []
    for rate in ESTIMATED:
        errors, covered, believed = [], 0, 0
        for draw in range(source.args.samples):
            rng = np.random.default_rng(draw)
            count = round(PAIRS * rate)
            picked = np.append(rng.choice(ones, count, replace=False), rng.choice(zeros, PAIRS - count, replace=False))
            found = estimate_base_rate(test.scores[picked], reference, seed=draw, draws=200)
            errors.append(found.rate / rate - 1)
            covered += found.low <= rate <= found.high
            believed += found.reliable
        error = np.array(errors)
        # Each sample holds the very share of duplicates: the part of the bound that is the draw of their number goes.
        least = sqrt(attainable_error(rate, PAIRS, reference) ** 2 - rate * (1 - rate) / PAIRS) / rate
        rows.append(
            {
                "base_rate": rate,
                "mean_relative_error": float(error.mean()),
                "median_absolute_relative_error": float(np.median(np.abs(error))),
                "within_20_percent": float((np.abs(error) <= 0.2).mean()),
                "interval_covers": covered / len(error),
                "reliable": believed / len(error),
                "least_relative_standard_error": least,
                "within_20_percent_at_least_error": erf(0.2 / least / sqrt(2)),
            }
        )
    return rows


def run(source: Source) -> dict[str, Any]:
    calibration, test = source.split("calibration"), source.split("test")
    shipped = source.pipeline.calibrator
    if shipped is None:
        shipped = fit_calibrator(calibration.scores, calibration.labels, calibration.groups)
    table = build_threshold_table(calibration.scores, calibration.labels, calibration.groups)
    reference = table.score_reference()
    return {
        "pairs": len(test),
        "halvings": source.args.halvings,
        "samples": source.args.samples,
        "sample_pairs": PAIRS,
        "reference_base_rate": reference.base_rate,
        "rebased": rebased(source, shipped, test),
        "estimated": estimated(source, reference, test),
    }
