"""How well bi-encoders rank the pairs of a forum by their cosine alone.

    python -m benchmarks.forum cosine --test FILE --network NAME=DIR ... [--where natural=1]

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
from sklearn.metrics import average_precision_score

from benchmarks.forum.corpus import Corpus
from dupq.data.writing import write_json
from dupq.forum.exact import similar_pairs
from dupq.models.networks import form_of, open_bi_encoder
from dupq.models.scorers import Embedder
from dupq.training.trainer import versions

LEAST, MOST = 0.3, 1_000_000
"""Of the pairs of at least this cosine, so many are ranked at most: the others are far below any threshold."""


def ranked(corpus: Corpus, embedder: Embedder) -> dict[str, Any]:
    """The figures of one bi-encoder."""
    vectors = embedder.embed(corpus.texts)
    found = similar_pairs(vectors, threshold=LEAST, max_pairs=MOST)
    quality = corpus.quality(found.left, found.right, found.cosine)
    cosines = (vectors[corpus.left].astype(np.float64) * vectors[corpus.right]).sum(axis=1)
    return {
        "labelled_pairs_average_precision": float(average_precision_score(corpus.labels, cosines)),
        **{name: value for name, value in quality.items() if name.endswith("average_precision")},
        "ranked": quality["pairs"],
        "least_cosine": float(found.cosine.min()),
    }


def run(args: argparse.Namespace) -> None:
    where = dict([args.where.split("=", 1)]) if args.where else None
    corpus, output = Corpus.of(args.test, where).prefix(args.questions), Path(args.output)
    report: dict[str, Any] = {
        "command": "python -m benchmarks.forum cosine",
        "questions": len(corpus.texts),
        "labelled_pairs": len(corpus.left),
        "labelled_duplicates": int(corpus.labels.sum()),
        "closure_pairs": corpus.closure_pairs,
    }
    rows: list[dict[str, Any]] = []
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if all(before.get(key) == value for key, value in report.items()):
            rows = before["rows"]
    for name, _, folder in (told.partition("=") for told in args.network):
        embedder = open_bi_encoder(form_of(folder), Path(folder))
        if any((row["name"], row["fingerprint"]) == (name, embedder.fingerprint) for row in rows):
            continue
        rows = [row for row in rows if row["name"] != name]
        rows.append({"name": name, "fingerprint": embedder.fingerprint, **ranked(corpus, embedder)})
        print(json.dumps(rows[-1]), flush=True)
        write_json(output, {**report, "versions": versions(), "rows": rows})
