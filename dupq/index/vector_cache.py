"""Cache of an index's vectors in a mapped file, with an exact search.

The file saves reading every row from the store when a process starts, and processes share its pages. It holds the
vectors in the form of the model, and their copies in 8 bits, which a search reads (see `nearest`). It is never trusted:
a file that is missing, damaged, or of another history of the store is written again. Not every system lets a mapped
file be replaced, so the map is closed first, at a moment when no search uses it.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import written_beside
from dupq.errors import OutputError
from dupq.index.forking import Forkable
from dupq.index.nearest import Block, Found, Slots, cosines, exact_nearest, nothing
from dupq.index.provenance import Provenance, is_of_history, provenance_of
from dupq.index.stores.base import VECTOR_DTYPES, Position, Store, StoredModel, VectorForm
from dupq.index.stores.sql import View
from dupq.models.batching import chunks

FILE_FORMAT = 2
HEADER = 4096
REWRITE_SHARE = 0.05
"""The file is written again when this share of the rows, and more than `REWRITE_ROWS`, are not in it."""
REWRITE_ROWS = 2000
MAX_WAIT_SECONDS = 10.0
"""Longest time that a new file waits for the searches in the old one."""
WRITE_ROWS = 8192
"""Rows that are written at a time."""

Vectors = NDArray[np.float32]


class Held:
    """Block in memory or in a mapped file, until it is closed."""

    def __init__(self, block: Block, mapped: mmap | None = None) -> None:
        self.block, self._map = block, mapped

    def close(self) -> None:
        """Close the map, and leave no rows. Call it only while no thread reads them."""
        if self._map is not None:
            self.block = _no_rows(self.block.rows.shape[1], self.block.rows.dtype)
            with suppress(BufferError):  # the traceback of an error may hold an array; the map goes with it
                self._map.close()
            self._map = None


def _no_rows(d: int, dtype: np.dtype[Any]) -> Block:
    return Block.of(np.zeros(0, np.int64), np.zeros((0, d), dtype))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Vectors of one state of a store.

    They are immutable, so that any number of threads may search them.

    Attributes:
        position: The state; None before anything was read.
        base: The first rows, in ascending order of slots.
        tail: Blocks of the rows that were added later, in ascending order of slots.
        gone: Slots in `base` and `tail` whose question was removed, ascending, int64.
        in_file: Number of rows in the file, or of those that could not be written to it.
    """

    position: Position | None
    base: Held
    tail: tuple[Block, ...]
    gone: Slots
    in_file: int

    @classmethod
    def of(cls, position: Position | None, base: Held, in_file: int) -> Snapshot:
        return cls(position, base, (), np.zeros(0, np.int64), in_file)

    @classmethod
    def empty(cls) -> Snapshot:
        return cls.of(None, Held(_no_rows(0, np.dtype(np.float32))), 0)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All rows, including those of removed questions."""
        return (self.base.block, *self.tail)

    @property
    def slots(self) -> Slots:
        """Slots of the stored questions, ascending, int64."""
        slots = np.concatenate([block.slots for block in self.blocks])
        return slots[~np.isin(slots, self.gone, assume_unique=True)] if len(self.gone) else slots

    def __len__(self) -> int:
        return sum(len(block) for block in self.blocks) - len(self.gone)

    @property
    def is_stale_on_disk(self) -> bool:
        """True if enough has changed for the file to be written again."""
        return len(self) - self.in_file > max(REWRITE_ROWS, REWRITE_SHARE * len(self))

    @property
    def memory_bytes(self) -> int:
        """Size of the vectors and their copies, mapped or in memory."""
        return sum(block.nbytes for block in self.blocks)

    def search(self, queries: Vectors, k: int, after: int = -1) -> list[Found]:
        """Return the k nearest rows of each query, by an exact search.

        The result is equal to the bit in any batch.

        Args:
            queries: float32 (m, d), rows of unit length.
            k: Number of rows to return; fewer if there are fewer.
            after: Search only the slots above this one.

        Returns:
            For each query the slots and their cosines, nearest first; at equal cosine, the older slot first.
        """
        blocks = [block[int(np.searchsorted(block.slots, after, "right")) :] for block in self.blocks]
        return exact_nearest([block for block in blocks if len(block)], queries, k, self.gone)

    def rows(self, slots: Slots) -> tuple[Slots, NDArray[Any]]:
        """Return those of the slots that hold a question, and their vectors.

        The slots ascend; the vectors are copies, (n, d).
        """
        slots = np.unique(np.asarray(slots, np.int64))
        slots = slots[~np.isin(slots, self.gone, assume_unique=True)]
        parts = []
        for block in self.blocks:
            at = np.searchsorted(block.slots, slots)
            at = at[at < len(block)]
            at = at[block.slots[at] == slots[: len(at)]]  # slots ascend, so the first ones are those within
            parts.append((block.slots[at], block.rows[at]))
        filled = [part for part in parts if len(part[0])] or parts[:1]
        return np.concatenate([part[0] for part in filled]), np.concatenate([part[1] for part in filled])

    def rescored(self, query: Vectors, slots: Slots) -> Found:
        """Return the cosines of a query (d,) to the questions in these slots.

        They come with their slots, in order of slots. Slots without a question are left out.
        """
        found, rows = self.rows(slots)
        return (found, cosines(query, rows)) if len(found) else nothing()

    def vectors(self, slots: Iterable[int]) -> dict[int, Vectors]:
        """Return the vectors of those slots that hold a question.

        They are copies, each float32 (d,).
        """
        found, rows = self.rows(np.fromiter(slots, np.int64))
        return dict(zip(found.tolist(), rows.astype(np.float32), strict=True))

    def changed(self, position: Position, new: Block, removed: Slots) -> Snapshot:
        """Return the snapshot of a later state.

        Args:
            position: The state.
            new: Its new rows.
            removed: Slots that were removed, some perhaps added and removed between the two states.
        """
        tail, gone = self.tail, self.gone
        if len(new):
            tail = (*tail, new)
            # Each row is copied a logarithmic number of times, and a search reads few blocks.
            while len(tail) > 1 and len(tail[-2]) <= len(tail[-1]):
                tail = (*tail[:-2], Block.joined(tail[-2:]))
        if len(removed):
            removed = np.unique(removed)
            held = [removed[_within(block.slots, removed)] for block in (self.base.block, *tail)]
            gone = np.union1d(gone, np.concatenate(held))
        return Snapshot(position, self.base, tail, gone, self.in_file)

    def alive(self) -> Iterator[Block]:
        """Yield the rows of stored questions, some thousand at a time, in order of slots."""
        for block in self.blocks:
            for part in chunks(len(block), WRITE_ROWS):
                piece = block[part]
                yield piece[~_within(self.gone, piece.slots)] if len(self.gone) else piece


def _within(ascending: Slots, values: Slots) -> NDArray[np.bool_]:
    """Return for each value if it is among the ascending ones, bool (n,)."""
    at = np.searchsorted(ascending, values)
    found = at < len(ascending)
    found[found] = ascending[at[found]] == values[found]
    return found


class VectorCache(Forkable):
    """Vectors of a store, for all threads of a process.

    They are updated from the store whenever they are used.

    Args:
        file: The file that keeps the vectors between processes.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._snapshot = Snapshot.empty()
        self._mapped: WeakSet[Held] = WeakSet()
        self.after_fork()
        self.watch_forks()

    def after_fork(self) -> None:
        """Replace the locks, in the child; the vectors stay valid there."""
        self._changed = threading.Condition()
        self._users = 0
        self._replacing = False
        self._saves = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        """Size of the vectors that this process has in memory or mapped, in bytes."""
        with self.current() as snapshot:
            return snapshot.memory_bytes

    @contextmanager
    def following(self, store: Store) -> Iterator[tuple[View, Snapshot]]:
        """Give a view of the store and the vectors of exactly that state.

        It is fast if nothing has changed. The vectors must not be used after the block, because the file may then be
        written again.

        Raises:
            InputError: A stored vector is damaged.
        """
        snapshot, provenance = None, None
        while snapshot is None:
            with store.reading() as view:
                with self._changed:
                    self._changed.wait_for(lambda: not self._replacing)
                    # The view begins here, under the lock, so that it is never older than the vectors.
                    snapshot = self._updated(view)
                    if snapshot is not None:
                        self._snapshot = snapshot
                        self._users += 1
                if snapshot is not None:
                    try:
                        provenance = provenance_of(view) if snapshot.is_stale_on_disk else None
                        yield view, snapshot
                    finally:
                        self._leave()
            if snapshot is None:
                self._load(store)
        if provenance is not None and self._saves.acquire(blocking=False):
            try:
                if self._snapshot.is_stale_on_disk:  # unless another thread has just written it
                    self._save(provenance)
            except OutputError:
                # A reader may lack permission, or another process has the file open; the file is optional.
                with self._changed:
                    self._snapshot = replace(self._snapshot, in_file=len(self._snapshot))
            finally:
                self._saves.release()

    @contextmanager
    def current(self) -> Iterator[Snapshot]:
        """Give the vectors as they were last read, and keep their map open.

        There are none before the first read, or after `close`.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._replacing)
            snapshot = self._snapshot
            self._users += 1
        try:
            yield snapshot
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._users -= 1
            self._changed.notify_all()

    def _updated(self, view: View) -> Snapshot | None:
        """Return the vectors of the view, or None if all must be read again."""
        now, held = view.position(), self._snapshot
        if now == held.position:
            return held
        if held.position is None:
            held = self._read(now, view) or held
        known = held.position
        if known is None or (known.database, known.epoch) != (now.database, now.epoch):
            return None
        changes = view.changes(known)
        new = Block.of(changes.slots, changes.vectors) if len(changes.slots) else _no_rows(0, np.dtype(np.float32))
        return held.changed(changes.position, new, changes.removed)

    def _load(self, store: Store) -> None:
        """Read every vector from the store, a part at a time.

        They go into a new file, or into memory if they are few or the file cannot be written.

        Raises:
            InputError: A stored vector is damaged.
            OutputError: A search in the old file did not end in time.
        """
        with self._saves, store.reading() as view:
            with self._changed:
                self._changed.wait_for(lambda: not self._replacing)
                found = self._updated(view)  # another thread may have read them meanwhile
                if found is not None:
                    self._snapshot = found
                    return
            position, model = view.position(), view.model()
            count = 0 if model is None else view.count(f"vectors_{model.number}")
            with self._alone():
                self._snapshot = self._from_store(view, position, model, count)

    def _from_store(self, view: View, position: Position, model: StoredModel | None, count: int) -> Snapshot:
        if model is None:
            return Snapshot.of(position, Held(_no_rows(0, np.dtype(np.float32))), 0)

        def parts() -> Iterator[Block]:
            for slots, rows in view.vectors_after(model, 0):
                yield Block.of(slots, rows)

        if count > REWRITE_ROWS:
            try:
                with written_beside(self.file) as beside:
                    header = _write(beside, parts(), position, count, model.dimensions, model.form, provenance_of(view))
                if (snapshot := self._read(position, view, header)) is not None:
                    return snapshot
            except OutputError:
                pass  # the file is optional
        found = [_no_rows(model.dimensions, VECTOR_DTYPES[model.form]), *parts()]
        # If they were too many for memory only, the file was tried just now.
        return Snapshot.of(position, Held(Block.joined(found)), count if count > REWRITE_ROWS else 0)

    # ---- the file -------------------------------------------------------------------------------------------------

    def save(self, store: Store) -> None:
        """Read the changes of the store, and write the file, whole or not at all.

        Raises:
            OutputError: It could not be written.
        """
        with self.following(store) as (view, _):
            provenance = provenance_of(view)
        with self._saves:
            self._save(provenance)

    def rebuild(self, store: Store) -> None:
        """Read every vector from the store, and replace the file.

        Raises:
            InputError: A stored vector is damaged.
            OutputError: The file could not be written.
        """
        with self._saves, self._alone():
            self.file.unlink(missing_ok=True)
        self.save(store)

    def close(self) -> None:
        """Close the map of the file, once no search uses it.

        Raises:
            OutputError: A search did not end in time.
        """
        with self._saves, self._alone():
            pass

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Close the map, and keep searches out during a block.

        The next search reads the file or the store again.

        Raises:
            OutputError: A search did not end in time.
        """
        with self._changed:
            self._replacing = True
            try:
                if not self._changed.wait_for(lambda: not self._users, MAX_WAIT_SECONDS):
                    raise OutputError("the vectors are in use", location=str(self.file), hint="try again")
                self._snapshot = Snapshot.empty()
                for held in self._mapped:
                    held.close()
            except BaseException:
                self._replacing = False
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._replacing = False
                self._changed.notify_all()

    def _save(self, provenance: Provenance) -> None:
        """Write the vectors as they were last read.

        The provenance is that of this or an earlier state.
        """
        if self._snapshot.position is None:
            return  # nothing was read yet, or another thread has closed the index
        with ExitStack() as last:
            with written_beside(self.file) as beside:
                with self.current() as snapshot:
                    position, rows = snapshot.position, snapshot.blocks[-1].rows
                    if position is None:
                        return
                    form: VectorForm = "float16" if rows.dtype == np.float16 else "float32"
                    header = _write(beside, snapshot.alive(), position, len(snapshot), rows.shape[1], form, provenance)
                del snapshot, rows  # they would keep the map open
                last.enter_context(self._alone())
            # The new file has taken the name, and the old one is not mapped any more.
            self._snapshot = self._read(position, None, header) or self._snapshot

    def _read(self, now: Position, view: View | None, written: bytes = b"") -> Snapshot | None:
        """Return the snapshot in the file, or None if it cannot be used.

        The file may be missing, damaged, or of neither this nor an earlier state of the store, such as one of a
        history that was lost when a backup was restored.

        Args:
            now: The present state of the store.
            view: The store in that state; None: only the file that this process has just written can be used.
            written: The header of that file, which is not checked again.
        """
        try:
            with self.file.open("rb") as stream:
                header = json.loads(head := stream.read(HEADER))
                held, n, d = Position(**header["position"]), header["count"], header["dimensions"]
                same = header["format"] == FILE_FORMAT and (held.database, held.epoch) == (now.database, now.epoch)
                if not same or held.slot > now.slot or held.removal > now.removal:
                    return None
                layout = _layout(n, d, header["form"])
                if head != written and not (
                    view is not None
                    and is_of_history(Provenance(**header["provenance"]), view)
                    and _is_whole(stream, layout, header["checks"])
                ):
                    return None
                if n * d == 0:
                    rows = np.zeros((n, d), VECTOR_DTYPES[header["form"]])
                    stream.seek(HEADER)
                    return Snapshot.of(held, Held(Block.of(np.fromfile(stream, "<i8", n), rows)), n)
                mapped = mmap(stream.fileno(), 0, access=ACCESS_READ)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        slots, scale, slack, rows, codes = (
            np.frombuffer(mapped, dtype, n * width, offset) for dtype, width, offset in layout[:-1]
        )
        found = Held(Block(slots, rows.reshape(n, d), codes.reshape(n, d), scale, slack), mapped)
        self._mapped.add(found)
        return Snapshot.of(held, found, n)


