"""One index in several threads, in forked processes, and with its vector file replaced under running searches."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.errors import DupqError, InputError, OutputError
from dupq.index import vector_cache as vector_cache
from dupq.index.priority import Priority
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.index.stored import IDS, TEXTS, cosine, nearest_ids, stored_vectors

SECONDS = 30.0
"""How long a thread is waited for that should not have to wait at all."""


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="what a process has open is read from /proc")


class Blocking(WordEmbedder):
    """An embedder that stops at a text with a certain word until it is let go."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word
        self.entered, self.leave = threading.Event(), threading.Event()

    def embed(self, texts: Any, progress: Any = None) -> Any:
        if any(self.word in text for text in texts):
            self.entered.set()
            self.leave.wait(SECONDS)
        return super().embed(texts, progress)


class BlockingScorer(WordScorer):
    """The same for the scorer."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.leave = threading.Event(), threading.Event()

    def score(self, left: Any, right: Any, progress: Any = None) -> Any:
        if any("slowly" in text for text in left):
            self.entered.set()
            self.leave.wait(SECONDS)
        return super().score(left, right, progress)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[Exception]]:
    """Start it; what it raises is in the list once it has ended."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


def ends(work: Callable[[], object]) -> None:
    """Do it in another thread, which must end though somebody else is stuck."""
    thread, raised = in_thread(work)
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert raised == []


# ---- nobody waits for the network ---------------------------------------------------------------------------------


def test_a_flag_does_not_wait_for_the_network_of_an_add(path: Path, pipeline: DuplicatePipeline) -> None:
    embedder = Blocking("falconry")
    index = QuestionIndex(path, replace(pipeline, bi_encoder=embedder))
    index.add(IDS[:50], TEXTS[:50])
    adding, raised = in_thread(lambda: index.add(["f1", "f2"], ["Who invented falconry?", "Is falconry cruel?"]))
    assert embedder.entered.wait(SECONDS)
    ends(lambda: index.flag("Who invented chess?"))
    ends(lambda: index.remove(["q7"]))
    ends(lambda: index.add(["other"], ["Who eats glass?"]))
    ends(lambda: index.stats())
    assert adding.is_alive()
    embedder.leave.set()
    adding.join(SECONDS)
    assert raised == []
    assert len(index) == 52
    assert "f2" in index


@pytest.mark.parametrize("part", ["embedder", "scorer"])
def test_an_add_does_not_wait_for_the_networks_of_a_flag(path: Path, pipeline: DuplicatePipeline, part: str) -> None:
    embedder, scorer = Blocking("slowly"), BlockingScorer()
    judge = replace(
        pipeline,
        bi_encoder=embedder if part == "embedder" else WordEmbedder(),
        cross_encoder=scorer if part == "scorer" else WordScorer(),
    )
    index = QuestionIndex(path, judge)
    index.add(IDS[:50], TEXTS[:50])
    stuck = embedder if part == "embedder" else scorer
    flagging, raised = in_thread(lambda: index.flag("How does one learn chess slowly?"))
    assert stuck.entered.wait(SECONDS)
    ends(lambda: index.add(["late"], ["Who eats glass?"]))
    ends(lambda: index.flag("Who invented chess?"))
    ends(index.compact)
    assert flagging.is_alive()
    stuck.leave.set()
    flagging.join(SECONDS)
    assert raised == []


def test_the_last_add_of_an_id_wins_and_every_count_is_right(path: Path, pipeline: DuplicatePipeline) -> None:
    embedder = Blocking("falconry")
    index = QuestionIndex(path, replace(pipeline, bi_encoder=embedder))
    index.add(["same", "changed", "gone"], ["Who eats glass?", "Who eats stones?", "Who eats wood?"])
    written: list[Any] = []
    texts = ["Who eats glass?", "Who hunts with falconry?", "Who eats wood?", "Who eats iron?", "Who eats gold?"]
    ids = ["same", "changed", "gone", "both", "new"]
    adding, raised = in_thread(lambda: written.append(index.add(ids, texts)))
    assert embedder.entered.wait(SECONDS)
    # Meanwhile: what the first one took for unchanged goes or changes, and what it took for new is there.
    index.remove(["gone"])
    index.add(["same", "both"], ["Who eats paper?", "Who eats iron?"])
    embedder.leave.set()
    adding.join(SECONDS)
    assert raised == []
    (counts,) = written
    assert (counts.added, counts.replaced, counts.unchanged) == (2, 2, 1)
    flags = index.flag("Who eats?", k=50).flags
    assert {flag.id: flag.text for flag in flags} == dict(zip(ids, texts, strict=True))
    for flag in flags:
        assert flag.cosine == pytest.approx(cosine(flag.text, "Who eats?"), abs=1e-5)
    assert index.verify() == []


