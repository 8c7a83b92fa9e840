from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.data.text import normalise
from dupq.errors import InputError, NotCalibratedError, OutputError
from dupq.forum import nearest
from dupq.forum.index import QuestionIndex
from dupq.forum.store import Store, Written
from dupq.pipeline import DuplicatePipeline
from dupq.records import Decision
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, THINGS

TEXTS = [phrase.format(thing=thing) for thing in THINGS[:6] for asked in INTENTS for phrase in asked]
IDS = [f"q{at}" for at in range(len(TEXTS))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "forum.db"


@pytest.fixture
def filled(path: Path, pipeline: DuplicatePipeline) -> QuestionIndex:
    index = QuestionIndex(path, pipeline)
    index.add(IDS, TEXTS)
    return index


def nearest_ids(index: QuestionIndex, text: str, k: int) -> list[Any]:
    return [flag.id for flag in sorted(index.flag(text, k=k).flags, key=lambda flag: (-flag.cosine, str(flag.id)))]


def by_brute_force(texts: dict[Any, str], text: str, k: int) -> set[float]:
    vectors = WordEmbedder().embed([*texts.values(), text]).astype(np.float64)
    return set(np.sort(vectors[:-1] @ vectors[-1])[::-1][:k].round(5).tolist())


def test_flags_the_nearest_questions_with_probability_and_decision(
    filled: QuestionIndex, pipeline: DuplicatePipeline
) -> None:
    question = "What is the very best way to learn chess?"
    report = filled.flag(question, k=7)
    assert len(report.flags) == 7
    assert report.stored == len(TEXTS)
    assert {round(flag.cosine, 5) for flag in report.flags} == by_brute_force(
        dict(zip(IDS, TEXTS, strict=True)), question, 7
    )
    for flag in report.flags:
        one = pipeline.score(question, flag.text)
        assert (flag.score, flag.probability) == (pytest.approx(one.score), pytest.approx(one.probability))
        assert flag.decision == one.decision
        assert TEXTS[IDS.index(flag.id)] == flag.text
    assert [flag.probability for flag in report.flags] == sorted((f.probability for f in report.flags), reverse=True)
    assert report.promise == pipeline.promise
    assert report.duplicates == tuple(flag for flag in report.flags if flag.decision is Decision.DUPLICATE)


def test_flags_can_be_decided_at_another_threshold(filled: QuestionIndex) -> None:
    report = filled.flag("How can I learn chess?", k=10)
    probabilities = [flag.probability for flag in report.flags if not flag.copy]
    cut = sorted(probabilities)[len(probabilities) // 2]
    moved = report.at(threshold=cut)
    assert {flag.id for flag in moved.duplicates} == {f.id for f in report.flags if f.probability >= cut or f.copy}


def test_a_copy_is_a_duplicate_whatever_its_vector(filled: QuestionIndex) -> None:
    report = filled.flag(TEXTS[5].upper() + "!!", k=3)
    first = report.flags[0]
    assert (first.id, first.copy, first.probability, first.decision) == ("q5", True, 1.0, Decision.DUPLICATE)


def test_many_questions_are_flagged_as_one_by_one(filled: QuestionIndex) -> None:
    questions = [f"Tell me: {text}" for text in TEXTS[::7]]
    together = filled.flag_all(questions, k=4)
    for question, report in zip(questions, together, strict=True):
        alone = filled.flag(question, k=4)
        assert [flag.id for flag in report.flags] == [flag.id for flag in alone.flags]
        assert [flag.probability for flag in report.flags] == pytest.approx([flag.probability for flag in alone.flags])


def test_add_again_changes_nothing_and_another_text_replaces(filled: QuestionIndex, path: Path) -> None:
    before = path.read_bytes()
    assert filled.add(IDS[:9], TEXTS[:9]) == Written(unchanged=9)
    assert path.read_bytes() == before
    assert filled.add(["q1", "q2", "new"], [TEXTS[1], "Who eats glass?", "Who eats stones?"]) == Written(1, 1, 1)
    assert len(filled) == len(TEXTS) + 1
    flags = {flag.id: flag.text for flag in filled.flag("Who eats glass?", k=3).flags}
    assert flags["q2"] == "Who eats glass?"
    assert TEXTS[2] not in flags.values()


def test_an_id_twice_in_a_batch_keeps_its_last_text(filled: QuestionIndex) -> None:
    filled.add(["twice", "twice"], ["Who eats glass?", "Who eats stones?"])
    assert {f.text for f in filled.flag("Who eats?", k=200).flags if f.id == "twice"} == {"Who eats stones?"}


def test_ids_keep_their_kind(path: Path, pipeline: DuplicatePipeline) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add([7, "7"], ["Who invented chess?", "Who invented origami?"])
        assert {(flag.id, flag.text) for flag in index.flag("Who invented chess?").flags} == {
            (7, "Who invented chess?"),
            ("7", "Who invented origami?"),
        }
        assert index.remove([7]) == 1
        assert [flag.id for flag in index.flag("Who invented chess?").flags] == ["7"]


def test_removed_questions_are_gone_at_once_and_for_good(filled: QuestionIndex, path: Path, pipeline: Any) -> None:
    assert filled.remove(["q0", "q4", "nobody"]) == 2
    for index in (filled, QuestionIndex(path, pipeline)):
        assert len(index) == len(TEXTS) - 2
        assert not {"q0", "q4"} & set(nearest_ids(index, TEXTS[0], len(TEXTS)))
    filled.remove(IDS)
    assert len(filled) == 0
    assert filled.flag("Who invented chess?").flags == ()
    filled.add(["back"], [TEXTS[0]])
    assert nearest_ids(filled, TEXTS[0], 5) == ["back"]


def test_processes_see_what_others_did(path: Path, pipeline: DuplicatePipeline) -> None:
    one, other = QuestionIndex(path, pipeline), QuestionIndex(path, pipeline)
    assert other.flag("Who invented chess?").flags == ()
    one.add(IDS[:40], TEXTS[:40])
    assert len(other.flag("Who invented chess?", k=100).flags) == 40
    other.remove(IDS[:10])
    one.add(["q5"], ["Who eats glass?"])
    for index in (one, other):
        assert set(nearest_ids(index, "Who eats glass?", 100)) == {*IDS[10:40], "q5"}
    one.compact()
    one.remove(["q11"])
    assert set(nearest_ids(other, "Who eats glass?", 100)) == {"q10", *IDS[12:40], "q5"}


def test_any_history_gives_the_same_answers_as_a_fresh_index(
    path: Path, tmp_path: Path, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "REWRITE_ROWS", 7)
    draw = np.random.default_rng(1)
    indexes = [QuestionIndex(path, pipeline) for _ in range(2)]
    truth: dict[Any, str] = {}
    for step in range(60):
        index = indexes[int(draw.integers(2))]
        picked = draw.choice(len(TEXTS), size=4, replace=False).tolist()
        kind = draw.random()
        if kind < 0.5:
            texts = [TEXTS[int(draw.integers(len(TEXTS)))] for _ in picked]
            index.add([IDS[at] for at in picked], texts)
            truth |= {IDS[at]: text for at, text in zip(picked, texts, strict=True)}
        elif kind < 0.8:
            index.remove([IDS[at] for at in picked])
            for at in picked:
                truth.pop(IDS[at], None)
        elif kind < 0.86:
            index.compact()
        elif kind < 0.92:
            indexes[int(draw.integers(2))] = QuestionIndex(path, pipeline)
        reader = indexes[int(draw.integers(2))]
        assert len(reader) == len(truth)
        flags = reader.flag(TEXTS[step], k=200).flags
        assert {flag.id: flag.text for flag in flags} == truth
        vectors = WordEmbedder().embed([TEXTS[step]])[0]
        for flag in flags:
            assert flag.cosine == pytest.approx(float(WordEmbedder().embed([flag.text])[0] @ vectors), abs=1e-5)
    assert indexes[0].verify() == []


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


# ---- another model -------------------------------------------------------------------------------------------------


def other_pipeline(pipeline: DuplicatePipeline) -> DuplicatePipeline:
    return DuplicatePipeline(
        WordScorer(),
        WordEmbedder(dimensions=32, fingerprint="other"),
        calibrator=pipeline.calibrator,
        rule=pipeline.rule,
    )


def test_another_model_is_refused_or_embeds_anew(
    filled: QuestionIndex, path: Path, pipeline: DuplicatePipeline
) -> None:
    other = other_pipeline(pipeline)
    with pytest.raises(InputError, match="another model") as refused:
        QuestionIndex(path, other)
    assert "reembed" in str(refused.value)
    told: list[tuple[int, int]] = []
    index = QuestionIndex(path, other, reembed=True, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(TEXTS), len(TEXTS))
    assert index.verify() == []
    vector = WordEmbedder(dimensions=32).embed(["Who invented chess?"])[0]
    for flag in index.flag("Who invented chess?", k=5).flags:
        assert flag.cosine == pytest.approx(float(WordEmbedder(dimensions=32).embed([flag.text])[0] @ vector), abs=1e-5)
    # The one that is still open with the old model must not add to it, nor search in it.
    for use in (lambda: filled.add(["late"], ["Who eats glass?"]), lambda: filled.flag("Who eats glass?")):
        with pytest.raises(InputError, match="another model"):
            use()
    assert len(QuestionIndex(path, other)) == len(TEXTS)


# ---- decisions and base rate ---------------------------------------------------------------------------------------


def test_what_is_decided_of_stored_questions_is_kept(filled: QuestionIndex, path: Path, pipeline: Any) -> None:
    reports = filled.flag_stored(["q0", "q1"], k=3)
    assert all(report.question == text for report, text in zip(reports, TEXTS, strict=False))
    assert all(id_ not in {flag.id for flag in report.flags} for id_, report in zip(IDS, reports, strict=False))
    kept = {frozenset((row.id, row.other)): row for row in QuestionIndex(path).decisions()}
    for id_, report in zip(IDS, reports, strict=False):
        for flag in report.flags:
            row = kept[frozenset((id_, flag.id))]
            assert (row.score, row.decision, row.scorer) == (flag.score, str(flag.decision), pipeline.fingerprint)
    filled.remove(["q0"])
    assert all("q0" not in (row.id, row.other) for row in filled.decisions())
    with pytest.raises(InputError, match="'q0'"):
        filled.flag_stored(["q0"])


def test_the_base_rate_of_candidates_is_kept_and_used(filled: QuestionIndex, path: Path, pipeline: Any) -> None:
    note = filled.fit_base_rate(sample=40, k=5)
    rate = filled.stats()["base_rate"]
    assert filled.stats()["base_rate_note"] == note
    for index in (filled, QuestionIndex(path, pipeline)):
        report = index.flag("Tell me how to learn chess?")
        assert report.decider.base_rate == rate
        scores = np.array([flag.score for flag in report.flags])
        assert [flag.probability for flag in report.flags] == pytest.approx(
            pipeline.calibrator.probabilities(scores, rate)
        )


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "texts", "told"),
    [
        ([1], ["Why?", "How?"], "1 ids, 2 texts"),
        ([1, True], ["Why?", "How?"], "id 2: the id is a bool"),
        ([1, None], ["Why?", "How?"], "id 2: the id is a NoneType"),
        ([1, 2**63], ["Why?", "How?"], "64 bits"),
        ([1, ""], ["Why?", "How?"], "id 2: the text is blank"),
        ([1, 2], ["Why?", "  "], "text 2 .id 2.*blank"),
        ([1, 2], ["Why?", "w" * 30_000], "30,000 characters"),
    ],
)
def test_a_bad_question_stores_nothing(path: Path, pipeline: Any, ids: Any, texts: Any, told: str) -> None:
    with QuestionIndex(path, pipeline) as index:
        with pytest.raises(InputError, match=told):
            index.add(ids, texts)
        assert len(index) == 0


