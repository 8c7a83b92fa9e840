"""A small forum for the tests of the live index, and what its answers must be."""

from __future__ import annotations

from typing import Any

import numpy as np

from dupq.forum.index import QuestionIndex
from tests.fakes import WordEmbedder
from tests.questions import INTENTS, THINGS

TEXTS = [phrase.format(thing=thing) for thing in THINGS[:6] for asked in INTENTS for phrase in asked]
IDS = [f"q{at}" for at in range(len(TEXTS))]


def nearest_ids(index: QuestionIndex, text: str, k: int) -> list[Any]:
    return [flag.id for flag in sorted(index.flag(text, k=k).flags, key=lambda flag: (-flag.cosine, str(flag.id)))]


def by_brute_force(texts: dict[Any, str], text: str, k: int) -> set[float]:
    vectors = WordEmbedder().embed([*texts.values(), text]).astype(np.float64)
    return set(np.sort(vectors[:-1] @ vectors[-1])[::-1][:k].round(5).tolist())