# ---- threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_threads_that_add_remove_and_flag_leave_what_a_dictionary_would(
    path: Path, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 9)  # the vector file is replaced again and again
    index = QuestionIndex(path, pipeline)
    index.add([f"fixed{at}" for at in range(20)], TEXTS[:20])
    wrong: list[str] = []

    def work(number: int, model: dict[str, str]) -> None:
        draw = random.Random(100 * seed + number)
        for _ in range(40):
            kind, mine = draw.random(), [f"t{number}n{draw.randrange(30)}" for _ in range(3)]
            if kind < 0.45:
                texts = [draw.choice(TEXTS) for _ in mine]
                index.add(mine, texts)
                model.update(zip(mine, texts, strict=True))
            elif kind < 0.65:
                index.remove(mine)
                for id_ in mine:
                    model.pop(id_, None)
            elif kind < 0.7:
                index.compact()
            elif kind < 0.8 and model:
                index.flag_stored([next(iter(model))], k=3)
            else:
                found = {flag.id: flag.text for flag in index.flag(draw.choice(TEXTS), k=500).flags}
                # A thread sees all that it has done itself, and what nobody changes.
                if {id_: text for id_, text in found.items() if id_.startswith(f"t{number}n")} != model:
                    wrong.append(f"thread {number}: {len(found)} found, {len(model)} of its own expected")
                if sum(id_.startswith("fixed") for id_ in found) != 20:
                    wrong.append(f"thread {number}: a question that nobody touched is missing")

    models: list[dict[str, str]] = [{} for _ in range(8)]
    running = [in_thread(lambda number=number: work(number, models[number])) for number in range(8)]
    for thread, raised in running:
        thread.join(120)
        assert not thread.is_alive()
        assert raised == []
    assert wrong == []
    truth = {f"fixed{at}": text for at, text in enumerate(TEXTS[:20])}
    for model in models:
        truth |= model
    for other in (index, QuestionIndex(path, pipeline)):
        assert {flag.id: flag.text for flag in other.flag("Who invented chess?", k=1000).flags} == truth
    assert index.verify() == []


def test_a_closed_index_names_itself_and_harms_no_thread(filled: QuestionIndex, path: Path) -> None:
    raised: list[Exception] = []

    def flag() -> None:
        while True:
            filled.flag(TEXTS[3])

    running = [in_thread(flag) for _ in range(4)]
    time.sleep(0.1)
    filled.close()
    filled.close()
    for thread, errors in running:
        thread.join(SECONDS)
        assert not thread.is_alive()
        raised += errors
    assert [type(error) for error in raised] == [InputError] * 4
    assert all("the index is closed" in str(error) for error in raised)
    assert len(QuestionIndex(path)) == len(TEXTS)


# ---- processes ----------------------------------------------------------------------------------------------------


def child(index: QuestionIndex, results: Any, name: str) -> None:
    try:
        for at in range(15):
            index.add([f"{name}{at}"], [f"Who invented {name} {at}?"])
            index.flag(TEXTS[at])
        results.put((name, len(index), None))
    except DupqError as error:
        results.put((name, -1, str(error)))


