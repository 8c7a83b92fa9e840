from __future__ import annotations

import re

import numpy as np
import pytest

from dupq.data import lexicon
from dupq.data.pairs import PairTable
from dupq.data.text import normalise
from dupq.errors import InputError
from dupq.training.contrast_sets import (
    FROM_DUPLICATES,
    FROM_QUESTIONS,
    FROM_TEMPLATES,
    contrast_pairs,
    vocabulary,
)
from dupq.training.contrast_templates import fill_family, template_families

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
DUPLICATES = PairTable(
    [
        "Why is Peter 30 km from Paris before noon?",
        "What should Sanjay buy in the first 30 days in Rome if it is not hard?",
        "Which photo should I keep of the 40 good ones, and what is wrong with the others?",
        "How do I purchase rice before it is cheap?",
    ],
    [
        "Why should Peter be 30 km from Paris before noon?",
        "Which things could Sanjay buy in Rome in the first 30 days?",
        "What picture would be the one to keep of the 40 good ones?",
        "How do I buy rice before it is cheap?",
    ],
    np.array([1, 1, 1, 0], np.int8),
)
SAME = {"synonym", "contraction", "typo", "surface", "no direction", "paired context", "paired wording"}
BOTH = {*FROM_TEMPLATES, "paired name", "paired place", "paired number"} - {"direction", "no direction"}


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", FROM_QUESTIONS)
def test_every_question_kind_has_the_right_label(kind: str, held_out: bool) -> None:
    made = contrast_pairs(QUESTIONS, 12, held_out=held_out, kinds=[kind])
    assert set(made.kinds) == {kind}
    assert set(made.pairs.labels.tolist()) == {int(kind in SAME)}
    for a, b in zip(made.pairs.left, made.pairs.right, strict=True):
        assert a != b
        assert kind == "name" or {a, b} & set(QUESTIONS)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", FROM_TEMPLATES)
def test_every_template_kind_has_the_right_labels_and_no_open_slot(kind: str, held_out: bool) -> None:
    made = contrast_pairs([], 200, held_out=held_out, kinds=[kind])
    assert len(made.pairs) == 200
    assert set(made.pairs.labels.tolist()) == ({0, 1} if kind in BOTH else {int(kind in SAME)})
    for a, b in zip(made.pairs.left, made.pairs.right, strict=True):
        assert a != b
        assert not re.search(r"[{}\[\]()]|\b[Aa] (?!us)[aeiou]|\b[Aa]n [^aeiouhAEIOUH]", f"{a} {b}"), (a, b)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", FROM_DUPLICATES)
def test_every_duplicate_kind_rewrites_duplicates_alone(kind: str, held_out: bool) -> None:
    seen = set()
    for seed in range(12):
        made = contrast_pairs(QUESTIONS, 12, duplicates=DUPLICATES, held_out=held_out, kinds=[kind], seed=seed)
        seen |= set(made.pairs.labels.tolist())
        assert all("rice" not in text for text in (*made.pairs.left, *made.pairs.right))
    assert seen == ({0, 1} if kind in BOTH else {int(kind in SAME)})
    assert len(contrast_pairs(QUESTIONS, 12, held_out=held_out, kinds=[kind]).pairs) == 0


@pytest.mark.parametrize(
    ("article", "words"), [("a", "cook used unicorn euro"), ("an", "artist uncle honest unpaid uninsured")]
)
def test_an_article_fits_the_next_word(article: str, words: str) -> None:
    draw = np.random.default_rng(0)
    for word in words.split():
        made = fill_family([["{x} or a(n) {x}", "A(n) {x}"]], {"x": [word]}, draw)
        assert made is not None
        assert {made[0], made[1]} == {f"{word} or {article} {word}", f"{article.capitalize()} {word}"}


def test_a_name_or_number_is_changed_in_one_or_in_both() -> None:
    """The label is 1 where both questions hold the same new word."""
    for kind, old in (("paired name", "Peter"), ("paired place", "Paris"), ("paired number", "30")):
        for seed in range(8):
            made = contrast_pairs([], 1, duplicates=DUPLICATES.take(np.array([0])), kinds=[kind], seed=seed)
            changed = [old not in text for text in (made.pairs.left[0], made.pairs.right[0])]
            assert sum(changed) == 1 + made.pairs.labels[0]


