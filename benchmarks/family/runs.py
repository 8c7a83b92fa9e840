"""Trains and measures every method with the same encoder, rows, batches, steps and seeds, on a group-disjoint test."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import average_precision_score
from transformers.utils.logging import set_verbosity_error

from benchmarks.readme import RESULTS
from dupq.calibration.calibrators import fit_calibrator
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.writing import write_json
from dupq.evaluation.metrics import compute_metrics
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.ensemble import CosineScorer
from dupq.training.methods import METHODS
from dupq.training.trainer import TrainSettings, train, versions
from dupq.types import Scorer

FOLDER = RESULTS / "family"
RESAMPLES = 200
CLUSTERS = 3
DROPOUT_START, CLUSTERED, SEEDED = "dropout-start", "ensemble-clusters", "ensemble-seeds"
MADE_OF = {
    DROPOUT_START: ("dropout-contrast without labels, then cosent+ranking", "Gao, Yao & Chen 2021"),
    CLUSTERED: ("mean of members trained on clusters of the rows, the steps shared out", "Jacobs et al. 1991"),
    SEEDED: ("mean of members trained with each seed", "Lakshminarayanan et al. 2017"),
}
"""What is put together of several trainings: line and source."""
NAMES = (*(name for name in METHODS if name != "dropout-contrast"), *MADE_OF)


@dataclass(frozen=True)
class Setup:
    """What all methods share; a result of another setup is made anew."""

    encoder: str
    rows: int
    steps: int
    batch_size: int
    learning_rate: float
    max_length: int
    ensemble_of: str
    largest: int
    precision: str
    fingerprints: dict[str, str]


def setup_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The setup of a result; the first ones, all in float32, do not name their precision."""
    return {"precision": "float32", **row["setup"]}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--splits", required=True, help="made by `dupq data split`")
    parser.add_argument("--base", required=True, help="folder of the encoder; its name stands in the table")
    parser.add_argument("--work", required=True, help="folder for raw scores and for networks, which are removed again")
    parser.add_argument("--rows", type=int, default=20_000, help="training pairs, whole question groups (20000)")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of training (float32)")
    parser.add_argument("--held", type=int, default=8000, help="pairs at most of each other split (8000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    parser.add_argument("--ensemble-of", default="hybrid", metavar="NAME", help="what ensembles are made of (hybrid)")


def whole_groups(table: PairTable, most: int, largest: int | None = None) -> PairTable:
    """Whole question groups, in an order that depends on nothing else, until `most` pairs are reached.

    Those of more than `largest` pairs are left out: of a small test one of them would decide the figures.
    """
    keys, inverse, sizes = np.unique(table.groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(keys))
    order = order[sizes[order] <= (largest or most)]
    kept = np.zeros(len(keys), dtype=bool)
    kept[order[np.cumsum(sizes[order]) <= most]] = True
    return table.take(kept[inverse])


class Family:
    """The data and the settings, and what trains and measures one method on them."""

    def __init__(self, args: argparse.Namespace) -> None:
        folder = Path(args.splits)
        self.pairs = whole_groups(load_pairs(folder / "train.jsonl", where={"natural": "1"}), args.rows)
        self.held = {
            name: whole_groups(load_pairs(folder / f"{name}.jsonl"), args.held, max(1, args.held // 100))
            for name in ("validation", "calibration", "test")
        }
        self.base, self.work = args.base, Path(args.work)
        self.setup = Setup(
            encoder=Path(args.base).name,
            rows=len(self.pairs),
            steps=args.steps,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            max_length=args.max_length,
            ensemble_of=args.ensemble_of,
            largest=max(1, args.held // 100),
            precision=args.precision,
            fingerprints={"train": self.pairs.fingerprint, **{name: t.fingerprint for name, t in self.held.items()}},
        )

    def place(self, name: str, seed: int) -> Path:
        return FOLDER / self.setup.encoder / f"{name}-{seed}.json"

    def is_done(self, name: str, seed: int) -> bool:
        path = self.place(name, seed)
        return path.is_file() and setup_of(json.loads(path.read_text(encoding="utf-8"))) == asdict(self.setup)

    def train(
        self, name: str, seed: int, pairs: PairTable | None = None, base: str | None = None, steps: int | None = None
    ) -> tuple[Path, float, str | None]:
        """The folder of a trained network, its pairs a second, and the warning of a collapse if there was one."""
        method, steps = METHODS[name], steps or self.setup.steps
        settings = TrainSettings(
            base=base or self.base,
            batch_size=self.setup.batch_size,
            learning_rate=self.setup.learning_rate,
            max_length=self.setup.max_length,
            dropout=0.1 if method.unsupervised else 0.0,
            precision=self.setup.precision,
            seed=seed,
            max_steps=steps,
            save_steps=100_000,
        )
        output = self.work / "networks" / f"{self.setup.encoder}-{name}-{seed}-{os.getpid()}"
        table = self.pairs if pairs is None else pairs
        record = train(method.kind, table, output, settings, method=name, restart=True)
        seen = len(table) if method.closed_form else steps * self.setup.batch_size
        return output, seen / record["seconds"], record.get("collapse")

    def score(self, scorer: Scorer) -> tuple[dict[str, NDArray[np.float64]], float]:
        """Raw scores of each held split, and pairs a second over the test."""
        few = self.held["validation"].take(np.arange(128))
        scorer.score(few.left, few.right)
        scores: dict[str, NDArray[np.float64]] = {}
        speed = 0.0
        for split, table in self.held.items():
            start = time.perf_counter()
            scores[split] = scorer.score(table.left, table.right)
            speed = len(table) / (time.perf_counter() - start)
        return scores, speed

    def trained_and_scored(self, name: str, seed: int, **how: Any) -> dict[str, Any]:
        folder, trained, collapse = self.train(name, seed, **how)
        scores, scored = self.score(scorer_of(METHODS[name].kind, folder))
        shutil.rmtree(folder)
        speeds = {"train_pairs_per_second": trained, "score_pairs_per_second": scored}
        return {"scores": scores, "collapse": collapse, **speeds}

    def run(self, name: str, seed: int) -> dict[str, Any]:
        """Raw scores and speeds of one row of the table."""
        if name == DROPOUT_START:
            start, first, _ = self.train("dropout-contrast", seed)
            row = self.trained_and_scored("cosent+ranking", seed, base=str(start))
            shutil.rmtree(start)
            # Twice the steps for the same rows: half the pairs a second at like speed.
            return row | {"train_pairs_per_second": 1 / (1 / first + 1 / row["train_pairs_per_second"])}
        if name == CLUSTERED:
            return mean_of([self.trained_and_scored(self.setup.ensemble_of, seed, **how) for how in self.parts(seed)])
        return self.trained_and_scored(name, seed)

    def parts(self, seed: int) -> list[dict[str, Any]]:
        """The rows of each cluster, and its share of the steps."""
        embedder = BiEncoder(self.base)
        vectors = [embedder.embed(side) for side in (self.pairs.left, self.pairs.right)]
        part = cluster_pairs(*vectors, CLUSTERS, seed)
        sizes = np.bincount(part, minlength=CLUSTERS)
        return [
            {"pairs": self.pairs.take(part == one), "steps": max(1, round(self.setup.steps * size / len(self.pairs)))}
            for one, size in enumerate(sizes)
        ]

    def seeded(self, seeds: list[int]) -> dict[str, Any] | None:
        """The mean of the networks of every seed, if all were measured."""
        kept = [self.scores_of(self.setup.ensemble_of, seed) for seed in seeds]
        if len(kept) < 2 or not all(
            path.is_file() and self.is_done(self.setup.ensemble_of, seed)
            for path, seed in zip(kept, seeds, strict=True)
        ):
            return None
        rows = []
        for path, seed in zip(kept, seeds, strict=True):
            row = json.loads(self.place(self.setup.ensemble_of, seed).read_text(encoding="utf-8"))
            with np.load(path) as scores:
                rows.append({**row, "scores": dict(scores)})
        # Each member sees all rows, so the ensemble takes as many times the work.
        merged = mean_of(rows)
        return merged | {"train_pairs_per_second": merged["train_pairs_per_second"] / len(rows)}

    def scores_of(self, name: str, seed: int) -> Path:
        return self.work / "scores" / f"{self.setup.encoder}-{name}-{seed}.npz"

    def write(self, name: str, seed: int, row: dict[str, Any]) -> None:
        """The figures of one row, on the test, as JSON."""
        scores, calibration, test = row.pop("scores"), self.held["calibration"], self.held["test"]
        calibrator = fit_calibrator(scores["calibration"], calibration.labels, calibration.groups)
        cut = best_cut(scores["validation"], self.held["validation"].labels)
        probabilities = calibrator.probabilities(scores["test"])
        figures = compute_metrics(scores["test"], probabilities, test.labels, test.groups, cut, resamples=RESAMPLES)
        path = self.scores_of(name, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **scores)
        self.place(name, seed).parent.mkdir(parents=True, exist_ok=True)
        result = {
            "name": name,
            "seed": seed,
            "setup": asdict(self.setup),
            "pairs": len(test),
            "groups": len(np.unique(test.groups)),
            "base_rate": test.base_rate,
            **{key: row[key] for key in ("train_pairs_per_second", "score_pairs_per_second")},
            "collapse": row.get("collapse"),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "load": os.getloadavg()[0],
            "calibrator": calibrator.kind,
            "metrics": {key: figures[key].to_dict() for key in ("average_precision", "accuracy", "ece_mass")},
            "draws": draws(scores["test"], test, cut),
            "versions": versions(),
        }
        write_json(self.place(name, seed), result)
        print(f"{name:<20} seed {seed}: AP {figures['average_precision']}", flush=True)


def best_cut(scores: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """The score from which calling pairs duplicates is right most often."""
    order = np.argsort(-scores, kind="stable")
    return float(scores[order][int(np.argmax(np.cumsum(np.where(labels[order] == 1, 1, -1))))])


def scorer_of(kind: str, folder: Path) -> Scorer:
    return CosineScorer(BiEncoder(folder)) if kind == "bi-encoder" else CrossEncoderScorer(folder)


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of members' logits; each is first put to unit spread on validation, for their scales differ."""
    names = list(rows[0]["scores"])
    spreads = [float(row["scores"]["validation"].std()) or 1.0 for row in rows]
    return {
        "scores": {
            name: np.mean([row["scores"][name] / spread for row, spread in zip(rows, spreads, strict=True)], axis=0)
            for name in names
        },
        "train_pairs_per_second": float(np.mean([row["train_pairs_per_second"] for row in rows])),
        "score_pairs_per_second": 1 / sum(1 / row["score_pairs_per_second"] for row in rows),
    }


def draws(scores: NDArray[np.float64], test: PairTable, cut: float) -> dict[str, list[float]]:
    """Average precision and accuracy on resampled question groups, the same for every method, so that they compare."""
    _, group = np.unique(test.groups, return_inverse=True)
    right = (scores >= cut) == (test.labels == 1)
    figures: dict[str, Callable[[NDArray[Any]], float]] = {
        "average_precision": lambda w: float(average_precision_score(test.labels, scores, sample_weight=w)),
        "accuracy": lambda w: float(np.average(right, weights=w)),
    }
    rng, count = np.random.default_rng(0), int(group.max()) + 1
    weights = [np.bincount(rng.integers(0, count, count), minlength=count)[group] for _ in range(RESAMPLES)]
    return {name: [round(figure(w), 6) for w in weights] for name, figure in figures.items()}


def run(args: argparse.Namespace) -> None:
    set_verbosity_error()  # what each network lacks when it is opened would drown the results
    family = Family(args)
    for seed in args.seeds:
        for name in args.methods:
            if name != SEEDED and not family.is_done(name, seed):
                family.write(name, seed, family.run(name, seed))
    if SEEDED in args.methods and not family.is_done(SEEDED, 0):
        row = family.seeded(args.seeds)
        if row is not None:
            family.write(SEEDED, 0, row)


def cluster_pairs(left: NDArray[Any], right: NDArray[Any], clusters: int, seed: int = 0) -> NDArray[np.int64]:
    """Cluster pairs by topic, for an ensemble with one member per cluster (Jacobs et al. 1991).

    Args:
        left, right: Embeddings of the two questions of n pairs, (n, d).
        clusters: Number of clusters of k-means on the mean vectors of the pairs.
        seed: Seed of the first centres.

    Returns:
        int64 array (n,), each in [0, clusters); independent of the order within a pair.
    """
    means = np.asarray(left, dtype=np.float64) + np.asarray(right, dtype=np.float64)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return np.asarray(KMeans(clusters, n_init=4, random_state=seed).fit_predict(means), dtype=np.int64)
