"""What cannot be trained, and what a training that fails leaves behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dupq.data.pairs import PairTable
from dupq.errors import (
    InputError,
    ModelFolderError,
    OutputError,
    TrainingError,
)
from dupq.training.trainer import TrainSettings, train

KINDS = ("bi-encoder", "cross-encoder")


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], [1, -1], [0, 1, -1], []])
def test_labels_that_cannot_be_trained_on(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, labels: list[int]
) -> None:
    n = len(labels)
    bad = PairTable(pairs.left[:n], pairs.right[:n], np.array(labels, dtype=np.int8))
    with pytest.raises(InputError, match=r"^pairs must have both labels"):
        train("bi-encoder", bad, tmp_path / "network", settings)
    with pytest.raises(InputError, match=r"^validation pairs must have both labels"):
        train("bi-encoder", pairs, tmp_path / "network", settings, validation=bad)
    assert list(tmp_path.iterdir()) == []


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("base", ["", " ", None, 3, []]),
        ("epochs", [0.0, -1, NAN, INF, 1e9, "3", None, True]),
        ("batch_size", [1, 0, -8, 2.5, 10**9, "64", None, True]),
        ("learning_rate", [0.0, -1e-5, NAN, INF, 1e9, 1.5, "1e-4", None]),
        ("weight_decay", [-1.0, NAN, INF, 2, "0"]),
        ("max_length", [2, 7, -1, 64.0, None]),
        ("dropout", [1.0, -0.1, NAN, 5, "0.1"]),
        ("freeze_embeddings", [1, None, "no"]),
        ("freeze_layers", [-1, 1.5, None]),
        ("precision", ["bf16", None, 32]),
        ("seed", [-1, 2**32, 1.5, None, "0"]),
        ("max_steps", [0, -2, 1.5, NAN, None]),
        ("save_steps", [0, -1, 0.5, None]),
    ],
)
def test_settings_that_cannot_be_trained_with(settings: TrainSettings, name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(InputError, match=f"^{name} must .*, got ") as caught:
            replace(settings, **{name: value})
        assert caught.value.hint


def test_settings_of_numpy_are_those_of_python(settings: TrainSettings) -> None:
    same = replace(
        settings,
        epochs=np.float64(settings.epochs),
        batch_size=np.int64(settings.batch_size),
        seed=np.uint8(settings.seed),
    )
    assert same == settings
    assert json.loads(json.dumps(asdict(same))) == asdict(settings)


def test_an_unknown_kind(settings: TrainSettings, pairs: PairTable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind must be one of bi-encoder, cross-encoder, got 'biencoder'"):
        train("biencoder", pairs, tmp_path / "network", settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", ["missing", "cut", "pickle", "too short", "code"])
def test_a_base_that_cannot_be_used(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, kind: Any, harm: str
) -> None:
    base = Path(shutil.copytree(settings.base, tmp_path / "base"))
    weights_file, config = base / "model.safetensors", base / "config.json"
    if harm == "missing":
        shutil.rmtree(base)
    elif harm == "cut":
        weights_file.write_bytes(weights_file.read_bytes()[:5000])
    elif harm == "pickle":
        torch.save({"a": torch.zeros(1)}, base / "pytorch_model.bin")
        weights_file.unlink()
    elif harm == "code":
        config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "evil.Model"}}))
    bad = replace(settings, base=str(base), max_length=65 if harm == "too short" else 32)
    expected = {"too short": InputError, "pickle": ModelFolderError, "code": ModelFolderError}.get(harm, TrainingError)
    with pytest.raises(expected) as caught:
        train(kind, pairs, tmp_path / "network", bad)
    assert str(base) in str(caught.value.location)
    assert not (tmp_path / "network").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_collapse_is_told_and_leaves_nothing(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dupq.training.trainer.MAX_LEARNING_RATE", 1e38)
    with pytest.raises(TrainingError, match=r"training has collapsed \(.* not finite") as caught:
        train(kind, pairs, tmp_path / "network", replace(settings, learning_rate=1e38, dropout=0.0))
    assert "lower the learning rate" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_collapse_is_seen_long_before_the_end(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dupq.training.trainer.MAX_LEARNING_RATE", 1e38)
    with pytest.raises(TrainingError, match="the loss is not finite at step 50"):
        train("cross-encoder", pairs, tmp_path / "network", replace(settings, learning_rate=1e38, max_steps=100_000))


def test_a_network_that_cannot_be_written_is_written_the_next_time(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    short = replace(settings, max_steps=5)
    with monkeypatch.context() as patch:
        patch.setattr("dupq.models.sentence_transformers_io.write_fingerprints", full)
        with pytest.raises(OutputError, match="No space left"):
            train("cross-encoder", pairs, tmp_path / "network", short)
    assert [path.name for path in tmp_path.iterdir()] == [".network.checkpoints"]
    assert train("cross-encoder", pairs, tmp_path / "network", short)["resumed"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["network"]
