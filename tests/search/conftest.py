from __future__ import annotations

import pytest

from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table


@pytest.fixture(scope="session")
def pipeline() -> DuplicatePipeline:
    """A calibrated pipeline that counts words."""
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
