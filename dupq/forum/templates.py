"""Posts made from one template, such as a weekly thread, whose pairs can flood a list of duplicates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import normalise

SHARE = 0.01
"""A template is named when it makes this share of all flagged pairs,"""
FEWEST = 20
"""and at least so many of them."""
SLOT = "…"

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Template:
    """Words that many flagged pairs have in common, around a gap in which they differ.

    Attributes:
        pattern: The common words, with "…" for what differs and "#" for a number.
        pairs: How many flagged pairs are of it.
        share: Their share of all flagged pairs.
        example: The first such pair, as two texts.
    """

    pattern: str
    pairs: int
    share: float
    example: tuple[str, str]


def pattern_of(left: str, right: str) -> str | None:
    """The template of two texts that differ in one place or in numbers only; None if they share too little to say.

    The words that both begin with and both end with must be at least half of the longer text, and three.
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


def find_templates(
    left: Sequence[str], right: Sequence[str], *, share: float = SHARE, fewest: int = FEWEST
) -> tuple[list[Template], NDArray[np.int64]]:
    """The templates that flood a list of flagged pairs.

    Args:
        left, right: The texts of n flagged pairs.
        share, fewest: What makes a template worth naming.

    Returns:
        The templates, most pairs first, and of each pair the number of its template, int64 (n,), -1 for none.
    """
    patterns = [pattern_of(a, b) for a, b in zip(left, right, strict=True)]
    counts = Counter(pattern for pattern in patterns if pattern is not None)
    least = max(fewest, share * len(patterns))
    named = sorted((pattern for pattern, count in counts.items() if count >= least), key=lambda p: (-counts[p], p))
    number = {pattern: at for at, pattern in enumerate(named)}
    of_pair = np.array([-1 if pattern is None else number.get(pattern, -1) for pattern in patterns], np.int64)
    first = {pattern: patterns.index(pattern) for pattern in named}
    found = [
        Template(
            pattern, counts[pattern], counts[pattern] / len(patterns), (left[first[pattern]], right[first[pattern]])
        )
        for pattern in named
    ]
    return found, of_pair
