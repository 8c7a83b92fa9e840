from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from dupq.cli.main import main
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.writing import write_rows
from dupq.errors import InputError
from dupq.training import implied_labels
from dupq.training.implied_labels import implied_pairs

Labels = dict[frozenset[str], int]


def random_pairs(seed: int, questions: int = 14, count: int = 16) -> PairTable:
    """Draw labelled pairs of a few questions, some contradicted, some unlabelled."""
    draw = np.random.default_rng(seed)
    ends = [draw.choice(questions, 2, replace=False) for _ in range(count)]
    labels = draw.choice([1, 0, -1], count, p=[0.5, 0.4, 0.1]).astype(np.int8)
    return PairTable([f"q{a}" for a, _ in ends], [f"q{b}" for _, b in ends], labels)


def closure(pairs: PairTable) -> Labels:
    """Return every implied label, by search along the duplicates of each question."""
    rows = [row for row in zip(pairs.left, pairs.right, pairs.labels.tolist(), strict=True) if row[2] >= 0]
    questions = sorted({text for a, b, _ in rows for text in (a, b)})
    chains: dict[str, set[str]] = {}
    for question in questions:
        reached, todo = {question}, [question]
        while todo:
            here = todo.pop()
            for a, b, label in rows:
                for one, other in ((a, b), (b, a)):
                    if label == 1 and one == here and other not in reached:
                        reached.add(other)
                        todo.append(other)
        chains[question] = reached
    wrong = {text for a, b, label in rows if label == 0 and b in chains[a] for text in chains[a]}
    given = {frozenset((a, b)) for a, b, _ in rows}
    found: Labels = {}
    for one, other in combinations(questions, 2):
        if frozenset((one, other)) in given or {one, other} & wrong:
            continue
        if other in chains[one]:
            found[frozenset((one, other))] = 1
        elif any(
            label == 0 and a in chains[x] and b in chains[y]
            for a, b, label in rows
            for x, y in ((one, other), (other, one))
        ):
            found[frozenset((one, other))] = 0
    return found


def as_labels(pairs: PairTable) -> Labels:
    found = {frozenset(row[:2]): row[2] for row in zip(pairs.left, pairs.right, pairs.labels.tolist(), strict=True)}
    assert len(found) == len(pairs)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_the_labels_are_those_of_a_slow_closure(seed: int) -> None:
    pairs = random_pairs(seed)
    assert as_labels(implied_pairs(pairs, per_question=100)) == closure(pairs)


def test_the_graphs_of_the_test_hold_what_it_is_about() -> None:
    found = Counter(label for seed in range(40) for label in closure(random_pairs(seed)).values())
    assert min(found[0], found[1]) > 50


@pytest.mark.parametrize("limit", [1, 2])
def test_no_question_occurs_more_often_than_asked(limit: int) -> None:
    for seed in range(10):
        pairs = random_pairs(seed, questions=20, count=30)
        made, every = implied_pairs(pairs, per_question=limit), closure(pairs)
        assert as_labels(made).items() <= every.items()
        counts = Counter((text, label) for pair, label in as_labels(made).items() for text in pair)
        assert max(counts.values(), default=0) <= limit
        # No pair could be added.
        for pair, label in every.items() - as_labels(made).items():
            assert max(counts[text, label] for text in pair) == limit


def test_a_chain_gives_duplicates_and_distinct_pairs() -> None:
    made = implied_pairs(PairTable(["a", "b", "C?"], ["b", "c", "x"], np.array([1, 1, 0], np.int8)))
    assert as_labels(made) == {frozenset(("a", "C?")): 1, frozenset("ax"): 0, frozenset("bx"): 0}


def test_a_contradicted_chain_is_left_out_with_its_distinct_pairs() -> None:
    left, right, labels = ["a", "b", "a", "a", "x"], ["b", "c", "c", "x", "y"], [1, 1, 0, 0, 1]
    assert len(implied_pairs(PairTable(left, right, np.array(labels, np.int8)))) == 0


def test_a_long_chain_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = PairTable(["a", "b", "x", "y"], ["b", "c", "y", "a"], np.array([1, 1, 1, 0], np.int8))
    assert len(implied_pairs(pairs)) == 6
    monkeypatch.setattr(implied_labels, "MAX_COMPONENT", 2)
    assert len(implied_pairs(pairs)) == 0


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    pairs = random_pairs(3, questions=20, count=40)
    one, again, other = (as_labels(implied_pairs(pairs, per_question=1, seed=seed)) for seed in (1, 1, 2))
    turned = pairs.take(np.arange(len(pairs))[::-1])
    assert (
        one
        == again
        == as_labels(implied_pairs(PairTable(turned.right, turned.left, turned.labels), per_question=1, seed=1))
    )
    assert one != other


def test_no_labels_imply_nothing() -> None:
    assert len(implied_pairs(PairTable([], [], np.array([], np.int8)))) == 0
    assert len(implied_pairs(PairTable(["a"], ["b"], np.array([-1], np.int8)))) == 0
    with pytest.raises(InputError, match="per_question must be an integer"):
        implied_pairs(random_pairs(0), per_question=0)


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question1": a, "question2": b, "label": 1} for a, b in (("a one", "a two"), ("a two", "a three"))]
    write_rows(tmp_path / "pairs.jsonl", rows, ["question1", "question2", "label"])
    output = tmp_path / "implied.jsonl"
    assert main(["distill", "implied", str(tmp_path / "pairs.jsonl"), "-o", str(output)]) == 0
    assert "1 duplicates and 0 distinct pairs" in capsys.readouterr().out
    assert as_labels(load_pairs(output)) == {frozenset(("a one", "a three")): 1}
