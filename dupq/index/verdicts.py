"""From the history of verdicts to the present state of a pair.

The history only grows: a verdict is taken back by a row of its own. A verdict stands until it is taken back, and the
last one that stands is a moderator's opinion. A verdict belongs to the two texts it was given on: once one of them is
replaced it is outdated. The last text of a removed question counts as its text.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Literal

from dupq.data.arguments import MAX_INT, as_int
from dupq.errors import ConflictError, InputError
from dupq.index.stores.base import StoredMerge, StoredVerdict, encoded_id, ordered_pair
from dupq.index.stores.sql import STANDING, STANDING_MERGE, Transaction, View
from dupq.types import Id

ANSWERS = ("duplicate", "distinct", "skip")
CHOSEN = ("", "queue", "audit")
MAX_CHARACTERS = 10_000
"""Longest note, name or key."""

PresentAnswer = Literal["duplicate", "distinct", "skip", "contested", "outdated", "none"]


@dataclass(frozen=True, slots=True)
class PairState:
    """Present state of a pair.

    Attributes:
        id, other: The two questions, in the order of their encoded ids.
        answer: "duplicate" or "distinct" where all opinions agree, "contested" where they differ, "skip" where all
            moderators skipped it, "outdated" where all verdicts are on an earlier text, "none" without a verdict.
        opinions: The last verdict on the present texts of each moderator, oldest first.
        outdated: Verdicts that stand, but on a text that was replaced since, oldest first.
        last: Number of the last row of the history of the pair, 0 if there is none; see `QuestionIndex.verdict`.
    """

    id: Id
    other: Id
    answer: PresentAnswer
    opinions: tuple[StoredVerdict, ...] = ()
    outdated: tuple[StoredVerdict, ...] = ()
    last: int = 0

    @property
    def by(self) -> dict[str, str]:
        """Moderator -> answer."""
        return {verdict.by: verdict.answer for verdict in self.opinions}


def opinions(standing: Iterable[StoredVerdict]) -> tuple[StoredVerdict, ...]:
    """Return the last verdict of each moderator on a pair, oldest first.

    `standing` holds the standing verdicts on the pair, oldest first.
    """
    last = {verdict.by: verdict for verdict in standing}
    return tuple(sorted(last.values(), key=lambda verdict: verdict.number))


def answer_of(given: Iterable[StoredVerdict]) -> Literal["duplicate", "distinct", "skip", "contested", "none"]:
    """Return the answer that the opinions on a pair amount to.

    A skip counts only where there is nothing else.
    """
    answers = {verdict.answer for verdict in given}
    if {"duplicate", "distinct"} <= answers:
        return "contested"
    for answer in ("duplicate", "distinct", "skip"):
        if answer in answers:
            return answer
    return "none"


def pair_state(id_: Id, other: Id, rows: Sequence[StoredVerdict], present: set[int]) -> PairState:
    """Return the state of a pair from its history.

    Args:
        id_, other: The two questions.
        rows: All rows of the history of the pair, oldest first.
        present: Slots of the present texts.
    """
    one, two = sorted((id_, other), key=encoded_id)
    undone = {row.undoes for row in rows}
    standing = [row for row in rows if row.undoes is None and row.number not in undone]
    current = opinions(row for row in standing if {row.slot_one, row.slot_other} <= present)
    outdated = tuple(row for row in standing if not {row.slot_one, row.slot_other} <= present)
    answer: PresentAnswer = answer_of(current)
    if answer == "none" and outdated:
        answer = "outdated"
    return PairState(one, two, answer, current, outdated, rows[-1].number if rows else 0)


def read_pair(view: View, one: Id, other: Id) -> PairState:
    """Return the state of a pair.

    Raises:
        InputError: A question is not stored, and the pair has no history.
    """
    rows = view.verdicts(pair=(one, other))
    if not rows:
        require_stored(view, (one, other))
    return pair_state(one, other, rows, view.present_slots({s for row in rows for s in (row.slot_one, row.slot_other)}))


def read_history(
    view: View, id_: Id | None, limit: int | None = None, before: int | None = None
) -> list[StoredVerdict]:
    """Return the history of a question, or of all; see `QuestionIndex.history`.

    Raises:
        InputError: The question is not stored and has no history.
    """
    if limit is None:
        rows = view.verdicts(id_=id_)
    else:
        ids: list[object] = [] if id_ is None else [encoded_id(id_)] * 2
        condition, values = "v.number<?", [view.last_verdict() + 1 if before is None else before, *ids]
        if id_ is not None:
            condition += " AND (v.one=? OR v.other=?)"
        rows = view.verdicts_where(condition, values, limit)
    if id_ is not None and not rows:
        require_stored(view, (id_,))
    return rows


def require_stored(view: View, ids: Sequence[Id]) -> dict[Id, int]:
    """Return the slots of questions; raise InputError if one is not stored."""
    stored = view.find(ids)
    for id_ in ids:
        if id_ not in stored:
            raise InputError(
                f"no question has the id {id_!r:.60}",
                location=view.location,
                hint="add it first; 7 and '7' are two ids",
            )
    return {id_: question.slot for id_, question in stored.items()}


# ---- writing --------------------------------------------------------------------------------------------------------


def give(
    transaction: Transaction, verdict: StoredVerdict, expected: int | None, shown: tuple[int, int] | None
) -> StoredVerdict:
    """Append a verdict with the stored decision at this moment; return the row.

    Args:
        transaction: Of the store.
        verdict: Ids, answer, moderator, time, reason of the choice, note and key.
        expected: Number of the last row of the pair that the caller has seen; None: any.
        shown: Slots of the two texts that the caller has seen, in any order; None: any.

    Raises:
        ConflictError: A text was replaced, and `rows` is empty; or the pair has later rows.
        InputError: A question is not stored, or the key was used for another verdict.
    """
    known = transaction.verdicts_where("v.key=?", (verdict.key,))
    if known:
        return _repeated(known[0], verdict)
    slots = require_stored(transaction, (verdict.id, verdict.other))
    one, other = sorted((slots[verdict.id], slots[verdict.other]))
    if shown is not None and sorted(shown) != [one, other]:
        raise ConflictError(
            f"slots must be those of the present texts, {one} and {other}, got {shown[0]} and {shown[1]}",
            hint="look at the present texts, and give the verdict again with their slots",
        )
    if expected is not None and (rows := transaction.verdicts(pair=(verdict.id, verdict.other), after=expected)):
        raise ConflictError(
            f"the pair has {len(rows)} later row(s), the last by {rows[-1].by!r:.60}: {rows[-1].answer}",
            rows=rows,
            hint=f"look at them, and give the verdict again with expected={rows[-1].number}",
        )
    decision = transaction.decision(verdict.id, verdict.other)
    row = replace(verdict, slot_one=one, slot_other=other)
    if decision is not None:
        row = replace(
            row,
            score=decision.score,
            probability=decision.probability,
            decision=decision.decision,
            threshold=decision.threshold,
            base_rate=decision.base_rate,
            scorer=decision.scorer,
        )
    return _row(transaction, transaction.add_verdict(row))


def take_back(
    transaction: Transaction, number: int | None, *, by: str, at: str, key: str, note: str, force: bool
) -> StoredVerdict:
    """Append a row that takes a verdict back; return it.

    The merge that came with the verdict is taken back too; see `merge_key`.

    Args:
        transaction: Of the store.
        number: Number of the verdict; None: the last one of this moderator that stands.
        by, at, key, note: Of the new row.
        force: Take back a verdict of another moderator.

    Raises:
        InputError: There is no such verdict, it was taken back already, it is itself such a row, it is another
            moderator's and `force` is False, or the key was used for something else.
    """
    if known := transaction.verdicts_where("v.key=?", (key,)):
        undone = known[0].undoes
        if undone is not None and number in (None, undone) and known[0].by == by:
            return known[0]
        raise _used(key, known[0])
    if number is None:
        found = transaction.verdicts_where(f"v.moderator=? AND {STANDING}", (by,), limit=1)
        if not found:
            raise InputError(f"{by!r:.60} has no verdict to take back", hint="name the verdict: undo(number, by=...)")
    else:
        found = transaction.verdicts_where("v.number=?", (number,))
        if not found:
            raise InputError(f"there is no verdict {number}", hint="see index.history()")
    row = found[0]
    if row.undoes is not None:
        raise InputError(
            f"row {row.number} takes verdict {row.undoes} back, and cannot be taken back itself",
            hint="give the verdict again",
        )
    if transaction.verdicts_where("v.undoes=?", (row.number,)):
        raise InputError(f"verdict {row.number} was taken back already", hint="give another verdict on the pair")
    if row.by != by and not force:
        raise InputError(
            f"verdict {row.number} was given by {row.by!r:.60}, not by {by!r:.60}",
            hint="give your own verdict, which makes the pair contested; or take it back with force=True",
        )
    undo = StoredVerdict(
        number=0,
        id=row.id,
        other=row.other,
        answer="undo",
        by=by,
        at=at,
        note=note,
        undoes=row.number,
        key=key,
        slot_one=row.slot_one,
        slot_other=row.slot_other,
    )
    for merge in transaction.merges_where(f"v.key=? AND {STANDING_MERGE}", (merge_key(row),)):
        # A new key: the row of the verdict, which is written with it, makes a repeated call one.
        transaction.add_merge(
            StoredMerge(0, merge.canonical, merge.duplicate, by, at, note, merge.number, new_key(None))
        )
    return _row(transaction, transaction.add_verdict(undo))


def merge_key(verdict: StoredVerdict) -> str:
    """Return the key of the merge that comes with a verdict.

    A moderator who prefers another canonical question than the proposed one gives both.
    """
    return f"{verdict.key}:merge"


def _row(view: View, number: int) -> StoredVerdict:
    return view.verdicts_where("v.number=?", (number,))[0]


def _repeated(known: StoredVerdict, verdict: StoredVerdict) -> StoredVerdict:
    same = ordered_pair(encoded_id(known.id), encoded_id(known.other)) == ordered_pair(
        encoded_id(verdict.id), encoded_id(verdict.other)
    )
    if same and (known.answer, known.by) == (verdict.answer, verdict.by):
        return known
    raise _used(verdict.key, known)


def _used(key: str, known: StoredVerdict) -> InputError:
    return InputError(f"the key {key!r:.60} was used for verdict {known.number}", hint="give each verdict its own")


# ---- arguments ------------------------------------------------------------------------------------------------------


def now() -> str:
    """Return the present date and time in UTC as ISO 8601 text."""
    return datetime.now(timezone.utc).isoformat()


def new_key(key: object) -> str:
    """Return a checked key, or a new one for None."""
    return uuid.uuid4().hex if key is None else as_line(key, "key")


def as_slots(value: Sequence[int]) -> tuple[int, int]:
    """Return the slots of two texts; raise InputError if they are no such pair."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) != 2:
        raise InputError(f"slots must be two slots, got {value!r:.60}", hint="give those that the pair was shown with")
    return as_int(value[0], "slots", 1, MAX_INT), as_int(value[1], "slots", 1, MAX_INT)


def check_different(one: Id, other: Id) -> None:
    """Raise InputError if two ids are one question."""
    if encoded_id(one) == encoded_id(other):
        raise InputError(f"the two ids must differ, got {one!r:.60} twice", hint="name two questions")


def as_line(value: object, name: str, *, blank: bool = False) -> str:
    """Return a text that a store can keep.

    Args:
        value: The text.
        name: The argument, for the error.
        blank: Allow a blank one.

    Raises:
        InputError: It is no str, blank, too long, not valid Unicode, or holds a NUL character.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} must be a str, got {type(value).__name__}", hint="convert it to str")
    if not blank and not value.strip():
        raise InputError(f"{name} must not be blank, got {value!r:.60}", hint="give a name")
    if "\x00" in value:
        raise InputError(f"{name} must be without NUL characters, got {value!r:.60}", hint="remove them")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{name} must be valid Unicode, got {value!r:.60}", hint="decode it with its own encoding")
    if len(value) > MAX_CHARACTERS:
        raise InputError(f"{name} must have at most {MAX_CHARACTERS} characters, got {len(value)}", hint="shorten it")
    return str(value)
