"""Distances in closed form: each against its definition, and against what it was made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from sklearn.covariance import LedoitWolf
from sklearn.metrics import average_precision_score

from dupq.errors import InputError
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.pair_heads.pairs import PairEncoder
from dupq.models.pair_heads.vectors import LearnedMetric
from dupq.training.metric_learning import (
    Metric,
    embed_pairs,
    fit_metric,
    fit_metric_network,
)
from tests.networks import MAX_TOKENS
from tests.questions import labelled_table

METRICS = get_args(Metric)


def vectors(n: int = 1500, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int8]]:
    """Pairs in 6 dimensions: what is meant lies in the first two; the others vary more, and mean nothing."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, n).astype(np.int8)
    meant = draw.normal(size=(n, 2))
    other = np.where(labels[:, None] == 1, meant + 0.2 * draw.normal(size=(n, 2)), draw.normal(size=(n, 2)))
    noise = 3 * draw.normal(size=(2, n, 4))
    return np.hstack([meant, noise[0]]), np.hstack([other, noise[1]]), labels


def test_the_euclidean_distance_learns_a_scale_alone() -> None:
    left, right, labels = vectors()
    fitted = fit_metric("euclidean", left, right, labels)
    assert np.array_equal(fitted.root, np.eye(6))
    scores = fitted.score(left, right)
    assert np.allclose(scores, fitted.offset - fitted.slope * ((left - right) ** 2).sum(axis=1))
    assert np.corrcoef(scores, labels)[0, 1] > 0


def test_mahalanobis_is_the_inverse_of_the_shrunk_covariance() -> None:
    left, right, labels = vectors()
    root = fit_metric("mahalanobis", left, right, labels).root
    covariance = LedoitWolf().fit(np.concatenate([left, right])).covariance_
    assert np.allclose(root.T @ root, np.linalg.inv(covariance), atol=1e-8)


def test_kissme_is_the_difference_of_two_precisions_without_its_negative_part() -> None:
    left, right, labels = vectors()
    root = fit_metric("kissme", left, right, labels).root
    inverse = [
        np.linalg.inv(LedoitWolf(assume_centered=True).fit((left - right)[labels == y]).covariance_) for y in (1, 0)
    ]
    values, directions = np.linalg.eigh(inverse[0] - inverse[1])
    assert np.allclose(root.T @ root, (directions * np.maximum(values, 0)) @ directions.T, atol=1e-8)
    assert len(root) == (values > 0).sum()


def test_canonical_directions_are_those_of_the_two_sides_in_both_orders() -> None:
    left, right, labels = vectors()
    root = fit_metric("canonical", left, right, labels).root
    one, other = left[labels == 1], right[labels == 1]
    alike = LedoitWolf().fit((one + other) / np.sqrt(2)).covariance_
    unlike = LedoitWolf(assume_centered=True).fit((one - other) / np.sqrt(2)).covariance_
    within, across = (alike + unlike) / 2, (alike - unlike) / 2
    # By singular values, as Hotelling: the correlations of the whitened sides.
    values, axes = np.linalg.eigh(within)
    whiten = (axes / np.sqrt(values)) @ axes.T
    correlations = np.linalg.eigvalsh(whiten @ across @ whiten)[::-1]
    assert len(root) == (correlations > 0).sum()
    assert np.allclose(root @ within @ root.T, np.diag(correlations[: len(root)]), atol=1e-8)
    assert np.allclose(root @ across @ root.T, np.diag(correlations[: len(root)] ** 2), atol=1e-8)
    assert correlations[1] > 0.8 > 0.2 > correlations[2]


def test_canonical_correlations_are_those_of_the_pairs_counted_one_by_one() -> None:
    left, right, labels = vectors(4000)
    root = fit_metric("canonical", left, right, labels).root
    for row in root[:2]:
        direction = row / np.linalg.norm(row)
        sides: list[list[float]] = [[], []]
        for a, b, label in zip(left, right, labels, strict=True):
            if label:
                for first, second in ((a, b), (b, a)):
                    sides[0].append(float(direction @ first))
                    sides[1].append(float(direction @ second))
        variance = float(np.var(sides[0]))
        # The squared length of a row is the correlation, in units of the variance along it; shrinkage lowers it.
        assert float(row @ row) * variance == pytest.approx(np.corrcoef(sides)[0, 1], abs=0.1)
        assert np.corrcoef(sides)[0, 1] > 0.9
    turned = labels.astype(bool) & (np.arange(len(labels)) % 3 == 0)
    swapped = np.where(turned[:, None], right, left), np.where(turned[:, None], left, right)
    again = fit_metric("canonical", *swapped, labels).root
    assert np.allclose(root.T @ root, again.T @ again, atol=1e-8)


