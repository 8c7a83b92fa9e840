"""Questions from templates: wordings of one meaning, beside near misses of it.

The templates of a kind are families, each a list of meanings, each a list of wordings. Two wordings of one meaning are
duplicates; wordings of two meanings of a family are distinct. Slots such as `{name1}` and `{trait2[0]}` are filled
alike in both questions, with different rows of the lists "name" and "trait". `a(n)` becomes the article that the
next word needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from dupq.data import lexicon

Family = Sequence[Sequence[str]]
"""Meanings, each with its wordings."""

_SLOT = re.compile(r"\{([a-z_]+?)(\d*)(?:\[\d\])?\}")
_FIRST_OR_SECOND = re.compile(r"(?<=[a-z])[12](?=\})")
_ARTICLE = re.compile(r"\b([aA])\(n\) (?=((?!us|eu|uni(?!n))[aeiou]|honest|hour)?)")


@cache
def template_families(kind: str, held_out: bool) -> list[Family]:
    """Return the families of a kind.

    A template of "direction" or "no direction" is a single text; its second wording exchanges the slots 1 and 2.
    """
    rows: list[Any] = lexicon.load(f"contrast_templates_{'held_out' if held_out else 'train'}")[kind]
    if kind == "direction":
        return [[[text], [_exchanged(text)]] for text in rows]
    if kind == "no direction":
        return [[[text, _exchanged(text)]] for text in rows]
    return rows


def fill_family(
    family: Family, words: Mapping[str, Sequence[Any]], draw: np.random.Generator
) -> tuple[str, str, int] | None:
    """Draw two wordings of a family and fill their slots.

    Args:
        family: Meanings, each with its wordings.
        words: Name of a slot -> words, or pairs of words.
        draw: The random generator.

    Returns:
        Two questions and their label; None if the family has no pair of the label drawn.
    """
    label = int(draw.integers(2)) if len(family) > 1 else 1
    if label:
        meanings = [meaning for meaning in family if len(meaning) > 1]
        if not meanings:
            return None
        meaning = meanings[int(draw.integers(len(meanings)))]
        one, other = (meaning[at] for at in draw.choice(len(meaning), 2, replace=False))
    else:
        two = [family[at] for at in draw.choice(len(family), 2, replace=False)]
        one, other = (meaning[int(draw.integers(len(meaning)))] for meaning in two)
    values: dict[str, Any] = {}
    for name in sorted({slot[1] for slot in _SLOT.finditer(one + other)}):
        numbers = sorted({slot[2] for slot in _SLOT.finditer(one + other) if slot[1] == name})
        rows = words[name]
        for number, at in zip(numbers, draw.choice(len(rows), len(numbers), replace=False), strict=True):
            values[name + number] = rows[at]
    return _with_articles(one.format(**values)), _with_articles(other.format(**values)), label


def _exchanged(template: str) -> str:
    return _FIRST_OR_SECOND.sub(lambda found: "21"[int(found[0]) - 1], template)


def _with_articles(text: str) -> str:
    return _ARTICLE.sub(lambda found: f"{found[1]}{'n' if found[2] else ''} ", text)