def test_a_word_that_is_not_in_both_questions_is_left_alone() -> None:
    pairs = PairTable(
        ["Is Peter in Paris for 3 days?"], ["Who is in Rome, Susan or Peter, for 5?"], np.array([1], np.int8)
    )
    for kind in ("paired name", "paired place", "paired number", "paired opposite"):
        assert len(contrast_pairs([], 5, duplicates=pairs, kinds=[kind]).pairs) == 0


def test_a_family_is_filled_alike_on_both_sides() -> None:
    words = {"name": ["Ada", "Bob"], "job": ["artist", "cook"], "pair": [["x", "y"]]}
    family = [
        ["{name1} and {name2}: a(n) {job}, {pair[0]}", "{pair[0]}, a(n) {job}: {name1} and {name2}"],
        ["{pair[1]}"],
    ]
    draw = np.random.default_rng(0)
    made = {fill_family(family, words, draw) for _ in range(200)}
    assert ("y", "Ada and Bob: an artist, x", 0) in made
    assert ("Bob and Ada: a cook, x", "x, a cook: Bob and Ada", 1) in made
    assert ("Bob and Ada: a cook, x", "x, a cook: Ada and Bob", 1) not in made
    assert {row[2] for row in made if row is not None} == {0, 1}


def test_no_pair_comes_twice_in_either_order() -> None:
    made = contrast_pairs(QUESTIONS, 300, kinds=["direction", "passive"])
    seen = [frozenset(pair) for pair in zip(made.pairs.left, made.pairs.right, strict=True)]
    assert len(set(seen)) == len(seen) == 600


def test_training_and_held_out_words_and_templates_do_not_meet() -> None:
    train, held_out = vocabulary(False), vocabulary(True)
    assert train.words.keys() == held_out.words.keys()
    for name, words in train.words.items():
        assert not {str(word) for word in words} & {str(word) for word in held_out.words[name]}, name
    for kind in FROM_TEMPLATES:
        one, other = (
            {text for family in template_families(kind, split) for meaning in family for text in meaning}
            for split in (False, True)
        )
        assert one
        assert other
        assert not one & other, kind
    opposed = [
        {frozenset(pair) for pair in (*words.opposites, *words.words["antonym"], *words.words["thing_antonym"])}
        for words in (train, held_out)
    ]
    assert not opposed[0] & opposed[1]
    synonyms = [
        {frozenset(pair) for name in ("synonym", "trait") for pair in words.words[name]} for words in (train, held_out)
    ]
    assert not synonyms[0] & synonyms[1]


@pytest.mark.parametrize("held_out", [False, True])
def test_the_data_is_large_and_every_list_and_kind_is_used(held_out: bool) -> None:
    words, split = vocabulary(held_out).words, "held_out" if held_out else "train"
    assert set(lexicon.load(f"contrast_templates_{split}")) == set(FROM_TEMPLATES)
    if not held_out:
        assert len(words["name"]) > 300
        assert len(words["antonym"]) + len(words["thing_antonym"]) >= 80
        assert sum(len(meaning) >= 3 for family in template_families("everyday", False) for meaning in family) >= 60


def test_no_everyday_set_holds_a_pair_of_the_test() -> None:
    """These questions are asked of the shipped model."""
    asked = {
        "How old are you?", "What is your age?", "Where do you live?", "Where are you living?", "Where are you going?",
        "What is the capital of France?", "What's France's capital city?",
    }  # fmt: skip
    for held_out in (False, True):
        texts = {text for family in template_families("everyday", held_out) for meaning in family for text in meaning}
        assert not texts & asked


def test_swapped_names_are_the_same_words() -> None:
    made = contrast_pairs(QUESTIONS, 50, kinds=["direction", "no direction"])
    for a, b in zip(made.pairs.left, made.pairs.right, strict=True):
        assert sorted(re.findall(r"\w+", a)) == sorted(re.findall(r"\w+", b))


def test_the_passive_has_its_label_by_who_does_it() -> None:
    made = contrast_pairs(QUESTIONS, 400, kinds=["passive"])
    plain = [
        row
        for row in zip(made.pairs.left, made.pairs.right, made.pairs.labels.tolist(), strict=True)
        if re.fullmatch(r"Did [A-Z]\w+ \w+ [A-Z]\w+\? Was [A-Z].* by [A-Z].*", " ".join(sorted(row[:2])))
    ]
    assert {label for _, _, label in plain} == {0, 1}
    for a, b, label in plain:
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
    with pytest.raises(InputError, match="per_kind must be an integer between 1 and "):
        contrast_pairs(QUESTIONS, 0)
