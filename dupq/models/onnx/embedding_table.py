"""Table of quantised token embeddings, in a file that two networks can share.

Networks that were trained from one encoder with frozen token embeddings have the same table, and the table is half of a
small network.
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

TABLE_FILE, PACKED_TABLE_FILE = "words_int8.safetensors", "words_int4.safetensors"
"""File of a table in 8 bits, and of one in 4 bits."""
TABLE_INPUTS = ("words", "word_scales")
"""Graph inputs for the rows and the scales of a table."""
TABLE_KEY = "words"
"""Key in a network's settings of the path of its table, if that is not `TABLE_FILE` beside the model."""

_TABLE_PATH = re.compile(rf"(?:\.\./[\w-]+/)?(?:{re.escape(TABLE_FILE)}|{re.escape(PACKED_TABLE_FILE)})")
_MAX_INT4 = 7
"""Largest value in 4 bits; they are symmetric, so -8 is not used."""
_CLIP_RATIOS = np.linspace(0.5, 1, 11, dtype=np.float32)
"""Candidate ratios of the clipping point to a row's largest value; clipping a few values makes the steps finer."""


@dataclass(frozen=True)
class EmbeddingTable:
    """Token embeddings in 8 or 4 bits with one scale a row.

    Attributes:
        rows: int8 (tokens, dimensions); -7 to 7 in 4 bits.
        scales: float32 (tokens, 1); an embedding is its row times its scale.
    """

    rows: NDArray[np.int8]
    scales: NDArray[np.float32]

    @classmethod
    def quantised(cls, table: NDArray[np.float32], bits: Literal[4, 8] = 8) -> EmbeddingTable:
        """Quantise a table, float32 (tokens, dimensions).

        In 4 bits each row is clipped at the candidate ratio of the least squared error. Quantising the result again
        changes nothing.
        """
        largest = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12).astype(np.float32)
        if bits == 8:
            scales = largest / np.float32(127)
            return cls(np.round(table / scales).astype(np.int8), scales)
        best, scales = np.full((len(table), 1), np.inf, np.float32), largest / np.float32(_MAX_INT4)
        for ratio in _CLIP_RATIOS:
            candidate = _to_8_bit_mantissa(largest * ratio / np.float32(_MAX_INT4))
            error = np.square(_to_int4(table, candidate) * candidate - table).sum(axis=1, keepdims=True)
            scales, best = np.where(error < best, candidate, scales), np.minimum(error, best)
        return cls(_to_int4(table, scales), scales)

    @cached_property
    def packed(self) -> bool:
        """True if two values share a byte of the file.

        All fit in 4 bits then, and their number a row is even.
        """
        return self.rows.shape[1] % 2 == 0 and bool(np.abs(self.rows).max(initial=0) <= _MAX_INT4)

    @property
    def file(self) -> str:
        """Name of the table's file."""
        return PACKED_TABLE_FILE if self.packed else TABLE_FILE

    @classmethod
    def read(cls, folder: Path, place: object = TABLE_FILE) -> EmbeddingTable:
        """Read the table of a network.

        Args:
            folder: Folder of the network.
            place: Path of the table by the network's settings: in the folder, or in one beside it.

        Raises:
            ModelFolderError: The table is missing or damaged, or its path is not allowed.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (isinstance(place, str) and _TABLE_PATH.fullmatch(place)):
            raise ModelFolderError(
                f"{TABLE_KEY} must name a {TABLE_FILE} or {PACKED_TABLE_FILE} here or beside, got {place!r:.60}",
                location=str(folder),
                hint="export it again",
            )
        path = folder / place
        try:
            found = load_file(path)
            rows, scales = found["rows"], found["scales"]
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ModelFolderError(f"it cannot be read ({error})", location=str(path), hint="fetch it again") from error
        if rows.dtype == np.uint8 and rows.ndim == 2:
            rows = _unpack(rows)
        if rows.dtype != np.int8 or scales.dtype != np.float32 or rows.ndim != 2 or scales.shape != (len(rows), 1):
            raise ModelFolderError("it is no table of token embeddings", location=str(path), hint="export it again")
        return cls(rows, scales)

    def save(self, folder: Path) -> None:
        """Write the table into a network's folder.

        Raises:
            OSError: The file could not be written.
        """
        from safetensors.numpy import save

        rows = _pack(self.rows) if self.packed else self.rows
        (folder / self.file).write_bytes(save({"rows": rows, "scales": self.scales}))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the table."""
        digest = hashlib.sha256(np.ascontiguousarray(self.rows).data)
        digest.update(np.ascontiguousarray(self.scales).data)
        return digest.digest()


def share_table(folder: Path, other: Path, settings: str) -> None:
    """Delete a network's table if the network beside it has the same one.

    Args:
        folder, other: Folders of the two networks, side by side.
        settings: Name of the settings file, in which `folder` then names the table of `other`.

    Raises:
        OutputError: The settings could not be written.
    """
    for name in (TABLE_FILE, PACKED_TABLE_FILE):
        own, others = folder / name, other / name
        if own.is_file() and others.is_file() and own.read_bytes() == others.read_bytes():
            write_json(folder / settings, {**read_json(folder / settings), TABLE_KEY: f"../{other.name}/{name}"})
            own.unlink()


def _to_int4(table: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.clip(np.round(table / scales), -_MAX_INT4, _MAX_INT4).astype(np.int8)


def _to_8_bit_mantissa(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round scales to 8 binary digits.

    Even 7 times one is then exact in float16, so a stored table gives it back.
    """
    mantissa, exponent = np.frexp(scales)
    return np.asarray(np.ldexp(np.round(mantissa * 256) / 256, exponent), dtype=np.float32)


def _pack(rows: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack values of 4 bits (n, 2 d) into bytes (n, d).

    The first of two is in the lower half, each with 8 added.
    """
    values = (rows + 8).astype(np.uint8)
    return np.asarray(values[:, ::2] | (values[:, 1::2] << 4))


def _unpack(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Invert `_pack`."""
    rows = np.empty((len(packed), 2 * packed.shape[1]), dtype=np.int8)
    rows[:, ::2], rows[:, 1::2] = packed & 15, packed >> 4
    rows -= 8
    return rows
