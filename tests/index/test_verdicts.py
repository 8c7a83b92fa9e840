from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.decisions.thresholds import Policy
from dupq.errors import ConflictError, InputError
from dupq.index import verdicts as module
from dupq.index.question_index import QuestionIndex
from dupq.index.review import ReviewItem
from dupq.index.sampling import STRATA, drawn_number, stratum_of, value_of
from dupq.index.stores.base import StoredDecision, StoredQuestion, encoded_id
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.index.stored import IDS, TEXTS
from tests.questions import labelled_table


@pytest.fixture
def judged(filled: QuestionIndex) -> QuestionIndex:
    filled.flag_stored(IDS)
    return filled


def answer(index: QuestionIndex, item: ReviewItem, given: str = "distinct", by: str = "ann", **more: Any) -> None:
    index.verdict(
        item.question.id,
        item.other.id,
        given,
        by=by,
        chosen=item.chosen,
        sampled=item.sampled,
        expected=item.last,
        **more,
    )


# ---- one verdict ----------------------------------------------------------------------------------------------------


def test_a_verdict_keeps_the_decision_of_its_moment(judged: QuestionIndex) -> None:
    decision = judged.decisions()[3]
    row = judged.verdict(decision.other, decision.id, "duplicate", by="ann", chosen="audit", sampled=0.25, note="clear")
    assert {row.id, row.other} == {decision.id, decision.other}
    assert encoded_id(row.id) < encoded_id(row.other)
    assert (row.score, row.probability, row.decision) == (decision.score, decision.probability, decision.decision)
    assert (row.threshold, row.base_rate, row.scorer) == (decision.threshold, decision.base_rate, decision.scorer)
    assert (row.number, row.answer, row.by, row.chosen, row.sampled, row.note) == (
        1,
        "duplicate",
        "ann",
        "audit",
        0.25,
        "clear",
    )
    assert judged.history() == judged.history(decision.id) == judged.history(decision.other) == [row]


def test_a_pair_without_a_decision_takes_a_verdict(filled: QuestionIndex) -> None:
    row = filled.verdict("q0", "q9", "skip", by="ann")
    assert row.score is row.probability is row.decision is row.scorer is row.sampled is None
    assert filled.verdict_of("q0", "q9").answer == "skip"


def test_the_history_only_grows_and_its_order_is_that_of_numbers(
    filled: QuestionIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(["2026-05-02T00:00:00+00:00", "2026-05-01T00:00:00+00:00", "2026-04-01T00:00:00+00:00"])
    monkeypatch.setattr("dupq.index.question_index.now", lambda: next(times))
    first = filled.verdict("q0", "q1", "duplicate", by="ann")
    second = filled.verdict("q1", "q0", "distinct", by="ann")  # the clock went back
    assert filled.verdict_of("q0", "q1").answer == "distinct"
    undo = filled.undo(by="ann")
    assert undo.undoes == second.number
    assert filled.history() == [first, second, undo]
    assert filled.verdict_of("q0", "q1").answer == "duplicate"


def test_moderators_who_differ_make_a_pair_contested(filled: QuestionIndex) -> None:
    filled.verdict("q0", "q1", "duplicate", by="ann")
    filled.verdict("q0", "q1", "skip", by="cas")
    assert filled.verdict_of("q0", "q1").answer == "duplicate"
    filled.verdict("q0", "q1", "distinct", by="bob")
    state = filled.verdict_of("q1", "q0")
    assert (state.answer, state.by, state.last) == (
        "contested",
        {"ann": "duplicate", "cas": "skip", "bob": "distinct"},
        3,
    )
    filled.verdict("q0", "q1", "distinct", by="ann")
    assert filled.verdict_of("q0", "q1").answer == "distinct"
    filled.undo(by="ann")
    assert filled.verdict_of("q0", "q1").answer == "contested"


def test_undo_goes_back_step_by_step_over_restarts(path: Path, pipeline: DuplicatePipeline) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS, TEXTS)
        numbers = [index.verdict("q0", f"q{n}", "duplicate", by="ann").number for n in range(1, 5)]
        index.verdict("q0", "q9", "duplicate", by="bob")
    for number in reversed(numbers):
        with QuestionIndex(path) as index:  # no pipeline is needed
            assert index.undo(by="ann").undoes == number
    with QuestionIndex(path) as index:
        with pytest.raises(InputError, match="has no verdict to take back"):
            index.undo(by="ann")
        assert [index.verdict_of("q0", f"q{n}").answer for n in (1, 4, 9)] == ["none", "none", "duplicate"]


