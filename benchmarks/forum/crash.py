"""A writer is killed at random moments: what was acknowledged and lost, and whether the index opens.

python -m benchmarks.forum crash --scratch DIR [--kills 200]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from dupq.data.writing import write_json
from dupq.forum.index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from dupq.training.trainer import versions

SEED = 0
KILLS_AN_INDEX = 10
QUESTIONS = 5000


class Hashed:
    """Vectors of 384 numbers drawn by the hash of the text: no network is needed to lose a row."""

    fingerprint, dimensions, form = "hashed", 384, "hashed"

    def embed(self, texts: Any, progress: Any = None) -> Any:
        seeds = [int.from_bytes(text.encode()[-8:].rjust(8), "big") for text in texts]
        rows = np.stack([np.random.default_rng(seed).standard_normal(self.dimensions, np.float32) for seed in seeds])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def save(self, folder: Path) -> None:
        """Never called."""


def text_of(id_: str) -> str:
    return f"What is the meaning of {id_}?"


def write(path: Path, kill: int, told: int) -> None:
    """Adds questions, and writes to a pipe how many are acknowledged."""
    index = QuestionIndex(path, DuplicatePipeline(bi_encoder=Hashed()))
    ids = [f"{kill}-{at}" for at in range(QUESTIONS)]
    index.add(ids, [text_of(id_) for id_ in ids], progress=lambda done, _: os.write(told, f"{done}\n".encode()))


def run(args: argparse.Namespace) -> None:
    scratch, output = Path(args.scratch), Path(args.output)
    if output.exists() and json.loads(output.read_text(encoding="utf-8"))["kills"] == args.kills:
        return
    scratch.mkdir(parents=True, exist_ok=True)
    # A fork begins at once: nothing is loaded anew for each of the writers.
    fork = multiprocessing.get_context("fork")
    draw = random.Random(SEED)
    counts = dict.fromkeys(("kills", "before_the_first_batch", "acknowledged", "lost", "torn", "opened", "damaged"), 0)
    acknowledged: set[str] = set()
    for kill in range(args.kills):
        path = scratch / f"crash-{kill // KILLS_AN_INDEX}.db"
        if kill % KILLS_AN_INDEX == 0:
            acknowledged = set()
            for file in scratch.glob("crash-*.db*"):
                file.unlink()
        ours, theirs = os.pipe()
        writer = fork.Process(target=write, args=(path, kill, theirs))
        writer.start()
        os.close(theirs)
        lines = b""
        if draw.random() < 0.2:
            time.sleep(draw.uniform(0, 0.05))  # while it opens the file, or writes its first batch
        else:
            wanted = 1 + draw.randrange(15)
            while lines.count(b"\n") < wanted and (data := os.read(ours, 4096)):
                lines += data
            time.sleep(draw.uniform(0, 0.05))
        writer.kill()
        while data := os.read(ours, 4096):
            lines += data
        writer.join()
        os.close(ours)
        done = max((int(line) for line in lines.split()), default=0)
        acknowledged |= {f"{kill}-{at}" for at in range(done)}
        counts["kills"] += 1
        counts["before_the_first_batch"] += done == 0
        counts["acknowledged"] += done
        with QuestionIndex(path, DuplicatePipeline(bi_encoder=Hashed())) as index:
            counts["opened"] += 1
            counts["damaged"] += bool(index.verify())
            stored = {str(row.id): row.text for row, _, _ in index._store.rows()}
        counts["lost"] += len(acknowledged - {*stored})
        counts["torn"] += sum(text != text_of(id_) for id_, text in stored.items())
        if (kill + 1) % KILLS_AN_INDEX == 0:
            print(json.dumps(counts), flush=True)
    write_json(
        output,
        {"command": "python -m benchmarks.forum crash", **counts, "seed": SEED, "versions": versions()},
    )
