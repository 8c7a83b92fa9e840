from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.decisions.candidate_rule import CandidateRule
from dupq.errors import InputError
from dupq.index import vector_cache as vector_cache
from dupq.index.question_index import QuestionIndex
from dupq.index.stores.base import Written
from dupq.pipeline import DuplicatePipeline
from dupq.types import Decision
from tests.fakes import WordEmbedder
from tests.index.stored import IDS, TEXTS, by_brute_force, cosine, nearest_ids


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
    assert report.guarantee == pipeline.guarantee
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


def test_another_word_makes_no_copy(path: Path, pipeline: DuplicatePipeline) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add([1, 2], ["Is C++ hard?", "Is C# hard?"])
        assert {flag.id: flag.copy for flag in index.flag("is c# hard").flags} == {1: False, 2: True}


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
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 7)
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
        for flag in flags:
            assert flag.cosine == pytest.approx(cosine(flag.text, TEXTS[step]), abs=1e-5)
    assert indexes[0].verify() == []


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


def test_a_blend_does_not_embed_what_is_stored(path: Path, pipeline: DuplicatePipeline) -> None:
    seen: list[str] = []

    class Watched(WordEmbedder):
        def embed(self, texts: Any, progress: Any = None) -> Any:
            seen.extend(texts)
            return super().embed(texts, progress)

    blended = replace(pipeline, bi_encoder=Watched(), blend=(0.5, 0.5, 0.1))
    index = QuestionIndex(path, blended, vectors="float32")  # the blend reads the stored vectors
    index.add(IDS, TEXTS)
    seen.clear()
    report = index.flag("How can I learn chess fast?", k=6)
    assert seen == ["How can I learn chess fast?"]
    for flag in report.flags:
        assert flag.score == pytest.approx(blended.raw_scores([report.question], [flag.text])[0], abs=1e-5)


def test_the_candidate_rule_bounds_the_flags(path: Path, pipeline: DuplicatePipeline) -> None:
    question = "What is the very best way to learn chess?"
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS, TEXTS)
        assert len(index.flag(question).flags) == 10
        assert len(index.flag(question, k=12).flags) == 12
    with QuestionIndex(path, pipeline.with_candidate_rule(CandidateRule(20, 0.5))) as index:
        flags = index.flag(question).flags
        assert 1 < len(flags) < 20
        assert min(flag.cosine for flag in flags) >= 0.5
        assert len(index.flag(question, k=2).flags) == 2
        assert len(index.flag(question, min_cosine=0.01).flags) == 20
        # A copy is no matter of its vector, and the question itself is not counted.
        assert [flag.id for flag in index.flag(TEXTS[5].upper(), min_cosine=1.0).flags if flag.copy] == ["q5"]
        (report,) = index.flag_stored(["q5"], min_cosine=0.99)
        assert "q5" not in {flag.id for flag in report.flags}
        with pytest.raises(InputError, match="min_cosine must be a number in"):
            index.flag_all([question], min_cosine=0.0)
