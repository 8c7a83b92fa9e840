"""Stages of a mining run: embed texts, search candidates, score pairs.

These heavy stages run in this process, or as units of an engine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dupq.decisions.candidate_rule import CandidateRule
from dupq.decisions.decider import PairScorer, embedder_of
from dupq.engine.base import Engine, Task, Unit
from dupq.engine.work_folder import WorkFolder
from dupq.mining import checkpoint as parts
from dupq.mining import distinct_texts
from dupq.mining.cached_embeddings import Vectors, with_cached_embeddings
from dupq.mining.candidates import near_pairs, of_distinct_texts, shared_from
from dupq.mining.cell_units import CellSearch, search_by_cells, sizes
from dupq.mining.checkpoint import Checkpoint
from dupq.mining.distinct_texts import store_questions
from dupq.mining.question_stream import QuestionStream
from dupq.mining.questions import Questions
from dupq.mining.units import (
    TRUNCATED,
    UNKNOWN_LANGUAGE,
    CheckTexts,
    EmbedShard,
    MergePanel,
    ScoreSlice,
    SearchTile,
    array_bytes,
    read_array,
    read_pairs,
    shard_units,
    slice_units,
    tile_units,
    write_pipeline,
)
from dupq.models.batching import chunks, part_of
from dupq.search import tiles
from dupq.search.pairs import SimilarPairs
from dupq.search.tiles import WantedPairs, merge_pairs
from dupq.types import Progress

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PLAN = "plan.json"
_PART = re.compile(
    r"(attempts|pipeline|questions|sizes|rows|distinct-\w+|texts|warnings|vectors|ids|pairs|results|run-\w+)/"
    r"|(pipeline|input|embeddings)\.json$|canary\.npz$"
)
"""Names of the parts of a run."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Hashes of everything that the files of a run in this process depend on.

    Both are empty where nothing is kept.

    Attributes:
        vectors: The distinct texts and the embedder.
        run: Texts, model and settings.
    """

    vectors: str = ""
    run: str = ""

    @classmethod
    def of(cls, pipeline: PairScorer, texts: Sequence[str], settings: str) -> RunPlan:
        """Hash the distinct texts, the networks and the settings of a run."""
        vectors = parts.hash_of(embedder_of(pipeline).fingerprint, texts)
        return cls(vectors, parts.hash_of(vectors, pipeline.fingerprint, settings))


Flags = NDArray[np.bool_]


class Stages(Protocol):
    """Stages of a mining run over u distinct texts, in the order of the calls."""

    def check(self, progress: Progress | None) -> tuple[Flags, Flags]:
        """Return two flags a text, bool (u,) each: unknown language and truncated."""
        ...

    def embed(self, progress: Progress | None) -> None:
        """Embed the texts."""
        ...

    def count_unknown(self) -> int:
        """Count the texts without a word of the vocabulary, whose vectors are zero."""
        ...

    def search(
        self,
        sides: tuple[int, int] | None,
        *,
        rule: CandidateRule,
        max_pairs: int,
        approximate: bool,
        progress: Progress | None,
    ) -> SimilarPairs:
        """Find the candidates; see `candidates.near_pairs`."""
        ...

    def score(self, left: Ints, right: Ints, name: str, progress: Progress | None) -> Floats:
        """Return the raw scores of n pairs of distinct texts, float64 (n,).

        Args:
            left, right: Their numbers, int64 (n,).
            name: A name for these pairs, lower-case letters.
            progress: Called with (done, total).
        """
        ...


class StagesHere:
    """Stages in this process.

    Args:
        checkpoint: Keeps what is computed.
        pipeline: A pipeline with a bi-encoder.
        texts: The distinct texts.
    """

    def __init__(self, checkpoint: Checkpoint, pipeline: PairScorer, texts: Sequence[str]) -> None:
        self.checkpoint, self.pipeline, self.texts = checkpoint, pipeline, texts
        self.vectors: Vectors = np.zeros((0, 0), np.float32)

    def check(self, progress: Progress | None) -> tuple[Flags, Flags]:
        """Return two flags a text, bool (u,) each: unknown language and truncated."""
        unknown, truncated = np.zeros(len(self.texts), bool), np.zeros(len(self.texts), bool)
        for part in chunks(len(self.texts), parts.PART):
            for at, warnings in enumerate(self.pipeline.text_warnings(self.texts[part]), part.start):
                for warning in warnings:
                    (truncated if warning.kind == "truncated" else unknown)[at] = True
            if progress is not None:
                progress(part.stop, len(self.texts))
        return unknown, truncated

    def embed(self, progress: Progress | None) -> None:
        """Embed the texts."""
        self.vectors = self.checkpoint.embed(self.texts, embedder_of(self.pipeline), progress)
        self.pipeline = with_cached_embeddings(self.pipeline, self.texts, self.vectors)

    def count_unknown(self) -> int:
        """Count the texts without a word of the vocabulary, whose vectors are zero."""
        slices = chunks(len(self.vectors), parts.PART)
        return sum(int((~self.vectors[part].any(axis=1)).sum()) for part in slices)

    def search(
        self,
        sides: tuple[int, int] | None,
        *,
        rule: CandidateRule,
        max_pairs: int,
        approximate: bool,
        progress: Progress | None,
    ) -> SimilarPairs:
        """Find the candidates; see `candidates.near_pairs`."""
        return near_pairs(
            self.vectors,
            sides,
            rule=rule,
            max_pairs=max_pairs,
            approximate=approximate,
            resume=self.checkpoint.search_file,
            progress=progress,
        )

    def score(self, left: Ints, right: Ints, name: str, progress: Progress | None) -> Floats:
        """Return the raw scores of n pairs of distinct texts, float64 (n,)."""
        a, b = ([self.texts[at] for at in side.tolist()] for side in (left, right))
        return self.checkpoint.score(a, b, self.pipeline, progress, name)


class EngineStages:
    """Stages as units of an engine.

    A unit embeds or scores what one call of the networks gets in `StagesHere`, so that results are equal to the last
    bit. This process holds the candidates and one part at a time, and no texts.

    Args:
        engine: Runs the units.
        work: Holds the parts.
        n: Number of distinct texts.
        folder: Folder of the parts that depend on the settings.
    """

    def __init__(self, engine: Engine, work: WorkFolder, n: int, folder: str) -> None:
        self.engine, self.work, self.n, self.folder = engine, work, n, folder
        self.size = parts.PART

    def check(self, progress: Progress | None) -> tuple[Flags, Flags]:
        """Return two flags a text, bool (u,) each: unknown language and truncated."""
        units = [Unit(f"warnings/{shard:05}.npy", {"shard": shard}) for shard in range(-(-self.n // self.size))]
        self.engine.run(Task("checking", CheckTexts), units, self.work, part_of(progress, 0, self.n, self.n))
        unknown, truncated = np.zeros(self.n, bool), np.zeros(self.n, bool)
        for unit, rows in zip(units, chunks(self.n, self.size), strict=True):
            found = read_array(self.work, unit.name)
            unknown[rows], truncated[rows] = found & UNKNOWN_LANGUAGE > 0, found & TRUNCATED > 0
        return unknown, truncated

    def embed(self, progress: Progress | None) -> None:
        """Embed the texts."""
        units = shard_units(self.n, self.size)
        self.engine.run(Task("embedding", EmbedShard), units, self.work, part_of(progress, 0, self.n, self.n))

    def count_unknown(self) -> int:
        """Count the texts without a word of the vocabulary, whose vectors are zero."""
        names = [unit.name for unit in shard_units(self.n, self.size)]
        return sum(int((~read_array(self.work, name).any(axis=1)).sum()) for name in names)

    def search(
        self,
        sides: tuple[int, int] | None,
        *,
        rule: CandidateRule,
        max_pairs: int,
        approximate: bool,
        progress: Progress | None,
    ) -> SimilarPairs:
        """Find the candidates; see `candidates.near_pairs`."""
        start, stop = (0, self.n) if sides is None else sides
        wanted = WantedPairs(
            rule.min_cosine,
            rule.neighbours,
            rule.every_from if rule.neighbours else 1.0,
            max_pairs,
            one=sides is None,
            shared_from=shared_from(sides),
        )
        if approximate:
            search = CellSearch(self.folder, self.n, sides, wanted, self.size)
            return of_distinct_texts(search_by_cells(self.engine, self.work, search, progress), sides)
        units, panels = tile_units(self.folder, stop, self.n - start, wanted, self.size, tiles.TILE_PRODUCTS)
        total = len(units) + len(panels)
        self.engine.run(
            Task("searching", SearchTile, (wanted, self.size, start)),
            units,
            self.work,
            part_of(progress, 0, len(units), total),
        )
        self.engine.run(
            Task("merging", MergePanel, (wanted,)),
            panels,
            self.work,
            part_of(progress, len(units), len(panels), total),
        )
        found = read_pairs(self.work, [panel.name for panel in panels])
        return of_distinct_texts(merge_pairs(found, stop, self.n - start, wanted), sides)

    def score(self, left: Ints, right: Ints, name: str, progress: Progress | None) -> Floats:
        """Return the raw scores of n pairs of distinct texts, float64 (n,)."""
        # Of one setting, other thresholds may choose other pairs.
        pairs = hashlib.blake2b(np.stack([left, right]).tobytes(), digest_size=6).hexdigest()
        units = slice_units(self.folder, f"{name}-{pairs}", len(left), self.size)
        for unit, part in zip(units, chunks(len(left), self.size), strict=True):
            if not self.work.exists(unit.spec["pairs"]):
                self.work.write(unit.spec["pairs"], array_bytes(np.stack([left[part], right[part]])))
        self.engine.run(Task("scoring", ScoreSlice, (self.size,)), units, self.work, part_of(progress, 0, 1, 1))
        return np.concatenate([np.zeros(0), *(read_array(self.work, unit.name) for unit in units)])


@contextmanager
def stages_here(
    checkpoint: Checkpoint, pipeline: PairScorer, texts: Sequence[str], plan: RunPlan, *, fresh: bool
) -> Iterator[Stages]:
    """Open the checkpoint of a run; see `Checkpoint.open`."""
    with checkpoint.open(vectors=plan.vectors, run=plan.run, fresh=fresh) as opened:
        yield StagesHere(opened, pipeline, texts)


@contextmanager
def engine_stages(
    engine: Engine,
    work: WorkFolder,
    pipeline: PairScorer,
    stream: QuestionStream,
    settings: str,
    *,
    fresh: bool,
) -> Iterator[tuple[Questions, Stages]]:
    """Hold a work folder during a block; write questions and pipeline for workers.

    Args:
        engine: Runs the units.
        work: Holds the parts.
        pipeline: A pipeline that can be saved.
        stream: The questions.
        settings: What candidates and scores depend on. Vectors stay where only the settings are others.
        fresh: Remove the parts of an earlier run.

    Raises:
        InputError: Another run holds the folder, its parts are of another model or other questions, the pipeline cannot
            be saved, or as the stream raises.
        OutputError: The folder cannot be written.
    """
    if fresh:
        clear(work)
    model = parts.hash_of(embedder_of(pipeline).fingerprint, pipeline.fingerprint)
    languages = getattr(pipeline, "languages", None)
    plan = {"command": "mine", "model": model, "languages": languages, "part": parts.PART, "run": distinct_texts.RUN}
    with work.hold(plan):
        write_pipeline(pipeline, work)
        every, found = store_questions(engine, work, stream)
        run = parts.hash_of(found, f"{settings} {every.sides}", str(tiles.TILE_PRODUCTS), str(sizes()))
        yield every, EngineStages(engine, work, len(every.first), f"run-{run[:16]}")


def clear(work: WorkFolder) -> None:
    """Remove the parts of a run and its plan.

    Files of something else stay, and the next run refuses them.

    Raises:
        InputError: Another run holds the folder, or its plan is damaged: its parts may then be anyone's.
    """
    if not work.exists(PLAN):
        return
    try:
        plan = json.loads(work.read(PLAN))
    except ValueError:
        plan = {}  # which `hold` refuses beside a damaged plan
    with work.hold(plan):
        for name in sorted(work.names()):
            if _PART.match(name):
                work.remove(name)
        work.remove(PLAN)
