"""Dimension reduction of a bi-encoder by principal components."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_int, as_number
from dupq.errors import InputError, OutputError
from dupq.models.sentence_transformers_io import open_stock, save_trained, training_record

MAX_TEXTS = 20_000
"""Maximum number of texts in the fit; the components change little with more."""


def reduce_dimensions(
    folder: str | Path, texts: Sequence[str], output: str | Path, dimensions: int, *, power: float = 0.0
) -> dict[str, Any]:
    """Write a bi-encoder with fewer dimensions.

    A stock `Dense` module is put behind its pooling. The module projects onto the first principal components of the
    embeddings, not centred (Pearson 1901). Half the dimensions take half the space in an index. Measure the effect on
    ranking with labelled pairs.

    Args:
        folder: Stock `SentenceTransformer` of an encoder, a pooling and optionally a normalisation.
        texts: Questions, best those of the training; of more than `MAX_TEXTS`, a random sample is used.
        output: Folder to write, whole or not at all.
        dimensions: Number of dimensions: at least 1, below the present number, and at most the number of distinct
            texts.
        power: Exponent, at least 0. Each component is scaled by its singular value to this power; 0 = no scaling.

    Returns:
        The record in `dupq_training.json`: "dimensions", "power", "texts", "kept" (the share of the squared length),
        and the record of the original network as "of".

    Raises:
        InputError: An argument is out of range, or the network has other modules.
        ModelFolderError: The folder cannot be opened.
        OutputError: The output exists or could not be written.
    """
    import torch
    from sentence_transformers.base.modules import Dense

    output = Path(output)
    if output.exists():
        raise OutputError("something is there already", location=str(output), hint="name another folder")
    check_reduction(dimensions, power)
    model = open_stock("bi-encoder", str(folder), "cpu")
    names = [type(module).__name__ for module in model]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"its modules must be an encoder and a pooling, got {', '.join(names)}",
            location=str(folder),
            hint="reduce the network that it was made from",
        )
    distinct = sorted(set(texts))
    width = int(model.get_embedding_dimension())
    if not dimensions < width or len(distinct) < dimensions:
        raise InputError(
            f"dimensions must be below {width} and at most {len(distinct)}, the number of distinct texts, "
            f"got {dimensions}",
            hint="give fewer dimensions or more texts",
        )
    drawn = np.random.default_rng(0).permutation(len(distinct))[:MAX_TEXTS]
    vectors = model.encode([distinct[row] for row in drawn], normalize_embeddings=True).astype(np.float64)
    projection, kept = principal_directions(vectors, dimensions, power)
    matrix = torch.tensor(projection, dtype=torch.float32)
    model.insert(2, Dense(width, dimensions, bias=False, activation_function=None, init_weight=matrix))
    original, seen = training_record(Path(folder))
    record = {"kind": "bi-encoder", "dimensions": dimensions, "power": power, "texts": len(vectors), "kept": kept}
    record |= {"of": original, "log": []}
    save_trained(model, output, record, seen)
    return record


def check_reduction(dimensions: int, power: float) -> None:
    """Raise InputError for an invalid argument of `reduce_dimensions`."""
    as_int(dimensions, "dimensions", 1)
    as_number(power, "power", 0, np.inf, hint="give a number such as 0 or 0.1")


def principal_directions(
    vectors: NDArray[np.floating[Any]], dimensions: int, power: float = 0.0
) -> tuple[NDArray[np.float64], float]:
    """Return the first principal directions of n vectors, and the share they keep.

    The share is of the squared length.

    Args:
        vectors: (n, d).
        dimensions: Number of directions, at most d.
        power: Exponent of the scaling by singular values, relative to the first; a common factor changes no cosine.

    Returns:
        float64 array (dimensions, d), and a share in [0, 1].
    """
    exact = np.asarray(vectors, dtype=np.float64)
    squares, directions = np.linalg.eigh(exact.T @ exact)  # in rising order
    squares, directions = np.maximum(squares[::-1], 0), directions[:, ::-1]
    weights = (squares[:dimensions] / squares[0]) ** (power / 2)
    return (directions[:, :dimensions] * weights).T, float(squares[:dimensions].sum() / squares.sum())
