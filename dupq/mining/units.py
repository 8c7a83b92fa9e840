"""Workers and units of a mining run.

Units check or embed a shard of texts, search a tile, merge a panel, or score a slice of pairs. A unit reads finished
parts and returns the bytes of one more. All sizes that a result depends on are part of the units, so that a run gives
the same bytes on any engine. The parts in a work folder::

    pipeline/, pipeline.json          the files of the pipeline that workers open, and their list
    canary.npz                        vectors and scores of the driver, with which a worker compares its own
    texts/00000.jsonl                 distinct texts, one JSON string a line; see `distinct_texts`
    warnings/00000.npy                their warnings, uint8 (n,): 1 too long, 2 unknown language, 3 both
    vectors/00000.npy                 their vectors, float32 (n, d)
    run-HASH/                         a run with certain settings:
        search/ROW-COLUMN.npz         pairs of a tile
        panels/ROW.npz                pairs of a panel of rows
        pairs/NAME-00000.npy          numbers of the texts of pairs to score, int64 (2, n)
        scores/NAME-00000.npy         their raw scores, float64 (n,)
"""

from __future__ import annotations

import atexit
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.decisions.decider import PairScorer, embedder_of
from dupq.engine.base import Unit, worker_threads
from dupq.engine.work_folder import WorkFolder
from dupq.errors import DupqError, InputError, ModelFolderError
from dupq.mining.cached_embeddings import with_cached_embeddings
from dupq.pipeline import DuplicatePipeline
from dupq.search.tiles import Tile, TilePairs, WantedPairs, merge_panel, plan_tiles, search_tile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]

PIPELINE, CANARY = "pipeline.json", "canary.npz"
CANARY_TEXTS = (
    "How do I learn to play the guitar?",
    "What is the best way to learn guitar?",
    "Why is the sky blue",
    "My laptop does not start any more after the last update, and the screen stays black. What can I do to get my files"
    " back, and how do I find out whether the disk or the memory is broken?",
)
TRUNCATED, UNKNOWN_LANGUAGE = 1, 2
SCORE_TOLERANCE = 1e-5
"""Largest difference between the scores of one pair on two machines."""


# ---- arrays as bytes ----------------------------------------------------------------------------------------------


