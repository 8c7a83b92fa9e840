"""Candidate pairs: exact copies by their hash, near texts by their vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.decisions.candidate_rule import CandidateRule
from dupq.mining.questions import Questions, id_key
from dupq.mining.stored_questions import take
from dupq.search.cells import cell_pairs
from dupq.search.exact import similar_pairs
from dupq.search.pairs import SimilarPairs
from dupq.search.vectors import StoredRows, slice_rows
from dupq.types import Progress


def exact_copies(questions: Questions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each copy with the question that represents its text.

    Between two collections, copies are new questions, and an old question represents the text where there is one.

    Returns:
        Question numbers of the left and the right side, int64 (c,). Within one collection a text that occurs k times
        makes k - 1 pairs.
    """
    two = questions.sides is not None
    question = np.arange(len(questions))
    original = questions.second[questions.text_of]
    copies = question[(question != original) & ((question < questions.new) if two else True)]
    ids = take(questions.ids, copies)
    copies = copies[sorted(range(len(copies)), key=lambda row: id_key(ids[row]))]
    return (copies, original[copies]) if two else (original[copies], copies)


def near_pairs(
    vectors: NDArray[np.float32] | StoredRows,
    sides: tuple[int, int] | None,
    *,
    rule: CandidateRule,
    max_pairs: int,
    approximate: bool,
    resume: Path | None,
    progress: Progress | None,
) -> SimilarPairs:
    """Find pairs of texts with near vectors, within one collection or between two.

    Args:
        vectors: float32 (u, d), of the distinct texts.
        sides: `Questions.sides`.
        rule: The pairs to find. Between two collections, only the neighbours of texts of the new one count.
        max_pairs, progress: As for `search.exact.similar_pairs`.
        approximate: Search by cells, with a certified recall.
        resume: A file that an exact search keeps its progress in, or None.

    Raises:
        InputError: As the two searches.
    """
    n = len(vectors)
    start, stop = (0, n) if sides is None else sides
    options: dict[str, Any] = {"threshold": rule.min_cosine, "max_pairs": max_pairs, "progress": progress}
    options["shared_from"] = shared_from(sides)
    if rule.neighbours:
        options |= {"neighbours": rule.neighbours, "every_from": rule.every_from}
    left, right = (vectors, None) if sides is None else (slice_rows(vectors, 0, stop), slice_rows(vectors, start, n))
    pairs = cell_pairs(left, right, **options) if approximate else similar_pairs(left, right, resume=resume, **options)
    return of_distinct_texts(pairs, sides)


def shared_from(sides: tuple[int, int] | None) -> int | None:
    """Return the first distinct text that is in both collections, or None.

    `sides` is `Questions.sides`.
    """
    return None if sides is None or sides[0] == sides[1] else sides[0]


def of_distinct_texts(pairs: SimilarPairs, sides: tuple[int, int] | None) -> SimilarPairs:
    """Return the pairs of a search, numbered by distinct text.

    Args:
        pairs: Pairs of a search among the texts, or between those up to `sides[1]` and those from `sides[0]` on.
        sides: `Questions.sides`.
    """
    return pairs if sides is None else replace(pairs, right=pairs.right + sides[0])
