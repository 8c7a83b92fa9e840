from __future__ import annotations

from pathlib import Path

import pytest

from dupq.forum.index import QuestionIndex
from dupq.forum.legibility import notes_on
from dupq.models.bi_encoder import BiEncoder
from dupq.models.scorers import Embedder
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer


@pytest.fixture(scope="module", params=["torch", "int8"])
def embedder(request: pytest.FixtureRequest, tiny_bi_encoder: Path) -> Embedder:
    if request.param == "torch":
        return BiEncoder(tiny_bi_encoder)
    pipeline = DuplicatePipeline.from_pretrained()
    assert pipeline.embedder is not None
    return pipeline.embedder


def test_a_plain_question_needs_no_note(embedder: Embedder) -> None:
    assert notes_on(embedder, "How can I learn chess?") == ()
    assert notes_on(embedder, "Go?") == ()


def test_what_is_cut_off_is_told(embedder: Embedder) -> None:
    (note,) = notes_on(embedder, "How can I learn chess? " * 200)
    assert "are read; the rest is cut off" in note
    assert "1,200 tokens" in note


def test_another_language_is_told(embedder: Embedder) -> None:
    (note,) = notes_on(embedder, "क्या आप शतरंज खेलते हैं और क्यों")
    assert "language" in note


def test_nothing_is_said_of_an_embedder_without_a_tokenizer(pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    assert notes_on(WordEmbedder(), "How can I learn chess? " * 200) == ()


def test_a_flag_carries_the_notes(pipeline: DuplicatePipeline, tiny_bi_encoder: Path, tmp_path: Path) -> None:
    judge = DuplicatePipeline(
        WordScorer(), BiEncoder(tiny_bi_encoder), calibrator=pipeline.calibrator, rule=pipeline.rule
    )
    with QuestionIndex(tmp_path / "forum.db", judge) as index:
        index.add([1], ["How can I learn chess?"])
        report = index.flag("How can I learn chess? " * 200)
        assert "cut off" in report.notes[0]
        assert report.at(threshold=0.5).notes == report.notes
        assert index.flag("How can I learn chess?").notes == ()
