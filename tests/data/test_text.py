from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.text import MAX_CHARACTERS, check_text, fingerprint, fingerprints, normalise
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
        ("a" * (MAX_CHARACTERS + 1), "20,001 characters"),
        ("a" * 1_000_000, "1,000,000 characters"),
        ("ab\ud800cd", "lone surrogate at character 3"),
        ("caf\udce9", "byte 0xE9 at character 4"),
    ],
)
def test_an_unusable_text_is_refused_by_name(value: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        check_text(value, "pairs.csv, row 3")
    assert str(caught.value).startswith("pairs.csv, row 3: ")
    assert caught.value.mend


def test_the_longest_text_is_still_read() -> None:
    assert len(check_text("a" * MAX_CHARACTERS, "here")) == MAX_CHARACTERS
