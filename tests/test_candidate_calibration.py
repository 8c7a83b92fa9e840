"""A pipeline that was calibrated on judged candidates: what mining and flagging take from it, and its folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dupq.data.pairs import PairTable
from dupq.data.text import fingerprints
from dupq.decisions.candidate_calibration import calibrate_candidates
from dupq.errors import InputError, LeakError, ModelFolderError, NotCalibratedError, NotEnoughLabelsError
from dupq.hub.inspect import format_summary, inspect_folder
from dupq.hub.manifest import MANIFEST, checksum
from dupq.index.question_index import QuestionIndex
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, THINGS
from tests.test_pipeline import TABLE, noisy, trained

__all__ = ["trained"]

TEXTS = [phrase.format(thing=thing) for thing in THINGS[:10] for asked in INTENTS for phrase in asked]
SETTINGS = MiningSettings(min_cosine=0.4)


def judged(seed: int = 0) -> tuple[PairTable, NDArray[np.float64]]:
    """Pairs of the table with far fewer duplicates than labelled ones at every score."""
    scores = WordScorer().score(TABLE.left, TABLE.right)
    odds = 2 * (scores - scores.mean()) / scores.std() - 1.5
    rng = np.random.default_rng(seed)
    labels = (rng.random(len(TABLE)) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    return PairTable(TABLE.left, TABLE.right, labels), rng.choice([1.0, 4.0], len(TABLE))


def cosines(pairs: PairTable) -> NDArray[np.float64]:
    left, right = (WordEmbedder().embed(list(side)).astype(np.float64) for side in (pairs.left, pairs.right))
    return np.asarray((left * right).sum(axis=1))


def of_score_alone(pipeline: DuplicatePipeline) -> DuplicatePipeline:
    """The pipeline with a calibration of candidates as earlier versions of dupq fitted it."""
    pairs, weights = judged()
    scores = pipeline.raw_scores(pairs.left, pairs.right)
    assert pipeline.calibrator is not None
    return replace(
        pipeline, candidate_calibration=calibrate_candidates(pipeline.calibrator, scores, pairs.labels, weights)
    )


@pytest.fixture(scope="module")
def plain() -> DuplicatePipeline:
    return DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder()).calibrate(noisy(TABLE))


@pytest.fixture(scope="module")
def fitted(plain: DuplicatePipeline) -> DuplicatePipeline:
    return plain.calibrate_candidates(*judged(), about="of a test forum")


def test_only_candidates_are_decided_otherwise(plain: DuplicatePipeline, fitted: DuplicatePipeline) -> None:
    left, right = TABLE.left[:50], TABLE.right[:50]
    assert fitted.score_pairs(left, right) == plain.score_pairs(left, right)
    assert (fitted.guarantee, fitted.base_rate, fitted.fingerprint) == (
        plain.guarantee,
        plain.base_rate,
        plain.fingerprint,
    )
    assert fitted != plain
    assert fitted.calibrated_on is plain.calibrated_on
    own = fitted.candidate_probabilities(left, right)
    assert own == pytest.approx(
        fitted.candidate_decider.probabilities(fitted.raw_scores(left, right), cosines(TABLE)[:50])
    )
    assert own.mean() < fitted.probabilities(left, right).mean()
    assert np.array_equal(plain.candidate_probabilities(left, right), plain.probabilities(left, right))
    assert plain.candidate_decider == plain.decider


def test_pairs_without_a_label_are_left_out(plain: DuplicatePipeline, fitted: DuplicatePipeline) -> None:
    pairs, weights = judged()
    unknown = PairTable(["one?"], ["two?"], np.array([-1], np.int8))
    more = PairTable(pairs.left + unknown.left, pairs.right + unknown.right, np.append(pairs.labels, unknown.labels))
    again = plain.calibrate_candidates(more, [*weights, 1000.0], about="of a test forum")
    inputs = [-2.0, 0, 2], [0.9, 0.5, 0.7]
    one, other = (pipeline.candidate_decider.probabilities(*inputs) for pipeline in (again, fitted))
    assert one == pytest.approx(other, abs=1e-4)
    assert again.candidate_decider.candidates is not None
    assert again.candidate_decider.candidates.pairs == len(pairs)


def test_mining_decides_and_states_by_the_judged_candidates(
    plain: DuplicatePipeline, fitted: DuplicatePipeline
) -> None:
    before, after = (find_duplicates(pipeline, TEXTS, settings=SETTINGS) for pipeline in (plain, fitted))
    assert np.array_equal(before.score, after.score)
    assert np.array_equal(after.probabilities, fitted.candidate_decider.probabilities(after.score, after.cosine))
    assert np.array_equal(before.probabilities, plain.candidate_decider.probabilities(before.score))
    flagged = after.codes == 2
    assert np.array_equal(flagged, after.probabilities >= fitted.candidate_decider.threshold)
    assert 0 < flagged.sum() < (before.codes == 2).sum()
    summary = after.summary()
    assert summary["expected"]["precision"] == pytest.approx(after.probabilities[flagged].mean())
    assert summary["expected"]["rests_on"] == after.rests_on
    duplicates = int(judged()[0].labels.sum())
    assert after.rests_on == f"{len(TABLE):,} judged candidates, {duplicates} of them duplicates: of a test forum"
    assert summary["judged_candidates"] == len(TABLE)
    assert "not on mined candidates" not in summary["guarantee"]
    assert "not verified on mined candidates" in before.summary()["expected"]["rests_on"]
    assert before.summary()["judged_candidates"] == 0
    rarer = find_duplicates(fitted, TEXTS, settings=replace(SETTINGS, base_rate=0.001))
    assert rarer.base_rate < after.base_rate
    assert (rarer.codes == 2).sum() < flagged.sum()


def test_a_budget_is_spent_by_the_candidates_probabilities(fitted: DuplicatePipeline) -> None:
    cheap = find_duplicates(fitted, TEXTS, settings=replace(SETTINGS, max_judged=200))
    assert cheap.judged.sum() == 200
    whole = find_duplicates(fitted, TEXTS, settings=SETTINGS)
    distance = np.abs(whole.probabilities - fitted.candidate_decider.threshold)
    assert distance[cheap.judged].mean() < distance.mean()
    # Estimates rise with the cosine (candidates come by falling cosine), and their scores give them back.
    guessed = cheap.probabilities[~cheap.judged]
    assert np.ptp(guessed) > 0
    assert (np.diff(guessed) <= 1e-6).all()


def test_flags_are_decided_by_the_judged_candidates(
    plain: DuplicatePipeline, fitted: DuplicatePipeline, tmp_path: Path
) -> None:
    with QuestionIndex(tmp_path / "forum.db", fitted) as index:
        index.add(range(len(TEXTS)), TEXTS)
        report = index.flag("How could I learn archery?", k=5)
        stored = index.flag_stored([3], k=5)
        assert [row.base_rate for row in index.decisions()] == [fitted.candidate_decider.base_rate] * 5
    found = [flag.text for flag in report.flags]
    own = fitted.candidate_probabilities(["How could I learn archery?"] * 5, found)
    assert [flag.probability for flag in report.flags] == pytest.approx(own)
    assert [str(flag.decision) == "duplicate" for flag in report.flags] == (
        own >= fitted.candidate_decider.threshold
    ).tolist()
    assert "judged candidates" in report.guarantee
    assert stored[0].decider == fitted.candidate_decider
    with QuestionIndex(tmp_path / "forum.db", plain) as index:
        assert "judged candidates" not in index.flag("How could I learn archery?").guarantee


def test_mining_and_flags_state_the_same_probability_of_a_pair(fitted: DuplicatePipeline, tmp_path: Path) -> None:
    """Vectors of the index are rounded to float16, so that its cosines are equal to three digits."""
    assert fitted.candidate_decider.calibrator.reads_cosines
    texts = list(dict.fromkeys(TEXTS))
    mined = find_duplicates(fitted, texts, settings=SETTINGS)
    of_pair = {frozenset((row["id1"], row["id2"])): row["probability"] for row in mined.rows(all_pairs=True)}
    with QuestionIndex(tmp_path / "forum.db", fitted) as index:
        index.add(range(len(texts)), texts)
        reports = index.flag_stored(range(0, len(texts), 7), k=4)
        new = index.flag_all(texts[::7], k=5)
    compared = 0
    for own, report, again in zip(range(0, len(texts), 7), reports, new, strict=True):
        stated = {flag.id: flag.probability for flag in again.flags}
        for flag in report.flags:
            if (pair := frozenset((own, flag.id))) in of_pair and not flag.copy:
                compared += 1
                assert flag.probability == pytest.approx(of_pair[pair], abs=2e-3)
                assert flag.probability == pytest.approx(stated.get(flag.id, flag.probability), abs=2e-3)
                alone = fitted.candidate_probabilities([texts[own]], [flag.text])[0]
                assert flag.probability == pytest.approx(alone, abs=2e-3)
    assert compared > 20


def test_a_report_is_decided_again_with_its_cosines(fitted: DuplicatePipeline, tmp_path: Path) -> None:
    with QuestionIndex(tmp_path / "forum.db", fitted) as index:
        index.add(range(len(TEXTS)), TEXTS)
        report = index.flag("How could I learn archery?", k=5)
    rarer = report.at(base_rate=0.001)
    for before, after in zip(report.flags, rarer.flags, strict=True):
        assert after.probability < before.probability
    scores, cosine = ([getattr(flag, name) for flag in rarer.flags] for name in ("score", "cosine"))
    assert [flag.probability for flag in rarer.flags] == rarer.decider.probabilities(scores, cosine).tolist()


def test_a_pipeline_of_one_network_reads_the_score_alone() -> None:
    for networks in ({"cross_encoder": WordScorer()}, {"bi_encoder": WordEmbedder()}):
        alone = DuplicatePipeline(**networks).calibrate(noisy(TABLE))  # type: ignore[arg-type]
        fitted = alone.calibrate_candidates(*judged())
        assert not fitted.candidate_decider.calibrator.reads_cosines
        left, right = TABLE.left[:9], TABLE.right[:9]
        scores = fitted.raw_scores(left, right)
        assert np.array_equal(
            fitted.candidate_probabilities(left, right), fitted.candidate_decider.probabilities(scores)
        )


def test_a_policy_holds_for_candidates_too(fitted: DuplicatePipeline) -> None:
    strict = fitted.with_policy("precision>=0.9", delta=0.5)
    assert strict.candidate_decider.threshold > fitted.candidate_decider.threshold
    assert "expected precision >= 0.9 among candidates" in strict.candidate_decider.guarantee
    assert fitted.with_base_rate(0.1).candidate_decider.base_rate == fitted.candidate_decider.base_rate
    own = fitted.candidate_decider.base_rate
    assert f"at a base rate of {own:.3g}, not of 0.011;" in fitted.candidate_decider.at(base_rate=0.011).guarantee
    assert "not of" not in fitted.candidate_decider.guarantee


def test_another_scorer_drops_them_and_the_same_one_keeps_them(fitted: DuplicatePipeline) -> None:
    assert fitted.calibrate(noisy(TABLE, 2)).candidate_calibration == fitted.candidate_calibration
    assert fitted.adapt(noisy(TABLE, 3)).candidate_calibration == fitted.candidate_calibration
    assert fitted.with_blend(TABLE).candidate_calibration is None
    assert fitted.with_cascade(noisy(TABLE), min_agreement=0.6, max_ap_loss=1).candidate_calibration is None


def test_verdicts_of_a_forum_refine_those_of_another(fitted: DuplicatePipeline) -> None:
    pairs, weights = judged(5)
    few = pairs.take(np.arange(len(pairs)) % 20 == 0)
    ours = fitted.calibrate_candidates(few, weights[::20], about="ours")
    assert ours.candidate_calibration is not None
    assert ours.candidate_calibration.pairs == len(few)
    assert ours.candidate_calibration.calibrator != fitted.candidate_decider.calibrator
    assert ours.calibrator == fitted.calibrator


# ---- the folder -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(trained: DuplicatePipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("candidates") / "pipeline"
    trained.calibrate_candidates(*judged(), policy="precision>=0.6", about="of a test forum").save(path)
    return path


def reseal(folder: Path, **changes: object) -> None:
    content = {**json.loads((folder / MANIFEST).read_text()), **changes}
    content = {key: value for key, value in content.items() if value != "left out" and key != "checksum"}
    (folder / MANIFEST).write_text(json.dumps({**content, "checksum": checksum(content)}))


def test_it_travels_in_the_folder(folder: Path, trained: DuplicatePipeline) -> None:
    opened = DuplicatePipeline.from_pretrained(folder)
    wanted = trained.calibrate_candidates(*judged(), policy="precision>=0.6", about="of a test forum")
    assert opened.candidate_calibration == wanted.candidate_calibration
    assert opened == wanted
    left, right = TABLE.left[:20], TABLE.right[:20]
    assert np.array_equal(opened.candidate_probabilities(left, right), wanted.candidate_probabilities(left, right))
    assert "judged        960 candidates" in format_summary(inspect_folder(folder))


def test_a_folder_without_it_opens_as_before(folder: Path, trained: DuplicatePipeline) -> None:
    written = (folder / MANIFEST).read_text()
    reseal(folder, candidate_calibration="left out")
    opened = DuplicatePipeline.from_pretrained(folder)
    assert opened.candidate_calibration is None
    assert opened == trained
    assert "\njudged" not in format_summary(inspect_folder(folder))
    (folder / MANIFEST).write_text(written)


def test_a_folder_on_the_score_alone_decides_as_before(trained: DuplicatePipeline, tmp_path: Path) -> None:
    old = of_score_alone(trained)
    old.save(tmp_path / "old")
    entry = json.loads((tmp_path / "old" / MANIFEST).read_text())["candidate_calibration"]
    assert entry["calibrator"]["kind"] == "adapted"
    assert "cosines" not in entry
    opened = DuplicatePipeline.from_pretrained(tmp_path / "old")
    assert opened == old
    left, right = TABLE.left[:20], TABLE.right[:20]
    scores = old.raw_scores(left, right)
    calibrator = old.candidate_decider.calibrator
    assert np.array_equal(opened.candidate_probabilities(left, right), calibrator.probabilities(scores))
    # Verdicts on top of it add the cosine, and stay near it while they are few.
    more = opened.calibrate_candidates(judged()[0].take(np.arange(0, 960, 24)))
    assert more.candidate_decider.calibrator.reads_cosines


def test_cosines_need_a_bi_encoder(fitted: DuplicatePipeline) -> None:
    with pytest.raises(InputError, match="reads cosines"):
        replace(fitted, bi_encoder=None)


@pytest.mark.parametrize("entry", [7, {"calibrator": {}}, {"policy": {"kind": "f1", "level": 0}}])
def test_damage_to_it_is_refused(folder: Path, entry: object) -> None:
    written = (folder / MANIFEST).read_text()
    reseal(folder, candidate_calibration=entry)
    with pytest.raises(ModelFolderError):
        DuplicatePipeline.from_pretrained(folder)
    (folder / MANIFEST).write_text(written)


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_what_cannot_serve_is_refused(plain: DuplicatePipeline) -> None:
    pairs, weights = judged()
    with pytest.raises(NotEnoughLabelsError):
        plain.calibrate_candidates(pairs.take(pairs.labels == 0))
    with pytest.raises(InputError, match="weights must have the shape"):
        plain.calibrate_candidates(pairs, weights[1:])
    with pytest.raises(InputError, match="about must be"):
        plain.calibrate_candidates(pairs, about=7)  # type: ignore[arg-type]
    with pytest.raises(NotCalibratedError):
        DuplicatePipeline(WordScorer()).calibrate_candidates(pairs)


def test_questions_of_the_training_are_refused_unless_allowed(plain: DuplicatePipeline) -> None:
    seen = replace(plain, trained_on=np.unique(fingerprints(TABLE.left[:1])))
    with pytest.raises(LeakError, match="calibrate candidates"):
        seen.calibrate_candidates(*judged())
    assert seen.calibrate_candidates(*judged(), allow_trained=True).candidate_calibration is not None
