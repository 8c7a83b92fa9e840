"""Similarity completion against a slow loop, on matrices that it must recover, and its student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from dupq.data.pairs import PairTable
from dupq.errors import InputError
from dupq.training import similarity_completion
from dupq.training.similarity_completion import (
    ObservedEntries,
    complete_similarities,
    fit_completed_network,
    fit_similarity_embeddings,
    fit_student,
)
from tests.fakes import WordScorer
from tests.questions import labelled_table

TEXTS = sorted({*labelled_table(12).left, *labelled_table(12).right})


def observed(matrix: NDArray[Any], share: float, seed: int = 0) -> ObservedEntries:
    """The diagonal and a random share of the other entries."""
    n = len(matrix)
    left, right = np.triu_indices(n, 1)
    kept = np.random.default_rng(seed).random(len(left)) < share
    left, right = left[kept], right[kept]
    return ObservedEntries(n, left, right, matrix[left, right], np.diag(matrix).copy())


def random_matrix(n: int, seed: int) -> NDArray[np.float64]:
    values = np.random.default_rng(seed).normal(size=(n, n))
    return np.asarray(values + values.T)


def whole(entries: ObservedEntries) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The matrix of the entries, and where it is observed."""
    values, known = np.diag(entries.diagonal), np.eye(entries.n, dtype=bool)
    for i, j, value in zip(entries.left, entries.right, entries.values, strict=True):
        values[i, j] = values[j, i] = value
        known[i, j] = known[j, i] = True
    return values, known


def objective(x: NDArray[np.float64], entries: ObservedEntries) -> float:
    values, known = whole(entries)
    return float(((values - x @ x.T)[known] ** 2).sum())


def slow_step(x: NDArray[np.float64], i: int, k: int, entries: ObservedEntries) -> None:
    """Set one coordinate to the best of the real roots of the slope, by the objective itself."""
    values, known = whole(entries)
    others = [j for j in range(entries.n) if known[i, j] and j != i]
    left = values[i] - x @ x[i] + x[:, k] * x[i, k]
    p = sum(x[j, k] ** 2 for j in others) - (values[i, i] - x[i] @ x[i] + x[i, k] ** 2)
    q = -sum(left[j] * x[j, k] for j in others)
    best = []
    for root in np.roots([1, 0, p, q]):
        if abs(root.imag) < 1e-7:
            tried = x.copy()
            tried[i, k] = root.real
            best.append((objective(tried, entries), root.real))
    x[i, k] = min(best)[1]


def test_a_pass_is_that_of_a_slow_loop_over_single_coordinates() -> None:
    entries = observed(random_matrix(9, 1), 0.4)
    start = np.random.default_rng(2).normal(size=(9, 3))
    found = complete_similarities(entries, 3, start=start, sweeps=1)
    x = start.copy()
    for texts, *_ in similarity_completion._independent_classes(entries):
        for k in range(3):
            for i in texts:
                slow_step(x, int(i), k, entries)
    assert np.allclose(found.vectors, x, atol=1e-6)
    assert found.objective == pytest.approx((objective(start, entries), objective(x, entries)))


def test_no_coordinate_can_be_bettered_alone_in_the_end() -> None:
    entries = observed(random_matrix(12, 3), 0.6)
    found = complete_similarities(entries, 2, sweeps=3000)
    for i in range(12):
        for k in range(2):
            x = found.vectors.copy()
            slow_step(x, i, k, entries)
            assert objective(x, entries) > found.objective[-1] * (1 - 1e-3)


@given(st.integers(2, 25), st.integers(1, 4), st.floats(0, 1), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_objective_never_rises(n: int, dimensions: int, share: float, seed: int) -> None:
    entries = observed(random_matrix(n, seed), share, seed)
    found = complete_similarities(entries, min(n, dimensions), sweeps=8, seed=seed)
    steps = np.array(found.objective)
    assert (np.diff(steps) <= 1e-9 * steps[:-1]).all()
    assert objective(found.vectors, entries) == pytest.approx(steps[-1], rel=1e-6, abs=1e-9)
    assert found.observed == len(entries.values)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_a_matrix_of_low_rank_is_recovered_from_a_part_of_it(seed: int) -> None:
    factors = np.random.default_rng(seed).normal(size=(50, 3))
    matrix = factors @ factors.T
    found = complete_similarities(observed(matrix, 0.6, seed), 3, sweeps=600, seed=seed)
    assert np.allclose(found.vectors @ found.vectors.T, matrix, atol=1e-3)


@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 3), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_the_root_is_the_lowest_point_of_the_quartic(rows: list[tuple[float, float, float]]) -> None:
    p, q, old = np.array(rows).T
    found = similarity_completion._lowest_root(p, q, old)
    for a, b, v in zip(p, q, found, strict=True):
        roots = np.roots([1, 0, a, b])
        values = [r**4 / 4 + a * r**2 / 2 + b * r for r in [*roots.real, 0.0]]
        mine = v**4 / 4 + a * v**2 / 2 + b * v
        assert mine <= min(values) + 1e-9 * max(map(abs, values)) + 1e-12


