"""The export: its graph is the stock network's, and int8 stays near it; what cannot be exported is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dupq.errors import InputError, MissingExtraError, ModelFolderError
from dupq.models.onnx.bert_weights import Bert, product_names, read_bert
from dupq.models.onnx.export import _stock_tokenizer, export
from dupq.models.onnx.graph import OUTPUTS, Graph, build_graph
from dupq.models.onnx.quantise import (
    Activations,
    Int8Product,
    _best_product,
    _dequantised,
    _product,
    quantise_weight,
)
from dupq.models.onnx.runtime import (
    FORMAT,
    TOKENIZER,
    Runner,
    RuntimeBiEncoder,
    RuntimeCrossEncoder,
    RuntimeNetwork,
)
from dupq.models.sentence_transformers_io import round_weights, save_stock
from tests.networks import HIDDEN, MAX_TOKENS
from tests.questions import labelled_table

TABLE = labelled_table(24)
LEFT, RIGHT = TABLE.left, TABLE.right
LONG = "How can I learn archery " * 40


def float_network(folder: Path, kind: str) -> RuntimeNetwork:
    settings = {"format": FORMAT, "kind": kind, "max_length": MAX_TOKENS, "dimensions": HIDDEN}
    tokenizer, typed = _stock_tokenizer(folder)
    bert = replace(read_bert(folder), typed=typed and kind == "cross-encoder")
    return RuntimeNetwork(build_graph(bert).SerializeToString(), tokenizer, settings)


# ---- the graph -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", [False, True])
def test_float_graph_is_the_stock_cross_encoder(cross_folder: Path, tmp_path: Path, typed: bool) -> None:
    from dupq.models.cross_encoder import CrossEncoderScorer

    folder = Path(shutil.copytree(cross_folder, tmp_path / "network"))
    if typed:
        names = ["input_ids", "token_type_ids", "attention_mask"]
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_input_names": names}))
    left, right = [*LEFT, LONG], [*RIGHT, "Who invented go?"]
    stock = CrossEncoderScorer(folder, device="cpu").score(left, right)
    ours = RuntimeCrossEncoder(float_network(folder, "cross-encoder"))
    assert ours._runner.inputs == (["ids", "types"] if typed else ["ids"])
    np.testing.assert_allclose(ours.score(left, right), stock, atol=1e-5)
    assert stock.std() > 0.05


def test_float_graph_is_the_stock_bi_encoder(bi_folder: Path) -> None:
    from dupq.models.bi_encoder import BiEncoder

    texts = [*LEFT, LONG, "Go", "?"]
    stock = BiEncoder(bi_folder, device="cpu").embed(texts)
    ours = RuntimeBiEncoder(float_network(bi_folder, "bi-encoder")).embed(texts)
    np.testing.assert_allclose(ours, stock, atol=1e-5)


def test_first_token_pooling_and_half_stored_weights_are_read(tiny_base: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from dupq.models.bi_encoder import BiEncoder

    modules = [Transformer(str(tiny_base), max_seq_length=MAX_TOKENS), Pooling(HIDDEN, pooling_mode="cls")]
    model = SentenceTransformer(modules=modules, device="cpu")
    round_weights(model)
    save_stock(model, tmp_path / "first")
    ours = RuntimeBiEncoder(float_network(tmp_path / "first", "bi-encoder")).embed(LEFT)
    np.testing.assert_allclose(ours, BiEncoder(model).embed(LEFT), atol=1e-5)


def test_int8_scores_stay_near(cross_network: RuntimeNetwork, bi_network: RuntimeNetwork) -> None:
    for network in (cross_network, bi_network):
        shift = network.settings["shift"]
        assert 0 < shift["rms"] < 0.1 * shift["spread"]
        assert abs(shift["mean"]) <= shift["rms"] <= shift["largest"]
        assert shift["pairs"] == 120


def test_shift_is_what_is_measured_on_pairs_left_out_of_the_fit(
    cross_network: RuntimeNetwork, cross_folder: Path
) -> None:
    exact = RuntimeCrossEncoder(float_network(cross_folder, "cross-encoder")).score(LEFT, RIGHT)
    moved = RuntimeCrossEncoder(cross_network).score(LEFT, RIGHT) - exact
    assert cross_network.settings["shift"]["rms"] == pytest.approx(np.sqrt((moved**2).mean()), rel=0.25)


# ---- what cannot be exported -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model_type": "distilbert"}, "its encoder is a 'distilbert'"),
        ({"hidden_act": "relu"}, "its activation is 'relu'"),
        ({"position_embedding_type": "relative_key"}, "its encoder is a 'bert'"),
        ({"num_hidden_layers": 9}, "encoder.layer.2"),
    ],
)
def test_what_is_no_stock_bert_is_refused(
    cross_folder: Path, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    folder = Path(shutil.copytree(cross_folder, tmp_path / "network"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelFolderError, match=problem):
        export(folder, LEFT, RIGHT)


def test_other_modules_and_poolings_are_refused(bi_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bi_folder, tmp_path / "network"))
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**config, "pooling_mode": "max"}))
    with pytest.raises(ModelFolderError, match="it pools by max"):
        export(folder, LEFT, RIGHT)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:1]))
    with pytest.raises(ModelFolderError, match="its modules are Transformer"):
        export(folder, LEFT, RIGHT)


@pytest.mark.parametrize("kind", ["bi_folder", "cross_folder"])
def test_a_default_prompt_is_refused(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / "network"))
    path = folder / "config_sentence_transformers.json"
    config = json.loads(path.read_text())

    def with_default(name: str | None) -> Path:
        prompts = {"query": "query: ", "document": ""}
        path.write_text(json.dumps({**config, "prompts": prompts, "default_prompt_name": name}))
        return folder

    for name in (None, "document"):  # named prompts that no text gets, and one that changes nothing
        read_bert(with_default(name))
    with pytest.raises(ModelFolderError, match="it puts the prompt 'query: ' before every text"):
        export(with_default("query"), LEFT, RIGHT)


def test_a_folder_of_before_version_6_is_read(bi_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bi_folder, tmp_path / "network"))
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps(
            {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        )
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 17, "do_lower_case": False}))
    bert = read_bert(folder)
    assert (bert.pooling, bert.max_length) == ("cls", 17)


def test_export_needs_pairs_and_onnx(cross_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="at least two different pairs"):
        export(cross_folder, ["a", "b"], ["b", "a"])
    monkeypatch.setattr("dupq.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs onnx"):
        export(cross_folder, LEFT, RIGHT)


# ---- rounding --------------------------------------------------------------------------------------------------------

WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 4)),
    elements=st.floats(-8, 8, width=32, allow_subnormal=False),
)


@given(WEIGHTS)
def test_two_neighbouring_weights_never_overflow_16_bits(weight: NDArray[np.float32]) -> None:
    rounded, scales = quantise_weight(weight)
    assert np.abs(rounded * scales - weight).max() <= 0.5001 * scales.max()
    worst = rounded.astype(np.int64) * 255
    for first in range(0, len(worst), 2):
        pair = worst[first : first + 2]
        assert pair.clip(min=0).sum(axis=0).max() < 2**15
        assert pair.clip(max=0).sum(axis=0).min() >= -(2**15)


def test_smoothing_is_chosen_where_channels_stand_out() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(400, 32)).astype(np.float32)
    weight = draw.normal(size=(32, 16)).astype(np.float32)

    def error(exponent: float | None, values: NDArray[np.float32]) -> float:
        seen = Activations(values.min(axis=0), values.max(axis=0), values)
        product = _best_product(weight, seen) if exponent is None else _product(weight, seen, exponent)
        got = _dequantised(values, product) @ (product.weight * product.weight_scales)
        return float(((got - values @ weight) ** 2).mean())

    rows[:, 3] *= 60
    assert error(None, rows) < 0.1 * error(0.0, rows)


def test_a_token_with_a_scale_of_its_own_is_rounded_alike_in_any_company() -> None:
    import onnxruntime

    draw = np.random.default_rng(0)
    rows = np.maximum(draw.normal(size=(3, 5, 8)), -0.17).astype(np.float32)
    rows[0, 2] *= 40  # a loud token
    rows[1, 4] = -0.16  # and one whose every value is small and negative
    weight, bias = draw.normal(size=(8, 4)).astype(np.float32), draw.normal(size=4).astype(np.float32)
    product = Int8Product(*quantise_weight(weight))
    graph = Graph()
    graph.nodes.append(helper.make_node("Identity", ["ids"], ["rows"]))
    graph.name_output(graph.row_product("rows", "down", product, bias), OUTPUTS["cross-encoder"])
    model = graph.model(Bert("cross-encoder", {}, 1, 1, 1e-12, 8))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_param = "width"
    session = onnxruntime.InferenceSession(model.SerializeToString())
    got = session.run(None, {"ids": rows})[0]
    expected = _dequantised(rows.reshape(-1, 8), product) @ (product.weight * product.weight_scales) + bias
    np.testing.assert_allclose(got.reshape(-1, 4), expected, atol=1e-5, rtol=1e-5)
    quiet = np.abs(got - (rows @ weight + bias))[[0, 1, 2], [1, 1, 1]]
    assert quiet.max() < 0.1
    assert np.array_equal(session.run(None, {"ids": rows[1:2]})[0], got[1:2])


def test_every_product_is_observed_under_its_name(cross_folder: Path) -> None:
    bert = read_bert(cross_folder)
    model = build_graph(bert, taps=True)
    assert [value.name for value in model.graph.output] == ["scores", *product_names(bert)]
    network = RuntimeNetwork(
        model.SerializeToString(),
        (cross_folder / TOKENIZER).read_bytes(),
        {"kind": "cross-encoder", "max_length": MAX_TOKENS},
    )
    rows, outputs = next(Runner(network).run([("Who invented go?", "Is go fun?")]))
    widths = {"qkv": HIDDEN, "mix": HIDDEN, "up": HIDDEN, "down": 2 * HIDDEN}
    assert rows.tolist() == [0]
    assert [values.shape[-1] for values in outputs[1:]] == [widths[name[2:]] for name in product_names(bert)]
    # Past the last attention only the first token is computed, as no other is read.
    tokens = [values.shape[1] for values in outputs[1:]]
    assert tokens == [tokens[0]] * (len(tokens) - 3) + [1] * 3
    assert tokens[0] > 1
