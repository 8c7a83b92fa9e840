from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.text import (
    check_text,
    duplicate_key,
    duplicate_key_hash,
    duplicate_key_hashes,
    fingerprint,
    fingerprints,
    normalise,
)
from dupq.errors import InputError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How old are you?", "how  OLD are you"),
        ("It's late -- really!", "it s late really"),
        ("Straße", "STRASSE"),
        ("\uff26ull width", "full width"),
        ("cafe\u0301 au lait", "café au lait"),
        ("snake_case", "snake case"),
        ("I love it ❤\ufe0f", "I love it ❤"),
        ("किताब कितने की है?", "किताब, कितने की है"),
    ],
)
def test_spellings_of_one_question_are_one(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("??", "!"),
        ("What is 1.5?", "What is 1.6?"),
        ("का", "की"),  # the vowel is a mark, not a letter
        ("กิน", "กัน"),
        ("été", "ete"),
    ],
)
def test_other_questions_stay_apart(one: str, other: str) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_the_fingerprint_is_the_same_on_every_machine() -> None:
    assert fingerprint("How old are you?") == 5932399453904368617
    assert fingerprints(["How old are you?", "x"]).dtype == "int64"


@given(st.text())
def test_case_form_and_outer_space_do_not_matter(text: str) -> None:
    assert fingerprint(f"  {text}\n") == fingerprint(text)
    assert fingerprint(unicodedata.normalize("NFD", text)) == fingerprint(text)
    assert 0 <= fingerprint(text) < 2**63


@given(st.text(min_size=1, max_size=60).filter(lambda text: any(c.isalnum() for c in text)))
def test_a_usable_text_is_returned_as_it_is(text: str) -> None:
    assert check_text(text, "here") is text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "missing"),
        (float("nan"), "missing"),
        (7, "int"),
        (b"bytes", "bytes"),
        ("", "blank"),
        (" \t\n\u00a0\u200b\u2060", "blank"),
        ("ab\ud800cd", "lone surrogate at character 3"),
        ("caf\udce9", "byte 0xE9 at character 4"),
    ],
)
def test_an_unusable_text_is_refused_by_name(value: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        check_text(value, "pairs.csv, row 3")
    assert str(caught.value).startswith("pairs.csv, row 3: ")
    assert caught.value.hint


@pytest.mark.parametrize("size", [20_001, 131_073, 1_000_000])
def test_a_long_text_is_no_bad_text(size: int) -> None:
    assert len(check_text("a" * size, "here")) == size


@pytest.mark.parametrize(
    "texts",
    [
        ("How do I learn chess?", "how do I learn chess", "  HOW do I\tlearn chess ?!", '"How do I learn chess?"'),
        ("What's new in C++?", "what\u2019s new in C ++", "What's new, in C++..."),
        ("Is it e-mail (or email)?", "is it e\u2010mail, or email"),
        ("\u00bfQu\u00e9 es esto?", "QU\u00c9 ES ESTO", "que\u0301 es esto..."),
        ("I \u2764\ufe0f tea", "I \u2764 tea."),
        ("Is -5 less than 1.5?", "is \u22125 less than 1.5"),
    ],
)
def test_case_space_and_sentence_punctuation_make_no_other_text(texts: tuple[str, ...]) -> None:
    assert len({duplicate_key(text) for text in texts}) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Is C++ hard?", "Is C# hard?"),
        ("Is C++ hard?", "Is C hard?"),
        ("Is C+ a good grade?", "Is C++ a good grade?"),
        ("What is .NET?", "What is NET?"),
        ("Is 1.5 enough?", "Is 1 5 enough?"),
        ("Is -5 a number?", "Is 5 a number?"),
        ("What was on 9/11?", "What was on 9 11?"),
        ("Who needs $100?", "Who needs \u20ac100?"),
        ("What is 3 < 5?", "What is 3 > 5?"),
        ("Is R&D hard?", "Is R D hard?"),
        ("\u0915\u093f", "\u0915\u0940"),
        ("??", "!!"),
    ],
)
def test_what_makes_another_word_or_number_stays(a: str, b: str) -> None:
    assert duplicate_key(a) != duplicate_key(b)
    assert duplicate_key_hash(a) != duplicate_key_hash(b)


PIECES = st.lists(
    st.sampled_from([*"aZ5 .,?!-/'\"()+#&", "\u00df", "\u093f", "\u2764", "\ufe0f", "\u2014"]), max_size=8
)


@given(PIECES, PIECES)
def test_exact_duplicates_have_one_fingerprint(left: list[str], right: list[str]) -> None:
    a, b = "x" + "".join(left), "X" + "".join(right)
    if duplicate_key(a) == duplicate_key(b):
        assert normalise(a) == normalise(b)


@given(PIECES)
def test_a_duplicate_key_is_its_own_key(pieces: list[str]) -> None:
    key = duplicate_key("".join(pieces))
    assert duplicate_key(key) == key


def test_duplicate_key_hashes_are_those_of_the_texts() -> None:
    texts = ["Who?", "who", "Whom?"]
    assert duplicate_key_hashes(texts).tolist() == [duplicate_key_hash(text) for text in texts]
    assert duplicate_key_hashes(texts).dtype == np.int64
    assert len(set(duplicate_key_hashes(texts).tolist())) == 2
    assert duplicate_key_hash("Who?") == 8440034289383987139