def test_fisher_keeps_the_directions_that_tell_most() -> None:
    left, right, labels = vectors()
    root = fit_metric("fisher", left, right, labels).root
    assert root.shape == (3, 6)
    within, slice_rows = (
        root @ LedoitWolf(assume_centered=True).fit((left - right)[labels == y]).covariance_ @ root.T for y in (1, 0)
    )
    assert np.allclose(within, np.eye(3), atol=1e-8)
    assert np.allclose(slice_rows, np.diag(np.diag(slice_rows)), atol=1e-8)
    ratios = np.diag(slice_rows)
    assert ratios[0] >= ratios[1] > 3 * ratios[2]
    # The first two are the dimensions that mean something.
    assert np.abs(root[:2, :2]).min() > 10 * np.abs(root[:2, 2:]).max()


def test_what_was_learnt_holds_for_other_pairs() -> None:
    held = vectors(seed=1)
    precision = {
        metric: average_precision_score(held[2], fit_metric(metric, *vectors()).score(held[0], held[1]))
        for metric in METRICS
    }
    assert precision["euclidean"] < precision["mahalanobis"] < precision["fisher"]
    assert min(precision["kissme"], precision["canonical"]) > precision["mahalanobis"] + 0.1


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_has_no_order_and_is_a_log_odds(metric: Metric) -> None:
    left, right, labels = vectors()
    fitted = fit_metric(metric, left, right, labels)
    scores = fitted.score(left, right)
    assert np.array_equal(scores, fitted.score(right, left))
    assert (1 / (1 + np.exp(-scores))).mean() == pytest.approx(labels.mean(), abs=0.01)


def test_more_dimensions_than_pairs_are_no_trouble() -> None:
    draw = np.random.default_rng(0)
    left, right, labels = draw.normal(size=(20, 64)), draw.normal(size=(20, 64)), np.arange(20) % 2
    right[labels == 1] = left[labels == 1] + 0.1 * draw.normal(size=(10, 64))
    for metric in METRICS:
        assert np.isfinite(fit_metric(metric, left, right, labels).score(left, right)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_a_distance_that_separates_nothing_is_refused(metric: Metric) -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(400) % 2
    left = draw.normal(size=(400, 4))
    # The sides of a duplicate are opposite, so that every correlation is negative and every difference large.
    opposite = np.where(labels[:, None] == 1, -left, left + 0.1 * draw.normal(size=(400, 4)))
    same = np.ones((400, 4))
    for right, start in ((opposite, left), (same, same)):
        with pytest.raises(InputError, match=f"by the {metric} distance duplicates are no nearer"):
            fit_metric(metric, start, right, labels)


def test_an_unknown_metric_is_refused() -> None:
    left, right, labels = vectors()
    with pytest.raises(InputError, match=r"metric must be one of .*, got 'cosine'"):
        fit_metric("cosine", left, right, labels)  # type: ignore[arg-type]


def test_the_network_scores_as_the_metric_does(tiny_base: Path) -> None:
    encoder = PairEncoder(str(tiny_base), max_seq_length=MAX_TOKENS, config_kwargs={"num_labels": 1})
    model = CrossEncoder(modules=[encoder, LearnedMetric(32, 32)], device="cpu")
    table = labelled_table(8)
    left, right = embed_pairs(model, table, batch_size=16)
    assert np.allclose(np.linalg.norm(left, axis=1), 1, atol=1e-5)
    fit_metric_network(model, "kissme", table, 16)
    expected = fit_metric("kissme", left, right, table.labels).score(left, right)
    assert np.allclose(CrossEncoderScorer(model).score(table.left, table.right), expected, atol=1e-3)
