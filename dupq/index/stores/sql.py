"""Reads and writes of a store in SQL that SQLite and PostgreSQL share.

`SqlSession` hides what differs: the mark of a parameter, types of columns, the form of a vector. Counters of slots,
removals, verdicts and so on are rows of `meta`, written in the transaction that uses them, so that they follow the
order of commits; writers take turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import duplicate_key_hash
from dupq.errors import InputError
from dupq.index.stores.base import (
    VECTOR_DTYPES,
    Changes,
    NewQuestion,
    Position,
    StoredCalibration,
    StoredDecision,
    StoredMerge,
    StoredModel,
    StoredQuestion,
    StoredVerdict,
    VectorForm,
    Written,
    decoded_id,
    encoded_id,
    ordered_pair,
    without_nul,
)
from dupq.models.batching import chunks
from dupq.types import Id

SCHEMA = (
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE questions(slot BIGINT PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,"
    " print BIGINT NOT NULL, created TEXT, reach DOUBLE PRECISION NOT NULL DEFAULT 1, details TEXT,"
    " decided TEXT)",
    "CREATE INDEX questions_print ON questions(print)",
    "CREATE TABLE removed(number BIGINT PRIMARY KEY, slot BIGINT NOT NULL)",
    "CREATE TABLE departed(slot BIGINT PRIMARY KEY, id TEXT NOT NULL UNIQUE)",
    "CREATE TABLE models(number BIGINT PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, dimensions BIGINT NOT NULL,"
    " form TEXT NOT NULL)",
    "CREATE TABLE decisions(slot BIGINT NOT NULL, other BIGINT NOT NULL, scorer TEXT NOT NULL,"
    " score DOUBLE PRECISION NOT NULL, probability DOUBLE PRECISION NOT NULL, base_rate DOUBLE PRECISION NOT NULL,"
    " decision TEXT NOT NULL, threshold DOUBLE PRECISION NOT NULL, stratum TEXT NOT NULL,"
    " value DOUBLE PRECISION NOT NULL, drawn DOUBLE PRECISION NOT NULL, PRIMARY KEY(slot, other))",
    "CREATE INDEX decisions_other ON decisions(other)",
    "CREATE INDEX decisions_audit ON decisions(stratum, drawn)",
    "CREATE INDEX decisions_queue ON decisions((drawn / value))",
    "CREATE TABLE verdicts(number BIGINT PRIMARY KEY, one TEXT NOT NULL, other TEXT NOT NULL, answer TEXT NOT NULL,"
    " moderator TEXT NOT NULL, at TEXT NOT NULL, score DOUBLE PRECISION, probability DOUBLE PRECISION, decision TEXT,"
    " threshold DOUBLE PRECISION, base_rate DOUBLE PRECISION, scorer TEXT, chosen TEXT NOT NULL,"
    " sampled DOUBLE PRECISION, note TEXT NOT NULL, undoes BIGINT, key TEXT NOT NULL UNIQUE,"
    " slot_one BIGINT NOT NULL DEFAULT 0, slot_other BIGINT NOT NULL DEFAULT 0)",
    "CREATE INDEX verdicts_pair ON verdicts(one, other)",
    "CREATE INDEX verdicts_other ON verdicts(other)",
    "CREATE INDEX verdicts_slots ON verdicts(slot_one, slot_other)",
    "CREATE INDEX verdicts_undoes ON verdicts(undoes)",
    "CREATE INDEX verdicts_moderator ON verdicts(moderator, number)",
    "CREATE TABLE merges(number BIGINT PRIMARY KEY, canonical TEXT NOT NULL, duplicate TEXT NOT NULL,"
    " moderator TEXT NOT NULL, at TEXT NOT NULL, note TEXT NOT NULL, undoes BIGINT, key TEXT NOT NULL UNIQUE)",
    "CREATE INDEX merges_canonical ON merges(canonical)",
    "CREATE INDEX merges_duplicate ON merges(duplicate)",
    "CREATE INDEX merges_undoes ON merges(undoes)",
    "CREATE TABLE calibrations(number BIGINT PRIMARY KEY, scorer TEXT NOT NULL, at TEXT NOT NULL,"
    " content TEXT NOT NULL)",
)
"""Tables of format 2, in types that both databases have; vectors have a table for each model (`vectors_<number>`).

