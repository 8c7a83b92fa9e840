"""Which arithmetic is faster."""

from __future__ import annotations

import pytest
import torch

import dupq.training.precision
from dupq.training.precision import bfloat16_is_faster


@pytest.mark.parametrize(("float32", "bfloat16", "expected"), [(4.0, 1.0, True), (1.0, 4.0, False), (1.2, 1.0, False)])
def test_bfloat16_is_used_where_it_is_measured_to_be_faster(
    monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float, expected: bool
) -> None:
    clock = [0.0]

    def linear(rows: torch.Tensor, weights: torch.Tensor) -> None:
        clock[0] += {torch.float32: float32, torch.bfloat16: bfloat16}[rows.dtype]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    monkeypatch.setattr(dupq.training.precision.time, "perf_counter", lambda: clock[0])
    assert bfloat16_is_faster() is expected


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_only_emulates_bfloat16_does_without(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert bfloat16_is_faster() is native


def test_the_probe_answers_on_this_machine() -> None:
    assert bfloat16_is_faster(repeats=1) in (True, False)
