"""`dupq explain` and `DuplicatePipeline.explain`: with and without decisions, as text, HTML and JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dupq import DuplicatePipeline
from dupq.cli import explain
from dupq.cli.main import main
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

QUESTIONS = ("Who invented chess in 1500?", "Who invented chess in 1600?")


@pytest.fixture(scope="module")
def deciding() -> DuplicatePipeline:
    bare = DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder())
    return bare.calibrate(labelled_table(96))


@pytest.fixture
def opened(deciding: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch) -> DuplicatePipeline:
    """Replace the pipeline that the command opens."""
    monkeypatch.setattr(explain, "open_pipeline", lambda args: deciding)
    return deciding


def test_a_pipeline_explains_with_its_score_and_vectors(deciding: DuplicatePipeline) -> None:
    explanation = deciding.explain(*QUESTIONS)
    assert explanation.result == deciding.score(*QUESTIONS)
    assert explanation.vectors
    assert [str(conflict.kind) for conflict in explanation.conflicts] == ["number"]
    assert deciding.explain(*reversed(QUESTIONS)) == explanation.mirrored()


def test_a_pipeline_that_does_not_decide_explains_all_the_same(deciding: DuplicatePipeline) -> None:
    bare = replace(deciding, bi_encoder=None, calibrator=None, rule=None)
    explanation = bare.explain(*QUESTIONS)
    assert explanation.result is None
    assert not explanation.vectors
    assert explanation.conflicts


def test_the_command_tells_in_text(opened: DuplicatePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *QUESTIONS]) == 0
    out = capsys.readouterr().out
    assert out == opened.explain(*QUESTIONS).to_text() + "\n"
    assert "1500 | 1600" in out


def test_the_command_writes_json_and_html(
    opened: DuplicatePipeline, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "pair.html"
    assert main(["explain", *QUESTIONS, "--json", "--html", str(page)]) == 0
    assert json.loads(capsys.readouterr().out) == opened.explain(*QUESTIONS).to_dict()
    assert page.read_text(encoding="utf-8") == opened.explain(*QUESTIONS).to_html()


def test_colour_is_for_terminals_that_want_it(
    opened: DuplicatePipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for settings, coloured in (
        ({"NO_COLOR": "", "TERM": "xterm"}, True),
        ({"NO_COLOR": "1", "TERM": "xterm"}, False),
        ({"NO_COLOR": "", "TERM": "dumb"}, False),
    ):
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        assert main(["explain", *QUESTIONS]) == 0
        assert ("\033[" in capsys.readouterr().out) == coloured


def test_a_blank_question_is_told(opened: DuplicatePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "Who?", " "]) == 2
    assert "the second question" in capsys.readouterr().err