`departed` keeps the last slot of a removed question that has verdicts, so that those on its last text still link.
"""

QUESTION = "slot, id, text, created, reach, details"
VERDICT = (
    "number, one, other, answer, moderator, at, score, probability, decision, threshold, base_rate, scorer, chosen,"
    " sampled, note, undoes, key, slot_one, slot_other"
)
MERGE = "number, canonical, duplicate, moderator, at, note, undoes, key"
STANDING = "v.answer<>'undo' AND NOT EXISTS (SELECT 1 FROM verdicts w WHERE w.undoes=v.number)"
"""Condition on a row of `verdicts v`: a verdict that was not taken back."""
STANDING_MERGE = "v.undoes IS NULL AND NOT EXISTS (SELECT 1 FROM merges w WHERE w.undoes=v.number)"
"""Condition on a row of `merges v`: a merge that was not taken back."""
ON_STORED = (
    "EXISTS (SELECT 1 FROM questions q WHERE q.slot=v.slot_one)"
    " AND EXISTS (SELECT 1 FROM questions q WHERE q.slot=v.slot_other)"
)
"""Condition on a row of `verdicts v`: both texts are stored as they were."""
UNANSWERED = (
    "NOT EXISTS (SELECT 1 FROM verdicts v WHERE v.slot_one=decisions.slot AND v.slot_other=decisions.other"
    f" AND {STANDING})"
)
"""Condition on a row of `decisions`: no verdict on its two texts stands."""
PART = 500
"""Values in one IN list."""


class SqlSession(Protocol):
    """Connection in a transaction; parameters are marked by "?"."""

    location: str

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""

    def stream(self, statement: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query; yield its rows with bounded memory."""

    def run_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row of values."""

    def make_vectors(self, model: StoredModel) -> None:
        """Create the table `vectors_<number>` of a model.

        Its columns are slot (primary key) and vector.
        """

    def drop_vectors(self, model: StoredModel) -> None:
        """Drop or empty the table `vectors_<number>`.

        It stays whole for a reader that has begun before.
        """

    def packed(self, vectors: NDArray[Any], model: StoredModel) -> list[object]:
        """Return the values that the column `vector` takes, for rows (n, d)."""

    def unpacked(self, values: Sequence[object], model: StoredModel) -> NDArray[Any]:
        """Return the rows (n, d) of values of the column `vector`.

        They are in the form of the model.

        Raises:
            InputError: A value has another length.
        """

    def damage(self) -> list[str]:
        """Return the faults that the database finds in itself."""


class View:
    """One state of a store; made by `Store.reading` for one thread."""

    def __init__(self, session: SqlSession) -> None:
        self._sql = session
        self.location = session.location

    @property
    def session(self) -> SqlSession:
        """Connection that reads this state, for what only one of the databases can do."""
        return self._sql

    # ---- the whole ------------------------------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """Return a value of the table `meta`, or None."""
        rows = self._sql.run("SELECT value FROM meta WHERE key=?", (key,))
        return rows[0][0] if rows else None

    def _counter(self, name: str) -> int:
        return int(self.meta(f"last_{name}") or 0)

    def position(self) -> Position:
        """Return the present position, in one look-up whatever the size."""
        names = ("database", "epoch", "last_slot", "last_removal")
        marks = ",".join("?" * len(names))
        facts = dict(self._sql.run(f"SELECT key, value FROM meta WHERE key IN ({marks})", names))
        return Position(facts["database"], int(facts["epoch"]), int(facts["last_slot"]), int(facts["last_removal"]))

    def __len__(self) -> int:
        return int(self._sql.run("SELECT count(*) FROM questions")[0][0])

    def count(self, table: str) -> int:
        """Return the number of rows of a table.

        Tables are "questions", "removed", "decisions", "verdicts" and others.
        """
        return int(self._sql.run(f"SELECT count(*) FROM {table}")[0][0])

    def distinct_texts(self) -> int:
        """Return the number of questions that are no copies of each other."""
        return int(self._sql.run("SELECT count(DISTINCT print) FROM questions")[0][0])

    def id_kinds(self) -> set[str]:
        """Return the types of the stored ids: "integer", "text", both or none."""
        kinds = {"i": "integer", "t": "text"}
        return {kinds[row[0]] for row in self._sql.run("SELECT DISTINCT substr(id, 1, 1) FROM questions")}

    def damage(self) -> list[str]:
        """Return the faults that the database finds in itself."""
        return self._sql.damage()

    # ---- questions ------------------------------------------------------------------------------------------------

    def questions(self, slots: Iterable[int]) -> dict[int, StoredQuestion]:
        """Return the questions in those slots that are not empty."""
        return {row[0]: _question(row) for row in self._in("questions", QUESTION, "slot", [int(s) for s in slots])}

    def encoded_texts(self, slots: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Return encoded id and text of the questions in those slots that are not empty."""
        return {row[0]: (row[1], row[2]) for row in self._in("questions", "slot, id, text", "slot", [*slots])}

    def last_slots(self, limit: int) -> list[int]:
        """Return the last slots that are not empty, last first."""
        return [row[0] for row in self._sql.run("SELECT slot FROM questions ORDER BY slot DESC LIMIT ?", (limit,))]

    def removals(self, after: int) -> dict[int, int]:
        """Return number -> slot of the removals after a number, oldest first.

        Those of earlier epochs are not listed.
        """
        return dict(self._sql.run("SELECT number, slot FROM removed WHERE number>? ORDER BY number", (after,)))

    def find(self, ids: Iterable[Id]) -> dict[Id, StoredQuestion]:
        """Return the questions with those ids that are stored."""
        return {question.id: question for question in self.find_encoded(map(encoded_id, ids)).values()}

    def find_encoded(self, ids: Iterable[str]) -> dict[str, StoredQuestion]:
        """Return the questions with those encoded ids that are stored."""
        return {row[1]: _question(row) for row in self._in("questions", QUESTION, "id", list(ids))}

    def _in(self, table: str, columns: str, column: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        for part in chunks(len(values), PART):
            marks = ",".join("?" * (part.stop - part.start))
            yield from self._sql.run(f"SELECT {columns} FROM {table} WHERE {column} IN ({marks})", values[part])

    def same_text(self, text: str) -> list[int]:
        """Return the slots of the copies of a text, oldest row first.

        Copies are found by the hash of `duplicate_key`.
        """
        statement = "SELECT slot FROM questions WHERE print=? ORDER BY slot"
        return [row[0] for row in self._sql.run(statement, (duplicate_key_hash(text),))]

    def rows(self, after: int = 0, limit: int | None = None) -> Iterator[tuple[StoredQuestion, int]]:
        """Yield questions after a slot, in order of slots, with the hash of the text."""
        statement = f"SELECT {QUESTION}, print FROM questions WHERE slot>? ORDER BY slot"
        values: list[object] = [after]
        if limit is not None:
            statement, values = f"{statement} LIMIT ?", [after, limit]
        for row in self._sql.stream(statement, values):
            yield _question(row[:6]), row[6]

    # ---- models and vectors ---------------------------------------------------------------------------------------

    def models(self) -> list[StoredModel]:
        """Return the models that have vectors, oldest first."""
        rows = self._sql.run("SELECT number, fingerprint, dimensions, form FROM models ORDER BY number")
        return [StoredModel(*row) for row in rows]

    def model(self) -> StoredModel | None:
        """Return the present model, or None in a new store."""
        number = self.meta("model")
        return next((model for model in self.models() if number is not None and model.number == int(number)), None)

    def missing(self, model: StoredModel, limit: int, after: int = 0) -> list[StoredQuestion]:
        """Return questions without a vector of a model, oldest first.

        They have slots above `after`, and are at most `limit`.
        """
        rows = self._sql.run(
            f"SELECT {QUESTION} FROM questions WHERE slot>? AND NOT EXISTS"
            f" (SELECT 1 FROM {model.table} v WHERE v.slot=questions.slot) ORDER BY slot LIMIT ?",
            (after, limit),
        )
        return [_question(row) for row in rows]

    def undecided(self, scorer: str, limit: int, after: int = 0) -> list[StoredQuestion]:
        """Return questions that a scorer has not decided, oldest first.

        They have slots above `after`, and are at most `limit`.
        """
        rows = self._sql.run(
            f"SELECT {QUESTION} FROM questions WHERE slot>? AND (decided IS NULL OR decided<>?) ORDER BY slot LIMIT ?",
            (after, scorer, limit),
        )
        return [_question(row) for row in rows]

    def vectors(self, model: StoredModel, slots: Sequence[int]) -> dict[int, NDArray[Any]]:
        """Return the vectors, each (d,), of those slots that have one."""
        found = list(self._in(f"vectors_{model.number}", "slot, vector", "slot", [int(slot) for slot in slots]))
        rows = self._sql.unpacked([vector for _, vector in found], model)
        return {slot: row for (slot, _), row in zip(found, rows, strict=True)}

    def vectors_after(self, model: StoredModel, slot: int) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Yield slots and vectors of a model after a slot, in order of slots.

        Each part holds up to 4,096 slots (n,) and their vectors (n, d).
        """
        slots: list[int] = []
        values: list[object] = []
        statement = f"SELECT slot, vector FROM vectors_{model.number} WHERE slot>? ORDER BY slot"
        for number, vector in self._sql.stream(statement, (slot,)):
            slots.append(number)
            values.append(vector)
            if len(slots) == 4096:
                yield np.array(slots, np.int64), self._sql.unpacked(values, model)
                slots, values = [], []
        if slots:
            yield np.array(slots, np.int64), self._sql.unpacked(values, model)

    def changes(self, since: Position | None) -> Changes:
        """Return the changes since a position.

        For None, or for a position of another epoch or store, everything is a change.

        Raises:
            InputError: A vector has another length than the others.
        """
        now, model = self.position(), self.model()
        known = since is not None and (since.database, since.epoch) == (now.database, now.epoch)
        slot, removal = (since.slot, since.removal) if since is not None and known else (0, now.removal)
        parts = list(self.vectors_after(model, slot)) if model is not None and slot < now.slot else []
        removed = np.array([*self.removals(removal).values()], np.int64)
        if not parts:
            d, form = (model.dimensions, model.form) if model is not None else (0, "float32")
            return Changes(np.zeros(0, np.int64), np.zeros((0, d), VECTOR_DTYPES[form]), removed, now)
        slots, vectors = zip(*parts, strict=True)
        return Changes(np.concatenate(slots), np.concatenate(vectors), removed, now)

    # ---- decisions ------------------------------------------------------------------------------------------------

    def decisions(self, where: str = "", values: Sequence[object] = ()) -> list[StoredDecision]:
        """Return the decisions on pairs of questions that are still stored.

        Args:
            where: Condition on the columns of `decisions` and on `a.id` and `b.id`, encoded ids of the two questions.
            values: Its parameters.
        """
        rows = self._sql.run(
            "SELECT a.id, b.id, scorer, score, probability, base_rate, decision, threshold, stratum, value, drawn"
            " FROM decisions JOIN questions a ON a.slot=decisions.slot JOIN questions b ON b.slot=decisions.other"
            f"{f' WHERE {where}' if where else ''} ORDER BY decisions.slot, decisions.other",
            values,
        )
        return [StoredDecision(decoded_id(row[0]), decoded_id(row[1]), *row[2:]) for row in rows]

    def decision(self, one: Id, other: Id) -> StoredDecision | None:
        """Return the decision on a pair, or None."""
        slots = sorted(question.slot for question in self.find((one, other)).values())
        return self.decision_at(slots[0], slots[1]) if len(slots) == 2 else None

    def decision_at(self, slot: int, other: int) -> StoredDecision | None:
        """Return the decision on the questions in two slots, the lower first, or None."""
        found = self.decisions("decisions.slot=? AND decisions.other=?", (slot, other))
        return found[0] if found else None

    def unanswered(
        self, order: str, limit: int, where: str = "", values: Sequence[object] = ()
    ) -> list[tuple[int, int, float, float]]:
        """Return the first pairs without a verdict, in an order of review.

        Each is returned as its two slots, value and draw.

        Args:
            order: "drawn" for the audit, "drawn / value" for the queue.
            limit: Maximum number of pairs.
            where: Condition on the columns of `decisions`.
            values: Its parameters.
        """
        rows = self._sql.run(
            f"SELECT slot, other, value, drawn FROM decisions WHERE {f'{where} AND ' if where else ''}{UNANSWERED}"
            f" ORDER BY {order} LIMIT ?",
            (*values, limit),
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def decision_counts(self) -> dict[tuple[str, str], int]:
        """Return the number of decisions of each stratum and present decision."""
        rows = self._sql.run("SELECT stratum, decision, count(*) FROM decisions GROUP BY stratum, decision")
        return {(row[0], row[1]): row[2] for row in rows}

    def answered(self) -> list[tuple[StoredDecision, StoredVerdict]]:
        """Return decisions with each standing verdict on their two texts.

        They are in order of verdicts.
        """
        columns = ", ".join(f"v.{name}" for name in VERDICT.split(", "))
        rows = self._sql.run(
            "SELECT a.id, b.id, d.scorer, d.score, d.probability, d.base_rate, d.decision, d.threshold, d.stratum,"
            f" d.value, d.drawn, {columns} FROM verdicts v"
            " JOIN decisions d ON d.slot=v.slot_one AND d.other=v.slot_other"
            " JOIN questions a ON a.slot=d.slot JOIN questions b ON b.slot=d.other"
            f" WHERE {STANDING} ORDER BY v.number"
        )
        return [
            (StoredDecision(decoded_id(row[0]), decoded_id(row[1]), *row[2:11]), _verdict(row[11:])) for row in rows
        ]

    # ---- verdicts, merges, calibrations ---------------------------------------------------------------------------

    def verdicts(
        self, *, after: int = 0, pair: tuple[Id, Id] | None = None, id_: Id | None = None
    ) -> list[StoredVerdict]:
        """Return the history of verdicts, oldest first.

        It may be limited to rows after a number, of a pair, or of a question.
        """
        condition = "number>?"
        values: list[object] = [after]
        if pair is not None:
            condition += " AND one=? AND other=?"
            values += ordered_pair(encoded_id(pair[0]), encoded_id(pair[1]))
        if id_ is not None:
            condition += " AND (one=? OR other=?)"
            values += [encoded_id(id_)] * 2
        return self.verdicts_where(condition, values)

    def verdicts_where(
        self, condition: str, values: Sequence[object] = (), limit: int | None = None
    ) -> list[StoredVerdict]:
        """Return the rows of `verdicts v` that meet a condition.

        They are oldest first; with a limit they are the last ones, last first.

        Args:
            condition: On the columns of `verdicts v`, such as `STANDING`.
            values: Its parameters.
            limit: Maximum number of rows.
        """
        order = "v.number" if limit is None else f"v.number DESC LIMIT {int(limit)}"
        rows = self._sql.run(f"SELECT {VERDICT} FROM verdicts v WHERE {condition} ORDER BY {order}", values)
        return [_verdict(row) for row in rows]

    def standing_merges(self) -> list[StoredMerge]:
        """Return the merges that were not taken back, oldest first."""
        return self.merges_where(STANDING_MERGE)

    def verdicts_among(self, ids: Iterable[str]) -> list[StoredVerdict]:
        """Return the verdicts that stand and have one of these encoded ids, oldest first."""
        rows = self._among("verdicts", VERDICT, ("one", "other"), ids)
        return [verdict for verdict in map(_verdict, rows) if verdict.undoes is None]

    def merges_among(self, ids: Iterable[str]) -> list[StoredMerge]:
        """Return the merges that stand and have one of these encoded ids, oldest first."""
        rows = self._among("merges", MERGE, ("canonical", "duplicate"), ids)
        return [merge for merge in map(_merge, rows) if merge.undoes is None]

    def _among(self, table: str, columns: str, named: tuple[str, str], ids: Iterable[str]) -> list[tuple[Any, ...]]:
        """Return the rows with one of these ids that were not taken back, oldest first."""
        wanted = sorted(set(ids))
        rows = {row[0]: row for name in named for row in self._in(table, columns, name, wanted)}
        undone = {row[0] for row in self._in(table, "undoes", "undoes", list(rows))}
        return [rows[number] for number in sorted(rows) if number not in undone]

    def present_slots(self, slots: Iterable[int]) -> set[int]:
        """Return those slots whose text is the present one of its question.

        They hold a question, or held the last text of a removed one that has verdicts.
        """
        wanted = sorted(set(slots))
        return {row[0] for table in ("questions", "departed") for row in self._in(table, "slot", "slot", wanted)}

    def last_verdict(self) -> int:
        """Return the number of the last row of the history of verdicts.

        It is 0 if there is none.
        """
        return self._counter("verdict")

    def merges(self) -> list[StoredMerge]:
        """Return the history of merges, oldest first."""
        return self.merges_where("1=1")

    def merges_where(self, condition: str, values: Sequence[object] = ()) -> list[StoredMerge]:
        """Return the merges v on a condition on the columns of `merges v`, oldest first."""
        rows = self._sql.run(f"SELECT {MERGE} FROM merges v WHERE {condition} ORDER BY v.number", values)
        return [_merge(row) for row in rows]

    def calibrations(self) -> list[StoredCalibration]:
        """Return the calibrations, oldest first."""
        rows = self._sql.run("SELECT number, scorer, at, content FROM calibrations ORDER BY number")
        return [StoredCalibration(number, scorer, at, json.loads(content)) for number, scorer, at, content in rows]

    def calibration(self) -> StoredCalibration | None:
        """Return the calibration in use, or None."""
        number = int(self.meta("calibration") or 0)
        return next((found for found in self.calibrations() if found.number == number), None)


class Transaction(View):
    """View that writes, all or nothing; made by `Store.write`."""

    def set_meta(self, key: str, value: object) -> None:
        """Write a value of the table `meta`, as text."""
        self._sql.run(
            "INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value=excluded.value",
            (key, str(value)),
        )

    def _next(self, name: str, count: int = 1) -> int:
        """Return the first of the next `count` numbers of a counter."""
        last = self._counter(name)
        self.set_meta(f"last_{name}", last + count)
        return last + 1

    # ---- questions ------------------------------------------------------------------------------------------------

    def put(self, rows: Sequence[NewQuestion], vectors: Mapping[int, Mapping[str, NDArray[np.float32]]]) -> Written:
        """Write questions, each id once, and their vectors.

        An id that has the text already keeps its slot; its date, reach and details are updated.

        Args:
            rows: The questions.
            vectors: Number of a model -> text -> vector (d,), for the present model at least.

        Raises:
            InputError: A text holds a NUL character, or a new text has no vector of the present model.
        """
        for row in rows:
            without_nul(row.text, "the text", f"id {row.id!r}")
        written, stored = Written(), self.find(row.id for row in rows)
        fresh = [row for row in rows if row.id not in stored or stored[row.id].text != row.text]
        same = [row for row in rows if row.id in stored and stored[row.id].text == row.text]
        written.unchanged = len(same)
        self._sql.run_many(
            "UPDATE questions SET created=?, reach=?, details=? WHERE id=?",
            [
                (*rest, encoded_id(row.id))
                for row in same
                if (rest := _rest(row, stored[row.id])) != _rest(NewQuestion(row.id, row.text), stored[row.id])
            ],
        )
        replaced = [stored[row.id].slot for row in fresh if row.id in stored]
        self._drop(replaced)
        written.replaced, written.added = len(replaced), len(fresh) - len(replaced)
        if not fresh:
            return written
        first, present = self._next("slot", len(fresh)), self.model()
        self._sql.run_many("DELETE FROM departed WHERE id=?", ((encoded_id(row.id),) for row in fresh))
        self._sql.run_many(
            f"INSERT INTO questions({QUESTION}, print) VALUES(?, ?, ?, ?, ?, ?, ?)",
            (
                (slot, encoded_id(q.id), q.text, *_rest(q, stored.get(q.id)), duplicate_key_hash(q.text))
                for slot, q in enumerate(fresh, first)
            ),
        )
        for model in self.models():
            known = vectors.get(model.number, {})
            bare = [row.id for row in fresh if row.text not in known]
            if bare and model == present:
                # A reader that has gone past the slot would never find a vector that is written later.
                raise InputError(
                    f"the id {bare[0]!r} has no vector of the model in use",
                    location=self.location,
                    hint="embed every new text with it",
                )
            slots = [slot for slot, row in enumerate(fresh, first) if row.text in known]
            if slots:
                self.put_vectors(model, slots, np.stack([known[fresh[slot - first].text] for slot in slots]))
        return written

    def remove(self, ids: Iterable[Id]) -> int:
        """Remove questions and their decisions; return the number of ids that were stored."""
        stored = self.find(ids)
        self._sql.run_many(
            "INSERT INTO departed(slot, id) SELECT slot, id FROM questions WHERE id=? AND"
            " (EXISTS (SELECT 1 FROM verdicts v WHERE v.one=questions.id)"
            " OR EXISTS (SELECT 1 FROM verdicts v WHERE v.other=questions.id))",
            ((encoded_id(id_),) for id_ in stored),
        )
        self._drop([question.slot for question in stored.values()])
        return len(stored)

    def _drop(self, slots: Sequence[int]) -> None:
        if not slots:
            return
        self._sql.run_many("DELETE FROM decisions WHERE slot=? OR other=?", ((slot, slot) for slot in slots))
        for model in self.models():
            self._sql.run_many(f"DELETE FROM vectors_{model.number} WHERE slot=?", ((slot,) for slot in slots))
        self._sql.run_many("DELETE FROM questions WHERE slot=?", ((slot,) for slot in slots))
        first = self._next("removal", len(slots))
        self._sql.run_many("INSERT INTO removed(number, slot) VALUES(?, ?)", enumerate(slots, first))

    # ---- models and vectors ---------------------------------------------------------------------------------------

    def add_model(self, fingerprint: str, dimensions: int, form: VectorForm) -> StoredModel:
        """Return the model with this fingerprint, and add it if it is missing.

        A new model has no vectors yet.
        """
        known = next((model for model in self.models() if model.fingerprint == fingerprint), None)
        if known is not None:
            return known
        model = StoredModel(self._next("model"), fingerprint, dimensions, form)
        self._sql.run(
            "INSERT INTO models(number, fingerprint, dimensions, form) VALUES(?, ?, ?, ?)",
            (model.number, fingerprint, dimensions, form),
        )
        self._sql.make_vectors(model)
        return model

    def use_model(self, model: StoredModel) -> None:
        """Switch to a model, atomically with the transaction.

        Raises:
            InputError: A question has no vector of it.
        """
        if self.missing(model, 1):
            raise InputError(
                f"some questions have no vector of the model {model.fingerprint}",
                location=self.location,
                hint="embed them first: `dupq index reembed`",
            )
        self.set_meta("model", model.number)
        self.next_epoch()

    def drop_model(self, model: StoredModel) -> None:
        """Delete a model and its vectors.

        Raises:
            InputError: It is the present model, or is not in the store.
        """
        if model.number not in {known.number for known in self.models()}:
            raise InputError(f"no model has the number {model.number}", location=self.location, hint="see `models()`")
        if self.meta("model") == str(model.number):
            raise InputError(
                "the model in use cannot be dropped", location=self.location, hint="switch to another model first"
            )
        self._sql.drop_vectors(model)
        self._sql.run("DELETE FROM models WHERE number=?", (model.number,))

    def put_vectors(self, model: StoredModel, slots: Sequence[int], vectors: NDArray[Any]) -> None:
        """Write vectors (n, d) of a model; those that are there already stay.

        Raises:
            InputError: They have another number of dimensions than the model.
        """
        if vectors.shape[1:] != (model.dimensions,):
            raise InputError(
                f"vectors must have {model.dimensions} dimensions, got shape {vectors.shape}",
                location=self.location,
                hint="embed them with the bi-encoder of the model",
            )
        values = self._sql.packed(vectors, model)
        self._sql.run_many(
            f"INSERT INTO vectors_{model.number}(slot, vector) VALUES(?, ?) ON CONFLICT(slot) DO NOTHING",
            ((int(slot), value) for slot, value in zip(slots, values, strict=True)),
        )

    def next_epoch(self) -> None:
        """Make every reader read all vectors again, and clear the list of removals."""
        self.set_meta("epoch", int(self.meta("epoch") or 0) + 1)
        self._sql.run("DELETE FROM removed")

    # ---- decisions, verdicts, merges, calibrations ----------------------------------------------------------------

    def mark_decided(self, slots: Iterable[int], scorer: str) -> None:
        """Record that a scorer has decided these questions against all others."""
        self._sql.run_many("UPDATE questions SET decided=? WHERE slot=?", [(scorer, slot) for slot in slots])

    def put_decisions(self, rows: Iterable[StoredDecision]) -> None:
        """Write decisions on stored questions.

        Stratum, value and draw of an older decision on the pair stay, unless it is of format 1. Rows of questions that
        are not stored are left out.
        """
        rows = list(rows)
        slots = {id_: q.slot for id_, q in self.find({id_ for row in rows for id_ in (row.id, row.other)}).items()}
        self._sql.run_many(
            "INSERT INTO decisions(slot, other, scorer, score, probability, base_rate, decision, threshold, stratum,"
            " value, drawn) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(slot, other) DO UPDATE SET"
            " scorer=excluded.scorer, score=excluded.score, probability=excluded.probability,"
            " base_rate=excluded.base_rate, decision=excluded.decision, threshold=excluded.threshold,"
            # A row of format 1 was drawn for no audit; the others keep the draw that they have.
            " value=CASE WHEN decisions.stratum='' THEN excluded.value ELSE decisions.value END,"
            " drawn=CASE WHEN decisions.stratum='' THEN excluded.drawn ELSE decisions.drawn END,"
            " stratum=CASE WHEN decisions.stratum='' THEN excluded.stratum ELSE decisions.stratum END",
            (
                (
                    *sorted((slots[row.id], slots[row.other])),
                    row.scorer,
                    row.score,
                    row.probability,
                    row.base_rate,
                    row.decision,
                    row.threshold,
                    row.stratum,
                    row.value,
                    row.drawn,
                )
                for row in rows
                if row.id in slots and row.other in slots
            ),
        )

    def add_verdict(self, verdict: StoredVerdict) -> int:
        """Append a row to the history of verdicts; return its number.

        A row with the same key is not written again. The number of the argument is ignored.

        Raises:
            InputError: The key is empty, or a text holds a NUL character.
        """
        _check_row(verdict.key, answer=verdict.answer, by=verdict.by, note=verdict.note)
        known = self._sql.run("SELECT number FROM verdicts WHERE key=?", (verdict.key,))
        if known:
            return int(known[0][0])
        number, pair = self._next("verdict"), ordered_pair(encoded_id(verdict.id), encoded_id(verdict.other))
        values = [getattr(verdict, "by" if name == "moderator" else name) for name in VERDICT.split(", ")[3:]]
        self._sql.run(f"INSERT INTO verdicts({VERDICT}) VALUES({','.join('?' * 19)})", (number, *pair, *values))
        return number

    def add_merge(self, merge: StoredMerge) -> int:
        """Append a row to the history of merges; return its number.

        A row with the same key is not written again. The number of the argument is ignored.

        Raises:
            InputError: The key is empty, or a text holds a NUL character.
        """
        _check_row(merge.key, by=merge.by, note=merge.note)
        known = self._sql.run("SELECT number FROM merges WHERE key=?", (merge.key,))
        if known:
            return int(known[0][0])
        number, pair = self._next("merge"), (encoded_id(merge.canonical), encoded_id(merge.duplicate))
        values = (merge.by, merge.at, merge.note, merge.undoes, merge.key)
        self._sql.run(f"INSERT INTO merges({MERGE}) VALUES(?, ?, ?, ?, ?, ?, ?, ?)", (number, *pair, *values))
        return number

    def add_calibration(self, scorer: str, at: str, content: Mapping[str, Any]) -> int:
        """Append a calibration; return its number. `use_calibration` switches to it."""
        number = self._next("calibration")
        self._sql.run(
            "INSERT INTO calibrations(number, scorer, at, content) VALUES(?, ?, ?, ?)",
            (number, scorer, at, json.dumps(dict(content), allow_nan=False)),
        )
        return number

    def use_calibration(self, number: int) -> None:
        """Switch to a calibration; 0: to that of the pipeline."""
        self.set_meta("calibration", number)


def _verdict(row: Sequence[Any]) -> StoredVerdict:
    return StoredVerdict(row[0], decoded_id(row[1]), decoded_id(row[2]), *row[3:])


def _merge(row: Sequence[Any]) -> StoredMerge:
    return StoredMerge(row[0], decoded_id(row[1]), decoded_id(row[2]), *row[3:])


def _question(row: Sequence[Any]) -> StoredQuestion:
    slot, id_, text, created, reach, details = row
    return StoredQuestion(slot, decoded_id(id_), text, created, reach, json.loads(details) if details else None)


def _rest(row: NewQuestion, stored: StoredQuestion | None) -> tuple[str | None, float, str | None]:
    """Return the columns created, reach and details of a row to write.

    A value that the row leaves out stays as it is stored.
    """
    old = stored or StoredQuestion(0, row.id, row.text)
    return (
        old.created if row.created is None else row.created,
        old.reach if row.reach is None else row.reach,
        _json(old.details if row.details is None else row.details),
    )


def _check_row(key: str, **texts: str) -> None:
    """Raise InputError for a row of a history that not every store can keep.

    A row needs a key, and no text may hold a NUL character.
    """
    if not key:
        raise InputError("key must be a unique name, got ''", hint="give one such as uuid4().hex")
    for name, text in {"key": key, **texts}.items():
        without_nul(text, name)


def _json(details: Mapping[str, Any] | None) -> str | None:
    return None if details is None else json.dumps(details, ensure_ascii=False, allow_nan=False)
