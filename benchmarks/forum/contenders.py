"""One way of finding duplicates, run in a process of its own: `python -m benchmarks.forum.contenders NAME SETTINGS`.

Prints one line of JSON: seconds, seconds by stage, and memory; the pairs it found go to the file that SETTINGS names.
What is loaded before the clock starts (libraries, networks, vectors that are given) is told as `start_mb`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

Settings = dict[str, Any]
Found = tuple[Any, Any, Any]
"""Left and right question numbers and scores, best first."""


def resident_mb() -> float:
    """What the process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


class Watch:
    """Seconds, and the peak of the memory above where it began, sampled a hundred times a second."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.start_mb = self.peak_mb = resident_mb()
        self._running = True
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        self._cpu = time.process_time()
        self._last = self._first = time.perf_counter()

    def _sample(self) -> None:
        while self._running:
            self.peak_mb = max(self.peak_mb, resident_mb())
            time.sleep(0.01)

    def stage(self, name: str) -> None:
        """What was done since the last stage."""
        now = time.perf_counter()
        self.stages[name] = self.stages.get(name, 0.0) + now - self._last
        self._last = now

    def stop(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._first
        self._running = False
        self._thread.join()
        return {
            "seconds": seconds,
            "stages": self.stages,
            "start_mb": self.start_mb,
            "peak_mb": self.peak_mb,
            "added_mb": self.peak_mb - self.start_mb,
            "cpu_seconds": time.process_time() - self._cpu,
        }


# ---- given the vectors --------------------------------------------------------------------------------------------


def scan(settings: Settings, kernel: str) -> tuple[Watch, Found]:
    import torch

    from dupq.search.exact import similar_pairs
    from dupq.search.vectors import StoredRows

    torch.set_num_threads(settings["threads"])
    rows = StoredRows(Path(settings["vectors"]), (settings["n"], settings["dimensions"]))
    watch = Watch()
    pairs = similar_pairs(rows, threshold=settings["threshold"], kernel=kernel)  # type: ignore[arg-type]
    watch.stages["rescored"] = pairs.search_guarantee.rescored
    return watch, (pairs.left, pairs.right, pairs.cosine)


def by_cells(settings: Settings) -> tuple[Watch, Found]:
    from dupq.search.cells import cell_pairs
    from dupq.search.vectors import StoredRows

    rows = StoredRows(Path(settings["vectors"]), (settings["n"], settings["dimensions"]))
    watch = Watch()
    pairs = cell_pairs(rows, threshold=settings["threshold"])
    watch.stages["recall"] = pairs.search_guarantee.recall
    return watch, (pairs.left, pairs.right, pairs.cosine)


def given(settings: Settings) -> np.ndarray[Any, Any]:
    return np.fromfile(settings["vectors"], np.float32, settings["n"] * settings["dimensions"]).reshape(
        settings["n"], -1
    )


def square(settings: Settings) -> tuple[Watch, Found]:
    """The plain way: row blocks of the full square in NumPy, then what is above the threshold."""
    vectors = given(settings)
    watch = Watch()
    parts = []
    for start in range(0, len(vectors), 1000):
        products = vectors[start : start + 1000] @ vectors.T
        i, j = np.nonzero(products >= settings["threshold"])
        above = j > i + start
        parts.append((i[above] + start, j[above], products[i[above], j[above]]))
    left, right, cosine = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-cosine, kind="stable")
    return watch, (left[order], right[order], cosine[order])


def paraphrase_mining(settings: Settings) -> tuple[Watch, Found]:
    import torch
    from sentence_transformers.util import paraphrase_mining_embeddings

    torch.set_num_threads(settings["threads"])
    vectors = torch.from_numpy(given(settings))
    watch = Watch()
    pairs = paraphrase_mining_embeddings(vectors)
    watch.stage("search")
    return watch, tuple(np.array(column) for column in zip(*((i, j, s) for s, i, j in pairs), strict=True))  # type: ignore[return-value]


# ---- from text ----------------------------------------------------------------------------------------------------


def texts_of(settings: Settings) -> list[str]:
    texts: list[str] = json.loads(Path(settings["texts"]).read_text(encoding="utf-8"))[: settings["n"]]
    return texts


class Reading:
    """Our encoder, which reads the vectors of the corpus instead of computing them."""

    def __init__(self, embedder: Any, settings: Settings, texts: list[str]) -> None:
        self.embedder, self.path = embedder, settings["vectors"]
        self.fingerprint, self.dimensions, self.form = embedder.fingerprint, embedder.dimensions, "reading"
        self.place = {text: at for at, text in enumerate(texts)}

    def embed(self, texts: Any, progress: Any = None) -> Any:
        if any(text not in self.place for text in texts):
            return self.embedder.embed(texts, progress)
        width = 4 * self.dimensions
        with open(self.path, "rb") as stream:
            # Not mapped: pages of a map would count as memory.
            rows = [os.pread(stream.fileno(), width, self.place[text] * width) for text in texts]
        return np.frombuffer(b"".join(rows), np.float32).reshape(len(texts), -1)

    def save(self, folder: Path) -> None:
        """Never called."""


def opened(settings: Settings, texts: list[str]) -> Any:
    """The pipeline, its networks warm; it reads the vectors if the settings say so."""
    from dupq.pipeline import DuplicatePipeline

    pipeline = DuplicatePipeline.from_pretrained(settings["model"])
    assert pipeline.embedder is not None
    pipeline.embedder.embed(["warm up"])
    return replace(pipeline, bi_encoder=Reading(pipeline.embedder, settings, texts)) if settings["read"] else pipeline


def dupq_from_text(settings: Settings, limit: int | None) -> tuple[Watch, Found]:
    from dupq.mining.find_duplicates import MiningSettings, find_duplicates

    texts = texts_of(settings)
    pipeline = opened(settings, texts)
    shutil.rmtree(settings["work"], ignore_errors=True)
    watch = Watch()
    now = ""

    def told(stage: str, done: int, total: int) -> None:
        nonlocal now
        if stage != now:
            watch.stage(now or "copies")
            now = stage

    chosen = MiningSettings(settings["threshold"], max_judged=limit)
    result = find_duplicates(pipeline, texts, settings=chosen, work=settings["work"], progress=told)
    watch.stage(now)
    rows = list(result.rows(all_pairs=True))
    watch.stage("deciding")
    watch.stages["flagged"] = sum(row["decision"] == "duplicate" for row in rows)
    watch.stages["base_rate"] = result.base_rate
    columns = ([row[name] for row in rows] for name in ("id1", "id2", "probability"))
    return watch, tuple(np.array(column) for column in columns)  # type: ignore[return-value]


def semhash(settings: Settings, static: bool) -> tuple[Watch, Found]:
    """SemHash as its page shows it; its duplicates are pairs of a question and the one that is kept for it."""
    from semhash import SemHash

    texts = texts_of(settings)
    model: Any
    if static:
        from model2vec import StaticModel

        model = StaticModel.from_pretrained(settings["static"])
    else:
        embedder = opened(settings, texts).embedder

        class Encoder:
            def encode(self, inputs: Any, **_: Any) -> Any:
                return embedder.embed(list(inputs))

        model = Encoder()
    watch = Watch()
    index = SemHash.from_records(texts, model=model)
    watch.stage("embedding and index")
    result = index.self_deduplicate()
    watch.stage("search")
    place = {text: at for at, text in enumerate(texts)}
    pairs = sorted((-record.score, place[record.record], place[record.duplicate_of]) for record in result.filtered)
    score, left, right = (np.array(column) for column in zip(*pairs, strict=True)) if pairs else (np.zeros(0),) * 3
    return watch, (left.astype(np.int64), right.astype(np.int64), -score)


CONTENDERS: dict[str, Callable[[Settings], tuple[Watch, Found]]] = {
    "dupq scan": lambda settings: scan(settings, "auto"),
    "dupq scan, float32": lambda settings: scan(settings, "float32"),
    "dupq cells": by_cells,
    "numpy square": square,
    "paraphrase_mining": paraphrase_mining,
    "dupq, judging all": lambda settings: dupq_from_text(settings, None),
    "dupq, judging n / 10": lambda settings: dupq_from_text(settings, settings["n"] // 10),
    "SemHash, static": lambda settings: semhash(settings, True),
    "SemHash, our encoder": lambda settings: semhash(settings, False),
}


def main() -> None:
    name, settings = sys.argv[1], json.loads(sys.argv[2])
    watch, (left, right, score) = CONTENDERS[name](settings)
    told = watch.stop()
    if settings.get("pairs"):
        np.savez(settings["pairs"], left=left, right=right, score=score)
    print(json.dumps({"name": name, "n": settings["n"], **told}))


if __name__ == "__main__":
    main()
