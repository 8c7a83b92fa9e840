"""A writer is killed at random moments: what was acknowledged and lost, and whether the index opens.

python -m benchmarks.forum crash --scratch DIR [--kills 200]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dupq.data.writing import write_json
from dupq.training.trainer import versions

WRITER = """
import sys
from benchmarks.forum.crash import Hashed
from dupq.forum.index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
index = QuestionIndex(sys.argv[1], DuplicatePipeline(bi_encoder=Hashed()))
ids = [f"{sys.argv[2]}-{at}" for at in range(5000)]
print("ready", flush=True)
index.add(ids, [f"What is the meaning of {id_}?" for id_ in ids], progress=lambda done, _: print(done, flush=True))
"""


class Hashed:
    """Vectors of 384 numbers drawn by the hash of the text: no network is needed to lose a row."""

    fingerprint, dimensions, form = "hashed", 384, "hashed"

    def embed(self, texts: Any, progress: Any = None) -> Any:
        seeds = [int.from_bytes(text.encode()[-8:].rjust(8), "big") for text in texts]
        rows = np.stack([np.random.default_rng(seed).standard_normal(self.dimensions, np.float32) for seed in seeds])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def save(self, folder: Path) -> None:
        """Never called."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scratch", required=True, help="a folder for the index")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> None:
    from dupq.forum.index import QuestionIndex
    from dupq.pipeline import DuplicatePipeline

    scratch = Path(args.scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    draw = random.Random(args.seed)
    told: dict[str, int] = {"kills": 0, "acknowledged": 0, "lost": 0, "torn": 0, "opened": 0, "damaged": 0}
    before_first = 0
    for kill in range(args.kills):
        path = scratch / f"crash-{kill // 20}.db"  # each is killed twenty times, then a new one is begun
        if kill % 20 == 0:
            for file in scratch.glob(f"{path.name}*"):
                file.unlink()
            acknowledged: set[str] = set()
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(kill)],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert writer.stdout is not None
        if draw.random() < 0.2:
            time.sleep(draw.uniform(0, 1.5))  # while it starts, or opens the file
            lines: list[str] = []
        else:
            lines = [writer.stdout.readline()]
            lines += [writer.stdout.readline() for _ in range(draw.randrange(15))]
            time.sleep(draw.uniform(0, 0.08))
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
        writer.wait()
        done = max((int(line) for line in lines if line.strip().isdigit()), default=0)
        before_first += done == 0
        acknowledged |= {f"{kill}-{at}" for at in range(done)}
        told["kills"] += 1
        told["acknowledged"] += done
        with QuestionIndex(path, DuplicatePipeline(bi_encoder=Hashed())) as index:
            told["opened"] += 1
            told["damaged"] += bool(index.verify())
            stored = {str(row.id): row.text for row, _, _ in index._store.rows()}
            told["lost"] += len(acknowledged - {*stored})
            told["torn"] += sum(text != f"What is the meaning of {id_}?" for id_, text in stored.items())
        if kill % 20 == 19:
            print(json.dumps(told), flush=True)
    write_json(
        args.output,
        {
            "command": "python -m benchmarks.forum crash",
            **told,
            "killed_before_the_first_batch": before_first,
            "seed": args.seed,
            "versions": versions(),
        },
    )
