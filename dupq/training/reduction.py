"""Fewer dimensions for a bi-encoder: the principal ones of its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError, OutputError
from dupq.models.stock import open_stock, save_trained, training_record

MOST_TEXTS = 20_000
"""Of more questions so many are drawn: the directions change little after that."""


def reduce_dimensions(
    folder: str | Path, texts: Sequence[str], output: str | Path, dimensions: int, *, power: float = 0.0
) -> dict[str, Any]:
    """Writes a bi-encoder whose embeddings have fewer dimensions: a stock `Dense` behind its pooling.

    The directions kept are the first of a principal component analysis, not centred, of its embeddings (Pearson 1901).
    Vectors of half the size take half the space in an index. New pairs may even be ranked better, as by
    the shipped network; whether by yours, labelled pairs that it never met must tell.

    Args:
        folder: A stock `SentenceTransformer`: an encoder, a pooling, and maybe a scaling to unit length.
        texts: Questions, best those it was trained on; no label is needed. At most `MOST_TEXTS` of them are used.
        output: The folder to write, whole or not at all.
        dimensions: At least 1, fewer than it has now, and no more than there are different texts.
        power: At least 0. A direction counts by its singular value to this power: 0, all that are kept as before;
            above, the later ones less, as a milder cut would do.

    Returns:
        The record that is also written to `dupq_training.json`: "dimensions", "power", "texts", the share of the
        squared length that is "kept", and under "of" the record of the network it was.

    Raises:
        InputError: Another number of dimensions or power, or a network of other modules.
        OutputError: Something is at `output` already, or it could not be written.
    """
    import torch
    from sentence_transformers.base.modules import Dense

    output = Path(output)
    if output.exists():
        raise OutputError("something is there already", where=str(output), mend="name another folder")
    if not (np.isfinite(power) and power >= 0):
        raise InputError(f"power = {power} is not 0 or above", mend="give a number such as 0 or 0.1")
    model = open_stock("bi-encoder", str(folder), "cpu")
    names = [type(module).__name__ for module in model]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"its modules are {', '.join(names)}", where=str(folder), mend="reduce an encoder that is pooled, no more"
        )
    distinct = sorted(set(texts))
    width = int(model.get_embedding_dimension())
    if not 1 <= dimensions < width or len(distinct) < dimensions:
        raise InputError(
            f"{dimensions} dimensions cannot be made of {width} and {len(distinct)} different texts",
            mend="ask for fewer than the network has, and give at least as many texts",
        )
    drawn = np.random.default_rng(0).permutation(len(distinct))[:MOST_TEXTS]
    vectors = model.encode([distinct[row] for row in drawn], normalize_embeddings=True).astype(np.float64)
    projection, kept = principal_directions(vectors, dimensions, power)
    matrix = torch.tensor(projection, dtype=torch.float32)
    model.insert(2, Dense(width, dimensions, bias=False, activation_function=None, init_weight=matrix))
    record, seen = training_record(Path(folder))
    told = {
        "kind": "bi-encoder",
        "dimensions": dimensions,
        "power": power,
        "texts": len(vectors),
        "kept": kept,
        "of": record,
        "log": [],
    }
    save_trained(model, output, told, seen)
    return told


def principal_directions(
    vectors: NDArray[np.floating[Any]], dimensions: int, power: float = 0.0
) -> tuple[NDArray[np.float64], float]:
    """The first directions of n vectors, (dimensions, d), and the share of the squared length that they keep.

    Each has the length of its singular value to the power, by that of the first: a common factor changes no cosine.
    """
    exact = np.asarray(vectors, dtype=np.float64)
    squares, directions = np.linalg.eigh(exact.T @ exact)  # in rising order
    squares, directions = np.maximum(squares[::-1], 0), directions[:, ::-1]
    weights = (squares[:dimensions] / squares[0]) ** (power / 2)
    return (directions[:, :dimensions] * weights).T, float(squares[:dimensions].sum() / squares.sum())
