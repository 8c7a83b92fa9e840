"""The table of word embeddings of an exported network: a file of its own, so that networks that have the same share it.

Networks trained from one encoder with frozen word embeddings do, and the table is half of a small network.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.errors import ModelFolderError
from dupq.models.safety import read_json

WORDS = "words_int8.safetensors"
PACKED_WORDS = "words_int4.safetensors"
"""The file of a table in 4 bits."""
WORD_INPUTS = ("words", "word_scales")
"""Inputs of a graph that is given the rows and the scales of a table."""
PLACE = "words"
"""The key of a network's settings that says where its table lies, if not beside it in 8 bits."""

_PLACE = re.compile(rf"(?:\.\./[\w-]+/)?(?:{re.escape(WORDS)}|{re.escape(PACKED_WORDS)})")
_MOST_4 = 7
"""The largest step of 4 bits, which are symmetric: -8 is not used."""
_CLIPPED = np.linspace(0.5, 1, 11, dtype=np.float32)
"""Shares of a row's largest value that may become its largest step: to clip a few values makes all steps finer."""


@dataclass(frozen=True)
class Words:
    """Word embeddings in 8 or 4 bits, each with a scale of its own.

    Attributes:
        rows: int8 (words, dimensions); of a table in 4 bits, -7 to 7.
        scales: float32 (words, 1): what a step of each row is worth.
    """

    rows: NDArray[np.int8]
    scales: NDArray[np.float32]

    @classmethod
    def rounded(cls, table: NDArray[np.float32], bits: Literal[4, 8] = 8) -> Words:
        """The rounded form of a table, float32 (words, dimensions).

        In 4 bits each row's largest value is clipped by as much as makes its squared error least; what was rounded
        once comes out as it is.
        """
        largest = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12).astype(np.float32)
        if bits == 8:
            scales = largest / np.float32(127)
            return cls(np.round(table / scales).astype(np.int8), scales)
        best, scales = np.full((len(table), 1), np.inf, np.float32), largest / np.float32(_MOST_4)
        for share in _CLIPPED:
            tried = _short(largest * share / np.float32(_MOST_4))
            error = np.square(_in_4_bits(table, tried) * tried - table).sum(axis=1, keepdims=True)
            scales, best = np.where(error < best, tried, scales), np.minimum(error, best)
        return cls(_in_4_bits(table, scales), scales)

    @cached_property
    def packed(self) -> bool:
        """Whether two steps share a byte of the file: no step is above 7, and their number is even."""
        return self.rows.shape[1] % 2 == 0 and bool(np.abs(self.rows).max(initial=0) <= _MOST_4)

    @property
    def file(self) -> str:
        """Name of the table's file."""
        return PACKED_WORDS if self.packed else WORDS

    @classmethod
    def read(cls, folder: Path, place: object = WORDS) -> Words:
        """Reads the table of a network's folder.

        Args:
            folder: Of the network.
            place: Where its settings say that the table lies: beside the model, or in a folder beside its own.

        Raises:
            ModelFolderError: It is missing or damaged, or lies elsewhere.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (isinstance(place, str) and _PLACE.fullmatch(place)):
            raise ModelFolderError(f"its words lie in {place!r}", where=str(folder), mend="export it again")
        path = folder / place
        try:
            found = load_file(path)
            rows, scales = found["rows"], found["scales"]
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ModelFolderError(f"it cannot be read ({error})", where=str(path), mend="fetch it again") from error
        if rows.dtype == np.uint8 and rows.ndim == 2:
            rows = _unpacked(rows)
        if rows.dtype != np.int8 or scales.dtype != np.float32 or rows.ndim != 2 or scales.shape != (len(rows), 1):
            raise ModelFolderError("it is no table of word embeddings", where=str(path), mend="export it again")
        return cls(rows, scales)

    def save(self, folder: Path) -> None:
        """Writes the table into a network's folder."""
        from safetensors.numpy import save

        rows = _as_bytes(self.rows) if self.packed else self.rows
        (folder / self.file).write_bytes(save({"rows": rows, "scales": self.scales}))

    @cached_property
    def digest(self) -> bytes:
        """A hash of the table."""
        digest = hashlib.sha256(np.ascontiguousarray(self.rows).data)
        digest.update(np.ascontiguousarray(self.scales).data)
        return digest.digest()


def share_words(folder: Path, other: Path, settings: str) -> None:
    """Leaves one file where two networks that lie side by side have the same table: the other's.

    Args:
        folder, other: Of the networks.
        settings: Name of the file of settings, which then says where the table lies.
    """
    for name in (WORDS, PACKED_WORDS):
        mine, its = folder / name, other / name
        if mine.is_file() and its.is_file() and mine.read_bytes() == its.read_bytes():
            write_json(folder / settings, {**read_json(folder / settings), PLACE: f"../{other.name}/{name}"})
            mine.unlink()


def _in_4_bits(table: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.clip(np.round(table / scales), -_MOST_4, _MOST_4).astype(np.int8)


def _short(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales to 8 binary digits: seven of them are exact even in float16, so that they are found again in a table."""
    mantissa, exponent = np.frexp(scales)
    return np.asarray(np.ldexp(np.round(mantissa * 256) / 256, exponent), dtype=np.float32)


def _as_bytes(rows: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Steps of 4 bits (n, 2 d) as bytes (n, d): the first of two in the lower half, each with 8 added."""
    steps = (rows + 8).astype(np.uint8)
    return np.asarray(steps[:, ::2] | (steps[:, 1::2] << 4))


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The inverse of `_as_bytes`."""
    rows = np.empty((len(packed), 2 * packed.shape[1]), dtype=np.int8)
    rows[:, ::2], rows[:, 1::2] = packed & 15, packed >> 4
    rows -= 8
    return rows
