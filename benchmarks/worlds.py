"""How a pipeline decides the questions and posts written for this project, beside the cosine of other encoders.

    python -m benchmarks.worlds [--model DIR] [--encoders DIR|ID...]

The pairs are those of the clusters in `data_scripts/worlds` that are for measuring alone: `worlds_dev`, `posts_dev`
and, where the file is there, `long_posts`. A pair sent to review is not flagged. The hardest near misses are, of each
cluster, the pair of a text and a near miss that shares most words; their ROC AUC is against all paraphrases. Posts are
decided at the shipped threshold, and again with all pairs weighted so that half are duplicates, by the shipped
threshold and by that of `with_base_rate(0.5)`. Six pairs of everyday questions follow. Intervals are 95 %, by
resampling clusters. Results go to `benchmarks/results/worlds.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.intervals import average_precision, mean, mean_at_half, resampled, roc_auc
from benchmarks.readme import RESULTS, figure
from data_scripts.clusters import TWO_NEAR_MISSES, WORLDS, ClusterPair, post_pairs, read_clusters, world_pairs
from dupq import DuplicatePipeline
from dupq.data.text import normalise
from dupq.data.writing import write_json
from dupq.models.bi_encoder import BiEncoder
from dupq.models.ensemble import CosineScorer
from dupq.training.precision import bfloat16_is_faster
from dupq.types import Decision, Scorer

EVERYDAY = (
    ("How old are you?", "What is your age?", 1),
    ("Where do you live?", "Where are you living?", 1),
    ("Where are you going?", "Where are you living?", 0),
    ("How do I merge two dictionaries in Python?", "What is the best way to combine two dicts?", 1),
    ("How do I merge two dictionaries in Python?", "How do I merge two lists in Python?", 0),
    ("What is the capital of France?", "What's France's capital city?", 1),
)
"""Everyday questions that a newcomer tries first, with their labels."""
SURE = 0.85
"""Wanted probability of the label of each of them."""
PARTS = ("post and post", "post and title", "title and title")


@contextmanager
def fast_arithmetic() -> Iterator[None]:
    """Run encoders in bfloat16 where that is faster."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16_is_faster()):
        yield


@dataclass(frozen=True)
class Scored:
    """Pairs with the scores of every scorer and the decisions of the pipeline.

    Attributes:
        pairs: Labelled pairs, n.
        scores: Scores (n,) by scorer; the pipeline is "dupq".
        flagged: The pairs (n,) that the pipeline flags at the shipped threshold.
        flagged_at_half: The same by the threshold for a base rate of one half.
    """

    pairs: list[ClusterPair]
    scores: dict[str, NDArray[np.float64]]
    flagged: NDArray[np.bool_]
    flagged_at_half: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array([pair.label for pair in self.pairs])

    @property
    def clusters(self) -> NDArray[np.int64]:
        return np.array([pair.cluster for pair in self.pairs])

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """The pairs (n,) decided wrongly."""
        return np.asarray(self.flagged != (self.labels == 1), bool)

    def where(self, holds: Callable[[ClusterPair], bool]) -> Scored:
        """Return the pairs for which a condition holds."""
        places = np.flatnonzero([holds(pair) for pair in self.pairs])
        return Scored(
            [self.pairs[place] for place in places],
            {name: scores[places] for name, scores in self.scores.items()},
            self.flagged[places],
            self.flagged_at_half[places],
        )

    def summary(self) -> dict[str, Any]:
        return {
            "pairs": len(self.pairs),
            "clusters": len({*self.clusters.tolist()}),
            "duplicates": float(self.labels.mean()),
        }


