from __future__ import annotations

from pathlib import Path

import pytest

from dupq.data.pairs import PairTable
from dupq.training.trainer import TrainSettings
from tests.questions import labelled_table


@pytest.fixture(scope="module")
def settings(tiny_base: Path) -> TrainSettings:
    """10 steps an epoch for the cross-encoder, 16 for the bi-encoder."""
    return TrainSettings(
        base=str(tiny_base),
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
        max_length=32,
        dropout=0.1,
        precision="float32",
        save_steps=4,
    )


@pytest.fixture(scope="module")
def pairs() -> PairTable:
    return labelled_table(8)
