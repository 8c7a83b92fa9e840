from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from dupq.data.grouping import question_groups
from dupq.errors import InputError
from dupq.training.samplers import (
    DisjointGroupBatchSampler,
    LengthBucketedBatchSampler,
    NeighbourhoodBatchSampler,
    choose_batch_sampler,
    duplicate_components,
    hard_triplets,
    question_keys,
)
from tests.questions import labelled_table


def pairs_of_lengths(lengths: list[int]) -> Dataset:
    return Dataset.from_dict(
        {"sentence1": ["a" * n for n in lengths], "sentence2": ["b"] * len(lengths), "label": [1.0] * len(lengths)}
    )


def duplicates(pairs: list[tuple[str, str]]) -> Dataset:
    return Dataset.from_dict({"anchor": [a for a, _ in pairs], "positive": [b for _, b in pairs]})


def epoch_of(sampler: Any, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


@given(st.integers(1, 300), st.integers(2, 40), st.booleans())
@settings(max_examples=30)
def test_every_row_stands_in_one_batch(n: int, batch_size: int, drop_last: bool) -> None:
    lengths = np.random.default_rng(n).integers(1, 90, n).tolist()
    sampler = LengthBucketedBatchSampler(pairs_of_lengths(lengths), batch_size=batch_size, drop_last=drop_last)
    found = list(sampler)
    assert len(found) == len(sampler) == (n // batch_size if drop_last else -(-n // batch_size))
    rows = [row for batch in found for row in batch]
    assert len(set(rows)) == len(rows) == (len(found) * batch_size if drop_last else n)
    assert sorted({len(batch) for batch in found} - {batch_size}) == (
        [n % batch_size] if len(rows) % batch_size else []
    )


def test_batches_of_like_lengths_pad_little() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(10, 200, 4000)
    sampler = LengthBucketedBatchSampler(pairs_of_lengths(lengths.tolist()), batch_size=32, drop_last=False)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in sampler)
    shuffled = draw.permutation(lengths).reshape(-1, 32)
    at_random = int((32 * shuffled.max(axis=1)).sum())
    assert padded < 1.05 * lengths.sum()
    assert at_random > 1.7 * lengths.sum()


@pytest.mark.parametrize("kind", [LengthBucketedBatchSampler, DisjointGroupBatchSampler])
def test_a_draw_depends_on_seed_and_epoch_alone(kind: Any) -> None:
    table = labelled_table(40)
    data = Dataset.from_dict({"anchor": table.left, "positive": table.right})
    sampler, same, other = (kind(data, batch_size=8, drop_last=False, seed=seed) for seed in (1, 1, 2))
    epochs = [epoch_of(sampler, epoch) for epoch in (0, 1, 2)]
    assert epoch_of(same, 2) == epochs[2]
    assert epoch_of(same, 0) == epochs[0] == epoch_of(sampler, 0)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epoch_of(other, 0) != epochs[0]


questions = st.sampled_from([f"question {n}" for n in range(40)])


@given(st.lists(st.tuples(questions, questions), min_size=1, max_size=80), st.integers(2, 12), st.integers(0, 3))
@settings(max_examples=40)
def test_no_two_rows_of_one_closure_share_a_batch(pairs: list[tuple[str, str]], batch_size: int, epoch: int) -> None:
    sampler = DisjointGroupBatchSampler(duplicates(pairs), batch_size=batch_size, drop_last=False)
    found = epoch_of(sampler, epoch)
    assert len(found) == len(sampler) == max(1, len(pairs) // batch_size)
    groups = question_groups([a for a, _ in pairs], [b for _, b in pairs])
    for batch in found:
        assert 1 <= len(batch) <= batch_size
        assert len({groups[row] for row in batch}) == len(batch)


def test_where_closures_are_small_nearly_every_row_is_used_once() -> None:
    pairs = [(f"question {n // 3}", f"other {n}") for n in range(3000)]
    sampler = DisjointGroupBatchSampler(duplicates(pairs), batch_size=32, drop_last=False)
    counts = Counter(row for batch in sampler for row in batch)
    assert len(counts) > 0.95 * len(pairs)
    assert max(counts.values()) <= 2
    assert sum(times > 1 for times in counts.values()) <= 4 * 32


def test_a_data_set_gets_the_batches_it_needs() -> None:
    labelled = pairs_of_lengths([1, 2, 3])
    assert type(choose_batch_sampler(labelled, batch_size=2, drop_last=False)) is LengthBucketedBatchSampler
    assert (
        type(choose_batch_sampler(duplicates([("a", "b")]), batch_size=2, drop_last=False)) is DisjointGroupBatchSampler
    )


# ---- neighbourhoods -----------------------------------------------------------------------------------------------


def keyed(pairs: list[tuple[str, str]]) -> Dataset:
    return Dataset.from_dict(
        {"sentence1": [a for a, _ in pairs], "sentence2": [b for _, b in pairs], "label": [[0, 0]] * len(pairs)}
    )


@given(st.lists(st.tuples(questions, questions), min_size=1, max_size=80), st.integers(2, 12), st.integers(0, 3))
@settings(max_examples=40)
def test_neighbourhoods_stay_together(pairs: list[tuple[str, str]], batch_size: int, epoch: int) -> None:
    sampler = choose_batch_sampler(keyed(pairs), batch_size=batch_size, drop_last=False)
    assert type(sampler) is NeighbourhoodBatchSampler
    found = epoch_of(sampler, epoch)
    assert sorted(row for batch in found for row in batch) == list(range(len(pairs)))
    groups = question_groups([a for a, _ in pairs], [b for _, b in pairs])
    sizes = Counter(groups.tolist())
    for group, size in sizes.items():
        # A group that straddles batches fills all of them but its first and its last.
        assert sum(group in groups[batch] for batch in found) <= 2 + (size - 1) // batch_size


def test_neighbourhoods_are_drawn_anew_each_epoch() -> None:
    sampler = NeighbourhoodBatchSampler(keyed([(f"a {n // 2}", f"b {n}") for n in range(80)]), 8, False, seed=1)
    assert epoch_of(sampler, 0) == epoch_of(sampler, 0) != epoch_of(sampler, 1)


@given(st.lists(st.tuples(questions, questions, st.integers(0, 1)), min_size=1, max_size=60))
@settings(max_examples=40)
def test_closures_are_chains_of_duplicates(rows: list[tuple[str, str, int]]) -> None:
    keys = duplicate_components(
        [a for a, _, _ in rows], [b for _, b, _ in rows], np.array([label for _, _, label in rows])
    )
    graph = {text: {text} for a, b, _ in rows for text in (a, b)}
    for a, b, label in rows:
        if label:
            joined = graph[a] | graph[b]
            for text in joined:
                graph[text] = joined
    texts = [
        (text, key)
        for (a, b, _), pair in zip(rows, keys.tolist(), strict=True)
        for text, key in zip((a, b), pair, strict=True)
    ]
    for one, key in texts:
        for other, other_key in texts:
            assert (key == other_key) == (other in graph[one])


def test_keys_are_the_component_and_the_question_of_each_side() -> None:
    keys = question_keys(["Who sings?", "who sings", "Who is it?"], ["Who is it?", "Why?", "Why?"], np.array([1, 0, 0]))
    (who, other), (again, why), (it, last) = keys.tolist()
    assert who == again
    assert other == it
    assert why == last
    assert who[0] == other[0] != why[0]
    assert who[1] != other[1]


def test_a_spelling_makes_no_other_closure() -> None:
    keys = duplicate_components(["Who sings?", "who sings"], ["Why?", "What?"], np.array([0, 0]))
    assert keys[0, 0] == keys[1, 0]
    assert len(set(keys.ravel().tolist())) == 3


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef"), st.integers(0, 1)), max_size=30))
@settings(deadline=None)
def test_triplets_hold_every_duplicate_pair_that_has_a_distinct_question(rows: list[tuple[str, str, int]]) -> None:
    left, right, labels = ([row[at] for row in rows] for at in range(3))
    apart = [{a, b} for a, b, label in rows if not label]
    known = {text for pair in apart for text in pair}
    expected = Counter(frozenset((a, b)) for a, b, label in rows if label and {a, b} & known)
    if not expected:
        with pytest.raises(InputError, match="--method ranking"):
            hard_triplets(left, right, np.array(labels))
        return
    anchors, positives, negatives = hard_triplets(left, right, np.array(labels))
    assert Counter(map(frozenset, zip(anchors, positives, strict=True))) == expected
    assert all({a, n} in apart for a, n in zip(anchors, negatives, strict=True))


def test_an_anchor_takes_its_distinct_questions_in_turn() -> None:
    left, right = ["a", "a", "a", "a", "x"], ["b", "c", "x", "y", "z"]
    anchors, positives, negatives = hard_triplets(left, right, np.array([1, 1, 0, 0, 1]))
    assert list(zip(anchors, positives, negatives, strict=True)) == [("a", "b", "x"), ("a", "c", "y"), ("x", "z", "a")]
