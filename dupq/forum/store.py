"""The questions of a forum in one SQLite file: texts, ids, vectors and decisions; all else is derived from it.

Write-ahead logging lets readers go on while somebody writes, and `synchronous=FULL` has each commit on the disk before
it is acknowledged. A row gets a new slot number whenever it is written, slots are never used twice, and what went is
listed in `removed`: so whoever knows the last slot and the last removal it saw can catch up by reading what came after.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError, OutputError
from dupq.forum.copies import copy_print

Id = int | str

APPLICATION = 0x64757071  # "dupq"
FORMAT = 1
WAIT_SECONDS = 60.0
"""How long a writer waits for another one, unless told otherwise."""

_SCHEMA = (
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    # AUTOINCREMENT: a slot is never used again. The id has no type, so that 7 and "7" stay what they are.
    "CREATE TABLE questions(slot INTEGER PRIMARY KEY AUTOINCREMENT, id NOT NULL UNIQUE, text TEXT NOT NULL,"
    " print INTEGER NOT NULL, created TEXT, vector BLOB NOT NULL)",
    "CREATE INDEX questions_print ON questions(print)",
    "CREATE TABLE removed(number INTEGER PRIMARY KEY AUTOINCREMENT, slot INTEGER NOT NULL)",
    "CREATE TABLE decisions(slot INTEGER NOT NULL, other INTEGER NOT NULL, scorer TEXT NOT NULL, score REAL NOT NULL,"
    " probability REAL NOT NULL, base_rate REAL NOT NULL, decision TEXT NOT NULL, PRIMARY KEY(slot, other))"
    " WITHOUT ROWID",
    "CREATE INDEX decisions_other ON decisions(other)",
)


@dataclass(frozen=True, slots=True)
class StoredQuestion:
    """One row. `created` is the caller's own note of its age, such as an ISO date, or None."""

    slot: int
    id: Id
    text: str
    created: str | None


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """What was decided of two stored questions, and by which scorer, at which base rate."""

    id: Id
    other: Id
    scorer: str
    score: float
    probability: float
    base_rate: float
    decision: str


@dataclass(frozen=True, slots=True)
class Position:
    """How far somebody has read a store.

    Attributes:
        database: The store's own name; another file has another.
        epoch: Counts what cannot be caught up with: compactions and new embeddings.
        slot, removal: The last slot and the last removal that were seen.
    """

    database: str
    epoch: int
    slot: int
    removal: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What came after a position: slots int64 (n,) and vectors float32 (n, d) of new rows, and removed slots."""

    slots: NDArray[np.int64]
    vectors: NDArray[np.float32]
    removed: NDArray[np.int64]
    position: Position


@dataclass(slots=True)
class Written:
    """How many questions were new, were replaced by another text, and were there already with the same text."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0


