"""The pair networks: symmetric to the bit, blind to padding and batch, the same once saved, and able to learn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from torch import Tensor
from transformers import AutoTokenizer

from dupq.errors import ModelFolderError
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.pair_heads import MODULE_CLASSES, PAIR_HEADS
from dupq.models.pair_heads.pairs import PairEncoder, PairHead, masked_mean
from dupq.models.pair_heads.vectors import LearnedMetric
from tests.networks import HIDDEN, MAX_TOKENS
from tests.questions import labelled_table

TABLE = labelled_table(6)
TRAINED = sorted(set(PAIR_HEADS) - {"LearnedMetric"})
"""Those that gradients train."""


def pair_head(name: str, dimensions: int = 16, seed: int = 0) -> PairHead:
    torch.manual_seed(seed)
    sizes = {"dimensions": dimensions, **({"rank": 7} if name == "LearnedMetric" else {})}
    made = PAIR_HEADS[name](**sizes)
    if isinstance(made, LearnedMetric):
        torch.nn.init.normal_(made.root)
    # A layer that begins as 0 would hide what comes before it.
    for parameter in made.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, 0, 0.1)
    return made.eval()


def pair_network(name: str, base: Path) -> CrossEncoder:
    encoder = PairEncoder(
        str(base),
        max_seq_length=MAX_TOKENS,
        config_kwargs={"num_labels": 1},
        model_kwargs={"attn_implementation": "eager"},
    )
    return CrossEncoder(modules=[encoder, pair_head(name, HIDDEN)], device="cpu")


def batch(lengths: list[tuple[int, int]], tokens: int, dimensions: int = 16) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs of questions with the given numbers of tokens, padded to `tokens` with values that must not count."""
    draw = torch.Generator().manual_seed(len(lengths))
    sides = []
    for side in (0, 1):
        values = torch.full((len(lengths), tokens, dimensions), 99.0)
        mask = torch.zeros(len(lengths), tokens, dtype=torch.bool)
        for row, length in enumerate(lengths):
            values[row, : length[side]] = torch.randn(length[side], dimensions, generator=draw)
            mask[row, : length[side]] = True
        sides.append((values, mask))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


LENGTHS = [(5, 9), (2, 2), (12, 3), (1, 7), (8, 8), (3, 12)]


@pytest.mark.parametrize("name", PAIR_HEADS)
class TestEveryComparer:
    def test_a_pair_has_no_order_to_the_last_bit(self, name: str) -> None:
        left, right, left_mask, right_mask = batch(LENGTHS, 13)
        made = pair_head(name)
        forth = made.compare(left, right, left_mask, right_mask)
        assert torch.equal(forth, made.compare(right, left, right_mask, left_mask))
        assert forth.shape == (len(LENGTHS),)
        assert forth.std() > 1e-3

    @pytest.mark.parametrize("tokens", [12, 15, 24])
    def test_padding_changes_nothing(self, name: str, tokens: int) -> None:
        made = pair_head(name)
        together = made.compare(*batch(LENGTHS, 13))
        wider = made.compare(*batch(LENGTHS, tokens))
        assert torch.allclose(together, wider, atol=1e-5)

    def test_neighbours_change_nothing(self, name: str) -> None:
        made, sides = pair_head(name), batch(LENGTHS, 13)
        alone = [made.compare(*(side[row : row + 1] for side in sides)) for row in range(len(LENGTHS))]
        assert torch.allclose(made.compare(*sides), torch.cat(alone), atol=1e-5)

    def test_a_network_of_it_is_the_same_once_saved(self, name: str, tiny_base: Path, tmp_path: Path) -> None:
        scorer = CrossEncoderScorer(pair_network(name, tiny_base), batch_size=16)
        scores = scorer.score(TABLE.left, TABLE.right)
        assert np.std(scores) > 0
        assert np.array_equal(scores, scorer.score(TABLE.right, TABLE.left))
        scorer.save(tmp_path / "saved")
        again = CrossEncoderScorer(tmp_path / "saved", batch_size=16)
        assert np.array_equal(again.score(TABLE.left, TABLE.right), scores)
        assert again.fingerprint == scorer.fingerprint
        assert again.model[1].get_config_dict() == scorer.model[1].get_config_dict()
        assert not list((tmp_path / "saved").rglob("*.bin"))

    def test_stock_predict_has_no_order_and_sees_no_batch(self, name: str, tiny_base: Path) -> None:
        model = pair_network(name, tiny_base)
        pairs = list(zip(TABLE.left[:20], TABLE.right[:20], strict=True))
        forth = model.predict(pairs, batch_size=8)
        assert np.array_equal(forth, model.predict([(b, a) for a, b in pairs], batch_size=8))
        alone = np.array([model.predict([pair])[0] for pair in pairs])
        assert np.abs(forth - alone).max() < 1e-5
        assert forth.shape == (20,)
        assert 0 < forth.min() <= forth.max() < 1


