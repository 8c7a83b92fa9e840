"""What a pipeline takes and refuses at its borders, and what it is as an object."""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import pickle
import typing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dupq
from dupq import (
    Decision,
    DuplicatePipeline,
    DupqError,
    MiningSettings,
    Policy,
    QuestionPair,
)
from dupq.errors import InputError
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

TABLE = labelled_table(96)
GOOD = ("Who invented chess?", "who invented chess")
LONG = "Who invented chess? " * 50_000


def made() -> DuplicatePipeline:
    pipeline = DuplicatePipeline(WordScorer(), WordEmbedder())
    return replace(pipeline, trained_on=np.arange(9)).calibrate(TABLE).with_languages(["en"])


@pytest.fixture(scope="module")
def pipeline() -> DuplicatePipeline:
    return made()


@pytest.fixture(scope="module")
def shipped() -> DuplicatePipeline:
    return DuplicatePipeline.from_pretrained(threads=1)


# ---- long, bad and foreign texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20_001, 131_073, 1_000_000])
def test_a_long_text_is_cut_with_a_warning_and_spares_its_neighbours(shipped: DuplicatePipeline, size: int) -> None:
    long = LONG[:size]
    results = shipped.score_pairs([GOOD[0], long + "in Rome?", GOOD[0]], [GOOD[1], long + "in Oslo?", long])
    assert results[0] == shipped.score(*GOOD)
    assert [[(warning.kind, warning.side) for warning in one.warnings] for one in results] == [
        [],
        [("truncated", 1), ("truncated", 2)],
        [("truncated", 2)],
    ]
    assert results[1].question2.endswith("in Oslo?")


def test_two_posts_that_differ_at_the_end_carry_a_warning(shipped: DuplicatePipeline) -> None:
    post = "My old chess clock stops whenever the battery is cold. " * 40
    result = shipped.score(post + "How do I fix it?", post + "Where can I sell it?")
    assert [warning.side for warning in result.warnings] == [1, 2]
    assert all("first 350 and last 150" in str(warning) for warning in result.warnings)


@pytest.mark.parametrize(
    "pair",
    [
        ("你好吗?", "你怎么样?"),
        ("😀", "🦖"),
        ("¿Cómo puedo aprender inglés?", "¿Cómo puedo aprender más inglés?"),
        ("???", "!!!"),
    ],
)
def test_an_unknown_language_is_no_duplicate_unless_allowed(shipped: DuplicatePipeline, pair: tuple[str, str]) -> None:
    allowed = shipped.with_languages(allow_unknown=True)
    strict, free = shipped.score(*pair), allowed.score(*pair)
    assert {warning.kind for warning in strict.warnings} == {"unknown_language"}
    assert strict.warnings == free.warnings
    assert (strict.score, strict.probability) == (free.score, free.probability)
    assert free.decision is Decision.DUPLICATE
    assert strict.decision is Decision.REVIEW
    copies = shipped.score(pair[0], f" {pair[0]} ")
    assert copies.decision is Decision.DUPLICATE
    assert copies.warnings


def test_a_language_that_was_learned_is_decided(shipped: DuplicatePipeline) -> None:
    pair = "Wie lange dauert die Fahrt nach Rom?", "Wie lange dauert die Reise nach Rom?"
    german = shipped.with_languages(["de", "en-GB"])
    assert shipped.score(*pair).warnings
    assert german.languages == ("de", "en")
    assert german.score(*pair).warnings == ()
    assert shipped.languages == ("en",)
    assert DuplicatePipeline(WordScorer()).languages is None


@pytest.mark.parametrize("bad", [None, float("nan"), "", " \n", 7, "lone \ud800 surrogate"])
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_a_bad_text_is_skipped_in_its_place(
    pipeline: DuplicatePipeline, bad: object, batch_size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    left, right = ["Is go hard?", GOOD[0], bad, GOOD[0]], [bad, GOOD[1], GOOD[1], GOOD[1]]
    with pytest.raises(InputError, match="left text of pair 3"):
        pipeline.score_pairs(left, right[1:] + right[:1], batch_size=batch_size)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "dupq"):
        found = pipeline.score_pairs(left, right, on_error="skip", batch_size=batch_size)  # type: ignore[arg-type]
    whole = pipeline.score(*GOOD)
    assert found == [None, whole, None, whole]
    (line,) = caplog.messages
    assert line.startswith("2 of 4 pairs are skipped: right text of pair 1: ")
    assert "left text of pair 3" in line


