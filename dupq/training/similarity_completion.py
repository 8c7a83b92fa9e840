"""Similarity-preserving embeddings from few scored pairs (Lei et al. 2017).

The method is known as SPIRAL. n texts have n² similarities. O(n log n) of them are scored, and the matrix is completed
as a product of embeddings. A student, a linear map of a bi-encoder's embeddings, then embeds texts that were not
scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dupq.calibration.numerics import expit
from dupq.data.arguments import as_int, as_number, as_seed, as_texts
from dupq.data.checks import as_numbers
from dupq.data.pairs import PairTable
from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.models.batching import rows_of
from dupq.models.ensemble import COSINE_SCALE, fit_weights
from dupq.types import Progress, Scorer

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

MAX_SWEEPS = 30
"""Default maximum number of passes over all coordinates."""
MIN_GAIN = 1e-4
"""Share of the objective below which the gain of a pass ends the descent."""
DENSITY = 2.0
"""Default mean number of random pairs of a text over log₂ n."""
MAX_TEXTS = 20_000
"""Maximum number of texts whose similarities `fit_completed_network` completes; the student needs no more."""
MAX_DIMENSIONS = 128
"""Maximum number of dimensions of the network that it makes."""

Similarity = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Function of raw scores (m,) to similarities (m,); that of a text with itself is 1."""


@dataclass(frozen=True, slots=True)
class ObservedEntries:
    """Observed entries of a symmetric matrix (n, n).

    Attributes:
        n: Number of rows of the matrix.
        left, right: int64 arrays (m,), row and column of the entries beside the diagonal; no pair occurs twice.
        values: float64 array (m,).
        diagonal: float64 array (n,); all of it is observed.
    """

    n: int
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    values: NDArray[np.float64]
    diagonal: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SimilarityEmbeddings:
    """Embeddings whose products keep the observed similarities.

    Attributes:
        vectors: float64 array (n, d).
        objective: Σ (A_ij - x_i · x_j)² over the observed entries, before the descent and after each pass.
        observed: Number of observed pairs; the diagonal is observed beside them.
    """

    vectors: NDArray[np.float64]
    objective: tuple[float, ...]
    observed: int


