"""Weight averaging of several networks into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupq.errors import InputError, OutputError
from dupq.models.sentence_transformers_io import open_stock, save_trained, training_record


def average(
    kind: str, folders: Sequence[str | Path], output: str | Path, weights: Sequence[float] | None = None
) -> dict[str, Any]:
    """Write the weighted mean of networks that were trained from one start.

    Unlike an ensemble, such a model soup (Wortsman et al. 2022) scores at the speed of one network. The mean of a
    fine-tuned network and its start retains more of the start (WiSE-FT, Wortsman et al. 2022).

    Args:
        kind: "bi-encoder" or "cross-encoder".
        folders: Two or more stock folders of one architecture.
        output: Folder to write, whole or not at all.
        weights: Positive weight of each folder, scaled to sum to 1. None = equal weights.

    Returns:
        The record in `dupq_training.json`: the weights, and the records of the members.

    Raises:
        InputError: Fewer than two folders, different architectures, or weights that do not fit.
        OutputError: The output exists or could not be written.
    """
    output = Path(output)
    shares = np.asarray(weights if weights is not None else [1.0] * len(folders), dtype=np.float64)
    if len(folders) < 2:
        raise InputError(f"an average needs two networks or more, got {len(folders)}", hint="name another folder")
    if shares.shape != (len(folders),) or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise InputError(
            f"weights must be {len(folders)} numbers above 0, got {shares.tolist()}", hint="give one for each network"
        )
    shares = shares / shares.sum()
    if output.exists():
        raise OutputError("something is there already", location=str(output), hint="name another folder")
    models = [open_stock(kind, str(folder), "cpu") for folder in folders]
    states = [model.state_dict() for model in models]
    shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in states]
    for folder, shape in zip(folders[1:], shapes[1:], strict=True):
        if shape != shapes[0]:
            raise InputError(
                f"its weights have other names or shapes than those of {folders[0]}",
                location=str(folder),
                hint="average networks of one architecture",
            )
    mean = {
        name: sum(share * state[name] for share, state in zip(shares.tolist(), states, strict=True))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
    models[0].load_state_dict(mean)
    members, questions = zip(*(training_record(Path(folder)) for folder in folders), strict=True)
    record = {"kind": kind, "average": shares.tolist(), "members": list(members), "log": []}
    seen = [prints for prints in questions if prints is not None]
    save_trained(models[0], output, record, np.unique(np.concatenate(seen)) if seen else None)
    return record
