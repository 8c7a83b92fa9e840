"""Exact or approximate search of an index.

The recall of an approximate search is measured on the questions of the index.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_int
from dupq.errors import InputError, require_extra
from dupq.index.hnsw import MARGIN, ApproximateRows, Graphs, has_usearch
from dupq.index.nearest import QUERIES, Found, best, cosines, nothing
from dupq.index.stores.base import Position, Store, StoredModel
from dupq.index.stores.sql import Transaction, View
from dupq.index.vector_cache import Snapshot, VectorCache, Vectors
from dupq.models.batching import chunks
from dupq.types import Progress

SearchMode = Literal["auto", "exact", "approximate"]
EXACT_LIMIT = 1_000_000
"""Questions up to which "auto" is exact: there a scan takes half as long as the scoring of the flags it finds."""
RECALL_AT = 10
RECALL_KEY = "search_recall"
"""Key of the measured recall in `meta`."""
Z95 = 1.959964

_log = logging.getLogger(__name__)


class Searchable(Protocol):
    """Rows of one state of a store that can be searched."""

    def __len__(self) -> int: ...

    def search(self, queries: Vectors, k: int) -> list[Found]:
        """Return slots and cosines of the k nearest rows of each query (m, d).

        The nearest row comes first.
        """

    def vectors(self, slots: Iterable[int]) -> dict[int, Vectors]:
        """Return the vectors of those slots that hold a question.

        They are copies, each float32 (d,).
        """


@runtime_checkable
class SearchingStore(Protocol):
    """Store that searches by itself, as PostgreSQL does with pgvector."""

    def can_search(self, view: View, model: StoredModel) -> bool:
        """Return True if the approximate index of a model is built and valid."""

    def nearest(self, view: View, model: StoredModel, query: Vectors, count: int) -> list[int]:
        """Return the slots of about the `count` nearest rows of a query (d,).

        They are rows of the state of the view.
        """

    def build_search(self, model: StoredModel) -> None:
        """Build the approximate index of a model, unless it is there.

        Readers and writers go on meanwhile.

        Raises:
            OutputError: It could not be built.
        """


class StoredRows:
    """Approximate search by the store itself; no vectors are kept in this process.

    Args:
        view: State of the store.
        store: The store.
        model: The model of the vectors.
        count: Number of questions.
    """

    def __init__(self, view: View, store: SearchingStore, model: StoredModel, count: int) -> None:
        self._view, self._store, self._model, self._count = view, store, model, count

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, k: int) -> list[Found]:
        """Return about the k nearest rows of each query.

        The cosines are those of an exact search.
        """
        return [self._nearest(query, k) for query in queries]

    def _nearest(self, query: Vectors, k: int) -> Found:
        if k < 1 or not query.any():
            return nothing()
        found = self._view.vectors(self._model, self._store.nearest(self._view, self._model, query, 2 * k + MARGIN))
        if not found:
            return nothing()
        slots = np.array([*found], np.int64)
        return best(k, [(slots, cosines(query, np.stack([*found.values()])))])

    def vectors(self, slots: Iterable[int]) -> dict[int, Vectors]:
        """Return the vectors, each float32 (d,), of those slots that hold a question."""
        found = self._view.vectors(self._model, [*slots])
        return {slot: row.astype(np.float32) for slot, row in found.items()}


@dataclass(frozen=True, slots=True)
class RecallReport:
    """Share of the ten nearest questions that the search finds.

    Attributes:
        search: "exact" or "approximate".
        recall_at_10: Mean over the sampled questions.
        interval: Of 95 %, by Wilson (1927) with the questions as trials, which is wider than needed.
        sample: Number of questions that were searched for.
        questions: Number of questions in the index then.
    """

    search: str
    recall_at_10: float
    interval: tuple[float, float]
    sample: int
    questions: int


class QuestionSearch:
    """Search of the questions of a store.

    Args:
        store: The store.
        vectors: Its vectors in this process.
        mode: "exact", "approximate", or "auto": exact up to `EXACT_LIMIT` questions.

    Raises:
        InputError: `mode` is none of the three.
        MissingExtraError: `mode` is "approximate", and neither usearch nor pgvector can be used.
    """

    def __init__(self, store: Store, vectors: VectorCache, mode: SearchMode = "auto") -> None:
        if mode not in get_args(SearchMode):
            raise InputError(
                f"search must be one of {', '.join(get_args(SearchMode))}, got {mode!r}", hint="leave it at auto"
            )
        if mode == "approximate" and not isinstance(store, SearchingStore):
            require_extra("large", "the approximate search of an index")
        self._store, self._cache, self.mode = store, vectors, mode
        self._graphs = Graphs(vectors.file.with_name(f"{vectors.file.name.removesuffix('.vectors')}.hnsw"))
        self._counted: tuple[Position, int] | None = None
        self._warned = False

    @contextmanager
    def following(self) -> Iterator[tuple[View, Searchable]]:
        """Give a view of the store, and the search of exactly that state.

        Raises:
            InputError: A stored vector is damaged.
        """
        if self.mode != "exact" and isinstance(self._store, SearchingStore):
            with self._store.reading() as view:
                model = view.model()
                count = self._count(view)
                if model is not None and self._is_approximate(count) and self._store.can_search(view, model):
                    yield view, StoredRows(view, self._store, model, count)
                    return
        with self._cache.following(self._store) as (view, snapshot):
            yield view, self._rows(view, snapshot)

    def _is_approximate(self, count: int) -> bool:
        return self.mode == "approximate" or (self.mode == "auto" and count > EXACT_LIMIT)

    def _count(self, view: View) -> int:
        """Return the number of questions.

        Counting takes long in PostgreSQL, so it is done once and then updated by the counters.
        """
        now, known = view.position(), self._counted
        if known is not None and known[0].database == now.database:
            # Each slot is one more question, each removal one fewer.
            count = known[1] + (now.slot - known[0].slot) - (now.removal - known[0].removal)
        else:
            count = len(view)
        self._counted = (now, count)
        return count

    def _rows(self, view: View, snapshot: Snapshot) -> Searchable:
        if not self._is_approximate(len(snapshot)):
            return snapshot
        if not has_usearch():
            if not self._warned:
                self._warned = True
                _log.warning(
                    "the search of %s questions is exact and slow; install dupq[large] for an approximate one",
                    f"{len(snapshot):,}",
                )
            return snapshot
        graph = self._graphs.fitting(view, snapshot)
        if self._graphs.is_stale(graph, snapshot):
            self._graphs.build_beside(self._cache, self._store)
        return snapshot if graph is None else ApproximateRows(snapshot, graph)

    def _beside(self, view: View, snapshot: Snapshot) -> Searchable:
        """Return the search of a state whose vectors are in this process."""
        model = view.model()
        store, count = self._store, len(snapshot)
        if model is None or not isinstance(store, SearchingStore) or not self._is_approximate(count):
            return self._rows(view, snapshot)
        return StoredRows(view, store, model, count) if store.can_search(view, model) else self._rows(view, snapshot)

    def build(self, progress: Progress | None = None) -> None:
        """Build or extend what the approximate search needs, and wait for it.

        Raises:
            MissingExtraError: Neither usearch nor pgvector can be used.
            OutputError: It could not be written.
        """
        if isinstance(self._store, SearchingStore):
            with self._store.reading() as view:
                model = view.model()
            if model is not None:
                self._store.build_search(model)
            return
        require_extra("large", "the approximate search of an index")
        self._graphs.build(self._cache, self._store, progress=progress)

    # ---- recall ---------------------------------------------------------------------------------------------------

    def measure_recall(self, sample: int, seed: int) -> RecallReport:
        """Measure the recall of the search on stored questions, and store it.

        An exact search has the recall 1, and nothing is stored.

        Raises:
            InputError: `sample` is below 1, or there are fewer than two questions.
        """
        as_int(sample, "sample", 1)
        with self._cache.following(self._store) as (view, snapshot):
            count = len(snapshot)
            if count < 2:
                raise InputError(f"the index must have at least 2 questions, got {count}", hint="add questions first")
            if isinstance(self._beside(view, snapshot), Snapshot):
                return RecallReport("exact", 1.0, (1.0, 1.0), 0, count)
            slots = np.random.default_rng(seed).choice(snapshot.slots, min(sample, count), replace=False)
        shares: list[float] = []
        for part in chunks(len(slots), QUERIES):
            # A part at a time: other threads may write the file of the vectors in between.
            with self._cache.following(self._store) as (view, snapshot):
                queries = {slot: row for slot, row in snapshot.vectors(slots[part].tolist()).items() if row.any()}
                if queries:
                    rows = np.stack([*queries.values()])
                    true = snapshot.search(rows, RECALL_AT + 1)
                    found = self._beside(view, snapshot).search(rows, RECALL_AT + 1)
                    shares += map(_recall, queries, true, found)
        recall = float(np.mean(shares)) if shares else 1.0
        report = RecallReport("approximate", recall, wilson(recall, len(shares)), len(shares), count)
        content = json.dumps({"recall": recall, "interval": report.interval, "sample": len(shares), "questions": count})

        def put(transaction: Transaction) -> None:
            transaction.set_meta(RECALL_KEY, content)

        self._store.write(put)
        return report

    def stats(self) -> dict[str, Any]:
        """Return the search that a flag would use, its recall and its memory.

        `recall_measured_at` is the number of questions at which the recall was measured. `vectors_memory_bytes` is the
        memory of this process. Nothing is loaded for it.
        """
        with self._store.reading() as view:
            count, model, stored = self._count(view), view.model(), view.meta(RECALL_KEY)
            approximate = self._is_approximate(count) and (
                (isinstance(self._store, SearchingStore) and model is not None and self._store.can_search(view, model))
                or (has_usearch() and self._graphs.file.exists())
            )
        measured = json.loads(stored) if stored is not None and approximate else {}
        return {
            "search": "approximate" if approximate else "exact",
            "recall_at_10": measured.get("recall"),
            "recall_interval": measured.get("interval"),
            "recall_measured_at": measured.get("questions"),
            "vectors_memory_bytes": self._cache.memory_bytes + self._graphs.memory_bytes,
        }


def _recall(own: int, true: Found, found: Found) -> float:
    """Return the recall of the ten nearest rows other than the question itself.

    Ties count as found.
    """
    wanted = _without(own, true)[:RECALL_AT]
    if not len(wanted):
        return 1.0
    return min(1.0, float(np.count_nonzero(_without(own, found)[:RECALL_AT] >= wanted[-1])) / len(wanted))


def _without(own: int, found: Found) -> NDArray[np.float64]:
    slots, values = found
    kept: NDArray[np.float64] = values[slots != own]
    return kept


def wilson(share: float, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson (1927); (0, 1) without trials."""
    if trials < 1:
        return 0.0, 1.0
    z2 = Z95**2 / trials
    centre = (share + z2 / 2) / (1 + z2)
    half = Z95 / (1 + z2) * float(np.sqrt(share * (1 - share) / trials + z2 / (4 * trials)))
    return max(0.0, centre - half), min(1.0, centre + half)
