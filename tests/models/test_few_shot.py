from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.models.few_shot import FewShotClassifier, Prediction


class Circle:
    """Embeds "30" at 30 degrees on the unit circle."""

    fingerprint, dimensions = "circle", 2

    def embed(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        angles = np.radians([float(text) for text in texts]).reshape(-1, 1)
        return np.hstack([np.cos(angles), np.sin(angles)]).astype(np.float32)


EXAMPLES, KINDS = ["0", "10", "80", "60", "170"], ["east", "east", "east", "north", "west"]


def test_the_nearest_example_decides() -> None:
    found = FewShotClassifier(Circle(), EXAMPLES, KINDS).predict(["5", "65", "71", "150", "9"])
    assert [match.label for match in found] == ["east", "north", "east", "west", "east"]
    assert [match.example for match in found] == ["0", "60", "80", "170", "10"]
    assert found[1].cosine == pytest.approx(np.cos(np.radians(5)), abs=1e-6)


def test_the_nearest_centre_decides() -> None:
    matcher = FewShotClassifier(Circle(), EXAMPLES, KINDS, by="centroid")
    # The odd example at 80 draws the centre of "east" to about 29 degrees, and no more.
    found = matcher.predict(["71", "40", "30"])
    assert [match.label for match in found] == ["north", "east", "east"]
    assert [match.example for match in found] == ["60", "10", "10"]
    angles = np.radians([0, 10, 80])
    centre = np.arctan2(np.sin(angles).sum(), np.cos(angles).sum())
    assert found[2].cosine == pytest.approx(np.cos(np.radians(30) - centre), abs=1e-6)


def test_with_one_example_a_class_both_ways_are_one() -> None:
    texts = [str(angle) for angle in range(0, 360, 7)]
    one, other = (
        FewShotClassifier(Circle(), ["0", "90", "200"], ["a", "b", "c"], by=by) for by in ("nearest", "centroid")
    )
    assert [match.label for match in one.predict(texts)] == [match.label for match in other.predict(texts)]
    assert one.predict([]) == []
    assert one.predict(["0"]) == [Prediction("a", "0", pytest.approx(1.0))]


def test_what_cannot_be_matched_with_is_refused() -> None:
    with pytest.raises(InputError, match="got 0 and 0"):
        FewShotClassifier(Circle(), [], [])
    with pytest.raises(InputError, match="got 2 and 1"):
        FewShotClassifier(Circle(), ["1", "2"], ["a"])
    with pytest.raises(InputError, match="by must be one of nearest, centroid"):
        FewShotClassifier(Circle(), ["1"], ["a"], by="far")  # type: ignore[arg-type]
