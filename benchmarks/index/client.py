"""A process that adds to an index or flags with it, in one or more threads.

Run by `clients.run`: the job is the one argument, as JSON. It prints "ready" when everything is loaded, waits for a
line, and prints its result as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index.corpus import Corpus, made, parts
from benchmarks.index.places import LeftOutError, resident
from benchmarks.nearest import nearest_of
from dupq.decisions.decider import embedder_of
from dupq.index.question_index import BATCH, QuestionIndex
from dupq.mining.cached_embeddings import with_cached_embeddings
from dupq.pipeline import DuplicatePipeline

K = 10
ANY_COSINE = 1e-9
CALL = 8 * BATCH
"""Questions a call of `add` while an index is filled."""
Go = Callable[[], None]


class Given:
    """Embedder whose vectors are given before they are needed; what it takes to add with it, the store takes."""

    form = "given"

    def __init__(self, fingerprint: str, dimensions: int) -> None:
        self.fingerprint, self.dimensions = fingerprint, dimensions
        self.known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        return np.stack([self.known[text] for text in texts])

    def save(self, folder: Path) -> None:
        """Never called."""


def together(count: int, work: Callable[[int], None]) -> tuple[float, float]:
    """Run `work(0)` ... `work(count - 1)` in threads; return the times at which the first began and the last ended."""
    start = time.time()
    with ThreadPoolExecutor(count) as threads:
        for done in [threads.submit(work, number) for number in range(count)]:
            done.result()
    return start, time.time()


def add(job: dict[str, Any], corpus: Corpus, go: Go) -> dict[str, Any]:
    """Add the questions from `start` to `stop`, by the network or with given vectors; return times and counts."""
    start, stop, threads = job["start"], job["stop"], job["threads"]
    given = Given(corpus.fingerprint, corpus.vectors.shape[1])
    pipeline = (
        DuplicatePipeline.from_pretrained(job["model"]) if job["network"] else DuplicatePipeline(bi_encoder=given)
    )
    shares = [parts(start, stop, -(-(stop - start) // threads))[number : number + 1] for number in range(threads)]
    call = job.get("call") or (BATCH if threads > 1 or job["network"] else CALL)
    added = [0] * threads
    spent = [0.0] * threads
    with QuestionIndex(job["where"], pipeline) as index:
        if job["network"]:
            embedder_of(pipeline).embed(["warm up"])

        def work(number: int) -> None:
            for first, last in shares[number]:
                for low, high in parts(first, last, call):
                    texts = corpus.texts(low, high)
                    if not job["network"]:
                        given.known.update(zip(texts, corpus.embedded(low, high), strict=True))
                    begun = time.perf_counter()
                    added[number] += index.add(range(low, high), texts).added
                    spent[number] += time.perf_counter() - begun
                    for text in () if job["network"] else texts:
                        del given.known[text]

        go()
        began, ended = together(threads, work)
    # Alone, the time to make texts and vectors is left out; beside other clients it cannot be.
    return {"began": began, "ended": ended, "added": sum(added), "seconds": spent[0] if threads == 1 else ended - began}


def flag(job: dict[str, Any], corpus: Corpus, go: Go) -> dict[str, Any]:
    """Flag queries one by one; return seconds of each, its shares, and memory."""
    pipeline = DuplicatePipeline.from_pretrained(job["model"], threads=job.get("network_threads"))
    threads, count = job["threads"], job["count"]
    pipeline.raw_scores(["warm"], ["up"])
    found: dict[str, Any] = {"before": _memory()}
    with QuestionIndex(job["where"], pipeline, search=job["search"]) as index:
        opened = time.perf_counter()
        index.flag(corpus.queries[-1])
        found["first_flag_s"] = time.perf_counter() - opened
        seconds: list[list[float]] = [[] for _ in range(threads)]
        shares: list[tuple[float, ...]] = []

        def work(number: int) -> None:
            for at in range(count):
                text = corpus.queries[(job["first"] + number * count + at) % len(corpus.queries)]
                begun = time.perf_counter()
                report = index.flag(text)
                seconds[number].append(time.perf_counter() - begun)
                if job["shares_every"] and at % job["shares_every"] == 0:
                    shares.append(_shares(index, pipeline, text, [flag.text for flag in report.flags]))

        go()
        found["began"], found["ended"] = together(threads, work)
        found["memory"] = _memory()
    found["seconds"] = [second for mine in seconds for second in mine]
    found["shares"] = shares
    return found


def _shares(index: QuestionIndex, pipeline: DuplicatePipeline, text: str, others: Sequence[str]) -> tuple[float, ...]:
    """Return the seconds of embedding a query, of its search with the found rows, and of scoring its candidates."""
    embedder = embedder_of(pipeline)
    begun = time.perf_counter()
    query = embedder.embed([text])
    embedded = time.perf_counter()
    with index._search.following() as (view, searched):
        for slots, _ in searched.search(query, (pipeline.candidate_rule.neighbours or K) + 1):
            view.questions(slots.tolist())
    found = time.perf_counter()
    if not others:
        return embedded - begun, found - embedded, 0.0
    known = list(dict.fromkeys([text, *others]))
    rows = np.concatenate([query, embedder.embed(known[1:])]) if known[1:] else query
    start = time.perf_counter()
    with_cached_embeddings(pipeline, known, rows).raw_scores([text] * len(others), list(others))
    return embedded - begun, found - embedded, time.perf_counter() - start


def recall(job: dict[str, Any], corpus: Corpus, go: Go) -> dict[str, Any]:
    """Build the approximate search; return the time it took, and its recall@10.

    The recall of queries is counted here, against an exact search of all stored vectors; that of stored questions is
    measured by the index itself.
    """
    pipeline = DuplicatePipeline.from_pretrained(job["model"])
    queries = [corpus.queries[at % len(corpus.queries)] for at in range(job["count"])]
    rows = embedder_of(pipeline).embed(queries)
    go()
    began = time.time()
    with QuestionIndex(job["where"], pipeline, search="approximate") as index:
        index.build_search()
        built = time.time()
        with index._store.reading() as view:
            model = view.model()
            if model is None:
                raise RuntimeError("the index has no model")
            slots = nearest_of(view.vectors_after(model, 0), rows, K)
            ids = {slot: question.id for slot, question in view.questions(slots.ravel().tolist()).items()}
        hits = 0
        for query, true in zip(queries, slots.tolist(), strict=True):
            flags = index.flag(query, k=K, min_cosine=ANY_COSINE).flags
            hits += len({flag.id for flag in flags} & {ids[slot] for slot in true})
        own = index.measure_recall()
    return {
        "began": began,
        "ended": time.time(),
        "build_s": built - began,
        "recall_at_10": hits / slots.size,
        "queries": len(queries),
        "own_questions": {"recall_at_10": own.recall_at_10, "interval": own.interval, "sample": own.sample},
    }


def busy(job: dict[str, Any], corpus: Corpus, go: Go) -> dict[str, Any]:
    """Flag queries while another thread of the process adds questions, or embeds all of them again.

    `work` of the job is "add", "reembed" (with the network) or "reembed_given" (with given vectors).
    """
    pipeline = DuplicatePipeline.from_pretrained(job["model"])
    pipeline.raw_scores(["warm"], ["up"])
    size, kind = job["stored"], job["work"]
    seconds: dict[str, list[float]] = {"idle": [], "busy": []}
    stop = threading.Event()

    def add_until_stopped(index: QuestionIndex) -> float:
        low, begun = size, time.perf_counter()
        while not stop.is_set() and low + BATCH <= len(corpus):
            index.add(range(low, low + BATCH), corpus.texts(low, low + BATCH))
            low += BATCH
        return (low - size) / (time.perf_counter() - begun)

    def reembed(index: QuestionIndex) -> float:
        successor = Successor(embedder_of(pipeline))
        if kind == "reembed_given":
            for low, high in parts(0, size, CALL):
                successor.known.update(zip(corpus.texts(low, high), corpus.embedded(low, high), strict=True))
        begun = time.perf_counter()
        return index.reembed(replace(pipeline, bi_encoder=successor)) / (time.perf_counter() - begun)

    with QuestionIndex(job["where"], pipeline) as index, ThreadPoolExecutor(1) as threads:
        index.flag(corpus.queries[-1])
        queries = cycle(corpus.queries)

        def timed(state: str) -> None:
            text = next(queries)
            begun = time.perf_counter()
            index.flag(text)
            seconds[state].append(time.perf_counter() - begun)

        go()
        began = time.time()
        for _ in range(job["count"]):
            timed("idle")
        rate = threads.submit(add_until_stopped if kind == "add" else reembed, index)
        while not rate.done() and (kind != "add" or len(seconds["busy"]) < job["count"]):
            timed("busy")
        stop.set()
        per_second = rate.result()
    return {"began": began, "ended": time.time(), **seconds, "per_second": per_second}


class Successor:
    """Embedder with the vectors of another one under a name of its own, or with given ones."""

    form = "successor"

    def __init__(self, embedder: Any) -> None:
        self.embedder, self.dimensions = embedder, embedder.dimensions
        self.fingerprint = f"{embedder.fingerprint}-successor"
        self.known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        if all(text in self.known for text in texts):
            return np.stack([self.known[text] for text in texts])
        return np.asarray(self.embedder.embed(list(texts)), np.float32)

    def save(self, folder: Path) -> None:
        """Never called."""


def _memory() -> dict[str, float]:
    try:
        return resident()
    except LeftOutError:
        return {}


TASKS = {"add": add, "flag": flag, "recall": recall, "busy": busy}


def main() -> None:
    job = json.loads(sys.argv[1])
    corpus = made(Path(job["scratch"]), job["size"], job["model"], job["clusters"])

    def go() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    print(json.dumps(TASKS[job["task"]](job, corpus, go)), flush=True)


if __name__ == "__main__":
    main()
