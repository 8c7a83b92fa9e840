"""Contract of a store: what an index keeps, and how it reads and writes it.

A store holds rows of questions, their vectors under one or more models, decisions on pairs, verdicts, merges and
calibrations. `stores/sqlite.py` keeps them in one file, `stores/postgres.py` in a PostgreSQL database; both run the
SQL of `stores/sql.py`.

Slots. A question gets a new slot whenever its text is written; no slot is used twice, and removed slots are listed. A
reader that has recorded its last slot and its last removal can therefore update itself from the later rows alone.

Ids. 7 and "7" are two ids. In a column they are texts: "i7" and "t7" (`encoded_id`, `decoded_id`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.types import Id

if TYPE_CHECKING:
    from dupq.index.stores.sql import Transaction, View

T = TypeVar("T")

FORMAT = 2
"""Number of the last migration; an older store is migrated, a newer one is refused."""
COUNTERS = ("slot", "removal", "model", "verdict", "merge", "calibration")
"""Counters of `meta`, each under `last_<name>`."""
WAIT_SECONDS = 60.0
"""Default time that a writer waits for another one."""

VectorForm = Literal["float16", "float32"]
VECTOR_DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
"""Form of the vectors of a model -> type of their numbers. float16 changes a cosine by less than 0.001."""


class MissingIndexError(InputError):
    """A path or URL at which there is no index."""


def without_nul(text: str, name: str, location: str | None = None) -> str:
    """Return `text` unchanged; raise InputError if it holds a NUL character.

    PostgreSQL cannot store one.
    """
    if "\x00" in text:
        raise InputError(
            f"{name} must not hold a NUL character, got {text!r:.60}", location=location, hint="remove the character"
        )
    return text


def encoded_id(id_: Id) -> str:
    """Return the text of an id in a column: "i7" for 7 and "t7" for "7".

    Raises:
        InputError: The id holds a NUL character.
    """
    return f"t{without_nul(id_, 'the id')}" if isinstance(id_, str) else f"i{id_}"


def decoded_id(text: str) -> Id:
    """Return the id that `encoded_id` has encoded."""
    return int(text[1:]) if text[0] == "i" else text[1:]


def ordered_pair(one: str, other: str) -> tuple[str, str]:
    """Return two encoded ids in the order in which a pair is stored."""
    return (one, other) if one <= other else (other, one)


@dataclass(frozen=True, slots=True)
class StoredQuestion:
    """One question.

    Attributes:
        slot: Number of this text of the question.
        id, text: As they were added.
        created: ISO 8601 date and time in UTC, or None.
        reach: How many people a duplicate costs, such as its answers or views, above 0; 1 where nothing is known.
        details: What a review page shows beside the text (title, body, tags, url, ...), or None.
    """

    slot: int
    id: Id
    text: str
    created: str | None = None
    reach: float = 1.0
    details: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A question to be written; the fields are those of `StoredQuestion`.

    A date, reach or details of None stay as they are stored under this id; a new question has none, and the reach 1.
    """

    id: Id
    text: str
    created: str | None = None
    reach: float | None = None
    details: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A bi-encoder that has vectors in the store.

    Attributes:
        number: Number in the store, from 1.
        fingerprint: Of the bi-encoder.
        dimensions: Of its embeddings.
        form: Number format of the vectors, a key of `VECTOR_DTYPES`.
    """

    number: int
    fingerprint: str
    dimensions: int
    form: VectorForm

    @property
    def table(self) -> str:
        """Name of the table of its vectors."""
        return f"vectors_{self.number}"


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """Decision on a pair of stored questions, and what it was made with.

    Attributes:
        id, other: The two questions.
        scorer: Fingerprint of the pipeline.
        score: Raw score.
        probability: Calibrated P(duplicate) at `base_rate`.
        base_rate: Share of duplicates that the probability assumes.
        decision: "duplicate", "review" or "distinct".
        threshold: Probability from which a pair is decided "duplicate".
        stratum: Stratum of the random audit, fixed when the pair was first decided.
        value: What a verdict on the pair is worth, above 0, fixed when the pair was first decided.
        drawn: Random number in (0, 1), fixed by the pair and the store, by which a pair is drawn for review.
    """

    id: Id
    other: Id
    scorer: str
    score: float
    probability: float
    base_rate: float
    decision: str
    threshold: float = 1.0
    stratum: str = ""
    value: float = 1.0
    drawn: float = 1.0


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """One row of the history of verdicts, which only grows.

    Attributes:
        number: Place in the history, from 1.
        id, other: The two questions, in the order of their encoded ids.
        answer: "duplicate", "distinct", "skip", or "undo" for a row that takes another one back.
        by: Who gave it.
        at: ISO 8601 date and time in UTC, as the clock of the writer was. The order is that of `number`.
        score, probability, decision, threshold, base_rate, scorer: The stored decision at that moment, or None.
        chosen: Why the pair was shown: "queue", "audit", or "" where the moderator chose it.
        sampled: Probability with which the pair was chosen then, in (0, 1], or None.
        note: Text of the moderator.
        undoes: Number of the row that this one takes back, or None.
        key: Unique name, not empty, so that a repeated write is one row.
        slot_one, slot_other: Slots of the two texts at that moment, the lower first, as of a decision; 0 if unknown.
    """

    number: int
    id: Id
    other: Id
    answer: str
    by: str
    at: str
    score: float | None = None
    probability: float | None = None
    decision: str | None = None
    threshold: float | None = None
    base_rate: float | None = None
    scorer: str | None = None
    chosen: str = ""
    sampled: float | None = None
    note: str = ""
    undoes: int | None = None
    key: str = ""
    slot_one: int = 0
    slot_other: int = 0


@dataclass(frozen=True, slots=True)
class StoredMerge:
    """One row of the history of merges, which only grows.

    Attributes:
        number: Place in the history, from 1.
        canonical, duplicate: Ids of the two questions whose groups are joined; the first is preferred as canonical.
        by, at, note, key: As of a verdict.
        undoes: Number of the merge that this row takes back, or None.
    """

    number: int
    canonical: Id
    duplicate: Id
    by: str
    at: str
    note: str = ""
    undoes: int | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class StoredCalibration:
    """A calibrator and thresholds that were fitted on verdicts.

    Attributes:
        number: Number in the store, from 1.
        scorer: Fingerprint of the pipeline whose scores it reads.
        at: ISO 8601 date and time in UTC.
        content: Calibrator, thresholds and report, as JSON can hold them.
    """

    number: int
    scorer: str
    at: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Position:
    """State of a store up to which a reader has read it.

    Attributes:
        database: A random name of the store, its own for each.
        epoch: Number of compactions and changes of model, after which everything must be read again.
        slot, removal: The last slot and the last removal.
    """

    database: str
    epoch: int
    slot: int
    removal: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes after a position.

    Attributes:
        slots: int64 (n,), of new rows.
        vectors: (n, d) of the present model, in its own form (float16 or float32).
        removed: int64 (m,), removed slots.
        position: The state after the changes.
    """

    slots: NDArray[np.int64]
    vectors: NDArray[Any]
    removed: NDArray[np.int64]
    position: Position


