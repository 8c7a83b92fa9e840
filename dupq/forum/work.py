"""Long work in a folder: computed part by part, kept as it comes, and taken up where an interrupted run left it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.errors import InputError, OutputError
from dupq.forum.judging import Judge
from dupq.models.scorers import Embedder, Progress, chunks, part_of
from dupq.pipeline import DuplicatePipeline

PART = 8192
"""Texts, or pairs, between two notes of how far the work has come."""

Rows = TypeVar("Rows", NDArray[np.float32], NDArray[np.float64])


class StoredRows:
    """A matrix in a file, read slice by slice; nothing of it stays in memory.

    Args:
        path: Raw numbers, row after row.
        shape: (n, d).
        first: How many rows of the file come before these.
    """

    def __init__(self, path: Path, shape: tuple[int, int], first: int = 0) -> None:
        self.path = path
        self.shape = shape
        self.first = first

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        start, stop, _ = rows.indices(len(self))
        d = self.shape[1]
        count = max(0, stop - start) * d
        return np.fromfile(self.path, "<f4", count, offset=4 * (self.first + start) * d).reshape(-1, d)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows by number, in any order."""
        if not len(rows):
            return np.zeros((0, self.shape[1]), np.float32)
        whole = np.memmap(self.path, "<f4", "r", 4 * self.first * self.shape[1], self.shape)
        return np.asarray(whole[rows])


def between(rows: NDArray[np.float32] | StoredRows, start: int, stop: int) -> NDArray[np.float32] | StoredRows:
    """The rows from `start` to `stop`, without reading them."""
    if isinstance(rows, StoredRows):
        return StoredRows(rows.path, (stop - start, rows.shape[1]), rows.first + start)
    return rows[start:stop]


class KnownVectors:
    """An embedder that need not embed what was embedded already.

    Args:
        embedder: Made the vectors, and embeds what is not among them.
        place: Text -> its row.
        rows: The vectors, (n, d).
    """

    def __init__(self, embedder: Embedder, place: Mapping[str, int], rows: NDArray[np.float32] | StoredRows) -> None:
        self.embedder, self.place, self.rows = embedder, place, rows
        self.form = str(getattr(embedder, "form", ""))

    @property
    def fingerprint(self) -> str:
        return self.embedder.fingerprint

    @property
    def dimensions(self) -> int:
        return self.embedder.dimensions

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        at = np.array([self.place.get(text, -1) for text in texts], np.int64)
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        vectors[at >= 0] = self.rows[at[at >= 0]] if isinstance(self.rows, np.ndarray) else self.rows.take(at[at >= 0])
        if (at < 0).any():
            vectors[at < 0] = self.embedder.embed([texts[row] for row in np.flatnonzero(at < 0).tolist()], progress)
        return vectors

    def save(self, folder: Path) -> None:
        raise InputError("vectors are no network, so there is nothing to save", mend="save the pipeline they came from")


def knowing(judge: Judge, texts: Sequence[str], rows: NDArray[np.float32] | StoredRows) -> Judge:
    """The judge, with the vectors of some texts at hand, so that a score that takes the cosine in embeds none twice."""
    if not isinstance(judge, DuplicatePipeline) or judge.bi_encoder is None:
        return judge
    place = {text: row for row, text in enumerate(texts)}
    return replace(judge, bi_encoder=KnownVectors(judge.bi_encoder, place, rows))


def key_of(*parts: str | Iterable[str]) -> str:
    """A hash of texts in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        for text in [part] if isinstance(part, str) else part:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\x00")
        digest.update(b"\x01")
    return digest.hexdigest()


def embedded(
    texts: Sequence[str], embedder: Embedder, folder: Path | None, progress: Progress | None = None
) -> NDArray[np.float32] | StoredRows:
    """The vectors of n texts: float32 rows (n, d), in memory or, with a folder, in a file there.

    Raises:
        InputError: The folder belongs to other work.
        OutputError: The folder could not be written.
    """
    file = None if folder is None else folder / "vectors.f32"
    key = key_of(embedder.fingerprint, texts) if file else ""
    parts = _in_parts(file, key, len(texts), lambda part, told: embedder.embed(texts[part], told), progress)
    if file is not None:
        return StoredRows(file, (len(texts), embedder.dimensions))
    return np.concatenate(parts) if parts else np.zeros((0, embedder.dimensions), np.float32)


def scored(
    left: Sequence[str],
    right: Sequence[str],
    judge: Judge,
    folder: Path | None,
    progress: Progress | None = None,
    name: str = "all",
) -> NDArray[np.float64]:
    """The raw scores of n pairs of texts, float64 (n,), kept under a name of their own; errors as of `embedded`."""
    file = None if folder is None else folder / f"scores-{name}.f64"
    key = key_of(judge.fingerprint, left, right) if file else ""

    def compute(part: slice, told: Progress | None) -> NDArray[np.float64]:
        return judge.raw_scores(left[part], right[part], told)

    parts = _in_parts(file, key, len(left), compute, progress)
    if file is not None:
        return np.fromfile(file, np.float64, len(left)) if len(left) else np.zeros(0)
    return np.concatenate(parts) if parts else np.zeros(0)


def _in_parts(
    file: Path | None, key: str, n: int, compute: Callable[[slice, Progress | None], Rows], progress: Progress | None
) -> list[Rows]:
    """The parts, or none of them where a file holds them."""
    done = _done(file, key)
    parts = []
    for part in chunks(n, PART):
        if part.stop <= done:
            continue

        size = part.stop - part.start
        # What computes a part counts in steps of its own, such as texts, or pairs read in two orders.
        told = part_of(progress, part.start, size, n)
        rows = compute(part, told)
        if file is None:
            parts.append(rows)
        else:
            _append(file, key, rows, part)
        if told is not None:
            told(size, size)
    return parts


def _note(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _done(file: Path | None, key: str) -> int:
    if file is None or not _note(file).exists():
        return 0
    try:
        held = json.loads(_note(file).read_text(encoding="utf-8"))
        found, done = held["key"], int(held["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this progress note is not readable", where=str(_note(file)), mend="delete its folder"
        ) from error
    if found != key:
        raise InputError(
            "this folder holds the work of another run (other questions, model or settings)",
            where=str(file.parent),
            mend="name another folder, or delete this one",
        )
    return done


def _append(file: Path, key: str, rows: Rows, part: slice) -> None:
    width = rows.itemsize * (rows.shape[1] if rows.ndim > 1 else 1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if file.exists() else "w+b") as stream:
            stream.seek(part.start * width)  # over what an interrupted run wrote and did not note
            stream.write(np.ascontiguousarray(rows).tobytes())
    except OSError as error:
        raise OutputError(
            f"could not be written ({error.strerror or error})", where=str(file), mend="free space, or work elsewhere"
        ) from error
    write_json(_note(file), {"key": key, "rows": part.stop})