def score(pipeline: DuplicatePipeline, encoders: dict[str, Scorer], pairs: Iterable[ClusterPair]) -> Scored:
    """Score and decide pairs."""
    table = list(pairs)
    left, right = [pair.question1 for pair in table], [pair.question2 for pair in table]
    decided = pipeline.score_pairs(left, right)
    scores = {"dupq": np.array([pair.score for pair in decided])}
    with fast_arithmetic():
        scores |= {name: encoder.score(left, right) for name, encoder in encoders.items()}
    unknown = np.array([any(told.kind == "unknown_language" for told in pair.warnings) for pair in decided])
    at_half = pipeline.with_base_rate(0.5).decider.decide(scores["dupq"], unknown)
    return Scored(
        table,
        scores,
        np.array([pair.decision == Decision.DUPLICATE for pair in decided]),
        np.array([decision == Decision.DUPLICATE for decision in at_half]),
    )


def overlap(pair: ClusterPair) -> float:
    """Return the Jaccard index of two texts' words."""
    one, other = set(normalise(pair.question1).split()), set(normalise(pair.question2).split())
    return len(one & other) / len(one | other)


def hardest(pairs: Iterable[ClusterPair]) -> list[ClusterPair]:
    """Return, of each cluster, the near miss that shares most words with one of the texts that ask the same."""
    best: dict[int, ClusterPair] = {}
    for pair in pairs:
        if pair.label == 0 and pair.kind != TWO_NEAR_MISSES:
            best[pair.cluster] = max(best.get(pair.cluster, pair), pair, key=overlap)
    return list(best.values())


def ranking(scored: Scored, resamples: int) -> dict[str, dict[str, dict[str, float]]]:
    """ROC AUC and average precision by scorer."""
    return {
        name: resampled(
            {"roc_auc": roc_auc(scored.labels, scores), "average_precision": average_precision(scored.labels, scores)},
            scored.clusters,
            resamples,
        )
        for name, scores in scored.scores.items()
    }


def questions(scored: Scored, resamples: int) -> dict[str, Any]:
    """The figures of clusters of questions."""
    difficult = {id(pair) for pair in hardest(scored.pairs)}
    hard = scored.where(lambda pair: pair.label == 1 or id(pair) in difficult)
    near_misses = sorted({pair.kind for pair in scored.pairs if pair.label == 0} - {TWO_NEAR_MISSES})
    kinds = {kind: scored.where(lambda pair, kind=kind: pair.kind == kind) for kind in near_misses}  # type: ignore[misc]
    parts = {
        "paraphrase": scored.where(lambda pair: pair.label == 1),
        **kinds,
        TWO_NEAR_MISSES: scored.where(lambda pair: pair.kind == TWO_NEAR_MISSES),
        "hardest near miss": hard.where(lambda pair: pair.label == 0),
    }
    return {
        **scored.summary(),
        "scorers": ranking(scored, resamples),
        "hardest": {
            name: resampled({"roc_auc": roc_auc(hard.labels, scores)}, hard.clusters, resamples)["roc_auc"]
            for name, scores in hard.scores.items()
        },
        "accuracy": resampled({"accuracy": mean(~scored.wrong)}, scored.clusters, resamples)["accuracy"],
        "kinds": [
            {
                "kind": kind,
                "pairs": len(part.pairs),
                "wrong": resampled({"wrong": mean(part.wrong)}, part.clusters, resamples)["wrong"],
            }
            for kind, part in parts.items()
        ],
    }


def posts(scored: Scored, resamples: int) -> list[dict[str, Any]]:
    """The figures of clusters of posts: of all pairs, and by their two parts."""
    rows = []
    for part in ("all", *PARTS):
        taken = scored.where(lambda pair, part=part: part in ("all", pair.kind))  # type: ignore[misc]
        decided = {"shipped": taken.flagged, "with_base_rate(0.5)": taken.flagged_at_half}
        half = {
            by: resampled(
                {
                    "accuracy": mean_at_half(flagged == (taken.labels == 1), taken.labels),
                    "flagged": mean_at_half(flagged, taken.labels),
                },
                taken.clusters,
                resamples,
            )
            for by, flagged in decided.items()
        }
        accuracy = resampled({"accuracy": mean(~taken.wrong)}, taken.clusters, resamples)["accuracy"]
        scorers = ranking(taken, resamples)
        rows.append({"part": part, **taken.summary(), "scorers": scorers, "accuracy": accuracy, "half": half})
    return rows


