from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.errors import InputError, NotCalibratedError
from dupq.mining import checkpoint as work
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.mining.results import PAIR_COLUMNS, MiningResult
from dupq.pipeline import DuplicatePipeline
from dupq.types import Decision
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, THINGS

SETTINGS = MiningSettings(min_cosine=0.4)


def forum() -> list[str]:
    """180 distinct questions, and three that are there before, spelt otherwise."""
    texts = [phrase.format(thing=thing) for thing in THINGS[:10] for asked in INTENTS for phrase in asked]
    return [*texts, texts[0].upper(), f"  {texts[0]}", texts[7].rstrip("?")]


@pytest.fixture(scope="module")
def mined(pipeline: DuplicatePipeline) -> MiningResult:
    return find_duplicates(pipeline, forum(), settings=SETTINGS)


def pairs_of(result: MiningResult) -> dict[frozenset[Any], float]:
    return {frozenset((row["id1"], row["id2"])): row["probability"] for row in result.rows(all_pairs=True)}


def test_every_pair_near_enough_is_judged_by_the_pipeline(mined: MiningResult, pipeline: DuplicatePipeline) -> None:
    texts = forum()
    vectors = WordEmbedder().embed(texts).astype(np.float64)
    near = vectors[:180] @ vectors[:180].T
    wanted = {frozenset(pair) for pair in np.argwhere(near >= 0.4).tolist() if pair[0] != pair[1]}
    judged = [row for row in mined.rows(all_pairs=True) if row["kind"] == "judged"]
    # The text that stands for copies may be one of them.
    stands = {180: 0, 181: 0, 182: 7}
    assert {frozenset(stands.get(row[name], row[name]) for name in ("id1", "id2")) for row in judged} == wanted
    scores = pipeline.raw_scores([row["question1"] for row in judged], [row["question2"] for row in judged])
    assert [row["score"] for row in judged] == pytest.approx(scores)
    assert mined.search_guarantee.exact


def test_copies_are_found_by_hash_and_not_judged(mined: MiningResult) -> None:
    copies = {frozenset((row["id1"], row["id2"])) for row in mined.rows() if row["kind"] == "copy"}
    groups = [{0, 180, 181}, {7, 182}]
    assert all(any(pair <= group for group in groups) for pair in copies)
    assert len(copies) == 3
    assert all(row["decision"] == "duplicate" for row in mined.rows() if row["kind"] == "copy")


def test_probabilities_stay_as_calibrated_and_their_mean_is_the_base_rate(
    mined: MiningResult, pipeline: DuplicatePipeline
) -> None:
    assert pipeline.calibrator is not None
    assert pipeline.rule is not None
    probabilities = pipeline.calibrator.probabilities(mined.score)
    assert mined.probabilities == pytest.approx(probabilities)
    assert mined.codes.tolist() == pipeline.rule.codes(mined.score).tolist()
    assert mined.base_rate == pytest.approx(probabilities.mean())
    flagged = mined.codes == 2
    assert mined.expected["precision"] == pytest.approx(probabilities[flagged].mean())
    assert mined.expected["recall"] == pytest.approx(probabilities[flagged].sum() / probabilities.sum())


def test_a_base_rate_that_is_given_moves_probabilities_and_thresholds(
    mined: MiningResult, pipeline: DuplicatePipeline
) -> None:
    given = find_duplicates(pipeline, forum(), settings=replace(SETTINGS, base_rate=0.2))
    assert pipeline.calibrator is not None
    assert pipeline.rule is not None
    assert given.probabilities == pytest.approx(pipeline.calibrator.probabilities(given.score, 0.2))
    assert given.codes.tolist() == pipeline.rule.at_base_rate(0.2).codes(given.score).tolist()
    assert mined.at(base_rate=0.2).codes.tolist() == given.codes.tolist()


def test_the_order_of_the_questions_does_not_matter(mined: MiningResult, pipeline: DuplicatePipeline) -> None:
    ids = list(range(len(forum())))
    random.Random(5).shuffle(ids)
    shuffled = find_duplicates(pipeline, [forum()[id_] for id_ in ids], ids=ids, settings=SETTINGS)
    assert pairs_of(shuffled) == pairs_of(mined)
    assert shuffled.groups() == mined.groups()
    assert shuffled.summary() == mined.summary()


