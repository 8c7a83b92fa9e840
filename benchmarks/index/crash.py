"""Writers that are killed at random moments: what was acknowledged and is lost, and what is torn.

A writer is a forked process; it writes to a pipe what was acknowledged, and is killed with SIGKILL some milliseconds
after a random acknowledgement, or while it opens the index. After each kill the index is opened and verified.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index.places import Place
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline

SEED = 0
LABEL = "crash"
KILLS_AN_INDEX = 10
MAX_DELAY = 0.03
"""Seconds between an acknowledgement and a kill, at most."""
EARLY = 0.2
"""Share of the kills while the index is opened, or before the first acknowledgement."""
ADDED = 5000
ASKED = 60
"""Questions between which verdicts are given."""
EMBEDDED = 3000
COUNTS = ("kills", "before_the_first", "acknowledged", "lost", "torn", "damaged")

Tell = Callable[[int], None]


class Hashed:
    """Embedder whose vectors are drawn by the hash of the text: no network is needed to lose a row."""

    form = "hashed"

    def __init__(self, name: str = "hashed", dimensions: int = 64) -> None:
        self.fingerprint, self.dimensions = name, dimensions

    def embed(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        keys = [hashlib.blake2b(f"{self.fingerprint} {text}".encode(), digest_size=8).digest() for text in texts]
        rows = [
            np.random.default_rng(int.from_bytes(key, "big")).standard_normal(self.dimensions, np.float32)
            for key in keys
        ]
        return np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)

    def save(self, folder: Path) -> None:
        """Never called."""


def pipeline(name: str = "hashed") -> DuplicatePipeline:
    return DuplicatePipeline(bi_encoder=Hashed(name))


def text_of(id_: str) -> str:
    return f"What is the meaning of {id_}?"


class Adds:
    """Batches of questions; an acknowledgement is the number of questions that are stored."""

    name, acknowledgements = "crash_adds", 12
    finished = False

    def __init__(self, where: str) -> None:
        self.where = where
        self.acknowledged: set[str] = set()

    def prepare(self) -> None:
        """Nothing is stored before."""

    def write(self, kill: int, tell: Tell) -> None:
        with QuestionIndex(self.where, pipeline()) as index:
            ids = [f"{kill}-{at}" for at in range(ADDED)]
            index.add(ids, [text_of(id_) for id_ in ids], progress=lambda done, _: tell(done))

    def check(self, kill: int, told: Sequence[int]) -> tuple[int, int, int]:
        """Return numbers of acknowledged rows, rows lost so far, and torn rows."""
        new = max(told, default=0)
        self.acknowledged |= {f"{kill}-{at}" for at in range(new)}
        with QuestionIndex(self.where, pipeline()) as index, index._store.reading() as view:
            stored = {str(row.id): row.text for row, _ in view.rows()}
        torn = sum(text != text_of(id_) for id_, text in stored.items())
        return new, len(self.acknowledged - {*stored}), torn


class Verdicts:
    """Verdicts, one a transaction; an acknowledgement is the number of the verdict among those of the writer."""

    name, acknowledgements = "crash_verdicts", 60
    finished = False

    def __init__(self, where: str) -> None:
        self.where = where
        self.acknowledged: set[tuple[int, int]] = set()

    def prepare(self) -> None:
        with QuestionIndex(self.where, pipeline()) as index:
            index.add([*range(ASKED)], [text_of(str(at)) for at in range(ASKED)])

    def expected(self, kill: int, at: int) -> tuple[int, int, str, str, str]:
        """Return both ids, answer, moderator and note of a verdict."""
        one, other = sorted(random.Random(f"{kill} {at}").sample(range(ASKED), 2), key=lambda id_: f"i{id_}")
        return one, other, ("duplicate", "distinct", "skip")[at % 3], f"moderator {kill}", f"verdict {at}"

    def write(self, kill: int, tell: Tell) -> None:
        with QuestionIndex(self.where, pipeline()) as index:
            for at in range(ADDED):
                one, other, answer, by, note = self.expected(kill, at)
                index.verdict(one, other, answer, by=by, note=note, key=f"{by} {note}")
                tell(at + 1)

    def check(self, kill: int, told: Sequence[int]) -> tuple[int, int, int]:
        """Return numbers of acknowledged verdicts, verdicts lost so far, and torn or repeated ones."""
        new = max(told, default=0)
        self.acknowledged |= {(kill, at) for at in range(new)}
        with QuestionIndex(self.where, pipeline()) as index, index._store.reading() as view:
            rows = view.verdicts()
            last = view.last_verdict()
        found = [(int(row.by.split()[-1]), int(row.note.split()[-1])) for row in rows]
        torn = sum(
            (row.id, row.other, row.answer, row.by, row.note) != self.expected(*name)
            for row, name in zip(rows, found, strict=True)
        )
        torn += len(found) - len({*found}) + ([row.number for row in rows] != [*range(1, last + 1)])
        return new, len(self.acknowledged - {*found}), torn


class Reembedding:
    """Vectors of a second model; an acknowledgement is the number of questions that have one."""

    name, acknowledgements = "crash_reembedding", 5

    def __init__(self, where: str) -> None:
        self.where = where
        self.most = 0
        self.finished = False  # the index has switched to the other model, so that nothing is left to do

    def prepare(self) -> None:
        with QuestionIndex(self.where, pipeline()) as index:
            index.add([*range(EMBEDDED)], [text_of(str(at)) for at in range(EMBEDDED)])

    def write(self, kill: int, tell: Tell) -> None:
        with QuestionIndex(self.where, pipeline()) as index:
            index.reembed(pipeline("successor"), progress=lambda done, _: tell(done))

    def check(self, kill: int, told: Sequence[int]) -> tuple[int, int, int]:
        """Return numbers of acknowledged vectors, vectors lost so far, and torn ones."""
        before, self.most = self.most, max(self.most, max(told, default=0))
        with QuestionIndex(self.where) as index, index._store.reading() as view:
            texts = {row.slot: row.text for row, _ in view.rows()}
            models, present = view.models(), view.model()
            held = {model.number: view.vectors(model, [*texts]) for model in models}
        self.finished = present != models[0]
        torn = int(present is None or len(held[present.number]) < len(texts))
        for model in models:
            true = (
                Hashed(model.fingerprint).embed([texts[slot] for slot in held[model.number]])
                if held[model.number]
                else None
            )
            rows = np.stack([*held[model.number].values()]) if true is not None else None
            if true is not None and rows is not None:
                torn += int((np.abs(rows.astype(np.float32) - true).max(axis=1) > 1e-3).sum())
        successor = max((len(held[model.number]) for model in models[1:]), default=0)
        return self.most - before, max(0, self.most - successor), torn


KINDS = {kind.name: kind for kind in (Adds, Verdicts, Reembedding)}


def run(place: Place, name: str, kills: int) -> dict[str, Any]:
    """Kill writers; return counts of kills, and of rows that were acknowledged, lost and torn."""
    # A fork begins at once: nothing is loaded again for each of the writers.
    fork, draw = multiprocessing.get_context("fork"), random.Random(SEED)
    counts = dict.fromkeys(COUNTS, 0)
    kind = KINDS[name](place.where(LABEL))
    lost = 0
    for kill in range(kills):
        if kill % KILLS_AN_INDEX == 0 or kind.finished:
            place.clear(LABEL)
            kind, lost = KINDS[name](place.where(LABEL)), 0
            kind.prepare()
        told = _killed(fork, kind, kill, draw)
        with QuestionIndex(kind.where, pipeline() if name != Reembedding.name else None) as index:
            counts["damaged"] += bool(index.verify())
        acknowledged, missing, torn = kind.check(kill, told)
        counts["kills"] += 1
        counts["before_the_first"] += not told
        counts["acknowledged"] += acknowledged
        # What one kill has lost is missing after the later ones too.
        counts["lost"] += max(0, missing - lost)
        counts["torn"] += torn
        lost = missing
    place.clear(LABEL)
    return {**counts, "seed": SEED}


def _killed(fork: Any, kind: Adds | Verdicts | Reembedding, kill: int, draw: random.Random) -> list[int]:
    """Start a writer, and kill it; return what it acknowledged."""
    ours, theirs = os.pipe()

    def write() -> None:
        os.close(ours)
        kind.write(kill, lambda done: _ignore(os.write(theirs, f"{done}\n".encode())))

    writer = fork.Process(target=write)
    writer.start()
    os.close(theirs)
    lines = b""
    if draw.random() >= EARLY:
        wanted = 1 + draw.randrange(kind.acknowledgements)
        while lines.count(b"\n") < wanted and (data := os.read(ours, 4096)):
            lines += data
    time.sleep(draw.uniform(0, MAX_DELAY))
    writer.kill()
    while data := os.read(ours, 4096):
        lines += data
    writer.join()
    os.close(ours)
    if writer.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the writer of kill {kill} failed; its error is above")
    # The last line may be cut short.
    return [int(line) for line in lines.split(b"\n")[:-1]]


def _ignore(_: object) -> None:
    """Take a result that nobody needs."""
