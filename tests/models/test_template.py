"""Template matching: its response map against a slow loop, and the place in a long text that it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import BertModel

from dupq.errors import InputError
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.pair_heads.pairs import PairEncoder
from dupq.models.pair_heads.template import TemplateMatching, response_map
from tests.models.test_pair_heads import LENGTHS, batch, pair_head, pair_network
from tests.networks import HIDDEN, MAX_TOKENS, save_tiny_base

QUESTION = "How can I learn falconry?"
BEFORE = "Chess is fun. Why do people enjoy surfing so much? " * 9
AFTER = " Is rowing an expensive hobby? Who invented pottery?" * 5


@pytest.fixture(scope="module")
def word_network(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """A network whose token states depend on nothing but the token."""
    base = save_tiny_base(tmp_path_factory.mktemp("words") / "base", layers=1)
    bert = BertModel.from_pretrained(base)
    with torch.no_grad():
        bert.embeddings.position_embeddings.weight.zero_()
        for name, parameter in bert.encoder.named_parameters():
            if "output.dense" in name:
                parameter.zero_()
    bert.save_pretrained(base)
    encoder = PairEncoder(str(base), max_seq_length=MAX_TOKENS, config_kwargs={"num_labels": 1})
    return CrossEncoder(modules=[encoder, pair_head("TemplateMatching", HIDDEN)], device="cpu")


def test_the_map_is_a_weighted_correlation_at_each_place() -> None:
    head = pair_head("TemplateMatching")
    assert isinstance(head, TemplateMatching)
    left, right, left_mask, right_mask = batch(LENGTHS, 13)
    with torch.no_grad():
        found = head.response_map(left, right, left_mask, right_mask)
        scores = head.compare(left, right, left_mask, right_mask)
        for row, lengths in enumerate(LENGTHS):
            maps = []
            for (text, m), (other, s) in (
                ((left[row], lengths[0]), (right[row], lengths[1])),
                ((right[row], lengths[1]), (left[row], lengths[0])),
            ):
                z, x = (embedded_alone(head, side[:size]) for side, size in ((text, m), (other, s)))
                weights = head.matter(text[:m]).squeeze(1).softmax(0)
                expected = {}
                for offset in range(-(m // 2), s - (m + 1) // 2 + 1):
                    pairs = [(k, k + offset) for k in range(m) if 0 <= k + offset < s]
                    expected[offset] = sum(float(weights[k] * (z[k] @ x[j])) for k, j in pairs)
                maps.append(expected)
            for column, value in enumerate(found[row].tolist()):
                assert value == pytest.approx(maps[0].get(column - 12, -np.inf), abs=1e-5)
            best = [max(one.values()) for one in maps]
            shorter = lengths[0] - lengths[1]
            wanted = (best[0] + best[1]) / 2 if not shorter else best[0] if shorter < 0 else best[1]
            assert float(scores[row]) == pytest.approx(float(head.log_scale.exp() * wanted + head.offset), abs=1e-4)


def embedded_alone(head: TemplateMatching, tokens: torch.Tensor) -> torch.Tensor:
    """The unit vector of each token of one text without padding, by a loop over places."""

    def convolved(layer: torch.nn.Conv1d, values: list[torch.Tensor]) -> list[torch.Tensor]:
        none = torch.zeros_like(values[0])
        around = [none, *values, none]
        taps = [layer.weight[:, :, tap] for tap in range(3)]
        return [
            sum((taps[tap] @ around[place + tap] for tap in range(3)), layer.bias)  # type: ignore[arg-type]
            for place in range(len(values))
        ]

    hidden = [value.relu() for value in convolved(head.first, list(tokens))]
    return torch.stack([value / value.norm() for value in convolved(head.second, hidden)])


@pytest.mark.parametrize("before", ["", BEFORE[:50], BEFORE])
@pytest.mark.parametrize("after", ["", AFTER])
def test_the_place_of_a_question_is_found_in_a_long_text(word_network: CrossEncoder, before: str, after: str) -> None:
    post = before + QUESTION + after
    found = response_map(word_network, QUESTION, post)
    assert found is not None
    start, end = found.best
    assert post[start:end] == QUESTION
    assert found.template == 1
    assert found.tokens[0] < found.tokens[1] or not (before or after)
    assert len(found.responses) == len(found.spans)
    assert found.responses.max() <= 1 + 1e-6
    other = response_map(word_network, post, QUESTION)
    assert other is not None
    assert (other.template, other.best) == (2 if before or after else 1, found.best)
    assert np.array_equal(other.responses, found.responses)


def test_the_score_is_that_of_the_largest_response(word_network: CrossEncoder) -> None:
    scorer, post = CrossEncoderScorer(word_network), "Chess is fun. " + QUESTION + " Who invented it?"
    found, head = scorer.response_map(post, QUESTION), word_network[1]
    assert found is not None
    assert isinstance(head, TemplateMatching)
    expected = head.log_scale.exp().item() * found.responses.max() + head.offset.item()
    assert scorer.score([post], [QUESTION])[0] == pytest.approx(expected, abs=1e-4)


def test_spans_cover_the_text_in_its_order(word_network: CrossEncoder) -> None:
    post = BEFORE + QUESTION + AFTER
    found = response_map(word_network, QUESTION, post)
    assert found is not None
    assert found.spans[0, 0] == 0
    assert found.spans[-1, 1] == len(post)
    assert (np.diff(found.spans[:, 0]) >= 0).all()
    assert (found.spans[:, 0] < found.spans[:, 1]).all()


def test_there_is_no_map_without_the_head_or_without_tokens(tiny_base: Path, word_network: CrossEncoder) -> None:
    assert CrossEncoderScorer(pair_network("Hybrid", tiny_base)).response_map(QUESTION, AFTER) is None
    assert response_map(word_network, "\u0301", QUESTION) is None  # an accent alone, which the tokenizer strips
    with pytest.raises(InputError, match="question2: the text is blank"):
        response_map(word_network, QUESTION, " ")
