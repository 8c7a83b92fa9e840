"""Short hashes that identify a network by its weights and options."""

from __future__ import annotations

import hashlib
import json
from typing import Any


class ComparedByFingerprint:
    """Base class of objects that are equal if their type and `fingerprint` are equal."""

    fingerprint: Any

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        return bool(self.fingerprint == getattr(other, "fingerprint", None))

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.fingerprint))


def combined_fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of `parts` as JSON.

    Raises:
        TypeError: JSON cannot hold a part.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