def test_texts_that_are_moved_together_were_not_scored_with_each_other() -> None:
    entries = observed(random_matrix(40, 0), 0.2)
    _, known = whole(entries)
    classes = similarity_completion._independent_classes(entries)
    assert sorted(np.concatenate([texts for texts, *_ in classes]).tolist()) == list(range(40))
    for texts, own, other, edges in classes:
        assert known[np.ix_(texts, texts)].sum() == len(texts)
        ends = set(zip(texts[own].tolist(), other.tolist(), strict=True))
        assert len(ends) == len(edges) == sum(known[text].sum() - 1 for text in texts)
        for i, j, edge in zip(texts[own], other, edges, strict=True):
            assert {i, j} == {entries.left[edge], entries.right[edge]}


# ---- texts and a scorer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "density"), [(2, 1.0), (9, 0.2), (60, 1.0), (1000, 0.5), (40, 100.0)])
def test_few_pairs_are_drawn_and_no_pair_twice(n: int, density: float) -> None:
    left, right = similarity_completion._draw_pairs(n, density, 3)
    wanted = min(n * (n - 1) // 2, int(np.ceil(density * n * np.log2(n) / 2)))
    assert len(left) == len(right) == wanted
    assert (left < right).all()
    assert len(set(zip(left.tolist(), right.tolist(), strict=True))) == wanted
    assert np.array_equal(similarity_completion._draw_pairs(n, density, 3), (left, right))


def test_products_of_embeddings_keep_the_similarities_of_a_scorer() -> None:
    scorer = WordScorer()
    found = fit_similarity_embeddings(TEXTS, scorer, 24, density=4.0, sweeps=100)
    every = [(a, b) for i, a in enumerate(TEXTS) for b in TEXTS[:i]]
    wanted = 1 / (1 + np.exp(-scorer.score([a for a, _ in every], [b for _, b in every])))
    products = (found.vectors @ found.vectors.T)[np.tril_indices(len(TEXTS), -1)]
    assert found.observed < 0.7 * len(every)
    assert np.corrcoef(products, wanted)[0, 1] > 0.8
    assert np.allclose((found.vectors**2).sum(axis=1), 1, atol=0.3)
    again = fit_similarity_embeddings(TEXTS, scorer, 24, density=4.0, sweeps=100)
    assert np.array_equal(again.vectors, found.vectors)


def test_what_cannot_be_completed_is_refused() -> None:
    scorer = WordScorer()
    with pytest.raises(InputError, match="at least 2 distinct ones, got 1"):
        fit_similarity_embeddings(["a", "a"], scorer, 1)
    with pytest.raises(InputError, match=r"dimensions must be an integer between 1 and \d+, got 999"):
        fit_similarity_embeddings(TEXTS, scorer, 999)
    with pytest.raises(InputError, match="density must be a number"):
        fit_similarity_embeddings(TEXTS, scorer, 2, density=float("nan"))
    with pytest.raises(InputError, match="one finite number a score"):
        fit_similarity_embeddings(TEXTS, scorer, 2, similarity=lambda scores: scores * np.nan)
    with pytest.raises(InputError, match="scorer must have a method score"):
        fit_similarity_embeddings(TEXTS, "scorer", 2)  # type: ignore[arg-type]
    pair = np.array([0, 1])
    for left, right, values in (
        (pair, pair, np.ones(2)),
        (pair, pair[::-1], np.ones(2)),
        (pair, pair + 5, np.ones(2)),
        (pair[:1], pair[1:], np.array([np.nan])),
        (pair[:1] + 0.0, pair[1:] + 0.0, np.ones(1)),
    ):
        with pytest.raises(InputError, match="entries must"):
            complete_similarities(ObservedEntries(3, left, right, values, np.ones(3)), 1)


# ---- student ------------------------------------------------------------------------------------------------------


def test_the_student_is_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    vectors, wanted = rng.normal(size=(300, 6)), rng.normal(size=(2, 6))
    exact = fit_student(vectors, vectors @ wanted.T)
    assert np.allclose(exact, wanted, atol=1e-4)
    inputs, outputs = vectors[:8], rng.normal(size=(8, 2))
    noisy = fit_student(inputs, outputs)
    assert np.linalg.norm(noisy) < 0.9 * np.linalg.norm(np.linalg.lstsq(inputs, outputs, rcond=None)[0])
    # The closed form, with the penalty of the least error of each row by a map fitted to the others.
    penalties = (inputs**2).sum() / 6 * np.logspace(-6, 1, 15)

    def ridge(rows: NDArray[np.bool_], penalty: float) -> NDArray[np.float64]:
        kept = inputs[rows]
        return np.asarray(outputs[rows].T @ kept @ np.linalg.inv(kept.T @ kept + penalty * np.eye(6)))

    errors = [
        sum(np.square(outputs[row] - ridge(np.arange(8) != row, penalty) @ inputs[row]).sum() for row in range(8))
        for penalty in penalties
    ]
    assert np.allclose(noisy, ridge(np.ones(8, bool), penalties[int(np.argmin(errors))]), atol=1e-8)
    with pytest.raises(InputError, match="n rows each"):
        fit_student(vectors, wanted)


def completed(base: Path, pairs: PairTable, soft_labels: NDArray[Any]) -> SentenceTransformer:
    model = SentenceTransformer(str(base), device="cpu")
    fit_completed_network(model, pairs, np.asarray(soft_labels, dtype=np.float64), seed=0)
    return model


def test_a_network_gets_a_plain_map_that_brings_duplicates_nearer(tiny_bi_encoder: Path) -> None:
    pairs = labelled_table(40)
    model = completed(tiny_bi_encoder, pairs, pairs.labels)
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert model[2].linear.bias is None
    shuffled = completed(tiny_bi_encoder, pairs, np.random.default_rng(0).permutation(pairs.labels))
    before = margin(SentenceTransformer(str(tiny_bi_encoder), device="cpu"), pairs)
    assert margin(model, pairs) > 2 * max(before, margin(shuffled, pairs))


def test_soft_labels_place_duplicates_by_their_value(tiny_bi_encoder: Path) -> None:
    pairs = labelled_table(40)
    mean = {
        soft: cosines(completed(tiny_bi_encoder, pairs, np.where(pairs.labels == 1, soft, 0.0)), pairs)[
            pairs.labels == 1
        ].mean()
        for soft in (0.6, 1.0)
    }
    assert mean[0.6] < mean[1.0]


def test_the_map_is_added_to_a_base_without_a_normalisation(tiny_bi_encoder: Path) -> None:
    pairs = labelled_table(8)
    plain = SentenceTransformer(modules=list(SentenceTransformer(str(tiny_bi_encoder), device="cpu"))[:2])
    fit_completed_network(plain, pairs, pairs.labels.astype(np.float64), seed=0)
    assert [type(module).__name__ for module in plain] == ["Transformer", "Pooling", "Dense"]


def test_a_base_that_separates_nothing_is_refused(tiny_bi_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = labelled_table(8)
    model = SentenceTransformer(str(tiny_bi_encoder), device="cpu")
    monkeypatch.setattr(model, "encode", lambda texts, **options: np.ones((len(texts), 4), dtype=np.float32) / 2)
    with pytest.raises(InputError, match="duplicates are no nearer than random pairs"):
        fit_completed_network(model, pairs, pairs.labels.astype(np.float64), seed=0)


def test_a_pair_of_two_labels_is_one_entry_of_their_mean() -> None:
    pairs = PairTable(["a", "b", "c", "a"], ["b", "a", "c", "c"], np.array([1, 0, 1, 1], dtype=np.int8))
    entries = similarity_completion._entries_of(pairs, np.array([1.0, 0.5, 1.0, 0.2]), ["a", "b", "c"])
    assert list(zip(entries.left.tolist(), entries.right.tolist(), strict=True)) == [(0, 1), (0, 2)]
    assert entries.values.tolist() == [0.75, 0.2]


def margin(model: SentenceTransformer, pairs: PairTable) -> float:
    """Mean cosine of duplicates minus that of distinct pairs."""
    values = cosines(model, pairs)
    return float(values[pairs.labels == 1].mean() - values[pairs.labels == 0].mean())


def cosines(model: SentenceTransformer, pairs: PairTable) -> NDArray[np.float32]:
    left, right = (model.encode(side, normalize_embeddings=True) for side in (pairs.left, pairs.right))
    return np.asarray((left * right).sum(axis=1))


def test_many_texts_are_drawn_from_by_whole_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity_completion, "MAX_TEXTS", 30)
    table = labelled_table(16)
    part, soft = similarity_completion._part_of(table, table.labels.astype(float), seed=1)
    assert 25 <= len({*part.left, *part.right}) <= 30
    assert np.array_equal(soft, part.labels)
