"""Batches computed by several threads: the same numbers, an error comes through, and a run can be given up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dupq.models.onnx import runtime
from dupq.models.onnx.export import export
from dupq.models.onnx.runtime import Runner, RuntimeNetwork
from tests.questions import labelled_table

TABLE = labelled_table(24)
PAIRS = list(zip(TABLE.left, TABLE.right, strict=True))


@pytest.fixture(scope="module")
def network(tiny_cross_encoder: Path) -> RuntimeNetwork:
    return export(tiny_cross_encoder, TABLE.left, TABLE.right)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "BATCH_TOKENS", 40)
    monkeypatch.setattr(runtime, "_WINDOW", 10)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("threads", [2, 5])
def test_each_batch_comes_once_and_unchanged(network: RuntimeNetwork, threads: int) -> None:
    alone = {
        row: score for rows, (scores,) in Runner(network, 1).run(PAIRS) for row, score in zip(rows, scores, strict=True)
    }
    calls: list[tuple[int, int]] = []
    batches = list(Runner(network, threads).run(PAIRS, lambda done, of: calls.append((done, of))))
    assert len(batches) > 2 * threads
    together = [(row, score) for rows, (scores,) in batches for row, score in zip(rows, scores, strict=True)]
    assert sorted(row for row, _ in together) == list(range(len(PAIRS)))
    assert all(alone[row] == score for row, score in together)
    assert calls[-1] == (len(PAIRS), len(PAIRS))
    assert calls == sorted(calls)


@pytest.mark.usefixtures("small_batches")
def test_a_run_can_be_given_up(network: RuntimeNetwork) -> None:
    running = Runner(network, 2).run(PAIRS)
    rows, _ = next(running)
    assert len(rows)
    running.close()


@pytest.mark.usefixtures("small_batches")
def test_an_error_in_a_thread_comes_through(network: RuntimeNetwork) -> None:
    runner = Runner(network, 2)
    runner.tables = {name: np.zeros((1, 1), dtype=np.int8) for name in runner.tables}
    with pytest.raises(Exception, match="Unexpected input data type"):
        list(runner.run(PAIRS))
