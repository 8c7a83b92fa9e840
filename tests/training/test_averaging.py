from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dupq.errors import InputError, OutputError
from dupq.models.sentence_transformers_io import open_stock
from dupq.training.averaging import average
from tests.networks import save_tiny_base, save_tiny_cross_encoder


@pytest.fixture(scope="module")
def members(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    return [save_tiny_cross_encoder(folder / str(seed), tiny_base, seed) for seed in (1, 2)]


@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_every_weight_is_the_weighted_mean(members: list[Path], tmp_path: Path, weights: list[float] | None) -> None:
    record = average("cross-encoder", members, tmp_path / "mean", weights)
    a, b = record["average"]
    assert (a, b) == ((0.5, 0.5) if weights is None else (0.75, 0.25))
    first, second, mean = (
        open_stock("cross-encoder", str(f), "cpu").state_dict() for f in (*members, tmp_path / "mean")
    )
    for name, tensor in mean.items():
        assert torch.allclose(tensor, a * first[name] + b * second[name], atol=1e-6), name
    assert json.loads((tmp_path / "mean" / "dupq_training.json").read_text()) == record


def test_the_questions_of_all_members_are_kept(members: list[Path], tmp_path: Path) -> None:
    import shutil

    from dupq.models.sentence_transformers_io import QUESTIONS, read_fingerprints, write_fingerprints

    copies = [Path(shutil.copytree(member, tmp_path / member.name)) for member in members]
    for copy, seen in zip(copies, ([1, 5], [5, 7]), strict=True):
        write_fingerprints(copy / QUESTIONS, np.array(seen))
    average("cross-encoder", copies, tmp_path / "mean")
    assert read_fingerprints(tmp_path / "mean" / QUESTIONS).tolist() == [1, 5, 7]


def test_what_cannot_be_averaged_is_told(members: list[Path], tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an average needs two networks or more, got 1"):
        average("cross-encoder", members[:1], tmp_path / "mean")
    with pytest.raises(InputError, match="weights must be 2 numbers above 0"):
        average("cross-encoder", members, tmp_path / "mean", [1.0, 0.0])
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="there already"):
        average("cross-encoder", members, tmp_path / "there")
    other = save_tiny_base(tmp_path / "longer", seed=1)
    config = json.loads((other / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**{**config, "num_hidden_layers": 1})).save_pretrained(other)
    shorter = save_tiny_cross_encoder(tmp_path / "shorter", other)
    with pytest.raises(InputError, match="other names or shapes"):
        average("cross-encoder", [members[0], shorter], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
