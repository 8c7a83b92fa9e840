"""How a pipeline has its networks read, and what corrects their blend: fitted, saved, opened, exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupq import DuplicatePipeline
from dupq.data.pairs import PairTable
from dupq.errors import InputError, ModelFolderError
from dupq.hub.manifest import MANIFEST
from dupq.models.ensemble import CosineScorer
from dupq.models.idf_overlap import IdfOverlap
from dupq.models.scoring_options import with_long_texts, with_symmetry
from tests.fakes import WordEmbedder, WordScorer
from tests.hub.test_manifest import reseal
from tests.questions import labelled_table

TABLE = labelled_table(96)
CORPUS = sorted({*TABLE.left, *TABLE.right})
LONG = "Which knot holds a boat at the pier? " * 6


@pytest.fixture(scope="module")
def corrected(tiny_cross_encoder: Path, tiny_bi_encoder: Path) -> DuplicatePipeline:
    """Both networks and shared words, whose weights are not fitted, and so large that each is seen in the score."""
    made = DuplicatePipeline.from_networks(tiny_cross_encoder, tiny_bi_encoder)
    return replace(made, blend=(2.0, 0.5, -3.0, 0.1), idf_overlap=IdfOverlap.of(CORPUS))


def labelled_by(scores: np.ndarray, seed: int = 0) -> PairTable:
    odds = 3 * (scores - scores.mean()) / scores.std()
    labels = np.random.default_rng(seed).random(len(TABLE)) < 1 / (1 + np.exp(-odds))
    return PairTable(TABLE.left, TABLE.right, labels.astype(np.int8))


def test_the_score_is_the_sum_of_three_members(corrected: DuplicatePipeline) -> None:
    assert None not in (corrected.cross_encoder, corrected.bi_encoder, corrected.idf_overlap)
    members = (
        with_symmetry(corrected.cross_encoder, "adaptive"),
        CosineScorer(with_long_texts(corrected.bi_encoder, "lead")),
        corrected.idf_overlap,
    )
    cross, bi, words = (member.score(TABLE.left, TABLE.right) for member in members)
    scores = corrected.raw_scores(TABLE.left, TABLE.right)
    np.testing.assert_allclose(scores, 2 * cross + 0.5 * bi - 3 * words + 0.1, atol=1e-9)
    assert np.array_equal(scores, corrected.raw_scores(TABLE.right, TABLE.left))
    assert corrected.fingerprint != replace(corrected, blend=(2.0, 0.5, 0.1), idf_overlap=None).fingerprint


def test_the_folder_keeps_how_it_reads(corrected: DuplicatePipeline, tmp_path: Path) -> None:
    left, right = [*TABLE.left[:60], LONG], [*TABLE.right[:60], TABLE.left[0]]
    for number, pipeline in enumerate((corrected, corrected.with_options("both", "whole", "head_and_tail"))):
        pipeline.save(tmp_path / str(number))
        again = DuplicatePipeline.from_pretrained(tmp_path / str(number))
        assert again.fingerprint == pipeline.fingerprint
        assert again.idf_overlap == pipeline.idf_overlap
        assert np.array_equal(again.raw_scores(left, right), pipeline.raw_scores(left, right))
    networks = json.loads((tmp_path / "1" / MANIFEST).read_text())["networks"]
    assert networks["cross-encoder"]["symmetry"] == "both"
    assert networks["cross-encoder"]["long_pairs"] == "head_and_tail"
    assert networks["bi-encoder"]["long_texts"] == "whole"


def test_a_folder_without_the_option_reads_long_texts_whole(corrected: DuplicatePipeline, tmp_path: Path) -> None:
    corrected.save(tmp_path / "old")
    reseal(tmp_path / "old", lambda content: content["networks"]["cross-encoder"].pop("long_pairs"))
    again = DuplicatePipeline.from_pretrained(tmp_path / "old")
    assert again == corrected
    left, right = [LONG * 5], [TABLE.left[0]]
    assert np.array_equal(again.raw_scores(left, right), corrected.raw_scores(left, right))


@pytest.mark.parametrize("version", [1, 2])
def test_a_folder_of_an_older_format_is_refused_with_a_hint(
    corrected: DuplicatePipeline, tmp_path: Path, version: int
) -> None:
    corrected.save(tmp_path / "old")
    reseal(tmp_path / "old", lambda content: content.update(format=version))
    with pytest.raises(ModelFolderError, match=rf"of format {version}, and this dupq reads format 3") as caught:
        DuplicatePipeline.from_pretrained(tmp_path / "old")
    assert "with this dupq" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["networks"]["cross-encoder"].update(symmetry="backwards"),
        lambda content: content["networks"]["bi-encoder"].update(long_texts=["lead"]),
        lambda content: content["networks"]["cross-encoder"].update(long_pairs="tail"),
        lambda content: content.update(blend=[1.0, 1.0, 0.0]),  # a weight is missing
        lambda content: content.update(blend=None),
        lambda content: content["files"].pop("idf_overlap.json"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(corrected: DuplicatePipeline, tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    corrected.save(tmp_path / "made")
    reseal(tmp_path / "made", change)
    with pytest.raises(ModelFolderError):
        DuplicatePipeline.from_pretrained(tmp_path / "made")


def test_an_export_and_its_return_read_as_the_original(corrected: DuplicatePipeline) -> None:
    corrected = corrected.with_options("both", "whole", "head_and_tail")
    exported = corrected.export(TABLE)
    back = exported.to_torch()
    for pipeline in (exported, back):
        assert pipeline.idf_overlap == corrected.idf_overlap
        assert pipeline.blend == corrected.blend
        assert pipeline.cross_encoder.symmetry == "both"  # type: ignore[union-attr]
        assert pipeline.cross_encoder.long_pairs == "head_and_tail"  # type: ignore[union-attr]
        assert pipeline.bi_encoder.long_texts == "whole"  # type: ignore[union-attr]


def test_networks_that_read_anew_are_uncalibrated(corrected: DuplicatePipeline) -> None:
    calibrated = corrected.calibrate(labelled_by(corrected.raw_scores(TABLE.left, TABLE.right)))
    anew = calibrated.with_options(symmetry="canonical")
    assert anew.calibrator is None
    assert anew.rule is None
    assert anew.blend == calibrated.blend
    assert anew.fingerprint != calibrated.fingerprint
    partly = calibrated.with_options(long_pairs="head_and_tail")
    assert partly.with_options().cross_encoder == partly.cross_encoder  # it stays as it is
    assert partly.with_options(long_pairs="whole").fingerprint == calibrated.fingerprint
    for wrong in ({"symmetry": "backwards"}, {"long_texts": "tail"}, {"long_pairs": "tail"}):
        with pytest.raises(InputError, match="must be one of"):
            corrected.with_options(**wrong)


def test_shared_words_are_taken_where_the_pairs_support_them() -> None:
    """Labels that follow the networks less the shared words, and labels that follow the networks alone."""
    plain = DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder())
    scores, words = WordScorer().score(TABLE.left, TABLE.right), IdfOverlap.of(CORPUS).score(TABLE.left, TABLE.right)
    corrected = plain.with_blend(labelled_by(2 * scores / scores.std() - words / words.std()), CORPUS)
    assert corrected.idf_overlap == IdfOverlap.of(CORPUS)
    assert corrected.blend is not None
    assert corrected.blend[2] < 0 < corrected.blend[0]
    table = labelled_by(scores, seed=1)
    alone = plain.with_blend(table, CORPUS)
    assert alone.idf_overlap is None
    assert alone.blend == plain.with_blend(table).blend
    assert len(alone.blend or ()) == 3
    # What is no question tells nothing of words.
    said = PairTable([text + "." for text in TABLE.left], [text + "." for text in TABLE.right], table.labels)
    assert plain.with_blend(said, CORPUS).idf_overlap is None


def test_a_blend_of_a_wrong_length_is_told(corrected: DuplicatePipeline) -> None:
    with pytest.raises(InputError, match="takes 4 numbers, got 3"):
        replace(corrected, blend=(1.0, 1.0, 0.0))
    with pytest.raises(InputError, match="takes 3 numbers, got 4"):
        replace(corrected, idf_overlap=None)
    with pytest.raises(InputError, match="there is none"):
        replace(corrected, blend=None)


def test_a_cascade_knows_the_third_member() -> None:
    words = IdfOverlap.of(CORPUS)
    whole = DuplicatePipeline(WordScorer(), WordEmbedder(), blend=(1.0, 0.1, -1.0, 0.3), idf_overlap=words)
    table = labelled_by(whole.raw_scores(TABLE.left, TABLE.right))
    whole = whole.calibrate(table)
    fast = whole.with_cascade(table, min_agreement=0.98, max_ap_loss=0.05)
    assert fast.cascade is not None
    assert fast.cascade.settled > 0
    scores, own = (pipeline.raw_scores(TABLE.left, TABLE.right) for pipeline in (whole, fast))
    asked = np.isclose(scores, own)
    assert asked.mean() >= 1 - fast.cascade.settled - 1e-9
    assert asked.any()
