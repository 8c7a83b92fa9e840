"""Back from int8: a stock network with the weights that the int8 form computes with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer

from dupq import DuplicatePipeline
from dupq.cli.main import main
from dupq.errors import InputError, MissingExtraError, ModelFolderError
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.onnx.export import export
from dupq.models.onnx.runtime import RuntimeBiEncoder, RuntimeCrossEncoder, RuntimeNetwork
from dupq.models.onnx.to_torch import to_torch
from dupq.models.sentence_transformers_io import (
    QUESTIONS,
    TRAINED_ON,
    read_fingerprints,
    training_record,
    write_fingerprints,
)
from dupq.pipeline import SHIPPED
from tests.networks import HIDDEN, MAX_TOKENS
from tests.questions import labelled_table

TABLE = labelled_table(24)
LEFT, RIGHT = TABLE.left, TABLE.right


def test_a_cross_encoder_scores_as_its_int8_form_but_for_the_rounding_of_activations(
    cross_network: RuntimeNetwork, cross_folder: Path, tmp_path: Path
) -> None:
    to_torch(cross_network, tmp_path / "stock")
    got = CrossEncoderScorer(tmp_path / "stock", device="cpu").score(LEFT, RIGHT)
    int8 = RuntimeCrossEncoder(cross_network).score(LEFT, RIGHT)
    original = CrossEncoderScorer(cross_folder, device="cpu").score(LEFT, RIGHT)
    shift = float(np.sqrt(((int8 - original) ** 2).mean()))
    assert np.sqrt(((got - int8) ** 2).mean()) < 2 * shift < 0.2 * original.std()
    assert CrossEncoder(str(tmp_path / "stock"), device="cpu").num_labels == 1


def test_a_bi_encoder_embeds_as_its_int8_form(bi_network: RuntimeNetwork, tmp_path: Path) -> None:
    to_torch(bi_network, tmp_path / "stock")
    got = BiEncoder(tmp_path / "stock", device="cpu").embed(LEFT)
    cosines = (got * RuntimeBiEncoder(bi_network).embed(LEFT)).sum(axis=1)
    assert cosines.min() > 0.99
    assert np.linalg.norm(SentenceTransformer(str(tmp_path / "stock"), device="cpu").encode(LEFT[0])) == pytest.approx(
        1
    )


def test_first_token_pooling_is_told_from_the_graph(tiny_base: Path, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(tiny_base), max_seq_length=MAX_TOKENS), Pooling(HIDDEN, pooling_mode="cls")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / "first"))
    network = export(tmp_path / "first", LEFT, RIGHT)
    to_torch(network, tmp_path / "stock")
    got = BiEncoder(tmp_path / "stock", device="cpu").embed(LEFT)
    assert (got * RuntimeBiEncoder(network).embed(LEFT)).sum(axis=1).min() > 0.99


def test_an_export_of_what_was_dequantised_is_near_the_first(cross_network: RuntimeNetwork, tmp_path: Path) -> None:
    to_torch(cross_network, tmp_path / "stock")
    again = RuntimeCrossEncoder(export(tmp_path / "stock", LEFT, RIGHT)).score(LEFT, RIGHT)
    first = RuntimeCrossEncoder(cross_network).score(LEFT, RIGHT)
    assert np.sqrt(((again - first) ** 2).mean()) < 0.1 * first.std()


@pytest.mark.parametrize("model", [b"", b"no graph"])
def test_a_damaged_network_is_refused(cross_network: RuntimeNetwork, tmp_path: Path, model: bytes) -> None:
    with pytest.raises(ModelFolderError, match="export the network again"):
        to_torch(replace(cross_network, model=model), tmp_path / "stock")
    assert not (tmp_path / "stock").exists()


def test_without_onnx_the_error_says_what_to_install(
    cross_network: RuntimeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dupq.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"dupq\[export\]"):
        to_torch(cross_network, tmp_path / "stock")


def test_a_network_of_another_form_is_refused(cross_network: RuntimeNetwork, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="its inputs must be ids"):
        to_torch(replace(cross_network, table=None), tmp_path / "stock")


def test_the_shipped_model_can_be_trained_on_and_what_it_saw_is_remembered(tmp_path: Path) -> None:
    from dupq.training.trainer import TrainSettings, train

    folder = tmp_path / "shipped"
    assert main(["model", "to-torch", "-o", str(folder)]) == 0
    shipped, stock = DuplicatePipeline.from_pretrained(), DuplicatePipeline.from_pretrained(folder)
    assert not stock.is_int8
    assert stock.calibrator is None
    left, right = TABLE.left[:8], TABLE.right[:8]
    np.testing.assert_allclose(stock.raw_scores(left, right), shipped.raw_scores(left, right), atol=0.7)
    settings = TrainSettings(base=str(folder / "bi-encoder"), max_steps=1, batch_size=4, max_length=32)
    train("bi-encoder", TABLE.take(np.arange(16)), tmp_path / "more", settings)
    seen = read_fingerprints(tmp_path / "more" / QUESTIONS)
    assert np.isin(read_fingerprints(SHIPPED / TRAINED_ON), seen).all()
    for name in ("bi-encoder", "cross-encoder"):  # as does a copy that was taken out of the pipeline's folder
        _, seen = training_record(Path(shutil.copytree(folder / name, tmp_path / "taken" / name)))
        assert seen is not None
        assert np.isin(read_fingerprints(SHIPPED / TRAINED_ON), seen).all()
    # transformers 4 knows no other class.
    for network in (folder / "bi-encoder", folder / "cross-encoder", tmp_path / "more"):
        config = json.loads((network / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_stock_pipeline_has_nothing_to_dequantise(tiny_cross_encoder: Path) -> None:
    with pytest.raises(InputError, match="torch networks already"):
        DuplicatePipeline(cross_encoder=CrossEncoderScorer(tiny_cross_encoder)).to_torch()


def test_a_network_of_a_pipelines_folder_brings_the_questions_it_has_seen(
    tiny_base: Path, tiny_bi_encoder: Path, tmp_path: Path
) -> None:
    from dupq.training.trainer import TrainSettings, train

    base = Path(shutil.copytree(tiny_bi_encoder, tmp_path / "pipeline" / "bi-encoder"))
    write_fingerprints(base.parent / TRAINED_ON, np.array([-5, 7]))
    np.testing.assert_array_equal(DuplicatePipeline.from_networks(bi_encoder=str(base)).trained_on, [-5, 7])
    train("bi-encoder", TABLE, tmp_path / "more", TrainSettings(base=str(base), max_steps=1, max_length=32))
    assert {-5, 7} <= set(read_fingerprints(tmp_path / "more" / QUESTIONS).tolist())