def test_a_base_that_pads_on_the_left_is_padded_on_the_right(tiny_base: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(tiny_base, padding_side="left").save_pretrained(tmp_path / "base")
    for file in tiny_base.iterdir():
        if not (tmp_path / "base" / file.name).exists():
            shutil.copy(file, tmp_path / "base")
    assert AutoTokenizer.from_pretrained(tmp_path / "base").padding_side == "left"
    model = pair_network("TemplateMatching", tmp_path / "base")
    pairs = list(zip(TABLE.left[:6], TABLE.right[:6], strict=True))
    alone = np.array([model.predict([pair])[0] for pair in pairs])
    assert np.abs(model.predict(pairs) - alone).max() < 1e-5
    features = model.preprocess([("Who?", "Who is it, and why?")])
    assert features["attention_mask"][0].tolist() == sorted(features["attention_mask"][0].tolist(), reverse=True)


@pytest.mark.parametrize("name", TRAINED)
def test_it_learns_to_tell_pairs_apart_and_every_weight_takes_part(name: str) -> None:
    """Questions are four random words; a duplicate holds the same words reordered, a distinct pair two others."""
    draw = torch.Generator().manual_seed(1)
    words = torch.nn.functional.normalize(torch.randn(30, 16, generator=draw), dim=1) * 4
    picked = torch.stack([torch.randperm(30, generator=draw)[:6] for _ in range(240)])
    labels = (torch.arange(240) % 2).float()
    first = picked[:, :4]
    second = torch.where(labels[:, None] == 1, first, torch.cat([first[:, :2], picked[:, 4:]], dim=1))
    second = torch.stack([row[torch.randperm(4, generator=draw)] for row in second])
    mask = torch.ones(240, 4, dtype=torch.bool)
    made = pair_head(name).train()
    optimiser = torch.optim.Adam(made.parameters(), lr=5e-3)
    for _ in range(120):
        optimiser.zero_grad()
        scores = made.compare(words[first], words[second], mask, mask)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels)
        loss.backward()
        optimiser.step()
        right = ((scores > 0) == (labels == 1)).float().mean()
        if right > 0.95:
            break
    assert right > 0.9
    # A generator takes part in the training alone, through its own loss.
    scoring = [parameter for key, parameter in made.named_parameters() if not key.startswith("generator.")]
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in scoring)


def test_the_mean_leaves_padding_out() -> None:
    left, _, mask, _ = batch(LENGTHS, 13)
    expected = torch.stack([left[row, :length].mean(0) for row, (length, _) in enumerate(LENGTHS)])
    assert torch.allclose(masked_mean(left, mask), expected, atol=1e-6)


def test_a_learned_metric_is_a_distance_between_unit_vectors() -> None:
    made, (left, right, left_mask, right_mask) = pair_head("LearnedMetric"), batch(LENGTHS, 13)
    assert isinstance(made, LearnedMetric)
    with torch.no_grad():
        made.slope.fill_(2.0)
        made.offset.fill_(0.5)
    scores = made.compare(left, right, left_mask, right_mask)
    for row, (a, b) in enumerate(LENGTHS):
        u, v = left[row, :a].mean(0), right[row, :b].mean(0)
        difference = made.root @ (u / u.norm() - v / v.norm())
        assert float(scores[row]) == pytest.approx(0.5 - 2.0 * float(difference @ difference), abs=1e-4)


def test_questions_are_encoded_apart(tiny_base: Path) -> None:
    model = pair_network("Hybrid", tiny_base)
    features = model.preprocess([("Who?", "Is archery fun?"), ("Why?", "What?")])
    texts = model.tokenizer.batch_decode(features["input_ids"], skip_special_tokens=True)
    assert [text.replace(" ", "") for text in texts] == ["isarcheryfun?", "what?", "who?", "why?"]


@pytest.mark.parametrize(
    "name",
    ["dupq.models.pair_heads.vectors.Unknown", "dupq.models.pair_heads.pairs.Transformer", "evil.comparers.Hybrid"],
)
def test_a_foreign_class_is_refused(name: str, tiny_base: Path, tmp_path: Path) -> None:
    CrossEncoderScorer(pair_network("Hybrid", tiny_base)).save(tmp_path / "saved")
    path = tmp_path / "saved" / "modules.json"
    content: list[dict[str, Any]] = json.loads(path.read_text())
    assert {module["type"] for module in content} <= set(MODULE_CLASSES)
    content[1]["type"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFolderError):
        CrossEncoderScorer(tmp_path / "saved")


def test_weights_that_do_not_fit_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    CrossEncoderScorer(pair_network("Hybrid", tiny_base)).save(tmp_path / "saved")
    path = tmp_path / "saved" / "1_Hybrid" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden": 5}))
    with pytest.raises(ModelFolderError, match="cannot be opened"):
        CrossEncoderScorer(tmp_path / "saved")
