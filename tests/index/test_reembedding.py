"""A change of model beside running readers and writers: one model at a time, resumable, and back."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dupq.errors import InputError
from dupq.index import reembedding
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.index.stored import IDS, TEXTS
from tests.questions import labelled_table

ROOT = Path(__file__).parents[2]
SECONDS = 30.0
OLD, NEW = "word-embedder", "other"
NEAR = 2e-3
"""Two cosines of float16 vectors differ by less."""


@dataclass
class Shifted(WordScorer):
    """Scores that a reader can attribute to the new pipeline."""

    fingerprint: str = "shifted"

    def score(self, left: Any, right: Any, progress: Any = None) -> Any:
        return super().score(left, right, progress) + 100


@dataclass
class Counting(WordEmbedder):
    """Keeps every text that it embeds, and calls `hook` first."""

    texts: list[str] = field(default_factory=list)
    hook: Callable[[], object] = lambda: None

    def embed(self, texts: Any, progress: Any = None) -> Any:
        self.hook()
        self.texts += texts
        return super().embed(texts, progress)


def new_embedder() -> Counting:
    return Counting(dimensions=32, fingerprint=NEW)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A place for an index: a file, or a schema of PostgreSQL."""
    return str(request.getfixturevalue("postgres_url")) if request.param == "postgres" else tmp_path / "forum.db"


