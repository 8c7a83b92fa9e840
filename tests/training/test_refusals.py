"""What cannot be trained, and what a training that fails leaves behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dupq.data.splits import PairTable
from dupq.errors import InputError, ModelFolderError, OutputError, TrainingError
from dupq.training.trainer import TrainSettings, train

KINDS = ("bi-encoder", "cross-encoder")


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], [1, -1], [0, 1, -1], []])
def test_labels_that_cannot_be_trained_on(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, labels: list[int]
) -> None:
    n = len(labels)
    bad = PairTable(pairs.left[:n], pairs.right[:n], np.array(labels, dtype=np.int8))
    with pytest.raises(InputError, match="cannot be trained on"):
        train("bi-encoder", bad, tmp_path / "network", settings)
    with pytest.raises(InputError, match="cannot be validated on"):
        train("bi-encoder", pairs, tmp_path / "network", settings, validation=bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0.0},
        {"epochs": float("nan")},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"max_length": 2},
        {"dropout": 1.0},
        {"precision": "bf16"},
        {"max_steps": 0},
        {"save_steps": 0},
    ],
)
def test_settings_that_cannot_be_trained_with(settings: TrainSettings, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(bad))} = .* cannot be trained with"):
        replace(settings, **bad)


def test_an_unknown_kind(settings: TrainSettings, pairs: PairTable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'biencoder' is no kind of network"):
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
    assert str(base) in str(caught.value.where)
    assert not (tmp_path / "network").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_collapse_is_told_and_leaves_nothing(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, kind: Any
) -> None:
    with pytest.raises(TrainingError, match=r"training has collapsed \(.* not finite") as caught:
        train(kind, pairs, tmp_path / "network", replace(settings, learning_rate=1e38, dropout=0.0))
    assert "lower the learning rate" in str(caught.value.mend)
    assert list(tmp_path.iterdir()) == []


def test_a_collapse_is_seen_long_before_the_end(settings: TrainSettings, pairs: PairTable, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is not finite at step 50"):
        train("cross-encoder", pairs, tmp_path / "network", replace(settings, learning_rate=1e38, max_steps=100_000))


def test_a_network_that_cannot_be_written_is_written_the_next_time(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    short = replace(settings, max_steps=5)
    with monkeypatch.context() as patch:
        patch.setattr("dupq.models.stock.write_fingerprints", full)
        with pytest.raises(OutputError, match="No space left"):
            train("cross-encoder", pairs, tmp_path / "network", short)
    assert [path.name for path in tmp_path.iterdir()] == [".network.checkpoints"]
    assert train("cross-encoder", pairs, tmp_path / "network", short)["resumed"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["network"]
