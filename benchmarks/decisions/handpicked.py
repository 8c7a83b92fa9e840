"""Against a hand-picked cosine: the untrained encoder's cosine of 0.8 or 0.85, and the shipped threshold.

At such a threshold, the precision and recall on the Quora test split. Nothing tells the user of a hand-picked
threshold what precision to expect; beside it stand the shipped pipeline's own threshold, and one that promises 90 %.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.decisions.scored import Scored, Source
from dupq.decisions.evidence import gather_evidence
from dupq.decisions.metrics import evaluate
from dupq.decisions.thresholds import Policy, choose_threshold
from dupq.models.scorers import COSINE_SCALE

CUTS = (0.8, 0.85)
NAMES = ("precision", "recall", "f1", "accuracy")


def add_options(parser: argparse.ArgumentParser) -> None:
    """None but the shared ones; `--encoder` is needed."""


def at(name: str, pairs: Scored, cut: float, said: str) -> dict[str, Any]:
    figures = evaluate(pairs.scores, np.full(len(pairs), 0.5), pairs.labels, pairs.groups, cut)
    return {"name": name, "said": said, "metrics": {key: figures[key].to_dict() for key in NAMES}}


def run(source: Source) -> dict[str, Any]:
    test, cosines, calibration = source.split("test"), source.cosine("test"), source.split("calibration")
    rows = [at(f"untrained cosine >= {cut}", cosines, cut * COSINE_SCALE, "nothing") for cut in CUTS]
    evidence = gather_evidence(calibration.scores, calibration.labels, calibration.groups)
    for policy in (Policy.max_f1(), Policy.precision(0.8), Policy.precision(0.9)):
        threshold = choose_threshold(policy, evidence)
        rows.append(at(f"dupq, {policy}", test, threshold.score, threshold.promise))
    return {"encoder": source.args.encoder.rstrip("/").split("/")[-1], "pairs": len(test), "rows": rows}
