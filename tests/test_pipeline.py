"""The pipeline: calibrated, deciding, saved and opened again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dupq import Decision, DuplicatePipeline
from dupq.data.pairs import PairTable
from dupq.data.text import fingerprints
from dupq.decisions.decision_rule import choose_rule
from dupq.decisions.thresholds import Policy
from dupq.errors import (
    InputError,
    LeakError,
    ModelFolderError,
    NotCalibratedError,
    NotEnoughLabelsError,
)
from dupq.models.cascade import MAX_AP_LOSS, fit_cascade
from dupq.models.ensemble import CosineScorer
from dupq.types import Progress
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

TABLE = labelled_table(96)


def noisy(table: PairTable, seed: int = 0) -> PairTable:
    """The same pairs with labels that are likelier 1 the more words they share."""
    scores = WordScorer().score(table.left, table.right)
    odds = 3 * (scores - scores.mean()) / scores.std()
    draw = np.random.default_rng(seed).random(len(table))
    return PairTable(table.left, table.right, (draw < 1 / (1 + np.exp(-odds))).astype(np.int8))


class SameEmbedder(WordEmbedder):
    """Every text is alike."""

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        return np.ones_like(super().embed(texts, progress))


@pytest.fixture(scope="module")
def calibrated() -> DuplicatePipeline:
    return DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder()).calibrate(noisy(TABLE))


@pytest.fixture(scope="module")
def trained(tiny_cross_encoder: Path, tiny_bi_encoder: Path) -> DuplicatePipeline:
    """Stock networks, untrained: what they say means nothing, and must yet survive the folder to the bit."""
    pipeline = DuplicatePipeline.from_networks(tiny_cross_encoder, tiny_bi_encoder)
    scores = pipeline.raw_scores(TABLE.left, TABLE.right)
    labels = np.random.default_rng(0).random(len(TABLE)) < 1 / (1 + np.exp(-(scores - scores.mean()) / scores.std()))
    return pipeline.calibrate(PairTable(TABLE.left, TABLE.right, labels.astype(np.int8)))


def test_probabilities_are_calibrated_and_symmetric(calibrated: DuplicatePipeline) -> None:
    fresh = noisy(TABLE, seed=1)
    probabilities = calibrated.probabilities(fresh.left, fresh.right)
    assert probabilities.dtype == np.float64
    assert probabilities.shape == (len(fresh),)
    assert abs(probabilities.mean() - fresh.base_rate) < 0.05
    assert np.array_equal(probabilities, calibrated.probabilities(fresh.right, fresh.left))


def test_results_keep_the_order_and_the_text(calibrated: DuplicatePipeline) -> None:
    left, right = ["  Who invented chess?", "Is GO hard\u00a0?"], ["who invented chess", "Why do cats purr?"]
    results = calibrated.score_pairs(left, right)
    assert [(result.question1, result.question2) for result in results] == list(zip(left, right, strict=True))
    assert [result.decision for result in results] == [Decision.DUPLICATE, Decision.DISTINCT]
    assert results[0] == calibrated.score(left[0], right[0])
    for result in results:
        assert (result.probability >= result.threshold) == (result.decision is Decision.DUPLICATE)
    assert calibrated.score_pairs([], []) == []


def test_another_base_rate_moves_probabilities_exactly(calibrated: DuplicatePipeline) -> None:
    rare = calibrated.with_base_rate(0.01)
    before, after = (p.probabilities(TABLE.left, TABLE.right) for p in (calibrated, rare))
    own = calibrated.calibrator.base_rate
    odds = before / (1 - before) * (0.01 / 0.99) / (own / (1 - own))
    assert np.allclose(after, odds / (1 + odds), atol=1e-12)
    assert rare.score("Who invented go?", "Who invented go?").base_rate == 0.01
    assert calibrated.base_rate == own
    for wrong in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match=r"base_rate must be a number in \(0, 1\)"):
            calibrated.with_base_rate(wrong)


def test_two_guarantees_make_three_answers() -> None:
    pipeline = DuplicatePipeline(cross_encoder=WordScorer()).calibrate(
        noisy(TABLE), policy=Policy.precision(0.7), miss_rate=0.1
    )
    decisions = {result.decision for result in pipeline.score_pairs(TABLE.left, TABLE.right)}
    assert decisions <= set(Decision)
    assert Decision.REVIEW in decisions
    assert "0.7" in pipeline.guarantee


def test_a_guarantee_that_the_labels_cannot_support_is_an_error() -> None:
    few = noisy(labelled_table(8))
    with pytest.raises(NotEnoughLabelsError) as told:
        DuplicatePipeline(cross_encoder=WordScorer()).calibrate(few, policy=Policy.precision(0.99))
    assert told.value.needed is None or told.value.needed > 0


def test_an_uncalibrated_pipeline_scores_and_refuses_to_decide() -> None:
    pipeline = DuplicatePipeline(cross_encoder=WordScorer())
    assert pipeline.raw_scores(["a b"], ["a b"]).shape == (1,)
    for refused in (
        lambda: pipeline.score("a", "b"),
        lambda: pipeline.probabilities(["a"], ["b"]),
        lambda: pipeline.report,
        lambda: pipeline.with_base_rate(0.1),
    ):
        with pytest.raises(NotCalibratedError, match="calibrat"):
            refused()


def test_no_network_no_pipeline() -> None:
    with pytest.raises(InputError, match="needs a cross-encoder or a bi-encoder"):
        DuplicatePipeline()
    with pytest.raises(InputError, match="both"):
        DuplicatePipeline(cross_encoder=WordScorer(), blend=(1.0, 1.0, 0.0))


@pytest.mark.parametrize("purpose", ["calibrate", "evaluate", "with_blend"])
def test_pairs_that_were_trained_on_are_refused(calibrated: DuplicatePipeline, purpose: str) -> None:
    from dataclasses import replace

    seen = replace(calibrated, trained_on=np.sort(fingerprints([TABLE.left[3].upper()])))
    with pytest.raises(LeakError, match="trained on"):
        getattr(seen, purpose)(TABLE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "missing"),
        (float("nan"), "missing"),
        ("", "blank"),
        (" \n\t", "blank"),
        ("\u200b", "blank"),
        (7, "must be a str, got int"),
        ("lone \ud800 surrogate", "not valid UTF-8"),
    ],
)
def test_a_bad_text_is_named(calibrated: DuplicatePipeline, text: object, said: str) -> None:
    with pytest.raises(InputError, match=rf"second question.*{said}"):
        calibrated.score("Who invented chess?", text)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"right text of pair 2.*{said}"):
        calibrated.score_pairs(["a", "b"], ["c", text])  # type: ignore[list-item]


def test_unequal_lengths_are_told(calibrated: DuplicatePipeline) -> None:
    with pytest.raises(InputError, match="must have the same length, got 1 and 2"):
        calibrated.score_pairs(["a"], ["b", "c"])


def test_report_says_what_was_measured(calibrated: DuplicatePipeline) -> None:
    report = replace(calibrated, calibrated_on=None).evaluate(noisy(TABLE, seed=2))
    assert "average precision" in str(report).lower().replace("_", " ")
    assert type(report).from_dict(report.to_dict()) == report


@pytest.mark.parametrize("blended", [False, True])
def test_the_folder_keeps_every_bit(trained: DuplicatePipeline, tmp_path: Path, blended: bool) -> None:
    from dataclasses import replace

    pipeline = replace(trained, blend=(0.7, 0.3, -0.1)) if blended else trained
    pipeline.save(tmp_path / "pipeline")
    again = DuplicatePipeline.from_pretrained(tmp_path / "pipeline")
    assert np.array_equal(again.probabilities(TABLE.left, TABLE.right), pipeline.probabilities(TABLE.left, TABLE.right))
    assert again.score_pairs(TABLE.left[:9], TABLE.right[:9]) == pipeline.score_pairs(TABLE.left[:9], TABLE.right[:9])
    assert again.fingerprint == pipeline.fingerprint
    assert again.guarantee == pipeline.guarantee
    assert again.report == pipeline.report


def labelled_as_scored(pipeline: DuplicatePipeline) -> PairTable:
    """Pairs whose labels mostly follow the pipeline's own scores."""
    table = noisy(TABLE)
    scores = pipeline.raw_scores(table.left, table.right)
    table.labels[:] = scores > np.median(scores)
    table.labels[::9] = 1 - table.labels[::9]
    return table


