"""A small forum for the tests of the live index, and what its answers must be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.index.question_index import QuestionIndex
from tests.fakes import WordEmbedder
from tests.questions import INTENTS, THINGS

TEXTS = [phrase.format(thing=thing) for thing in THINGS[:6] for asked in INTENTS for phrase in asked]
IDS = [f"q{at}" for at in range(len(TEXTS))]


def nearest_ids(index: QuestionIndex, text: str, k: int) -> list[Any]:
    return [flag.id for flag in sorted(index.flag(text, k=k).flags, key=lambda flag: (-flag.cosine, str(flag.id)))]


def stored_vectors(texts: Iterable[str], form: str = "float16", dimensions: int = 64) -> NDArray[np.float32]:
    """The vectors as an index gives them back."""
    return WordEmbedder(dimensions).embed([*texts]).astype(form).astype(np.float32)


def cosine(stored: str, asked: str, form: str = "float16", dimensions: int = 64) -> float:
    """The cosine of a flag: the vector of the question that is asked is not rounded."""
    return float(stored_vectors([stored], form, dimensions)[0] @ WordEmbedder(dimensions).embed([asked])[0])


def by_brute_force(texts: dict[Any, str], text: str, k: int, form: str = "float16") -> set[float]:
    vectors = stored_vectors(texts.values(), form).astype(np.float64)
    return set(np.sort(vectors @ WordEmbedder().embed([text])[0])[::-1][:k].round(5).tolist())
