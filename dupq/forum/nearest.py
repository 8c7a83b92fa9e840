"""The nearest questions of a store: exact search over vectors derived from it, in memory and in a file beside it.

A matrix times a vector, and no approximate index: at some hundred thousand questions it takes about as long as the
network takes to read one question, misses nothing, and leaves no second structure to mend when questions come and go.
The file saves reading every row from SQLite when a process starts, and processes share its pages. It is never trusted:
one that is missing, of another state of the store, or damaged is made again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import written_beside
from dupq.errors import OutputError
from dupq.forum.store import Position, Store
from dupq.models.scorers import chunks

HEADER = 4096
REWRITE_SHARE = 0.05
"""The file is written anew when this share of the rows, and at least `REWRITE_ROWS`, are not in it."""
REWRITE_ROWS = 2000
QUERIES = 32
"""Queries a product."""

Vectors = NDArray[np.float32]
Slots = NDArray[np.int64]


class Nearest:
    """Follows a store and answers which of its questions are nearest to a vector.

    Args:
        file: Where the vectors are kept between processes.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.position: Position | None = None
        self._start(np.zeros(0, np.int64), np.zeros((0, 0), np.float32), 0)

    def _start(self, slots: Slots, base: Vectors, in_file: int) -> None:
        self._slots = slots
        self._base = base
        self._tail = np.zeros((0, base.shape[1]), np.float32)
        self._gone: Slots = np.zeros(0, np.int64)  # rows whose question was removed
        self._in_file = in_file

    def __len__(self) -> int:
        return len(self._slots) - len(self._gone)

    def refresh(self, store: Store) -> None:
        """Catches up with the store: a few look-ups where nothing has changed."""
        now = store.position()
        if now == self.position:
            return
        if self.position is None:
            self._load(now)
        changes, known = store.changes(self.position), self.position
        now = changes.position
        if known is None or (known.database, known.epoch) != (now.database, now.epoch) or not len(self._slots):
            self._start(changes.slots, changes.vectors, 0)
        else:
            if len(changes.slots):
                self._slots = np.concatenate([self._slots, changes.slots])
                self._tail = np.concatenate([self._tail, changes.vectors]) if len(self._tail) else changes.vectors
            self._gone = np.union1d(self._gone, np.flatnonzero(np.isin(self._slots, changes.removed)))
        self.position = now
        if len(self) - self._in_file > max(REWRITE_ROWS, REWRITE_SHARE * len(self)):
            try:
                self.save()
            except OutputError:
                self._in_file = len(self)  # a reader may not be allowed to write here; it does without

    def search(self, queries: Vectors, k: int) -> list[tuple[Slots, Vectors]]:
        """The k nearest of each query.

        Args:
            queries: (m, d), rows of unit length.
            k: At most so many.

        Returns:
            For each query the slots and their cosines, nearest first; of equal cosine, the older slot first.
        """
        k = min(k, len(self))
        if k < 1:
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
        found = []
        for part in chunks(len(queries), QUERIES):
            # One query goes as a vector: that reads the matrix once, at the speed of the memory.
            block = queries[part] if part.stop - part.start > 1 else queries[part.start]
            cosines = block @ self._base.T
            if len(self._tail):
                cosines = np.concatenate([cosines, block @ self._tail.T], axis=-1)
            cosines = np.atleast_2d(cosines)
            cosines[:, self._gone] = -np.inf
            for row in cosines:
                # All that tie with the k-th are looked at, so that the older slot wins wherever it stands.
                least = np.partition(row, len(row) - k)[len(row) - k]
                best = np.flatnonzero(row >= least)
                best = best[np.lexsort((self._slots[best], -row[best]))][:k]
                found.append((self._slots[best], row[best]))
        return found

    def vectors(self, slots: Iterable[int]) -> dict[int, Vectors]:
        """The vectors, each (d,), of the questions in these slots; those that are not there are left out."""
        found = {}
        for slot in slots:
            at = int(np.searchsorted(self._slots, slot))
            if at < len(self._slots) and self._slots[at] == slot and at not in self._gone:
                cut = len(self._base)
                found[slot] = np.asarray(self._base[at] if at < cut else self._tail[at - cut])
        return found

    # ---- the file -------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes the file, whole or not at all, and goes on from it.

        Raises:
            OutputError: It could not be written.
        """
        position = self.position
        if position is None:
            return
        alive = np.ones(len(self._slots), bool)
        alive[self._gone] = False
        slots, cut = self._slots[alive], len(self._base)
        parts = [(self._base[part], alive[part]) for part in chunks(cut, 8192)] + [(self._tail, alive[cut:])]
        with written_beside(self.file) as beside, beside.open("wb") as stream:
            stream.write(bytes(HEADER))
            stream.write(data := slots.astype("<i8").tobytes())
            check = zlib.crc32(data)
            for rows, kept in parts:
                stream.write(data := rows[kept].astype("<f4").tobytes())
                check = zlib.crc32(data, check)
            shape = {"count": len(slots), "dimensions": self._base.shape[1], "crc": check}
            stream.seek(0)
            stream.write(json.dumps({"format": 1, "position": asdict(position), **shape}).encode().ljust(HEADER))
        self._load(position)

    def _load(self, now: Position) -> None:
        """Takes up the file if it is whole and of this or an earlier state of the store; else changes nothing."""
        try:
            with self.file.open("rb") as stream:
                header = json.loads(stream.read(HEADER))
                held, count, d = Position(**header["position"]), header["count"], header["dimensions"]
                same = header["format"] == 1 and (held.database, held.epoch) == (now.database, now.epoch)
                if not same or held.slot > now.slot or held.removal > now.removal:
                    return
                check, size = 0, 0
                while data := stream.read(1 << 22):
                    check, size = zlib.crc32(data, check), size + len(data)
                if check != header["crc"] or size != count * (8 + 4 * d):
                    return
                stream.seek(HEADER)
                slots = np.fromfile(stream, "<i8", count)
                empty = count * d == 0
                base = (
                    np.zeros((count, d), np.float32)
                    if empty
                    else np.memmap(stream, "<f4", "r", HEADER + 8 * count, (count, d))
                )
        except (OSError, ValueError, KeyError, TypeError):
            return
        self._start(slots, base, count)
        self.position = held
