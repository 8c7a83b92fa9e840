"""The same as scipy's."""

from __future__ import annotations

import numpy as np
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from dupq.calibration.numerics import expit, logit


@given(st.lists(st.floats(-1e4, 1e4), max_size=20))
def test_log_odds_to_probabilities(values: list[float]) -> None:
    np.testing.assert_allclose(expit(values), scipy.special.expit(values), rtol=1e-12, atol=1e-300)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_probabilities_to_log_odds(values: list[float]) -> None:
    np.testing.assert_allclose(logit(values), scipy.special.logit(values), rtol=1e-12, atol=1e-15)


def test_the_ends() -> None:
    assert logit([0.0, 0.5, 1.0]).tolist() == [-np.inf, 0.0, np.inf]
    assert expit([-np.inf, 0.0, np.inf]).tolist() == [0.0, 0.5, 1.0]
    assert float(expit(logit(0.25))) == 0.25
