"""The int8 form of one trunk and two heads, against its network in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from data_scripts.one_trunk import save_both
from data_scripts.one_trunk_int8 import Int8OneTrunk, joint_model, open_session, read_joint_layers, trunk_model
from dupq.models.one_trunk import decompose
from dupq.models.onnx.bert_weights import read_bert
from dupq.models.pair_heads.pairs import PairEncoder
from tests.networks import HIDDEN, MAX_TOKENS, save_tiny_base
from tests.questions import labelled_table

TABLE = labelled_table(6)
PAIRS = list(zip(TABLE.left, TABLE.right, strict=True))[:40]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    torch.manual_seed(3)
    base = save_tiny_base(tmp_path_factory.mktemp("base"), layers=6)
    encoder = PairEncoder(str(base), max_seq_length=MAX_TOKENS, config_kwargs={"num_labels": 1})
    head = decompose(encoder)
    with torch.no_grad():
        head.agreement.weight.normal_(0, 0.3)
        for layer in head.layers:
            layer.other.normal_(0, 1)  # type: ignore[operator, union-attr]
    return CrossEncoder(modules=[encoder, head], device="cpu").eval()


@pytest.fixture(scope="module")
def folder(network: CrossEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("network")
    save_both(network, torch.randn(12, HIDDEN, generator=torch.Generator().manual_seed(1)), place)
    return place


def test_the_float_graphs_are_the_network(network: CrossEncoder, folder: Path) -> None:
    trunk = read_bert(folder / "bi-encoder")
    joint = read_joint_layers(folder / "cross-encoder", trunk.heads, trunk.max_length)
    assert joint.layers == 2
    read, compare = open_session(trunk_model(trunk)), open_session(joint_model(joint))
    ids = [[network.tokenizer(text)["input_ids"] for text in sorted(pair)] for pair in PAIRS]
    states = [[read.run(["states"], {"ids": np.array([text])})[0] for text in pair] for pair in ids]
    found = [compare.run(None, {"left": left, "right": right})[0][0] for left, right in states]
    assert found == pytest.approx(network.predict(PAIRS, activation_fn=torch.nn.Identity()), abs=1e-4)
    swapped = [compare.run(None, {"left": right, "right": left})[0][0] for left, right in states]
    assert swapped == pytest.approx(found, abs=1e-5)


def test_int8_is_near_and_a_score_is_its_own(network: CrossEncoder, folder: Path) -> None:
    int8 = Int8OneTrunk(folder, PAIRS)
    texts = list(dict.fromkeys(text for pair in PAIRS for text in sorted(pair)))
    left, right = (np.array([texts.index(sorted(pair)[side]) for pair in PAIRS]) for side in (0, 1))
    vectors, kept = int8.read(texts)
    assert vectors.shape == (len(texts), 12)
    scores = int8.score(kept, left, right)
    exact = network.predict(PAIRS, activation_fn=torch.nn.Identity())
    assert np.abs(scores - exact).mean() < 0.3 * exact.std()
    alone = [int8.score(kept, left[[row]], right[[row]])[0] for row in range(len(PAIRS))]
    assert np.array_equal(alone, scores)