def fit_similarity_embeddings(
    texts: Sequence[str],
    scorer: Scorer,
    dimensions: int,
    *,
    similarity: Similarity = expit,
    density: float = DENSITY,
    sweeps: int = MAX_SWEEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> SimilarityEmbeddings:
    """Fit embeddings whose products are near the similarities of a scorer.

    Density · n · log₂ n / 2 pairs are drawn at random and scored, so that a text is in density · log₂ n of them on
    average; one that is drawn in none keeps a random direction. See `complete_similarities`.

    Args:
        texts: n distinct texts, n > 1.
        scorer: Any scorer, such as a cross-encoder.
        dimensions: Number of dimensions d, from 1 to n.
        similarity: Function of a raw score; default: the probability 1 / (1 + e^-score).
        density: Mean number of scored pairs of a text over log₂ n, above 0.
        sweeps: Maximum number of passes over all coordinates.
        seed: Seed of the pairs and of the first vectors.
        progress: Called with (pairs scored, pairs).

    Returns:
        The embeddings, in the order of the texts.

    Raises:
        InputError: An argument is out of range, a text is bad or occurs twice, or a similarity is not finite.
    """
    texts = as_texts(texts, "texts")
    for number, text in enumerate(texts, 1):
        check_text(text, f"text {number}")
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise InputError(f"texts must be at least 2 distinct ones, got {len(set(texts))}", hint="remove copies")
    if not callable(getattr(scorer, "score", None)):
        raise InputError(f"scorer must have a method score, got {type(scorer).__name__}", hint="give a cross-encoder")
    if not callable(similarity):
        raise InputError(f"similarity must be a function, got {type(similarity).__name__}", hint="leave it out")
    dimensions, seed = as_int(dimensions, "dimensions", 1, len(texts)), as_seed(seed)
    density = as_number(density, "density", 0, 100, above=True, hint="give one such as 2")
    as_int(sweeps, "sweeps", 1)
    left, right = _draw_pairs(len(texts), density, seed)
    scores = scorer.score([texts[row] for row in left], [texts[row] for row in right], progress)
    values = as_numbers(similarity(np.asarray(scores, dtype=np.float64)), "similarities")
    if values.shape != left.shape or not np.isfinite(values).all():
        raise InputError("similarity must return one finite number a score", hint="leave it out, or correct it")
    entries = ObservedEntries(len(texts), left, right, values, np.ones(len(texts)))
    return complete_similarities(entries, dimensions, sweeps=sweeps, seed=seed)


def _draw_pairs(n: int, density: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw density · n · log₂ n / 2 pairs of n rows at random, or all there are.

    They are two int64 arrays (m,), the lower row of each pair first, sorted.
    """
    total = n * (n - 1) // 2
    wanted = min(total, math.ceil(density * n * math.log2(n) / 2))
    rng = np.random.default_rng(seed)
    if wanted > total // 4:
        left, right = np.triu_indices(n, 1)
        kept = np.sort(rng.permutation(total)[:wanted])
        return left[kept].astype(np.int64), right[kept].astype(np.int64)
    keys = np.zeros(0, dtype=np.int64)
    while len(keys) < wanted:
        drawn = np.sort(rng.integers(0, n, (2 * wanted, 2)), axis=1)
        drawn = drawn[drawn[:, 0] < drawn[:, 1]]
        keys = np.unique(np.concatenate([keys, drawn[:, 0] * n + drawn[:, 1]]))
    keys = np.sort(rng.permutation(keys)[:wanted])
    return keys // n, keys % n


# ---- completion --------------------------------------------------------------------------------------------------


def complete_similarities(
    entries: ObservedEntries,
    dimensions: int,
    *,
    start: NDArray[np.float64] | None = None,
    sweeps: int = MAX_SWEEPS,
    seed: int = 0,
) -> SimilarityEmbeddings:
    """Complete a symmetric matrix as the product of embeddings.

    The method is exact coordinate descent. It minimises Σ (A_ij - x_i · x_j)² over the observed entries (i, j), (j, i)
    and (i, i). As a function of one coordinate v = x_ik, the sum is a quartic whose slope is 4 (v³ + p v + q), with p =
    Σ_j x_jk² - c and q = -Σ_j b_j x_jk, where j runs over the neighbours of i, and b_j and c are what the other
    coordinates leave of A_ij and A_ii. Each step sets v to the root with the lowest sum, so the objective never rises.

    Texts of which no two were scored with each other form a class of a graph colouring; their steps do not depend on
    each other and are taken together.

    Args:
        entries: The observed entries.
        dimensions: Number of dimensions d, from 1 to n.
        start: First vectors (n, d); None: normal ones, whose squared length is on average the mean of the diagonal.
        sweeps: Maximum number of passes; fewer where the gain falls below `MIN_GAIN` of the objective.
        seed: Seed of the first vectors.

    Returns:
        The embeddings.

    Raises:
        InputError: An argument is out of range, or the entries are not those of one matrix.
    """
    _check_entries(entries)
    dimensions, sweeps = as_int(dimensions, "dimensions", 1, int(entries.n)), as_int(sweeps, "sweeps", 1)
    if start is None:
        scale = math.sqrt(max(float(entries.diagonal.mean()), 1e-12) / dimensions)
        start = scale * np.random.default_rng(as_seed(seed)).normal(size=(entries.n, dimensions))
    start = as_numbers(start, "start")
    if start.shape != (entries.n, dimensions) or not np.isfinite(start).all():
        raise InputError(f"start must be finite and of the shape ({entries.n}, {dimensions})", hint="leave it out")
    by_coordinate = np.array(start.T, order="C")
    pairs_left = entries.values - np.einsum("ki,ki->i", by_coordinate[:, entries.left], by_coordinate[:, entries.right])
    own_left = entries.diagonal - (by_coordinate**2).sum(axis=0)
    classes = _independent_classes(entries)
    objective = [_objective(pairs_left, own_left)]
    for _ in range(sweeps):
        for texts, own, other, edges in classes:
            for values in by_coordinate:
                old, across = values[texts], values[other]
                left_over = pairs_left[edges] + old[own] * across
                p = np.bincount(own, across**2, len(texts)) - (own_left[texts] + old**2)
                slopes = np.bincount(own, left_over * across, len(texts))
                values[texts] = new = _lowest_root(p, -slopes.astype(np.float64), old)
                pairs_left[edges] = left_over - new[own] * across
                own_left[texts] += old**2 - new**2
        objective.append(_objective(pairs_left, own_left))
        if objective[-2] - objective[-1] <= MIN_GAIN * objective[-2]:
            break
    return SimilarityEmbeddings(by_coordinate.T.copy(), tuple(objective), len(entries.values))


def _objective(pairs_left: NDArray[np.float64], own_left: NDArray[np.float64]) -> float:
    return float(2 * pairs_left @ pairs_left + own_left @ own_left)


def _lowest_root(p: NDArray[np.float64], q: NDArray[np.float64], old: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the v that minimises v⁴/4 + p v²/2 + q v.

    Where q is 0, it has the sign of `old`. The even part is the same for v and -v, so v has the sign of -q, and |v| is
    the largest root of w³ + p w = |q|.
    """
    third, half = p / 3, np.abs(q) / 2
    inside = half**2 + third**3
    single = np.cbrt(half + np.sqrt(np.maximum(inside, 0)))
    one = single - np.divide(third, single, out=np.zeros_like(p), where=single > 0)
    radius = np.sqrt(np.maximum(-third, 0))
    cosine = np.divide(half, radius**3, out=np.ones_like(p), where=inside < 0)
    three = 2 * radius * np.cos(np.arccos(np.minimum(cosine, 1)) / 3)
    root = np.where(inside >= 0, np.maximum(one, 0), three)
    # One step of Newton's method gives back the digits that the difference of two roots has lost.
    slope = 3 * root**2 + p
    root -= np.divide(root**3 + p * root - 2 * half, slope, out=np.zeros_like(p), where=slope > 0)
    return np.asarray(np.where(q == 0, np.where(old < 0, -root, root), -np.sign(q) * root))


def _independent_classes(entries: ObservedEntries) -> list[tuple[NDArray[np.int64], ...]]:
    """Return the classes of a greedy graph colouring.

    The texts of most neighbours are coloured first. Each is (texts, own, other, edges): the rows of its texts, and for
    each of their entries the place of its text among them, the row on its other side, and its place among all entries.
    """
    size = len(entries.values)
    ends = np.concatenate([entries.left, entries.right])
    others = np.concatenate([entries.right, entries.left])
    order = np.argsort(ends, kind="stable")
    ends, others, edges = ends[order], others[order], np.tile(np.arange(size), 2)[order]
    first = np.searchsorted(ends, np.arange(entries.n + 1))
    neighbours = [others[a:b].tolist() for a, b in zip(first[:-1].tolist(), first[1:].tolist(), strict=True)]
    colour = [-1] * entries.n
    for row in np.argsort(-np.diff(first), kind="stable").tolist():
        taken = {colour[other] for other in neighbours[row]}
        colour[row] = next(number for number in range(len(taken) + 1) if number not in taken)
    colours = np.array(colour)
    classes: list[tuple[NDArray[np.int64], ...]] = []
    for number in range(int(colours.max()) + 1):
        texts = np.flatnonzero(colours == number)
        mine = colours[ends] == number
        classes.append((texts, np.searchsorted(texts, ends[mine]), others[mine], edges[mine]))
    return classes


def _check_entries(entries: ObservedEntries) -> None:
    if not isinstance(entries, ObservedEntries):
        raise InputError(f"entries must be ObservedEntries, got {type(entries).__name__}", hint="build them first")
    n = as_int(entries.n, "entries.n", 1)
    left, right = (as_numbers(side, "entries") for side in (entries.left, entries.right))
    if not all(np.issubdtype(np.asarray(side).dtype, np.integer) for side in (entries.left, entries.right)):
        raise InputError("entries must have rows and columns of integers", hint="convert them with astype(np.int64)")
    values, diagonal = as_numbers(entries.values, "entries.values"), as_numbers(entries.diagonal, "entries.diagonal")
    if left.ndim != 1 or not left.shape == right.shape == values.shape or diagonal.shape != (n,):
        raise InputError(f"entries must be m rows, columns and values, and a diagonal of {n}", hint="check the lengths")
    if not (np.isfinite(values).all() and np.isfinite(diagonal).all()):
        raise InputError("entries must have finite values", hint="leave out what was not observed")
    inside = (left >= 0) & (left < n) & (right >= 0) & (right < n) & (left != right)
    keys = np.minimum(left, right) * n + np.maximum(left, right)
    if not inside.all() or len(np.unique(keys)) < len(keys):
        raise InputError(f"entries must be distinct pairs of different rows below {n}", hint="remove the others")


# ---- student -----------------------------------------------------------------------------------------------------


def fit_student(vectors: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Fit the linear map from embeddings to targets by ridge regression.

    W, float64 (d, e), is Xᵀ U (Uᵀ U + λ I)⁻¹ (Hoerl & Kennard 1970), with λ chosen by leave-one-out error; W u is near
    the target of u.

    Args:
        vectors: U (n, e), embeddings of n texts by a bi-encoder.
        targets: X (n, d), such as `SimilarityEmbeddings.vectors` of the same texts.

    Raises:
        InputError: The arrays are not finite, or not of n rows each.
    """
    from sklearn.linear_model import RidgeCV

    inputs, outputs = as_numbers(vectors, "vectors"), as_numbers(targets, "targets")
    if inputs.ndim != 2 or outputs.ndim != 2 or len(inputs) != len(outputs) or not inputs.size or not outputs.size:
        raise InputError("vectors and targets must be two-dimensional and have n rows each", hint="give one row a text")
    if not (np.isfinite(inputs).all() and np.isfinite(outputs).all()):
        raise InputError("vectors and targets must be finite", hint="embed the texts again")
    scale = max(float((inputs**2).sum()) / inputs.shape[1], 1e-12)
    fitted = RidgeCV(scale * np.logspace(-6, 1, 15), fit_intercept=False).fit(inputs, outputs)
    return np.asarray(fitted.coef_, dtype=np.float64).reshape(outputs.shape[1], inputs.shape[1])


def fit_completed_network(
    model: BaseModel, pairs: PairTable, soft_labels: NDArray[np.float64], seed: int, batch_size: int = 128
) -> None:
    """Add a student to a bi-encoder, in place, without training.

    It is a stock `Dense` behind the pooling. The observed entries are the labels of the pairs, and of `DENSITY` · n ·
    log₂ n / 2 random pairs the probability that fits their cosine, by a logistic regression of duplicates against
    random pairs. The descent starts from the principal components of the embeddings. Of more than `MAX_TEXTS` texts,
    pairs are drawn at random up to that number.

    Args:
        model: `SentenceTransformer` of an encoder and a pooling.
        pairs: Training pairs.
        soft_labels: Labels or soft labels (n,) of the pairs, in [0, 1].
        seed: Seed of the pairs that are drawn.
        batch_size: Texts a batch.

    Raises:
        InputError: Duplicates have no larger cosines than random pairs.
    """
    import torch
    from sentence_transformers.base.modules import Dense

    from dupq.training.reduction import principal_directions

    stock: Any = model
    pairs, soft_labels = _part_of(pairs, soft_labels, seed)
    texts = sorted({*pairs.left, *pairs.right})
    vectors = stock.encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False).astype(
        np.float64
    )
    labelled = _entries_of(pairs, soft_labels, texts)
    drawn = _draw_pairs(len(texts), DENSITY, seed)
    unknown = ~np.isin(drawn[0] * len(texts) + drawn[1], labelled.left * len(texts) + labelled.right)
    left, right = (
        np.concatenate([known, side[unknown]])
        for known, side in zip((labelled.left, labelled.right), drawn, strict=True)
    )
    random = np.arange(len(left)) >= len(labelled.left)
    values = np.concatenate([labelled.values, np.zeros(int(unknown.sum()))])
    cosines = COSINE_SCALE * np.einsum("ij,ij->i", vectors[left], vectors[right])
    refusal = InputError(
        "by the cosine of the base, duplicates are no nearer than random pairs",
        hint="use another method or a trained encoder, and check that label 1 means duplicate",
    )
    try:
        fitted = random | (values >= 0.5)
        (slope,), offset = fit_weights(cosines[np.newaxis, fitted], values[fitted] >= 0.5)
    except InputError as error:
        raise refusal from error
    if not slope > 0:
        raise refusal
    values[random] = expit(slope * cosines[random] + offset)
    entries = ObservedEntries(len(texts), left, right, values, np.ones(len(texts)))
    dimensions = min(MAX_DIMENSIONS, vectors.shape[1], len(texts))
    directions, _ = principal_directions(vectors, dimensions)
    completed = complete_similarities(entries, dimensions, start=vectors @ directions.T, seed=seed)
    student = torch.tensor(fit_student(vectors, completed.vectors), dtype=torch.float32)
    layer = Dense(vectors.shape[1], dimensions, bias=False, activation_function=None, init_weight=student)
    # A map without a bias gives the same directions before a normalisation as after it.
    place = len(stock) - (type(stock[-1]).__name__ == "Normalize")
    stock.insert(place, layer.to(stock.device))


def _part_of(pairs: PairTable, soft_labels: NDArray[np.float64], seed: int) -> tuple[PairTable, NDArray[np.float64]]:
    """Return pairs drawn at random that have at most `MAX_TEXTS` texts together."""
    texts: set[str] = set()
    kept = []
    for row in np.random.default_rng(seed).permutation(len(pairs)).tolist():
        texts |= {pairs.left[row], pairs.right[row]}
        if len(texts) > MAX_TEXTS:
            break
        kept.append(row)
    index = np.sort(np.array(kept, dtype=np.int64))
    return pairs.take(index), np.asarray(soft_labels, dtype=np.float64)[index]


def _entries_of(pairs: PairTable, soft_labels: NDArray[np.float64], texts: Sequence[str]) -> ObservedEntries:
    """Return the labels of the pairs as entries.

    A pair that occurs several times has the mean of its labels.
    """
    rows = np.sort(np.stack([rows_of(side, texts) for side in (pairs.left, pairs.right)], axis=1), axis=1)
    different = rows[:, 0] < rows[:, 1]
    keys, places = np.unique(rows[different, 0] * len(texts) + rows[different, 1], return_inverse=True)
    values = np.bincount(places, soft_labels[different]) / np.bincount(places)
    return ObservedEntries(len(texts), keys // len(texts), keys % len(texts), values, np.ones(len(texts)))
