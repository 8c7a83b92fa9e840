"""Clusters of questions and posts written for this project, and the labelled pairs that they give."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

WORLDS = Path(__file__).with_name("worlds")
"""Folder of the files; its README is their data card."""
HELD_OUT_WORLDS = frozenset(
    ("gardening", "investing-stocks", "online-orders-returns", "parenting", "short-everyday-questions", "ubuntu-linux")
)
"""Worlds of the training files that train nothing: choices between networks are made on them."""
PARAPHRASE, TWO_NEAR_MISSES = "paraphrase", "two near misses"
"""Kinds of pairs of questions beside the kinds of change."""


@dataclass(frozen=True, slots=True)
class ClusterPair:
    """One labelled pair of a cluster.

    Attributes:
        question1, question2: Both texts.
        label: 1 = duplicate.
        kind: `PARAPHRASE`, `TWO_NEAR_MISSES`, or the change that makes the pair distinct; of posts the two parts, such
            as "post and title".
        cluster: Number of the cluster in its file.
        world: Subject of the cluster.
    """

    question1: str
    question2: str
    label: int
    kind: str
    cluster: int
    world: str


def read_clusters(name: str) -> list[dict[str, Any]]:
    """Return the clusters of a file of `WORLDS`, such as "worlds_dev"."""
    with lzma.open(WORLDS / f"{name}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def world_texts(clusters: list[dict[str, Any]]) -> list[str]:
    """Return the eight texts of each cluster of questions."""
    return [text for cluster in clusters for text in (*cluster["s"], *(near_miss for _, near_miss in cluster["d"]))]


def world_pairs(clusters: list[dict[str, Any]]) -> Iterator[ClusterPair]:
    """Yield the 28 pairs of each cluster: 6 paraphrases, 16 near misses, 6 pairs of near misses."""
    for number, cluster in enumerate(clusters):
        same, other = cluster["s"], cluster["d"]
        for left, right in combinations(same, 2):
            yield ClusterPair(left, right, 1, PARAPHRASE, number, cluster["w"])
        for left, (kind, right) in product(same, other):
            yield ClusterPair(left, right, 0, kind, number, cluster["w"])
        for (_, left), (_, right) in combinations(other, 2):
            yield ClusterPair(left, right, 0, TWO_NEAR_MISSES, number, cluster["w"])


def post_pairs(clusters: list[dict[str, Any]]) -> Iterator[ClusterPair]:
    """Yield the 26 pairs of each cluster of posts: 6 and 2 that ask the same, 16 and 2 that do not."""
    for number, cluster in enumerate(clusters):
        same = [("post", text) for text in cluster["same"]] + [("title", text) for text in cluster["titles"]]
        posts = [("post", text) for text in cluster["other"]]
        titles = [("title", text) for text in cluster["other_titles"]]
        labelled = [(*pair, 1) for pair in (*combinations(same, 2), *zip(posts, titles, strict=True))]
        labelled += [(*pair, 0) for pair in product(same, posts + titles)]
        labelled += [(*pair, 0) for pair in (*combinations(posts, 2), *combinations(titles, 2))]
        for (part1, left), (part2, right), label in labelled:
            kind = " and ".join(sorted((part1, part2)))
            yield ClusterPair(left, right, label, kind, number, cluster["w"])
