from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from dupq.data import lexicon

FOLDER = files("dupq.data.lexicon")
FILES = sorted(path.name.removesuffix(".json") for path in FOLDER.iterdir() if path.name.endswith(".json"))
CONTRAST = ("contrast_train", "contrast_held_out")
TEMPLATES = ("contrast_templates_train", "contrast_templates_held_out")
CAPITALISED = {*lexicon.load("numbers")["roman"], "°C", "°F"}


def lists(data: Any) -> Iterator[list[Any]]:
    """Yield every list of a file."""
    if isinstance(data, list):
        yield data
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from lists(value)


def texts(data: Any) -> Iterator[str]:
    """Yield every text of a file, keys included."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from texts(value)


def test_all_files_are_read() -> None:
    assert {*FILES} == {
        *CONTRAST, *TEMPLATES, "grammar", "languages", "names", "numbers", "units", "unrelated", "word_forms",
    }  # fmt: skip
    with pytest.raises(FileNotFoundError):
        lexicon.load("nothing")


@pytest.mark.parametrize("name", FILES)
def test_no_list_has_duplicates_and_every_text_is_normalised(name: str) -> None:
    data = lexicon.load(name)
    for values in lists(data):
        keys = [str(value) for value in values]
        assert not [key for key, count in Counter(keys).items() if count > 1], name
    for text in texts(data):
        assert text == unicodedata.normalize("NFC", " ".join(text.split())) != ""
        assert name in CONTRAST + TEMPLATES or text == text.lower() or text in CAPITALISED
    assert lexicon.load(name) is data


@pytest.mark.parametrize(
    ("name", "key"), [("word_forms", "irregular"), ("names", "aliases"), ("grammar", "function_word_forms")]
)
def test_each_form_has_one_head(name: str, key: str) -> None:
    forms = lexicon.load(name)[key]
    heads = [*forms, *(form for others in forms.values() for form in others)]
    assert not [form for form, count in Counter(heads).items() if count > 1]
    assert len(lexicon.by_form(forms)) == len(heads)


def test_each_unit_has_one_base_unit() -> None:
    units = [unit for factors in lexicon.load("units").values() for unit in factors]
    assert len(units) == len(set(units))


def test_each_pair_of_opposites_stands_once_and_is_normalised() -> None:
    rows = lexicon.opposites()
    assert len(rows) > 400
    pairs = [frozenset(row[:2]) for row in rows]
    assert all(len(pair) == 2 for pair in pairs)
    assert not [pair for pair, count in Counter(pairs).items() if count > 1]
    for row in rows:
        assert row.kind in ("opposite", "gender")
        assert row.split in ("train", "held_out", "none")
        assert row.explained or row.split != "none"
        for word in row[:2]:
            assert word == " ".join(word.split()).lower() != ""


def test_training_and_held_out_pairs_do_not_meet() -> None:
    train, held_out = (
        {frozenset(row[:2]) for row in lexicon.opposites() if row.split == split} for split in ("train", "held_out")
    )
    assert len(train) > 300
    assert len(held_out) == 27
    assert not train & held_out
    train_words, held_out_words = (lexicon.load(name) for name in CONTRAST)
    assert train_words.keys() == held_out_words.keys()
    for key, values in train_words.items():
        assert not {str(value) for value in values} & {str(value) for value in held_out_words[key]}, key