def test_what_cannot_be_taken_back(filled: QuestionIndex) -> None:
    row = filled.verdict("q0", "q1", "duplicate", by="ann")
    with pytest.raises(InputError, match="given by 'ann', not by 'bob'"):
        filled.undo(row.number, by="bob")
    undo = filled.undo(row.number, by="bob", force=True)
    assert undo.by == "bob"
    with pytest.raises(InputError, match="taken back already"):
        filled.undo(row.number, by="ann")
    with pytest.raises(InputError, match="cannot be taken back itself"):
        filled.undo(undo.number, by="bob")
    with pytest.raises(InputError, match="no verdict 99"):
        filled.undo(99, by="ann")
    assert len(filled.history()) == 2


def test_a_later_verdict_is_a_conflict(filled: QuestionIndex) -> None:
    filled.verdict("q0", "q2", "duplicate", by="ann", expected=0)
    first = filled.verdict("q0", "q1", "duplicate", by="ann", expected=0)
    with pytest.raises(ConflictError) as caught:
        filled.verdict("q1", "q0", "distinct", by="bob", expected=0)
    assert caught.value.rows == (first,)
    assert isinstance(caught.value, InputError)
    undo = filled.undo(by="ann")
    with pytest.raises(ConflictError) as caught:
        filled.verdict("q1", "q0", "distinct", by="bob", expected=first.number)
    assert caught.value.rows == (undo,)
    filled.verdict("q1", "q0", "distinct", by="bob", expected=undo.number)
    assert filled.verdict_of("q0", "q1").answer == "distinct"


def test_a_repeated_key_is_one_row(filled: QuestionIndex) -> None:
    first = filled.verdict("q0", "q1", "duplicate", by="ann", expected=0, key="form-1")
    assert filled.verdict("q1", "q0", "duplicate", by="ann", expected=0, key="form-1") == first
    with pytest.raises(InputError, match="form-1"):
        filled.verdict("q0", "q1", "distinct", by="ann", key="form-1")
    undo = filled.undo(by="ann", key="undo-1")
    assert filled.undo(by="ann", key="undo-1") == undo
    assert len(filled.history()) == 2


def test_a_key_that_was_used_for_something_else_undoes_nothing(filled: QuestionIndex) -> None:
    first = filled.verdict("q0", "q1", "duplicate", by="ann", key="form-1")
    second = filled.verdict("q0", "q2", "duplicate", by="ann", key="form-2")
    undo = filled.undo(second.number, by="ann", key="undo-1")
    calls: list[Any] = [
        lambda: filled.undo(first.number, by="ann", key="form-1"),
        lambda: filled.undo(by="ann", key="form-1"),
        lambda: filled.undo(first.number, by="ann", key="undo-1"),
        lambda: filled.undo(by="bob", key="undo-1"),
    ]
    for call in calls:
        with pytest.raises(InputError, match=f"was used for verdict ({first.number}|{undo.number})"):
            call()
    assert filled.undo(second.number, by="ann", key="undo-1") == undo
    assert filled.verdict_of("q0", "q1").answer == "duplicate"