def test_an_export_on_the_same_pairs_stays_at_their_thresholds(trained: DuplicatePipeline) -> None:
    table = labelled_as_scored(trained)
    scores = trained.raw_scores(table.left, table.right)
    # Another threshold than the best one, so that staying and choosing anew differ.
    best = trained.calibrate(table)
    cut = next(cut for cut in best.rule.table.cuts if cut < best.rule.duplicate.score - scores.std() / 2)
    asked = replace(best, rule=replace(best.rule, duplicate=replace(best.rule.duplicate, score=cut)))
    exported = asked.export(table)
    assert exported.rule.duplicate.score == cut
    assert exported.rule.table.scorer_fingerprint == exported.fingerprint
    anew = asked.export(table.take(np.arange(len(table) - 1)))
    assert anew.rule.duplicate == choose_rule(anew.rule.table).duplicate
    assert anew.rule.duplicate.score > cut


def test_an_export_keeps_the_base_rate_it_was_moved_to(trained: DuplicatePipeline) -> None:
    table = labelled_as_scored(trained)
    exported = trained.calibrate(table).with_base_rate(0.01).export(table)
    assert exported.base_rate == 0.01
    assert exported.calibrator.base_rate == pytest.approx(table.base_rate)
    assert exported.rule.duplicate == choose_rule(exported.rule.table, base_rate=0.01).duplicate
    assert exported.rule.duplicate != choose_rule(exported.rule.table).duplicate


