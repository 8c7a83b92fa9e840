"""Checkpoint of a mining run, from which a later run resumes.

A folder keeps the vectors, candidates and scores.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.decisions.decider import PairScorer
from dupq.errors import InputError, OutputError
from dupq.models.batching import chunks, part_of
from dupq.search.vectors import StoredRows
from dupq.types import Embedder, Progress

PART = 8192
"""Texts, or pairs, that are computed between two writes."""

RUN, VECTORS, SEARCH = "dupq-run.json", "vectors.f32", "search.npz"
_LOCK = ".dupq-lock"
_OWN_FILE = re.compile(r"(dupq-run\.json|vectors\.f32(\.json)?|search\.npz|scores-[a-z]+\.f64(\.json)?)$")
_UNFINISHED_FILE = re.compile(r"\.(dupq-run\.json|vectors\.f32\.json|search\.npz|scores-[a-z]+\.f64\.json)\..+$")
"""A file that a killed run was writing beside the one it was to replace."""

Rows = TypeVar("Rows", NDArray[np.float32], NDArray[np.float64])

logger = logging.getLogger(__name__)


def hash_of(*parts: str | Iterable[str]) -> str:
    """Return a hash of texts in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        for text in [part] if isinstance(part, str) else part:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\x00")
        digest.update(b"\x01")
    return digest.hexdigest()


