"""The words that two questions share, each by how rare it is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.errors import ModelFolderError
from dupq.models.ensemble import fit_weights
from dupq.models.idf_overlap import IdfOverlap, words
from dupq.types import Scorer

CORPUS = ["Is chess fun?", "Is go fun?", "Is archery dangerous?", "Is chess fun?"]
COUNTED = IdfOverlap.of(CORPUS, min_texts=1)


def test_words_count_by_how_rare_they_are() -> None:
    assert COUNTED.texts == 3  # each distinct text counts once
    rare, common = math.log(4 / 2), math.log(4 / 3)  # "chess" stands in one of them, "fun" in two, "is" in all
    got = COUNTED.score(
        ["Is chess fun?", "chess?", "Is chess fun?", "?"], ["Is go fun?", "go?", "FUN is chess ?", "!?"]
    )
    np.testing.assert_allclose(got, [common / (2 * rare + common), 0, 1, 0])
    assert isinstance(COUNTED, Scorer)


def test_what_is_no_question_shares_nothing() -> None:
    """The overlap is 0 unless both texts are questions, because its weight is fitted on questions."""
    asked, said = "Is chess fun?", "Is chess fun."
    assert COUNTED.score([asked, asked, said, said], [asked, said, asked, said]).tolist() == [1, 0, 0, 0]
    assert COUNTED.score(["fun\uff1f"], ["fun? \n"]).tolist() == [1]


def test_a_word_of_few_texts_is_as_rare_as_an_unknown_one() -> None:
    kept = IdfOverlap.of(CORPUS, min_texts=2)
    assert kept.counts == {"fun": 2, "is": 3}
    assert kept.fingerprint != COUNTED.fingerprint
    rare, common = math.log(4 / 1), math.log(4 / 3)
    got = kept.score(["Is chess fun?"], ["Is go fun?"])
    np.testing.assert_allclose(got, [common / (2 * rare + common)])


@given(st.text(), st.text())
def test_they_know_no_order(left: str, right: str) -> None:
    (one,), (other,) = COUNTED.score([left + "?"], [right + "?"]), COUNTED.score([right + "?"], [left + "?"])
    assert one == other
    assert 0 <= one <= 1


def test_words_follow_each_other_in_lower_case() -> None:
    assert words("Who's FAST, and who is fast?") == ["who", "s", "fast", "and", "who", "is", "fast"]


def test_saved_and_read_equal(tmp_path: Path) -> None:
    COUNTED.save(tmp_path / "words.json")
    again = IdfOverlap.read(tmp_path / "words.json")
    assert again == COUNTED
    assert again.fingerprint == COUNTED.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda content: [],
        lambda content: {**content, "texts": 0},
        lambda content: {**content, "texts": "3"},
        lambda content: {**content, "counts": ["fun"]},
        lambda content: {**content, "counts": {"fun": 0}},
        lambda content: {**content, "counts": {"fun": 4}},
        lambda content: {**content, "counts": {"fun": True}},
    ],
)
def test_damaged_counts_are_told(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    path = tmp_path / "words.json"
    COUNTED.save(path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ModelFolderError, match=r"words\.json"):
        IdfOverlap.read(path)


def test_a_member_counts_against_the_others_only_where_that_is_allowed() -> None:
    draw = np.random.default_rng(0)
    members = draw.normal(size=(3, 400))
    labels = (2 * members[0] - members[1] - members[2] + draw.normal(size=400) > 0).astype(np.int8)
    assert fit_weights(members, labels)[0][1:] == (0, 0)
    weights, _ = fit_weights(members, labels, signed=(1,))
    assert weights[1] < 0 == weights[2] < weights[0]
