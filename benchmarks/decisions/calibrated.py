"""Is a stated probability true? Calibration error on the natural test split, of each method and of what ships.

Calibrators are fitted on the calibration split and measured on the test split; the shipped one is measured as it is.
Beside them scikit-learn's CalibratedClassifierCV around the same scores, which draws its folds by pair.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.decisions.scored import Scored, Source
from dupq.decisions.calibration import METHODS, fit_calibrator
from dupq.decisions.metrics import evaluate

NAMES = ("log_loss", "brier", "ece_mass", "ece_width", "ece_debiased")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resamples", type=int, default=500)


def measured(name: str, probabilities: Any, pairs: Scored, resamples: int) -> dict[str, Any]:
    figures = evaluate(pairs.scores, probabilities, pairs.labels, pairs.groups, None, resamples=resamples)
    return {"name": name, "metrics": {key: figures[key].to_dict() for key in NAMES}}


def scikit_learn(method: str, learn: Scored, scores: Any) -> Any:
    """The probabilities of CalibratedClassifierCV around a classifier that passes the score through."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV

    class Through(ClassifierMixin, BaseEstimator):
        def fit(self, x: Any, y: Any) -> Through:
            self.classes_ = np.array([0, 1])
            return self

        def decision_function(self, x: Any) -> Any:
            return np.asarray(x)[:, 0]

        def predict(self, x: Any) -> Any:
            return (self.decision_function(x) >= 0).astype(int)

    fitted = CalibratedClassifierCV(Through(), method=method, cv=5).fit(learn.scores[:, None], learn.labels)
    return fitted.predict_proba(np.asarray(scores)[:, None])[:, 1]


def run(source: Source) -> dict[str, Any]:
    calibration, test = source.split("calibration"), source.split("test")
    data = (calibration.scores, calibration.labels, calibration.groups)
    shipped, chosen = source.pipeline.calibrator, fit_calibrator(*data)
    count = source.args.resamples
    rows = []
    if shipped is not None:
        rows.append(measured(f"as shipped ({shipped.kind})", shipped.probabilities(test.scores), test, count))
    for method in METHODS:
        name = f"{method}{', chosen by held-out log loss' if method == chosen.kind else ''}"
        probabilities = fit_calibrator(*data, methods=[method]).probabilities(test.scores)
        rows.append(measured(name, probabilities, test, count))
    for method in ("sigmoid", "isotonic"):
        probabilities = scikit_learn(method, calibration, test.scores)
        rows.append(measured(f"scikit-learn CalibratedClassifierCV, {method}", probabilities, test, count))
    ones = float(test.labels.mean())
    return {
        "calibration_pairs": len(calibration),
        "pairs": len(test),
        "groups": len(np.unique(test.groups)),
        "base_rate": ones,
        "cv_losses": dict(chosen.cv_losses),
        "rows": rows,
    }
