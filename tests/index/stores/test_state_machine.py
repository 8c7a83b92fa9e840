"""Any sequence of transactions against a store of plain Python objects."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from dupq.data.text import duplicate_key_hash
from dupq.errors import InputError
from dupq.index.stores.base import (
    NewQuestion,
    StoredCalibration,
    StoredDecision,
    StoredMerge,
    StoredModel,
    StoredQuestion,
    StoredVerdict,
    Written,
    ordered_pair,
)
from dupq.index.stores.sql import Transaction
from dupq.types import Id
from tests.index.stores.kinds import DIMENSIONS, content, make_store, put, vector, verdict

Operation = tuple[str, Any]


class RefusedError(Exception):
    """The store must refuse this."""


class StopError(Exception):
    """Raised at the end of an action that fails."""


def text_of(id_: Id) -> str:
    return f"i{id_}" if isinstance(id_, int) else f"t{id_}"


@dataclass
class Plain:
    """What a store must hold, in plain objects."""

    questions: dict[Id, StoredQuestion] = field(default_factory=dict)
    models: dict[int, StoredModel] = field(default_factory=dict)
    vectors: dict[int, dict[int, list[float]]] = field(default_factory=dict)
    present: int | None = None
    decisions: dict[tuple[int, int], StoredDecision] = field(default_factory=dict)
    verdicts: list[StoredVerdict] = field(default_factory=list)
    merges: list[StoredMerge] = field(default_factory=list)
    calibrations: list[StoredCalibration] = field(default_factory=list)
    used: int = 0
    slot: int = 0
    removals: list[int] = field(default_factory=list)
    listed: int = 0
    epoch: int = 0
    model: int = 0

    def put(self, rows: list[NewQuestion]) -> Written:
        written = Written()
        for row in rows:
            old = self.questions.get(row.id)
            base = old or StoredQuestion(0, row.id, row.text)
            new = {name: given for name in ("created", "reach", "details") if (given := getattr(row, name)) is not None}
            if old and old.text == row.text:
                written.unchanged += 1
            elif old:
                written.replaced += 1
            else:
                written.added += 1
            self.questions[row.id] = replace(base, text=row.text, **new)
        fresh = [row for row in rows if not (q := self.questions[row.id]).slot or self._changed(q)]
        self._drop([slot for row in fresh if (slot := self.questions[row.id].slot)])
        for row in fresh:
            self.slot += 1
            self.questions[row.id] = replace(self.questions[row.id], slot=self.slot)
            for number, model in self.models.items():
                self.vectors[number][self.slot] = vector(row.text, model.fingerprint).tolist()
            self.texts[self.slot] = row.text
        return written

    texts: dict[int, str] = field(default_factory=dict)
    """Slot -> the text that it was given for."""

    def _changed(self, question: StoredQuestion) -> bool:
        return self.texts[question.slot] != question.text

    def _drop(self, slots: list[int]) -> None:
        self.removals += slots
        self.listed += len(slots)
        self.decisions = {pair: row for pair, row in self.decisions.items() if not {*pair} & {*slots}}
        self.vectors = {
            number: {slot: row for slot, row in held.items() if slot not in slots}
            for number, held in self.vectors.items()
        }

    def remove(self, ids: list[Id]) -> int:
        found = [self.questions.pop(id_) for id_ in dict.fromkeys(ids) if id_ in self.questions]
        self._drop([question.slot for question in found])
        return len(found)

    def add_model(self, fingerprint: str) -> int:
        for number, model in self.models.items():
            if model.fingerprint == fingerprint:
                return number
        self.model += 1
        self.models[self.model] = StoredModel(self.model, fingerprint, DIMENSIONS, "float16")
        self.vectors[self.model] = {}
        return self.model

    def embed(self, number: int, limit: int) -> None:
        if number not in self.models:
            raise RefusedError
        slots = sorted(q.slot for q in self.questions.values() if q.slot not in self.vectors[number])[:limit]
        for slot in slots:
            self.vectors[number][slot] = vector(self.texts[slot], self.models[number].fingerprint).tolist()

    def use_model(self, number: int) -> None:
        if number not in self.models or len(self.vectors[number]) < len(self.questions):
            raise RefusedError
        self.present = number
        self.next_epoch(None)

    def drop_model(self, number: int) -> None:
        if number not in self.models or number == self.present:
            raise RefusedError
        del self.models[number], self.vectors[number]

    def next_epoch(self, _: None) -> None:
        self.epoch += 1
        self.listed = 0

    def decide(self, rows: list[StoredDecision]) -> None:
        for row in rows:
            if row.id in self.questions and row.other in self.questions:
                one, other = sorted((self.questions[id_] for id_ in (row.id, row.other)), key=lambda q: q.slot)
                old = self.decisions.get((one.slot, other.slot), row)
                old = old if old.stratum else row  # without a stratum it was drawn for no audit yet
                kept = {"stratum": old.stratum, "value": old.value, "drawn": old.drawn}
                self.decisions[one.slot, other.slot] = replace(row, id=one.id, other=other.id, **kept)

    def judge(self, row: StoredVerdict) -> int:
        for old in self.verdicts:
            if old.key == row.key:
                return old.number
        first, _ = ordered_pair(text_of(row.id), text_of(row.other))
        pair = (row.id, row.other) if text_of(row.id) == first else (row.other, row.id)
        self.verdicts.append(replace(row, number=len(self.verdicts) + 1, id=pair[0], other=pair[1]))
        return len(self.verdicts)

    def merge(self, row: StoredMerge) -> int:
        for old in self.merges:
            if old.key == row.key:
                return old.number
        self.merges.append(replace(row, number=len(self.merges) + 1))
        return len(self.merges)

    def calibrate(self, values: dict[str, Any]) -> int:
        self.calibrations.append(StoredCalibration(len(self.calibrations) + 1, "s", "now", values))
        self.used = len(self.calibrations)
        return self.used

    def roll_back(self, number: int) -> None:
        self.used = number

    def content(self) -> dict[str, Any]:
        """What `kinds.content` must return, but for the position."""
        rows = sorted(self.questions.values(), key=lambda question: question.slot)
        in_use = [row for row in self.calibrations if row.number == self.used]
        return {
            "questions": [(asdict(row), duplicate_key_hash(row.text)) for row in rows],
            "models": [*self.models.values()],
            "model": None if self.present is None else self.models[self.present],
            "vectors": {number: dict(sorted(held.items())) for number, held in self.vectors.items()},
            "decisions": [row for _, row in sorted(self.decisions.items())],
            "verdicts": self.verdicts,
            "merges": self.merges,
            "calibrations": self.calibrations,
            "calibration": in_use[0] if in_use else None,
            "removed": self.listed,
            "decided": len(self.decisions),
            "last verdict": len(self.verdicts),
        }


def apply(transaction: Transaction, operation: Operation) -> object:
    """Run on the store what a method of `Plain` does."""
    name, argument = operation
    models = {model.number: model for model in transaction.models()}
    unknown = StoredModel(argument, "none", DIMENSIONS, "float16") if isinstance(argument, int) else None
    if name == "put":
        return put(transaction, argument)
    if name == "remove":
        return transaction.remove(argument)
    if name == "add_model":
        return transaction.add_model(argument, DIMENSIONS, "float16").number
    if name == "embed":
        number, limit = argument
        if number not in models:
            raise InputError("no model")
        rows = transaction.missing(models[number], limit)
        if rows:
            vectors = np.stack([vector(row.text, models[number].fingerprint) for row in rows])
            transaction.put_vectors(models[number], [row.slot for row in rows], vectors)
        return None
    if name == "use_model":
        if argument not in models:
            raise InputError("no model")
        return transaction.use_model(models[argument])
    if name == "drop_model":
        assert unknown is not None
        return transaction.drop_model(models.get(argument, unknown))
    if name == "next_epoch":
        return transaction.next_epoch()
    if name == "decide":
        return transaction.put_decisions(argument)
    if name == "judge":
        return transaction.add_verdict(argument)
    if name == "merge":
        return transaction.add_merge(argument)
    if name == "calibrate":
        number = transaction.add_calibration("s", "now", argument)
        transaction.use_calibration(number)
        return number
    return transaction.use_calibration(argument)


def expected(plain: Plain, operation: Operation) -> object:
    """Apply an operation to the plain store."""
    name, argument = operation
    if name == "embed":
        return plain.embed(*argument)
    return getattr(plain, name)(argument)


def is_refused(plain: Plain, operation: Operation) -> bool:
    try:
        expected(deepcopy(plain), operation)
    except RefusedError:
        return True
    return False


IDS = st.sampled_from([1, 2, 7, "7", "a", "Ü"])
TEXTS = st.sampled_from(["Who?", "who", "How is it?", "Why\n𝄞?", "Is C++ hard?"])
NUMBERS = st.integers(1, 3)
ROWS = st.builds(
    NewQuestion,
    IDS,
    TEXTS,
    st.sampled_from([None, "2026", "2027"]),
    st.sampled_from([None, 0.5, 2.0]),
    st.sampled_from([None, {}, {"a": [1, None]}]),
)
PAIRS = st.tuples(IDS, IDS).filter(lambda pair: pair[0] != pair[1])
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])
DECISIONS = st.builds(
    lambda pair, score, stratum, drawn: StoredDecision(*pair, "s", score, 0.5, 0.1, "review", 0.9, stratum, 1.0, drawn),
    PAIRS,
    st.floats(-9, 9),
    st.sampled_from(["near", "review"]),
    st.floats(0.01, 0.99),
)
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), st.lists(ROWS, min_size=1, max_size=4, unique_by=lambda row: (type(row.id), row.id))),
    st.tuples(st.just("put"), st.lists(ROWS, min_size=1, max_size=4, unique_by=lambda row: (type(row.id), row.id))),
    st.tuples(st.just("remove"), st.lists(IDS, max_size=3)),
    st.tuples(st.just("add_model"), st.sampled_from(["one", "two", "three"])),
    st.tuples(st.just("embed"), st.tuples(NUMBERS, st.integers(1, 9))),
    st.tuples(st.just("use_model"), NUMBERS),
    st.tuples(st.just("drop_model"), NUMBERS),
    st.tuples(st.just("next_epoch"), st.none()),
    st.tuples(st.just("decide"), st.lists(DECISIONS, max_size=4)),
    st.tuples(st.just("decide"), st.lists(DECISIONS, max_size=4)),
    st.tuples(st.just("judge"), st.builds(lambda pair, key: verdict(*pair, key), PAIRS, KEYS)),
    st.tuples(st.just("merge"), st.builds(lambda pair, key: StoredMerge(0, *pair, "ann", "now", key=key), PAIRS, KEYS)),
    st.tuples(st.just("calibrate"), st.dictionaries(st.sampled_from("ab"), st.floats(-1, 1))),
    st.tuples(st.just("roll_back"), st.integers(0, 2)),
)


class Stores(RuleBasedStateMachine):
    """Two connections to one store, and readers that follow it by its changes."""

    def __init__(self, kind: str, place: Path) -> None:
        super().__init__()
        self.kind, self.place = kind, place
        self.plain = Plain()
        self.stores = [make_store(kind, place) for _ in range(2)]
        self.readers: list[tuple[Any, dict[int, list[float]]]] = [(None, {}), (None, {})]
        self.start = content(self.stores[0])["position"]

    @initialize(model=st.booleans())
    def begin(self, model: bool) -> None:
        if model:
            self.transact([("add_model", "one"), ("use_model", 1)], False, 0)
        # So that most decisions are on questions that are stored.
        self.transact([("put", [NewQuestion(id_, f"Is it {id_!r}?") for id_ in (1, 7, "7", "a")])], False, 1)
        self.transact([("decide", [StoredDecision(7, 1, "s", 1.0, 0.5, 0.1, "review")])], False, 1)

    @rule(
        operations=st.lists(OPERATIONS, min_size=1, max_size=3),
        fails=st.sampled_from([False] * 4 + [True]),
        at=st.integers(0, 1),
    )
    def transact(self, operations: list[Operation], fails: bool, at: int) -> None:
        """Run the operations that a store accepts; or, if it is to fail, one that it refuses after them."""
        plain = deepcopy(self.plain)
        accepted: list[Operation] = []
        refused: list[Operation] = []
        wanted: list[object] = []
        for operation in operations:
            try:
                wanted.append(expected(plain, operation))
                accepted.append(operation)
            except RefusedError:
                refused.append(operation)

        refused = [operation for operation in refused if is_refused(plain, operation)]

        def action(transaction: Transaction) -> list[object]:
            results = [apply(transaction, operation) for operation in accepted]
            if fails:
                for operation in refused:
                    apply(transaction, operation)
                raise StopError
            return results

        if fails:
            with pytest.raises(InputError if refused else StopError):
                self.stores[at].write(action)
        else:
            assert self.stores[at].write(action) == wanted
            self.plain = plain

    @rule(at=st.integers(0, 1), number=st.integers(0, 1))
    def follow(self, at: int, number: int) -> None:
        position, held = self.readers[number]
        with self.stores[at].reading() as view:
            changes = view.changes(position)
        if position is None or position.epoch != changes.position.epoch:
            held = {}
        held |= dict(zip(changes.slots.tolist(), changes.vectors.tolist(), strict=True))
        held = {slot: row for slot, row in held.items() if slot not in changes.removed.tolist()}
        present = self.plain.present
        assert held == ({} if present is None else self.plain.vectors[present])
        self.readers[number] = (changes.position, held)

    @rule(at=st.integers(0, 1))
    def reopen(self, at: int) -> None:
        self.stores[at].close()
        self.stores[at] = make_store(self.kind, self.place)

    @rule(at=st.integers(0, 1))
    def shrink(self, at: int) -> None:
        self.stores[at].shrink()

    @rule(text=TEXTS, number=NUMBERS)
    def look_up(self, text: str, number: int) -> None:
        plain, key = self.plain, duplicate_key_hash(text)
        rows = plain.questions.values()
        with self.stores[0].reading() as view:
            assert view.same_text(text) == sorted(row.slot for row in rows if duplicate_key_hash(row.text) == key)
            assert view.distinct_texts() == len({duplicate_key_hash(row.text) for row in rows})
            assert view.id_kinds() == {{int: "integer", str: "text"}[type(row.id)] for row in rows}
            assert view.find([1, "1", "a", 7]) == {
                id_: plain.questions[id_] for id_ in (1, "1", "a", 7) if id_ in plain.questions
            }
            for id_ in (1, "7"):
                assert view.verdicts(id_=id_) == [row for row in plain.verdicts if id_ in (row.id, row.other)]
            if number in plain.models:
                gone = [row.slot for row in rows if row.slot not in plain.vectors[number]]
                assert [row.slot for row in view.missing(plain.models[number], 99)] == sorted(gone)

    @invariant()
    def same(self) -> None:
        for store in self.stores:
            found = content(store)
            position = found.pop("position")
            assert found == self.plain.content()
            assert (position.database, position.epoch - self.start.epoch, position.slot, position.removal) == (
                self.start.database,
                self.plain.epoch,
                self.plain.slot,
                len(self.plain.removals),
            )

    def teardown(self) -> None:
        for store in self.stores:
            store.close()


def test_any_history_is_that_of_plain_objects(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Stores(kind, tmp_path_factory.mktemp("machine")),
        settings=settings(
            max_examples=30,
            phases=(Phase.explicit, Phase.generate),  # to shrink a history takes minutes of commits
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[*HealthCheck],
        ),
    )
