"""The kinds of stores that the suite runs on, and what its tests share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dupq.index.stores.base import NewQuestion, Store, StoredModel, StoredVerdict, Written
from dupq.index.stores.sql import Transaction, View
from dupq.index.stores.sqlite import SqliteStore
from dupq.types import Id

KINDS = (pytest.param("sqlite", id="sqlite"), pytest.param("postgres", id="postgres", marks=pytest.mark.postgres))
DIMENSIONS = 4


def make_store(kind: str, place: Path, wait: float = 60.0) -> Store:
    """Open the store of a kind at a place, from any process; it is made if there is none.

    A place is a folder of its own: a store that is kept elsewhere takes its name from it.
    """
    if kind == "postgres":
        from dupq.index.stores.postgres import PostgresStore

        schema = f"dupq_test_{hashlib.blake2b(bytes(place), digest_size=8).hexdigest()}"
        return PostgresStore(f"{os.environ['DUPQ_TEST_POSTGRES_URL']}&dupq_schema={schema}", wait=wait)
    return SqliteStore(place / "forum.db", wait=wait)


def vector(text: str, fingerprint: str = "one") -> NDArray[np.float32]:
    """A vector that float16 holds exactly, its own for each text and model."""
    digest = hashlib.blake2b(f"{fingerprint} {text}".encode(), digest_size=DIMENSIONS).digest()
    return np.frombuffer(digest, np.uint8).astype(np.float32) / 256


def put(transaction: Transaction, rows: Iterable[NewQuestion]) -> Written:
    """Write questions with their vectors under every model, in a store that has one."""
    rows = list(rows)
    models = transaction.models()
    return transaction.put(
        rows, {m.number: {row.text: vector(row.text, m.fingerprint) for row in rows} for m in models}
    )


def begin(store: Store, fingerprint: str = "one") -> StoredModel:
    """Record a model and use it."""

    def action(transaction: Transaction) -> StoredModel:
        model = transaction.add_model(fingerprint, DIMENSIONS, "float16")
        transaction.use_model(model)
        return model

    return store.write(action)


def fill(store: Store, ids: Iterable[Id], word: str = "What") -> Written:
    """Write a question under each id."""
    return store.write(lambda transaction: put(transaction, [NewQuestion(id_, f"{word} is {id_!r}?") for id_ in ids]))


def verdict(id_: Id, other: Id, key: str, answer: str = "duplicate", **more: Any) -> StoredVerdict:
    return StoredVerdict(0, id_, other, answer, "ann", "2026-05-01T00:00:00+00:00", key=key, **more)


def vectors_of(view: View, model: StoredModel) -> dict[int, list[float]]:
    """Slot -> vector, of all rows of a model."""
    parts = list(view.vectors_after(model, 0))
    return {slot: row for slots, rows in parts for slot, row in zip(slots.tolist(), rows.tolist(), strict=True)}


def content(store: Store) -> dict[str, Any]:
    """All that a store holds, as it can be compared."""
    with store.reading() as view:
        model = view.model()
        return {
            "questions": [(asdict(row), print_) for row, print_ in view.rows()],
            "models": view.models(),
            "model": model,
            "vectors": {model.number: vectors_of(view, model) for model in view.models()},
            "decisions": view.decisions(),
            "verdicts": view.verdicts(),
            "merges": view.merges(),
            "calibrations": view.calibrations(),
            "calibration": view.calibration(),
            "position": view.position(),
            "removed": view.count("removed"),
            "decided": view.count("decisions"),
            "last verdict": view.last_verdict(),
        }
