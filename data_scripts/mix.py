"""Training pairs of the shipped model: which rows of which data sets, and how many."""

from __future__ import annotations

import csv
import lzma
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_scripts.clusters import HELD_OUT_WORLDS, ClusterPair, post_pairs, read_clusters, world_pairs
from dupq.data.grouping import assign_splits, question_groups
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.reading import read_rows
from dupq.data.writing import write_rows
from dupq.models.long_text import head_and_tail
from dupq.training.contrast_sets import contrast_pairs
from dupq.training.implied_labels import implied_pairs

Rows = list[dict[str, Any]]
COLUMNS = ["question1", "question2", "label", "soft_label", "source"]
OTHER_HELD_OUT = 0.2
"""Share of the question groups of each set of `other/` that trains nothing."""
OTHER_SETS = {
    "semantoneg": 2500,
    "syntactic_swaps": 2500,
    "text2sql_questions": 5000,
    "spider_questions": 2500,
    "ambignq_pairs": 1500,
    "wikifactcheck_refuted_negatives": 1000,
    "parade_train": 6000,
    "breaking_nli_pairs": 1200,
    "sick_pairs": 2000,
    "stsb_en_scores": 3000,
    "rqe_medical_train": 1500,
    "mqr_stackexchange": 4000,
    "medquad_negatives": 1500,
}
"""Sets of `other/` and the maximum number of rows of each."""
SEED = 2
"""Seed of the draws; the release before drew by 0 and 1."""
PER_CLUSTER = {"paraphrase": 6, "near miss": 16, "two near misses": 4}
"""Number of pairs of each cluster of questions."""
PER_POST_CLUSTER = {"post and post": 5, "other": 11}
"""Number of pairs of each cluster of posts; pairs of two whole posts take ten times as long as two titles."""
QUORA = {"natural": 36_000, "duplicates": 9_000, "implied": 10_000}
"""Number of rows of Quora: in its own class mix, of duplicates alone, and of each implied label."""
TWEETS, POSTS = 9_000, 2_700
CONTRAST_PER_KIND = 500
"""Number of contrast pairs of each kind."""
BI_ENCODER = {
    "worlds": 100_000,
    "posts": 3_000,
    "quora": 45_000,
    "implied": 10_000,
    "news": 2_000,
    "twitter": 2_000,
    "semeval": 2_700,
    "spider_questions": 1_500,
    "text2sql_questions": 1_500,
    "ambignq_pairs": 1_500,
    "mqr_stackexchange": 4_000,
    "parade_train": 3_000,
    "rqe_medical_train": 1_500,
    "medquad_negatives": 1_500,
}
"""Number of rows that the bi-encoder learns of each source; word order and negation are left to the cross-encoder."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Files of labelled pairs that the model is trained on.

    Attributes:
        quora, paws, twitter: Folders made by `dupq data split`.
        news: Labelled pairs of the Microsoft Research Paraphrase Corpus.
        posts: Labelled pairs of forum posts.
        other: Folder of the sets in `OTHER_SETS`.
    """

    quora: Path
    paws: Path
    twitter: Path
    news: Path
    posts: Sequence[Path]
    other: Path


def sample(rows: Rows, count: int, seed: int = 0) -> Rows:
    """Draw rows by a fixed seed."""
    return random.Random(seed).sample(rows, min(count, len(rows)))


