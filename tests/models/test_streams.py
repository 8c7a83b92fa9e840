"""Pseudo-Siamese and two-channel streams against slow loops over single questions without padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dupq.models.pair_heads.streams import PseudoSiamese, TwoChannel
from tests.models.test_pair_heads import LENGTHS, batch, pair_head


def stream(made: nn.Module, values: Tensor) -> Tensor:
    """Two convolutions over the places of one text, (places, channels), by a loop, and the maximum."""
    for layer in (made.first, made.second):
        assert isinstance(layer, nn.Conv1d)
        none = values.new_zeros(1, values.shape[1])
        around = torch.cat([none, values, none])
        rows = [
            sum(layer.weight[:, :, tap] @ around[place + tap] for tap in range(3)) + layer.bias
            for place in range(len(values))
        ]
        values = torch.stack(rows).relu()
    return values.amax(0)


def test_both_assignments_of_two_branches_are_averaged() -> None:
    head, (left, right, left_mask, right_mask) = pair_head("PseudoSiamese"), batch(LENGTHS, 13)
    assert isinstance(head, PseudoSiamese)
    with torch.no_grad():
        scores = head.compare(left, right, left_mask, right_mask)
        for row, (a, b) in enumerate(LENGTHS):
            x, y = left[row, :a], right[row, :b]
            both = [
                float(head.classify(torch.cat([stream(head.one, one), stream(head.other, other)])))
                for one, other in ((x, y), (y, x))
            ]
            assert abs(both[0] - both[1]) > 1e-6
            assert float(scores[row]) == pytest.approx(sum(both) / 2, abs=1e-5)
    assert not torch.equal(head.one.first.weight, head.other.first.weight)


def test_two_channels_are_each_token_and_its_aligned_counterpart() -> None:
    head, (left, right, left_mask, right_mask) = pair_head("TwoChannel"), batch(LENGTHS, 13)
    assert isinstance(head, TwoChannel)
    with torch.no_grad():
        scores = head.compare(left, right, left_mask, right_mask)
        for row, (a, b) in enumerate(LENGTHS):
            both = []
            for here, there in ((left[row, :a], right[row, :b]), (right[row, :b], left[row, :a])):
                x, y = head.project(here), head.project(there)
                channels = torch.stack([torch.cat([one, ((y @ one) / head.hidden**0.5).softmax(0) @ y]) for one in x])
                pooled = torch.stack([channels[at : at + 2].mean(0) for at in range(0, len(channels), 2)])
                summary = torch.cat([stream(head.fine, channels), stream(head.coarse, pooled)])
                both.append(float(head.classify(summary)))
            assert float(scores[row]) == pytest.approx(sum(both) / 2, abs=1e-5)