def array_bytes(array: NDArray[Any]) -> bytes:
    """Return an array as an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def read_array(work: WorkFolder, name: str) -> NDArray[Any]:
    """Read an .npy file of the work folder."""
    found: NDArray[Any] = np.load(io.BytesIO(work.read(name)), allow_pickle=False)
    return found


# ---- pipeline -----------------------------------------------------------------------------------------------------


def write_pipeline(pipeline: PairScorer, work: WorkFolder) -> None:
    """Write the files of a pipeline, and the canary, for the workers.

    A canary that is there already is compared with the values of this machine.

    Raises:
        InputError: The pipeline cannot be saved, or this machine computes other values than the one that began.
        OutputError: They could not be written.
    """
    vectors, scores = canary(pipeline)
    if work.exists(CANARY):
        _compare(vectors, scores, work, "this machine")
    if work.exists(PIPELINE):
        return
    if not isinstance(pipeline, DuplicatePipeline):
        raise InputError(
            f"an engine needs a DuplicatePipeline, which workers can open, got {type(pipeline).__name__}",
            hint="leave out engine, or open one: DuplicatePipeline.from_pretrained(...)",
        )
    with TemporaryDirectory(prefix="dupq-") as temporary:
        folder = Path(temporary) / "pipeline"
        pipeline.save(folder)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        for name in files:
            work.write(f"pipeline/{name}", (folder / name).read_bytes())
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, vectors=vectors, scores=scores)
    work.write(CANARY, stream.getvalue())
    work.write(PIPELINE, json.dumps(files).encode())


def open_pipeline(work: WorkFolder) -> DuplicatePipeline:
    """Open the pipeline of a work folder in a worker, and check its arithmetic.

    Raises:
        ModelFolderError: It is not there, or cannot be opened.
        InputError: This machine computes other vectors or scores than the driver.
    """
    try:
        files = json.loads(work.read(PIPELINE))
        here = Path(work.location) / "pipeline"
        if work.is_url:
            here = Path(mkdtemp(prefix="dupq-"))
            # Networks may read their files at the first use, so that these stay until the worker ends.
            atexit.register(shutil.rmtree, here, ignore_errors=True)
            for name in files:
                path = here / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(work.read(f"pipeline/{name}"))
    except (DupqError, OSError) as error:
        raise ModelFolderError(
            f"a worker cannot read the pipeline ({getattr(error, 'message', error)})",
            location=work.location,
            hint="name a work folder that every worker reaches",
        ) from error
    pipeline = DuplicatePipeline.from_pretrained(here, threads=worker_threads())
    _compare(*canary(pipeline), work, "a worker")
    return pipeline


def canary(pipeline: PairScorer) -> tuple[Vectors, Floats]:
    """Return the vectors and scores of a few fixed texts.

    A machine with other arithmetic computes others.
    """
    vectors = embedder_of(pipeline).embed(CANARY_TEXTS)
    return vectors, pipeline.raw_scores(CANARY_TEXTS[:-1], CANARY_TEXTS[1:])


def _compare(vectors: Vectors, scores: Floats, work: WorkFolder, machine: str) -> None:
    """Compare vectors and scores with the canary.

    Raises:
        InputError: They differ.
    """
    with np.load(io.BytesIO(work.read(CANARY)), allow_pickle=False) as held:
        same = held["vectors"].tobytes() == np.asarray(vectors, np.float32).tobytes()
        if same and np.allclose(held["scores"], scores, rtol=0, atol=SCORE_TOLERANCE):
            return
    raise InputError(
        f"{machine} must compute the same {'scores' if same else 'vectors'} as the one that began the run, got others",
        location=work.location,
        hint="use one version of dupq and its libraries, one kind of processor, and no device but that of the driver",
    )


# ---- texts and vectors --------------------------------------------------------------------------------------------


def text_bytes(texts: Sequence[str]) -> bytes:
    """Return texts as JSON lines."""
    return "".join(f"{json.dumps(text)}\n" for text in texts).encode("ascii")


def read_texts(work: WorkFolder, shard: int, rows: Ints | None = None) -> list[str]:
    """Return the texts of a shard, or those at some of its rows."""
    lines = work.read(f"texts/{shard:05}.jsonl").splitlines()
    return [json.loads(line) for line in (lines if rows is None else (lines[row] for row in rows.tolist()))]


def read_rows(work: WorkFolder, start: int, stop: int, size: int) -> Vectors:
    """Return the vectors from `start` to `stop`, float32 (m, d).

    `size` is the number of rows of a shard.
    """
    parts = []
    for shard in range(start // size, max(-(-stop // size), start // size + 1)):
        rows = read_array(work, f"vectors/{shard:05}.npy")
        parts.append(rows[max(0, start - shard * size) : max(0, stop - shard * size)])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def pick_rows(work: WorkFolder, rows: Ints, size: int) -> tuple[list[str], Vectors]:
    """Return the texts and vectors of rising row numbers.

    One shard at a time is in memory.
    """
    texts: list[str] = []
    vectors = []
    for shard in np.unique(rows // size).tolist():
        within = rows[rows // size == shard] - shard * size
        texts += read_texts(work, shard, within)
        vectors.append(read_array(work, f"vectors/{shard:05}.npy")[within])
    return texts, np.concatenate(vectors)


# ---- units --------------------------------------------------------------------------------------------------------


def shard_units(n: int, size: int) -> list[Unit]:
    """Return the units that embed n texts, `size` a shard."""
    return [Unit(f"vectors/{shard:05}.npy", {"shard": shard}) for shard in range(-(-n // size))]


class EmbedShard:
    """Worker that embeds the texts of a shard.

    Args:
        work: Holds the texts.
        dtype: Number format of the vectors, float32 or float16.
    """

    def __init__(self, work: WorkFolder, dtype: str = "float32") -> None:
        self.work, self.dtype, self.embedder = work, dtype, embedder_of(open_pipeline(work))

    def __call__(self, unit: Unit) -> bytes:
        vectors = self.embedder.embed(read_texts(self.work, unit.spec["shard"]))
        return array_bytes(np.ascontiguousarray(vectors, np.dtype(self.dtype)))


class CheckTexts:
    """Worker that flags texts of a shard as truncated or in an unknown language."""

    def __init__(self, work: WorkFolder) -> None:
        self.work, self.pipeline = work, open_pipeline(work)

    def __call__(self, unit: Unit) -> bytes:
        texts = read_texts(self.work, unit.spec["shard"])
        found = np.zeros(len(texts), np.uint8)
        for at, warnings in enumerate(self.pipeline.text_warnings(texts) if texts else ()):
            for warning in warnings:
                found[at] |= TRUNCATED if warning.kind == "truncated" else UNKNOWN_LANGUAGE
        return array_bytes(found)


def tile_units(
    folder: str, rows: int, columns: int, wanted: WantedPairs, size: int, products: int
) -> tuple[list[Unit], list[Unit]]:
    """Return the units that search tiles, and those that merge panels.

    Args:
        folder: Folder of their parts.
        rows, columns: Numbers of vectors to search.
        wanted: The search.
        size: Rows of a shard; panels begin with one.
        products: As for `plan_tiles`.
    """
    tiles: list[Unit] = []
    panels: dict[tuple[int, int], list[str]] = {}
    for tile in plan_tiles(rows, columns, wanted, align=size, products=products):
        name = f"{folder}/search/{tile.first_row:010}-{tile.first_column:010}.npz"
        tiles.append(Unit(name, asdict(tile)))
        panels.setdefault((tile.first_row, tile.last_row), []).append(name)
    return tiles, [
        Unit(f"{folder}/panels/{first:010}.npz", {"first_row": first, "last_row": last, "tiles": names})
        for (first, last), names in panels.items()
    ]


class SearchTile:
    """Worker that searches a tile.

    Args:
        work: Holds the vectors.
        wanted: The search.
        size: Rows of a shard.
        start: The vector that is column 0; between two collections, the first of the old one.
    """

    def __init__(self, work: WorkFolder, wanted: WantedPairs, size: int, start: int) -> None:
        self.work, self.wanted, self.size, self.start = work, wanted, size, start

    def __call__(self, unit: Unit) -> bytes:
        tile, start = Tile(**unit.spec), self.start
        rows = read_rows(self.work, tile.first_row, tile.last_row, self.size)
        columns = read_rows(self.work, start + tile.first_column, start + tile.last_column, self.size)
        own = None if self.wanted.one else np.arange(tile.first_row, tile.last_row) - start
        return search_tile(rows, columns, tile, self.wanted, own=own).to_bytes()


class MergePanel:
    """Worker that merges the tiles of a panel."""

    def __init__(self, work: WorkFolder, wanted: WantedPairs) -> None:
        self.work, self.wanted = work, wanted

    def __call__(self, unit: Unit) -> bytes:
        tiles = read_pairs(self.work, unit.spec["tiles"])
        return merge_panel(tiles, unit.spec["first_row"], unit.spec["last_row"], self.wanted).to_bytes()


def read_pairs(work: WorkFolder, names: Sequence[str]) -> Iterator[TilePairs]:
    """Yield the pairs of tiles or panels, one part in memory at a time."""
    for name in names:
        yield TilePairs.from_bytes(work.read(name))


def slice_units(folder: str, name: str, pairs: int, size: int) -> list[Unit]:
    """Return the units that score pairs, `size` a slice.

    The numbers of their texts are parts below `pairs`.
    """
    slices = [f"{name}-{at:05}.npy" for at in range(-(-pairs // size))]
    return [Unit(f"{folder}/scores/{part}", {"pairs": f"{folder}/pairs/{part}"}) for part in slices]


class ScoreSlice:
    """Worker that scores a slice of pairs of texts whose vectors are known.

    Args:
        work: Holds pairs, texts and vectors.
        size: Rows of a shard.
    """

    def __init__(self, work: WorkFolder, size: int) -> None:
        self.work, self.size, self.pipeline = work, size, open_pipeline(work)

    def __call__(self, unit: Unit) -> bytes:
        rows, place = np.unique(read_array(self.work, unit.spec["pairs"]), return_inverse=True)
        texts, vectors = pick_rows(self.work, rows, self.size)
        left, right = ([texts[at] for at in side.tolist()] for side in place.reshape(2, -1))
        return array_bytes(with_cached_embeddings(self.pipeline, texts, vectors).raw_scores(left, right))
