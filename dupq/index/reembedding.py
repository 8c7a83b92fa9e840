"""Change of the model of an index, beside its readers and writers.

The vectors of the new model are stored beside those of the old one, some hundred a transaction. Flags use the old model
until one transaction embeds the last few questions and switches. A reader takes the model and its vectors from one
state of the store, so that no flag mixes two models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.index.stores.base import Store, StoredModel, StoredQuestion, VectorForm
from dupq.index.stores.sql import Transaction, View
from dupq.types import Embedder, Progress

PART = 256
"""Questions a transaction: what a crash can cost."""
LAST = 16
"""At most this many questions are left to the transaction that switches, while no other writer is running."""

Embed = Callable[[Sequence[str]], NDArray[Any]]
"""n texts -> vectors (n, d)."""


def reembed(
    store: Store, embedder: Embedder, form: VectorForm, embed: Embed | None = None, progress: Progress | None = None
) -> int:
    """Switch to a bi-encoder; return the number of questions embedded for it.

    Only questions without a vector of it are embedded. It can be interrupted at any moment; run again, it continues. No
    lock is held while texts are embedded, except for the last few questions. Several processes may do it at once: the
    first vector of a question stays.

    Args:
        store: The index.
        embedder: The bi-encoder.
        form: Number format of the vectors, if the store does not know the bi-encoder yet.
        embed: Its function, if other work has priority over it; None: `embedder.embed`.
        progress: Called with (questions that have a vector, questions).

    Raises:
        InputError: The model was dropped meanwhile.
        OutputError: The disk is full, or another writer did not stop.
    """
    embed = embedder.embed if embed is None else embed
    model = store.write(lambda transaction: transaction.add_model(embedder.fingerprint, embedder.dimensions, form))
    with store.reading() as view:
        done, total = view.count(_stored(view, model).table), len(view)
    count = after = 0
    last: dict[int, NDArray[Any]] = {}

    def put(transaction: Transaction, rows: Sequence[StoredQuestion], vectors: Iterable[NDArray[Any]]) -> None:
        # A question that was removed or replaced meanwhile has another slot, or none.
        stored = transaction.questions([row.slot for row in rows])
        kept = {row.slot: vector for row, vector in zip(rows, vectors, strict=True) if row.slot in stored}
        if kept:
            transaction.put_vectors(_stored(transaction, model), [*kept], np.stack([*kept.values()]))

    def finish(transaction: Transaction) -> bool:
        rows = transaction.missing(_stored(transaction, model), PART, after)
        if len(rows) == PART:
            return False  # others have added too many meanwhile to embed them under the lock
        # The store may run this again after a lost connection.
        if new := [row for row in rows if row.slot not in last]:
            last.update(zip([row.slot for row in new], embed([row.text for row in new]), strict=True))
        put(transaction, rows, [last[row.slot] for row in rows])
        if transaction.model() != model:
            transaction.use_model(model)
        return True

    def report() -> None:
        if progress is not None:
            progress(done + count, max(done + count, total))

    report()
    while True:
        with store.reading() as view:
            rows = view.missing(_stored(view, model), PART, after)
        if len(rows) > LAST:
            vectors = embed([row.text for row in rows])
            store.write(partial(put, rows=rows, vectors=vectors))
            count, after = count + len(rows), rows[-1].slot
            report()
        elif store.write(finish):
            count += len(last)
            report()
            return count


def _stored(view: View, model: StoredModel) -> StoredModel:
    """Return the model; raise InputError if it is not in the store any more."""
    if model in view.models():
        return model
    raise InputError(
        f"the model {model.fingerprint} was dropped while questions were embedded with it",
        location=view.location,
        hint="start again: `dupq index reembed`",
    )


def drop_model(store: Store, fingerprint: str) -> None:
    """Delete a model and its vectors.

    A model that is in use or unknown raises InputError.
    """

    def drop(transaction: Transaction) -> None:
        known = {model.fingerprint: model for model in transaction.models()}
        if fingerprint not in known:
            raise InputError(
                f"the index has no model {fingerprint!r:.80}",
                location=store.location,
                hint=f"name one of {', '.join(known) or 'those that were added'}",
            )
        transaction.drop_model(known[fingerprint])

    store.write(drop)


def model_stats(view: View) -> list[dict[str, Any]]:
    """Return the statistics of each model, oldest first.

    They are fingerprint, dimensions, form, number of embedded questions, and True for the present model.
    """
    present = view.model()
    return [
        {
            "fingerprint": model.fingerprint,
            "dimensions": model.dimensions,
            "form": model.form,
            # Every question has a vector of the present model; to count them would read them all.
            "embedded": len(view) if model == present else view.count(model.table),
            "present": model == present,
        }
        for model in view.models()
    ]