def cascaded(pipeline: DuplicatePipeline, share: float = 0.98) -> DuplicatePipeline:
    return pipeline.with_cascade(noisy(TABLE), min_agreement=share)


def test_a_cascade_keeps_decisions_and_has_a_calibrator_of_its_own() -> None:
    table = noisy(TABLE)
    whole = DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder()).calibrate(table, miss_rate=0.3)
    fast = cascaded(whole)
    assert fast.cascade.first == "bi-encoder"
    assert 0.05 < fast.cascade.settled < 1
    assert fast.fingerprint != whole.fingerprint
    codes = [one.rule.codes(one.raw_scores(table.left, table.right)) for one in (whole, fast)]
    assert np.mean(codes[0] == codes[1]) == pytest.approx(fast.cascade.agreement)
    assert fast.cascade.agreement >= 0.98
    assert fast.rule.table.scorer_fingerprint == fast.fingerprint
    assert fast.rule.table.cuts[:-1] == whole.rule.table.cuts[:-1]
    assert fast.report.about["scorer_fingerprint"] == fast.fingerprint
    assert fast.calibrator != whole.calibrator
    again = fast.with_cascade(table, min_agreement=0.98)
    assert again.cascade.settled == pytest.approx(fast.cascade.settled, abs=0.1)
    assert fast.with_blend(table).cascade is None


def test_a_cascade_loses_next_to_no_average_precision() -> None:
    from sklearn.metrics import average_precision_score

    table = noisy(TABLE)
    whole = DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder()).calibrate(table)
    fast = cascaded(whole, share=0.9)
    ranked = [average_precision_score(table.labels, one.raw_scores(table.left, table.right)) for one in (whole, fast)]
    assert ranked[0] - ranked[1] == pytest.approx(fast.cascade.ap_loss)
    assert fast.cascade.ap_loss <= fast.cascade.max_ap_loss == MAX_AP_LOSS
    # Settling both sides within the same share would have cost more.
    both = fit_cascade(
        *(one.score(table.left, table.right) for one in (CosineScorer(WordEmbedder()), WordScorer())),
        [whole.rule.duplicate.score],
        0.9,
    )
    scores = replace(whole, cascade=both).raw_scores(table.left, table.right)
    assert ranked[0] - average_precision_score(table.labels, scores) > MAX_AP_LOSS
    # Who allows a larger loss is given more speed.
    faster = whole.with_cascade(table, min_agreement=0.9, max_ap_loss=0.1).cascade
    assert faster.settled > fast.cascade.settled
    assert MAX_AP_LOSS < faster.ap_loss <= faster.max_ap_loss == 0.1


