"""The int8 path: its graph is the stock network's, a score is a pair's own, and no torch is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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
from safetensors.numpy import load_file, save_file

from dupq.errors import InputError, ModelFolderError
from dupq.models.bert import OUTPUTS, Bert, Int8Product, _Graph, build_graph, product_names, read_bert
from dupq.models.export import (
    Activations,
    _best_product,
    _dequantised,
    _product,
    _stock_tokenizer,
    export,
    round_weight,
)
from dupq.models.runtime import (
    _BATCH_TOKENS,
    FORMAT,
    MODEL,
    SETTINGS,
    TOKENIZER,
    Runner,
    RuntimeBiEncoder,
    RuntimeCrossEncoder,
    RuntimeNetwork,
    _batches,
    unit_rows,
)
from dupq.models.stock import round_weights, save_stock
from tests.networks import HIDDEN, MAX_TOKENS
from tests.questions import labelled_table

TABLE = labelled_table(24)
LEFT, RIGHT = TABLE.left, TABLE.right
LONG = "How can I learn archery " * 40


def livelier(source: Path, folder: Path) -> Path:
    """A copy whose weights are large enough for its outputs to differ from text to text, as a trained network's do."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    tables = {name: 12 * tensor for name, tensor in tensors.items() if tensor.ndim == 2}
    save_file({**tensors, **tables}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def cross_folder(tiny_cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return livelier(tiny_cross_encoder, tmp_path_factory.mktemp("lively") / "cross-encoder")


@pytest.fixture(scope="module")
def bi_folder(tiny_bi_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return livelier(tiny_bi_encoder, tmp_path_factory.mktemp("lively") / "bi-encoder")


@pytest.fixture(scope="module")
def cross_network(cross_folder: Path) -> RuntimeNetwork:
    return export(cross_folder, LEFT, RIGHT)


@pytest.fixture(scope="module")
def bi_network(bi_folder: Path) -> RuntimeNetwork:
    return export(bi_folder, LEFT, RIGHT)


@pytest.fixture(scope="module")
def cross_encoder(cross_network: RuntimeNetwork) -> RuntimeCrossEncoder:
    return RuntimeCrossEncoder(cross_network, threads=1)


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


# ---- a score is a pair's own -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, len(LEFT) - 1), min_size=1, max_size=30), st.booleans())
def test_a_score_depends_on_neither_batch_nor_order(
    cross_encoder: RuntimeCrossEncoder, rows: list[int], swapped: bool
) -> None:
    alone = np.array([cross_encoder.score([LEFT[row]], [RIGHT[row]])[0] for row in rows[:3]])
    left, right = [LEFT[row] for row in rows], [RIGHT[row] for row in rows]
    together = cross_encoder.score(right, left) if swapped else cross_encoder.score(left, right)
    assert np.array_equal(together[:3], alone)


def test_an_embedding_depends_on_no_neighbour(bi_network: RuntimeNetwork) -> None:
    encoder = RuntimeBiEncoder(bi_network, threads=1)
    together = encoder.embed([*LEFT, *LEFT[:5], LONG])
    assert together.shape == (len(LEFT) + 6, encoder.dimensions)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.array_equal(together[:5], together[-6:-1])
    for row in (0, 7, -1):
        assert np.array_equal(encoder.embed([[*LEFT, LONG][row]])[0], together[row if row >= 0 else -1])


def test_threads_change_nothing(cross_network: RuntimeNetwork) -> None:
    one, three = (RuntimeCrossEncoder(cross_network, threads=threads).score(LEFT, RIGHT) for threads in (1, 3))
    np.testing.assert_allclose(one, three, atol=1e-5, rtol=0)


def test_a_recurring_pair_is_scored_once(cross_network: RuntimeNetwork) -> None:
    encoder = RuntimeCrossEncoder(cross_network)
    seen: list[tuple[int, int]] = []
    scores = encoder.score([*LEFT, *RIGHT], [*RIGHT, *LEFT], progress=lambda done, total: seen.append((done, total)))
    assert np.array_equal(scores[: len(LEFT)], scores[len(LEFT) :])
    distinct = len({frozenset(pair) for pair in zip(LEFT, RIGHT, strict=True)})
    assert seen[-1] == (distinct, distinct)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_nothing_to_score(cross_network: RuntimeNetwork, bi_network: RuntimeNetwork) -> None:
    assert RuntimeCrossEncoder(cross_network).score([], []).shape == (0,)
    assert RuntimeBiEncoder(bi_network).embed([]).shape == (0, HIDDEN)
    with pytest.raises(InputError, match="2 left texts but 1 right"):
        RuntimeCrossEncoder(cross_network).score(["a", "b"], ["a"])


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=200))
def test_batches_hold_equal_lengths_and_bounded_tokens(lengths: list[int]) -> None:
    batches = list(_batches(np.array(lengths, dtype=np.int64)))
    assert sorted(int(row) for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len({lengths[row] for row in rows}) == 1
        assert len(rows) == 1 or sum(lengths[row] for row in rows) <= _BATCH_TOKENS


def test_more_inputs_than_a_window_come_in_windows(bi_network: RuntimeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RuntimeBiEncoder(bi_network).embed(LEFT)
    monkeypatch.setattr("dupq.models.runtime._WINDOW", 7)
    assert np.array_equal(RuntimeBiEncoder(bi_network).embed(LEFT), whole)


def test_no_torch_is_loaded(cross_network: RuntimeNetwork, tmp_path: Path) -> None:
    cross_network.save(tmp_path / "network")
    code = (
        "import sys\n"
        "from dupq.models.networks import open_cross_encoder\n"
        "from pathlib import Path\n"
        "scorer = open_cross_encoder('onnx-int8', Path(sys.argv[1]))\n"
        "scorer.score(['Who invented chess?'], ['Is chess fun?'])\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'pandas', 'onnx', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "network")], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_saved_and_opened_again_it_is_the_same(cross_network: RuntimeNetwork, tmp_path: Path) -> None:
    encoder = RuntimeCrossEncoder(cross_network)
    encoder.save(tmp_path / "network")
    again = RuntimeCrossEncoder(tmp_path / "network")
    assert again.network.settings == cross_network.settings
    assert again.fingerprint == encoder.fingerprint
    assert np.array_equal(again.score(LEFT, RIGHT), encoder.score(LEFT, RIGHT))


def test_another_network_has_another_fingerprint(cross_network: RuntimeNetwork, bi_network: RuntimeNetwork) -> None:
    shorter = RuntimeNetwork(cross_network.model, cross_network.tokenizer, {**cross_network.settings, "max_length": 9})
    assert len({cross_network.fingerprint, bi_network.fingerprint, shorter.fingerprint}) == 3


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, SETTINGS])
def test_a_damaged_folder_is_refused(cross_network: RuntimeNetwork, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "network"
    cross_network.save(folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])
    with pytest.raises(ModelFolderError, match=name.replace(".", r"\.")):
        RuntimeCrossEncoder(folder)
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=name.replace(".", r"\.")):
        RuntimeCrossEncoder(folder)


def test_a_newer_format_and_the_wrong_kind_are_refused(cross_network: RuntimeNetwork, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    cross_network.save(folder)
    with pytest.raises(ModelFolderError, match="this is a cross-encoder, not a bi-encoder"):
        RuntimeBiEncoder(folder)
    (folder / SETTINGS).write_text(json.dumps({**cross_network.settings, "format": FORMAT + 1}))
    with pytest.raises(ModelFolderError, match="newer than this dupq knows"):
        RuntimeCrossEncoder(folder)
    (folder / SETTINGS).write_text("[]")
    with pytest.raises(ModelFolderError, match="damaged"):
        RuntimeCrossEncoder(folder)


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
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="onnx is needed"):
        export(cross_folder, LEFT, RIGHT)


# ---- rounding --------------------------------------------------------------------------------------------------------

WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 4)),
    elements=st.floats(-8, 8, width=32, allow_subnormal=False),
)


@given(WEIGHTS)
def test_two_neighbouring_weights_never_overflow_16_bits(weight: NDArray[np.float32]) -> None:
    rounded, scales = round_weight(weight)
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
    product = Int8Product(*round_weight(weight))
    graph = _Graph()
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
        model.SerializeToString(), (cross_folder / TOKENIZER).read_bytes(), {"max_length": MAX_TOKENS}
    )
    rows, outputs = next(Runner(network).run([("Who invented go?", "Is go fun?")]))
    widths = {"qkv": HIDDEN, "mix": HIDDEN, "up": HIDDEN, "down": 2 * HIDDEN}
    assert rows.tolist() == [0]
    assert [values.shape[-1] for values in outputs[1:]] == [widths[name[2:]] for name in product_names(bert)]


def test_unit_rows_leaves_a_row_of_zeros() -> None:
    vectors = unit_rows(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0]], atol=1e-7)
