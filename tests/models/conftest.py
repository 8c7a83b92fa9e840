"""Tiny networks whose scores differ from text to text, and their int8 forms."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from dupq.models.onnx.export import export
from dupq.models.onnx.runtime import RuntimeNetwork
from tests.questions import labelled_table

TABLE = labelled_table(24)


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
    return export(cross_folder, TABLE.left, TABLE.right)


@pytest.fixture(scope="module")
def bi_network(bi_folder: Path) -> RuntimeNetwork:
    return export(bi_folder, TABLE.left, TABLE.right)
