from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.text import normalise
from dupq.forum.copies import copy_form, copy_print, copy_prints


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
    assert len({copy_form(text) for text in texts}) == 1


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
    assert copy_form(a) != copy_form(b)
    assert copy_print(a) != copy_print(b)


PIECES = st.lists(
    st.sampled_from([*"aZ5 .,?!-/'\"()+#&", "\u00df", "\u093f", "\u2764", "\ufe0f", "\u2014"]), max_size=8
)


@given(PIECES, PIECES)
def test_copies_are_never_told_apart_by_the_splits(left: list[str], right: list[str]) -> None:
    a, b = "x" + "".join(left), "X" + "".join(right)
    if copy_form(a) == copy_form(b):
        assert normalise(a) == normalise(b)


@given(PIECES)
def test_a_form_is_its_own_form(pieces: list[str]) -> None:
    form = copy_form("".join(pieces))
    assert copy_form(form) == form


def test_hashes_are_those_of_the_texts() -> None:
    texts = ["Who?", "who", "Whom?"]
    assert copy_prints(texts).tolist() == [copy_print(text) for text in texts]
    assert copy_prints(texts).dtype == np.int64
    assert len(set(copy_prints(texts).tolist())) == 2
    assert copy_print("Who?") == 8440034289383987139
