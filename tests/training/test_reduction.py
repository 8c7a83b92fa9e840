"""A bi-encoder of fewer dimensions, as a stock network, in int8, and back again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sklearn.decomposition import TruncatedSVD

from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.errors import InputError, ModelFolderError, OutputError
from dupq.models.bi_encoder import BiEncoder
from dupq.models.onnx.bert_weights import PROJECTION, read_bert
from dupq.models.onnx.export import export
from dupq.models.onnx.runtime import RuntimeBiEncoder
from dupq.models.onnx.to_torch import to_torch
from dupq.models.sentence_transformers_io import (
    QUESTIONS,
    read_fingerprints,
    save_stock,
    write_fingerprints,
)
from dupq.training.averaging import average
from dupq.training.reduction import reduce_dimensions
from tests.networks import HIDDEN
from tests.questions import labelled_table

TABLE = labelled_table(24)
TEXTS = sorted({*TABLE.left, *TABLE.right})
FEWER = 6


@pytest.fixture(scope="module")
def folder(tiny_bi_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose embeddings differ from text to text, and that has seen three questions."""
    lively = Path(shutil.copytree(tiny_bi_encoder, tmp_path_factory.mktemp("reduction") / "bi-encoder"))
    tensors = load_file(lively / "model.safetensors")
    larger = {name: 12 * tensor for name, tensor in tensors.items() if tensor.ndim == 2}
    save_file({**tensors, **larger}, lively / "model.safetensors", metadata={"format": "pt"})
    write_fingerprints(lively / QUESTIONS, np.array([3, 5, 8]))
    return lively


@pytest.fixture(scope="module")
def reduced(folder: Path) -> Path:
    reduce_dimensions(folder, TEXTS, folder.with_name("reduced"), FEWER, power=0.5)
    return folder.with_name("reduced")


@pytest.mark.parametrize("power", [0.0, 0.1, 1.0])
def test_its_cosines_are_those_of_principal_components(folder: Path, tmp_path: Path, power: float) -> None:
    record = reduce_dimensions(folder, TEXTS, tmp_path / "reduced", FEWER, power=power)
    vectors = SentenceTransformer(str(folder), device="cpu").encode(TEXTS).astype(np.float64)
    peer = TruncatedSVD(FEWER, algorithm="arpack").fit(vectors)
    expected = peer.transform(vectors) * peer.singular_values_**power
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    got = SentenceTransformer(str(tmp_path / "reduced"), device="cpu").encode(TEXTS)
    assert got.shape == (len(TEXTS), FEWER)
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=2e-4)
    assert record["kept"] == pytest.approx((peer.singular_values_**2).sum() / len(TEXTS), abs=1e-5)
    assert json.loads((tmp_path / "reduced" / "dupq_training.json").read_text()) == record


def test_what_it_has_seen_is_kept(reduced: Path) -> None:
    assert read_fingerprints(reduced / QUESTIONS).tolist() == [3, 5, 8]


def test_texts_that_recur_count_once_and_their_order_does_not_matter(folder: Path, tmp_path: Path) -> None:
    for name, texts in (("once", TEXTS), ("often", [*reversed(TEXTS), *TEXTS[:9]])):
        reduce_dimensions(folder, texts, tmp_path / name, FEWER)
    once, often = (load_file(tmp_path / name / "2_Dense" / "model.safetensors") for name in ("once", "often"))
    assert np.array_equal(once["linear.weight"], often["linear.weight"])


def test_in_int8_it_embeds_nearly_alike_and_each_text_by_itself(reduced: Path, tmp_path: Path) -> None:
    network = export(reduced, TABLE.left, TABLE.right)
    ours = RuntimeBiEncoder(network)
    assert ours.dimensions == FEWER
    together = ours.embed(TEXTS)
    assert (together * BiEncoder(reduced, device="cpu").embed(TEXTS)).sum(axis=1).min() > 0.97
    for row in (0, 7, len(TEXTS) - 1):
        assert np.array_equal(ours.embed([TEXTS[row]])[0], together[row])
    to_torch(network, tmp_path / "stock")
    assert np.array_equal(read_bert(tmp_path / "stock").tensors[PROJECTION], read_bert(reduced).tensors[PROJECTION])
    back = BiEncoder(tmp_path / "stock", device="cpu").embed(TEXTS)
    assert (together * back).sum(axis=1).min() > 0.97
    assert np.linalg.norm(back[0]) == pytest.approx(1, abs=1e-5)


def test_two_of_them_can_be_averaged(reduced: Path, tmp_path: Path) -> None:
    average("bi-encoder", [reduced, reduced], tmp_path / "mean")
    a, b = (BiEncoder(at, device="cpu").embed(TEXTS[:4]) for at in (reduced, tmp_path / "mean"))
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("dimensions", "power", "texts", "told"),
    [
        (HIDDEN, 0.0, TEXTS, "dimensions must be below"),
        (0, 0.0, TEXTS, "dimensions must be"),
        (FEWER, 0.0, TEXTS[:5], "at most 5, the number of distinct texts"),
        (FEWER, -0.5, TEXTS, "power must be a number of at least 0"),
        (FEWER, float("nan"), TEXTS, "power must be a number of at least 0"),
    ],
)
def test_what_cannot_be_reduced_is_told(
    folder: Path, tmp_path: Path, dimensions: int, power: float, texts: list[str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        reduce_dimensions(folder, texts, tmp_path / "out", dimensions, power=power)
    assert not list(tmp_path.iterdir())


def test_nothing_is_reduced_twice_or_overwritten(folder: Path, reduced: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Transformer, Pooling, Dense"):
        reduce_dimensions(reduced, TEXTS, tmp_path / "again", 3)
    with pytest.raises(OutputError, match="there already"):
        reduce_dimensions(folder, TEXTS, reduced, 3)


def test_a_full_disk_leaves_nothing_half_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dupq.models.sentence_transformers_io.write_fingerprints", full)
    with pytest.raises(OutputError, match="No space left"):
        reduce_dimensions(folder, TEXTS, tmp_path / "reduced", FEWER)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layer", [{"bias": True}, {"activation_function": torch.nn.Tanh()}, {"use_residual": True}])
def test_a_dense_that_is_more_than_a_linear_map_is_not_exported(
    folder: Path, tmp_path: Path, layer: dict[str, Any]
) -> None:
    model = SentenceTransformer(str(folder), device="cpu")
    model.insert(2, Dense(HIDDEN, FEWER, **{"bias": False, "activation_function": None, **layer}))
    save_stock(model, tmp_path / "other")
    with pytest.raises(ModelFolderError, match="its Dense has"):
        read_bert(tmp_path / "other")


def test_by_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question1": a, "question2": b} for a, b in zip(TABLE.left, TABLE.right, strict=True)]
    write_rows(tmp_path / "pairs.jsonl", rows, ["question1", "question2"])
    command = ["model", "reduce", str(folder), str(tmp_path / "pairs.jsonl"), "-o", str(tmp_path / "reduced")]
    assert main([*command, "--dimensions", str(FEWER), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dimensions"], told["power"], told["texts"]) == (FEWER, 0.0, len(TEXTS))
    assert main([*command, "--dimensions", str(FEWER)]) == 2
    assert "something is there already" in capsys.readouterr().err
