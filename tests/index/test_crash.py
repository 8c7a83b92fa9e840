"""Processes that are killed while they write, and several that write at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dupq.errors import DupqError
from dupq.index.question_index import QuestionIndex
from dupq.index.stores.sqlite import SqliteStore as Store
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
import dupq.index.question_index as module
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder
module.BATCH = 20
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
index = module.QuestionIndex(path, DuplicatePipeline(bi_encoder=WordEmbedder()))
ids = [f"{name}{at}" for at in range(count)]
print("ready", flush=True)
index.add(ids, [f"What is {id_}?" for id_ in ids], progress=lambda done, _: print(done, flush=True))
"""


def start(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "forum.db"
    draw = random.Random(0)
    pipeline = DuplicatePipeline(bi_encoder=WordEmbedder())
    acknowledged: set[str] = set()
    cut_short = 0
    for turn in range(5):
        name = f"run{turn}n"
        writer = start(path, name, 10_000)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        told = [int(writer.stdout.readline()) for _ in range(draw.randrange(4))]
        time.sleep(draw.uniform(0.0, 0.02))
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        writer.stdout.close()
        cut_short += max(told, default=0) < 10_000
        acknowledged |= {f"{name}{at}" for at in range(max(told, default=0))}
        with QuestionIndex(path, pipeline) as index:
            assert index.verify() == []
            with index._store.reading() as view:
                stored = {row.id: row.text for row, _ in view.rows()}
            assert acknowledged <= set(stored)
            assert all(text == f"What is {id_}?" for id_, text in stored.items())
            # A batch is there whole or not at all.
            assert len([id_ for id_ in stored if str(id_).startswith(name)]) % 20 == 0
    assert cut_short == 5
    assert acknowledged


@pytest.mark.parametrize("writers", [3])
def test_writers_wait_for_each_other(tmp_path: Path, writers: int) -> None:
    path = tmp_path / "forum.db"
    running = [start(path, f"w{number}n", 200) for number in range(writers)]
    for writer in running:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with QuestionIndex(path, DuplicatePipeline(bi_encoder=WordEmbedder())) as index:
        assert len(index) == 200 * writers
        assert index.verify() == []


def test_many_may_make_the_same_index_at_once(tmp_path: Path) -> None:
    told: list[str] = []
    for turn in range(30):
        path, together = tmp_path / f"forum{turn}.db", threading.Barrier(6)

        def make(path: Path = path, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                Store(path).close()
            except DupqError as error:
                told.append(str(error))

        running = [threading.Thread(target=make) for _ in range(6)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert told == []
