from __future__ import annotations

import re

import pytest

from dupq.data.text import normalise
from dupq.errors import InputError
from dupq.training import contrast_lessons as lessons
from dupq.training import contrast_words as words
from dupq.training.contrast import FROM_TEMPLATES, KINDS, contrast_pairs

QUESTIONS = (
    "Why do 12 people in India buy movies before they are cheap?",
    "What should I give my friend in Germany?",
    "Which film should a man watch near London in 1999?",
    "How do I purchase a big photo of my brother?",
    "What is the best way to begin knitting when it is not hard?",
    "What's wrong if my boyfriend does not call me?",
    "Who should join the guys, and is it legal?",
    "Why are the kids happy although I have two dogs?",
    "How can his teacher cook rice if he cannot find it?",
    "Would you rather stop or start?",
)
SAME = {"synonym", "contraction", "typo", "surface", "no direction"}


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_made_with_the_right_label(kind: str, held_out: bool) -> None:
    made = contrast_pairs(QUESTIONS, 12, held_out=held_out, kinds=[kind])
    assert len(made.pairs) >= 1
    assert set(made.kinds) == {kind}
    labels = set(made.pairs.labels.tolist())
    assert labels == ({0, 1} if kind == "passive" else {1} if kind in SAME else {0})
    for a, b in zip(made.pairs.left, made.pairs.right, strict=True):
        assert a != b
        assert "{" not in a + b
    if kind not in FROM_TEMPLATES and kind not in ("name",):
        assert all({a, b} & set(QUESTIONS) for a, b in zip(made.pairs.left, made.pairs.right, strict=True))


def test_no_pair_comes_twice_in_either_order() -> None:
    made = contrast_pairs(QUESTIONS, 300, kinds=["direction", "passive"])
    seen = [frozenset(pair) for pair in zip(made.pairs.left, made.pairs.right, strict=True)]
    assert len(set(seen)) == len(seen) == 600


def test_the_halves_share_no_word_and_no_template() -> None:
    for halves in (words.PLACES, words.NAMES, words.THINGS, words.COMPARED, words.DIRECTED, words.UNDIRECTED):
        assert not set(halves[0]) & set(halves[1])
    for pairs in (words.OPPOSITES, words.GENDERED, words.SYNONYMS, words.CONTRACTIONS):
        assert not set(pairs[::2]) & set(pairs[1::2])


def test_lessons_have_no_held_out_pair_and_no_held_out_template() -> None:
    for pairs, held_out in ((lessons.OPPOSITES, words.OPPOSITES[1::2]), (lessons.GENDERED, words.GENDERED[1::2])):
        assert not {frozenset(pair) for pair in pairs} & {frozenset(pair) for pair in held_out}
        assert all(one != other for one, other in pairs)
    assert not set(lessons.DIRECTED) & {*words.DIRECTED[1], *words.UNDIRECTED[1]}
    assert not set(lessons.UNDIRECTED) & {*words.DIRECTED[1], *words.UNDIRECTED[1]}
    assert not set(lessons.ALTERNATIVES) & set(words.ALTERNATIVES[1])


def test_swapped_names_are_the_same_words() -> None:
    made = contrast_pairs(QUESTIONS, 50, kinds=["direction", "no direction"])
    for a, b in zip(made.pairs.left, made.pairs.right, strict=True):
        assert sorted(re.findall(r"\w+", a)) == sorted(re.findall(r"\w+", b))


def test_the_passive_has_its_label_by_who_does_it() -> None:
    made = contrast_pairs(QUESTIONS, 60, kinds=["passive"])
    for a, b, label in zip(made.pairs.left, made.pairs.right, made.pairs.labels.tolist(), strict=True):
        active, passive = sorted((a, b), key=lambda text: " by " in text)
        doer = re.search(r"[Dd]id (\w+)", active)
        by = re.search(r"by (\w+)\?", passive)
        assert doer is not None
        assert by is not None
        assert label == (doer[1] == by[1])


def test_words_that_are_compared_are_left_alone() -> None:
    assert len(contrast_pairs(["Is it best or worst?", "Should I buy or sell it?"], 5, kinds=["opposite"]).pairs) == 0


def test_another_number_is_another_number() -> None:
    made = contrast_pairs(
        ["What happened in 1969?", "Are 3 eggs enough?", "Is 1,000 a lot?", "4 or 5?"], 9, kinds=["number"]
    )
    changed = sorted(normalise(b) for pair in zip(made.pairs.left, made.pairs.right, strict=True) for b in pair)
    assert len(made.pairs) == 2
    assert "what happened in 1969" in changed
    assert "are 3 eggs enough" in changed


def test_the_seed_decides() -> None:
    one, again, other = (contrast_pairs(QUESTIONS, 20, seed=seed).pairs.left for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_unknown_kinds_and_no_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="'colour' is no kind"):
        contrast_pairs(QUESTIONS, 5, kinds=["colour"])
    with pytest.raises(InputError, match="per_kind is 0"):
        contrast_pairs(QUESTIONS, 0)
