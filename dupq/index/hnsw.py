"""Approximate search by usearch in the vectors of a process.

The graph is HNSW (Malkov & Yashunin 2018) over copies of the vectors in 8 bits. Its file lies beside the vectors and is
mapped, so processes share its pages. It is derived from the store and never trusted: a file that is missing, damaged,
or of another epoch or history is built again. Rows that are newer than the graph are searched exactly, and removed rows
are left out, until enough have changed for the graph to be extended.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import zlib
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import written_beside
from dupq.errors import DupqError, OutputError
from dupq.index.forking import Forkable
from dupq.index.nearest import Found, Slots, best
from dupq.index.provenance import Provenance, is_of_history, provenance_of
from dupq.index.stores.base import Position, Store
from dupq.index.stores.sql import View
from dupq.index.vector_cache import Snapshot, VectorCache, Vectors
from dupq.models.batching import chunks
from dupq.types import Progress

if TYPE_CHECKING:
    from usearch.index import Index

FILE_FORMAT = 1
TRAILER = 4096
EXPANSION = 128
"""Candidates that HNSW keeps while it inserts or searches a row: more take longer and raise the recall."""
MARGIN = 32
"""Candidates that are read beside twice the number of rows wanted; the exact cosine decides between them."""
MAX_CANDIDATES = 2000
"""Candidates from which the search is exact, because most of those nearest are removed."""
NEW_SHARE, NEW_ROWS = 0.02, 20_000
"""The graph is extended when this share of the rows, and more than `NEW_ROWS`, were added or removed after it."""
DEAD_SHARE = 0.2
"""A graph with a larger share of removed rows is built again, because they cost recall."""
BATCH = 512
"""Rows that are inserted at a time."""
RETRY_SECONDS = 600.0
"""Time after which a graph that could not be built beside the searches is tried again."""

_log = logging.getLogger(__name__)


def has_usearch() -> bool:
    """Return True if usearch is installed."""
    return find_spec("usearch") is not None


@dataclass(frozen=True, slots=True)
class Graph:
    """Graph of the rows of one state of a store; it does not change.

    Attributes:
        index: The mapped index of usearch; one thread at a time may search it.
        position: The state.
        last: The largest slot; rows of later slots are not in the graph.
        count: Number of questions in that state; rows of zeros are not in the graph.
        provenance: Of that state.
        lock: Held during a search.
    """

    index: Index
    position: Position
    last: int
    count: int
    provenance: Provenance
    lock: threading.Lock

    def candidates(self, query: Vectors, count: int) -> Slots:
        """Return the slots of about the `count` nearest rows, int64.

        Some may have been removed since.
        """
        with self.lock:
            matches = self.index.search(query, min(count, max(1, len(self.index))), threads=1)
        return np.asarray(matches.keys).astype(np.int64)

    def changed_rows(self, snapshot: Snapshot) -> int:
        """Return how many rows of a snapshot were added or removed after this graph."""
        new = sum(len(block) - int(np.searchsorted(block.slots, self.last, "right")) for block in snapshot.blocks)
        return new + abs(self.count + new - len(snapshot))


class ApproximateRows:
    """Approximate search in a snapshot by a graph of an earlier state.

    Args:
        snapshot: The vectors.
        graph: The graph.
    """

    def __init__(self, snapshot: Snapshot, graph: Graph) -> None:
        self._snapshot, self._graph = snapshot, graph

    def __len__(self) -> int:
        return len(self._snapshot)

    def search(self, queries: Vectors, k: int) -> list[Found]:
        """Return about the k nearest rows of each query.

        The cosines are those of an exact search.
        """
        newer = self._snapshot.search(queries, k, after=self._graph.last)
        return [self._nearest(query, k, new) for query, new in zip(queries, newer, strict=True)]

    def _nearest(self, query: Vectors, k: int, new: Found) -> Found:
        count, wanted = 2 * k + MARGIN, min(k, len(self._snapshot))
        while True:
            found = self._snapshot.rescored(query, self._graph.candidates(query, count))
            if len(found[0]) >= min(wanted + MARGIN // 2, count // 2):
                return best(k, [found, new])
            if count >= min(len(self._graph.index), MAX_CANDIDATES):
                break
            count *= 4
        if len(found[0]) + len(new[0]) >= wanted and count < MAX_CANDIDATES:
            return best(k, [found, new])
        return self._snapshot.search(query[None], k)[0]

    def vectors(self, slots: Any) -> dict[int, Vectors]:
        """Return the vectors of those slots that hold a question.

        They are copies, each float32 (d,).
        """
        return self._snapshot.vectors(slots)


class Graphs(Forkable):
    """Graph of an index's vectors, kept in a file.

    It is read from the file, and built again beside the searches.

    Args:
        file: The file of the graph.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.after_fork()
        self.watch_forks()

    def after_fork(self) -> None:
        """Start without a graph and with new locks, in the child.

        Another thread of the parent may have been searching.
        """
        self._graph: Graph | None = None
        self._refused: tuple[int, int] | None = None
        self._reads = threading.Lock()
        self._builds = threading.Lock()
        self._next_try = 0.0

    @property
    def memory_bytes(self) -> int:
        """Size of the graph that this process has mapped, in bytes."""
        return 0 if self._graph is None else int(self._graph.index.serialized_length)

    def fitting(self, view: View, snapshot: Snapshot) -> Graph | None:
        """Return a graph of this or an earlier state of the store, or None.

        Both states are of one epoch and history.

        Args:
            view: The store.
            snapshot: Its vectors in the same state.
        """
        with self._reads:
            if not self._fits(self._graph, snapshot):
                self._graph = None
                state = self._file_state()
                if state is not None and state != self._refused:
                    found = _read(self.file)
                    # The history is compared only here, as by the cache of the vectors.
                    if found is not None and self._fits(found, snapshot) and is_of_history(found.provenance, view):
                        self._graph = found
                    else:
                        # It is not checked again; a file of a later state is read by the next build.
                        self._refused = state
            return self._graph

    @staticmethod
    def _fits(graph: Graph | None, snapshot: Snapshot) -> bool:
        now = snapshot.position
        if graph is None or now is None:
            return False
        then = graph.position
        same = (then.database, then.epoch) == (now.database, now.epoch)
        return same and then.slot <= now.slot and then.removal <= now.removal

    def _file_state(self) -> tuple[int, int] | None:
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def is_stale(self, graph: Graph | None, snapshot: Snapshot) -> bool:
        """Return True if the graph should be built, or extended by what has changed."""
        if graph is None:
            return True
        return graph.changed_rows(snapshot) > max(NEW_ROWS, NEW_SHARE * len(snapshot))

    # ---- building -------------------------------------------------------------------------------------------------

    def build_beside(self, cache: VectorCache, store: Store) -> None:
        """Build or extend the graph in a thread of its own, unless one does so already."""

        def work() -> None:
            try:
                self.build(cache, store, threads=1, wait=False)
            except (DupqError, RuntimeError, MemoryError) as error:
                _log.warning("the graph of the approximate search could not be built: %s", error)

        if not self._builds.locked() and time.monotonic() >= self._next_try:
            # A failure is not repeated at every flag.
            self._next_try = time.monotonic() + RETRY_SECONDS
            threading.Thread(target=work, name="dupq-hnsw", daemon=True).start()

    def build(
        self,
        cache: VectorCache,
        store: Store,
        *,
        threads: int = 0,
        wait: bool = True,
        progress: Progress | None = None,
    ) -> bool:
        """Build the graph of the present state, or extend the one in the file.

        The file is written at the end.

        Args:
            cache: The vectors.
            store: Their store.
            threads: Threads that insert rows; 0: one for each processor.
            wait: Wait for another thread that builds; otherwise return.
            progress: Called with (rows inserted, rows to insert).

        Returns:
            False if another thread builds, or the vectors were replaced meanwhile.

        Raises:
            InputError: A stored vector is damaged.
            OutputError: The file could not be written.
        """
        if not self._builds.acquire(blocking=wait):
            return False
        try:
            with cache.following(store) as (view, snapshot):
                provenance = provenance_of(view)
                position, slots, d = snapshot.position, snapshot.slots, snapshot.base.block.rows.shape[1]
                old = self.fitting(view, snapshot)
            if position is None or not len(slots):
                return False
            index = _extended(self.file, old, slots, d)
            missing = slots[~np.isin(slots, _keys(index), assume_unique=True)]
            for part in chunks(len(missing), BATCH):
                # A part at a time: the file of the vectors may be replaced in between.
                with cache.current() as snapshot:
                    now = snapshot.position
                    if now is None or (now.database, now.epoch) != (position.database, position.epoch):
                        return False
                    found, rows = snapshot.rows(missing[part])
                kept = rows.any(axis=1)  # a row of zeros is near nothing
                index.add(found[kept], rows[kept].astype(np.float32), threads=threads)
                if progress is not None:
                    progress(part.stop, len(missing))
            self._write(index, position, slots, d, provenance)
            self._next_try = 0.0
            return True
        finally:
            self._builds.release()

    def _write(self, index: Index, position: Position, slots: Slots, d: int, provenance: Provenance) -> None:
        with written_beside(self.file) as beside:
            try:
                index.save(str(beside))
            except RuntimeError as error:
                raise OutputError(f"usearch could not write it ({error})", location=str(self.file)) from error
            facts = {"format": FILE_FORMAT, "position": asdict(position), "last": int(slots[-1]), "dimensions": d}
            facts |= {"count": len(slots), "rows": len(index), "check": _checksum(beside, beside.stat().st_size)}
            facts["provenance"] = asdict(provenance)
            with beside.open("ab") as stream:
                stream.write(json.dumps(facts).encode().ljust(TRAILER))
        with self._reads:
            self._graph, self._refused = None, None