@dataclass(slots=True)
class Written:
    """Counts of a call of `QuestionIndex.add`.

    Attributes:
        added: Number of new ids.
        replaced: Number of ids that were stored with another text.
        unchanged: Number of ids that were stored with the same text.
        repeated: Ids that were given more than once, with their places in the call, counted from 1. The last text is
            stored; the earlier ones are in none of the three counts.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    repeated: dict[Id, tuple[int, ...]] = field(default_factory=dict)


class Store(Protocol):
    """Rows of an index, for all threads of a process and for its forked children.

    Attributes:
        location: Name for errors: the path, or the URL without its password.
        vectors_file: Where this process may cache the vectors.
    """

    @property
    def location(self) -> str: ...

    @property
    def vectors_file(self) -> Path: ...

    def reading(self) -> AbstractContextManager[View]:
        """Give one state of the store, whatever is written meanwhile, to one thread.

        Raises:
            InputError: The store is damaged or closed.
            OutputError: It cannot be reached.
        """

    def write(self, action: Callable[[Transaction], T]) -> T:
        """Run one transaction, all or nothing, once other writers have ended.

        Readers go on. The action is run again if the connection was lost, even while it was committed, so it must be
        repeatable: rows that may occur once only have a key.

        Raises:
            OutputError: Another writer did not stop in time, the disk is full, or the connection stays lost.
        """

    def shrink(self) -> None:
        """Free the space of removed rows."""

    def sizes(self) -> dict[str, int]:
        """Return sizes in bytes by name, such as "database_bytes"."""

    def close(self) -> None:
        """Close all connections after the current transaction."""