@pytest.fixture
def successor(pipeline: DuplicatePipeline) -> DuplicatePipeline:
    """Another embedder, scorer and base rate."""
    return replace(pipeline, bi_encoder=new_embedder(), cross_encoder=Shifted()).with_base_rate(0.3)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small transactions."""
    monkeypatch.setattr(reembedding, "PART", 20)
    monkeypatch.setattr(reembedding, "LAST", 4)


def model_of(index: QuestionIndex, question: str = "How does one learn chess?") -> str:
    """Return the model that all flags of a question are of, in vectors, scores and decider."""
    report = index.flag(question, k=6)
    found = set()
    for flag in report.flags:
        for model, dimensions, shift, rate in ((OLD, 64, 0, 0.6), (NEW, 32, 100, 0.3)):
            embedder = WordEmbedder(dimensions)
            one, other = embedder.embed([question, flag.text]).astype(np.float64)
            score = WordScorer().score([question], [flag.text])[0] + shift
            near = abs(one @ other - flag.cosine) < NEAR and abs(score - flag.score) < 1e-6
            if near and report.decider.base_rate == rate:
                found.add(model)
    assert len(report.flags) == 6
    assert len(found) == 1
    return found.pop()


def vectors_are_right(index: QuestionIndex, models: tuple[str, ...] = (OLD, NEW)) -> None:
    """Compare every vector of these models with its text."""
    assert index.verify() == []
    with index._store.reading() as view:
        rows = {row.slot: row.text for row, _ in view.rows()}
        known = {model.fingerprint: model for model in view.models()}
        for name in models:
            held = view.vectors(known[name], [*rows])
            assert view.count(known[name].table) == len(held) == len(rows)
            embedder = WordEmbedder(dimensions=known[name].dimensions)
            expected = embedder.embed([*rows.values()])
            np.testing.assert_allclose(np.stack([held[slot] for slot in rows]), expected, atol=1e-3)


# ---- one model at a time -------------------------------------------------------------------------------------------


def test_flags_are_of_one_model_at_every_step(
    filled: QuestionIndex, path: Path | str, pipeline: DuplicatePipeline, successor: DuplicatePipeline, parts: None
) -> None:
    plain, ready = QuestionIndex(path, pipeline), QuestionIndex(path, pipeline, successor=successor)
    steps: list[tuple[int, int]] = []

    def check(done: int, total: int) -> None:
        steps.append((done, total))
        last = steps.count((total, total)) == 2  # once before the switch, once after it
        for index in (filled, ready) if last else (filled, ready, plain):
            assert model_of(index) == (NEW if last else OLD)
            assert index.decider.base_rate == (0.3 if last else 0.6)

    assert filled.reembed(successor, progress=check) == len(TEXTS)
    assert steps[0] == (0, len(TEXTS))
    assert steps[-1] == (len(TEXTS), len(TEXTS))
    assert len(steps) > len(TEXTS) // 20
    for use in (
        lambda: plain.flag("Who eats glass?"),
        lambda: plain.add(["late"], ["Who eats glass?"]),
        lambda: plain.flag_stored([IDS[0]]),
    ):
        with pytest.raises(InputError, match="switched to another model") as refused:
            use()
        assert "open it again" in str(refused.value)
    assert len(plain) == len(TEXTS)
    vectors_are_right(filled)
    assert ready.add(["late"], ["Who eats glass?"]).added == 1
    assert filled.flag("Who eats glass?").flags[0].id == "late"
    with QuestionIndex(path, successor) as opened:
        assert model_of(opened) == NEW


def test_threads_that_flag_see_one_model(
    filled: QuestionIndex, path: Path | str, pipeline: DuplicatePipeline, successor: DuplicatePipeline, parts: None
) -> None:
    ready = QuestionIndex(path, pipeline, successor=successor)
    seen: list[list[str]] = [[], []]
    stop = threading.Event()
    raised: list[BaseException] = []

    def flag(models: list[str]) -> None:
        try:
            while not stop.is_set():
                models.append(model_of(ready))
            models.append(model_of(ready))
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    threads = [threading.Thread(target=flag, args=(models,)) for models in seen]
    for thread in threads:
        thread.start()
    while not all(seen) and not raised:
        time.sleep(0.001)
    filled.reembed(successor)
    stop.set()
    for thread in threads:
        thread.join(SECONDS)
    assert raised == []
    for models in seen:
        assert models == sorted(models, key=[OLD, NEW].index)
        assert (models[0], models[-1]) == (OLD, NEW)


@pytest.mark.parametrize("use", ["flag", "flag_all", "flag_stored", "add"])
def test_a_switch_in_the_middle_of_a_call(
    filled: QuestionIndex, path: Path | str, pipeline: DuplicatePipeline, successor: DuplicatePipeline, use: str
) -> None:
    slow = Counting()
    ready = QuestionIndex(path, replace(pipeline, bi_encoder=slow), successor=successor)

    def switch() -> None:
        slow.hook = lambda: None
        QuestionIndex(path).reembed(successor)

    slow.hook = switch
    if use == "add":
        assert ready.add(["late", IDS[0]], ["Who eats glass?", "Who breaks glass?"]).added == 1
        vectors_are_right(ready, (NEW,))
    elif use == "flag_stored":
        ready.flag_stored(IDS[:2])
        assert {decision.scorer for decision in ready.decisions()} == {successor.fingerprint}
        assert all(decision.score > 50 for decision in ready.decisions())
    else:
        reports = ready.flag_all(["Who eats glass?"] * 2) if use == "flag_all" else [ready.flag("Who eats glass?")]
        assert all(flag.score > 50 for report in reports for flag in report.flags)
    assert slow.texts  # the call had begun with the old model
    assert model_of(ready) == NEW


# ---- writers during a change ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", [False, True])
def test_questions_are_written_during_a_change(
    filled: QuestionIndex,
    path: Path | str,
    pipeline: DuplicatePipeline,
    successor: DuplicatePipeline,
    parts: None,
    both: bool,
) -> None:
    other = QuestionIndex(path, pipeline, successor=successor if both else None)
    expected = dict(zip(IDS, TEXTS, strict=True))
    draw, steps = random.Random(1), itertools.count()

    def write(done: int, _: int) -> None:
        if other.stats()["model"] == NEW:
            return
        ids = [f"n{(step := next(steps))}", *draw.sample(IDS, 3)]
        texts = [f"What does {id_} mean at {step}?" for id_ in ids]
        gone = draw.sample([id_ for id_ in IDS if id_ not in ids], 2)
        assert other.add(ids, texts).added >= 1
        other.remove(gone)
        expected.update(zip(ids, texts, strict=True))
        for id_ in gone:
            expected.pop(id_, None)
        if both and done:  # the model is known by now
            with other._store.reading() as view:
                slots = {question.slot for question in view.find(ids).values()}
                assert {*view.vectors(view.models()[-1], [*slots])} == slots

    filled.reembed(successor, progress=write)
    vectors_are_right(filled)
    with filled._store.reading() as view:
        assert {row.id: row.text for row, _ in view.rows()} == expected
    assert model_of(filled) == NEW


def test_many_new_questions_are_not_embedded_under_the_lock(
    filled: QuestionIndex, path: Path | str, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reembedding, "PART", 20)
    monkeypatch.setattr(reembedding, "LAST", 19)
    other, embedder = QuestionIndex(path, pipeline), new_embedder()
    sizes: list[int] = []
    writing = filled._store.write
    late = iter([[f"late{at}" for at in range(50)]])

    def write(action: Any) -> Any:
        if getattr(action, "__name__", "") == "finish":
            if ids := next(late, None):
                other.add(ids, [f"What is {id_}?" for id_ in ids])
            before = len(embedder.texts)
            result = writing(action)
            sizes.append(len(embedder.texts) - before)
            return result
        return writing(action)

    monkeypatch.setattr(filled._store, "write", write)
    filled.reembed(replace(pipeline, bi_encoder=embedder))
    assert len(sizes) == 2
    assert sizes[0] == 0
    assert sizes[1] < 20
    vectors_are_right(filled)


def test_two_may_embed_at_once(
    filled: QuestionIndex, path: Path | str, pipeline: DuplicatePipeline, successor: DuplicatePipeline, parts: None
) -> None:
    together, raised = threading.Barrier(2), []

    def change() -> None:
        with QuestionIndex(path) as index:
            together.wait(SECONDS)
            try:
                index.reembed(replace(successor, bi_encoder=new_embedder()))
            except BaseException as error:  # noqa: BLE001
                raised.append(error)

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert raised == []
    with QuestionIndex(path, successor) as index:
        assert [model["embedded"] for model in index.stats()["models"]] == [len(TEXTS)] * 2
        vectors_are_right(index)


# ---- the way back, other scorers, dropped models ------------------------------------------------------------------


def test_the_way_back_embeds_only_what_is_missing(
    filled: QuestionIndex, path: Path | str, pipeline: DuplicatePipeline, successor: DuplicatePipeline
) -> None:
    filled.reembed(successor)
    filled.add(["late", IDS[0]], ["Who eats glass?", "Who breaks glass?"])
    filled.remove([IDS[1]])
    embedder = Counting()
    assert filled.reembed(replace(pipeline, bi_encoder=embedder)) == 2
    assert sorted(embedder.texts) == ["Who breaks glass?", "Who eats glass?"]
    assert model_of(filled) == OLD
    vectors_are_right(filled)
    # And forth again, by another open index that has both.
    ready = QuestionIndex(path, pipeline, successor=successor)
    ready.add(["later"], ["Who sells glass?"])
    assert ready.reembed(successor) == 0
    assert model_of(ready) == model_of(filled) == NEW


def test_another_scorer_needs_no_embedding(
    filled: QuestionIndex, path: Path | str, pipeline: DuplicatePipeline
) -> None:
    embedder = Counting()
    assert filled.reembed(replace(pipeline, bi_encoder=embedder, cross_encoder=Shifted())) == 0
    assert embedder.texts == []
    assert all(flag.score > 50 for flag in filled.flag("How does one learn chess?").flags)
    assert len(filled.stats()["models"]) == 1
    with pytest.raises(InputError, match="another bi-encoder"):
        QuestionIndex(path, pipeline, successor=replace(pipeline, cross_encoder=Shifted()))


def test_the_old_model_stays_until_it_is_dropped(
    filled: QuestionIndex, successor: DuplicatePipeline, parts: None
) -> None:
    facts = {"dimensions": 64, "form": "float16"}
    assert filled.stats()["models"] == [{"fingerprint": OLD, **facts, "embedded": len(TEXTS), "present": True}]
    with pytest.raises(InputError, match="in use"):
        filled.drop_model(OLD)
    with pytest.raises(InputError, match="no model 'strange'"):
        filled.drop_model("strange")
    seen = []
    filled.reembed(successor, progress=lambda *_: seen.append(filled.stats()["models"]))
    assert [models[0]["present"] for models in seen] == [True] * (len(seen) - 1) + [False]
    counts = [models[1]["embedded"] for models in seen]
    assert counts == sorted(counts)
    assert counts[-1] == len(TEXTS)
    filled.drop_model(OLD)
    assert [model["fingerprint"] for model in filled.stats()["models"]] == [NEW]
    filled.add(["late"], ["Who eats glass?"])
    vectors_are_right(filled, (NEW,))


def test_a_model_is_dropped_while_it_is_embedded(
    filled: QuestionIndex, successor: DuplicatePipeline, parts: None
) -> None:
    def drop(done: int, _: int) -> None:
        if done >= 40 and len(filled.stats()["models"]) == 2:
            filled.drop_model(NEW)

    with pytest.raises(InputError, match="was dropped"):
        filled.reembed(successor, progress=drop)
    assert model_of(filled) == OLD
    filled.add(["late"], ["Who eats glass?"])
    assert filled.reembed(successor) == len(TEXTS) + 1
    vectors_are_right(filled)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"successor": 7}, "successor must be a DuplicatePipeline, got int"),
        ({"pipeline": None}, "a successor needs a pipeline"),
        ({"successor": DuplicatePipeline(WordScorer())}, "no bi-encoder"),
    ],
)
def test_a_wrong_successor(
    tmp_path: Path, pipeline: DuplicatePipeline, successor: DuplicatePipeline, options: Any, problem: str
) -> None:
    given = {"pipeline": pipeline, "successor": successor} | options
    with pytest.raises(InputError, match=problem):
        QuestionIndex(tmp_path / "forum.db", **given)
    assert not [*tmp_path.iterdir()]


def test_another_model_is_refused(filled: QuestionIndex, path: Path | str, successor: DuplicatePipeline) -> None:
    with pytest.raises(InputError, match=r"another model \(word-embedder; given: other\)") as refused:
        QuestionIndex(path, successor)
    assert "dupq index reembed" in str(refused.value)


def test_a_new_index_is_filled_by_a_change(path: Path | str, pipeline: DuplicatePipeline) -> None:
    QuestionIndex(path, pipeline).close()
    with QuestionIndex(path) as index:
        assert index.reembed(replace(pipeline, bi_encoder=new_embedder())) == 0
        index.add(IDS, TEXTS)
        assert len(index.flag(TEXTS[0]).flags) == 10


# ---- kill -9 -------------------------------------------------------------------------------------------------------


CHANGER = """
import sys
from dupq.index import reembedding
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder
reembedding.PART, reembedding.LAST = 20, 4
class Logged(WordEmbedder):
    def embed(self, texts, progress=None):
        with open(sys.argv[2], "a") as log:
            log.writelines(f"{text}\\n" for text in texts)
        return super().embed(texts, progress)