class Store:
    """One connection to the file; made if it is not there. Not to be shared between threads without a lock.

    Args:
        path: The database file. Its `-wal` and `-shm` companions belong to it.
        create: Whether a missing file is made.
        wait: Seconds to wait for another writer.

    Raises:
        InputError: The file is missing and may not be made, is no index of dupq, is damaged, or is of a newer format.
        OutputError: It cannot be written.
    """

    def __init__(self, path: str | Path, *, create: bool = True, wait: float = WAIT_SECONDS) -> None:
        self.path = Path(path)
        self.wait = wait
        if not create and not self.path.is_file():
            raise InputError(
                "there is no such index", where=str(path), mend="check the path; `dupq index add` makes one"
            )
        with self._told():
            self._sql = sqlite3.connect(self.path, timeout=wait, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._sql.close()
                raise

    def _open(self) -> None:
        # Asked first: it reads the header, and fails for a file that is no database before anything is written.
        with self.reading():  # one view, or the tables that another process makes meanwhile would be a stranger's
            application = self._one("PRAGMA application_id")
            tables = self._one("SELECT count(*) FROM sqlite_master")
        if application != APPLICATION and tables:
            raise InputError("this SQLite file is not an index of dupq", where=str(self.path), mend="name another file")
        self._use_wal()
        self._sql.execute("PRAGMA synchronous=FULL")
        if application != APPLICATION:
            self._make()
        found = self._one("PRAGMA user_version")
        if found != FORMAT:
            raise InputError(
                f"this index has format {found}; this dupq reads {FORMAT}", where=str(self.path), mend="update dupq"
            )

    def _use_wal(self) -> None:
        """Waits where another process does the same to a new file: there SQLite gives up at once."""
        until = time.monotonic() + self.wait
        while True:
            try:
                self._sql.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.005)

    def _make(self) -> None:
        with self.writing():
            if self._one("PRAGMA application_id") == APPLICATION:
                return  # another process was quicker
            for statement in _SCHEMA:
                self._sql.execute(statement)
            self._sql.executemany(
                "INSERT INTO meta VALUES(?, ?)", [("database", uuid.uuid4().hex), ("epoch", 0), ("dimensions", 0)]
            )
            self._sql.execute(f"PRAGMA user_version={FORMAT}")
            self._sql.execute(f"PRAGMA application_id={APPLICATION}")

    def close(self) -> None:
        """Ends the connection; the file stays whole whether it is called or not."""
        self._sql.close()

    # ---- transactions ---------------------------------------------------------------------------------------------

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns SQLite's errors into ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                problem = f"another process has been writing for more than {self.wait:.0f} s"
                raise OutputError(problem, where=str(self.path), mend="try again, or give a longer wait") from error
            mend = "check the path, its permissions and the free space"
            raise OutputError(f"the index cannot be used ({text})", where=str(self.path), mend=mend) from error
        except sqlite3.DatabaseError as error:
            mend = "restore it from a backup, or build it anew from the posts"
            raise InputError(f"not an index, or a damaged one ({error})", where=str(self.path), mend=mend) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: all of it reaches the disk, or nothing. Waits for other writers; no reader is disturbed."""
        with self._told():
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One view of the file: what others write meanwhile is not seen."""
        with self._told():
            self._sql.execute("BEGIN")
            try:
                yield
            finally:
                self._sql.execute("COMMIT")

    def _one(self, statement: str, *values: object) -> object:
        row = self._sql.execute(statement, values).fetchone()
        return row[0] if row else None

    def _number(self, statement: str, *values: object) -> int:
        found = self._one(statement, *values)
        return found if isinstance(found, int) else 0

    # ---- what is known of the whole -------------------------------------------------------------------------------

    def meta(self, key: str) -> object:
        """A fact about the store, or None."""
        with self._told():
            return self._one("SELECT value FROM meta WHERE key=?", key)

    def set_meta(self, key: str, value: object) -> None:
        """Notes a fact; within `writing`."""
        self._sql.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, value))

    def position(self) -> Position:
        """Where the store is now: four look-ups, whatever its size."""
        with self._told():
            facts = dict(self._sql.execute("SELECT key, value FROM meta WHERE key IN ('database', 'epoch')"))
            # Not max(slot) of the rows that are left: the newest of them may have been removed.
            last = dict(self._sql.execute("SELECT name, seq FROM sqlite_sequence"))
        return Position(str(facts["database"]), int(facts["epoch"]), last.get("questions", 0), last.get("removed", 0))

    def __len__(self) -> int:
        with self._told():
            return self._number("SELECT count(*) FROM questions")

    def count(self, table: str) -> int:
        """Rows of "questions", "removed" or "decisions"."""
        with self._told():
            return self._number(f"SELECT count(*) FROM {table}")

    # ---- questions ------------------------------------------------------------------------------------------------

    def texts(self, ids: Iterable[Id]) -> dict[Id, str]:
        """The texts of those ids that are there."""
        with self._told():
            found: dict[Id, str] = {}
            for id_ in ids:
                text = self._one("SELECT text FROM questions WHERE id=?", id_)
                if isinstance(text, str):
                    found[id_] = text
            return found

    def put(self, rows: Sequence[tuple[Id, str, str | None]], vectors: NDArray[np.float32]) -> Written:
        """Writes rows of (id, text, created) and their vectors, within `writing`; an id that has the text stays."""
        written = Written()
        for (id_, text, created), vector in zip(rows, vectors, strict=True):
            row = self._sql.execute("SELECT slot, text FROM questions WHERE id=?", (id_,)).fetchone()
            if row is not None and row[1] == text:
                written.unchanged += 1
                continue
            if row is not None:
                self._drop(row[0])
                written.replaced += 1
            else:
                written.added += 1
            self._sql.execute(
                "INSERT INTO questions(id, text, print, created, vector) VALUES(?, ?, ?, ?, ?)",
                (id_, text, copy_print(text), created, np.ascontiguousarray(vector, "<f4").tobytes()),
            )
        return written

    def remove(self, ids: Iterable[Id]) -> int:
        """Removes questions and all that was decided of them, within `writing`; returns how many were there."""
        count = 0
        for id_ in ids:
            slot = self._one("SELECT slot FROM questions WHERE id=?", id_)
            if slot is not None:
                self._drop(slot)
                count += 1
        return count

    def _drop(self, slot: object) -> None:
        self._sql.execute("DELETE FROM questions WHERE slot=?", (slot,))
        self._sql.execute("DELETE FROM decisions WHERE slot=? OR other=?", (slot, slot))
        self._sql.execute("INSERT INTO removed(slot) VALUES(?)", (slot,))

    def questions(self, slots: Iterable[int]) -> dict[int, StoredQuestion]:
        """The rows in these slots; those that are gone are left out."""
        with self._told():
            found = {}
            for slot in slots:
                row = self._sql.execute(
                    "SELECT slot, id, text, created FROM questions WHERE slot=?", (int(slot),)
                ).fetchone()
                if row is not None:
                    found[row[0]] = StoredQuestion(*row)
            return found

    def slots_of(self, ids: Iterable[Id]) -> dict[Id, int]:
        """The slots of those ids that are there."""
        with self._told():
            pairs = ((id_, self._one("SELECT slot FROM questions WHERE id=?", id_)) for id_ in ids)
            return {id_: slot for id_, slot in pairs if isinstance(slot, int)}

    def same_text(self, text: str) -> list[int]:
        """Slots of the questions that are copies of this text (see `copies`), oldest row first."""
        with self._told():
            rows = self._sql.execute("SELECT slot FROM questions WHERE print=? ORDER BY slot", (copy_print(text),))
            return [row[0] for row in rows]

    def rows(self, after: int = 0, limit: int = -1) -> Iterator[tuple[StoredQuestion, int, bytes]]:
        """Rows after a slot, in order of slots, each with the hash of its text and its vector's bytes."""
        with self._told():
            found = self._sql.execute(
                "SELECT slot, id, text, created, print, vector FROM questions WHERE slot>? ORDER BY slot LIMIT ?",
                (after, limit),
            )
            for row in found:
                yield StoredQuestion(*row[:4]), row[4], row[5]

    def changes(self, since: Position | None) -> Changes:
        """What is new since a position of the same epoch; all there is, for None or another epoch or store."""
        with self.reading():
            now = self.position()
            known = since is not None and (since.database, since.epoch) == (now.database, now.epoch)
            slot, removal = (since.slot, since.removal) if since is not None and known else (0, now.removal)
            d = self._number("SELECT value FROM meta WHERE key='dimensions'")
            rows = self._sql.execute("SELECT slot, vector FROM questions WHERE slot>? ORDER BY slot", (slot,))
            slots: list[int] = []
            data = bytearray()
            for number, vector in rows:
                if len(vector) != 4 * d:
                    raise InputError(
                        f"the vector in slot {number} has {len(vector)} bytes, not {4 * d}",
                        where=str(self.path),
                        mend="`dupq index verify` lists what is damaged; remove and add those questions again",
                    )
                slots.append(number)
                data += vector
            gone = self._sql.execute("SELECT slot FROM removed WHERE number>? ORDER BY number", (removal,))
            removed = np.array([row[0] for row in gone], np.int64)
        vectors = np.frombuffer(data, "<f4").reshape(len(slots), d)
        return Changes(np.array(slots, np.int64), vectors, removed, now)

    def set_vectors(self, slots: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Overwrites vectors, within `writing`; the caller raises the epoch."""
        pairs = zip(vectors, slots, strict=True)
        blobs = ((np.ascontiguousarray(vector, "<f4").tobytes(), int(slot)) for vector, slot in pairs)
        self._sql.executemany("UPDATE questions SET vector=? WHERE slot=?", blobs)

    def next_epoch(self) -> None:
        """Makes everybody read anew, within `writing`; the list of removals is not needed any more."""
        self._sql.execute("UPDATE meta SET value=value+1 WHERE key='epoch'")
        self._sql.execute("DELETE FROM removed")

    # ---- decisions ------------------------------------------------------------------------------------------------

    def put_decisions(self, rows: Iterable[tuple[int, int, str, float, float, float, str]]) -> None:
        """Notes (slot, other slot, scorer, score, probability, base rate, decision), within `writing`; newer win."""
        ordered = ((min(row[:2]), max(row[:2]), *row[2:]) for row in rows)
        self._sql.executemany("INSERT OR REPLACE INTO decisions VALUES(?, ?, ?, ?, ?, ?, ?)", ordered)

    def decisions(self) -> list[StoredDecision]:
        """All that was decided of the questions that are there."""
        with self._told():
            rows = self._sql.execute(
                "SELECT a.id, b.id, scorer, score, probability, base_rate, decision FROM decisions"
                " JOIN questions a ON a.slot=decisions.slot JOIN questions b ON b.slot=other ORDER BY 1, 2"
            )
            return [StoredDecision(*row) for row in rows]

    # ---- upkeep ---------------------------------------------------------------------------------------------------

    def damage(self) -> list[str]:
        """What SQLite itself finds wrong with the file; empty if nothing."""
        try:
            rows = self._sql.execute("PRAGMA integrity_check(20)").fetchall()
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [row[0] for row in rows if row[0] != "ok"]

    def shrink(self) -> None:
        """Gives the space of what was removed back to the disk, and empties the log."""
        with self._told():
            self._sql.execute("VACUUM")
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
