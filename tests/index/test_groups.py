from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dupq.errors import InputError
from dupq.index.groups import Group, Link
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.index.stored import IDS, TEXTS


def link(index: QuestionIndex, *pairs: str, by: str = "ann") -> None:
    for one, other in (pair.split() for pair in pairs):
        index.verdict(one, other, "duplicate", by=by)


def members(group: Group | None) -> set[Any]:
    return set() if group is None else set(group.members)


def test_duplicates_of_duplicates_are_one_group(filled: QuestionIndex) -> None:
    link(filled, "q1 q2", "q2 q3", "q7 q8", "q4 q3")
    assert [members(group) for group in filled.groups()] == [{"q1", "q2", "q3", "q4"}, {"q7", "q8"}]
    for group in filled.groups():
        for id_ in group.members:
            assert filled.group(id_) == group
    assert filled.group("q0") is None


def test_contested_outdated_skipped_and_undone_verdicts_do_not_link(filled: QuestionIndex) -> None:
    link(filled, "q1 q2", "q3 q4", "q5 q6", "q7 q8")
    filled.verdict("q1", "q2", "distinct", by="bob")
    filled.add(["q3"], ["where do old trains go at night"])
    filled.verdict("q5", "q6", "skip", by="ann")
    number = filled.history()[3].number
    assert [members(group) for group in filled.groups()] == [{"q7", "q8"}]
    filled.undo(number, by="ann")
    assert filled.groups() == []
    filled.undo(number=filled.history("q5")[1].number, by="ann")
    assert [members(group) for group in filled.groups()] == [{"q5", "q6"}]


def test_a_removed_question_does_not_tear_its_group_apart(filled: QuestionIndex) -> None:
    link(filled, "q1 q2", "q2 q3")
    filled.remove(["q2"])
    assert [group.members for group in filled.groups()] == [("q1", "q3")]
    assert filled.group("q3") == filled.groups()[0]
    with pytest.raises(InputError, match="no question has the id 'q2'"):
        filled.group("q2")
    filled.remove(["q3"])
    assert filled.groups() == []
    assert filled.group("q1") is None


def test_a_question_that_is_added_again_needs_new_verdicts(filled: QuestionIndex) -> None:
    link(filled, "q1 q2", "q2 q3")
    filled.remove(["q2"])
    filled.add(["q2"], ["where do old trains go at night"])
    assert filled.groups() == []


def test_the_canonical_question_is_the_oldest_unless_a_merge_prefers_another(
    path: Path, pipeline: DuplicatePipeline
) -> None:
    index = QuestionIndex(path, pipeline)
    dates = [None, "2024-03-01", "2023-01-01", "2025-01-01", "2023-01-01"]
    index.add([f"q{n}" for n in range(5)], TEXTS[:5], created=dates)
    link(index, "q0 q1", "q1 q2", "q2 q3", "q3 q4")
    assert index.groups()[0].members == ("q2", "q4", "q1", "q3", "q0")
    assert index.groups()[0].canonical == "q2"
    first = index.merge("q3", "q0", by="ann")
    assert index.groups()[0].canonical == "q3"
    second = index.merge("q0", "q3", by="bob")
    assert index.groups()[0].canonical == "q0"
    assert index.groups()[0].merges == (first, second)
    index.remove(["q0"])
    assert index.groups()[0].canonical == "q3"
    index.unmerge(first, by="bob")
    assert index.groups()[0].canonical == "q2"
    index.remove(["q2"])
    assert index.groups()[0].canonical == "q4"


def test_an_unmerge_restores_exactly_what_was(filled: QuestionIndex) -> None:
    link(filled, "q1 q2", "q3 q4")
    states = [filled.groups()]
    numbers = []
    for pair in (("q4", "q1"), ("q9", "q2"), ("q2", "q4"), ("q20", "q21")):
        numbers.append(filled.merge(*pair, by="ann"))
        states.append(filled.groups())
    assert members(filled.group("q1")) == {"q1", "q2", "q3", "q4", "q9"}
    for number, before in zip(reversed(numbers), reversed(states[:-1]), strict=True):
        filled.unmerge(number, by="bob")
        assert filled.groups() == before


def test_merges_last_when_a_text_is_replaced(filled: QuestionIndex) -> None:
    filled.merge("q1", "q2", by="ann")
    filled.add(["q2"], ["where do old trains go at night"])
    assert members(filled.group("q2")) == {"q1", "q2"}
    filled.remove(["q1"])
    assert filled.group("q2") is None
    filled.add(["q1"], [TEXTS[1]])
    assert filled.groups() == [Group("q1", ("q2", "q1"), None, (1,))]


