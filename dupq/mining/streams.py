"""Streams of questions to embed, or of pairs to score, through an engine.

The driver reads the stream once, a part at a time, and writes it to the work folder. Memory does not grow with its
length.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, NamedTuple

from dupq.decisions.decider import embedder_of
from dupq.engine.base import Engine, Task, Unit
from dupq.engine.work_folder import WorkFolder
from dupq.mining import checkpoint as parts
from dupq.mining.input_parts import write_input
from dupq.mining.stages import clear
from dupq.mining.units import EmbedShard, open_pipeline, read_array, shard_units, text_bytes, write_pipeline
from dupq.models.batching import part_of
from dupq.pipeline import DuplicatePipeline
from dupq.types import Id, Progress

EMBEDDINGS = "embeddings.json"
SLICE = 4096
"""Pairs of a slice."""

Number = Literal["float32", "float16"]


class StreamPair(NamedTuple):
    """A pair of a stream.

    Attributes:
        row: Its row in the file; None for none.
        question1, question2: Its texts as in the file.
        text1, text2: Its texts as the networks read them.
    """

    row: int | None
    question1: str
    question2: str
    text1: str
    text2: str


class StreamScore(NamedTuple):
    """Result of a pair; `warnings` holds the kinds of its warnings."""

    score: float
    probability: float
    decision: str
    warnings: Sequence[str]


# ---- score --------------------------------------------------------------------------------------------------------


def score_stream(
    engine: Engine,
    work: WorkFolder,
    pipeline: DuplicatePipeline,
    pairs: Iterable[StreamPair],
    *,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[StreamPair, StreamScore]]:
    """Score pairs through an engine and yield them in their order.

    Scores are those of `score_pairs` on `SLICE` pairs at a time.

    Args:
        engine: Runs the slices.
        work: Keeps pairs and results.
        pipeline: A calibrated pipeline.
        pairs: The stream.
        fresh: Remove the parts of an earlier run.
        progress: Called with (pairs scored, pairs).

    Raises:
        InputError: A work folder in use, or of another plan or other pairs.
        UnitError: Units failed repeatedly.
        OutputError: The work folder cannot be written.
    """
    plan = {"command": "score", "model": pipeline.identity, "part": SLICE}
    with _held(work, pipeline, plan, fresh=fresh):
        stream = iter(pairs)
        chunks = iter(lambda: list(islice(stream, SLICE)), [])
        count = len(write_input(work, (("pairs", ".jsonl", _lines(chunk)) for chunk in chunks)))
        names = [f"{at:05}.jsonl" for at in range(count)]
        units = [Unit(f"results/{name}", {"pairs": f"pairs/{name}"}) for name in names]
        task = Task("scoring", ScorePairs, (pipeline.allow_unknown_language,))
        engine.run(task, units, work, part_of(progress, 0, count * SLICE, count * SLICE))
        for unit in units:
            for pair, result in zip(_rows(work, unit.spec["pairs"]), _rows(work, unit.name), strict=True):
                yield StreamPair(*pair), StreamScore(*result)


class ScorePairs:
    """Worker that scores and decides a slice of a stream of pairs.

    Args:
        work: Holds pairs and pipeline.
        allow_unknown_language: As `DuplicatePipeline.allow_unknown_language`.
    """

    def __init__(self, work: WorkFolder, allow_unknown_language: bool) -> None:
        logging.getLogger("dupq").addHandler(logging.NullHandler())  # the driver counts warnings
        self.work = work
        self.pipeline = open_pipeline(work).with_languages(allow_unknown=allow_unknown_language)

    def __call__(self, unit: Unit) -> bytes:
        pairs = [StreamPair(*row) for row in _rows(self.work, unit.spec["pairs"])]
        results = self.pipeline.score_pairs([pair.text1 for pair in pairs], [pair.text2 for pair in pairs])
        return _lines(
            StreamScore(
                result.score, result.probability, str(result.decision), [warning.kind for warning in result.warnings]
            )
            for result in results
        )


# ---- embed --------------------------------------------------------------------------------------------------------


def embed_stream(
    engine: Engine,
    work: WorkFolder,
    pipeline: DuplicatePipeline,
    questions: Iterable[tuple[Id, str]],
    *,
    dtype: Number = "float32",
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Embed questions through an engine, in their order.

    The folder then holds `vectors/00000.npy`, (m, d) of unit length, beside `ids/00000.json`, the m ids of its rows,
    and so on; and `embeddings.json`. The parts that only the workers need are removed at the end.

    Args:
        engine: Runs the shards.
        work: Gets vectors and ids.
        pipeline: A pipeline with a bi-encoder.
        questions: Ids and texts.
        dtype: Number format of the vectors.
        fresh: Remove the parts of an earlier run.
        progress: Called with (questions embedded, questions).

    Returns:
        The contents of `embeddings.json`: questions, dimensions, dtype, fingerprint of the embedder, and shards.

    Raises:
        InputError: A pipeline without a bi-encoder, or a folder in use, or of another plan or other questions.
        UnitError: Units failed repeatedly.
        OutputError: The folder cannot be written.
    """
    embedder, size = embedder_of(pipeline), parts.PART
    plan = {"command": "embed", "model": embedder.fingerprint, "dtype": dtype, "part": size}
    with _held(work, pipeline, plan, fresh=fresh):
        stream = iter(questions)

        def shards() -> Iterator[tuple[str, str, bytes]]:
            for chunk in iter(lambda: list(islice(stream, size)), []):
                yield "ids", ".json", json.dumps([id_ for id_, _ in chunk]).encode()
                yield "texts", ".jsonl", text_bytes([text for _, text in chunk])

        count = len(write_input(work, shards())) // 2
        units = shard_units(count * size, size)
        engine.run(
            Task("embedding", EmbedShard, (dtype,)), units, work, part_of(progress, 0, count * size, count * size)
        )
        last = len(read_array(work, units[-1].name)) if units else 0
        summary = {
            "questions": max(0, count - 1) * size + last,
            "dimensions": embedder.dimensions,
            "dtype": dtype,
            "fingerprint": embedder.fingerprint,
            "shards": count,
            "rows_per_shard": size,
        }
        work.write(EMBEDDINGS, json.dumps(summary, indent=1).encode())
        for name in sorted(work.names()):
            if name.partition("/")[0] in ("attempts", "texts", "pipeline", "pipeline.json"):
                work.remove(name)
        return summary


# ---- input --------------------------------------------------------------------------------------------------------


@contextmanager
def _held(work: WorkFolder, pipeline: DuplicatePipeline, plan: dict[str, Any], *, fresh: bool) -> Iterator[None]:
    if fresh:
        clear(work)
    with work.hold(plan):
        write_pipeline(pipeline, work)
        yield


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode("ascii")


def _rows(work: WorkFolder, name: str) -> Iterator[list[Any]]:
    return map(json.loads, work.read(name).splitlines())
