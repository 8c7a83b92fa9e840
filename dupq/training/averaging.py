"""One network of several: the weighted mean of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupq.errors import InputError, OutputError
from dupq.models.stock import open_stock, save_trained, training_record


def average(
    kind: str, folders: Sequence[str | Path], output: str | Path, weights: Sequence[float] | None = None
) -> dict[str, Any]:
    """Writes the mean of networks that were trained from one start (model soups, Wortsman et al. 2022).

    It costs no time when it scores, unlike an ensemble, and is often better than each of its members. A trained network
    averaged with the one it started from keeps more of what that one knew (WiSE-FT, Wortsman et al. 2022).

    Args:
        kind: "bi-encoder" or "cross-encoder".
        folders: Two or more stock folders of one architecture.
        output: The folder to write, whole or not at all.
        weights: One a folder, each above 0; they are scaled to sum to 1. None: all alike.

    Returns:
        The record that is also written to `dupq_training.json`: the weights, and the records of the members.

    Raises:
        InputError: Fewer than two folders, unequal architectures, or weights that do not fit.
        OutputError: Something is at `output` already, or it could not be written.
    """
    output = Path(output)
    shares = np.asarray(weights if weights is not None else [1.0] * len(folders), dtype=np.float64)
    if len(folders) < 2 or shares.shape != (len(folders),) or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise InputError(
            f"{len(folders)} networks and the weights {shares.tolist()} make no average",
            mend="name two networks or more, and a weight above 0 for each",
        )
    shares = shares / shares.sum()
    if output.exists():
        raise OutputError("something is there already", where=str(output), mend="name another folder")
    models = [open_stock(kind, str(folder), "cpu") for folder in folders]
    states = [model.state_dict() for model in models]
    shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in states]
    for folder, shape in zip(folders[1:], shapes[1:], strict=True):
        if shape != shapes[0]:
            raise InputError(
                f"its weights have other names or shapes than those of {folders[0]}",
                where=str(folder),
                mend="average networks of one architecture",
            )
    mean = {
        name: sum(share * state[name] for share, state in zip(shares.tolist(), states, strict=True))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
    models[0].load_state_dict(mean)
    told = [training_record(Path(folder)) for folder in folders]
    record = {"kind": kind, "average": shares.tolist(), "members": [record for record, _ in told], "log": []}
    seen = [questions for _, questions in told if questions is not None]
    save_trained(models[0], output, record, np.unique(np.concatenate(seen)) if seen else None)
    return record
