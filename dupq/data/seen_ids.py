"""Table of ids that were read, in about 25 bytes an id."""

from __future__ import annotations

from array import array

from dupq.types import Id

_SEGMENTS = 256
_FIRST_SLOTS = 8
_MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15
"""The golden ratio in 64 bits: a product with it spreads neighbouring numbers (Knuth 1973)."""


class SeenIds:
    """Table of ids and the place of each.

    An id is kept as a hash of 64 bits: that of an int is exact, and among 10 million texts two have one hash with a
    probability of 3 in a million. A table in segments grows a piece at a time, so that growth takes no memory of its
    own.
    """

    def __init__(self) -> None:
        # Each slot is two numbers: the hash, and the place, which is 0 in an empty slot.
        self._slots = [array("Q", bytes(16 * _FIRST_SLOTS)) for _ in range(_SEGMENTS)]
        self._counts = array("Q", bytes(8 * _SEGMENTS))

    def __len__(self) -> int:
        return sum(self._counts)

    def __contains__(self, id_: Id) -> bool:
        key = _key(id_)
        slots = self._slots[key >> 56]
        return slots[_find(slots, key) + 1] > 0

    def add(self, id_: Id, place: int) -> int:
        """Add an id that is not there yet, and return its place, that of the first call.

        Args:
            id_: The id.
            place: A number from 1 to 2**64 - 1.
        """
        key = _key(id_)
        segment = key >> 56
        slots = self._slots[segment]
        at = _find(slots, key)
        if slots[at + 1]:
            return slots[at + 1]
        slots[at], slots[at + 1] = key, place
        self._counts[segment] += 1
        if 10 * self._counts[segment] > 4 * len(slots):  # four slots of five
            self._slots[segment] = _grown(slots)
        return place


def _key(id_: Id) -> int:
    key = id_ * _ODD & _MASK if isinstance(id_, int) else hash(id_) & _MASK
    return key ^ key >> 32


def _find(slots: array[int], key: int) -> int:
    """Return the index of the slot of a key, or of the empty one where it belongs."""
    end = len(slots)
    at = key % (end // 2) * 2
    while slots[at + 1] and slots[at] != key:
        at = (at + 2) % end
    return at


def _grown(slots: array[int]) -> array[int]:
    grown = array("Q", bytes(len(slots) // 2 * 3 // 2 * 16))
    for at in range(0, len(slots), 2):
        if slots[at + 1]:
            to = _find(grown, slots[at])
            grown[to], grown[to + 1] = slots[at], slots[at + 1]
    return grown
