from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder

from dupq.training.losses import UnorderedBinaryCrossEntropyLoss
from tests.questions import labelled_table


@pytest.fixture
def model(tiny_cross_encoder: Path) -> CrossEncoder:
    model = CrossEncoder(str(tiny_cross_encoder), device="cpu")
    # In an untrained network it would hardly show which text is first.
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.5)
    return model.eval()


def slow_loss(model: CrossEncoder, left: list[str], right: list[str], labels: list[float], coins: list[bool]) -> float:
    total = 0.0
    for a, b, label, coin in zip(left, right, labels, coins, strict=True):
        pair = (b, a) if coin else (a, b)
        logit = float(model.predict([pair], activation_fn=torch.nn.Identity(), show_progress_bar=False)[0])
        probability = 1 / (1 + math.exp(-logit))
        total -= label * math.log(probability) + (1 - label) * math.log(1 - probability)
    return total / len(left)


def test_it_is_the_cross_entropy_of_pairs_swapped_by_a_coin(model: CrossEncoder) -> None:
    table = labelled_table(2)
    left, right, labels = table.left[:12], table.right[:12], table.labels[:12].astype(float).tolist()
    torch.manual_seed(5)
    loss = UnorderedBinaryCrossEntropyLoss(model)([left, right], torch.tensor(labels)).item()
    torch.manual_seed(5)
    coins = (torch.rand(12) < 0.5).tolist()
    assert 2 < sum(coins) < 10
    assert loss == pytest.approx(slow_loss(model, left, right, labels, coins), rel=1e-5)
    assert loss != pytest.approx(slow_loss(model, left, right, labels, [False] * 12), rel=1e-2)


def test_both_orders_are_learnt_from_as_often(model: CrossEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    def watched(pairs: list[tuple[str, str]], **kwargs: object) -> dict[str, torch.Tensor]:
        seen.extend(pairs)
        return whole(pairs, **kwargs)

    whole = model.preprocess
    monkeypatch.setattr(model, "preprocess", watched)
    torch.manual_seed(0)
    loss = UnorderedBinaryCrossEntropyLoss(model)
    for _ in range(20):
        loss([["a"] * 50, ["b"] * 50], torch.ones(50))
    swapped = sum(pair == ("b", "a") for pair in seen)
    assert len(seen) == 1000
    assert abs(swapped - 500) < 5 * math.sqrt(250)


def test_the_gradient_reaches_the_network(model: CrossEncoder) -> None:
    UnorderedBinaryCrossEntropyLoss(model)(
        [["Is it?", "Who?"], ["Was it?", "What?"]], torch.tensor([1.0, 0.0])
    ).backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "pooler" not in name)
