"""Outputs of the shipped networks as a teacher: those of the pipeline, in parts that are never computed twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from data_scripts import one_trunk_rows
from data_scripts.one_trunk_rows import pair_outputs, question_vectors
from dupq.models.onnx.runtime import RuntimeBiEncoder, RuntimeCrossEncoder, RuntimeNetwork
from tests.models.conftest import TABLE


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_trunk_rows, "PART", 10)


@pytest.mark.usefixtures("small_parts")
def test_logits_are_the_pipelines_and_its_classifier_reads_the_pooled_vectors(
    cross_network: RuntimeNetwork, cross_folder: Path, tmp_path: Path
) -> None:
    cross_network.save(tmp_path / "int8")
    pairs = TABLE.take(np.arange(25))
    outputs = pair_outputs(pairs, tmp_path / "int8", tmp_path / "outputs")
    scorer = RuntimeCrossEncoder(tmp_path / "int8", symmetry="adaptive")
    scores = scorer.score(pairs.left, pairs.right)
    assert outputs["logits"] == pytest.approx(scores, abs=1e-5)
    # A score of one order is what the classifier makes of the pooled vector.
    ordered = [(min(pair), max(pair)) for pair in zip(pairs.left, pairs.right, strict=True)]
    one_order = scorer._logits(ordered, None)
    classifier = CrossEncoder(str(cross_folder), device="cpu")[0].model.classifier
    read = classifier(torch.from_numpy(outputs["pooled"].astype(np.float32))).detach().numpy().ravel()
    certain = np.isclose(scores, one_order, atol=1e-6)
    assert certain.any()
    assert read[certain] == pytest.approx(scores[certain], abs=0.05)


@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_run_computes_what_is_missing(
    bi_network: RuntimeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bi_network.save(tmp_path / "int8")
    texts = list(dict.fromkeys([*TABLE.left, *TABLE.right]))[:24]
    embedded: list[str] = []
    embed = RuntimeBiEncoder.embed

    def counted(self: RuntimeBiEncoder, some: list[str]) -> object:
        embedded.extend(some)
        return embed(self, some)

    monkeypatch.setattr(RuntimeBiEncoder, "embed", counted)
    first = question_vectors(texts, tmp_path / "int8", tmp_path / "vectors", 14)
    assert first.shape[0] == 14
    assert embedded == texts[:20]  # whole parts
    every = question_vectors(texts, tmp_path / "int8", tmp_path / "vectors", 24)
    assert embedded == texts
    assert np.array_equal(every[:14], first)
    (tmp_path / "vectors" / "0001.safetensors").unlink()
    assert np.array_equal(question_vectors(texts, tmp_path / "int8", tmp_path / "vectors", 24), every)
    assert embedded == texts + texts[10:20]