Layout = list[tuple[np.dtype[Any], int, int]]


def _layout(n: int, d: int, form: str) -> Layout:
    """Return type, numbers a row and offset of each section of the file.

    The sections are slots, scale, slack, rows and codes; the last entry is the end.
    """
    sections: Layout = []
    offset = HEADER
    for dtype, width in (("<i8", 1), ("<f4", 1), ("<f4", 1), (VECTOR_DTYPES[form], d), ("i1", d)):
        sections.append((np.dtype(dtype), width, offset))
        offset += n * width * np.dtype(dtype).itemsize
    return [*sections, (np.dtype("i1"), 0, offset)]


def _is_whole(stream: Any, layout: Layout, checks: list[int]) -> bool:
    """Return True if each section of the file has its checksum, and nothing follows."""
    for (_, _, start), (_, _, stop), expected in zip(layout[:-1], layout[1:], checks, strict=True):
        stream.seek(start)
        check, left = 0, stop - start
        while left and (data := stream.read(min(left, 1 << 20))):
            check, left = zlib.crc32(data, check), left - len(data)
        if left or check != expected:
            return False
    return os.fstat(stream.fileno()).st_size == layout[-1][2]


def _write(
    path: Path,
    blocks: Iterable[Block],
    position: Position,
    count: int,
    d: int,
    form: VectorForm,
    provenance: Provenance,
) -> bytes:
    """Write `count` rows in order of slots; return the header.

    Raises:
        OutputError: There are more rows, or fewer.
    """
    layout = _layout(count, d, form)
    checks, done = [0] * 5, 0
    with path.open("wb") as stream:
        for block in blocks:
            arrays = (block.slots, block.scale, block.slack, block.rows, block.codes)
            for at, ((dtype, width, offset), array) in enumerate(zip(layout, arrays, strict=False)):
                stream.seek(offset + done * width * dtype.itemsize)
                stream.write(data := np.ascontiguousarray(array, dtype).tobytes())
                checks[at] = zlib.crc32(data, checks[at])
            done += len(block)
        if done != count:
            raise OutputError(
                f"the store has {done} vectors, not {count}", location=str(path), hint="run `dupq index verify`"
            )
        header = json.dumps(
            {
                "format": FILE_FORMAT,
                "position": asdict(position),
                "count": count,
                "dimensions": d,
                "form": form,
                "checks": checks,
                "provenance": asdict(provenance),
            }
        ).encode()
        stream.seek(0)
        stream.write(header := header.ljust(HEADER))
        # Now, while searches go on, and not in the short time in which they wait for the new file.
        stream.flush()
        os.fsync(stream.fileno())
    return header