def everyday(pipeline: DuplicatePipeline) -> list[dict[str, Any]]:
    """Probability and decision of each of the six pairs."""
    left, right, labels = zip(*EVERYDAY, strict=True)
    return [
        {
            "question1": pair.question1,
            "question2": pair.question2,
            "label": label,
            "probability": pair.probability,
            "right": (pair.decision == Decision.DUPLICATE) == (label == 1),
            "sure": (pair.probability if label else 1 - pair.probability) >= SURE,
        }
        for pair, label in zip(pipeline.score_pairs(left, right), labels, strict=True)
    ]


def measure(pipeline: DuplicatePipeline, encoders: dict[str, Scorer], resamples: int) -> dict[str, Any]:
    """Return all figures of one pipeline."""
    sets = [name for name in ("posts_dev", "long_posts") if (WORLDS / f"{name}.jsonl.xz").exists()]
    return {
        "command": "python -m benchmarks.worlds",
        "model": pipeline.fingerprint,
        "threshold": pipeline.threshold,
        "base_rate": pipeline.decider.base_rate,
        "resamples": resamples,
        "worlds_dev": questions(score(pipeline, encoders, world_pairs(read_clusters("worlds_dev"))), resamples),
        **{name: posts(score(pipeline, encoders, post_pairs(read_clusters(name))), resamples) for name in sets},
        "everyday": everyday(pipeline),
    }


def lines(results: dict[str, Any]) -> Iterator[str]:
    """Yield the tables as text."""
    worlds = results["worlds_dev"]
    of = f"of {worlds['clusters']} clusters, {worlds['duplicates']:.1%} duplicates"
    yield f"worlds_dev: {worlds['pairs']:,} pairs {of}"
    yield f"{'':<20} {'ROC AUC':<22} {'average precision':<22} ROC AUC, hardest near misses"
    for name, row in worlds["scorers"].items():
        cells = (row["roc_auc"], row["average_precision"], worlds["hardest"][name])
        yield f"{name:<20} {'  '.join(map(figure, cells))}"
    yield f"accuracy at the shipped threshold: {figure(worlds['accuracy'])}"
    yield f"accuracy if all were distinct: {1 - worlds['duplicates']:.3f}"
    yield "decided wrongly:"
    yield from (f"{row['kind']:<20} {row['pairs']:>6} {figure(row['wrong'])}" for row in worlds["kinds"])
    for name in ("posts_dev", "long_posts"):
        for row in results.get(name, ()):
            yield f"\n{name}, {row['part']}: {row['pairs']:,} pairs, {row['duplicates']:.1%} duplicates"
            for scorer, cells in row["scorers"].items():
                yield f"{scorer:<20} AUC {figure(cells['roc_auc'])}  AP {figure(cells['average_precision'])}"
            yield f"accuracy at the shipped threshold: {figure(row['accuracy'])}"
            for by, cells in row["half"].items():
                yield f"half duplicates, {by}: accuracy {figure(cells['accuracy'])}, flagged {figure(cells['flagged'])}"
    yield "\neveryday pairs: label, probability"
    for row in results["everyday"]:
        verdict = ("right" if row["right"] else "wrong") + (", sure" if row["sure"] else "")
        yield f"{row['label']} {row['probability']:.3f} {verdict:<12} {row['question1']} / {row['question2']}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="pipeline folder (default: the shipped one)")
    parser.add_argument("--encoders", nargs="+", default=[], metavar="DIR|ID", help="encoders to compare with")
    parser.add_argument("--resamples", type=int, default=200, help="resamples of the clusters (default: %(default)s)")
    parser.add_argument("-o", "--output", default=str(RESULTS / "worlds.json"))
    args = parser.parse_args(arguments)
    encoders: dict[str, Scorer] = {Path(name).name: CosineScorer(BiEncoder(name)) for name in args.encoders}
    results = measure(DuplicatePipeline.from_pretrained(args.model), encoders, args.resamples)
    write_json(args.output, results)
    print("\n".join(lines(results)))


if __name__ == "__main__":
    main()
