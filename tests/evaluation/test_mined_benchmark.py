"""The figures of the benchmark of mined candidates, against repeated pairs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")
from benchmarks.mined import figures, measure


def test_a_whole_weight_is_as_many_pairs() -> None:
    rng = np.random.default_rng(0)
    p, y, w = rng.random(200), rng.integers(0, 2, 200).astype(float), rng.integers(1, 5, 200)
    flagged = p > 0.7
    weighted = figures(p, flagged, y, w.astype(float))
    repeated = figures(*(np.repeat(values, w) for values in (p, flagged, y)), np.ones(w.sum()))
    assert weighted == pytest.approx(repeated)
    true = np.repeat(y[flagged], w[flagged])
    assert weighted["precision"] == pytest.approx(true.mean())
    assert weighted["recall"] == pytest.approx(true.sum() / (w @ y))
    assert weighted["gap"] == pytest.approx(abs(np.repeat(p[flagged], w[flagged]).mean() - true.mean()))


def test_intervals_hold_the_value_and_nothing_flagged_has_no_precision() -> None:
    rng = np.random.default_rng(1)
    p, groups, w = rng.random(300), rng.integers(0, 60, 300), np.ones(300)
    y = (rng.random(300) < p).astype(float)
    for row in measure(p, p > 0.6, y, w, groups, 200).values():
        assert row["value"] is not None
        assert row["low"] <= row["value"] <= row["high"]  # type: ignore[operator]
    nothing = measure(p, p > 2, y, w, groups, 20)
    assert nothing["precision"] == {"value": None, "low": None, "high": None}
    assert nothing["recall"]["value"] == 0
