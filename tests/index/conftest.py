from __future__ import annotations

from pathlib import Path

import pytest

from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.index.stored import IDS, TEXTS
from tests.questions import labelled_table


@pytest.fixture(scope="session")
def pipeline() -> DuplicatePipeline:
    """A calibrated pipeline that counts words."""
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "forum.db"


@pytest.fixture
def filled(path: Path, pipeline: DuplicatePipeline) -> QuestionIndex:
    """An index of `TEXTS` under `IDS`."""
    index = QuestionIndex(path, pipeline)
    index.add(IDS, TEXTS)
    return index
