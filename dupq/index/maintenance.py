"""Maintenance of an index: statistics and verification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import duplicate_key_hash
from dupq.errors import InputError, OutputError
from dupq.index.reembedding import model_stats
from dupq.index.stores.base import Store, StoredModel, StoredQuestion
from dupq.index.stores.sql import View
from dupq.index.vector_cache import VectorCache
from dupq.search.kernels import UNIT_TOLERANCE

PART = 256
"""Questions read at a time."""
MAX_PROBLEMS = 100


def index_stats(store: Store, vectors: VectorCache) -> dict[str, Any]:
    """Return counts, sizes in bytes and the model of an index, as JSON can hold them."""
    file = vectors.file
    with store.reading() as view:
        model = view.model()
        return {
            "path": store.location,
            "questions": len(view),
            "distinct_texts": view.distinct_texts(),
            "decisions": view.count("decisions"),
            "verdicts": view.count("verdicts"),
            "removed_since_compaction": view.count("removed"),
            **store.sizes(),
            "vectors_bytes": file.stat().st_size if file.exists() else 0,
            "model": None if model is None else model.fingerprint,
            "dimensions": 0 if model is None else model.dimensions,
            "models": model_stats(view),
        }


def verify_index(store: Store, vectors: VectorCache) -> list[str]:
    """Check every row of an index, and return the faults, one line each.

    Once 100 faults are found, the check ends before the next row, with the line "and more". If there is no fault, the
    vector file is written again.
    """
    problems: list[str] = []
    try:
        with store.reading() as view:
            problems = view.damage()
            present = view.model()
            after = 0
            while rows := list(view.rows(after, PART)):
                after = rows[-1][0].slot
                found = {model: _vectors(view, model, [row.slot for row, _ in rows]) for model in view.models()}
                for row, key_hash in rows:
                    if len(problems) >= MAX_PROBLEMS:
                        return [*problems, "and more"]
                    problems += _text_problems(row, key_hash)
                    for model, held in found.items():
                        if row.slot in held or model == present:
                            problems += _vector_problems(row, held.get(row.slot))
        if not problems:
            vectors.rebuild(store)
    except (InputError, OutputError, OSError) as error:
        problems.append(str(error))
    return problems


def _vectors(view: View, model: StoredModel, slots: Sequence[int]) -> dict[int, NDArray[Any] | InputError]:
    """Return the vector of each slot, or the error that it cannot be read."""
    try:
        return {**view.vectors(model, slots)}
    except InputError:
        found: dict[int, NDArray[Any] | InputError] = {}
        for slot in slots:
            try:
                found |= view.vectors(model, [slot])
            except InputError as error:
                found[slot] = error
        return found


def _text_problems(row: StoredQuestion, key_hash: int) -> list[str]:
    """Return the faults of a text."""
    changed = duplicate_key_hash(row.text) != key_hash
    return [f"id {row.id!r}: its text is not the one that was stored"] if changed else []


def _vector_problems(row: StoredQuestion, vector: NDArray[Any] | InputError | None) -> list[str]:
    """Return the faults of a vector of one question."""
    if vector is None:
        return [f"id {row.id!r}: it has no vector"]
    if isinstance(vector, InputError):
        return [f"id {row.id!r}: {vector}"]
    length = float(np.linalg.norm(vector.astype(np.float64)))
    wrong = not (abs(length - 1) <= UNIT_TOLERANCE or length == 0)
    return [f"id {row.id!r}: its vector has length {length:.4g}, not 1"] if wrong else []
