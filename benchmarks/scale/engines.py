"""One mining run in this process and through engines: seconds, memory of its processes, and equal results."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index.places import LeftOutError
from benchmarks.scale.memory import WorkerMemory
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.mining.results import MiningResult
from dupq.pipeline import DuplicatePipeline

JUDGED = 10_000


def _local(workers: int) -> AbstractContextManager[Any]:
    from dupq.engine.local import LocalEngine

    return nullcontext(LocalEngine(workers))


def _ray(workers: int) -> AbstractContextManager[Any]:
    if find_spec("ray") is None:
        raise LeftOutError("ray is not installed")
    from dupq.engine.ray import RayEngine

    # Each worker has its share of the threads, as with the local engine; Ray hangs where its actors take every CPU.
    cores = os.cpu_count() or 1
    threads = max(1, cores // workers)
    return RayEngine(actors=workers, cpus_per_actor=threads, cpus=threads * workers + 1)


ENGINES: dict[str, tuple[Callable[[int], AbstractContextManager[Any]] | None, int]] = {
    "none": (None, 0),
    "local-1": (_local, 1),
    "local-2": (_local, 2),
    "ray-1": (_ray, 1),
    "ray-2": (_ray, 2),
}
"""Name -> how it is started, and its workers; "none" is the call without an engine."""


def measured(name: str, texts: Sequence[str], model: str | None, scratch: Path) -> dict[str, Any]:
    """Mine the texts through an engine, in an empty work folder.

    Returns:
        Seconds in all and of each stage, memory of the largest worker, and a hash that is equal for equal results.
    """
    start_engine, workers = ENGINES[name]
    pipeline, work = DuplicatePipeline.from_pretrained(model), scratch / f"work-{name}"
    shutil.rmtree(work, ignore_errors=True)
    stages: dict[str, float] = {}
    with nullcontext(None) if start_engine is None else start_engine(workers) as engine, WorkerMemory() as memory:
        last = start = time.perf_counter()

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal last
            now = time.perf_counter()
            stages[stage] = stages.get(stage, 0.0) + now - last
            last = now

        found = find_duplicates(
            pipeline,
            texts,
            settings=MiningSettings(max_judged=JUDGED, approximate_above=len(texts)),
            work=work,
            engine=engine,
            progress=progress,
        )
        seconds = time.perf_counter() - start
    shutil.rmtree(work, ignore_errors=True)
    held = {"worker_mb": round(memory.largest_mb)} if memory.largest_mb else {}
    return {"seconds": seconds, "workers": workers, "stages": stages, "equal": digest(found)} | held


def digest(found: MiningResult) -> str:
    """Return a hash of the pairs of a result with their cosines and scores."""
    held = blake2b(digest_size=8)
    for column in (found.left, found.right, found.cosine, found.score):
        held.update(np.ascontiguousarray(column).tobytes())
    return held.hexdigest()
