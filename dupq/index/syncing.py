"""Compare an index with an export, and limit the removals of a sync."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dupq.data.arguments import as_int, as_number
from dupq.errors import InputError
from dupq.index.stores.base import NewQuestion, StoredQuestion
from dupq.index.stores.sql import Transaction, View
from dupq.types import Id

MAX_REMOVALS = 0.2
"""Default share of the stored questions that a sync may remove."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """Counts of a sync.

    Attributes:
        added: Number of new questions.
        replaced: Number of questions with another text.
        updated: Number of questions with the same text and another date, reach or details.
        unchanged: Number of questions that are as in the export.
        removed: Number of questions that the export lacks and that were removed.
        kept: Number of questions that the export lacks and that stay: all of them on request, and those that are
            newer than the export.
        stored: Number of stored questions before the sync.
    """

    added: int
    replaced: int
    updated: int
    unchanged: int
    removed: int
    kept: int
    stored: int


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences between an index and an export.

    Attributes:
        report: Their counts.
        writes: The questions to write.
        removals: Id and slot of the questions to remove.
    """

    report: SyncReport
    writes: list[NewQuestion]
    removals: list[tuple[Id, int]]


def find_differences(view: View, rows: Sequence[NewQuestion], keep_missing: bool) -> Differences:
    """Compare a store with an export.

    A stored question that was created after every question of the export is newer than the export, and stays.

    Args:
        view: The store.
        rows: The questions of the export, each id once.
        keep_missing: Keep all questions that the export lacks.
    """
    left = {row.id: row for row in rows}
    newest = max((datetime.fromisoformat(row.created) for row in rows if row.created is not None), default=None)
    writes: list[NewQuestion] = []
    removals: list[tuple[Id, int]] = []
    replaced = updated = kept = stored = 0
    for question, _ in view.rows():
        stored += 1
        row = left.pop(question.id, None)
        if row is None:
            created = None if question.created is None else datetime.fromisoformat(question.created)
            if keep_missing or (created is not None and newest is not None and created > newest):
                kept += 1
            else:
                removals.append((question.id, question.slot))
        elif row.text != question.text:
            writes.append(row)
            replaced += 1
        elif _has_new_facts(row, question):
            writes.append(row)
            updated += 1
    added = [row for row in rows if row.id in left]
    unchanged = len(rows) - len(added) - replaced - updated
    report = SyncReport(len(added), replaced, updated, unchanged, len(removals), kept, stored)
    return Differences(report, [*writes, *added], removals)


def _has_new_facts(row: NewQuestion, stored: StoredQuestion) -> bool:
    given = ((row.created, stored.created), (row.reach, stored.reach), (row.details, stored.details))
    return any(new is not None and new != old for new, old in given)


def check_removals(report: SyncReport, max_removals: float) -> None:
    """Raise InputError if a sync would remove more questions than allowed.

    Args:
        report: The counts.
        max_removals: A number of questions as an int, or a share of the stored ones in [0, 1] as a float.
    """
    if isinstance(max_removals, int):
        limit, wording = as_int(max_removals, "max_removals", 0), f"{max_removals:,}"
    else:
        limit = int(as_number(max_removals, "max_removals", 0, 1) * report.stored)
        wording = f"{100 * max_removals:.3g} %"
    if report.removed > limit:
        raise InputError(
            f"the export lacks {report.removed:,} of {report.stored:,} stored questions; a sync may remove {wording}",
            hint="check that the export is whole and has the same ids; allow it with --allow-removals N (max_removals="
            "N), or keep them with --keep-missing",
        )


def remove_rows(transaction: Transaction, rows: Sequence[tuple[Id, int]]) -> int:
    """Remove questions, unless they were replaced meanwhile; return their number."""
    stored = transaction.find([id_ for id_, _ in rows])
    return transaction.remove([id_ for id_, slot in rows if id_ in stored and stored[id_].slot == slot])