def test_merges_that_cannot_be(filled: QuestionIndex) -> None:
    number = filled.merge("q1", "q2", by="ann", key="form-1")
    assert filled.merge("q1", "q2", by="ann", key="form-1") == number
    calls: list[tuple[Any, str]] = [
        (lambda: filled.merge("q1", "q1", by="ann"), "must differ"),
        (lambda: filled.merge("q1", "nobody", by="ann"), "no question has the id 'nobody'"),
        (lambda: filled.merge("q1", "q3", by="\0"), "NUL"),
        (lambda: filled.merge("q1", "q3", by="ann", note="\0"), "NUL"),
        (lambda: filled.merge(["q1"], "q3", by="ann"), "canonical"),  # type: ignore[arg-type]
        (lambda: filled.unmerge(99, by="ann"), "no merge 99"),
        (lambda: filled.unmerge("1", by="ann"), "number must be an integer"),  # type: ignore[arg-type]
        (lambda: filled.unmerge(1, by=""), "by must not be blank"),
        (lambda: filled.group("nobody"), "no question has the id"),
    ]
    for call, message in calls:
        with pytest.raises(InputError, match=message):
            call()
    undo = filled.unmerge(number, by="bob", key="undo-1")
    assert filled.unmerge(number, by="bob", key="undo-1") == undo
    with pytest.raises(InputError, match="taken back already"):
        filled.unmerge(number, by="ann")
    with pytest.raises(InputError, match="cannot be taken back itself"):
        filled.unmerge(undo, by="ann")


def test_a_key_that_was_used_for_another_merge_is_refused(filled: QuestionIndex) -> None:
    number = filled.merge("q1", "q2", by="ann", key="form-1")
    other = filled.merge("q5", "q6", by="ann")
    undo = filled.unmerge(other, by="ann", key="undo-1")
    calls: list[Any] = [
        lambda: filled.merge("q3", "q4", by="ann", key="form-1"),
        lambda: filled.merge("q2", "q1", by="ann", key="form-1"),
        lambda: filled.merge("q1", "q2", by="bob", key="form-1"),
        lambda: filled.unmerge(number, by="ann", key="form-1"),
        lambda: filled.unmerge(number, by="ann", key="undo-1"),
        lambda: filled.unmerge(other, by="bob", key="undo-1"),
        lambda: filled.merge("q5", "q6", by="ann", key="undo-1"),
    ]
    for call in calls:
        with pytest.raises(InputError, match=f"was used for merge ({number}|{undo})"):
            call()
    assert members(filled.group("q1")) == {"q1", "q2"}


def test_a_group_states_its_weakest_link_and_its_disputed_pairs(filled: QuestionIndex) -> None:
    filled.flag_stored(IDS)
    rows = sorted(filled.decisions(), key=lambda row: row.probability)
    low, high = rows[0], rows[-1]
    link(filled, f"{low.id} {low.other}", f"{high.id} {high.other}", f"{low.id} {high.id}")
    group = filled.group(low.id)
    assert group is not None
    assert group.weakest is not None
    assert ({group.weakest.id, group.weakest.other}, group.weakest.probability) == (
        {low.id, low.other},
        low.probability,
    )
    assert group.disputed == ()
    filled.verdict(low.other, high.other, "distinct", by="bob")
    filled.verdict(low.other, "q0" if "q0" not in group.members else "q1", "distinct", by="bob")  # of no group
    group = filled.group(low.id)
    assert group is not None
    assert [set(pair) for pair in group.disputed] == [{low.other, high.other}]
    assert group == filled.groups()[0]


def test_a_look_at_one_group_does_not_read_the_history(filled: QuestionIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    link(filled, "q1 q2", "q2 q3", *(f"q{n} q{n + 1}" for n in range(10, 90, 2)))
    from dupq.index.stores import sqlite

    read: list[int] = []
    run = sqlite.SqliteSession.run

    def counted(self: Any, *arguments: Any) -> list[tuple[Any, ...]]:
        rows = run(self, *arguments)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(sqlite.SqliteSession, "run", counted)
    assert members(filled.group("q1")) == {"q1", "q2", "q3"}
    assert sum(read) < 40


def test_ids_of_both_kinds_are_two_questions(path: Path, pipeline: DuplicatePipeline) -> None:
    index = QuestionIndex(path, pipeline)
    index.add([7, "7", 8], TEXTS[:3])
    index.verdict(7, "7", "duplicate", by="ann")
    index.merge(8, "7", by="ann")
    assert index.groups() == [Group(8, (7, "7", 8), None, (1,), links=(Link(7, "7", None),))]
