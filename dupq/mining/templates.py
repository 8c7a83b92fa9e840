"""Templates whose pairs can flood a list of duplicates.

An example is the title of a weekly thread.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import normalise

MIN_SHARE = 0.01
"""A template is reported from this share of the flagged pairs,"""
MIN_PAIRS = 20
"""and from this number of them."""
SLOT = "…"

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Template:
    """Words that many flagged pairs share, around a slot in which they differ.

    Attributes:
        pattern: The common words, with "…" for the slot and "#" for a number.
        pairs: Number of flagged pairs with this pattern.
        share: Their share of all flagged pairs.
        example: The first such pair, as two texts.
    """

    pattern: str
    pairs: int
    share: float
    example: tuple[str, str]


def pattern_of(left: str, right: str) -> str | None:
    """Return the pattern of two texts that differ in one place or in numbers only.

    Return None for other texts. Around a place, the words that both begin with and both end with must be at least half
    of the longer text, and three.
    """
    a, b = (_NUMBER.sub("#", normalise(text)).split() for text in (left, right))
    if a == b:
        return " ".join(a) if "#" in " ".join(a) else None
    shorter = min(len(a), len(b))
    head = next((at for at in range(shorter) if a[at] != b[at]), shorter)
    tail = next((at for at in range(shorter - head) if a[-1 - at] != b[-1 - at]), shorter - head)
    if head + tail < max(3, max(len(a), len(b)) / 2):
        return None
    return " ".join([*a[:head], SLOT, *a[len(a) - tail :]])


def find_templates(left: Sequence[str], right: Sequence[str]) -> tuple[list[Template], NDArray[np.int64]]:
    """Find the templates of n flagged pairs that reach `MIN_SHARE` and `MIN_PAIRS`.

    Args:
        left, right: n texts each.

    Returns:
        The templates, most pairs first, and for each pair the index of its template, int64 (n,), -1 for none.
    """
    patterns = [pattern_of(a, b) for a, b in zip(left, right, strict=True)]
    counts = Counter(pattern for pattern in patterns if pattern is not None)
    min_pairs = max(MIN_PAIRS, MIN_SHARE * len(patterns))
    names = sorted(
        (name for name, count in counts.items() if count >= min_pairs), key=lambda name: (-counts[name], name)
    )
    index = {name: at for at, name in enumerate(names)}
    of_pair = np.array([-1 if pattern is None else index.get(pattern, -1) for pattern in patterns], np.int64)
    first = [patterns.index(name) for name in names]
    found = [
        Template(name, counts[name], counts[name] / len(patterns), (left[at], right[at]))
        for name, at in zip(names, first, strict=True)
    ]
    return found, of_pair
