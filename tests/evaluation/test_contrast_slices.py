"""Contrast cases: found by their words, counted by kind, and their errors counted right."""

from __future__ import annotations

import pytest

from dupq.evaluation.contrast_slices import MIN_PAIRS, contrast_rows

ANIMALS = [f"{kind} {name}" for kind in ("small", "old", "wild") for name in ("cats", "dogs", "pigs", "hens", "apes")]
CASES = {
    "number": ("How do I feed 2 {}?", "How do I feed 7 {}?"),
    "negation": ("Why do {} swim in the sea?", "Why don't {} swim in the sea?"),
    "none": ("How do I wash the {} there?", "How can I wash {} there?"),
    "order": ("Do {} fear snakes?", "Do snakes fear {}?"),
}


def pairs(kind: str) -> tuple[list[str], list[str]]:
    left, right = CASES[kind]
    animals = (ANIMALS * 3)[:40]
    return [left.format(animal) for animal in animals], [right.format(animal) for animal in animals]


@pytest.mark.parametrize("kind", ["number", "negation", "none", "order"])
def test_a_kind_is_found_with_its_errors(kind: str) -> None:
    left, right = pairs(kind)
    # 30 distinct, of which 12 are flagged; 10 duplicates, of which 4 are not.
    labels, flagged = [0] * 30 + [1] * 10, [1] * 12 + [0] * 18 + [1] * 6 + [0] * 4
    (row,) = contrast_rows(left, right, labels, flagged)
    assert (row.kind, row.pairs, row.distinct) == (kind, 40, 0.75)
    assert row.error == pytest.approx(16 / 40)
    assert row.false_flags == pytest.approx(12 / 30)
    assert 0.2 < row.low < row.error < row.high < 0.6


def test_pairs_of_few_groups_say_less() -> None:
    left, right = pairs("number")
    labels, flagged = [0] * 40, [1] * 20 + [0] * 20
    (alone,) = contrast_rows(left, right, labels, flagged)
    (chained,) = contrast_rows(left, right, labels, flagged, [0] * 20 + [1] * 20)
    assert chained.low < alone.low < alone.high < chained.high


def test_only_the_same_words_make_a_contrast_case_and_few_make_no_row() -> None:
    left, right = pairs("number")
    count = MIN_PAIRS - 1
    assert contrast_rows(left[:count], right[:count], [0] * count, [0] * count) == []
    # Another word differs too, or hardly a word is the same.
    others = [text.replace("feed", "wash") for text in right]
    assert contrast_rows(left, others, [0] * 40, [0] * 40) == []
    assert contrast_rows(left, ["Who sells 3 boats?"] * 40, [0] * 40, [0] * 40) == []


def test_duplicates_alone_have_no_false_flags() -> None:
    left, right = pairs("none")
    (row,) = contrast_rows(left, right, [1] * 40, [1] * 40)
    assert (row.false_flags, row.error, row.distinct) == (None, 0.0, 0.0)