def test_a_blend_may_begin_with_either_network(trained: DuplicatePipeline, tmp_path: Path) -> None:
    table = noisy(TABLE)
    for first in ("bi-encoder", "cross-encoder"):
        whole = replace(trained, blend=(0.9, 0.0, 0.1) if first == "cross-encoder" else (0.0, 0.9, 0.1))
        scores = whole.raw_scores(table.left, table.right)
        table.labels[:] = scores > np.median(scores)
        table.labels[::7] = 1 - table.labels[::7]
        fast = whole.calibrate(table).with_cascade(table, min_agreement=0.98)
        assert fast.cascade.first == first
        fast.save(tmp_path / first)
        opened = DuplicatePipeline.from_pretrained(tmp_path / first)
        assert opened.cascade == fast.cascade
        assert opened.fingerprint == fast.fingerprint
        assert np.array_equal(opened.raw_scores(table.left, table.right), fast.raw_scores(table.left, table.right))


def test_what_makes_no_cascade_is_told(calibrated: DuplicatePipeline) -> None:
    table = noisy(TABLE)
    with pytest.raises(InputError, match="both networks"):
        cascaded(replace(calibrated, bi_encoder=None))
    with pytest.raises(NotCalibratedError, match="no fitted threshold"):
        cascaded(replace(calibrated, rule=None))
    with pytest.raises(InputError, match="fit the cascade first"):
        cascaded(calibrated.with_base_rate(0.1))
    with pytest.raises(InputError, match="needs at least"):
        cascaded(calibrated, share=1 - 1e-6)
    with pytest.raises(InputError, match="max_ap_loss must be a number in"):
        calibrated.with_cascade(table, max_ap_loss=-0.1)
    with pytest.raises(InputError, match=r"no cascade keeps 98\.00%"):
        cascaded(replace(calibrated, bi_encoder=SameEmbedder()))
    with pytest.raises(LeakError):
        cascaded(replace(calibrated, trained_on=fingerprints(table.left)))
    band = cascaded(calibrated).cascade
    with pytest.raises(InputError, match="both networks"):
        replace(calibrated, bi_encoder=None, cascade=band)
    with pytest.raises(InputError, match="needs a blend"):
        replace(calibrated, cascade=replace(band, first="cross-encoder"))


def test_saving_replaces_a_pipeline_and_nothing_else(trained: DuplicatePipeline, tmp_path: Path) -> None:
    trained.save(tmp_path / "pipeline")
    trained.with_base_rate(0.2).save(tmp_path / "pipeline")
    assert DuplicatePipeline.from_pretrained(tmp_path / "pipeline").base_rate == 0.2
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "today.txt").write_text("dear diary")
    with pytest.raises(OSError, match="no pipeline folder"):
        trained.save(tmp_path / "diary")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diary", "pipeline"]


@pytest.mark.parametrize("kind", ["tiny_cross_encoder", "tiny_bi_encoder"])
def test_a_stock_network_opens_uncalibrated(request: pytest.FixtureRequest, kind: str) -> None:
    pipeline = DuplicatePipeline.from_pretrained(request.getfixturevalue(kind))
    assert (pipeline.cross_encoder is None) == (kind == "tiny_bi_encoder")
    assert np.isfinite(pipeline.raw_scores(TABLE.left[:5], TABLE.right[:5])).all()
    with pytest.raises(NotCalibratedError):
        pipeline.score("a", "b")


def test_a_cut_file_is_refused_by_name(trained: DuplicatePipeline, tmp_path: Path) -> None:
    trained.save(tmp_path / "pipeline")
    weights = tmp_path / "pipeline" / "cross-encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match=r"model\.safetensors.*checksum"):
        DuplicatePipeline.from_pretrained(tmp_path / "pipeline")
    shutil.rmtree(tmp_path / "pipeline")
    with pytest.raises(ModelFolderError, match="no such folder"):
        DuplicatePipeline.from_pretrained(tmp_path / "pipeline")