def test_a_verdict_on_a_text_that_was_replaced_since_it_was_shown_is_a_conflict(filled: QuestionIndex) -> None:
    item = filled.review_item("q1", "q2")
    filled.add(["q2"], ["where do old trains go at night"])
    with pytest.raises(ConflictError, match="slots must be those of the present texts") as caught:
        filled.verdict("q1", "q2", "duplicate", by="ann", expected=item.last, slots=item.slots)
    assert caught.value.rows == ()
    assert filled.history() == []
    slots = filled.review_item("q1", "q2").slots
    row = filled.verdict("q2", "q1", "distinct", by="ann", slots=(slots[1], slots[0]), key="form-1")
    assert (row.slot_one, row.slot_other) == tuple(sorted(slots))
    filled.add(["q2"], [TEXTS[2]])
    assert filled.verdict("q2", "q1", "distinct", by="ann", slots=slots, key="form-1") == row  # it was given before


def test_the_merge_that_came_with_a_verdict_is_taken_back_with_it(filled: QuestionIndex) -> None:
    row = filled.verdict("q0", "q1", "duplicate", by="ann", key="form-1")
    filled.merge("q1", "q0", by="ann", key=module.merge_key(row))
    other = filled.merge("q3", "q4", by="ann", key="form-2")
    undo = filled.undo(row.number, by="bob", force=True, note="no", key="undo-1")
    assert filled.undo(row.number, by="bob", force=True, key="undo-1") == undo
    assert filled.group("q0") is None
    assert [group.merges for group in filled.groups()] == [(other,)]
    with filled._store.reading() as view:
        assert [(merge.by, merge.note, merge.undoes) for merge in view.merges()[2:]] == [("bob", "no", 1)]


