"""Which linkage makes the duplicate groups that people made: pairwise F1 and the largest group.

    python -m benchmarks.forum groups --pairs FILE --model DIR

The questions of a labelled file that no network was trained on are mined as a forum. The true groups are the transitive
closure of its labelled duplicates. A pair in one found group whose questions the labels never joined counts as wrong,
so that precision is understated for all linkages alike; `labelled` counts labelled pairs only.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from benchmarks.forum.corpus import Corpus
from dupq.data.writing import write_json
from dupq.training.trainer import versions

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", required=True, help="labelled pairs of unseen question groups, in their natural mix")
    parser.add_argument("--model", required=True, help="a calibrated pipeline with both networks")
    parser.add_argument("--min-cosine", type=float)


def run(args: argparse.Namespace) -> None:
    from dupq.forum.groups import LINKAGES, duplicate_groups, pairwise_quality
    from dupq.forum.mining import MIN_COSINE, MiningSettings, find_duplicates
    from dupq.pipeline import DuplicatePipeline

    corpus = Corpus.of(args.pairs)
    n = len(corpus.texts)
    same = corpus.labels == 1
    edges = coo_matrix((np.ones(same.sum()), (corpus.left[same], corpus.right[same])), shape=(n, n))
    true = np.asarray(connected_components(edges, directed=False)[1])
    mined = find_duplicates(
        DuplicatePipeline.from_pretrained(args.model),
        corpus.texts,
        settings=MiningSettings(args.min_cosine or MIN_COSINE),
        progress=lambda stage, done, total: print(f"\r{stage} {done:,}/{total:,}   ", end="", flush=True),
    )
    row_of = mined.questions.text_of
    rows: list[dict[str, Any]] = []
    for threshold in (mined.decider.threshold, *THRESHOLDS):
        for linkage in LINKAGES:
            found = duplicate_groups(
                len(mined.questions.first),
                mined.left,
                mined.right,
                mined.probabilities,
                threshold=threshold,
                linkage=linkage,
            ).labels(len(mined.questions.first))[row_of]
            together = found[corpus.left] == found[corpus.right]
            hits = int((together & same).sum())
            labelled = {"precision": hits / max(1, int(together.sum())), "recall": hits / int(same.sum())}
            labelled["f1"] = 2 * hits / (int(together.sum()) + int(same.sum()))
            rows.append(
                {
                    "linkage": linkage,
                    "threshold": threshold,
                    "fitted": threshold == mined.decider.threshold,
                    **pairwise_quality(found, true),
                    "labelled": labelled,
                }
            )
            print("\n" + json.dumps(rows[-1]), end="", flush=True)
    print()
    write_json(
        args.output,
        {
            "command": "python -m benchmarks.forum groups",
            "questions": n,
            "labelled_pairs": len(corpus.left),
            "judged_pairs": len(mined.left),
            "threshold": mined.decider.threshold,
            "base_rate": mined.base_rate,
            "versions": versions(),
            "rows": rows,
        },
    )
