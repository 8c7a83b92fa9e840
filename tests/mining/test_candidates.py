"""The candidate rule in mining: which pairs it selects, how it is fitted, and what overrides it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.data.pairs import PairTable
from dupq.data.text import fingerprints, normalise
from dupq.decisions.candidate_rule import CandidateRule
from dupq.errors import InputError, LeakError, ModelFolderError
from dupq.mining.candidate_fit import cheapest_rule, fit_candidate_rule
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.mining.results import MiningResult
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder
from tests.search.test_nearest import by_brute_force, with_ties
from tests.search.vectors import clustered

PARTNERS = (
    ("Dark mode?", "night theme for the app please"),
    ("How old are you?", "What is your age"),
    ("Where do I park my car", "Any garage nearby?"),
    ("My laptop won't boot", "Computer refuses to start up"),
    ("Cheap flights to Rome", "How can one travel by plane into Italy's capital at low cost?"),
)
"""Two questions each that ask the same without a common word."""
FLOOD = [f"When does the weekly thread number {number} open?" for number in range(9)]
TEXTS = [*(text for pair in PARTNERS for text in pair), *FLOOD]


@dataclass
class MeaningEmbedder:
    """Partners have a cosine of 0.6, the posts of `FLOOD` 0.99, and all others 0.1 at most."""

    dimensions: int = 40
    form: str = "meanings"
    fingerprint: str = "meaning-embedder"

    def embed(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimensions))
        for row, text in enumerate(texts):
            concept = next(at for at, pair in enumerate((*PARTNERS, FLOOD)) if text in pair)
            words = 6 + TEXTS.index(text)
            spread = 0.1 if text in FLOOD else np.sqrt(1 / 0.6 - 1)
            vectors[row, concept], vectors[row, words] = 1, spread
        vectors[:, -1] = 0.2
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def meaning(pipeline: DuplicatePipeline) -> DuplicatePipeline:
    return pipeline.with_embedder(MeaningEmbedder())


def pairs_of(result: MiningResult) -> set[frozenset[str]]:
    return {frozenset((row["question1"], row["question2"])) for row in result.rows(all_pairs=True)}


def flood() -> set[frozenset[str]]:
    return {frozenset(pair) for pair in combinations(FLOOD, 2)}


def test_partners_without_a_common_word_are_candidates_beside_all_near_copies(meaning: DuplicatePipeline) -> None:
    assert not any({*normalise(a).split()} & {*normalise(b).split()} for a, b in PARTNERS)
    assert pairs_of(find_duplicates(meaning, TEXTS)) == flood()
    ruled = meaning.with_candidate_rule(CandidateRule(1, 0.5))
    mined = find_duplicates(ruled, TEXTS)
    assert pairs_of(mined) == flood() | {frozenset(pair) for pair in PARTNERS}
    summary = mined.summary()
    assert (summary["neighbours"], summary["min_cosine"], summary["truncated"]) == (1, 0.5, False)
    assert "or from 0.5000 on among the 1 nearest of a question" in summary["search"]


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, (1, 0.5)),
        ({"neighbours": 3}, (3, 0.5)),
        ({"neighbours": 0}, (0, 0.8)),
        ({"min_cosine": 0.7}, (1, 0.7)),
        ({"neighbours": 0, "min_cosine": 0.3}, (0, 0.3)),
        ({"neighbours": 1000, "min_cosine": 0.01}, (1000, 0.01)),
    ],
)
def test_settings_override_the_rule(
    meaning: DuplicatePipeline, settings: dict[str, Any], rule: tuple[int, float]
) -> None:
    mined = find_duplicates(
        meaning.with_candidate_rule(CandidateRule(1, 0.5)), TEXTS, settings=MiningSettings(**settings)
    )
    assert (mined.search_guarantee.neighbours, mined.search_guarantee.threshold) == rule
    assert pairs_of(mined) == pairs_of(find_duplicates(meaning.with_candidate_rule(CandidateRule(*rule)), TEXTS))


def test_without_a_rule_neighbours_come_with_a_lower_cosine(meaning: DuplicatePipeline) -> None:
    assert CandidateRule().at(5) == CandidateRule(5, 0.4)
    mined = find_duplicates(meaning, TEXTS, settings=MiningSettings(neighbours=5))
    assert {frozenset(pair) for pair in PARTNERS} <= pairs_of(mined)


def test_a_new_collection_finds_its_neighbours_in_the_old_one(meaning: DuplicatePipeline) -> None:
    ruled = meaning.with_candidate_rule(CandidateRule(1, 0.5))
    (one, two), (three, four), (five, six), *_ = PARTNERS
    new, old = [one, three, four, FLOOD[0], FLOOD[1]], [two, five, six, four, three, *FLOOD[1:]]
    mined = find_duplicates(ruled, new, against=old, ids=[*range(5), *range(10, 10 + len(old))])
    found = {frozenset((row["question1"], row["question2"])) for row in mined.rows(all_pairs=True)}
    copies = {frozenset([text]) for text in (three, four, FLOOD[1])}
    # Five and six are near each other, and both are old; three and four are in both collections, and no copy of a
    # question takes the place of its neighbour.
    near = {pair for pair in flood() if pair & {*FLOOD[:2]}}
    assert found == copies | near | {frozenset((one, two)), frozenset((three, four))}
    assert len([row for row in mined.rows(all_pairs=True) if row["kind"] == "judged"]) == len(near) + 2


def test_a_budget_prefers_the_nearest_of_equally_uncertain_pairs(
    pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = WordEmbedder()
    texts = [f"question {a} about {b} and {c}" for a, b, c in combinations(range(8), 3)]
    monkeypatch.setattr(type(pipeline), "raw_scores", lambda self, left, right, progress=None: np.full(len(left), -9.0))
    ruled = replace(pipeline, bi_encoder=embedder, candidate_rule=CandidateRule(8, 0.3))
    mined = find_duplicates(ruled, texts, settings=MiningSettings(max_judged=100))
    guessed = np.flatnonzero(~mined.judged)
    sampled = {*np.linspace(0, len(mined.cosine) - 1, 20).astype(int).tolist()}
    assert {*np.flatnonzero(mined.judged).tolist()} - sampled < {*range(int(guessed[0]))} | sampled


def test_work_under_another_rule_is_not_resumed(meaning: DuplicatePipeline, tmp_path: Path) -> None:
    for rule in (CandidateRule(1, 0.5), CandidateRule(1, 0.7), CandidateRule(), CandidateRule(1, 0.5)):
        mined = find_duplicates(meaning.with_candidate_rule(rule), TEXTS, work=tmp_path)
        fresh = find_duplicates(meaning.with_candidate_rule(rule), TEXTS)
        assert pairs_of(mined) == pairs_of(fresh)
        assert mined.search_guarantee == fresh.search_guarantee


def test_the_search_by_cells_follows_the_rule(meaning: DuplicatePipeline) -> None:
    ruled = meaning.with_candidate_rule(CandidateRule(1, 0.5))
    distinct = len(find_duplicates(ruled, TEXTS).questions.first)
    mined = find_duplicates(ruled, TEXTS, settings=MiningSettings(approximate_above=distinct - 1))
    assert find_duplicates(ruled, TEXTS, settings=MiningSettings(approximate_above=distinct)).search_guarantee.exact
    assert not mined.search_guarantee.exact
    assert mined.summary()["recall_of_search"] == mined.search_guarantee.recall
    assert pairs_of(mined) == pairs_of(find_duplicates(ruled, TEXTS))


# ---- the fit ------------------------------------------------------------------------------------------------------


@given(
    n=st.integers(4, 24),
    seed=st.integers(0, 10**6),
    recall=st.sampled_from([0.1, 0.5, 0.75, 0.9, 1.0]),
    ties=st.booleans(),
)
def test_the_fit_is_the_cheapest_rule_of_all(n: int, seed: int, recall: float, ties: bool) -> None:
    vectors = with_ties(n, seed) if ties else clustered(n, 6, seed)
    draw = np.random.default_rng(seed)
    left, right = draw.integers(0, n, size=(2, 12))
    left, right = left[left != right], right[left != right]
    wanted = {(min(pair), max(pair)) for pair in zip(left.tolist(), right.tolist(), strict=True)}
    most = 5
    rules: list[tuple[int, int, float]] = []
    assume(wanted)
    for k in range(1, most + 1):
        # Only the cosines of the duplicates themselves can be the best.
        near = by_brute_force(vectors, None, k, 0.05, 0.8)
        cosines = {max(np.floor(1000 * near[pair]) / 1000, 0.05) for pair in wanted & {*near} if near[pair] < 0.8}
        for least in cosines | {0.8}:
            selected = {pair for pair, cosine in near.items() if cosine >= least}
            if len(selected & wanted) >= recall * len(wanted) - 1e-9:
                rules.append((len(selected), k if least < 0.8 else 0, least))
    if not rules:
        with pytest.raises(InputError, match="recall must be at most"):
            cheapest_rule(vectors, left, right, recall=recall, max_neighbours=most)
        return
    rule = cheapest_rule(vectors, left, right, recall=recall, max_neighbours=most)
    count, k, least = min(rules)
    assert (rule.neighbours, rule.min_cosine) == (k, least)
    assert rule.candidates == pytest.approx(count / n)
    assert (rule.duplicates, rule.questions) == (len(wanted), n)
    found = by_brute_force(vectors, None, k or 1, least, 0.8)
    assert rule.recall == pytest.approx(len(wanted & {*found}) / len(wanted))


def labelled(*pairs: tuple[str, str]) -> PairTable:
    left, right = ([pair[side] for pair in pairs] for side in (0, 1))
    return PairTable([*left, FLOOD[0]], [*right, TEXTS[0]], np.array([1] * len(pairs) + [0], np.int8))


def test_a_fitted_rule_finds_in_mining_what_it_states(meaning: DuplicatePipeline) -> None:
    rule = fit_candidate_rule(meaning, labelled(*PARTNERS), FLOOD, recall=1.0)
    assert (rule.neighbours, rule.recall, rule.duplicates, rule.questions) == (1, 1.0, 5, len(TEXTS))
    assert 0.55 < rule.min_cosine < 0.65
    mined = find_duplicates(meaning.with_candidate_rule(rule), TEXTS)
    assert {frozenset(pair) for pair in PARTNERS} <= pairs_of(mined)
    assert rule.candidates == pytest.approx(len(mined.left) / len(TEXTS))
    assert "100.0% of 5 duplicates among 19 questions" in str(rule)


def test_the_old_threshold_stays_where_it_is_enough(meaning: DuplicatePipeline) -> None:
    rule = fit_candidate_rule(meaning, labelled((FLOOD[0], FLOOD[1])), TEXTS)
    assert (rule.neighbours, rule.min_cosine, rule.recall) == (0, 0.8, 1.0)


def test_what_cannot_be_fitted_is_refused(meaning: DuplicatePipeline) -> None:
    with pytest.raises(InputError, match="a duplicate with two distinct texts"):
        fit_candidate_rule(meaning, labelled((FLOOD[0], f" {FLOOD[0]}")))
    with pytest.raises(InputError, match=r"recall must be at most 0.5, .* got 0.9"):
        fit_candidate_rule(meaning, labelled(PARTNERS[0], (PARTNERS[1][0], FLOOD[0])), max_neighbours=1)
    for options in ({"recall": 0}, {"recall": 1.1}, {"max_neighbours": 0}, {"max_neighbours": 2000}):
        with pytest.raises(InputError, match=f"{next(iter(options))} must be"):
            fit_candidate_rule(meaning, labelled(*PARTNERS), **options)  # type: ignore[arg-type]
    trained = replace(meaning, trained_on=np.sort(fingerprints([PARTNERS[0][0]])))
    with pytest.raises(LeakError):
        fit_candidate_rule(trained, labelled(*PARTNERS))


# ---- the record ---------------------------------------------------------------------------------------------------


@given(
    st.builds(
        CandidateRule,
        neighbours=st.integers(0, 1000),
        min_cosine=st.floats(1e-3, 1),
        near_cosine=st.floats(1e-3, 1),
        recall=st.none() | st.floats(0, 1),
        duplicates=st.integers(0, 9),
        candidates=st.none() | st.floats(0, 99),
    )
)
def test_a_rule_survives_json(rule: CandidateRule) -> None:
    assert CandidateRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


@pytest.mark.parametrize(
    "change", [{"neighbours": -1}, {"neighbours": 1.5}, {"min_cosine": 0}, {"recall": "all"}, {"extra": 1}]
)
def test_a_damaged_rule_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelFolderError, match="the candidate rule is damaged"):
        CandidateRule.from_dict({**CandidateRule(10, 0.4).to_dict(), **change})


def test_settings_out_of_range_are_refused(meaning: DuplicatePipeline) -> None:
    with pytest.raises(InputError, match="neighbours must be an integer between 0 and 1000, got 1001"):
        MiningSettings(neighbours=1001)
    with pytest.raises(InputError, match="rule must be of class CandidateRule"):
        meaning.with_candidate_rule((10, 0.4))  # type: ignore[arg-type]