def test_one_of_two_moderators_at_once_gets_the_conflict(filled: QuestionIndex) -> None:
    start, outcomes = threading.Barrier(4), []

    def give(by: str) -> None:
        start.wait()
        try:
            outcomes.append(filled.verdict("q0", "q1", "duplicate", by=by, expected=0).by)
        except ConflictError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=give, args=(f"m{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert len(filled.history()) == 1


# ---- verdicts belong to texts ---------------------------------------------------------------------------------------


def test_a_verdict_on_a_replaced_text_is_outdated(judged: QuestionIndex) -> None:
    decision = judged.decisions()[0]
    pair = (decision.id, decision.other)
    row = judged.verdict(*pair, "duplicate", by="ann")
    judged.add([pair[0]], [TEXTS[IDS.index(pair[0])]])  # the same text
    assert judged.verdict_of(*pair).answer == "duplicate"
    judged.add([pair[0]], ["where do old trains go at night"])
    state = judged.verdict_of(*pair)
    assert (state.answer, state.opinions, state.outdated, state.last) == ("outdated", (), (row,), row.number)
    later = judged.verdict(*pair, "distinct", by="bob")
    state = judged.verdict_of(*pair)
    assert (state.answer, state.opinions, state.outdated) == ("distinct", (later,), (row,))
    judged.undo(row.number, by="ann")
    assert judged.verdict_of(*pair).outdated == ()


def test_the_last_text_of_a_removed_question_counts(judged: QuestionIndex) -> None:
    judged.verdict("q0", "q1", "duplicate", by="ann")
    judged.remove(["q1"])
    judged.compact()
    assert judged.verdict_of("q0", "q1").answer == "duplicate"
    judged.remove(["q0"])
    assert judged.verdict_of("q0", "q1").answer == "duplicate"
    judged.add(["q1"], [TEXTS[1]])
    assert judged.verdict_of("q0", "q1").answer == "outdated"


def test_a_removal_does_not_bring_an_outdated_verdict_back(judged: QuestionIndex) -> None:
    judged.verdict("q0", "q1", "duplicate", by="ann")
    judged.add(["q1"], ["where do old trains go at night"])
    judged.remove(["q1"])
    assert judged.verdict_of("q0", "q1").answer == "outdated"
    judged.add(["q1"], ["where do old trains go at night"])
    judged.verdict("q0", "q1", "duplicate", by="ann")
    judged.remove(["q1"])
    assert judged.verdict_of("q0", "q1").answer == "duplicate"


# ---- the queue ------------------------------------------------------------------------------------------------------


def test_decisions_are_drawn_once(path: Path, pipeline: DuplicatePipeline) -> None:
    reach = {id_: 1.0 + 3 * n for n, id_ in enumerate(IDS)}
    index = QuestionIndex(path, pipeline)
    index.add(IDS, TEXTS)
    set_reach(index, reach)
    index.flag_stored(IDS)
    with index._store.reading() as view:
        database = view.position().database
    before = index.decisions()
    assert {row.stratum for row in before} > {"duplicate"}
    for row in before:
        assert row.drawn == drawn_number(database, row.id, row.other)
        assert row.stratum == stratum_of(row.decision, row.probability)
        assert row.value == pytest.approx(value_of(row.probability, reach[row.id], reach[row.other]))
    set_reach(index, dict.fromkeys(IDS, 1.0))
    index.flag_stored(IDS)
    assert index.decisions() == before


def set_reach(index: QuestionIndex, reach: dict[str, float]) -> None:
    def write(transaction: Any) -> None:
        for id_, value in reach.items():
            transaction._sql.run("UPDATE questions SET reach=? WHERE id=?", (value, encoded_id(id_)))

    index._store.write(write)


def test_a_decision_without_a_draw_gets_one(judged: QuestionIndex) -> None:
    before = judged.decisions()
    judged._store.write(lambda transaction: transaction._sql.run("UPDATE decisions SET stratum='', value=1, drawn=1"))
    assert judged.estimates().undrawn == len(before)
    judged.flag_stored(IDS)
    assert judged.decisions() == before


def test_the_queue_goes_by_uncertainty_and_the_audit_by_chance(judged: QuestionIndex) -> None:
    rows = judged.decisions()
    items = judged.review_queue(30, audit_share=0.0)
    assert {item.chosen for item in items} == {"queue"}
    assert [item.decision for item in items] == sorted(rows, key=lambda row: row.drawn / row.value)[:30]
    audits = judged.review_queue(30, audit_share=1.0)
    assert {item.chosen for item in audits} == {"audit"}
    for stratum in STRATA:
        found = [item.decision for item in audits if item.decision is not None and item.decision.stratum == stratum]
        assert found == sorted((row for row in rows if row.stratum == stratum), key=lambda row: row.drawn)[: len(found)]
    mixed = judged.review_queue(40, audit_share=0.2)
    assert len({(item.question.id, item.other.id) for item in mixed}) == 40
    chosen = [item.chosen for item in mixed]
    assert chosen.count("audit") == 8
    assert chosen[:5].count("audit") == 1  # interleaved
    flagged = [
        item for item in mixed if item.chosen == "audit" and item.decision and item.decision.stratum == "duplicate"
    ]
    assert len(flagged) >= 4


def test_the_share_of_audits_holds_over_calls_for_one_pair(judged: QuestionIndex) -> None:
    chosen = []
    for _ in range(25):
        (item,) = judged.review_queue(1, audit_share=0.2)
        chosen.append(item.chosen)
        answer(judged, item)
    assert chosen.count("audit") == 5


def test_the_queue_leaves_out_what_has_a_verdict(judged: QuestionIndex) -> None:
    first = judged.review_queue(10)
    for item, given in zip(first, ["duplicate", "distinct", "skip"] * 4, strict=False):
        answer(judged, item, given)
    pairs = {(item.question.id, item.other.id) for item in first}
    later = judged.review_queue(10_000)
    assert len(later) == len(judged.decisions()) - 10
    assert pairs.isdisjoint({(item.question.id, item.other.id) for item in later})
    judged.undo(by="ann")
    judged.undo(by="ann")
    again = {(item.question.id, item.other.id): item.last for item in judged.review_queue(10_000)}
    assert pairs & set(again) == {(item.question.id, item.other.id) for item in first[8:]}
    assert sorted(last for last in again.values() if last) == [11, 12]


def test_an_item_has_the_two_questions_as_they_are_stored(judged: QuestionIndex) -> None:
    with judged._store.reading() as view:
        stored = view.find(IDS)
    for item in judged.review_queue(20):
        assert isinstance(item.decision, StoredDecision)
        assert {item.question.id, item.other.id} == {item.decision.id, item.decision.other}
        for question in (item.question, item.other):
            assert isinstance(question, StoredQuestion)
            assert question == stored[question.id]
        assert item.sampled is not None
        assert 0 < item.sampled <= 1
        assert item.last == 0


def test_a_replaced_question_comes_up_again(judged: QuestionIndex) -> None:
    (item,) = judged.review_queue(1)
    answer(judged, item)
    judged.add([item.question.id], [f"{item.question.text} please"])
    judged.flag_stored([item.question.id], k=len(IDS))
    pairs = {frozenset((found.question.id, found.other.id)): found.last for found in judged.review_queue(10_000)}
    assert pairs[frozenset((item.question.id, item.other.id))] == 1


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_queue_can_be_filtered(judged: QuestionIndex, share: float) -> None:
    rows = judged.decisions()
    for decision in ("duplicate", "distinct"):
        found = judged.review_queue(10_000, audit_share=share, decision=decision)
        assert len(found) == sum(row.decision == decision for row in rows) > 0
        assert {item.decision.decision for item in found if item.decision} == {decision}
    low, high = np.quantile([row.probability for row in rows], [0.2, 0.6])
    found = judged.review_queue(10_000, audit_share=share, min_probability=low, max_probability=high)
    assert len(found) == sum(low <= row.probability <= high for row in rows)
    assert len({(item.question.id, item.other.id) for item in found}) == len(found)


def test_contested_pairs_can_be_asked_for(judged: QuestionIndex) -> None:
    first, second, third = judged.review_queue(3)
    for item in (first, second, third):
        answer(judged, item, "duplicate", by="ann")
    for item in (second, third):
        judged.verdict(item.question.id, item.other.id, "distinct", by="bob")
    judged.verdict("q0", "q97", "distinct", by="ann")
    judged.verdict("q0", "q97", "duplicate", by="bob")  # without a decision
    items = judged.review_queue(contested=True)
    assert [item.last for item in items] == [4, 5, 7]
    assert {item.chosen for item in items} == {""}
    assert items[-1].decision is items[-1].sampled is None
    assert [verdict.answer for verdict in items[-1].opinions] == ["distinct", "duplicate"]
    assert judged.review_queue(contested=True, by="ann") == []
    assert judged.review_queue(contested=True, by="cas") == items
    assert judged.review_queue(2, contested=True) == items[:2]
    assert judged.review_queue(contested=True, min_probability=0.9999) == [
        item for item in items if item.decision and item.decision.probability >= 0.9999
    ]
    judged.undo(by="bob")
    judged.add([third.question.id], ["where do old trains go at night"])
    assert [item.last for item in judged.review_queue(contested=True)] == [4]


# ---- the estimates --------------------------------------------------------------------------------------------------


def test_estimates_of_all_pairs_are_exact(judged: QuestionIndex) -> None:
    rows = judged.decisions()
    truth = {(row.id, row.other): row.drawn < 0.3 + 0.4 * (row.decision == "duplicate") for row in rows}
    for row in rows:
        judged.verdict(row.id, row.other, "duplicate" if truth[row.id, row.other] else "distinct", by="ann")
    found = judged.estimates()
    flagged = [row for row in rows if row.decision == "duplicate"]
    hits = sum(truth[row.id, row.other] for row in flagged)
    assert (found.judged, found.sampled, found.outside, found.unclear, found.undrawn) == (len(rows), len(rows), 0, 0, 0)
    assert found.precision.value == pytest.approx(hits / len(flagged))
    assert found.recall.value == pytest.approx(hits / sum(truth.values()))
    assert found.base_rate.value == pytest.approx(sum(truth.values()) / len(rows))
    assert found.audit.value == pytest.approx(hits / len(flagged))
    assert found.covered == 1


def test_estimates_leave_out_what_is_unclear_or_chosen_by_hand(judged: QuestionIndex) -> None:
    items = judged.review_queue(30)
    for number, item in enumerate(items):
        answer(judged, item, "skip" if number < 4 else "duplicate")
    judged.verdict(items[5].question.id, items[5].other.id, "distinct", by="bob")
    by_hand = judged.review_queue(10_000)[-3:]
    for item in by_hand:
        answer(judged, item)
    found, reviewed = judged.estimates(), judged.reviewed()
    assert (found.sampled, found.unclear, found.outside) == (25, 5, 3)
    assert len(reviewed) == 33
    outside = [row for row in reviewed if not row.sampled]
    assert {(row.decision.id, row.decision.other) for row in outside} == {
        (item.decision.id, item.decision.other) for item in by_hand if item.decision
    }
    assert not any(row.audited for row in outside)
    assert all(row.audit_probability <= row.probability <= 1 for row in reviewed)
    assert sum(row.answer == "contested" for row in reviewed) == 1
    assert found.precision.pairs + (found.base_rate.pairs if found.base_rate.value is None else 0) <= 25


def test_few_verdicts_give_no_figure(judged: QuestionIndex) -> None:
    for found in (judged.estimates().precision, judged.estimates().audit):
        assert found.value is None
        assert "too few" in found.note
    for item in judged.review_queue(5):
        answer(judged, item)
    assert judged.estimates().precision.value is None


@pytest.mark.parametrize(("good", "outcome"), [(True, "kept"), (False, "missed"), (None, "open")])
def test_estimates_are_compared_with_the_guarantee(path: Path, good: bool | None, outcome: str) -> None:
    pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(
        labelled_table(), policy=Policy.precision(0.62, delta=None)
    )
    index = QuestionIndex(path, pipeline)
    index.add(IDS, TEXTS)
    index.flag_stored(IDS)
    if good is None:
        assert index.estimates().outcome == "open"
    for item in judged_pairs(index) if good is not None else []:
        answer(index, item, "duplicate" if good else "distinct")
    found = index.estimates()
    assert (found.target, found.target_of, found.outcome) == (0.62, "precision", outcome)
    assert found.guarantee == pipeline.candidate_decider.guarantee
    without = QuestionIndex(path).estimates()
    assert (without.audit, without.guarantee, without.outcome) == (found.audit, "", "")


def judged_pairs(index: QuestionIndex) -> list[ReviewItem]:
    return index.review_queue(60, audit_share=1.0, decision="duplicate")


# ---- bad input ------------------------------------------------------------------------------------------------------

BAD_VERDICTS: list[tuple[dict[str, Any], str]] = [
    ({"id1": "nobody"}, "no question has the id 'nobody'"),
    ({"id2": 7}, "no question has the id 7"),
    ({"id2": "q0"}, "must differ"),
    ({"id1": ["q0"]}, "id1"),
    ({"answer": "yes"}, "answer must be one of duplicate, distinct, skip"),
    ({"answer": "undo"}, "answer must be one of"),
    ({"answer": True}, "answer must be one of"),
    ({"by": " "}, "by must not be blank"),
    ({"by": None}, "by must be a str"),
    ({"by": "a\0b"}, "NUL"),
    ({"note": "a\0b"}, "NUL"),
    ({"note": "\ud800"}, "valid Unicode"),
    ({"note": "x" * 10_001}, "at most 10000 characters"),
    ({"key": ""}, "key must not be blank"),
    ({"chosen": "random"}, "chosen must be one of"),
    ({"sampled": 0}, "sampled must be a number in"),
    ({"sampled": 1.1}, "sampled must be a number in"),
    ({"sampled": float("nan")}, "sampled must be a number in"),
    ({"expected": -1}, "expected must be an integer"),
    ({"expected": "0"}, "expected must be an integer"),
]


@pytest.mark.parametrize(("given", "message"), BAD_VERDICTS, ids=[f"{given!r:.30}" for given, _ in BAD_VERDICTS])
def test_bad_verdicts_are_refused_and_write_nothing(filled: QuestionIndex, given: dict[str, Any], message: str) -> None:
    arguments = {"id1": "q0", "id2": "q1", "answer": "duplicate", "by": "ann"} | given
    with pytest.raises(InputError, match=message):
        filled.verdict(**arguments)
    assert filled.history() == []


def test_other_bad_arguments_are_refused(filled: QuestionIndex) -> None:
    calls: list[tuple[Any, str]] = [
        (lambda: filled.undo(by=""), "by must not be blank"),
        (lambda: filled.undo("1", by="ann"), "number must be an integer"),  # type: ignore[arg-type]
        (lambda: filled.undo(1, by="ann", force=1), "force"),  # type: ignore[arg-type]
        (lambda: filled.verdict("q0", "q1", "skip", by="ann", slots=(1,)), "slots must be two slots"),
        (lambda: filled.verdict("q0", "q1", "skip", by="ann", slots="12"), "slots must be two slots"),  # type: ignore[arg-type]
        (lambda: filled.verdict("q0", "q1", "skip", by="ann", slots=(1, 0)), "slots must be an integer"),
        (lambda: filled.history("nobody"), "no question has the id"),
        (lambda: filled.verdict_of("q0", "q0"), "must differ"),
        (lambda: filled.verdict_of("q0", "nobody"), "no question has the id"),
        (lambda: filled.review_queue(0), "limit"),
        (lambda: filled.review_queue(audit_share=1.5), "audit_share"),
        (lambda: filled.review_queue(decision="maybe"), "decision must be one of"),
        (lambda: filled.review_queue(contested="yes"), "contested"),  # type: ignore[arg-type]
        (lambda: filled.review_queue(min_probability=0.6, max_probability=0.5), "max_probability"),
        (lambda: filled.review_queue(by=3), "by must be a str"),  # type: ignore[arg-type]
    ]
    for call, message in calls:
        with pytest.raises(InputError, match=message):
            call()


def test_an_empty_index_has_an_empty_queue(path: Path, pipeline: DuplicatePipeline) -> None:
    index = QuestionIndex(path, pipeline)
    assert index.review_queue() == index.review_queue(contested=True) == index.history() == index.reviewed() == []
    assert index.estimates().judged == 0


def test_the_clock_is_in_utc() -> None:
    assert module.now().endswith("+00:00")


# ---- deciding all --------------------------------------------------------------------------------------------------


def test_what_was_not_decided_is_decided_once(filled: QuestionIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dupq.index.question_index.BATCH", 3)
    seen: list[tuple[int, int]] = []
    questions, pairs = filled.decide(progress=lambda done, total: seen.append((done, total)))
    decisions = filled.decisions()
    assert (questions, pairs) == (len(IDS), len(decisions))
    assert seen[-1] == (len(IDS), len(IDS))
    assert len(seen) > 2
    assert filled.decide() == (0, 0)
    filled.add(["one more"], [f"{TEXTS[0]} please"])
    assert filled.decide()[0] == 1
    assert {frozenset((row.id, row.other)) for row in decisions} < {
        frozenset((row.id, row.other)) for row in filled.decisions()
    }
    # To decide all again changes no draw.
    drawn = {(row.id, row.other): row.drawn for row in filled.decisions()}
    assert filled.decide(everything=True)[0] == len(IDS) + 1
    again = {(row.id, row.other): row.drawn for row in filled.decisions()}
    assert {pair: again[pair] for pair in drawn} == drawn
