"""What every store must do, whatever database it is in."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.data.text import duplicate_key_hash
from dupq.errors import InputError, OutputError
from dupq.index.stores.base import (
    NewQuestion,
    Store,
    StoredDecision,
    StoredMerge,
    StoredQuestion,
    VectorForm,
    Written,
)
from dupq.index.stores.sql import Transaction
from tests.index.stores.kinds import DIMENSIONS, begin, content, fill, put, vector, vectors_of, verdict

ROOT = Path(__file__).parents[3]
SECONDS = 60.0
"""How long a thread is waited for that should end soon."""
AT = "2026-05-01T00:00:00+00:00"
DETAILS: dict[str, Any] = {"title": "Schach 𝄞 \u0000 'n' \"more\"", "tags": ["a", None, 1.5, True], "deep": {"x": {}}}
STRANGE_IDS = [7, "7", "i7", "t7", -(2**63), 2**63 - 1, " ", "Ünï", "𝄞", "a'b\"c", "%_", "\n"]


def stored(store: Store, *ids: Any) -> list[StoredQuestion]:
    with store.reading() as view:
        found = view.find(ids)
    return [found[id_] for id_ in ids]


def in_threads(*work: Callable[[], object]) -> None:
    raised: list[Exception] = []

    def run(part: Callable[[], object]) -> None:
        try:
            part()
        except Exception as error:  # noqa: BLE001
            raised.append(error)

    running = [threading.Thread(target=run, args=(part,), daemon=True) for part in work]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert raised == []


# ---- questions ----------------------------------------------------------------------------------------------------


def test_a_question_comes_back_as_it_was_put(store: Store) -> None:
    row = NewQuestion("q", "Who invented 'chess' 𝄞 \\ % ?", AT, 12.5, DETAILS)
    assert store.write(lambda transaction: put(transaction, [row, NewQuestion(2, "Who?")])) == Written(added=2)
    assert stored(store, "q", 2) == [
        StoredQuestion(1, "q", row.text, AT, 12.5, DETAILS),
        StoredQuestion(2, 2, "Who?", None, 1.0, None),
    ]
    with store.reading() as view:
        assert view.questions([2, 1, 9]) == {question.slot: question for question in stored(store, "q", 2)}
        assert view.find(["nobody", 1]) == {}


def test_an_unchanged_text_keeps_its_slot_and_takes_what_is_new(store: Store) -> None:
    def again(**new: Any) -> StoredQuestion:
        rows = [NewQuestion("a", "Who?", **new), NewQuestion("b", "How?", **new)]
        assert store.write(lambda transaction: put(transaction, rows)) == Written(unchanged=2)
        (found, other) = stored(store, "a", "b")
        assert replace(other, slot=1, id="a", text="Who?") == found
        return found

    fill(store, [])
    store.write(lambda transaction: put(transaction, [NewQuestion("a", "Who?", AT), NewQuestion("b", "How?", AT)]))
    assert again() == StoredQuestion(1, "a", "Who?", AT, 1.0, None)
    assert again(reach=3.0) == StoredQuestion(1, "a", "Who?", AT, 3.0, None)
    assert again(details={"a": 1}) == StoredQuestion(1, "a", "Who?", AT, 3.0, {"a": 1})
    assert again(created="2027", details={}) == StoredQuestion(1, "a", "Who?", "2027", 3.0, {})
    assert again(details={"a": True}).details == {"a": True}
    assert again(details={"a": 1}).details == {"a": 1}
    with store.reading() as view:
        assert view.position().slot == 2
        assert vectors_of(view, view.models()[0]).keys() == {1, 2}


def test_another_text_takes_a_new_slot_and_keeps_what_is_not_given(store: Store) -> None:
    store.write(lambda transaction: put(transaction, [NewQuestion(1, "Who?", AT, 2.0, {"a": 1})]))
    fill(store, [2, 3])
    rows = [NewQuestion(1, "Who else?"), NewQuestion(2, "What is 2?"), NewQuestion(4, "Why?")]
    assert store.write(lambda transaction: put(transaction, rows)) == Written(added=1, replaced=1, unchanged=1)
    assert stored(store, 1, 2, 4) == [
        StoredQuestion(4, 1, "Who else?", AT, 2.0, {"a": 1}),
        StoredQuestion(2, 2, "What is 2?"),
        StoredQuestion(5, 4, "Why?"),
    ]
    with store.reading() as view:
        assert view.questions([1]) == {}
        assert vectors_of(view, view.models()[0]) == {
            slot: vector(text).tolist()
            for slot, text in [(2, "What is 2?"), (3, "What is 3?"), (4, "Who else?"), (5, "Why?")]
        }


def test_ids_keep_their_type(store: Store) -> None:
    fill(store, STRANGE_IDS)
    found = stored(store, *STRANGE_IDS)
    assert [(row.id, type(row.id)) for row in found] == [(id_, type(id_)) for id_ in STRANGE_IDS]
    assert [row.text for row in found] == [f"What is {id_!r}?" for id_ in STRANGE_IDS]
    with store.reading() as view:
        assert view.id_kinds() == {"integer", "text"}
    assert store.write(lambda transaction: transaction.remove([7, "i7", "t", 8])) == 2
    with store.reading() as view:
        assert {row.id for row, _ in view.rows()} == {*STRANGE_IDS} - {7, "i7"}
        assert "7" in view.find([7, "7"])
    store.write(lambda transaction: transaction.remove([id_ for id_ in STRANGE_IDS if isinstance(id_, str)]))
    with store.reading() as view:
        assert view.id_kinds() == {"integer"}


@pytest.mark.parametrize("size", [1, 499, 500, 501, 5000])
def test_any_number_of_rows_is_written_read_and_removed(store: Store, size: int) -> None:
    assert fill(store, range(size)) == Written(added=size)
    with store.reading() as view:
        assert len(view) == view.count("questions") == size
        assert view.find(range(size + 5)).keys() == {*range(size)}
        assert len(view.questions(range(1, size + 5))) == size
        parts = list(view.vectors_after(view.models()[0], 0))
        assert sum(len(slots) for slots, _ in parts) == size
        assert np.concatenate([slots for slots, _ in parts]).tolist() == [*range(1, size + 1)]
        assert len(view.vectors(view.models()[0], range(size + 5))) == size
        assert view.changes(None).vectors.shape == (size, DIMENSIONS)
    assert store.write(lambda transaction: transaction.remove(range(0, size, 2))) == (size + 1) // 2
    with store.reading() as view:
        assert len(view) == size // 2
        assert view.count("removed") == (size + 1) // 2


def test_rows_come_in_order_of_slots_from_any_slot(store: Store) -> None:
    fill(store, "abcde")
    store.write(lambda transaction: put(transaction, [NewQuestion("b", "New?")]))
    store.write(lambda transaction: transaction.remove(["d"]))
    with store.reading() as view:
        rows = list(view.rows())
        assert [(row.slot, row.id) for row, _ in rows] == [(1, "a"), (3, "c"), (5, "e"), (6, "b")]
        assert [print_ for _, print_ in rows] == [duplicate_key_hash(row.text) for row, _ in rows]
        assert list(view.rows(1)) == rows[1:]
        assert list(view.rows(2, 2)) == rows[1:3]
        assert list(view.rows(6)) == []


def test_copies_are_found_by_their_duplicate_key(store: Store) -> None:
    texts = ["Who invented chess?", "who invented CHESS", "Who invented go?", "Who invented chess ?!", "Is C++ hard?"]
    store.write(lambda transaction: put(transaction, [NewQuestion(at, text) for at, text in enumerate(texts)]))
    with store.reading() as view:
        assert view.same_text("WHO INVENTED CHESS") == [1, 2, 4]
        assert view.same_text("Is C# hard?") == []
        assert view.distinct_texts() == 3
    store.write(lambda transaction: transaction.remove([0]))
    with store.reading() as view:
        assert view.same_text("WHO INVENTED CHESS") == [2, 4]


REFUSED: dict[str, Callable[[Transaction], object]] = {
    "a NUL in an id": lambda transaction: put(transaction, [NewQuestion("a\0b", "Who?")]),
    "a NUL in a text": lambda transaction: put(transaction, [NewQuestion("new", "Who\0?")]),
    "a NUL in a text that replaces": lambda transaction: put(transaction, [NewQuestion("a", "Who\0?")]),
    "a NUL in an id that is removed": lambda transaction: transaction.remove(["a", "a\0b"]),
    "a NUL in an id that is looked up": lambda transaction: transaction.find(["a\0b"]),
    "a NUL in a note": lambda transaction: transaction.add_verdict(verdict("a", "b", "k", note="\0")),
    "a NUL in the id of a verdict": lambda transaction: transaction.add_verdict(verdict("a", "\0", "k")),
    "a verdict without a key": lambda transaction: transaction.add_verdict(verdict("a", "b", "")),
    "a merge without a key": lambda transaction: transaction.add_merge(StoredMerge(0, "a", "b", "ann", AT)),
    "a NUL in the name of a moderator": lambda transaction: transaction.add_merge(
        StoredMerge(0, "a", "b", "\0", AT, key="k")
    ),
    "a text without a vector": lambda transaction: transaction.put([NewQuestion("new", "Who?")], {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_store_could_keep_is_refused_by_each(store: Store, case: str) -> None:
    fill(store, "ab")
    before = content(store)

    def action(transaction: Transaction) -> None:
        fill_more = [NewQuestion("c", "Why?")]
        put(transaction, fill_more)
        REFUSED[case](transaction)

    with pytest.raises(InputError) as refused:
        store.write(action)
    word = "NUL" if "NUL" in case else "key must be" if "key" in case else "no vector of the model"
    assert word in str(refused.value)
    assert refused.value.hint
    assert content(store) == before


# ---- models and vectors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["float16", "float32"])
def test_vectors_come_back_in_the_form_of_the_model(empty: Store, form: VectorForm) -> None:
    draw = np.random.default_rng(3)
    vectors = draw.standard_normal((20, 7)).astype(np.float32)
    model = empty.write(lambda transaction: transaction.add_model("one", 7, form))
    texts = [f"Who is {at}?" for at in range(20)]
    rows = [NewQuestion(at, text) for at, text in enumerate(texts)]
    empty.write(lambda transaction: transaction.use_model(model))
    empty.write(lambda transaction: transaction.put(rows, {1: dict(zip(texts, vectors, strict=True))}))
    with empty.reading() as view:
        changes = view.changes(None)
        found = view.vectors(model, [3, 20, 21])
    kept = vectors.astype(form)
    assert changes.vectors.dtype == np.dtype(form)
    np.testing.assert_array_equal(changes.vectors, kept)
    assert found.keys() == {3, 20}
    np.testing.assert_array_equal(np.stack([*found.values()]), kept[[2, 19]])
    assert form == "float32" or (kept != vectors).any()


def test_models_are_numbered_and_none_is_used_before_every_question_has_its_vector(store: Store) -> None:
    fill(store, range(5))
    first = content(store)["model"]
    with store.reading() as view:
        epoch = view.position().epoch
    second = store.write(lambda transaction: transaction.add_model("two", 3, "float32"))
    assert (first.number, second.number, second.form) == (1, 2, "float32")
    assert store.write(lambda transaction: transaction.add_model("two", 3, "float32")) == second
    with store.reading() as view:
        assert (view.models(), view.model()) == ([first, second], first)
        assert [row.id for row in view.missing(second, 3)] == [0, 1, 2]
        assert view.missing(first, 9) == []
        assert view.position().epoch == epoch

    def vectors(slots: list[int], value: float) -> Callable[[Transaction], None]:
        rows = np.full((len(slots), 3), value, np.float32)
        return lambda transaction: transaction.put_vectors(second, slots, rows)

    store.write(vectors([1, 2, 4], 0.25))
    with pytest.raises(InputError, match="no vector of the model two"):
        store.write(lambda transaction: transaction.use_model(second))
    # A question that comes meanwhile has the vectors that its writer gives.
    store.write(lambda t: t.put([NewQuestion(5, "Late?")], {1: {"Late?": vector("Late?")}}))
    store.write(lambda t: t.put([NewQuestion(0, "New?")], {1: {"New?": vector("New?")}, 2: {"New?": np.ones(3)}}))
    with store.reading() as view:
        assert [(row.slot, row.id) for row in view.missing(second, 9)] == [(3, 2), (5, 4), (6, 5)]
        assert view.model() == first
    store.write(vectors([2, 3, 5, 6], 0.5))  # those that are there stay
    store.write(lambda transaction: transaction.use_model(second))
    with store.reading() as view:
        assert view.model() == second
        assert view.position().epoch > epoch
        values = {slot: row[0] for slot, row in vectors_of(view, second).items()}
        assert values == {2: 0.25, 3: 0.5, 4: 0.25, 5: 0.5, 6: 0.5, 7: 1.0}
        assert view.changes(None).vectors.shape == (6, 3)
        assert vectors_of(view, first).keys() == values.keys()


def test_a_model_is_dropped_once_it_is_not_used(store: Store) -> None:
    fill(store, range(3))
    first = content(store)["model"]
    with pytest.raises(InputError, match="in use"):
        store.write(lambda transaction: transaction.drop_model(first))
    second = store.write(lambda transaction: transaction.add_model("two", DIMENSIONS, "float16"))
    rows = np.stack([vector(str(at)) for at in range(3)])
    store.write(lambda transaction: transaction.put_vectors(second, [1, 2, 3], rows))
    store.write(lambda transaction: transaction.use_model(second))
    with pytest.raises(InputError, match="in use"):
        store.write(lambda transaction: transaction.drop_model(second))
    store.write(lambda transaction: transaction.drop_model(first))
    with pytest.raises(InputError, match="no model has the number 1"):
        store.write(lambda transaction: transaction.drop_model(first))
    with store.reading() as view:
        assert view.models() == [second]
        assert view.changes(None).vectors.tolist() == rows.tolist()
    third = store.write(lambda transaction: transaction.add_model("one", DIMENSIONS, "float16"))
    assert third.number == 3  # and never one that a reader may have met
    fill(store, range(3, 6))
    assert store.write(lambda transaction: transaction.remove([0, 4])) == 2
    with store.reading() as view:
        assert vectors_of(view, third).keys() == {4, 6}


def test_a_store_without_a_model_has_no_vectors(empty: Store) -> None:
    with empty.reading() as view:
        assert (view.model(), view.models(), len(view)) == (None, [], 0)
        changes = view.changes(None)
        assert (changes.slots.tolist(), changes.removed.tolist(), changes.vectors.shape) == ([], [], (0, 0))
    assert empty.write(lambda transaction: transaction.put([NewQuestion(1, "Who?")], {})) == Written(added=1)
    model = empty.write(lambda transaction: transaction.add_model("one", DIMENSIONS, "float16"))
    with empty.reading() as view:
        assert [row.id for row in view.missing(model, 5)] == [1]


def test_a_vector_of_another_length_is_refused(store: Store) -> None:
    fill(store, [1])
    before = content(store)
    for bad in (np.zeros(DIMENSIONS + 1, np.float32), np.zeros(DIMENSIONS - 1, np.float32)):
        with pytest.raises(InputError, match=f"must have {DIMENSIONS} dimensions"):
            store.write(lambda transaction, bad=bad: transaction.put([NewQuestion(2, "Who?")], {1: {"Who?": bad}}))
    assert content(store) == before


# ---- changes and positions ----------------------------------------------------------------------------------------


def test_a_reader_follows_by_the_changes_alone(store: Store) -> None:
    draw = np.random.default_rng(5)
    truth: dict[int, str] = {}
    readers: list[tuple[Any, dict[int, list[float]]]] = [(None, {}) for _ in range(3)]
    for step in range(60):
        ids = draw.choice(12, size=3, replace=False).tolist()
        kind = draw.random()
        if kind < 0.6:
            rows = [NewQuestion(id_, f"Is it {draw.integers(4)}?") for id_ in ids]
            store.write(lambda transaction, rows=rows: put(transaction, rows))
            truth |= {row.id: row.text for row in rows}  # type: ignore[misc]
        elif kind < 0.9:
            count = sum(id_ in truth for id_ in ids)
            assert store.write(lambda transaction, ids=ids: transaction.remove(ids)) == count
            truth = {id_: text for id_, text in truth.items() if id_ not in ids}
        elif kind < 0.95:
            store.write(lambda transaction: transaction.next_epoch())
        else:
            store.shrink()
        number = step % 3
        position, held = readers[number]
        with store.reading() as view:
            changes = view.changes(position)
            now = view.position()
            slots = {question.id: question.slot for question, _ in view.rows()}
        assert changes.position == now
        if position is None or position.epoch != now.epoch:
            held = {}
            assert changes.removed.tolist() == []
        assert not {*changes.slots.tolist()} & {*held}
        held |= dict(zip(changes.slots.tolist(), changes.vectors.tolist(), strict=True))
        held = {slot: row for slot, row in held.items() if slot not in changes.removed.tolist()}
        assert held == {slots[id_]: vector(text).tolist() for id_, text in truth.items()}  # type: ignore[index]
        readers[number] = (now, held)


def test_a_position_of_another_store_reads_everything(store: Store, kind: str, tmp_path: Path) -> None:
    from tests.index.stores.kinds import make_store

    (tmp_path / "other").mkdir()
    other = make_store(kind, tmp_path / "other")
    begin(other)
    fill(store, range(4))
    fill(other, range(9))
    with other.reading() as view:
        foreign = view.position()
    with store.reading() as view:
        assert view.position().database != foreign.database
        assert view.changes(foreign).slots.tolist() == [1, 2, 3, 4]
        now = view.changes(None).position
        assert view.changes(now).slots.tolist() == []
        assert view.changes(replace(now, epoch=now.epoch + 1)).slots.tolist() == [1, 2, 3, 4]
    other.close()


def test_removals_are_listed_until_the_next_epoch(store: Store) -> None:
    fill(store, range(4))
    with store.reading() as view:
        start = view.position()
    store.write(lambda transaction: transaction.remove([0]))
    with store.reading() as view:
        middle = view.position()
    fill(store, [1, 4], "Who")
    with store.reading() as view:
        assert view.changes(start).removed.tolist() == [1, 2]
        assert view.changes(middle).removed.tolist() == [2]
        assert view.changes(middle).slots.tolist() == [5, 6]
        assert (view.position().slot, view.position().removal, view.count("removed")) == (6, 2, 2)
    store.write(lambda transaction: transaction.next_epoch())
    store.write(lambda transaction: transaction.remove([4]))
    with store.reading() as view:
        assert (view.position().epoch, view.position().removal, view.count("removed")) == (start.epoch + 1, 3, 1)
        assert view.changes(middle).slots.tolist() == [3, 4, 5]


# ---- decisions, verdicts, merges, calibrations --------------------------------------------------------------------


def decision(id_: Any, other: Any, **more: Any) -> StoredDecision:
    values: dict[str, Any] = {"scorer": "s", "score": 1.5, "probability": 0.75, "base_rate": 0.1, "decision": "review"}
    values |= {"threshold": 0.9, "stratum": "review", "value": 2.0, "drawn": 0.125}
    return StoredDecision(id_, other, **(values | more))


def test_a_decision_is_one_row_a_pair_and_keeps_how_it_is_drawn(store: Store) -> None:
    fill(store, ["a", "b", "c", 7])
    store.write(lambda t: t.put_decisions([decision("b", "a"), decision("a", 7), decision("a", "nobody")]))
    assert content(store)["decisions"] == [decision("a", "b"), decision("a", 7)]
    later = {"score": -2.25, "probability": 0.01, "scorer": "s2", "base_rate": 0.2, "threshold": 0.8}
    later |= {"decision": "distinct"}
    store.write(lambda t: t.put_decisions([decision("a", "b", stratum="near", value=9.0, drawn=0.5, **later)]))
    with store.reading() as view:
        assert view.decisions() == [decision("a", "b", **later), decision("a", 7)]
        assert view.decision("b", "a") == view.decision("a", "b") == decision("a", "b", **later)
        assert view.decision(7, "a") == decision("a", 7)
        assert view.decision("7", "a") is None
        assert view.decisions("decision=? AND a.id=?", ("review", "ta")) == [decision("a", 7)]
    store.write(lambda t: t.put_decisions([]))
    # The text of b changes: what was decided of it goes, and its next decision is a first one.
    store.write(lambda t: put(t, [NewQuestion("b", "Other?")]))
    assert content(store)["decisions"] == [decision("a", 7)]
    store.write(lambda t: t.put_decisions([decision("b", "a", drawn=0.5)]))
    assert content(store)["decisions"] == [decision("a", 7), decision("a", "b", drawn=0.5)]
    store.write(lambda t: t.remove(["a"]))
    with store.reading() as view:
        assert view.count("decisions") == 0


def test_verdicts_are_a_history_in_which_a_key_is_one_row(store: Store) -> None:
    full = verdict(
        7, "a", "k1", "distinct", score=-1.25, probability=0.25, decision="review", threshold=0.5, base_rate=0.1,
        scorer="s", chosen="audit", sampled=0.0625, note="Nicht dasselbe 𝄞", undoes=None,
    )  # fmt: skip
    assert store.write(lambda t: t.add_verdict(full)) == 1
    assert store.write(lambda t: t.add_verdict(verdict("a", "b", "k2"))) == 2
    assert store.write(lambda t: t.add_verdict(replace(full, answer="duplicate"))) == 1
    assert store.write(lambda t: [t.add_verdict(verdict("b", "a", key)) for key in ("k3", "k2", "k3")]) == [3, 2, 3]
    undo = verdict("b", "a", "k4", "undo", undoes=3)
    assert store.write(lambda t: t.add_verdict(undo)) == 4
    with store.reading() as view:
        history = view.verdicts()
        assert history[0] == replace(full, number=1)
        assert history[1:] == [replace(verdict("a", "b", f"k{n}"), number=n) for n in (2, 3)] + [
            replace(undo, number=4, id="a", other="b")
        ]
        assert view.verdicts(after=2) == history[2:]
        assert view.verdicts(pair=("b", "a")) == view.verdicts(pair=("a", "b")) == history[1:]
        assert view.verdicts(pair=("a", 7)) == history[:1]
        assert view.verdicts(pair=("a", "7")) == []
        assert view.verdicts(id_="a") == history
        assert view.verdicts(id_="b", after=2) == history[2:]
        assert (view.last_verdict(), view.count("verdicts")) == (4, 4)
    # They outlive their questions, which need not even be stored.
    fill(store, ["a", "b"])
    store.write(lambda t: t.remove(["a", "b"]))
    assert content(store)["verdicts"] == history


def test_merges_are_a_history_in_which_a_key_is_one_row(store: Store) -> None:
    merge = StoredMerge(0, "b", 7, "ann", AT, "they ask the same", None, "k1")
    assert store.write(lambda t: t.add_merge(merge)) == 1
    assert store.write(lambda t: t.add_merge(replace(merge, note="again"))) == 1
    undo = StoredMerge(0, "b", 7, "bob", AT, undoes=1, key="k2")
    assert store.write(lambda t: t.add_merge(undo)) == 2
    assert content(store)["merges"] == [replace(merge, number=1), replace(undo, number=2)]


def test_calibrations_are_kept_and_one_is_in_use(store: Store) -> None:
    with store.reading() as view:
        assert (view.calibrations(), view.calibration()) == ([], None)
    first = {"slope": 1.1, "table": [[0.1, 2], [0.3, 4]], "note": None}
    assert store.write(lambda t: t.add_calibration("s", AT, first)) == 1
    assert store.write(lambda t: t.add_calibration("s2", AT, {})) == 2
    with store.reading() as view:
        assert view.calibration() is None
        assert [(c.number, c.scorer, c.at, c.content) for c in view.calibrations()] == [
            (1, "s", AT, first),
            (2, "s2", AT, {}),
        ]
    for number in (2, 1, 0):
        store.write(lambda t, number=number: t.use_calibration(number))
        with store.reading() as view:
            found = view.calibration()
            assert (found.number if found else 0) == number


def test_meta_holds_texts(store: Store) -> None:
    with store.reading() as view:
        assert view.meta("mine") is None
    store.write(lambda t: t.set_meta("mine", 7))
    store.write(lambda t: t.set_meta("other", "𝄞"))
    store.write(lambda t: t.set_meta("mine", "8"))
    with store.reading() as view:
        assert (view.meta("mine"), view.meta("other")) == ("8", "𝄞")


# ---- transactions -------------------------------------------------------------------------------------------------


def everything(transaction: Transaction) -> None:
    """Write in every table."""
    put(transaction, [NewQuestion("new", "New?"), NewQuestion("a", "Changed?"), NewQuestion("b", "What is 'b'?", AT)])
    transaction.remove(["c"])
    transaction.put_decisions([decision("new", "a")])
    transaction.add_verdict(verdict("new", "a", "new"))
    transaction.add_merge(StoredMerge(0, "new", "a", "ann", AT, key="new"))
    transaction.use_calibration(transaction.add_calibration("s", AT, {"a": 1}))
    transaction.set_meta("mine", "new")
    model = transaction.add_model("two", DIMENSIONS, "float16")
    rows = transaction.missing(model, 100)
    transaction.put_vectors(model, [row.slot for row in rows], np.stack([vector(row.text, "two") for row in rows]))
    transaction.use_model(model)
    transaction.drop_model(transaction.models()[0])


def prepare(store: Store) -> dict[str, Any]:
    fill(store, "abcd")
    store.write(lambda t: t.put_decisions([decision("a", "b"), decision("c", "d")]))
    store.write(lambda t: t.add_verdict(verdict("a", "b", "old")))
    return content(store)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
def test_an_action_that_fails_leaves_nothing(store: Store, error: type[BaseException]) -> None:
    before = prepare(store)

    def action(transaction: Transaction) -> None:
        everything(transaction)
        raise error("stop")

    with pytest.raises(error, match="stop"):
        store.write(action)
    assert content(store) == before
    with store.reading() as view:
        assert view.meta("mine") is None
    store.write(everything)  # numbers go on without a gap
    after = content(store)
    assert after["position"].slot == before["position"].slot + 2
    assert (after["last verdict"], after["model"].number) == (2, 2)


def test_a_writer_sees_what_it_has_written(store: Store) -> None:
    prepare(store)

    def action(transaction: Transaction) -> tuple[int, str, int]:
        everything(transaction)
        return len(transaction), transaction.find(["a"])["a"].text, transaction.last_verdict()

    assert store.write(action) == (4, "Changed?", 2)


def test_a_reader_keeps_its_state_while_others_commit(store: Store, open_store: Callable[..., Store]) -> None:
    before = prepare(store)
    other = open_store()
    with store.reading() as view:
        assert len(view) == 4
        in_threads(lambda: other.write(everything))
        assert [(asdict(row), print_) for row, print_ in view.rows()] == before["questions"]
        assert view.position() == before["position"]
        assert view.models() == before["models"]
        assert vectors_of(view, view.models()[0]) == before["vectors"][1]
        assert (view.decisions(), view.verdicts(), view.merges()) == (before["decisions"], before["verdicts"], [])
    assert content(store) == content(other) != before


def test_nobody_sees_what_is_not_committed(store: Store, open_store: Callable[..., Store]) -> None:
    before = prepare(store)
    other = open_store()
    seen: list[dict[str, Any]] = []

    def action(transaction: Transaction) -> None:
        put(transaction, [NewQuestion("new", "New?"), NewQuestion("a", "Changed?")])
        transaction.add_verdict(verdict("new", "a", "new"))
        in_threads(lambda: seen.append(content(other)), lambda: seen.append(content(store)))

    store.write(action)
    assert seen == [before, before]
    assert content(other) != before


def test_a_query_that_is_not_read_to_its_end_ends_with_its_transaction(store: Store) -> None:
    fill(store, range(3000))
    with store.reading() as view:
        rows = view.rows()
        next(rows)
        parts = view.vectors_after(view.models()[0], 0)
    fill(store, range(3000, 3002))
    with store.reading() as view:
        assert len(view) == 3002

    def action(transaction: Transaction) -> Any:
        found = transaction.rows()
        next(found)
        return found

    kept = store.write(action)
    fill(store, [3002])
    store.shrink()
    assert len(content(store)["questions"]) == 3003
    del rows, parts, kept


def test_a_second_writer_waits_and_then_gives_up(store: Store, open_store: Callable[..., Store]) -> None:
    hasty, patient = open_store(0.2), open_store()

    def action(transaction: Transaction) -> None:
        put(transaction, [NewQuestion(1, "Who?")])
        with pytest.raises(OutputError, match=r"has been writing for more than 0\.2 s"):
            fill(hasty, [2])

    store.write(action)
    entered = threading.Event()

    def hold(transaction: Transaction) -> None:
        put(transaction, [NewQuestion(3, "Who?")])
        entered.set()
        assert not waited.wait(0.3)

    waited = threading.Event()

    def wait() -> None:
        assert entered.wait(SECONDS)
        fill(patient, [4])
        waited.set()

    in_threads(lambda: store.write(hold), wait)
    with store.reading() as view:
        assert {row.id for row, _ in view.rows()} == {1, 3, 4}


@pytest.mark.parametrize("shared", [True, False])
def test_threads_take_turns_and_lose_nothing(store: Store, open_store: Callable[..., Store], shared: bool) -> None:
    stores = [store if shared else open_store() for _ in range(8)]

    def work(number: int) -> Callable[[], None]:
        def add() -> None:
            for at in range(8):
                fill(stores[number], [f"{number}-{at}-{row}" for row in range(3)])
                row = verdict(number, at, f"{number}-{at}")
                stores[number].write(lambda t, row=row: t.add_verdict(row))
                with stores[number].reading() as view:
                    changes = view.changes(None)
                    # One state: the rows are those that the counter has given out, without a gap.
                    assert changes.slots.tolist() == [*range(1, changes.position.slot + 1)]
                    assert len(view) == changes.position.slot
                    assert view.last_verdict() == view.count("verdicts")

        return add

    in_threads(*(work(number) for number in range(8)))
    found = content(store)
    assert {row["id"] for row, _ in found["questions"]} == {
        f"{number}-{at}-{row}" for number in range(8) for at in range(8) for row in range(3)
    }
    assert [row["slot"] for row, _ in found["questions"]] == [*range(1, 193)]
    assert [row.number for row in found["verdicts"]] == [*range(1, 65)]


WRITER = """
import sys
from pathlib import Path
from tests.index.stores.kinds import fill, make_store, verdict
kind, place, name, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
store = make_store(kind, place)
print("ready", flush=True)
for at in range(count):
    fill(store, [f"{name}-{at}-{row}" for row in range(5)])
    print(f"add {at}", flush=True)
    store.write(lambda t: [t.add_verdict(verdict(name, at, f"{name}-{at}-{row}")) for row in range(3)])
    print(f"verdict {at}", flush=True)
