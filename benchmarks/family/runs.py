"""Trains and measures every method with the same encoder, rows, batches, steps and seeds, on a group-disjoint test.

Each is trained twice, on Quora rows alone and on as many of which half are near misses, and measured on Quora's test
and on the near misses of `worlds_dev` and `posts_dev`. Results lie in a folder an encoder and a training set. A process
leaves what another one works at: start one a core, with `OMP_NUM_THREADS=1`.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import average_precision_score, roc_auc_score
from transformers.utils.logging import set_verbosity_error

from benchmarks.elsewhere import interval
from benchmarks.family import sets
from benchmarks.readme import RESULTS
from data_scripts.clusters import ClusterPair
from dupq.calibration.calibrators import fit_calibrator
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.writing import write_text
from dupq.evaluation.metrics import compute_metrics
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.ensemble import CosineScorer
from dupq.training.methods import METHODS
from dupq.training.trainer import TrainSettings, train, versions
from dupq.types import Scorer

FOLDER = RESULTS / "family"
RESAMPLES = 200
KIND_RESAMPLES = 50
"""Resamples of the ROC AUC of each kind of near miss."""
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
    training: str
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
    """The setup of a result; the first ones, all in float32 and on Quora rows, do not say so."""
    return {"precision": "float32", "training": sets.QUORA, **row["setup"]}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--splits", required=True, help="made by `dupq data split`")
    parser.add_argument("--base", required=True, help="folder of the encoder; its name stands in the table")
    parser.add_argument("--work", required=True, help="folder for raw scores and for networks, which are removed again")
    parser.add_argument("--rows", type=int, default=20_000, help="training pairs, whole question groups (20000)")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text; twice that of both (128)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of training, and of products in scoring (float32)",
    )
    parser.add_argument("--held", type=int, default=8000, help="pairs at most of each other split (8000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    parser.add_argument("--training", nargs="+", choices=sets.TRAININGS, default=list(sets.TRAININGS), metavar="NAME")
    parser.add_argument("--best-of", metavar="ENCODER", help="add the ten best methods of that encoder's results")
    parser.add_argument("--hours", type=float, default=math.inf, help="start no run after that time")
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


@cache
def quora(folder: Path, rows: int, held: int) -> tuple[PairTable, dict[str, PairTable]]:
    """Training pairs, and those of the other splits."""
    splits = {
        name: whole_groups(load_pairs(folder / f"{name}.jsonl"), held, max(1, held // 100))
        for name in ("validation", "calibration", "test")
    }
    return whole_groups(load_pairs(folder / "train.jsonl", where={"natural": "1"}), rows), splits


class Family:
    """The data and the settings, and what trains and measures one method on them."""

    def __init__(self, args: argparse.Namespace, training: str = sets.QUORA) -> None:
        self.pairs, held = quora(Path(args.splits), args.rows, args.held)
        self.held = dict(held)
        if training == sets.MIXED:
            part, held_out = whole_groups(self.pairs, args.rows // 2), len(held["validation"])
            near_misses = sets.worlds_rows(len(self.pairs) - len(part), held_out=False)
            self.pairs = sets.joined(part, near_misses)
            self.held["worlds_validation"] = sets.worlds_rows(held_out, held_out=True, times=2)
        self.near_misses = {name: sets.measured_pairs(name) for name in sets.MEASURED}
        self.held |= {name: sets.table_of(pairs) for name, pairs in self.near_misses.items()}
        self.base, self.work = args.base, Path(args.work)
        self.setup = Setup(
            encoder=Path(args.base).name,
            training=training,
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
        return FOLDER / self.setup.encoder / self.setup.training / f"{name}-{seed}.json"

    def is_done(self, name: str, seed: int) -> bool:
        path = self.place(name, seed)
        return path.is_file() and setup_of(json.loads(path.read_text(encoding="utf-8"))) == asdict(self.setup)

    @contextmanager
    def claimed(self, name: str, seed: int) -> Iterator[bool]:
        """True while no other process works at this result; a claim ends with its process."""
        path = self.work / "claims" / f"{self._key(name, seed)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield not self.is_done(name, seed)

    def _key(self, name: str, seed: int) -> str:
        return f"{self.setup.encoder}-{self.setup.training}-{name}-{seed}"

    def train(
        self, name: str, seed: int, pairs: PairTable | None = None, base: str | None = None, steps: int | None = None
    ) -> tuple[Path, float, str | None]:
        """The folder of a trained network, its pairs a second, and the warning of a collapse if there was one."""
        method, steps = METHODS[name], steps or self.setup.steps
        settings = TrainSettings(
            base=base or self.base,
            batch_size=self.setup.batch_size,
            learning_rate=self.setup.learning_rate,
            max_length=self.setup.max_length * (2 if reads_both(name) else 1),
            dropout=0.1 if method.needs_dropout else 0.0,
            precision=self.setup.precision,
            seed=seed,
            max_steps=steps,
            save_steps=100_000,
        )
        output = self.work / "networks" / f"{self._key(name, seed)}-{os.getpid()}"
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
        with products_in(self.setup.precision):
            for split, table in self.held.items():
                start = time.perf_counter()
                scores[split] = scorer.score(table.left, table.right)
                if split == "test":
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
        return self.work / "scores" / f"{self._key(name, seed)}.npz"

    def write(self, name: str, seed: int, row: dict[str, Any]) -> None:
        """The figures of one row, on the test, as JSON."""
        scores, calibration, test = row.pop("scores"), self.held["calibration"], self.held["test"]
        calibrator = fit_calibrator(scores["calibration"], calibration.labels, calibration.groups)
        own = [split for split in ("validation", "worlds_validation") if split in self.held]
        cut = best_cut(
            np.concatenate([scores[split] for split in own]),
            np.concatenate([self.held[split].labels for split in own]),
        )
        probabilities = calibrator.probabilities(scores["test"])
        figures = compute_metrics(scores["test"], probabilities, test.labels, test.groups, cut, resamples=RESAMPLES)
        path = self.scores_of(name, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **scores)
        self.place(name, seed).parent.mkdir(parents=True, exist_ok=True)
        near_misses, drawn = {}, draws(scores["test"], test, cut)
        for split, pairs in self.near_misses.items():
            near_misses[split], more = near_miss_figures(scores[split], pairs, cut)
            drawn |= {f"{split} {measure}": values for measure, values in more.items()}
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
            "near_misses": near_misses,
            "draws": drawn,
            "versions": versions(),
        }
        write_text(self.place(name, seed), json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n")
        auc = near_misses[sets.WORLDS]["roc_auc"]["value"]
        told = f"AP {figures['average_precision']}, AUC of near misses {auc:.3f}"
        print(f"{self.setup.training:<12} {name:<20} seed {seed}: {told}", flush=True)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Compute matrix products in a precision; their inputs and outputs stay in float32."""
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    if precision == "bfloat16":
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def reads_both(name: str) -> bool:
    """True for a method that reads both questions in one input, which then has to hold both."""
    return METHODS[name].kind == "cross-encoder" and not METHODS[name].network


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
    weights = sets.resampled_groups(group, RESAMPLES)[:, group]
    return {name: [round(figure(w), 4) for w in weights] for name, figure in figures.items()}


