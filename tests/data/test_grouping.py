from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.grouping import (
    assign_splits,
    leak_report,
    question_groups,
    refuse_overlap,
)
from dupq.data.text import fingerprint, fingerprints, normalise
from dupq.errors import InputError, LeakError

# Few questions, so that chains form; spellings of one question among them.
QUESTIONS = [*(f"What is {letter}?" for letter in "abcdefghij"), "what is A", "WHAT  IS b??", "what... is c"]
pairs_of = st.lists(st.tuples(st.sampled_from(QUESTIONS), st.sampled_from(QUESTIONS)), min_size=1, max_size=12)


def groups_of(pairs: list[tuple[str, str]]) -> list[int]:
    return question_groups([a for a, _ in pairs], [b for _, b in pairs]).tolist()


def slow_groups(pairs: list[tuple[str, str]]) -> list[int]:
    """Merges sets until nothing changes."""
    sets: list[set[str]] = [{normalise(a), normalise(b)} for a, b in pairs]
    for one in sets:
        for _ in pairs:
            for other in sets:
                if one & other:
                    one |= other
                    other |= one
    return [min(fingerprint(question) for question in found) for found in sets]


@given(pairs_of)
def test_groups_are_those_of_a_slow_union(pairs: list[tuple[str, str]]) -> None:
    assert groups_of(pairs) == slow_groups(pairs)


@given(pairs_of, st.randoms(use_true_random=False))
def test_order_of_rows_and_within_pairs_moves_nothing(pairs: list[tuple[str, str]], draw: object) -> None:
    before = dict(zip(pairs, groups_of(pairs), strict=True))
    mixed = list(before)
    draw.shuffle(mixed)  # type: ignore[attr-defined]
    swapped = [(b, a) if draw.random() < 0.5 else (a, b) for a, b in mixed]  # type: ignore[attr-defined]
    assert groups_of(swapped) == [before[pair] for pair in mixed]


@given(pairs_of)
def test_rows_of_other_groups_move_nothing(pairs: list[tuple[str, str]]) -> None:
    others = [("Who was that?", "Who is this?"), ("who is THIS", "Who was it?")]
    alone = groups_of(pairs)
    together = groups_of([others[0], *pairs, others[1]])
    assert together[1:-1] == alone
    fractions = {"train": 0.5, "test": 0.5}
    drawn = assign_splits(np.array(together), fractions, seed=3)
    assert drawn[1:-1].tolist() == assign_splits(np.array(alone), fractions, seed=3).tolist()


@pytest.mark.parametrize("times", [128, 256, 512])
def test_a_pair_that_recurs_is_one_group(times: int) -> None:
    assert len(set(groups_of([("a", "b"), *[("b", "c")] * times, ("c", "a")]))) == 1


def test_no_pairs_and_unequal_lengths() -> None:
    assert question_groups([], []).shape == (0,)
    with pytest.raises(InputError, match="got 2 and 1"):
        question_groups(["a", "b"], ["c"])
    with pytest.raises(InputError, match="got 1 and 2"):
        leak_report((["a"], ["b", "c"]), (["a", "d"], ["b"]))


def test_shares_are_kept_and_seeds_differ() -> None:
    groups = np.arange(20_000, dtype=np.int64) // 2
    fractions = {"train": 0.7, "validation": 0.0, "calibration": 0.1, "test": 0.2}
    drawn = assign_splits(groups, fractions, seed=0)
    for name, share in fractions.items():
        # Five standard deviations of a draw of 10,000 groups.
        assert abs((drawn == name).mean() - share) < 5 * np.sqrt(share * (1 - share) / 10_000) + 1e-12
    assert (drawn[::2] == drawn[1::2]).all()
    again = assign_splits(groups, fractions, seed=1)
    assert 0.3 < (again != drawn).mean() < 0.6
    assert assign_splits(groups[:0], fractions, seed=0).shape == (0,)


@pytest.mark.parametrize("shares", [[], [0.5, 0.4], [1.2, -0.2], [float("nan")], [float("inf"), float("-inf")]])
def test_shares_that_are_none(shares: list[float]) -> None:
    with pytest.raises(InputError, match="fraction"):
        assign_splits(np.arange(3), dict(zip("abc", shares, strict=False)), seed=0)


def test_a_leak_through_a_chain_of_both_sets_is_found() -> None:
    a = (["One?", "Five?"], ["Two?", "Six?"])
    b = (["three", "TWO", "Seven"], ["four", "three?", "Eight"])
    report = leak_report(a, b)
    assert (report.pairs_a, report.pairs_b) == (2, 3)
    assert report.shared_questions == 1
    assert (report.leaking_pairs_b, report.rows_b) == (2, (0, 1))  # "three, four" leaks through "two, three"
    assert not report.clean
    assert "LEAK: 2 of 3 pairs (66.7%)" in str(report)
    assert "First: pair 1, 2" in str(report)


def test_no_leak() -> None:
    report = leak_report((["a"], ["b"]), (["c"], ["d"]))
    assert report.clean
    assert str(report).startswith("no leak: none of 1 pairs")
    assert leak_report(([], []), ([], [])).clean


def test_only_the_first_twenty_rows_of_a_leak_are_listed() -> None:
    report = leak_report((["a"], ["b"]), (["a"] * 50, ["c"] * 50))
    assert (report.leaking_pairs_b, report.rows_b) == (50, tuple(range(20)))


def test_questions_that_were_trained_on_are_refused() -> None:
    seen = np.unique(fingerprints(["Is it late?", "What time is it?"]))
    refuse_overlap(seen, ["Is it early?"], ["Who is it?"], "calibrate it")
    refuse_overlap(None, ["Is it late?"], ["Who is it?"], "calibrate it")
    refuse_overlap(seen[:0], ["Is it late?"], ["Who is it?"], "calibrate it")
    for pair in (("Is it, LATE", "Who is it?"), ("Who is it?", "what time is it")):
        with pytest.raises(LeakError, match=r"1 of 2 pairs .*\(first: pair 2\), so they cannot serve to calibrate it"):
            refuse_overlap(seen, ["Is it early?", pair[0]], ["Who?", pair[1]], "calibrate it")
