from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.data.text import normalise
from dupq.errors import InputError, NotCalibratedError, OutputError
from dupq.index import vector_cache as nearest
from dupq.index.question_index import QuestionIndex
from dupq.index.stores.sqlite import SqliteStore as Store
from dupq.pipeline import DuplicatePipeline
from dupq.types import Decision
from tests.fakes import WordEmbedder, WordScorer
from tests.index.stored import IDS, TEXTS, by_brute_force, nearest_ids

# ---- the derived vectors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "flipped", "header", "older", "foreign"])
def test_the_derived_vectors_are_made_again(
    path: Path, tmp_path: Path, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(nearest, "REWRITE_ROWS", 1)
    file = path.with_name("forum.db.vectors")
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS[:50], TEXTS[:50])
        index.flag(TEXTS[0])
        older = file.read_bytes()
        index.add(IDS, TEXTS)
        index.remove(IDS[:3])
        index.flag(TEXTS[0])
    good = file.read_bytes()
    if harm == "missing":
        file.unlink()
    elif harm == "foreign":
        with QuestionIndex(tmp_path / "other.db", pipeline) as other:
            other.add(IDS, TEXTS[::-1])
            other.flag(TEXTS[0])
        file.write_bytes((tmp_path / "other.db.vectors").read_bytes())
    else:
        flipped = bytearray(good)
        flipped[-7] ^= 1
        changed = {
            "empty": b"",
            "cut": good[:-10],
            "flipped": flipped,
            "header": b"\x00" * 64 + good[64:],
            "older": older,
        }
        file.write_bytes(changed[harm])
    with QuestionIndex(path, pipeline) as index:
        assert set(nearest_ids(index, TEXTS[9], 500)) == set(IDS[3:])
        assert {round(f.cosine, 5) for f in index.flag(TEXTS[9], k=5).flags} == by_brute_force(
            dict(zip(IDS[3:], TEXTS[3:], strict=True)), TEXTS[9], 5
        )
    assert harm in ("missing", "older") or file.read_bytes() != flipped if harm == "flipped" else file.exists()


def test_a_reader_may_not_be_allowed_to_write_the_vectors(
    path: Path, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "REWRITE_ROWS", 1)

    def full(*_: Any, **__: Any) -> Any:
        raise OutputError("no space is left")

    monkeypatch.setattr(nearest, "written_beside", full)
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS, TEXTS)
        assert len(index.flag(TEXTS[0], k=500).flags) == len(TEXTS)
    assert not path.with_name("forum.db.vectors").exists()


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "texts", "told"),
    [
        ([1], ["Why?", "How?"], "equally long, got 1 ids and 2 texts"),
        ([1, True], ["Why?", "How?"], "id 2: the id must be an int or a str, got bool"),
        ([1, None], ["Why?", "How?"], "id 2: the id is missing"),
        ([1, 2**63], ["Why?", "How?"], "64 bits"),
        ([1, ""], ["Why?", "How?"], "id 2: the id must not be blank"),
        ([1, 2], ["Why?", "  "], "text 2 .id 2.*blank"),
        ([1, 2], ["Why?", 7.5], "text 2 .id 2.*float"),
    ],
)
def test_a_bad_question_stores_nothing(path: Path, pipeline: Any, ids: Any, texts: Any, told: str) -> None:
    with QuestionIndex(path, pipeline) as index:
        with pytest.raises(InputError, match=told):
            index.add(ids, texts)
        assert len(index) == 0


