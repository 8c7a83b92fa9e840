"""Joint layers: those of BERT over both questions at once, and networks of one trunk and two heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import Tensor
from transformers import BertConfig, BertModel

from dupq.errors import ModelFolderError
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.one_trunk import decompose, embedding_network
from dupq.models.pair_heads.joint import JointLayers
from dupq.models.pair_heads.pairs import PairEncoder, masked_mean
from dupq.models.sentence_transformers_io import save_plainly
from tests.networks import HIDDEN, MAX_TOKENS, save_tiny_base
from tests.questions import labelled_table

TABLE = labelled_table(6)
LENGTHS = [(5, 9), (2, 2), (12, 3), (1, 7), (8, 8)]


@pytest.fixture(scope="module")
def bert() -> BertModel:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=50,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * HIDDEN,
        attn_implementation="eager",
    )
    model = BertModel(config).eval()
    for parameter in model.parameters():  # large enough that every part of a layer shows
        torch.nn.init.normal_(parameter, 0, 0.3)
    return model


@pytest.fixture(scope="module")
def head(bert: BertModel) -> JointLayers:
    made = JointLayers(HIDDEN, 2, 4, 2 * HIDDEN)
    made.copy_bert(bert.encoder.layer)
    return made.eval()


def states(lengths: list[tuple[int, int]], tokens: int = 13) -> tuple[Tensor, Tensor]:
    """Token states (2n, tokens, HIDDEN) and their mask."""
    counts = torch.tensor([length[side] for side in (0, 1) for length in lengths])
    mask = torch.arange(tokens) < counts[:, None]
    values = torch.randn(len(counts), tokens, HIDDEN, generator=torch.Generator().manual_seed(0))
    return values.masked_fill(~mask[..., None], 99.0), mask


def joined_scores(head: JointLayers, bert: BertModel, tokens: Tensor, mask: Tensor) -> list[float]:
    """The scores of a plain BERT on the concatenation of both questions, pair by pair."""
    scores, n = [], len(mask) // 2
    for row in range(n):
        left, right = tokens[row][mask[row]], tokens[row + n][mask[row + n]]
        both = torch.cat([left, right])[None]
        for layer in bert.encoder.layer:
            both = layer(both)
        pooled = head.pooler((both[0, 0] + both[0, len(left)]) / 2).tanh()
        scores.append(head.classifier(pooled).item())
    return scores


def test_without_a_bias_they_are_bert_on_both_questions_in_one_input(head: JointLayers, bert: BertModel) -> None:
    tokens, mask = states(LENGTHS)
    scores = head.compare(*tokens.chunk(2), *mask.chunk(2))
    expected = joined_scores(head, bert, tokens, mask)
    assert scores.detach().numpy() == pytest.approx(np.array(expected), abs=1e-4)
    assert np.std(expected) > 0.01


def test_the_means_of_both_questions_are_compared(head: JointLayers) -> None:
    """By a loop over pairs; without its weights the result is another."""
    tokens, mask = states(LENGTHS)
    first = head.read(tokens, mask)[0]
    with torch.no_grad():
        head.agreement.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(3))
        scores = head.compare(*tokens.chunk(2), *mask.chunk(2)).tolist()
        swapped = head.compare(*reversed(tokens.chunk(2)), *reversed(mask.chunk(2))).tolist()
        expected = []
        for row in range(n := len(LENGTHS)):
            m, other = (tokens[side][mask[side]].mean(0) for side in (row, row + n))
            both = torch.cat([(m - other).abs(), m * other])
            pooled = torch.tanh(head.pooler.weight @ first[row] + head.agreement.weight @ both + head.pooler.bias)
            expected.append(float(head.classifier.weight[0] @ pooled + head.classifier.bias))
        head.agreement.weight.zero_()
        without = head.compare(*tokens.chunk(2), *mask.chunk(2)).tolist()
    assert scores == pytest.approx(expected, abs=1e-4)
    assert scores == swapped
    assert scores != pytest.approx(without, abs=1e-2)


def test_a_large_bias_restricts_attention_to_the_other_question(head: JointLayers, bert: BertModel) -> None:
    """By a slow loop over heads and tokens, of the first layer."""
    tokens, mask = states([(3, 4)])
    layer: Any = head.layers[0]
    before = layer.other.detach().clone()
    with torch.no_grad():
        layer.other.copy_(torch.tensor([-1.0, 0.0, 0.5, 3.0]))
        new = layer(tokens[mask], mask)
        both = [tokens[0][mask[0]], tokens[1][mask[1]]]
        expected = []
        for side in (0, 1):
            for state in both[side]:
                mixed = []
                for number in range(4):
                    part = slice(number * HIDDEN // 4, (number + 1) * HIDDEN // 4)
                    query = layer.query(state)[part]
                    keys, values = ([product(x)[:, part] for x in both] for product in (layer.key, layer.value))
                    logits = [
                        keys[of] @ query / (HIDDEN / 4) ** 0.5 + (of != side) * layer.other[number] for of in (0, 1)
                    ]
                    weights = torch.cat(logits).softmax(0)
                    mixed.append(weights @ torch.cat(values))
                state = layer.mixed_norm(layer.mix(torch.cat(mixed)) + state)
                inner = torch.nn.functional.gelu(layer.up(state))
                expected.append(layer.norm(layer.down(inner) + state))
        layer.other.copy_(before)
    assert torch.allclose(new, torch.stack(expected), atol=1e-4)
    plain = layer(tokens[mask], mask)
    assert not torch.allclose(new, plain, atol=1e-2)


def test_the_last_layer_computes_first_tokens_alone(head: JointLayers) -> None:
    tokens, mask = states(LENGTHS)
    layer = head.layers[1]
    everything, first = layer(tokens[mask], mask), layer(tokens[mask], mask, first_only=True)
    lengths = mask.sum(1)
    assert torch.allclose(first, everything[lengths.cumsum(0) - lengths], atol=1e-5)


def test_they_run_in_bfloat16_where_the_encoder_does(head: JointLayers) -> None:
    tokens, mask = states(LENGTHS)
    exact = head.compare(*tokens.chunk(2), *mask.chunk(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = head({"token_embeddings": tokens, "attention_mask": mask})["scores"].flatten()
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.allclose(rough, exact, atol=0.3)


def test_parts_of_a_batch_by_length_change_nothing(tiny_base: Path) -> None:
    encoder = PairEncoder(str(tiny_base), max_seq_length=MAX_TOKENS, config_kwargs={"num_labels": 1})
    pairs = list(zip(TABLE.left, TABLE.right, strict=True))[:60]
    features = encoder.preprocess(pairs)
    mask = features["attention_mask"].bool()
    found = encoder(dict(features))["token_embeddings"]
    expected = super(PairEncoder, encoder).forward(dict(features))["token_embeddings"]
    assert found.shape == expected.shape
    assert torch.allclose(found[mask], expected[mask], atol=1e-5)


@pytest.fixture
def network(tmp_path: Path) -> CrossEncoder:
    base = save_tiny_base(tmp_path / "base", layers=3)
    encoder = PairEncoder(str(base), max_seq_length=MAX_TOKENS, config_kwargs={"num_labels": 1})
    return CrossEncoder(modules=[encoder, decompose(encoder)], device="cpu").eval()


def test_a_decomposed_encoder_is_split_in_two(network: CrossEncoder, tmp_path: Path) -> None:
    whole = BertModel.from_pretrained(tmp_path / "base")
    assert len(network[0].model.encoder.layer) == network[0].model.config.num_hidden_layers == 2
    assert len(network[1].layers) == 1
    assert torch.equal(network[1].layers[0].up.weight, whole.encoder.layer[2].intermediate.dense.weight)
    assert torch.equal(network[1].pooler.weight, whole.pooler.dense.weight)


def test_an_encoder_of_one_layer_is_refused(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base", layers=1)
    with pytest.raises(ModelFolderError, match="at least 2 layers"):
        decompose(PairEncoder(str(base), max_seq_length=MAX_TOKENS))


@pytest.mark.parametrize("dimensions", [None, 12])
def test_both_folders_open_in_stock_loaders(network: CrossEncoder, dimensions: int | None, tmp_path: Path) -> None:
    projection = None if dimensions is None else torch.randn(dimensions, HIDDEN)
    bi_encoder = embedding_network(network, projection)
    save_plainly(network, tmp_path / "cross-encoder")
    save_plainly(bi_encoder, tmp_path / "bi-encoder")
    pairs = list(zip(TABLE.left[:20], TABLE.right[:20], strict=True))
    scores = network.predict(pairs)
    stock = CrossEncoder(str(tmp_path / "cross-encoder"), device="cpu", trust_remote_code=True)
    assert np.array_equal(stock.predict(pairs), scores)
    own = CrossEncoderScorer(tmp_path / "cross-encoder")
    assert np.array_equal(own.score(TABLE.left, TABLE.right), own.score(TABLE.right, TABLE.left))
    vectors = SentenceTransformer(str(tmp_path / "bi-encoder"), device="cpu").encode(TABLE.left[:20])
    assert vectors.shape == (20, dimensions or HIDDEN)
    assert "dupq" not in (tmp_path / "bi-encoder" / "modules.json").read_text()
    # By hand: the mean of the states that the joint layers read, projected, of unit length.
    features = network[0](network[0].preprocess(TABLE.left[:20]))
    mean = masked_mean(features["token_embeddings"], features["attention_mask"])
    expected = mean if projection is None else mean @ projection.T
    assert np.allclose(vectors, torch.nn.functional.normalize(expected, dim=1).detach().numpy(), atol=1e-5)


def test_the_trunk_is_shared(network: CrossEncoder) -> None:
    bi_encoder = embedding_network(network)
    with torch.no_grad():
        network[0].model.embeddings.word_embeddings.weight.zero_()
    assert not bool(bi_encoder[0].model.embeddings.word_embeddings.weight.any())
