"""How a bi-encoder finds the questions that ask the same among those of all worlds written for this project.

    python -m benchmarks.retrieval [--model DIR | --bi-encoder DIR] [--encoders DIR|ID...]

The texts are the 28,696 of `worlds_dev` and `worlds_train`; each of the four texts of a dev cluster that ask the same
is searched among them, itself left out. Recall@10 is the share of its three partners that are among its ten nearest.
A pair of partners is a candidate of mining by the candidate rule of the pipeline, or that of the options; a network
without a pipeline has the default rule.
ROC AUC is that of the cosine on all pairs of the dev clusters. Intervals are 95 %, by resampling clusters. Results go
to `benchmarks/results/retrieval.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.intervals import mean, resampled, roc_auc
from benchmarks.nearest import nearest
from benchmarks.readme import RESULTS, figure
from benchmarks.worlds import fast_arithmetic
from data_scripts.clusters import HELD_OUT_WORLDS, ClusterPair, read_clusters, world_pairs, world_texts
from dupq import DuplicatePipeline
from dupq.data.writing import write_json
from dupq.decisions.candidate_rule import CandidateRule
from dupq.decisions.decider import embedder_of
from dupq.models.batching import rows_of
from dupq.models.bi_encoder import BiEncoder
from dupq.models.loading import form_of, load_bi_encoder
from dupq.search.exact import dot
from dupq.types import Embedder

RECALL_AT = 10


@dataclass(frozen=True)
class Corpus:
    """All texts, and the clusters whose texts are searched among them.

    Attributes:
        texts: Distinct texts, n.
        same: Rows (clusters, 4) of the texts that ask the same.
        pairs: Labelled pairs of the clusters.
    """

    texts: list[str]
    same: NDArray[np.int64]
    pairs: list[ClusterPair]

    @classmethod
    def of(cls, dev: list[dict[str, Any]], others: list[dict[str, Any]]) -> Corpus:
        """Make the corpus of the clusters to be measured and of others."""
        texts = list(dict.fromkeys([*world_texts(dev), *world_texts(others)]))
        same = rows_of([text for cluster in dev for text in cluster["s"]], texts)
        return cls(texts, same.reshape(len(dev), -1), list(world_pairs(dev)))


def ranks(vectors: NDArray[np.float32], same: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """Return the rank, from 0, of each text of a cluster among the neighbours of each other one.

    Args:
        vectors: float32 (n, d), rows of unit length.
        same: Rows (clusters, k) of the texts that ask the same.
        depth: Number of neighbours that are looked at; a text beyond them has this rank, and so has a text itself.

    Returns:
        Ranks (clusters, k, k): of the third axis' text among the neighbours of the second axis' text.
    """
    queries = same.ravel()
    found = nearest(vectors, vectors[queries], depth + 1)
    itself = found == queries[:, None]
    order = np.argsort(itself, axis=1, kind="stable")[:, :depth]
    found = np.take_along_axis(found, order, axis=1).reshape(*same.shape, 1, -1)
    hits = found == same[:, None, :, None]
    place = np.where(hits.any(axis=-1), hits.argmax(axis=-1), depth)
    place[:, np.arange(same.shape[1]), np.arange(same.shape[1])] = depth
    return np.asarray(place, np.int64)


def candidates(cosine: NDArray[np.float64], rank: NDArray[np.int64], rule: CandidateRule) -> NDArray[np.bool_]:
    """Return which pairs mining scores.

    Args:
        cosine: Cosines of the pairs.
        rank: The lower of the two ranks of one text among the neighbours of the other, from 0.
        rule: Rule for candidates.
    """
    return (cosine >= rule.every_from) | ((cosine >= rule.min_cosine) & (rank < rule.neighbours))


def measure(vectors: NDArray[np.float32], corpus: Corpus, rule: CandidateRule, resamples: int) -> dict[str, Any]:
    """Return the figures of one embedder.

    Args:
        vectors: float32 (n, d), of the texts of the corpus.
        corpus: Texts and clusters.
        rule: Rule for candidates.
        resamples: Resamples of the clusters.
    """
    rank = ranks(vectors, corpus.same, max(RECALL_AT, rule.neighbours))
    clusters, size, _ = rank.shape
    left, right = np.triu_indices(size, 1)
    nearer = np.minimum(rank, rank.transpose(0, 2, 1))[:, left, right].ravel()
    partners = dot(vectors[corpus.same[:, left].ravel()], vectors[corpus.same[:, right].ravel()])
    rows = [
        rows_of([pair.question1 for pair in corpus.pairs], corpus.texts),
        rows_of([pair.question2 for pair in corpus.pairs], corpus.texts),
    ]
    labels = np.array([pair.label for pair in corpus.pairs])
    found = (rank < RECALL_AT).sum(axis=2).mean(axis=1) / (size - 1)
    share = candidates(partners, nearer, rule).reshape(clusters, -1).mean(axis=1)
    auc = roc_auc(labels, dot(vectors[rows[0]], vectors[rows[1]]))
    every = np.arange(clusters)
    return {
        **resampled({"recall_at_10": mean(found), "candidates": mean(share)}, every, resamples),
        **resampled({"roc_auc": auc}, [pair.cluster for pair in corpus.pairs], resamples),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="pipeline folder (default: the shipped one)")
    parser.add_argument("--bi-encoder", metavar="DIR", help="measure this network instead of the pipeline's")
    parser.add_argument("--encoders", nargs="+", default=[], metavar="DIR|ID", help="encoders to compare with")
    parser.add_argument("--neighbours", type=int, help="nearest texts that are candidates (default: by the pipeline)")
    parser.add_argument("--min-cosine", type=float, help="minimum cosine of a candidate (default: by the pipeline)")
    parser.add_argument("--resamples", type=int, default=200, help="resamples of the clusters (default: %(default)s)")
    parser.add_argument(
        "--held-out", action="store_true", help="search those of the held-out worlds of the training file"
    )
    parser.add_argument("-o", "--output", default=str(RESULTS / "retrieval.json"))
    args = parser.parse_args(arguments)
    embedder: Embedder
    rule = CandidateRule()
    if args.bi_encoder:
        embedder = load_bi_encoder(form_of(args.bi_encoder), Path(args.bi_encoder), long_texts="lead")
    else:
        pipeline = DuplicatePipeline.from_pretrained(args.model)
        embedder, rule = embedder_of(pipeline), pipeline.candidate_rule
    rule = rule.at(args.neighbours, args.min_cosine)
    dev, train = read_clusters("worlds_dev"), read_clusters("worlds_train")
    if args.held_out:
        held_out = [cluster for cluster in train if cluster["w"] in HELD_OUT_WORLDS]
        corpus = Corpus.of(held_out, [cluster for cluster in train + dev if cluster not in held_out])
    else:
        corpus = Corpus.of(dev, train)
    rows = {"dupq": measure(embedder.embed(corpus.texts), corpus, rule, args.resamples)}
    for name in args.encoders:
        with fast_arithmetic():
            vectors = BiEncoder(name).embed(corpus.texts)
        rows[Path(name).name] = measure(vectors, corpus, rule, args.resamples)
    results = {
        "command": "python -m benchmarks.retrieval",
        "model": embedder.fingerprint,
        "texts": len(corpus.texts),
        "queries": corpus.same.size,
        "candidate_rule": rule.to_dict(),
        "resamples": args.resamples,
        "rows": rows,
    }
    write_json(args.output, results)
    print(f"{corpus.same.size:,} questions searched among {len(corpus.texts):,}")
    print(f"{'':<20} {'recall@10':<22} {'candidates of mining':<22} ROC AUC of the cosine")
    for name, row in rows.items():
        print(f"{name:<20} {'  '.join(figure(row[key]) for key in ('recall_at_10', 'candidates', 'roc_auc'))}")


if __name__ == "__main__":
    main()
