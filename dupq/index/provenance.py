"""Facts that link a file beside a store to the history of the store.

A store that is restored from a backup, or a copy of it, gives the slots after that moment a second time, to other
questions. The position of a file of the lost history then looks like an earlier one of the present history. Such
histories differ in their last rows or removals, so a file keeps some of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from dupq.index.stores.sql import View

LAST_ROWS, SPREAD_ROWS, LAST_REMOVALS = 32, 32, 16
"""Rows and removals that are compared. The last ones differ first; rows spread over all slots find a history that
happens to agree at its end, such as questions that were added again in the same order."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Facts of one state of a store, in less than 3,000 bytes of JSON.

    Attributes:
        model: Fingerprint of the model in use, or None.
        removal: Number of the last removal.
        removals: Number and slot of the last removals, oldest first.
        rows: Slot and digest of the last rows and of rows spread over all, in order of slots.
    """

    model: str | None
    removal: int
    removals: list[list[int]]
    rows: list[list[int | str]]


def provenance_of(view: View) -> Provenance:
    """Return the provenance of a file of this state.

    It takes a few look-ups, whatever the size.
    """
    position, model = view.position(), view.model()
    slots = {1 + position.slot * place // SPREAD_ROWS for place in range(SPREAD_ROWS)}
    rows = _digests(view, slots.union(view.last_slots(LAST_ROWS)))
    return Provenance(
        None if model is None else model.fingerprint,
        position.removal,
        [[number, slot] for number, slot in view.removals(position.removal - LAST_REMOVALS).items()],
        [[slot, digest] for slot, digest in sorted(rows.items())],
    )


def is_of_history(found: Provenance, view: View) -> bool:
    """Return True if a provenance is of this or an earlier state of a store.

    Both states are of one epoch.
    """
    model, rows = view.model(), {int(slot): digest for slot, digest in found.rows}
    present = _digests(view, rows)
    removals = view.removals(found.removal - LAST_REMOVALS)
    later = {slot for number, slot in removals.items() if number > found.removal}
    return (
        found.model == (None if model is None else model.fingerprint)
        and found.removals == [[number, slot] for number, slot in removals.items() if number <= found.removal]
        and all(rows[slot] == digest for slot, digest in present.items())
        and rows.keys() - present.keys() <= later
    )


def _digests(view: View, slots: Iterable[int]) -> dict[int, str]:
    """Return slot -> digest of id and text, for those slots that are not empty."""
    return {
        slot: hashlib.blake2b(f"{id_}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        for slot, (id_, text) in view.encoded_texts(slots).items()
    }