def test_a_threshold_by_hand_decides_without_computing(mined: MiningResult) -> None:
    strict, lax = mined.at(threshold=0.7), mined.at(threshold=0.3)
    assert (strict.codes == 2).sum() < (lax.codes == 2).sum()
    assert ((lax.probabilities >= 0.3) == (lax.codes == 2)).all()
    assert "nothing is guaranteed" in strict.decider.guarantee
    assert strict.score is mined.score
    with pytest.raises(InputError, match="threshold"):
        mined.at(threshold=1.2)


def test_groups_hold_copies_and_state_their_weakest_pair(mined: MiningResult) -> None:
    groups = mined.groups()
    assert groups
    seen: set[Any] = set()
    for group in groups:
        assert len(group.members) > 1
        assert group.representative == group.members[0]
        assert not seen & set(group.members)
        seen |= set(group.members)
    with_copies = next(group for group in groups if 180 in group.members)
    assert {0, 180, 181} <= set(with_copies.members)
    probability = pairs_of(mined)
    for group in groups:
        stand = {0: 181, 180: 181}  # spaces sort first, so 181 stands for its copies
        members = {stand.get(member, member) for member in group.members}
        known = [p for pair, p in probability.items() if pair <= members and len(pair) == 2]
        assert group.min_probability == pytest.approx(min(known))


def test_the_oldest_question_can_stand_for_a_group(pipeline: DuplicatePipeline) -> None:
    texts = [*forum()[:18], forum()[0].upper()]
    dates: list[str | None] = [f"2024-01-{20 - at:02}" for at in range(18)] + [None]
    result = find_duplicates(pipeline, texts, created=dates, settings=SETTINGS)
    for group in result.groups(representative="oldest"):
        aged = [member for member in group.members if member != 18]
        assert group.representative == max(aged, default=18)
    with pytest.raises(InputError, match="needs dates"):
        find_duplicates(pipeline, texts, settings=SETTINGS).groups(representative="oldest")


def test_new_questions_against_old_ones(pipeline: DuplicatePipeline, mined: MiningResult) -> None:
    texts = forum()
    # 90 to 99 are in both collections.
    new, old = texts[:100], texts[90:170]
    ids = [*range(100), *range(1000, 1080)]
    result = find_duplicates(pipeline, new, against=old, ids=ids, settings=replace(SETTINGS, base_rate=0.1))
    rows = list(result.rows(all_pairs=True))
    assert all(row["id1"] < 100 and row["id2"] >= 1000 for row in rows)
    copies = {(row["id1"], row["id2"]) for row in rows if row["kind"] == "copy"}
    assert copies == {(at, 1000 + at - 90) for at in range(90, 100)}
    whole = {frozenset((row["id1"], row["id2"])) for row in mined.rows(all_pairs=True) if row["kind"] == "judged"}
    wanted = {pair for pair in whole if min(pair) < 100 and 90 <= max(pair) < 170}
    # Text 0 has copies further on in the whole forum, where another of them stands for it.
    found = {frozenset((row["id1"], row["id2"] - 1000 + 90)) for row in rows if row["kind"] == "judged"}
    assert {pair for pair in found if not pair & {0, 7}} == {pair for pair in wanted if not pair & {0, 7}}


@pytest.mark.parametrize("neighbours", [0, 5])
@pytest.mark.parametrize("above", [5, 2_000_000])
def test_texts_of_both_collections_take_no_place_of_other_pairs(
    pipeline: DuplicatePipeline, neighbours: int, above: int
) -> None:
    texts = [f"{word}{at} {word}a {word}b?" for word in "abcdefghij" for at in range(2)]
    wanted = MiningSettings(min_cosine=0.6, max_pairs=10, approximate_above=above, neighbours=neighbours)
    ids = range(2 * len(texts))
    result = find_duplicates(pipeline, texts, against=[*texts], ids=ids, settings=wanted)
    pairs = {frozenset((row["question1"], row["question2"])) for row in result.rows(all_pairs=True)}
    assert {pair for pair in pairs if len(pair) == 2} == {frozenset(texts[at : at + 2]) for at in range(0, 20, 2)}
    assert (len(result.left), result.search_guarantee.truncated, result.search_guarantee.dropped) == (10, False, 0)


