"""A network's folder that was tampered with: one error that names the file, or a network that works."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from dupq.errors import ModelFolderError
from dupq.models.onnx.embedding_table import TABLE_FILE, EmbeddingTable
from dupq.models.onnx.runtime import (
    MODEL,
    SETTINGS,
    TOKENIZER,
    RuntimeBiEncoder,
    RuntimeCrossEncoder,
    RuntimeNetwork,
)
from tests.networks import HIDDEN

TEXTS = ["Who invented chess?", "chess " * 100, "", "\u4f60\u597d \U0001f600"]


@pytest.fixture
def cross(cross_network: RuntimeNetwork, tmp_path: Path) -> Path:
    cross_network.save(tmp_path / "cross")
    return tmp_path / "cross"


@pytest.fixture
def bi(bi_network: RuntimeNetwork, tmp_path: Path) -> Path:
    bi_network.save(tmp_path / "bi")
    return tmp_path / "bi"


def used(folder: Path, kind: str) -> NDArray[Any]:
    """What a network gives, opened and run with all sorts of texts."""
    if kind == "bi":
        return RuntimeBiEncoder(folder, threads=1).embed(TEXTS)
    return RuntimeCrossEncoder(folder, threads=1).score(TEXTS, TEXTS[::-1])


def set_settings(folder: Path, **values: object) -> None:
    (folder / SETTINGS).write_text(json.dumps({**json.loads((folder / SETTINGS).read_text()), **values}))


# ---- one thing wrong -------------------------------------------------------------------------------------------------


def test_the_model_of_the_other_network_is_refused(cross: Path, bi: Path) -> None:
    for folder, other, kind in ((cross, bi, "cross"), (bi, cross, "bi")):
        mixed = Path(shutil.copytree(folder, folder.with_name(f"mixed-{kind}")))
        shutil.copy(other / MODEL, mixed / MODEL)
        with pytest.raises(ModelFolderError, match=r"the output of a .* must be (scores|embeddings), got") as caught:
            used(mixed, kind)
        assert caught.value.location == str(mixed / MODEL)
        assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_length", value, "max_length must be 4 to 65,536, got")
        for value in (None, "64", 0, -1, 3, 1 << 40, 64.0, True, [64], {})
    ]
    + [("dimensions", value, "dimensions must be 1 to 65,536, got") for value in (None, "32", 0, -1, 32.0, [])]
    + [("dimensions", value, r"must have the shape \(1, \d+\), got \(1, 32\)") for value in (1, 31, 33)]
    + [("max_length", value, "onnxruntime cannot run it") for value in (65, 500, 1024)]
    + [("format", value, "no format") for value in (None, "2", True, 2.0)]
    + [("kind", value, "must be a bi-encoder") for value in (None, 1, [], {}, "cross-encoder", "bi")],
)
def test_wrong_settings_are_refused(bi: Path, name: str, value: object, said: str) -> None:
    set_settings(bi, **{name: value})
    with pytest.raises(ModelFolderError, match=said) as caught:
        RuntimeBiEncoder(bi)
    assert str(bi) in str(caught.value.location)


def test_a_tokenizer_of_more_words_is_refused(bi: Path) -> None:
    content = json.loads((bi / TOKENIZER).read_text())
    content["model"]["vocab"] |= {f"another{number}": 10_000 + number for number in range(3)}
    (bi / TOKENIZER).write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match="token 10002 of the tokenizer must have an embedding") as caught:
        RuntimeBiEncoder(bi)
    assert caught.value.location == str(bi / TOKENIZER)


def test_a_tokenizer_without_its_unknown_token_is_refused(bi: Path) -> None:
    content = json.loads((bi / TOKENIZER).read_text())
    content["model"]["unk_token"] = "[NOTHING]"
    (bi / TOKENIZER).write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match=r"its unknown token .* is missing") as caught:
        RuntimeBiEncoder(bi)
    assert caught.value.location == str(bi / TOKENIZER)


def test_a_template_of_a_token_that_is_none_is_refused(bi: Path) -> None:
    content = json.loads((bi / TOKENIZER).read_text())
    content["post_processor"]["special_tokens"].pop("[SEP]")
    (bi / TOKENIZER).write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match=r"\[SEP\]") as caught:
        RuntimeBiEncoder(bi)
    assert caught.value.location == str(bi / TOKENIZER)


@pytest.mark.parametrize(("rows", "width"), [(7, HIDDEN), (0, HIDDEN), (None, HIDDEN // 2), (None, 2 * HIDDEN)])
def test_a_table_of_another_size_is_refused(bi: Path, rows: int | None, width: int) -> None:
    words = EmbeddingTable.read(bi)
    table = np.resize(words.rows, (len(words.rows), width))[:rows]
    save_file({"rows": np.ascontiguousarray(table), "scales": words.scales[:rows]}, bi / TABLE_FILE)
    with pytest.raises(ModelFolderError, match=r"must have an embedding|onnxruntime cannot run it"):
        RuntimeBiEncoder(bi)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bi: Path, cross: Path, value: float) -> None:
    for folder, kind in ((bi, "bi"), (cross, "cross")):
        model = onnx.load(folder / MODEL)
        bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("output.LayerNorm.bias"))
        bias.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(bias), value), bias.name))
        onnx.save(model, folder / MODEL)
        with pytest.raises(ModelFolderError, match="its output must be finite") as caught:
            used(folder, kind)
        assert caught.value.location == str(folder / MODEL)


def test_one_text_alone_that_gives_nan_is_an_error_too(bi: Path) -> None:
    """Here the scale of one word is NaN, which no other text shows."""
    words = EmbeddingTable.read(bi)
    tokenizer = json.loads((bi / TOKENIZER).read_text())
    words.scales[tokenizer["model"]["vocab"]["chess"]] = np.nan
    save_file({"rows": words.rows, "scales": words.scales}, bi / TABLE_FILE)
    with pytest.raises(ModelFolderError, match=r"finite"):
        RuntimeBiEncoder(bi).embed(["chess"])


def _rewired(folder: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(folder / MODEL)
    change(model.graph)
    onnx.save(model, folder / MODEL)


def _another_input(graph: Any) -> None:
    graph.input.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "length"]))


def _renamed_input(graph: Any) -> None:
    graph.input[0].name = "input_ids"
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = "input_ids" if name == "ids" else name


def _renamed_output(graph: Any) -> None:
    graph.output[0].name = graph.node[-1].output[0] = "last_hidden_state"


def _constant_output(graph: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.zeros((3, HIDDEN), np.float32), "same"))
    graph.node[-1].input[0] = "same"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_another_input, "its inputs must be ids"),
        (_renamed_input, "its inputs must be ids"),
        (_renamed_output, "must be embeddings, got last_hidden_state"),
        (_constant_output, r"must have the shape \(1, 32\), got \(3, 32\)"),
    ],
)
def test_a_model_of_another_make_is_refused(bi: Path, change: Callable[[Any], None], said: str) -> None:
    _rewired(bi, change)
    with pytest.raises(ModelFolderError, match=said) as caught:
        used(bi, "bi")
    assert caught.value.location == str(bi / MODEL)


# ---- anything wrong --------------------------------------------------------------------------------------------------

VALUES = [None, True, 0, -1, 1, 7, 10**9, 1e300, "", "x", "../x", [], [1], {}, {"a": 1}]


def _mutated_bytes(draw: np.random.Generator, content: bytes) -> bytes:
    """Cut, lengthened, overwritten, doubled, or with some bits flipped."""
    kind, n = draw.integers(6), len(content)
    at = int(draw.integers(n))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[at:]
    if kind == 2:
        return content + draw.bytes(int(draw.integers(1, 50)))
    if kind == 3:
        return content[:at] + draw.bytes(8) + content[at + 8 :]
    if kind == 4:
        return content[:at] + content[at // 2 :]
    flipped = bytearray(content)
    for place in draw.integers(n, size=int(draw.integers(1, 9))):
        flipped[place] ^= 1 << int(draw.integers(8))
    return bytes(flipped)


def _mutated_json(draw: np.random.Generator, content: Any) -> Any:
    """Some value, however deep, is removed or becomes another."""
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        item = waiting.pop()
        keys: list[Any] = list(item) if isinstance(item, dict) else list(range(len(item)))
        places += [(item, key) for key in keys]
        waiting += [item[key] for key in keys if isinstance(item[key], (dict, list)) and key != "vocab"]
    item, key = places[int(draw.integers(len(places)))]
    if draw.random() < 0.3:
        del item[key]
    else:
        item[key] = VALUES[int(draw.integers(len(VALUES)))]
    return content


def _mutate(draw: np.random.Generator, folder: Path, other: Path) -> None:
    name = str(draw.choice([MODEL, TOKENIZER, SETTINGS, TABLE_FILE]))
    path, kind = folder / name, int(draw.integers(5))
    if kind == 0:
        path.unlink()
        if draw.random() < 0.5:
            shutil.copy(other / name, path)
    elif kind <= 2 and name.endswith(".json"):
        path.write_text(json.dumps(_mutated_json(draw, json.loads(path.read_text()))))
    elif kind == 1 and name == TABLE_FILE:
        tensors = load_file(path)
        key = str(draw.choice([*tensors]))
        shape = tuple(int(size) for size in draw.integers(0, 60, size=int(draw.integers(4))))
        tensors[key] = np.zeros(shape, draw.choice([np.int8, np.float32, np.uint8, np.int64]))
        save_file(tensors, path)
    else:
        path.write_bytes(_mutated_bytes(draw, path.read_bytes()))


@pytest.mark.parametrize("kind", ["bi", "cross"])
def test_any_tampering_ends_in_one_error_or_in_outputs(
    kind: str, bi: Path, cross: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, other = (bi, cross) if kind == "bi" else (cross, bi)
    shape = (len(TEXTS), HIDDEN) if kind == "bi" else (len(TEXTS),)
    folder, refused = tmp_path / "tampered", 0
    refusal: ModelFolderError | None
    for seed in range(200):
        draw = np.random.default_rng(seed)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        _mutate(draw, folder, other)
        try:
            found = used(folder, kind)
        except ModelFolderError as error:
            refusal = error
            refused += 1
        else:
            refusal = None
            assert found.shape == shape
            assert np.isfinite(found).all()
        if refusal is not None:
            assert str(folder) in (refusal.location or "")
            assert refusal.hint is not None
    assert refused > 100
    assert capfd.readouterr() == ("", "")