def weighted_roc_auc(labels: NDArray[Any], scores: NDArray[np.float64], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ROC AUC under m weightings of n pairs: as `roc_auc_score`, by one sort for all of them.

    Args:
        labels, scores: Of each pair, (n,).
        weights: Weights of each pair, (m, n).

    Returns:
        (m,); each in [0, 1], and 0.5 where a weighting leaves out a label.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    duplicates, others = (
        np.add.reduceat(weights[:, order] * (labels[order] == label), starts, axis=1, dtype=np.float64)
        for label in (1, 0)
    )
    below = others.cumsum(axis=1) - others / 2  # a tie counts half
    pairs = duplicates.sum(axis=1) * others.sum(axis=1)
    ordered = (duplicates * below).sum(axis=1)
    return np.asarray(np.divide(ordered, pairs, out=np.full(len(pairs), 0.5), where=pairs > 0))


def near_miss_figures(
    scores: NDArray[np.float64], pairs: Sequence[ClusterPair], cut: float
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Figures of a set of near misses with intervals over its clusters, and the draws of its ROC AUC.

    `close` is the ROC AUC where few words decide, against all duplicates, and `kinds` that of each kind of near miss of
    a text. `flagged` are the decisions as bits, from which the page draws all else.
    """
    labels, cluster = (np.array([getattr(pair, name) for pair in pairs]) for name in ("label", "cluster"))
    weights = sets.resampled_groups(cluster, RESAMPLES)[:, cluster]
    flagged, kinds = scores >= cut, sets.kinds(pairs)
    wrong = flagged != (labels == 1)
    close = np.array([sets.is_close(pair) for pair in pairs])
    chosen = {"roc_auc": np.ones(len(pairs), bool)} | ({"close": close | (labels == 1)} if close.any() else {})
    figures: dict[str, Any] = {"pairs": len(pairs), "clusters": len(set(cluster.tolist()))}
    drawn: dict[str, list[float]] = {}
    for name, of in chosen.items():
        auc = weighted_roc_auc(labels[of], scores[of], weights[:, of])
        drawn[name] = auc.round(4).tolist()
        figures[name] = interval(float(roc_auc_score(labels[of], scores[of])), auc)
    figures["kinds"] = {}
    for kind in sorted(set(kinds[(labels == 0) & (kinds != sets.TWO_NEAR_MISSES)].tolist())):
        of = (kinds == kind) | (labels == 1)
        auc = weighted_roc_auc(labels[of], scores[of], weights[:KIND_RESAMPLES, of])
        drawn[kind] = auc.round(4).tolist()
        figures["kinds"][kind] = interval(float(roc_auc_score(labels[of], scores[of])), auc)
    figures["accuracy"] = interval(float(1 - wrong.mean()), 1 - weights @ wrong / weights.sum(axis=1))
    figures["wrong"] = {}
    for kind in sorted(set(kinds.tolist())):
        of = kinds == kind
        # A resample without a pair of a rare kind counts as without an error.
        shares = weights[:, of] @ wrong[of] / np.maximum(weights[:, of].sum(axis=1), 1)
        figures["wrong"][kind] = interval(float(wrong[of].mean()), shares)
    figures["flagged"] = np.packbits(flagged).tobytes().hex()
    return figures, drawn


def plan(methods: Sequence[str], seeds: Sequence[int], trainings: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Name, seed and training set of each run, one seed of all methods after the other; ensembles of seeds come last.

    A method without training is the same for every seed, and runs once.
    """
    for seed in seeds:
        for name in methods:
            if name != SEEDED and (seed == seeds[0] or not is_fixed(name)):
                yield from ((name, seed, training) for training in trainings)
    yield from ((SEEDED, 0, training) for training in trainings if SEEDED in methods)


def is_fixed(name: str) -> bool:
    """True for a method whose result does not depend on the seed."""
    return name in METHODS and bool(METHODS[name].metric)


def methods_of(args: argparse.Namespace) -> list[str]:
    """The methods asked for, and the best of another encoder."""
    from benchmarks.family.results import best_methods

    more = best_methods(FOLDER / args.best_of) if args.best_of else []
    return list(dict.fromkeys([*args.methods, *more]))


def run(args: argparse.Namespace) -> None:
    set_verbosity_error()  # what each network lacks when it is opened would drown the results
    families = {training: Family(args, training) for training in args.training}
    until = time.monotonic() + 3600 * args.hours
    for name, seed, training in plan(methods_of(args), args.seeds, args.training):
        if time.monotonic() > until:
            break
        family = families[training]
        if family.is_done(name, seed):
            continue
        with family.claimed(name, seed) as mine:
            row = (family.seeded(args.seeds) if name == SEEDED else family.run(name, seed)) if mine else None
            if row is not None:
                family.write(name, seed, row)
            elif mine and name == SEEDED:
                member = family.setup.ensemble_of
                print(
                    f"{training:<12} {name}: results of {member} of two seeds, or their scores in --work, are missing"
                )


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