with QuestionIndex(sys.argv[1]) as index:
    print("ready", flush=True)
    index.reembed(DuplicatePipeline(bi_encoder=Logged(dimensions=32, fingerprint="other")))
"""


def lines(file: Path) -> int:
    """The number of lines of a file that another process appends to; 0 while there is none."""
    return file.read_text().count("\n") if file.exists() else 0


def test_a_killed_change_is_resumed(
    path: Path | str, tmp_path: Path, pipeline: DuplicatePipeline, successor: DuplicatePipeline
) -> None:
    log = tmp_path / "log"
    texts = [f"What is number {at}?" for at in range(3000)]
    draw = random.Random(0)
    killed = 0
    with QuestionIndex(path, pipeline, successor=successor) as index:
        index.add(range(len(texts)), texts)

        def embedded() -> set[str]:
            with index._store.reading() as view:
                if len(models := view.models()) == 1:
                    return set()
                rows = {row.slot: row.text for row, _ in view.rows()}
                return {rows[slot] for slot in view.vectors(models[1], [*rows])}

        for turn in range(30):
            before = embedded()
            log.unlink(missing_ok=True)
            changer = subprocess.Popen(
                [sys.executable, "-c", CHANGER, str(path), str(log)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
            )
            assert changer.stdout is not None
            assert changer.stdout.readline() == "ready\n"
            if turn < 5:
                embeds = draw.randrange(20, 300, 20)
                while changer.poll() is None and lines(log) < embeds:
                    time.sleep(0.001)
                changer.send_signal(signal.SIGKILL)
            changer.wait(SECONDS)
            changer.stdout.close()
            worked = log.read_text().splitlines() if log.exists() else []
            assert len(worked) == len(set(worked))
            assert not before & set(worked)
            assert before <= embedded()
            assert index.verify() == []
            killed += changer.returncode == -signal.SIGKILL
            if index.stats()["model"] == NEW:  # the last kill can come after the switch
                break
            assert changer.returncode != 0
            assert index.flag(texts[7]).flags[0].id == 7
        assert killed >= 1
        assert index.stats()["model"] == NEW
        assert embedded() == set(texts)
        assert index.flag(texts[7]).flags[0].id == 7


# ---- against a model -----------------------------------------------------------------------------------------------


PIPELINE = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
WORDS = st.lists(st.sampled_from(["red", "blue", "glass", "who", "eats"]), min_size=1, max_size=3).map(" ".join)


class StopError(Exception):
    """Raised to interrupt a change of model."""


class Changes(RuleBasedStateMachine):
    """Three models of 16, 32 and 64 dimensions; two open indexes, one of which knows all of them."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(dir=self.folder)) / "forum.db"
        self.pipelines = [
            replace(PIPELINE, bi_encoder=WordEmbedder(dimensions=16 << at, fingerprint=f"m{at}")) for at in range(3)
        ]
        self.index = QuestionIndex(self.path, self.pipelines[0])
        self.other = QuestionIndex(self.path, self.pipelines[0], successor=self.pipelines[1])
        self.texts: dict[int, str] = {}
        self.present, self.models = 0, {0}
        reembedding.PART, reembedding.LAST = 3, 1

    def teardown(self) -> None:
        self.index.close()
        self.other.close()
        reembedding.PART, reembedding.LAST = 256, 16

    @rule(texts=st.dictionaries(st.integers(0, 9), WORDS, min_size=1, max_size=8), which=st.booleans())
    def add(self, texts: dict[int, str], which: bool) -> None:
        index = self.other if which and self.present < 2 else self.index
        index.add([*texts], [*texts.values()])
        self.texts |= texts

    @rule(ids=st.sets(st.integers(0, 9)))
    def remove(self, ids: set[int]) -> None:
        assert self.index.remove([*ids]) == len(ids & {*self.texts})
        for id_ in ids:
            self.texts.pop(id_, None)

    @rule(to=st.integers(0, 2), stop=st.none() | st.integers(1, 4))
    def reembed(self, to: int, stop: int | None) -> None:
        steps = 0

        def progress(done: int, total: int) -> None:
            nonlocal steps
            steps += 1
            if steps == stop and self.index.stats()["model"] == f"m{self.present}":
                raise StopError

        self.models.add(to)
        try:
            self.index.reembed(self.pipelines[to], progress=progress)
        except StopError:
            return
        self.present = to

    @rule(at=st.integers(0, 2))
    def drop(self, at: int) -> None:
        if at in self.models and at != self.present:
            self.index.drop_model(f"m{at}")
            self.models.remove(at)
        else:
            with pytest.raises(InputError):
                self.index.drop_model(f"m{at}")

    @rule()
    def compact(self) -> None:
        self.index.compact()

    @invariant()
    def the_store_is_as_expected(self) -> None:
        stats = self.index.stats()["models"]
        assert {model["fingerprint"] for model in stats} == {f"m{at}" for at in self.models}
        assert [model["fingerprint"] for model in stats if model["present"]] == [f"m{self.present}"]
        with self.index._store.reading() as view:
            assert {row.id: row.text for row, _ in view.rows()} == self.texts

    @precondition(lambda self: self.texts)
    @rule(question=WORDS, which=st.booleans())
    def flag(self, question: str, which: bool) -> None:
        index = self.other if which and self.present < 2 else self.index
        embedder = WordEmbedder(dimensions=16 << self.present)
        one, *others = embedder.embed([question, *self.texts.values()]).astype(np.float64)
        cosines = {id_: one @ vector for id_, vector in zip(self.texts, others, strict=True)}
        report = index.flag(question, k=20, min_cosine=1e-6)
        found = {flag.id: flag.cosine for flag in report.flags}
        assert {*found} == {id_ for id_, cosine in cosines.items() if cosine > 1e-6 and id_ in self.texts}
        assert all(abs(cosine - cosines[int(id_)]) < NEAR for id_, cosine in found.items())


def test_changes_against_a_model(tmp_path: Path) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Run", (Changes,), {"folder": tmp_path})
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=15, deadline=None))