@needs_fork
def test_parent_and_forked_children_use_one_index(filled: QuestionIndex, path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    filled.flag(TEXTS[0])
    results = fork.Queue()
    stop = threading.Event()

    def busy() -> None:
        at = 0
        while not stop.is_set():
            filled.add(["mine"], [f"Who has the number {at}?"])  # a lock or a transaction is held at most forks
            filled.flag(TEXTS[at % len(TEXTS)])
            at += 1

    adding, raised = in_thread(busy)
    children = [fork.Process(target=child, args=(filled, results, f"child{number}n")) for number in range(4)]
    for process in children:
        process.start()
    told = [results.get(timeout=60) for _ in children]
    for process in children:
        process.join(60)
    stop.set()
    adding.join(SECONDS)
    assert raised == []
    assert [error for _, _, error in told if error] == []
    assert [process.exitcode for process in children] == [0] * 4
    expected = {*IDS, "mine", *(f"child{number}n{at}" for number in range(4) for at in range(15))}
    assert set(nearest_ids(filled, TEXTS[0], 1000)) == expected
    assert filled.verify() == []


@needs_fork
def test_a_fork_in_the_middle_of_a_transaction_leaves_it_to_the_parent(
    filled: QuestionIndex, path: Path, pipeline: DuplicatePipeline
) -> None:
    with filled._store.writing() as transaction:
        transaction.set_meta("note", "x" * 100)
        if (process := os.fork()) == 0:
            code = 7
            try:
                len(filled)
            except InputError as error:
                code = 0 if "forked in the middle of a transaction" in str(error) else 6
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        # The lock is still there: another connection cannot write.
        with pytest.raises(OutputError, match="writing for more than"):
            QuestionIndex(path, pipeline, wait=0.1).add(["late"], ["Who eats glass?"])
    with filled._store.reading() as view:
        assert view.meta("note") == "x" * 100
    assert filled.verify() == []


@needs_proc
def test_no_file_of_the_index_is_open_across_a_fork(filled: QuestionIndex, path: Path) -> None:
    filled.flag(TEXTS[0])
    read, write = os.pipe()
    if (process := os.fork()) == 0:
        try:
            links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
            open_files = [str(link.readlink()) for link in links if link.is_symlink()]
            inherited = [name for name in open_files if name.startswith(f"{path}") and ".vectors" not in name]
            os.write(write, f"{inherited} {len(filled)}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(process, 0)
    assert os.read(read, 10_000).decode() == f"[] {len(TEXTS)}"
    os.close(read)
    assert len(filled) == len(TEXTS)


# ---- the vector file ----------------------------------------------------------------------------------------------


def mapped(file: Path) -> bool:
    """Whether this process has a map of the file, under this name or after its name was taken."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return any(line.endswith((str(file), f"{file} (deleted)")) for line in lines)


@needs_proc
def test_no_map_of_the_vector_file_is_open_when_it_is_replaced_or_deleted(
    path: Path, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 1)
    file = path.resolve().with_name("forum.db.vectors")
    held: list[bool] = []
    true_replace, true_unlink = os.replace, Path.unlink

    def watched_replace(source: Any, target: Any, **options: Any) -> None:
        if Path(target) == file:
            held.append(mapped(file))
        true_replace(source, target, **options)

    def watched_unlink(name: Path, missing_ok: bool = False) -> None:
        if name == file:
            held.append(mapped(file))
        true_unlink(name, missing_ok)

    monkeypatch.setattr(os, "replace", watched_replace)
    monkeypatch.setattr(Path, "unlink", watched_unlink)
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS[:40], TEXTS[:40])
        index.flag(TEXTS[0])
        assert mapped(file)  # from here on there is a map that could be open
        index.add(IDS, TEXTS)
        stop = threading.Event()

        def search() -> None:
            while not stop.is_set():
                assert len(index.flag(TEXTS[0], k=5).flags) == 5

        running = [in_thread(search) for _ in range(3)]
        for at in range(5):
            index.add([f"more{at}n{number}" for number in range(60)], TEXTS[:60])
            index.flag(TEXTS[0])
            index.compact()
        assert index.verify() == []
        stop.set()
        for thread, raised in running:
            thread.join(SECONDS)
            assert raised == []
        assert len(index.flag(TEXTS[0], k=2000).flags) == len(TEXTS) + 300
    assert len(held) >= 7
    assert not any(held)
    assert not mapped(file)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A system on which the vector file cannot be replaced, as where another process has it mapped on Windows."""
    true_replace = os.replace
    seen: list[str] = []

    def replace_(source: Any, target: Any, **options: Any) -> None:
        if str(target).endswith(".vectors"):
            seen.append(str(target))
            raise PermissionError(13, "Permission denied")
        true_replace(source, target, **options)

    monkeypatch.setattr(os, "replace", replace_)
    return seen


def test_a_vector_file_that_cannot_be_replaced_stays_and_searches_go_on(
    path: Path, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 1)
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS[:40], TEXTS[:40])
        index.flag(TEXTS[0])
        before = path.with_name("forum.db.vectors").read_bytes()
        seen = request.getfixturevalue("refused")
        index.add(IDS, TEXTS)
        for _ in range(3):
            assert set(nearest_ids(index, TEXTS[0], 500)) == set(IDS)
        assert seen
        assert path.with_name("forum.db.vectors").read_bytes() == before


def test_vectors_that_were_handed_out_stay_valid_after_a_replacement(
    path: Path, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 1)
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS[:40], TEXTS[:40])
        index.flag(TEXTS[0])
        with index._vectors.following(index._store) as (view, snapshot):
            slots = snapshot.slots.tolist()
            rows = snapshot.vectors(slots)
            texts = [row.text for row in view.questions(slots).values()]
        index.compact()
        np.testing.assert_allclose(np.stack([*rows.values()]), stored_vectors(texts), atol=1e-6)


# ---- who goes first -----------------------------------------------------------------------------------------------


def test_long_work_waits_for_urgent_work_but_not_for_ever() -> None:
    priority = Priority()
    assert not priority.give_way()
    with priority.urgent():
        assert priority.give_way()  # ends though the urgent work does not
        waiting, raised = in_thread(priority.give_way)
    waiting.join(SECONDS)
    assert not waiting.is_alive()
    assert raised == []
    assert priority.give_way()  # more is likely to come


def test_questions_are_embedded_a_few_at_a_time_only_where_flags_come_in(
    path: Path, pipeline: DuplicatePipeline
) -> None:
    sizes: list[int] = []

    class Counted(WordEmbedder):
        def embed(self, texts: Any, progress: Any = None) -> Any:
            sizes.append(len(texts))
            return super().embed(texts, progress)

    index = QuestionIndex(path, replace(pipeline, bi_encoder=Counted()))
    questions = [f"Who has the number {at}?" for at in range(300)]
    index.add(range(300), questions)
    assert sizes == [256, 44]
    with index._priority.urgent():
        sizes.clear()
        index.add(range(300, 600), [f"{question} Now?" for question in questions])
    assert sum(sizes) == 300
    assert max(sizes) == 32
    assert index.verify() == []