def test_a_budget_is_spent_at_the_threshold_of_the_settings(pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    settings = MiningSettings(min_cosine=0.2, max_judged=150)
    low = find_duplicates(pipeline, forum(), settings=settings, work=tmp_path)
    strict = replace(settings, threshold=0.9)
    high = find_duplicates(pipeline, forum(), settings=strict)
    assert high.decider == low.at(threshold=0.9).decider
    near = np.abs(high.probabilities - 0.9)
    assert not np.array_equal(high.judged, low.judged)
    assert np.median(near[high.judged]) < np.median(near[low.judged])
    # The candidates of one work folder serve both, and the scores do not mix.
    told: list[str] = []
    again = find_duplicates(
        pipeline, forum(), settings=strict, work=tmp_path, progress=lambda stage, *_: told.append(stage)
    )
    assert "searching" not in told
    assert again.score.tolist() == high.score.tolist()
    assert again.judged.tolist() == high.judged.tolist()


def test_each_group_of_two_collections_holds_a_new_question(pipeline: DuplicatePipeline) -> None:
    new, thing = "How do I bake bread?", "How do I learn to play the guitar quickly at home"
    copies = [thing, thing.upper(), f"{thing}?"]
    alone = find_duplicates(pipeline, [new], against=copies, ids=["n", "o1", "o2", "o3"], settings=SETTINGS)
    assert (len(alone.left), alone.groups()) == (0, [])
    copied = find_duplicates(pipeline, [new, f"{thing} "], against=copies, settings=SETTINGS)
    assert [set(group.members) for group in copied.groups()] == [{1, 2, 3, 4}]


@pytest.mark.parametrize("linkage", ["average", "complete", "connected"])
def test_old_questions_join_by_a_new_one(pipeline: DuplicatePipeline, linkage: Any) -> None:
    new = "How can I learn to play the guitar?"
    old = [f"{new[:-1]} {word}?" for word in ("quickly", "cheaply", "alone")]
    result = find_duplicates(pipeline, [new], against=old, ids=["n", "o1", "o2", "o3"], settings=SETTINGS)
    assert len(result.left) == 3
    lowest = float(result.probabilities.min())
    groups = result.at(threshold=lowest).groups(linkage=linkage)
    assert [sorted(group.members) for group in groups] == [["n", "o1", "o2", "o3"]]


@pytest.mark.parametrize("stage", ["embedding", "searching", "judging"])
def test_an_interrupted_run_goes_on_where_it_was(
    pipeline: DuplicatePipeline, mined: MiningResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(work, "PART", 100)

    def stop(at: str, done: int, total: int) -> None:
        if at == stage and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_duplicates(pipeline, forum(), settings=SETTINGS, work=tmp_path, progress=stop)
    told: list[tuple[str, int]] = []
    again = find_duplicates(
        pipeline, forum(), settings=SETTINGS, work=tmp_path, progress=lambda at, done, _: told.append((at, done))
    )
    assert pairs_of(again) == pairs_of(mined)
    assert again.search_guarantee == mined.search_guarantee
    first = dict(reversed(told))
    if stage != "embedding":
        assert "embedding" not in first
    if stage == "judging":
        assert "searching" not in first
        assert first["judging"] > len(mined.left) // 3


@pytest.mark.parametrize("limit", [None, 150])
def test_progress_rises_to_the_whole_of_each_stage(
    pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    plain = WordScorer.score

    def in_two_steps(self: WordScorer, left: Any, right: Any, progress: Any = None) -> Any:
        """Counts in steps of its own: twice as many as there are pairs."""
        for done in range(2 * len(left) + 1 if progress else 0):
            progress(done, 2 * len(left))
        return plain(self, left, right)

    monkeypatch.setattr(WordScorer, "score", in_two_steps)
    monkeypatch.setattr(work, "PART", 100)
    told: dict[str, list[tuple[int, int]]] = {}
    settings = replace(SETTINGS, max_judged=limit)
    find_duplicates(
        pipeline,
        forum(),
        settings=settings,
        progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total)),
    )
    assert [*told] == ["reading", "embedding", "searching", "judging"]
    for stage, steps in told.items():
        done, totals = zip(*steps, strict=True)
        assert list(done) == sorted(done), stage
        assert set(totals) == {done[-1]}, stage
    assert limit is None or told["judging"][-1] == (limit, limit)


def test_templates_are_named_and_can_be_folded(pipeline: DuplicatePipeline) -> None:
    towns = ["Aachen", "Bern", "Cork", "Delft", "Evora", "Faro", "Ghent", "Hull"]
    flood = [f"What is the weather in the town of {town} like today?" for town in towns]
    result = find_duplicates(pipeline, [*flood, *forum()[:18]], settings=replace(SETTINGS, base_rate=0.3)).at(
        threshold=0.2
    )
    (template,) = result.templates()
    assert template.pattern == "what is the weather in the town of … like today"
    assert template.pairs == 28
    assert template.share == pytest.approx(28 / (result.codes == 2).sum())
    folded = result.fold()
    assert folded.folded == (template,)
    assert folded.templates() == []
    assert len(folded.left) == len(result.left) - 28
    assert not any({row["question1"], row["question2"]} <= set(flood) for row in folded.rows())


def test_rows_and_summary_are_plain_data(mined: MiningResult) -> None:
    groups = mined.groups()
    rows = list(mined.rows(groups))
    assert all(list(row) == PAIR_COLUMNS for row in rows)
    assert [row["probability"] for row in rows] == sorted((row["probability"] for row in rows), reverse=True)
    json.dumps([rows, mined.summary()], allow_nan=False)
    of = {id_: number for number, group in enumerate(groups, 1) for id_ in group.members}
    for row in rows:
        assert row["group"] == (of.get(row["id1"]) if of.get(row["id1"]) == of.get(row["id2"]) else None)
        assert row["representative"] == (None if row["group"] is None else groups[row["group"] - 1].representative)
        assert row["decision"] in (Decision.DUPLICATE, Decision.REVIEW)


def test_no_questions_and_no_pairs_are_no_error(pipeline: DuplicatePipeline) -> None:
    for texts in ([], ["Who invented chess?"]):
        result = find_duplicates(pipeline, texts)
        assert list(result.rows()) == []
        assert result.groups() == []
        assert result.summary()["judged"] == 0


@pytest.mark.parametrize(
    ("texts", "arguments", "told"),
    [
        (["Who invented chess?", " "], {}, "questions, text 2"),
        (["Who invented chess?"], {"against": ["Why?", None]}, "against, text 2"),
        ("Who invented chess?", {}, "one str"),
        (["Why?", "How?"], {"ids": [1, 1]}, "ids must be unique, got 1 for questions 1 and 2"),
        (["Why?", "How?"], {"ids": [1]}, "ids must have one value for each of 2 questions, got 1"),
    ],
)
def test_bad_input_is_one_clear_error(
    pipeline: DuplicatePipeline, texts: Any, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        find_duplicates(pipeline, texts, **arguments)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"min_cosine": 0.0}, "cosine"),
        ({"max_pairs": 0}, "max_pairs must be an integer of at least 1"),
        ({"threshold": 1.2}, "threshold must be a probability"),
        ({"max_judged": 99}, "max_judged must be an integer of at least 100, got 99"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        MiningSettings(**settings)


def test_another_word_is_no_copy(pipeline: DuplicatePipeline) -> None:
    texts = ["Is C++ hard?", "Is C# hard?", "is c ++ hard", "Is C hard?", "What is .NET?", "What is net?"]
    result = find_duplicates(pipeline, texts, settings=SETTINGS)
    assert [(row["id1"], row["id2"]) for row in result.rows() if row["kind"] == "copy"] == [(0, 2)]


def test_a_pipeline_that_cannot_decide_is_refused_before_the_work() -> None:
    def never(*_: Any) -> None:
        raise AssertionError("work was begun")

    bare = DuplicatePipeline(WordScorer(), WordEmbedder())
    with pytest.raises(NotCalibratedError):
        find_duplicates(bare, forum(), progress=never)
    with pytest.raises(InputError, match="bi-encoder"):
        find_duplicates(DuplicatePipeline(WordScorer()), forum(), progress=never)


def test_a_blend_does_not_embed_twice(pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    seen: list[str] = []

    class Watched(WordEmbedder):
        def embed(self, texts: Any, progress: Any = None) -> Any:
            seen.extend(texts)
            return super().embed(texts, progress)

    blended = replace(pipeline, bi_encoder=Watched(), blend=(0.5, 0.5, 0.1))
    result = find_duplicates(blended, forum(), settings=replace(SETTINGS, base_rate=0.2))
    assert sorted(seen) == sorted(set(seen))
    rows = [row for row in result.rows(all_pairs=True) if row["kind"] == "judged"]
    plain = blended.raw_scores([row["question1"] for row in rows], [row["question2"] for row in rows])
    assert [row["score"] for row in rows] == pytest.approx(plain, abs=1e-5)
    in_folder = find_duplicates(blended, forum(), settings=replace(SETTINGS, base_rate=0.2), work=tmp_path)
    assert in_folder.score == pytest.approx(result.score, abs=1e-5)
