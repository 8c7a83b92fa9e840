"""A state machine over the index, against a model in plain Python; it runs on any store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dupq.errors import ConflictError, InputError
from dupq.index.question_index import QuestionIndex
from dupq.index.stores.base import encoded_id
from dupq.pipeline import DuplicatePipeline

IDS: list[Any] = [1, "1", "b", "ü"]
TEXTS = ["how to boil an egg", "how do i boil an egg", "best way to boil eggs", "where do old trains go", "boil an egg"]
DATES = [None, "2024-01-01", "2024-01-02", "2025-06-01T12:00:00"]
MODERATORS = ["ann", "bob", "cas"]
ids, pairs = st.sampled_from(IDS), st.lists(st.sampled_from(IDS), min_size=2, max_size=2, unique=True)


@dataclass
class Question:
    """A question of the model; `version` is another one for each text that was written."""

    text: str
    created: str | None
    version: int


@dataclass
class Row:
    """A row of a history of the model."""

    number: int
    pair: tuple[Any, Any]
    answer: str
    by: str
    versions: tuple[int, ...]
    probability: float | None
    undone: bool = False


class Model:
    """What an index must answer, kept in lists and dicts."""

    def __init__(self) -> None:
        self.questions: dict[Any, Question] = {}
        self.departed: dict[Any, int] = {}
        self.verdicts: list[Row] = []
        self.merges: list[Row] = []
        self.rows = {"verdict": 0, "merge": 0}
        self.writes = 0
        self.last: dict[frozenset[Any], int] = {}

    def put(self, id_: Any, text: str, created: str | None) -> None:
        old = self.questions.get(id_)
        if old is not None and old.text == text:
            old.created = old.created if created is None else created
            return
        self.writes += 1
        self.departed.pop(id_, None)
        if old is not None and created is None:
            created = old.created  # an unknown date keeps the one that is stored
        self.questions[id_] = Question(text, created, self.writes)

    def remove(self, id_: Any) -> None:
        question = self.questions.pop(id_, None)
        if question is not None:
            self.departed[id_] = question.version

    def version(self, id_: Any) -> int:
        return self.questions[id_].version if id_ in self.questions else self.departed.get(id_, 0)

    def next(self, kind: str, pair: tuple[Any, Any] | None = None) -> int:
        self.rows[kind] += 1
        if pair is not None:
            self.last[frozenset(pair)] = self.rows[kind]
        return self.rows[kind]

    def opinions(self, pair: tuple[Any, Any]) -> list[Row]:
        """The last standing verdict on the present texts of each moderator."""
        found = {}
        for row in self.verdicts:
            if set(row.pair) == set(pair) and not row.undone and self.fits(row):
                found[row.by] = row
        return sorted(found.values(), key=lambda row: row.number)

    def fits(self, row: Row) -> bool:
        return row.versions == tuple(self.version(id_) for id_ in row.pair)

    def answer(self, pair: tuple[Any, Any]) -> str:
        given = {row.answer for row in self.opinions(pair)}
        clear = given - {"skip"}
        if len(clear) == 2:
            return "contested"
        if given:
            return (clear or given).pop()
        standing = [row for row in self.verdicts if set(row.pair) == set(pair) and not row.undone]
        return "outdated" if standing else "none"

    def pairs(self) -> set[tuple[Any, Any]]:
        return {tuple(sorted(row.pair, key=encoded_id)) for row in self.verdicts}  # type: ignore[misc]

    def groups(self) -> dict[Any, tuple[Any, tuple[Any, ...], tuple[int, ...], float | None]]:
        """Member -> canonical, members, merges, weakest probability."""
        duplicates = [pair for pair in self.pairs() if self.answer(pair) == "duplicate"]
        merges = [row for row in self.merges if not row.undone]
        edges = [set(pair) for pair in duplicates] + [set(row.pair) for row in merges]
        parts: list[set[Any]] = []
        for edge in edges:
            touched = [part for part in parts if part & edge]
            parts = [part for part in parts if not part & edge] + [edge.union(*touched)]
        found = {}
        for part in parts:
            stored = [id_ for id_ in part if id_ in self.questions]
            if len(stored) < 2:
                continue
            stored.sort(key=self.age)
            within = [row for row in merges if row.pair[0] in part]
            preferred = [row.pair[0] for row in reversed(within) if row.pair[0] in self.questions]
            probable = [self.opinions(pair)[-1].probability for pair in duplicates if pair[0] in part]
            weakest = min((value for value in probable if value is not None), default=None)
            entry = ([*preferred, stored[0]][0], tuple(stored), tuple(row.number for row in within), weakest)
            found.update(dict.fromkeys(stored, entry))
        return found

    def age(self, id_: Any) -> tuple[bool, str, int]:
        question = self.questions[id_]
        return question.created is None, question.created or "", question.version


def states(make_place: Callable[[], str | Path], pipeline: DuplicatePipeline) -> type[RuleBasedStateMachine]:
    """Return the machine for an index in the places that a function returns, a new one for each run."""

    class IndexMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.place = make_place()
            self.index = QuestionIndex(self.place, pipeline)
            self.model = Model()

        def teardown(self) -> None:
            self.index.close()

        # ---- questions

        @rule(id_=ids, text=st.sampled_from(TEXTS), created=st.sampled_from(DATES))
        def add(self, id_: Any, text: str, created: str | None) -> None:
            self.index.add([id_], [text], created=[created])
            self.model.put(id_, text, created)

        @initialize()
        def start(self) -> None:
            self.add_missing()

        @rule()
        def add_missing(self) -> None:
            for at, id_ in enumerate(IDS):
                if id_ not in self.model.questions:
                    self.add(id_, TEXTS[at], None)

        @rule(id_=ids)
        def remove(self, id_: Any) -> None:
            assert self.index.remove([id_]) == (id_ in self.model.questions)
            self.model.remove(id_)

        @rule()
        def flag(self) -> None:
            self.index.flag_stored(list(self.model.questions))

        @rule()
        def reopen(self) -> None:
            self.index.close()
            self.index = QuestionIndex(self.place, pipeline)

        # ---- verdicts

        @rule(
            pair=pairs,
            answer=st.sampled_from(["duplicate", "duplicate", "distinct", "skip"]),
            by=st.sampled_from(MODERATORS),
            behind=st.sampled_from([None, 0, 0, 1]),
        )
        def verdict(self, pair: list[Any], answer: str, by: str, behind: int | None) -> None:
            last = self.model.last.get(frozenset(pair), 0)
            expected = None if behind is None else max(0, last - behind)
            if not set(pair) <= set(self.model.questions):
                with pytest.raises(InputError, match="no question has the id"):
                    self.index.verdict(*pair, answer, by=by, expected=expected)
                return
            if expected is not None and expected < last:
                with pytest.raises(ConflictError):
                    self.index.verdict(*pair, answer, by=by, expected=expected)
                return
            decided = {frozenset((row.id, row.other)): row for row in self.index.decisions()}.get(frozenset(pair))
            row = self.index.verdict(*pair, answer, by=by, expected=expected)
            assert row.probability == (None if decided is None else decided.probability)
            one, other = sorted(pair, key=encoded_id)
            assert row.number == self.model.next("verdict", (one, other))
            versions = (self.model.version(one), self.model.version(other))
            self.model.verdicts.append(Row(row.number, (one, other), answer, by, versions, row.probability))

        @rule(by=st.sampled_from(MODERATORS))
        def undo_last(self, by: str) -> None:
            mine = [row for row in self.model.verdicts if row.by == by and not row.undone]
            if not mine:
                with pytest.raises(InputError, match="has no verdict"):
                    self.index.undo(by=by)
                return
            self.undone(self.index.undo(by=by), mine[-1])

        @precondition(lambda self: self.model.verdicts)
        @rule(by=st.sampled_from(MODERATORS), data=st.data(), force=st.booleans())
        def undo_one(self, by: str, data: st.DataObject, force: bool) -> None:
            row = data.draw(st.sampled_from(self.model.verdicts))
            if row.undone or (row.by != by and not force):
                with pytest.raises(InputError):
                    self.index.undo(row.number, by=by, force=force)
                return
            self.undone(self.index.undo(row.number, by=by, force=force), row)

        def undone(self, found: Any, row: Row) -> None:
            assert (found.undoes, {found.id, found.other}) == (row.number, set(row.pair))
            assert found.number == self.model.next("verdict", row.pair)
            row.undone = True

        # ---- merges

        @rule(pair=pairs, by=st.sampled_from(MODERATORS))
        def merge(self, pair: list[Any], by: str) -> None:
            if not set(pair) <= set(self.model.questions):
                with pytest.raises(InputError, match="no question has the id"):
                    self.index.merge(*pair, by=by)
                return
            number = self.index.merge(*pair, by=by)
            assert number == self.model.next("merge")
            self.model.merges.append(Row(number, (pair[0], pair[1]), "merge", by, (), None))

        @precondition(lambda self: self.model.merges)
        @rule(by=st.sampled_from(MODERATORS), data=st.data())
        def unmerge(self, by: str, data: st.DataObject) -> None:
            row = data.draw(st.sampled_from(self.model.merges))
            if row.undone:
                with pytest.raises(InputError, match="taken back already"):
                    self.index.unmerge(row.number, by=by)
                return
            before = self.index.groups()
            assert self.index.unmerge(row.number, by=by) == self.model.next("merge")
            row.undone = True
            # To merge and to unmerge is to do nothing.
            if set(row.pair) <= set(self.model.questions):
                after = self.index.groups()
                number = self.index.merge(*row.pair, by=by)
                self.index.unmerge(number, by=by)
                self.model.next("merge"), self.model.next("merge")
                assert self.index.groups() == after
            assert before == self.index.groups() or row.number not in {n for g in self.index.groups() for n in g.merges}

        # ---- what must hold

        @invariant()
        def pairs_have_their_state(self) -> None:
            for pair in self.model.pairs():
                state = self.index.verdict_of(*pair)
                given = self.model.opinions(pair)
                assert (state.id, state.other) == pair
                assert state.answer == self.model.answer(pair)
                assert [row.number for row in state.opinions] == [row.number for row in given]
                assert state.last == self.model.last[frozenset(pair)]

        @invariant()
        def groups_are_components(self) -> None:
            expected = self.model.groups()
            groups = self.index.groups()
            found = {
                id_: (g.canonical, g.members, g.merges, None if g.weakest is None else g.weakest.probability)
                for g in groups
                for id_ in g.members
            }
            assert found == expected
            assert sum(len(group.members) for group in groups) == len(found)  # no question is in two groups
            for group in groups:
                assert group.canonical in group.members
            for id_ in self.model.questions:
                alone = self.index.group(id_)
                assert alone == next((group for group in groups if id_ in group.members), None)

        @invariant()
        def the_queue_has_no_answered_pair(self) -> None:
            queue = {frozenset((item.question.id, item.other.id)) for item in self.index.review_queue(100)}
            decided = {frozenset((row.id, row.other)) for row in self.index.decisions()}
            answered = {frozenset(pair) for pair in self.model.pairs() if self.model.opinions(pair)}
            assert queue == decided - answered
            contested = {frozenset((i.question.id, i.other.id)) for i in self.index.review_queue(100, contested=True)}
            assert contested == {
                frozenset(pair)
                for pair in self.model.pairs()
                if self.model.answer(pair) == "contested" and set(pair) <= set(self.model.questions)
            }

        @invariant()
        def sampled_pairs_are_answered(self) -> None:
            reviewed = self.index.reviewed()
            assert all(0 < row.probability <= 1 for row in reviewed)
            if len(reviewed) == len(self.index.decisions()):
                assert all(row.sampled and row.probability == 1 for row in reviewed)

    return IndexMachine


@pytest.mark.parametrize("kind", ["sqlite"])
def test_an_index_is_what_its_history_makes_it(kind: str, tmp_path: Path, pipeline: DuplicatePipeline) -> None:
    def place() -> Path:
        return Path(tempfile.mkdtemp(dir=tmp_path)) / "forum.db"

    run_state_machine_as_test(
        states(place, pipeline),
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
