"""The table of word embeddings of an exported network: a file of its own, so that networks that have the same share it.

Networks trained from one encoder with frozen word embeddings do, and the table is half of a small network.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.errors import ModelFolderError
from dupq.models.safety import read_json

WORDS = "words_int8.safetensors"
WORD_INPUTS = ("words", "word_scales")
"""Inputs of a graph that is given the rows and the scales of a table."""
PLACE = "words"
"""The key of a network's settings that says where its table lies, if not beside it."""

_SIBLING = re.compile(rf"\.\./[\w-]+/{re.escape(WORDS)}")


@dataclass(frozen=True)
class Words:
    """Word embeddings in int8, each with a scale of its own.

    Attributes:
        rows: int8 (words, dimensions).
        scales: float32 (words, 1): what a step of each row is worth.
    """

    rows: NDArray[np.int8]
    scales: NDArray[np.float32]

    @classmethod
    def rounded(cls, table: NDArray[np.float32]) -> Words:
        """The int8 form of a table, float32 (words, dimensions)."""
        scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127
        return cls(np.round(table / scales).astype(np.int8), scales.astype(np.float32))

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

        if place != WORDS and not (isinstance(place, str) and _SIBLING.fullmatch(place)):
            raise ModelFolderError(f"its words lie in {place!r}", where=str(folder), mend="export it again")
        path = folder / place
        try:
            found = load_file(path)
            rows, scales = found["rows"], found["scales"]
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ModelFolderError(f"it cannot be read ({error})", where=str(path), mend="fetch it again") from error
        if rows.dtype != np.int8 or scales.dtype != np.float32 or rows.ndim != 2 or scales.shape != (len(rows), 1):
            raise ModelFolderError("it is no table of word embeddings", where=str(path), mend="export it again")
        return cls(rows, scales)

    def save(self, folder: Path) -> None:
        """Writes the table into a network's folder."""
        from safetensors.numpy import save

        (folder / WORDS).write_bytes(save({"rows": self.rows, "scales": self.scales}))

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
    mine, its = folder / WORDS, other / WORDS
    if mine.is_file() and its.is_file() and mine.read_bytes() == its.read_bytes():
        write_json(folder / settings, {**read_json(folder / settings), PLACE: f"../{other.name}/{WORDS}"})
        mine.unlink()
