"""A question cut into words, and what is known of each."""

from __future__ import annotations

import pytest

from dupq.explain.tokens import lemmas, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Why don\u2019t cats swim?", ["Why", "do", "n\u2019t", "cats", "swim"]),
        ("I cannot and dont care", ["I", "can", "not", "and", "do", "nt", "care"]),
        ("What's O'Brien's e-mail?", ["What", "'s", "O'Brien", "'s", "e", "mail"]),
        ("C++, C# and the U.S.A. today", ["C++", "C#", "and", "the", "U.S.A.", "today"]),
        ("twenty-five or 10k or 1,000.5", ["twenty-five", "or", "10k", "or", "1,000.5"]),
        ("5km, 2nd, at 10:30 for $7", ["5", "km", "2nd", "at", "10:30", "for", "$", "7"]),
        ("हिन्दी कैसे सीखें?", ["हिन्दी", "कैसे", "सीखें"]),
        ("我学习", ["我", "学", "习"]),
        ("Is 👩‍👩‍👧 or 👍🏽 ok??", ["Is", "👩‍👩‍👧", "or", "👍🏽", "ok"]),
        ("¿Dónde está؟", ["Dónde", "está"]),
        ("?!", []),
    ],
)
def test_words_are_split(text, words):
    assert [word.text for word in split_words(text)] == words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("two hundred and one", "200"), ("two hundred thousand", "200000"), ("1.5 million", "1500000"),
        ("10k", "10000"), ("five lakh", "500000"), ("twenty five", "25"), ("3rd", "3th"), ("third", "3th"),
        ("10,00,000", "1000000"), ("007", "7"), ("٢٣", "23"), ("9/11", "9/11"), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_numbers_have_values(text, value):
    assert split_words(text)[0].number == value


def test_roman_numerals_are_numbers_after_a_name_only():
    assert split_words("Why World War I began")[3].number == "1"
    assert split_words("What did Henry VIII eat")[3].number == "8"
    assert split_words("Should I drip by IV")[4].number is None
    assert split_words("Should I go")[1].number is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("studies", "studied"), ("running", "run"), ("making", "makes"), ("bought", "buying"), ("boxes", "box"),
     ("children", "child"), ("used", "use"), ("cafés", "cafe"), ("stopped", "stops"), ("falling", "fall")],
)  # fmt: skip
def test_inflected_words_share_a_lemma(one, other):
    assert lemmas(one) & lemmas(other)


@pytest.mark.parametrize(
    ("one", "other"), [("care", "car"), ("news", "new"), ("plane", "plan"), ("thing", "the"), ("bus", "bu")]
)
def test_other_words_share_none(one, other):
    assert not lemmas(one) & lemmas(other)


def test_names_are_told_by_capitals_within_a_sentence():
    def names(text):
        return [word.text for word in split_words(text) if word.name]

    assert names("Why did Ada Lovelace like iPhone apps? Maths is hard.") == ["Ada", "Lovelace", "iPhone"]
    assert names("How To Learn Something Quickly From eBay Sellers") == ["eBay"]
    assert names("WHY DOES EVERYBODY SHOUT THESE DAYS") == []
    assert names("What do I know about the US?") == ["US"]
