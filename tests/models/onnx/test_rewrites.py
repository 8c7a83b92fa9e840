"""The rewritten graphs of `benchmarks.roofline`: those that change nothing but the speed keep every score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.roofline.__main__ import Network, change_alone, open_session, scores
from benchmarks.roofline.rewrites import OPERATORS, packed_attention, pruned, rewritten
from benchmarks.roofline.shares import GROUPS, profile
from dupq.models.onnx.runtime import RuntimeCrossEncoder, RuntimeNetwork
from tests.questions import labelled_table

TABLE = labelled_table(24)
EXACT = ("QAttention", "one product for query, key, value", "BiasGelu")


@pytest.fixture(scope="module")
def network(cross_network: RuntimeNetwork) -> Network:
    return Network(cross_network, TABLE)


def test_the_batches_of_the_benchmark_give_the_scores_of_the_runtime(network: Network) -> None:
    found = scores(open_session(network.network.model), network.batches())
    assert np.array_equal(found, RuntimeCrossEncoder(network.network).score(TABLE.left, TABLE.right))


@pytest.mark.parametrize("name", EXACT)
def test_another_operator_of_the_same_function_keeps_a_score(name: str, network: Network) -> None:
    session, batches = open_session(rewritten(network.network.model, OPERATORS[name])), network.batches()
    found = scores(session, batches)
    assert found == pytest.approx(scores(open_session(network.network.model), batches), abs=0.02)
    assert change_alone(session, network, found) < 1e-5
    assert rewritten(network.network.model, OPERATORS[name]) != network.network.model


def test_a_packed_attention_is_valid_but_not_there(network: Network) -> None:
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED.*PackedMultiHeadAttention"):
        open_session(rewritten(network.network.model, packed_attention))


def test_all_tokens_kept_is_no_pruning(network: Network) -> None:
    batches = network.batches()
    ours = scores(open_session(network.network.model), batches)
    every = scores(open_session(rewritten(network.network.model, pruned(0, 1.0))), batches)
    assert every == pytest.approx(ours, abs=0.02)
    some = scores(open_session(rewritten(network.network.model, pruned(0, 0.3))), batches)
    assert np.abs(some - ours).max() > np.abs(every - ours).max()


def test_the_profile_counts_every_product(network: Network, tmp_path: Path) -> None:
    batches = [feeds for _, feeds in network.batches(count=4)]
    found = {group["name"]: group for group in profile(network.network.model, batches, tmp_path)}
    assert sum(group["share"] for group in found.values()) == pytest.approx(1)
    assert set(GROUPS) <= set(found)
    assert found["matrix products"]["operations"] > 0
    assert not any(group["operations"] for name, group in found.items() if name != "matrix products")
    assert list(tmp_path.iterdir()) == []
