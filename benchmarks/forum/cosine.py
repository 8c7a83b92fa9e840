"""How well bi-encoders rank the pairs of a forum by their cosine alone.

    python -m benchmarks.forum cosine --test FILE [--network NAME=DIR ...] [--where natural=1]

Of the first 20,000 questions of a labelled file that no network was trained on: average precision over its labelled
pairs, and in mining, over all pairs of its questions (see `Corpus.quality`). A network that the output holds already is
not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks.forum.corpus import Corpus, average_precisions
from dupq.data.writing import write_json
from dupq.forum.exact import similar_pairs
from dupq.models.networks import form_of, open_bi_encoder
from dupq.models.scorers import Embedder
from dupq.pipeline import SHIPPED
from dupq.training.trainer import versions

LEAST, MOST = 0.3, 1_000_000
"""Of the pairs of at least this cosine, so many are ranked at most: the others are far below any threshold."""
RESAMPLES = 200
KINDS = ("labelled_pairs", "mining", "closures", "labelled")


def ranked(corpus: Corpus, embedder: Embedder) -> dict[str, Any]:
    """The figures of one bi-encoder, and what they are in resamples."""
    vectors = embedder.embed(corpus.texts)
    found = similar_pairs(vectors, threshold=LEAST, max_pairs=MOST)
    marks = corpus.marks(found.left, found.right)
    cosines = (vectors[corpus.left].astype(np.float64) * vectors[corpus.right]).sum(axis=1)
    closures, pairs = corpus.closures, corpus.closure_pairs

    def precisions(drawn: NDArray[np.float64]) -> dict[str, float]:
        mined, labelled = (_weights(drawn, closures[one.left], closures[one.right]) for one in (found, corpus))
        wanted, within = float(labelled[corpus.labels == 1].sum()), float(drawn @ pairs)
        alone = float(average_precision_score(corpus.labels, cosines, sample_weight=labelled))
        in_mining = average_precisions(marks, found.cosine, wanted, within, mined)
        return dict(zip(KINDS, (alone, *in_mining), strict=True))

    draws = np.random.default_rng(0).poisson(1.0, (RESAMPLES, len(pairs))).astype(np.float64)
    again = [precisions(drawn) for drawn in draws]
    values = precisions(np.ones(len(pairs)))
    return {
        "average_precision": values,
        "resamples": {kind: [round(one[kind], 5) for one in again] for kind in values},
        "ranked": len(found),
        "least_cosine": float(found.cosine.min()),
    }


def _weights(drawn: NDArray[np.float64], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often pairs count whose questions are of these closures."""
    return np.where(left == right, drawn[left], drawn[left] * drawn[right])


def run(args: argparse.Namespace) -> None:
    where = dict([args.where.split("=", 1)]) if args.where else None
    corpus, output = Corpus.of(args.test, where).prefix(args.questions), Path(args.output)
    report: dict[str, Any] = {
        "command": "python -m benchmarks.forum cosine",
        "questions": len(corpus.texts),
        "labelled_pairs": len(corpus.left),
        "labelled_duplicates": int(corpus.labels.sum()),
        "closure_pairs": int(corpus.closure_pairs.sum()),
    }
    rows: list[dict[str, Any]] = []
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if all(before.get(key) == value for key, value in report.items()):
            rows = before["rows"]
    told = [one.partition("=") for one in args.network or [f"ships now={SHIPPED / 'bi-encoder'}"]]
    if not all(name and folder for name, _, folder in told):
        raise SystemExit("cosine: --network takes NAME=DIR")
    for name, _, folder in told:
        embedder = open_bi_encoder(form_of(folder), Path(folder))
        if any((row["name"], row["fingerprint"]) == (name, embedder.fingerprint) for row in rows):
            continue
        rows = [row for row in rows if row["name"] != name]
        rows.append({"name": name, "fingerprint": embedder.fingerprint, **ranked(corpus, embedder)})
        print(json.dumps(rows[-1]), flush=True)
        write_json(output, {**report, "versions": versions(), "rows": rows})
