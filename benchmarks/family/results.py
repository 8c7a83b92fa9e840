"""Reads what `run` left, and pools it over seeds and over resampled question groups or clusters."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from benchmarks.family import sets
from benchmarks.family.runs import NAMES, RESAMPLES, is_fixed, setup_of

Row = dict[str, Any]
Found = dict[str, list[Row]]
"""Of one encoder and training set: name -> a result a seed."""
Floats = NDArray[np.float64]
Measure = Callable[[Row], Floats]
"""Draws of one result, (resamples,)."""
BEST = 10


def load(folder: Path) -> Found:
    found: Found = {}
    for path in sorted(folder.glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(row["name"], []).append(row)
    setups = {json.dumps(setup_of(row), sort_keys=True) for rows in found.values() for row in rows}
    if len(setups) > 1:
        raise SystemExit(f"{folder} holds results of {len(setups)} setups: run the others again, or remove them")
    return found


def of_trainings(folder: Path) -> dict[str, Found]:
    """The results of an encoder by training set."""
    return {training: load(folder / training) for training in sets.TRAININGS}


def drawn(measure: str) -> Measure:
    return lambda row: np.array(row["draws"][measure])


QUORA_AP, WORLDS_AUC, CLOSE_AUC, POSTS_AUC = (
    "average_precision",
    "worlds_dev roc_auc",
    "worlds_dev close",
    "posts_dev roc_auc",
)
"""Names of draws."""


@cache
def _clusters(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_], NDArray[np.int64]]:
    """Labels and clusters of the pairs of a test set, their kinds, and how often each cluster is drawn."""
    pairs = sets.measured_pairs(name)
    labels, cluster = (np.array([getattr(pair, key) for pair in pairs]) for key in ("label", "cluster"))
    return labels, cluster, sets.kinds(pairs), sets.resampled_groups(cluster, RESAMPLES)


def overlap_auc() -> tuple[float, float]:
    """Return the ROC AUC of the word overlap on near misses, and where few words decide."""
    pairs = sets.measured_pairs(sets.WORLDS)
    close = [pair for pair in pairs if pair.label or sets.is_close(pair)]
    all_pairs, few = (
        float(roc_auc_score([pair.label for pair in of], [sets.word_overlap(pair) for pair in of]))
        for of in (pairs, close)
    )
    return all_pairs, few


def wrong(kind: str, name: str = sets.WORLDS) -> Measure:
    """The share of the pairs of a kind that is decided wrongly at a run's own threshold."""

    def measure(row: Row) -> Floats:
        labels, cluster, kinds, times = _clusters(name)
        bits = np.frombuffer(bytes.fromhex(row["near_misses"][name]["flagged"]), np.uint8)
        flagged = np.unpackbits(bits, count=len(labels)).astype(bool)
        of = kinds == kind
        pairs = np.bincount(cluster[of], minlength=times.shape[1])
        errors = np.bincount(cluster[of], (flagged != (labels == 1))[of], minlength=times.shape[1])
        return np.asarray(times @ errors / np.maximum(times @ pairs, 1))

    return measure


def balanced(kind: str) -> Measure:
    """The mean of the shares of a kind of near miss and of paraphrases: it does not fall by flagging less."""
    near_miss, paraphrase = wrong(kind), wrong(sets.PARAPHRASE)
    return lambda row: (near_miss(row) + paraphrase(row)) / 2


def pooled(rows: Sequence[Row], metric: str | Measure) -> Floats:
    """The draws of every seed together: they spread by seed and by question group."""
    measure = drawn(metric) if isinstance(metric, str) else metric
    return np.concatenate([measure(row) for row in rows])


def stacked(found: Found, names: Sequence[str], measure: Measure) -> Floats:
    """Draws (methods, seeds, resamples) of the seeds that all have; what is the same for every seed is repeated."""
    by_seed = {name: {row["seed"]: row for row in found[name]} for name in names}
    shared = set.intersection(*(set(rows) for name, rows in by_seed.items() if not is_fixed(name)), *_all_seeds(found))
    return np.array(
        [
            [measure(next(iter(rows.values())) if is_fixed(name) else rows[seed]) for seed in sorted(shared)]
            for name, rows in by_seed.items()
        ]
    )


