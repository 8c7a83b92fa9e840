"""The place in a long text at which the other question is asked, in text, data and HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupq import DuplicatePipeline
from dupq.errors import InputError
from dupq.explain.asked import Asked
from dupq.explain.explanation import explain
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.pair_heads.template import ResponseMap
from tests.fakes import WordEmbedder
from tests.models.test_pair_heads import pair_network

QUESTION = "Can I learn falconry?"
BEFORE, AFTER = "I have a <hawk> and live by a river. " * 5, "Thanks for any advice you have. " * 5
POST = f"{BEFORE}So, can I learn falconry? {AFTER}"
START = POST.index("can I")


def located(tokens: tuple[int, int] = (8, 90), start: int = START + 1, end: int = START + 14):
    """A network that finds one span, which begins and ends within words."""

    def locate(question1: str, question2: str) -> ResponseMap:
        template = 1 if len(question1) < len(question2) else 2
        responses, spans = np.array([0.1, 0.75, 0.2]), np.array([[0, 4], [start, end], [9, 12]])
        return ResponseMap(template, tokens, responses, spans)

    return locate


def test_the_span_is_found_in_whole_words_and_mirrored() -> None:
    found = explain(QUESTION, POST, locate=located())
    assert found.asked == Asked(2, START, START + len("can I learn falconry"), "can I learn falconry", 0.75)
    assert explain(POST, QUESTION, locate=located()) == found.mirrored()
    assert found.mirrored().asked == replace(found.asked, side=1)
    assert found.mirrored().mirrored() == found


def test_it_is_shown_as_text_data_and_html() -> None:
    found, plain = explain(QUESTION, POST, locate=located()), explain(QUESTION, POST)
    line = f"asked in 2:      can I learn falconry (characters {START} to {START + 20})"
    assert line in found.to_text().splitlines()
    assert [row for row in found.to_text().splitlines() if row != line] == plain.to_text().splitlines()
    data = found.to_dict()
    assert json.loads(json.dumps(data)) == data
    span = data.pop("asked")
    assert span == {"side": 2, "start": START, "end": START + 20, "text": "can I learn falconry", "response": 0.75}
    assert POST[span["start"] : span["end"]] == span["text"]
    assert data == plain.to_dict()
    page = found.to_html()
    marked = re.findall(r'<span class="[a-z ]*asked"[^>]*>([^<]*)</span>', page)
    assert "".join(marked) == "can I learn falconry"
    assert ".asked" in page
    assert "asked" not in plain.to_html()


@pytest.mark.parametrize(
    ("questions", "locate"),
    [
        ((QUESTION, "Could I learn falconry in the city?"), located()),
        ((QUESTION, POST), located(tokens=(50, 90))),
        ((QUESTION, POST), lambda a, b: None),
        ((QUESTION, POST), None),
    ],
)
def test_nothing_is_shown_of_short_texts_and_without_a_map(questions: Sequence[str], locate) -> None:
    assert explain(*questions, locate=locate) == explain(*questions)
    assert "asked" not in explain(*questions, locate=locate).to_dict()


def test_the_map_is_made_of_the_words_that_are_compared() -> None:
    seen: list[tuple[str, str]] = []

    def locate(question1: str, question2: str) -> None:
        seen.append((question1, question2))

    explain(QUESTION, "word " * 300, locate=locate)
    assert seen == [(QUESTION, ("word " * 250).strip())]


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(InputError, match="locate must be a function, got str"):
        explain(QUESTION, POST, locate="here")  # type: ignore[arg-type]


def test_a_pipeline_shows_it_where_its_network_makes_a_map(tiny_base: Path) -> None:
    matching, other = (
        DuplicatePipeline(cross_encoder=CrossEncoderScorer(pair_network(name, tiny_base)), bi_encoder=WordEmbedder())
        for name in ("TemplateMatching", "Hybrid")
    )
    found = matching.explain(QUESTION, POST)
    assert found.asked is not None
    assert found.asked.side == 2
    assert POST[found.asked.start : found.asked.end] == found.asked.text
    assert -1 <= found.asked.response <= 1
    assert matching.explain(POST, QUESTION) == found.mirrored()
    assert replace(found, asked=None) == other.explain(QUESTION, POST)
