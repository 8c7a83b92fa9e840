"""The clusters written for this project: the pairs that they give, and what keeps their files apart."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from data_scripts.clusters import (
    HELD_OUT_WORLDS,
    PARAPHRASE,
    TWO_NEAR_MISSES,
    WORLDS,
    post_pairs,
    read_clusters,
    world_pairs,
    world_texts,
)

KINDS = {
    "entity", "number", "direction", "negation", "opposite", "aspect", "scope", "agent", "condition", "time", "compare",
    "place",
}  # fmt: skip
QUESTIONS = {"w": "w", "s": ["a", "b", "c", "d"], "d": [["time", "e"], ["place", "f"], ["time", "g"], ["agent", "h"]]}
POSTS = {"w": "w", "same": ["P1", "P2"], "titles": ["t1", "t2"], "other": ["O1", "O2"], "other_titles": ["o1", "o2"]}
NAMES = sorted(path.name.removesuffix(".jsonl.xz") for path in WORLDS.glob("*.jsonl.xz"))


def post_texts(clusters: list[dict[str, Any]]) -> list[str]:
    return [text for cluster in clusters for part in ("same", "other") for text in cluster[part]]


def title_texts(clusters: list[dict[str, Any]]) -> list[str]:
    return [text for cluster in clusters for part in ("titles", "other_titles") for text in cluster[part]]


def test_each_two_questions_of_a_cluster_are_one_pair() -> None:
    pairs = list(world_pairs([QUESTIONS, QUESTIONS]))
    assert [pair.cluster for pair in pairs] == [0] * 28 + [1] * 28
    asked = {frozenset((pair.question1, pair.question2)): (pair.label, pair.kind) for pair in pairs[:28]}
    assert len(asked) == 28
    assert all((label == 1) == (both <= set("abcd")) for both, (label, _) in asked.items())
    assert Counter(kind for _, kind in asked.values()) == {
        PARAPHRASE: 6,
        TWO_NEAR_MISSES: 6,
        "time": 8,
        "place": 4,
        "agent": 4,
    }
    assert asked[frozenset("ch")] == (0, "agent")
    assert world_texts([QUESTIONS]) == list("abcdefgh")


def test_a_post_asks_what_its_own_titles_ask() -> None:
    pairs = list(post_pairs([POSTS]))
    asked = {frozenset((pair.question1, pair.question2)): pair for pair in pairs}
    assert len(asked) == len(pairs) == 26
    same, other = {"P1", "P2", "t1", "t2"}, {"O1", "O2", "o1", "o2"}
    duplicates = {both for both, pair in asked.items() if pair.label == 1}
    assert {both for both in duplicates if both <= other} == {frozenset(("O1", "o1")), frozenset(("O2", "o2"))}
    assert sum(both <= same for both in duplicates) == 6
    assert len(duplicates) == 8
    # The label of a post and the title of the other one is not known, so there is no such pair.
    assert frozenset(("O1", "o2")) not in asked
    for both, pair in asked.items():
        titles = sum(text.islower() for text in both)
        assert pair.kind == ("post and post", "post and title", "title and title")[titles]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_has_the_form_of_its_data_card(name: str) -> None:
    clusters = read_clusters(name)
    card = (WORLDS / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in card.splitlines() if line.startswith(f"| `{name}.jsonl.xz`"))
    pairs = list((world_pairs if name.startswith("worlds") else post_pairs)(clusters))
    share = f"{sum(pair.label for pair in pairs) / len(pairs):.1%}".replace("%", " %")
    worlds = f" of {len({cluster['w'] for cluster in clusters})} worlds" if "worlds" in row else ""
    assert row.split(" | ")[1:4] == [f"{len(clusters):,}{worlds}", f"{len(pairs):,}", share]
    if name.startswith("worlds"):
        assert all(set(cluster) == set(QUESTIONS) for cluster in clusters)
        assert {len(cluster[side]) for cluster in clusters for side in ("s", "d")} == {4}
        assert {kind for cluster in clusters for kind, _ in cluster["d"]} <= KINDS
        texts = world_texts(clusters)
    else:
        assert all(set(cluster) == set(POSTS) for cluster in clusters)
        posts, titles = post_texts(clusters), title_texts(clusters)
        assert len(posts) == len(titles) == 4 * len(clusters)
        assert all("\n" in post for post in posts)
        assert not any("\n" in title for title in titles)
        texts = posts + titles
    assert len(set(texts)) == len(texts)
    assert all(text.strip() for text in texts)


def test_no_text_that_measures_trains() -> None:
    trained = {*world_texts(read_clusters("worlds_train"))}
    posts = read_clusters("posts_train")
    trained |= {*post_texts(posts), *title_texts(posts)}
    assert not trained & {*world_texts(read_clusters("worlds_dev"))}
    for name in NAMES:
        if name in ("posts_dev", "long_posts"):
            assert not trained & {*post_texts(read_clusters(name)), *title_texts(read_clusters(name))}
    worlds = {cluster["w"] for cluster in posts}
    assert not worlds & {cluster["w"] for cluster in read_clusters("posts_dev")}
    assert {cluster["w"] for cluster in read_clusters("worlds_train")} > HELD_OUT_WORLDS