@pytest.mark.parametrize(("question", "told"), [("", "blank"), ("x" * 20_001, "20,001 characters"), (None, "missing")])
def test_a_bad_question_is_not_flagged(filled: QuestionIndex, question: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        filled.flag(question)


def test_a_question_without_a_known_word_is_refused(path: Path, pipeline: DuplicatePipeline) -> None:
    class Latin(WordEmbedder):
        def embed(self, texts: Any, progress: Any = None) -> Any:
            known = np.array([normalise(text).isascii() for text in texts], np.float32)
            return super().embed(texts, progress) * known[:, None]

    index = QuestionIndex(
        path, DuplicatePipeline(WordScorer(), Latin(), calibrator=pipeline.calibrator, rule=pipeline.rule)
    )
    index.add([1, 2], ["Who invented chess?", "誰が将棋を発明しましたか"])
    assert [flag.id for flag in index.flag("Who invented chess?").flags] == [1, 2]
    with pytest.raises(InputError, match="no word of this question"):
        index.flag("誰が将棋を発明しましたか")
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
        sql.execute("UPDATE questions SET vector=x'00' WHERE id='q1'")
        sql.execute("UPDATE questions SET text='another' WHERE id='q2'")
        sql.execute("UPDATE questions SET vector=? WHERE id='q3'", (np.full(64, np.nan, np.float32).tobytes(),))
    problems = filled.verify()
    assert len(problems) == 3
    assert all(any(f"'{id_}'" in line for line in problems) for id_ in ("q1", "q2", "q3"))


def test_verify_survives_a_damaged_database(filled: QuestionIndex, path: Path) -> None:
    filled.compact()
    filled.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    path.write_bytes(data)
    assert QuestionIndex(path).verify()


def test_compact_gives_space_back(filled: QuestionIndex, path: Path) -> None:
    filled.compact()
    before = filled.stats()
    filled.remove(IDS[:100])
    filled.compact()
    after = filled.stats()
    assert after["database_bytes"] < before["database_bytes"] * 0.6
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


def test_a_blend_does_not_embed_what_is_stored(path: Path, pipeline: DuplicatePipeline) -> None:
    seen: list[str] = []

    class Watched(WordEmbedder):
        def embed(self, texts: Any, progress: Any = None) -> Any:
            seen.extend(texts)
            return super().embed(texts, progress)

    blended = replace(pipeline, bi_encoder=Watched(), blend=(0.5, 0.5, 0.1))
    index = QuestionIndex(path, blended)
    index.add(IDS, TEXTS)
    seen.clear()
    report = index.flag("How can I learn chess fast?", k=6)
    assert seen == ["How can I learn chess fast?"]
    for flag in report.flags:
        assert flag.score == pytest.approx(blended.raw_scores([report.question], [flag.text])[0], abs=1e-5)
