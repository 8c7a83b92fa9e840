"""Networks shared between threads and processes: forked, spawned, pickled, copied, and compared."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from dataclasses import replace
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.models.bi_encoder import BiEncoder
from dupq.models.cascade import Cascade, fit_cascade
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.embedding_cache import EmbeddingCache
from dupq.models.ensemble import BlendScorer, CosineScorer
from dupq.models.idf_overlap import IdfOverlap
from dupq.models.onnx import runtime
from dupq.models.onnx.runtime import (
    Runner,
    RuntimeBiEncoder,
    RuntimeCrossEncoder,
    RuntimeNetwork,
)
from dupq.models.per_process import PerProcess
from dupq.models.scoring_options import with_long_texts, with_symmetry
from tests.questions import labelled_table

TABLE = labelled_table(24)
LEFT, RIGHT = TABLE.left[:60], TABLE.right[:60]
FORMS = ["cross int8", "bi int8", "cross stock", "bi stock", "cached", "blend", "cascade", "words"]


@pytest.fixture(scope="module")
def networks(
    cross_network: RuntimeNetwork, bi_network: RuntimeNetwork, cross_folder: Path, bi_folder: Path
) -> dict[str, Any]:
    """One of each kind that a pipeline is made of."""
    cross, bi = (
        RuntimeCrossEncoder(cross_network, threads=2),
        RuntimeBiEncoder(bi_network, threads=2, long_texts="lead"),
    )
    cosine, words = CosineScorer(bi), IdfOverlap.of([*LEFT, *RIGHT], 1)
    blend = BlendScorer((cross, cosine, words), (0.5, 0.25, 1.0), 0.1)
    full = blend.score(LEFT, RIGHT)
    band = fit_cascade(cosine.score(LEFT, RIGHT), full, [float(np.median(full))], 0.9)
    return {
        "cross int8": cross,
        "bi int8": bi,
        "cross stock": CrossEncoderScorer(cross_folder, symmetry="adaptive", device="cpu"),
        "bi stock": BiEncoder(bi_folder, device="cpu"),
        "cached": EmbeddingCache(bi, 16),
        "blend": blend,
        "cascade": Cascade(cosine, blend, band),
        "words": words,
    }


def outputs(network: Any) -> Any:
    return network.embed([*LEFT, *RIGHT]) if hasattr(network, "embed") else network.score(LEFT, RIGHT)


def answer(network: Any, answers: Any) -> None:
    answers.put(outputs(network))


def in_process(context: ForkContext | SpawnContext, network: Any) -> Any:
    """What a network gives in a process of its own."""
    answers = context.Queue()
    child = context.Process(target=answer, args=(network, answers), daemon=True)
    child.start()
    try:
        return answers.get(timeout=120)
    finally:
        child.join(30)
        assert child.exitcode == 0


def pool_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("dupq")]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "BATCH_TOKENS", 40)


# ---- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_batches")
def test_all_callers_share_the_threads_of_a_runner(cross_network: RuntimeNetwork) -> None:
    before = set(threading.enumerate())
    encoder = RuntimeCrossEncoder(cross_network, threads=2)
    wanted = encoder.score(LEFT, RIGHT)
    most = []

    def ask(number: int, encoder: RuntimeCrossEncoder = encoder) -> bool:
        scores = encoder.score(LEFT[number:], RIGHT[number:])
        most.append(len(pool_threads(before)))
        return np.array_equal(scores, wanted[number:])

    with ThreadPoolExecutor(16) as callers:
        assert all(callers.map(ask, range(48)))
    assert 1 <= max(most) <= 2
    del encoder, ask
    gc.collect()
    for thread in pool_threads(before):
        thread.join(30)
    assert pool_threads(before) == []


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_the_same_in_any_thread(networks: dict[str, Any], form: str) -> None:
    network = networks[form]
    wanted = outputs(network)
    with ThreadPoolExecutor(8) as callers:
        for found in callers.map(lambda _: outputs(network), range(16)):
            np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", ["cross stock", "bi stock"])
def test_the_first_calls_may_come_from_many_threads(form: str, cross_folder: Path, bi_folder: Path) -> None:
    for _ in range(3):
        network: Any = CrossEncoderScorer(cross_folder) if form == "cross stock" else BiEncoder(bi_folder)
        barrier = threading.Barrier(8)

        def ask(_: int, network: Any = network, barrier: threading.Barrier = barrier) -> Any:
            barrier.wait()
            return network.score(LEFT[:3], RIGHT[:3]) if form == "cross stock" else network.embed(LEFT[:3])

        with ThreadPoolExecutor(8) as callers:
            found = list(callers.map(ask, range(8)))
        assert all(np.allclose(found[0], other, atol=1e-5) for other in found)


# ---- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["cross int8", "bi int8", "cached", "blend", "cascade", "words"])
def test_a_forked_process_gives_the_same(networks: dict[str, Any], form: str) -> None:
    network = networks[form]
    wanted = outputs(network)
    running = threading.Event()

    def busy() -> None:
        while not running.is_set():
            outputs(network)

    # At the moment of the fork another thread is in the midst of the network.
    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(2):
            assert np.array_equal(in_process(multiprocessing.get_context("fork"), network), wanted)
    finally:
        running.set()
        thread.join()
    assert np.array_equal(outputs(network), wanted)


def test_a_spawned_process_gives_the_same(networks: dict[str, Any]) -> None:
    network = EmbeddingCache(networks["bi int8"], 8)
    scorer = BlendScorer((networks["cascade"], CosineScorer(network)), (1.0, 1.0))  # it holds all that is int8
    assert np.array_equal(in_process(multiprocessing.get_context("spawn"), scorer), outputs(scorer))


def test_a_value_is_made_once_a_process() -> None:
    made: list[int] = []

    def make() -> int:
        time.sleep(0.001)
        made.append(len(made))
        return made[-1]

    value: PerProcess[int] = PerProcess(make)
    with ThreadPoolExecutor(8) as callers:
        assert len(set(callers.map(lambda _: value.get(), range(50)))) == 1
    assert value.get() == value.get()


# ---- pickles, copies, equality ---------------------------------------------------------------------------------------


def pickled(network: Any) -> Any:
    return pickle.loads(pickle.dumps(network))


@pytest.mark.parametrize("again", [pickled, deepcopy, copy])
@pytest.mark.parametrize("form", FORMS)
def test_a_pickle_or_copy_is_the_same_network(networks: dict[str, Any], form: str, again: Callable[[Any], Any]) -> None:
    network = networks[form]
    other = again(network)
    assert other is not network
    # torch rounds by where in memory a weight lies.
    np.testing.assert_allclose(outputs(other), outputs(network), atol=1e-5 if "stock" in form else 0, rtol=0)
    assert (other, hash(other), other.fingerprint) == (network, hash(network), network.fingerprint)


def test_a_pickle_holds_the_files_once(networks: dict[str, Any]) -> None:
    network = networks["cross int8"].network
    files = len(network.model) + len(network.tokenizer) + network.table.rows.nbytes + network.table.scales.nbytes
    assert len(pickle.dumps(networks["cross int8"])) < 1.2 * files


def test_two_loads_are_equal_and_another_setting_is_not(networks: dict[str, Any], tmp_path: Path) -> None:
    cross, bi = networks["cross int8"], networks["bi int8"]
    cross.save(tmp_path / "cross")
    first, second = (RuntimeCrossEncoder(tmp_path / "cross", threads=threads) for threads in (1, 2))
    assert first == second == cross
    assert first.network == second.network
    assert len({first, second, cross, first.network, second.network}) == 2
    assert with_symmetry(first, "both") != first
    assert with_long_texts(bi, "whole") != bi
    assert first != first.network != "another thing"
    assert replace(first.network, settings={**first.network.settings, "max_length": 9}) != first.network
    assert CosineScorer(bi) == CosineScorer(deepcopy(bi))
    assert len({networks["words"], IdfOverlap.of([*LEFT, *RIGHT], 1), IdfOverlap.of(LEFT[:9], 1)}) == 2


def test_stock_networks_are_compared_by_their_weights(
    networks: dict[str, Any], bi_folder: Path, tiny_bi_encoder: Path
) -> None:
    assert BiEncoder(bi_folder) == networks["bi stock"]
    assert BiEncoder(bi_folder, long_texts="lead") != networks["bi stock"]
    assert BiEncoder(tiny_bi_encoder) != networks["bi stock"]


def test_another_setting_shares_what_is_loaded(networks: dict[str, Any]) -> None:
    assert with_symmetry(networks["cross int8"], "both")._runner is networks["cross int8"]._runner
    assert with_long_texts(networks["bi stock"], "lead").model is networks["bi stock"].model


@pytest.mark.usefixtures("small_batches")
def test_a_run_that_is_given_up_leaves_nothing_to_do(cross_network: RuntimeNetwork) -> None:
    runner = Runner(cross_network, 2)
    running = runner.run(list(zip(LEFT, RIGHT, strict=True)))
    next(running)
    running.close()
    assert runner._session.get().threads._work_queue.qsize() <= 2 * 2 + 1
    assert sum(len(rows) for rows, _ in runner.run(list(zip(LEFT, RIGHT, strict=True)))) == len(LEFT)