def test_one_line_of_the_log_counts_the_warnings_of_a_batch(
    shipped: DuplicatePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dupq"):
        shipped.score_pairs([LONG, "😀", GOOD[0]], [LONG, GOOD[0], GOOD[1]])
        shipped.score(LONG, "😀")
    assert caplog.messages == [
        "2 of 6 texts are truncated for the networks",
        "1 of 6 texts are in a language that the model was not trained on",
    ]


# ---- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 96, 4096])
def test_a_stream_is_scored_a_batch_at_a_time(pipeline: DuplicatePipeline, size: int) -> None:
    drawn = 0

    def stream() -> Iterator[tuple[str, str] | QuestionPair]:
        nonlocal drawn
        for number, pair in enumerate(zip(TABLE.left, TABLE.right, strict=True)):
            drawn += 1
            yield pair if number % 2 else QuestionPair(*pair)

    results = pipeline.score_iter(stream(), batch_size=size)
    assert drawn == 0
    first = next(results)
    assert drawn == min(size, len(TABLE))
    found, whole = [first, *results], pipeline.score_pairs(TABLE.left, TABLE.right)
    assert [(one.question1, one.score, one.decision) for one in found] == [
        (one.question1, one.score, one.decision) for one in whole
    ]
    assert list(pipeline.score_iter([])) == []


def test_bad_pairs_of_a_stream(pipeline: DuplicatePipeline) -> None:
    stream = [GOOD, GOOD, (None, "a"), GOOD]
    found = list(pipeline.score_iter(stream, on_error="skip", batch_size=2))  # type: ignore[arg-type]
    assert [one is None for one in found] == [False, False, True, False]
    results = pipeline.score_iter(stream, batch_size=2)  # type: ignore[arg-type]
    assert [next(results), next(results)] == found[:2]
    with pytest.raises(InputError, match="left text of pair 3"):
        next(results)
    with pytest.raises(InputError, match="pair 1: a pair must be two texts, got 3 parts"):
        list(pipeline.score_iter([("a", "b", "c")]))  # type: ignore[list-item]


# ---- wrong arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.score_pairs("ab", "cd"),
        lambda p: p.score_pairs({"a": 1}, {"b": 2}),
        lambda p: p.score_pairs(7, 8),
        lambda p: p.score_pairs(["a"], ["b"], batch_size=0),
        lambda p: p.score_pairs(["a"], ["b"], batch_size="2"),
        lambda p: p.score_pairs(["a"], ["b"], batch_size=True),
        lambda p: p.score_pairs(["a"], ["b"], on_error="ignore"),
        lambda p: p.score_pairs(np.array([["a", "b"]]), ["b"]),
        lambda p: p.score_iter("ab"),
        lambda p: p.score_iter(7),
        lambda p: p.score_iter([], batch_size=-1),
        lambda p: p.score_iter([], on_error=None),
        lambda p: p.raw_scores("ab", "cd"),
        lambda p: p.probabilities(["a"], None),
        lambda p: p.text_warnings("ab"),
        lambda p: p.estimate_base_rate("ab", "cd"),
        lambda p: p.with_policy(7),
        lambda p: p.with_policy("precision>0,9"),
        lambda p: p.with_languages([]),
        lambda p: p.with_languages("en"),
        lambda p: p.with_languages([7]),
        lambda p: p.with_languages(allow_unknown="yes"),
    ],
)
def test_wrong_arguments_are_errors_of_ours(pipeline: DuplicatePipeline, call: Any) -> None:
    with pytest.raises(DupqError):
        call(pipeline)


def test_a_policy_may_be_a_text(pipeline: DuplicatePipeline) -> None:
    parsed = pipeline.with_policy(Policy.parse("recall>=0.5"))
    assert pipeline.with_policy("recall>=0.5").rule.duplicate.score == parsed.rule.duplicate.score
    named = DuplicatePipeline(WordScorer()).calibrate(TABLE, policy="recall>=0.5")
    assert named.rule.duplicate.policy == Policy.parse("recall>=0.5")
    assert MiningSettings() == MiningSettings()


# ---- the object ---------------------------------------------------------------------------------------------------


def test_a_pipeline_is_shown_in_one_line(pipeline: DuplicatePipeline, shipped: DuplicatePipeline) -> None:
    for one in (pipeline, shipped, DuplicatePipeline(WordScorer()), replace(pipeline, rule=None)):
        assert len(repr(one)) < 200
        assert "\n" not in repr(one)
    assert repr(shipped).startswith("DuplicatePipeline(cross-encoder onnx-int8; bi-encoder onnx-int8, 192 dimensions; ")
    assert shipped.base_rate is not None
    assert f"base rate {shipped.base_rate:.4g}, duplicate from {shipped.threshold:.4g}" in repr(shipped)
    assert repr(DuplicatePipeline(WordScorer())) == "DuplicatePipeline(cross-encoder words; uncalibrated)"


def test_equal_is_what_decides_alike(pipeline: DuplicatePipeline) -> None:
    again = made()
    assert pipeline == again
    assert hash(pipeline) == hash(again)
    assert len({pipeline, again}) == 1
    assert pipeline == replace(pipeline, evaluation=None, trained_on=None)
    others = [
        replace(pipeline, bi_encoder=None),
        replace(pipeline, blend=(0.5, 0.5, 0.0)),
        replace(pipeline, calibrator=None, rule=None),
        pipeline.with_base_rate(0.1),
        pipeline.with_policy("recall>=0.5"),
        pipeline.with_languages(["en", "de"]),
        pipeline.with_languages(allow_unknown=True),
        replace(pipeline, cross_encoder=WordScorer(fingerprint="another")),
    ]
    assert len({pipeline, *others}) == 1 + len(others)
    assert pipeline != "a pipeline"


def test_two_loads_of_one_model_are_equal(shipped: DuplicatePipeline) -> None:
    assert DuplicatePipeline.from_pretrained() == shipped


@pytest.mark.parametrize("which", ["pipeline", "shipped"])
def test_a_pickled_pipeline_scores_the_same(request: pytest.FixtureRequest, which: str) -> None:
    one: DuplicatePipeline = request.getfixturevalue(which)
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert again.score(*GOOD) == one.score(*GOOD)
    assert repr(again) == repr(one)


def test_a_pipeline_goes_to_another_process(shipped: DuplicatePipeline) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(shipped.score, *GOOD).result() == shipped.score(*GOOD)


def public() -> Iterator[tuple[str, Any]]:
    for name in dupq.__all__:
        value = getattr(dupq, name)
        if not callable(value):
            continue
        yield name, value
        for member, found in inspect.getmembers(value) if inspect.isclass(value) else []:
            function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
            if inspect.isfunction(function) and (not member.startswith("_") or member == "__init__"):
                yield f"{name}.{member}", function


@pytest.mark.parametrize(("name", "value"), list(public()))
def test_type_hints_can_be_read(name: str, value: Any) -> None:
    assert isinstance(typing.get_type_hints(value), dict), name