def _new_index(d: int) -> Index:
    from usearch.index import Index

    return Index(ndim=d, metric="ip", dtype="i8", expansion_add=EXPANSION, expansion_search=EXPANSION)


def _keys(index: Index) -> NDArray[np.int64]:
    return np.sort(np.asarray(index.keys).astype(np.int64)) if len(index) else np.zeros(0, np.int64)


def _extended(file: Path, old: Graph | None, slots: Slots, d: int) -> Index:
    """Return a changeable copy of the graph in the file.

    Removed rows are left out. The copy is empty if there is no usable graph, or too many of its rows were removed.
    """
    if old is not None and len(old.index):
        index = _new_index(d)
        try:
            index.load(str(file))
        except (RuntimeError, OSError):
            return _new_index(d)
        keys = _keys(index)
        dead = keys[~np.isin(keys, slots, assume_unique=True)]
        if len(keys) == len(old.index) and len(dead) <= DEAD_SHARE * len(keys):
            if len(dead):
                index.remove(dead)
            return index
    return _new_index(d)


def _checksum(path: Path, size: int) -> int:
    check = 0
    with path.open("rb") as stream:
        while size and (data := stream.read(min(size, 1 << 20))):
            check, size = zlib.crc32(data, check), size - len(data)
    return check if not size else -1


def _read(path: Path) -> Graph | None:
    """Return the graph in a file, or None if it cannot be used.

    The file may be missing, damaged or of another format, or usearch is not installed.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size - TRAILER
            stream.seek(size)
            facts = json.loads(stream.read())
        if facts["format"] != FILE_FORMAT or facts["check"] != _checksum(path, size):
            return None
        index = _new_index(facts["dimensions"])
        index.view(str(path))
        if len(index) != facts["rows"]:
            return None
        position, provenance = Position(**facts["position"]), Provenance(**facts["provenance"])
        return Graph(index, position, facts["last"], facts["count"], provenance, threading.Lock())
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError):
        return None
