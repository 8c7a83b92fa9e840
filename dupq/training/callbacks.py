"""Callbacks that warn or stop a training run, and change nothing that it learns."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback

if TYPE_CHECKING:
    import torch
    from sentence_transformers.base.model import BaseModel

MAX_MEAN_COSINE = 0.99
"""Mean pairwise cosine of a batch from which on a collapse warning is issued."""
MIN_SCORE_SPREAD = 1e-3
"""Standard deviation of the scores of a batch up to which a collapse warning is issued."""


class CollapseWarning(UserWarning):
    """Nearly constant outputs of a network, whatever its input."""


class StopIfNotFinite(TrainerCallback):
    """Callback that raises FloatingPointError when the loss is not finite."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            raise FloatingPointError(f"the loss is not finite at step {state.global_step}")


class CollapseCallback(TrainerCallback):
    """Callback that issues one `CollapseWarning` for nearly equal outputs of a batch.

    A loss without a term that pushes distinct questions apart is lowest where all embeddings are equal (Hadsell, Chopra
    & LeCun 2006), so the loss does not show a collapse; the outputs do.

    Attributes:
        message: Message of the warning; None before one is issued.
    """

    def __init__(self, model: BaseModel) -> None:
        self.message: str | None = None
        self._outputs: list[torch.Tensor] = []
        self._key = "scores"
        model.register_forward_hook(self._keep_outputs)

    def _keep_outputs(self, model: BaseModel, inputs: Any, outputs: dict[str, Any]) -> None:
        if not model.training:
            return
        self._key = "sentence_embedding" if "sentence_embedding" in outputs else "scores"
        # The two columns of a batch may come in two forward passes.
        self._outputs = [*self._outputs[-1:], outputs[self._key].detach()]

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self.message is None and self._outputs and "loss" in (logs or {}):
            collapse = describe_collapse(self._key, self._outputs)
            if collapse is not None:
                self.message = f"the network is collapsing at step {state.global_step}: {collapse}"
                warnings.warn(self.message, CollapseWarning, stacklevel=2)


def describe_collapse(key: str, outputs: list[torch.Tensor]) -> str | None:
    """Describe nearly equal outputs of a batch, with a remedy.

    Return None for other outputs.

    Args:
        key: "sentence_embedding" for tensors (n, d), "scores" for tensors (n, 1).
        outputs: Tensors of the latest forward passes.
    """
    import torch

    values = torch.cat([part.float() for part in outputs])
    if len(values) < 4:
        return None
    if key == "scores":
        spread = float(values.std())
        if spread > MIN_SCORE_SPREAD:
            return None
        return (
            f"the scores of the last {len(values)} pairs have mean {float(values.mean()):.3f} and standard deviation "
            f"{spread:.1e}; lower the learning rate, or check that the labels differ"
        )
    unit = torch.nn.functional.normalize(values, dim=1)
    cosines = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool, device=unit.device)]
    mean = float(cosines.mean())
    if mean < MAX_MEAN_COSINE:
        return None
    return (
        f"the cosines between the last {len(values)} questions have mean {mean:.4f} and standard deviation "
        f"{float(cosines.std()):.1e}; use a loss with a term that pushes distinct questions apart, raise its margin, "
        "or lower the learning rate"
    )


def isolate_validation_rng(trainer: Any) -> None:
    """Restore torch's random state after each validation.

    Validating then does not change the training.
    """
    import torch

    evaluate = trainer.evaluate

    def isolated(*args: Any, **kwargs: Any) -> Any:
        with torch.random.fork_rng():
            return evaluate(*args, **kwargs)

    trainer.evaluate = isolated
