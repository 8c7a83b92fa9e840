"""Fold the texts of a template, such as a weekly thread, into one line of a list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dupq.data.text import normalise
from dupq.mining.templates import pattern_of

MIN_FOLDED = 4
"""Fewest texts that are folded; fewer are shown one by one."""
MAX_FIRSTS = 50
"""Texts that the others are compared with."""
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows of a list that are shown together.

    Attributes:
        places: Places of the rows in the list, rising.
        pattern: What their texts have in common, with "…" and "#" for what differs; "" for a row by itself.
    """

    places: tuple[int, ...]
    pattern: str = ""


def fold_texts(texts: Sequence[str]) -> list[Fold]:
    """Fold texts that differ in one place or in numbers only.

    The place holds a name or a date, for example. A text is compared with the first `MAX_FIRSTS` texts that are of no
    template.

    Returns:
        The folds, in the order of their first rows.
    """
    firsts: list[int] = []
    found: dict[int, tuple[int, str]] = {}  # place -> first text of the template, pattern
    for place, text in enumerate(texts):
        for first in firsts:
            pattern = pattern_of(texts[first], text)
            if pattern is not None:
                found[place] = (first, pattern)
                break
        else:
            if len(firsts) < MAX_FIRSTS:
                firsts.append(place)
    counts = Counter(found.values())
    keys = {place: key for place, key in found.items() if counts[key] + 1 >= MIN_FOLDED}
    for first, _ in dict.fromkeys(keys.values()):
        # Its own row belongs to the most frequent of its patterns.
        keys[first] = max((key for key in counts if key[0] == first), key=lambda key: counts[key])
    return _folds(len(texts), keys)


def fold_pairs(pairs: Sequence[tuple[str, str] | None]) -> list[Fold]:
    """Fold pairs of texts that have one pattern; None is never folded."""
    patterns = [None if pair is None else pattern_of(*pair) for pair in pairs]
    counts = Counter(patterns)
    keys = {
        place: (0, pattern)
        for place, pattern in enumerate(patterns)
        if pattern is not None and counts[pattern] >= MIN_FOLDED
    }
    return _folds(len(pairs), keys)


def fold_numbers(texts: Sequence[str]) -> list[Fold]:
    """Fold texts that differ in numbers only; fast for any number of texts."""
    patterns = [_NUMBER.sub("#", normalise(text)) for text in texts]
    counts = Counter(patterns)
    keys = {
        place: (0, pattern)
        for place, pattern in enumerate(patterns)
        if "#" in pattern and counts[pattern] >= MIN_FOLDED
    }
    return _folds(len(texts), keys)


def _folds(count: int, keys: dict[int, tuple[int, str]]) -> list[Fold]:
    places: dict[tuple[int, str], list[int]] = {}
    for place in range(count):
        places.setdefault(keys.get(place, (place, "")), []).append(place)
    return [Fold(tuple(rows), key[1]) for key, rows in places.items()]
