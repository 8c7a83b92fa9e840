"""What watches a training run, and changes nothing that is learned."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback

if TYPE_CHECKING:
    import torch
    from sentence_transformers.base.model import BaseModel

ALIKE = 0.99
"""Mean cosine between different questions from which embeddings are told to collapse."""
UNMOVED = 1e-3
"""Standard deviation of the scores of a batch up to which a pair network is told to collapse."""


class CollapseWarning(UserWarning):
    """A network gives nearly the same answer whatever it reads."""


class StopIfNotFinite(TrainerCallback):
    """Stops a run whose loss is not finite, by FloatingPointError."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            raise FloatingPointError(f"the loss is not finite at step {state.global_step}")


class WatchForCollapse(TrainerCallback):
    """Warns, once, when the last batch before a log says that all outputs have become one.

    Without a term that pushes distinct questions apart, the best a loss can do is to embed all of them alike (Hadsell,
    Chopra & LeCun 2006); its value then looks splendid. What the batch says is seen here instead.

    Attributes:
        told: The warning that was given, or None.
    """

    def __init__(self, model: BaseModel) -> None:
        self.told: str | None = None
        self._parts: list[torch.Tensor] = []
        self._key = "scores"
        model.register_forward_hook(self._see)

    def _see(self, model: BaseModel, inputs: Any, outputs: dict[str, Any]) -> None:
        if not model.training:
            return
        self._key = "sentence_embedding" if "sentence_embedding" in outputs else "scores"
        # The columns of a batch may come one by one: the last two are kept.
        self._parts = [*self._parts[-1:], outputs[self._key].detach()]

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self.told is None and self._parts and "loss" in (logs or {}):
            problem = collapse(self._key, self._parts)
            if problem is not None:
                self.told = f"the network is collapsing at step {state.global_step}: {problem}"
                warnings.warn(self.told, CollapseWarning, stacklevel=2)


def collapse(key: str, parts: list[torch.Tensor]) -> str | None:
    """What is wrong with the outputs of a batch, in figures; None where they differ as they should.

    Args:
        key: "sentence_embedding": tensors (n, d). "scores": tensors (n, 1).
        parts: Tensors of the latest forward passes.
    """
    import torch

    values = torch.cat([part.float() for part in parts])
    if len(values) < 4:
        return None
    if key == "scores":
        spread = float(values.std())
        if spread > UNMOVED:
            return None
        return (
            f"the scores of the last {len(values)} pairs have mean {float(values.mean()):.3f} and standard deviation "
            f"{spread:.1e}; lower the learning rate, or check that the labels differ"
        )
    unit = torch.nn.functional.normalize(values, dim=1)
    cosines = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool, device=unit.device)]
    mean = float(cosines.mean())
    if mean < ALIKE:
        return None
    return (
        f"the cosines between the last {len(values)} questions have mean {mean:.4f} and standard deviation "
        f"{float(cosines.std()):.1e}; use a loss with a term that pushes distinct questions apart, raise its margin, "
        "or lower the learning rate"
    )


def watch_aside(trainer: Any) -> None:
    """Has validation throw coins of its own: whether a run is watched must not change what it learns."""
    import torch

    evaluate = trainer.evaluate

    def aside(*args: Any, **kwargs: Any) -> Any:
        with torch.random.fork_rng():
            return evaluate(*args, **kwargs)

    trainer.evaluate = aside