"""


def start(kind: str, place: Path, name: str, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, kind, str(place), name, str(count)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_take_turns_and_lose_nothing(store: Store, kind: str, tmp_path: Path) -> None:
    running = [start(kind, tmp_path, name, 10) for name in "xyz"]
    for writer in running:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    found = content(store)
    assert {row["id"] for row, _ in found["questions"]} == {
        f"{name}-{at}-{row}" for name in "xyz" for at in range(10) for row in range(5)
    }
    assert [row["slot"] for row, _ in found["questions"]] == [*range(1, 151)]
    assert [row.number for row in found["verdicts"]] == [*range(1, 91)]


def test_a_killed_writer_loses_nothing_that_it_acknowledged(store: Store, kind: str, tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for turn in range(4):
        writer = start(kind, tmp_path, f"w{turn}", 100_000)
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(1 + 7 * turn)]  # after an add, after a verdict, or at once
        assert lines[0] == "ready\n"
        writer.kill()
        lines += writer.stdout.read().splitlines(keepends=True)
        assert writer.wait() != 0
        writer.stdout.close()
        # A line that was cut short acknowledges nothing.
        acknowledged |= {f"w{turn} {line.strip()}" for line in lines[1:] if line.endswith("\n")}
        found = content(store)
        adds: dict[str, int] = {}
        for row, print_ in found["questions"]:
            name, at, _ = row["id"].split("-")
            if name != "after":
                adds[f"{name} add {at}"] = adds.get(f"{name} add {at}", 0) + 1
            assert row["text"] == f"What is {row['id']!r}?"
            assert print_ == duplicate_key_hash(row["text"])
            assert found["vectors"][1][row["slot"]] == vector(row["text"]).tolist()
        answers: dict[str, int] = {}
        for row in found["verdicts"]:
            name, at, _ = row.key.split("-")
            answers[f"{name} verdict {at}"] = answers.get(f"{name} verdict {at}", 0) + 1
        # A transaction is there whole or not at all.
        assert {*adds.values()} <= {5}
        assert {*answers.values()} <= {3}
        assert acknowledged <= {*adds, *answers}
        assert len(found["vectors"][1]) == len(found["questions"]) == found["position"].slot
        assert found["last verdict"] == len(found["verdicts"])
        fill(store, [f"after-{turn}-0"])
    assert len(acknowledged) > 20


# ---- the whole ----------------------------------------------------------------------------------------------------


def test_a_store_that_is_opened_again_is_the_same(store: Store, open_store: Callable[..., Store]) -> None:
    prepare(store)
    store.write(everything)
    found = content(store)
    store.close()
    again = open_store()
    assert content(again) == found
    assert begin(again, "two").number == 2


def test_shrinking_changes_nothing_that_is_stored(store: Store, kind: str) -> None:
    fill(store, range(3000))
    store.shrink()
    before = sum(store.sizes().values())
    store.write(lambda t: t.remove(range(2900)))
    found = content(store)
    store.shrink()
    assert content(store) == found
    if kind == "postgres":  # the space is free for new rows, and not for other programs
        for _ in range(3):
            fill(store, range(2900))
            store.write(lambda t: t.remove(range(2900)))
            store.shrink()
        assert sum(store.sizes().values()) < 2.5 * before
    else:
        assert 0 < sum(store.sizes().values()) < before
    with store.reading() as view:
        assert view.damage() == []


def test_a_closed_store_names_itself(store: Store) -> None:
    store.close()
    store.close()
    uses: list[Callable[[], object]] = [lambda: content(store), lambda: fill(store, [1]), store.shrink]
    for use in uses:
        with pytest.raises(InputError, match="the index is closed"):
            use()
    assert store.location
