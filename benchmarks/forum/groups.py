"""Which linkage makes the duplicate groups that people made; and whether the probabilities of candidates hold.

    python -m benchmarks.forum groups --test FILE --scratch DIR [--where natural=1] [--model DIR]

The first 20,000 questions of a labelled file that no network was trained on are mined as a forum. The true groups are
the transitive closure of its labelled duplicates. A pair in one found group whose questions the labels never joined
counts as wrong, so that precision is understated for all linkages alike; `labelled` counts labelled pairs only.

`candidates` holds the mean probability of those candidates that have a label against their share of duplicates: mining
keeps probabilities as calibrated, though the share of duplicates among candidates is another.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.forum.corpus import Corpus
from dupq.data.writing import write_json
from dupq.decisions.candidate_rule import NEAR_COSINE
from dupq.decisions.decider import embedder_of
from dupq.mining.clustering import LINKAGES, duplicate_groups
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.mining.results import MiningResult
from dupq.pipeline import DuplicatePipeline
from dupq.training.trainer import versions

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)


def pairwise_quality(found: NDArray[np.int64], true: NDArray[np.int64]) -> dict[str, float]:
    """Compare groups with known ones, counted over pairs of questions that are in one group.

    Args:
        found, true: The group of each question, (n,).

    Returns:
        precision, recall and f1 of the pairs, and the size of the largest found and true group.
    """

    def pairs(keys: NDArray[np.int64]) -> float:
        count = np.unique(keys, return_counts=True)[1].astype(np.float64)
        return float((count * (count - 1) / 2).sum())

    both = np.unique(np.stack([found, true]), axis=1, return_inverse=True)[1]
    n_both, n_found, n_true = pairs(both), pairs(found), pairs(true)
    precision, recall = n_both / n_found if n_found else 1.0, n_both / n_true if n_true else 1.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "largest_found": float(np.unique(found, return_counts=True)[1].max(initial=0)),
        "largest_true": float(np.unique(true, return_counts=True)[1].max(initial=0)),
    }


def linkages(mined: MiningResult, corpus: Corpus, true: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Every linkage at every threshold."""
    same, rows = corpus.labels == 1, []
    texts = len(mined.questions.first)
    for threshold in (mined.decider.threshold, *THRESHOLDS):
        for linkage in LINKAGES:
            grouping = duplicate_groups(
                texts, mined.left, mined.right, mined.probabilities, threshold=threshold, linkage=linkage
            )
            found = grouping.labels(texts)[mined.questions.text_of]
            together = found[corpus.left] == found[corpus.right]
            hits, said, wanted = int((together & same).sum()), int(together.sum()), int(same.sum())
            labelled = {"precision": hits / max(1, said), "recall": hits / wanted, "f1": 2 * hits / (said + wanted)}
            told = {"linkage": linkage, "threshold": threshold, "fitted": threshold == mined.decider.threshold}
            rows.append({**told, **pairwise_quality(found, true), "labelled": labelled})
    return rows


def candidates(mined: MiningResult, corpus: Corpus) -> dict[str, Any]:
    """What the labels say of the candidates that have one."""
    every = mined.questions
    keys = corpus.keys(every.first[mined.left], every.second[mined.right])
    known = dict(zip(corpus.keys(corpus.left, corpus.right).tolist(), corpus.labels.tolist(), strict=True))
    label = np.array([known.get(key, -1) for key in keys.tolist()])
    labelled, flagged = label >= 0, (label >= 0) & (mined.codes == 2)
    return {
        "all": len(label),
        "base_rate": mined.base_rate,
        "expected": mined.expected,
        "labelled": int(labelled.sum()),
        "mean_probability": float(mined.probabilities[labelled].mean()),
        "share_of_duplicates": float(label[labelled].mean()),
        "flagged": int(flagged.sum()),
        "flagged_mean_probability": float(mined.probabilities[flagged].mean()),
        "flagged_share_of_duplicates": float(label[flagged].mean()),
    }


def run(args: argparse.Namespace) -> None:
    where = dict([args.where.split("=", 1)]) if args.where else None
    corpus, output = Corpus.of(args.test, where).prefix(args.questions), Path(args.output)
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    n = len(corpus.texts)
    report: dict[str, Any] = {
        "command": "python -m benchmarks.forum groups",
        "pipeline": pipeline.fingerprint,
        "questions": n,
        "labelled_pairs": len(corpus.left),
        "min_cosine": NEAR_COSINE,
    }
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if all(before.get(key) == value for key, value in report.items()):
            return
    mined = find_duplicates(
        pipeline,
        corpus.texts,
        settings=MiningSettings(NEAR_COSINE),
        work=Path(args.scratch) / f"groups-{embedder_of(pipeline).fingerprint}-{n}",
        progress=lambda stage, done, total: print(f"\r{stage} {done:,}/{total:,}   ", end="", flush=True),
    )
    print()
    rows = linkages(mined, corpus, corpus.duplicate_components)
    report |= {"threshold": mined.decider.threshold, "candidates": candidates(mined, corpus)}
    write_json(output, {**report, "versions": versions(), "rows": rows})