@pytest.mark.parametrize(("question", "told"), [("", "blank"), ("Why\ud800", "not valid UTF-8"), (None, "missing")])
def test_a_bad_question_is_not_flagged(filled: QuestionIndex, question: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        filled.flag(question)


def test_a_question_without_a_known_word_refuses_none_beside_it(path: Path, pipeline: DuplicatePipeline) -> None:
    class Latin(WordEmbedder):
        def embed(self, texts: Any, progress: Any = None) -> Any:
            known = np.array([normalise(text).isascii() for text in texts], np.float32)
            return super().embed(texts, progress) * known[:, None]

    index = QuestionIndex(
        path, DuplicatePipeline(WordScorer(), Latin(), calibrator=pipeline.calibrator, rule=pipeline.rule)
    )
    index.add([1, 2, 3], ["Who invented chess?", "誰が将棋を発明しましたか", "Who invented go?"])
    first, strange, copy = index.flag_all(
        ["Who invented chess?", "囲碁は誰が発明しましたか", "誰が将棋を発明しましたか?"]
    )
    assert [flag.id for flag in first.flags][:1] == [1]
    assert first.warnings == ()
    assert strange.flags == ()
    assert [warning.kind for warning in strange.warnings] == ["unknown_language"]
    # What is a copy by definition needs no network.
    assert [(flag.id, flag.copy, flag.decision) for flag in copy.flags] == [(2, True, Decision.DUPLICATE)]
    assert copy.warnings == strange.warnings
    assert index.verify() == []


def test_an_uncalibrated_pipeline_stores_but_does_not_flag(path: Path) -> None:
    index = QuestionIndex(path, DuplicatePipeline(WordScorer(), WordEmbedder()))
    index.add(IDS[:3], TEXTS[:3])
    with pytest.raises(NotCalibratedError):
        index.flag("Who invented chess?")


def test_without_a_pipeline_one_can_look_and_keep_up(filled: QuestionIndex, path: Path, tmp_path: Path) -> None:
    index = QuestionIndex(path)
    assert index.stats()["questions"] == len(TEXTS)
    assert index.remove(["q1"]) == 1
    assert index.verify() == []
    index.compact()
    with pytest.raises(InputError, match="without a pipeline"):
        index.flag("Who invented chess?")
    with pytest.raises(InputError, match="no such index"):
        QuestionIndex(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_other_files_are_refused_and_left_alone(tmp_path: Path, pipeline: DuplicatePipeline) -> None:
    text = tmp_path / "questions.csv"
    text.write_text("id,text\n1,Who invented chess and why was it so long ago that nobody knows?\n" * 20)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as sql:
        sql.execute("CREATE TABLE mine(x)")
    newer = tmp_path / "newer.db"
    QuestionIndex(newer, pipeline).close()
    with sqlite3.connect(newer) as sql:
        sql.execute("PRAGMA user_version=99")
    for file, told in ((text, "not an index"), (foreign, "not an index of dupq"), (newer, "format 99")):
        before = file.read_bytes()
        with pytest.raises(InputError, match=told):
            QuestionIndex(file, pipeline)
        assert file.read_bytes() == before


# ---- upkeep --------------------------------------------------------------------------------------------------------


def test_verify_names_what_is_damaged(filled: QuestionIndex, path: Path) -> None:
    assert filled.verify() == []
    with sqlite3.connect(path) as sql:
        where = "WHERE slot=(SELECT slot FROM questions WHERE id=?)"
        sql.execute(f"UPDATE vectors_1 SET vector=x'00' {where}", ("tq1",))
        sql.execute("UPDATE questions SET text='another' WHERE id='tq2'")
        sql.execute(f"UPDATE vectors_1 SET vector=? {where}", (np.full(64, np.nan, "<f2").tobytes(), "tq3"))
        sql.execute(f"DELETE FROM vectors_1 {where}", ("tq4",))
    problems = filled.verify()
    assert len(problems) == 4
    assert all(any(f"'{id_}'" in line for line in problems) for id_ in ("q1", "q2", "q3", "q4"))


def test_verify_survives_a_damaged_database(filled: QuestionIndex, path: Path) -> None:
    filled.compact()
    filled.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    path.write_bytes(data)
    assert QuestionIndex(path).verify()


def test_compact_gives_space_back(
    filled: QuestionIndex, path: Path, tmp_path: Path, pipeline: DuplicatePipeline
) -> None:
    with QuestionIndex(tmp_path / "empty.db", pipeline) as empty:
        empty.compact()
        tables = empty.stats()["database_bytes"]
    filled.compact()
    before = filled.stats()
    filled.remove(IDS[:100])
    filled.compact()
    after = filled.stats()
    assert after["database_bytes"] - tables < (before["database_bytes"] - tables) * 0.6
    assert after["vectors_bytes"] < before["vectors_bytes"]
    assert after["removed_since_compaction"] == 0
    assert set(nearest_ids(filled, TEXTS[0], 500)) == set(IDS[100:])


def test_a_writer_waits_and_then_gives_up(filled: QuestionIndex, path: Path, pipeline: Any) -> None:
    other = Store(path)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with other.writing():
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(20)
    hasty = QuestionIndex(path, pipeline, wait=0.1)
    assert len(hasty.flag(TEXTS[0]).flags) == 10  # a reader is not kept waiting
    with pytest.raises(OutputError, match="another process has been writing"):
        hasty.add(["late"], ["Who eats glass?"])
    threading.Timer(0.3, leave.set).start()
    assert filled.add(["late"], ["Who eats glass?"]).added == 1
    thread.join()
