"""Looking after an index: its numbers, what is wrong with it, and new vectors from another model."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from dupq.errors import InputError, OutputError
from dupq.forum.copies import copy_print
from dupq.forum.kernels import UNIT_TOLERANCE
from dupq.forum.nearest import Nearest
from dupq.forum.store import Store
from dupq.models.scorers import Embedder, Progress

PART = 2048
MOST_PROBLEMS = 100


def index_stats(store: Store, nearest: Nearest) -> dict[str, Any]:
    """Counts, sizes in bytes and the model of an index, as JSON can hold them."""

    def size(path: Path) -> int:
        return path.stat().st_size if path.exists() else 0

    return {
        "path": str(store.path),
        "questions": len(store),
        "distinct_texts": store.count("(SELECT DISTINCT print FROM questions)"),
        "decisions": store.count("decisions"),
        "removed_since_compaction": store.count("removed"),
        "database_bytes": size(store.path),
        "log_bytes": size(Path(f"{store.path}-wal")),
        "vectors_bytes": size(nearest.file),
        "model": store.meta("model"),
        "dimensions": store.meta("dimensions"),
    }


def verify_index(store: Store, nearest: Nearest) -> list[str]:
    """Reads every row and says what is wrong, at most 100 lines; makes the derived vectors anew."""
    problems = store.damage()
    d = store.meta("dimensions")
    try:
        for row, held, vector in store.rows():
            if len(problems) >= MOST_PROBLEMS:
                return [*problems, "and more"]
            whole = isinstance(vector, bytes) and len(vector) % 4 == 0
            numbers = np.frombuffer(vector, "<f4") if whole else np.zeros(0, np.float32)
            length = float(np.linalg.norm(numbers.astype(np.float64)))
            if len(numbers) != d:
                problems.append(f"id {row.id!r}: its vector has {len(vector)} bytes, not {4 * int(str(d))}")
            elif not (abs(length - 1) <= UNIT_TOLERANCE or length == 0):
                problems.append(f"id {row.id!r}: its vector has length {length:.4g}, not 1")
            if copy_print(row.text) != held:
                problems.append(f"id {row.id!r}: its text is not the one that was stored")
        if not problems:
            nearest.file.unlink(missing_ok=True)
            nearest.position = None
            nearest.refresh(store)
            nearest.save()
    except (InputError, OutputError, OSError) as error:
        problems.append(str(error))
    return problems


def embed_anew(store: Store, embedder: Embedder, progress: Progress | None = None) -> None:
    """Replaces all vectors by another model's, all at once; the long part is done before other writers must wait."""
    total, done, last = len(store), 0, 0
    d = embedder.dimensions
    row_type = np.dtype([("slot", "<i8"), ("vector", "<f4", (d,))])
    with TemporaryFile(dir=store.path.parent) as spill:

        def embed_rest() -> None:
            nonlocal done, last
            while rows := [(row.slot, row.text) for row, _, _ in store.rows(last, PART)]:
                block = np.empty(len(rows), row_type)
                block["slot"] = [slot for slot, _ in rows]
                block["vector"] = embedder.embed([text for _, text in rows])
                spill.write(block.tobytes())
                last, done = rows[-1][0], done + len(rows)
                if progress is not None:
                    progress(done, max(done, total))

        embed_rest()
        with store.writing():
            embed_rest()  # what others have added meanwhile
            spill.seek(0)
            while data := spill.read(PART * row_type.itemsize):
                block = np.frombuffer(data, row_type)
                store.set_vectors(block["slot"].tolist(), block["vector"])
            store.set_meta("model", embedder.fingerprint)
            store.set_meta("dimensions", d)
            store.next_epoch()