def write(path: Path, rows: Iterable[dict[str, Any]], seed: int = 0) -> Path:
    """Write training rows in random order."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    write_rows(path, ({name: row.get(name) for name in COLUMNS} for row in shuffled), COLUMNS, escape_formulas=False)
    return path


def read(path: Path) -> Rows:
    """Read rows that `write` has written."""
    return [dict(row) for _, row in read_rows(path)]


def table_rows(pairs: PairTable, source: str) -> Rows:
    """Return labelled pairs as rows."""
    columns = zip(pairs.left, pairs.right, pairs.labels.tolist(), strict=True)
    return [{"question1": a, "question2": b, "label": label, "source": source} for a, b, label in columns]


def labelled_rows(path: Path, source: str, where: dict[str, str] | None = None) -> Rows:
    """Read labelled pairs as rows; long texts are cut as the cross-encoder reads them."""
    rows = table_rows(load_pairs(path, where=where), source)
    return [row | {name: head_and_tail(row[name]) for name in ("question1", "question2")} for row in rows]


def cluster_rows(held_out: bool, seed: int = 0) -> Rows:
    """Return pairs of the clusters of questions, of the worlds that train or of the others."""
    clusters = [row for row in read_clusters("worlds_train") if (row["w"] in HELD_OUT_WORLDS) == held_out]
    kinds = lambda pair: pair.kind if pair.kind in PER_CLUSTER else "near miss"  # noqa: E731
    return _of_each_cluster(list(world_pairs(clusters)), "worlds", kinds, None if held_out else PER_CLUSTER, seed)


def post_rows(held_out: bool, seed: int = 0) -> Rows:
    """Return pairs of the clusters of posts, of the worlds that train or of the others."""
    clusters = [row for row in read_clusters("posts_train") if (row["w"] in HELD_OUT_WORLDS) == held_out]
    kinds = lambda pair: pair.kind if pair.kind in PER_POST_CLUSTER else "other"  # noqa: E731
    return _of_each_cluster(list(post_pairs(clusters)), "posts", kinds, None if held_out else PER_POST_CLUSTER, seed)


def _of_each_cluster(
    pairs: list[ClusterPair],
    source: str,
    kind_of: Callable[[ClusterPair], str],
    counts: dict[str, int] | None,
    seed: int,
) -> Rows:
    draw, rows, taken = random.Random(seed), [], dict[tuple[int, str], int]()
    for pair in draw.sample(pairs, len(pairs)):
        key = (pair.cluster, kind_of(pair))
        taken[key] = taken.get(key, 0) + 1
        if counts is None or taken[key] <= counts[key[1]]:
            texts = {"question1": head_and_tail(pair.question1), "question2": head_and_tail(pair.question2)}
            rows.append({**texts, "label": pair.label, "source": source})
    return rows


def forum_texts(quora: Rows) -> list[str]:
    """Return all texts of the training files of worlds and posts and of rows of Quora, as a forum to search in."""
    texts = {text for row in read_clusters("worlds_train") for text in (*row["s"], *(text for _, text in row["d"]))}
    for row in read_clusters("posts_train"):
        texts |= {*row["same"], *row["other"], *row["titles"], *row["other_titles"]}
    return sorted(texts | {row[name] for row in quora for name in ("question1", "question2")})


def other_rows(folder: Path, name: str, held_out: bool = False) -> Rows:
    """Return the rows of a set of `other/` that train, or those held out, by question group."""
    rows: Rows = []
    with lzma.open(folder / f"{name}.tsv.xz", "rt", encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in table:
        graded = float(row["label"])
        texts = {"question1": row["sentence1"], "question2": row["sentence2"]}
        if graded in (0, 1) and name != "stsb_en_scores":
            rows.append({**texts, "label": int(graded), "source": name})
        else:
            rows.append({**texts, "label": int(graded >= 0.8), "soft_label": graded, "source": name})
    groups = question_groups([row["question1"] for row in rows], [row["question2"] for row in rows])
    parts = assign_splits(groups, {"train": 1 - OTHER_HELD_OUT, "test": OTHER_HELD_OUT}, 0)
    return [row for row, part in zip(rows, parts, strict=True) if (part == "test") == held_out]


def replayed_rows(sources: Sources) -> Rows:
    """Return rows of the data sets of earlier releases, so that they are not forgotten."""
    quora = sources.quora / "train.jsonl"
    rows = sample(labelled_rows(quora, "quora", {"natural": "1"}), QUORA["natural"], SEED)
    rows += sample(labelled_rows(quora, "quora", {"natural": "0"}), QUORA["duplicates"], SEED)
    rows += [*labelled_rows(sources.paws / "train.jsonl", "paws"), *labelled_rows(sources.news, "news")]
    rows += sample(labelled_rows(sources.twitter / "train.jsonl", "twitter"), TWEETS, SEED)
    return rows + sample([row for path in sources.posts for row in labelled_rows(path, "semeval")], POSTS, SEED)


def new_rows(sources: Sources) -> Rows:
    """Return rows whose labels the earlier releases did not learn."""
    rows = [*cluster_rows(False, SEED), *post_rows(False, SEED)]
    quora = load_pairs(sources.quora / "train.jsonl")
    implied = table_rows(implied_pairs(quora), "implied")
    for label in (0, 1):
        rows += sample([row for row in implied if row["label"] == label], QUORA["implied"], SEED)
    for name, count in OTHER_SETS.items():
        rows += sample(other_rows(sources.other, name), count, SEED)
    questions = np.random.default_rng(SEED).permutation(np.array(sorted({*quora.left, *quora.right}), dtype=object))
    made = contrast_pairs(questions[:40_000].tolist(), CONTRAST_PER_KIND, seed=SEED, duplicates=quora)
    rows += table_rows(made.pairs, "contrast")
    for row in rows:
        row.setdefault("soft_label", float(row["label"]))
    return rows


def bi_encoder_rows(rows: Rows) -> Rows:
    """Return the rows that a bi-encoder learns."""
    by_source: dict[str, Rows] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    return [row for source, count in BI_ENCODER.items() for row in sample(by_source.get(source, []), count)]