def _all_seeds(found: Found) -> list[set[int]]:
    return [{row["seed"] for rows in found.values() for row in rows}]


def mean(rows: Sequence[Row], metric: str) -> float:
    return float(np.mean([row["metrics"][metric]["value"] for row in rows]))


def bounds(values: Floats) -> tuple[float, float, float]:
    """Mean and 95 % interval of draws."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def spread(values: Floats, digits: int = 3) -> str:
    low, high = np.percentile(values, (2.5, 97.5))
    return f"{low:.{digits}f} to {high:.{digits}f}"


def signed(values: Floats, digits: int = 3) -> str:
    """`+0.012 (-0.003 to +0.030)`"""
    value, low, high = bounds(values)
    return f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def paired(better: list[Row], worse: list[Row], measure: str = QUORA_AP) -> Floats:
    """Draws of the difference of two methods, of the seeds that both have."""
    other = {row["seed"]: row for row in worse}
    shared = [(row, other[row["seed"]]) for row in better if row["seed"] in other]
    return np.concatenate([np.subtract(a["draws"][measure], b["draws"][measure]) for a, b in shared])


def rank_correlation(one: Floats, other: Floats) -> Floats:
    """Spearman's coefficient over the methods of each column of (methods, n)."""
    a, b = (rankdata(values, axis=0) for values in (one, other))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return np.asarray((a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0)))


def order_change(alone: Floats, mixed: Floats) -> tuple[Floats, Floats]:
    """Draws of the rank correlation across two training sets, and of that between two seeds of one training set.

    Both compare networks of different seeds, so that chance lowers them alike: the order changes by as much as the
    first falls short of the second.

    Args:
        alone, mixed: Draws of each training set, (methods, seeds, resamples); two seeds at least.
    """
    across, within = [], []
    for a, b in combinations(range(alone.shape[1]), 2):
        across.append((rank_correlation(alone[:, a], mixed[:, b]) + rank_correlation(alone[:, b], mixed[:, a])) / 2)
        within.append((rank_correlation(alone[:, a], alone[:, b]) + rank_correlation(mixed[:, a], mixed[:, b])) / 2)
    return np.concatenate(across), np.concatenate(within)


def class_difference(one: Floats, other: Floats) -> Floats:
    """Draws of the mean of some methods less that of others, over seeds, groups and methods.

    Args:
        one, other: Draws (methods, seeds, resamples) of the same seeds and resamples. Methods are resampled too, for
            each class stands for more methods than were tried.
    """
    rng = np.random.default_rng(0)
    means = []
    for values in (one, other):
        flat = values.reshape(len(values), -1)
        times = rng.multinomial(len(flat), np.full(len(flat), 1 / len(flat)), size=flat.shape[1]).T
        means.append((flat * times).sum(axis=0) / len(flat))
    return np.asarray(means[0] - means[1])


def best_methods(folder: Path, count: int = BEST) -> list[str]:
    """Names of the best methods of an encoder: by the sum of average precision on Quora and ROC AUC on near misses.

    Both are means over seeds and training sets.

    Raises:
        SystemExit: A method was not measured with both training sets.
    """
    found = of_trainings(folder)
    missing = [name for name in NAMES if any(name not in rows for rows in found.values())]
    if missing:
        raise SystemExit(f"{folder} lacks results of {', '.join(missing)}: run them first")

    def score(name: str) -> float:
        return sum(
            float(np.mean([row["metrics"]["average_precision"]["value"] for row in rows[name]]))
            + float(np.mean([row["near_misses"][sets.WORLDS]["roc_auc"]["value"] for row in rows[name]]))
            for rows in found.values()
        )

    return sorted(NAMES, key=lambda name: -score(name))[:count]