class Checkpoint:
    """Work folder of one mining run.

    Args:
        folder: Made by `open` if it is missing; None: nothing is kept, and everything is computed in memory.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def check(self) -> None:
        """Check that the folder is missing, empty, or holds only files of a run.

        Raises:
            InputError: It is a file, or holds other files.
        """
        folder = self.folder
        if folder is None:
            return
        hint = "name a folder that is empty or does not exist yet"
        if not folder.is_dir():
            if os.path.lexists(folder):
                raise InputError("the work folder must be a folder, got a file", location=str(folder), hint=hint)
            return
        names = sorted(path.name for path in folder.iterdir() if path.name != _LOCK)
        foreign = [name for name in names if not (_OWN_FILE.match(name) or _UNFINISHED_FILE.match(name))]
        if not foreign and RUN not in names:
            # Without the run's note, files of these names may be anyone's; a run killed early left a part of the note.
            foreign = [name for name in names if not name.startswith(f".{RUN}.")]
        if foreign:
            more = f" and {len(foreign) - 3:,} more" if len(foreign) > 3 else ""
            raise InputError(
                f"the work folder must hold only files of a mining run, got {', '.join(foreign[:3])}{more}",
                location=str(folder),
                hint=hint,
            )

    @contextmanager
    def open(self, *, vectors: str, run: str, fresh: bool = False) -> Iterator[Checkpoint]:
        """Lock the folder during a block, and delete files that cannot be resumed.

        Args:
            vectors: A hash of the texts and the embedder. Vectors of an earlier run with this hash are kept.
            run: A hash of everything that the run depends on. Files of another run are deleted, with a warning in the
                log.
            fresh: Delete the files of any earlier run.

        Raises:
            InputError: The folder holds other files (see `check`), or another run is using it.
            OutputError: The folder cannot be made.
        """
        if self.folder is None:
            yield self
            return
        folder = self.folder
        self.check()
        with _locked(folder):
            earlier = _read_run(folder)
            for path in [*folder.iterdir()]:
                if _UNFINISHED_FILE.match(path.name):
                    path.unlink(missing_ok=True)
            if fresh or earlier != {"run": run, "vectors": vectors}:
                same = not fresh and earlier is not None and earlier.get("vectors") == vectors
                _delete_files(folder, keep=VECTORS if same else None)
                if earlier is not None and not fresh:
                    kept = ", except for its vectors" if same else ""
                    logger.warning("%s: the files of another run were deleted%s", folder, kept)
                write_json(folder / RUN, {"run": run, "vectors": vectors})
            yield self

    def remove(self) -> None:
        """Delete the files of a finished run, and the folder.

        A folder that another run is using, or that holds other files, stays as it is.
        """
        if self.folder is None:
            return
        try:
            self.check()
            with _locked(self.folder):
                _delete_files(self.folder)
        except (InputError, OutputError):
            return
        with suppress(OSError):
            (self.folder / _LOCK).unlink(missing_ok=True)
            self.folder.rmdir()

    @property
    def search_file(self) -> Path | None:
        """The file that the exact search keeps its progress in."""
        return None if self.folder is None else self.folder / SEARCH

    def embed(
        self, texts: Sequence[str], embedder: Embedder, progress: Progress | None = None
    ) -> NDArray[np.float32] | StoredRows:
        """Return the vectors of n texts, float32 (n, d).

        They are in memory or, with a folder, in a file there.

        Args:
            texts: n texts.
            embedder: Called for the texts whose vectors are not in the file.
            progress: Called with (texts embedded, n).

        Raises:
            OutputError: The file could not be written.
        """
        n, d = len(texts), embedder.dimensions
        file = None if self.folder is None else self.folder / VECTORS
        key = hash_of(embedder.fingerprint, texts) if file else ""
        if file is not None and _rows_done(file, key, 4 * d) < n:
            # A search among other vectors, or among a part of these, cannot be resumed.
            file.with_name(SEARCH).unlink(missing_ok=True)

        def compute(part: slice, step_progress: Progress | None) -> NDArray[np.float32]:
            return embedder.embed(texts[part], step_progress)

        parts = _compute_missing(file, key, n, 4 * d, compute, progress)
        if file is not None:
            return StoredRows(file, (n, d))
        return np.concatenate(parts) if parts else np.zeros((0, d), np.float32)

    def score(
        self,
        left: Sequence[str],
        right: Sequence[str],
        pipeline: PairScorer,
        progress: Progress | None = None,
        name: str = "all",
    ) -> NDArray[np.float64]:
        """Return the raw scores of n pairs of texts, float64 (n,).

        Args:
            left, right: n texts each.
            pipeline: Called for the pairs whose scores are not in the file.
            progress: Called with (pairs scored, n).
            name: A name for these pairs, lower-case letters; each name has a file of its own.

        Raises:
            OutputError: The file could not be written.
        """
        file = None if self.folder is None else self.folder / f"scores-{name}.f64"
        key = hash_of(pipeline.fingerprint, left, right) if file else ""

        def compute(part: slice, step_progress: Progress | None) -> NDArray[np.float64]:
            return pipeline.raw_scores(left[part], right[part], step_progress)

        parts = _compute_missing(file, key, len(left), 8, compute, progress)
        if file is not None:
            return np.fromfile(file, np.float64, len(left)) if len(left) else np.zeros(0)
        return np.concatenate(parts) if parts else np.zeros(0)


# ---- the folder ---------------------------------------------------------------------------------------------------


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            "another run is using this work folder", location=str(folder), hint="wait, or name another folder"
        ) from error
    except OSError as error:
        raise _not_written(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _not_written(path: Path, error: OSError) -> OutputError:
    message = f"could not be written ({error.strerror or error})"
    return OutputError(message, location=str(path), hint="free space, or name another work folder")


def _read_run(folder: Path) -> dict[str, object] | None:
    """Return the note of a run: {} if it is damaged, None if there is none."""
    try:
        note = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _delete_files(folder: Path, keep: str | None = None) -> None:
    """Delete the files of a run.

    With `keep`, the note and the files whose name starts with `keep` stay.
    """
    names = [path.name for path in folder.iterdir() if _OWN_FILE.match(path.name)]
    # The note goes last, and stays beside files that are kept, so that `check` accepts the folder after a kill.
    for name in sorted(names, key=lambda name: name == RUN):
        if keep is None or not name.startswith((keep, RUN)):
            (folder / name).unlink(missing_ok=True)


# ---- rows in a file -----------------------------------------------------------------------------------------------


def _compute_missing(
    file: Path | None,
    key: str,
    n: int,
    width: int,
    compute: Callable[[slice, Progress | None], Rows],
    progress: Progress | None,
) -> list[Rows]:
    """Compute the rows that a file lacks and append them.

    Without a file, compute and return all rows.

    Args:
        file: The file, or None.
        key: A hash of everything that the rows depend on.
        n: Number of rows.
        width: Bytes a row.
        compute: Returns the rows of a slice.
        progress: Called with (rows done, n).
    """
    done = 0 if file is None else _rows_done(file, key, width)
    parts = []
    for part in chunks(n, PART):
        if part.stop <= done:
            continue
        size = part.stop - part.start
        # A part is computed in steps of its own, such as texts, or pairs in two orders.
        step_progress = part_of(progress, part.start, size, n)
        rows = compute(part, step_progress)
        if file is None:
            parts.append(rows)
        else:
            _append(file, key, rows, part)
        if step_progress is not None:
            step_progress(size, size)
    return parts


def _note_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _rows_done(file: Path, key: str, width: int) -> int:
    """Return the number of rows in a file; 0 if it has another key or is damaged."""
    try:
        note = json.loads(_note_of(file).read_text(encoding="utf-8"))
        done = int(note["rows"]) if note["key"] == key else 0
        return done if file.stat().st_size >= done * width else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _append(file: Path, key: str, rows: Rows, part: slice) -> None:
    width = rows.itemsize * (rows.shape[1] if rows.ndim > 1 else 1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if file.exists() else "w+b") as stream:
            stream.seek(part.start * width)  # an interrupted run may have written rows that its note does not count
            stream.write(np.ascontiguousarray(rows).tobytes())
            stream.flush()
            os.fsync(stream.fileno())  # the note must never count rows that are not on the disk
    except OSError as error:
        raise _not_written(file, error) from error
    write_json(_note_of(file), {"key": key, "rows": part.stop})
