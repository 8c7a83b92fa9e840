"""How a pipeline has its networks read, and what corrects their blend: fitted, saved, opened, exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupq import DuplicatePipeline
from dupq.data.splits import PairTable
from dupq.errors import InputError, ModelFolderError
from dupq.models.networks import with_long_texts, with_symmetry
from dupq.models.scorers import CosineScorer
from dupq.models.shared_words import SharedWords
from dupq.sharing.manifest import MANIFEST, checksum
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table
from tests.sharing.test_manifest import reseal

TABLE = labelled_table(96)
CORPUS = sorted({*TABLE.left, *TABLE.right})
LONG = "Which knot holds a boat at the pier? " * 6


@pytest.fixture(scope="module")
def corrected(tiny_cross_encoder: Path, tiny_bi_encoder: Path) -> DuplicatePipeline:
    """Both networks and shared words, whose weights are not fitted, and so large that each is seen in the score."""
    made = DuplicatePipeline.from_networks(tiny_cross_encoder, tiny_bi_encoder)
    return replace(made, blend=(2.0, 0.5, -3.0, 0.1), shared_words=SharedWords.of(CORPUS))


def labelled_by(scores: np.ndarray, seed: int = 0) -> PairTable:
    odds = 3 * (scores - scores.mean()) / scores.std()
    labels = np.random.default_rng(seed).random(len(TABLE)) < 1 / (1 + np.exp(-odds))
    return PairTable(TABLE.left, TABLE.right, labels.astype(np.int8))


def test_the_score_is_the_sum_of_three_members(corrected: DuplicatePipeline) -> None:
    assert None not in (corrected.cross_encoder, corrected.bi_encoder, corrected.shared_words)
    members = (
        with_symmetry(corrected.cross_encoder, "doubtful"),
        CosineScorer(with_long_texts(corrected.bi_encoder, "head")),
        corrected.shared_words,
    )
    cross, bi, words = (member.score(TABLE.left, TABLE.right) for member in members)
    scores = corrected.raw_scores(TABLE.left, TABLE.right)
    np.testing.assert_allclose(scores, 2 * cross + 0.5 * bi - 3 * words + 0.1, atol=1e-9)
    assert np.array_equal(scores, corrected.raw_scores(TABLE.right, TABLE.left))
    assert corrected.fingerprint != replace(corrected, blend=(2.0, 0.5, 0.1), shared_words=None).fingerprint


def test_the_folder_keeps_how_it_reads(corrected: DuplicatePipeline, tmp_path: Path) -> None:
    left, right = [*TABLE.left[:60], LONG], [*TABLE.right[:60], TABLE.left[0]]
    for number, pipeline in enumerate((corrected, corrected.with_readings("both", "whole"))):
        pipeline.save(tmp_path / str(number))
        again = DuplicatePipeline.from_pretrained(tmp_path / str(number))
        assert again.fingerprint == pipeline.fingerprint
        assert again.shared_words == pipeline.shared_words
        assert np.array_equal(again.raw_scores(left, right), pipeline.raw_scores(left, right))
    networks = json.loads((tmp_path / "1" / MANIFEST).read_text())["networks"]
    assert networks["cross-encoder"]["symmetry"] == "both"
    assert networks["bi-encoder"]["long_texts"] == "whole"


def test_a_folder_of_the_first_format_reads_as_it_did(corrected: DuplicatePipeline, tmp_path: Path) -> None:
    old = replace(corrected.with_readings("canonical", "whole"), blend=(2.0, 0.5, 0.1), shared_words=None)
    old.save(tmp_path / "old")
    content = json.loads((tmp_path / "old" / MANIFEST).read_text())
    content.pop("checksum")
    for network in content["networks"].values():
        network.pop("symmetry", None), network.pop("long_texts", None)
    content |= {"format": 1, "symmetry": "canonical order: the text that sorts first by code point is the first input"}
    (tmp_path / "old" / MANIFEST).write_text(json.dumps({**content, "checksum": checksum(content)}))
    again = DuplicatePipeline.from_pretrained(tmp_path / "old")
    assert again.fingerprint == old.fingerprint
    assert np.array_equal(again.raw_scores([LONG], TABLE.left[:1]), old.raw_scores([LONG], TABLE.left[:1]))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["networks"]["cross-encoder"].update(symmetry="backwards"),
        lambda content: content["networks"]["bi-encoder"].update(long_texts=["head"]),
        lambda content: content.update(blend=[1.0, 1.0, 0.0]),  # a weight is missing
        lambda content: content.update(blend=None),
        lambda content: content["files"].pop("shared_words.json"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(corrected: DuplicatePipeline, tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    corrected.save(tmp_path / "made")
    reseal(tmp_path / "made", change)
    with pytest.raises(ModelFolderError):
        DuplicatePipeline.from_pretrained(tmp_path / "made")


def test_an_export_and_its_return_read_as_the_original(corrected: DuplicatePipeline) -> None:
    corrected = corrected.with_readings("both", "whole")
    exported = corrected.export(TABLE)
    back = exported.dequantise()
    for pipeline in (exported, back):
        assert pipeline.shared_words == corrected.shared_words
        assert pipeline.blend == corrected.blend
        assert pipeline.cross_encoder.symmetry == "both"  # type: ignore[union-attr]
        assert pipeline.bi_encoder.long_texts == "whole"  # type: ignore[union-attr]


def test_networks_that_read_anew_are_uncalibrated(corrected: DuplicatePipeline) -> None:
    calibrated = corrected.calibrate(labelled_by(corrected.raw_scores(TABLE.left, TABLE.right)))
    anew = calibrated.with_readings(symmetry="canonical")
    assert anew.calibrator is None
    assert anew.rule is None
    assert anew.blend == calibrated.blend
    assert anew.fingerprint != calibrated.fingerprint
    for wrong in ({"symmetry": "backwards"}, {"long_texts": "tail"}):
        with pytest.raises(InputError, match="is not known"):
            corrected.with_readings(**wrong)


def test_shared_words_are_taken_where_the_pairs_support_them() -> None:
    """Labels that follow the networks less the shared words, and labels that follow the networks alone."""
    plain = DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder())
    scores, words = WordScorer().score(TABLE.left, TABLE.right), SharedWords.of(CORPUS).score(TABLE.left, TABLE.right)
    corrected = plain.with_blend(labelled_by(2 * scores / scores.std() - words / words.std()), CORPUS)
    assert corrected.shared_words == SharedWords.of(CORPUS)
    assert corrected.blend is not None
    assert corrected.blend[2] < 0 < corrected.blend[0]
    table = labelled_by(scores, seed=1)
    alone = plain.with_blend(table, CORPUS)
    assert alone.shared_words is None
    assert alone.blend == plain.with_blend(table).blend
    assert len(alone.blend or ()) == 3
    # What is no question tells nothing of words.
    said = PairTable([text + "." for text in TABLE.left], [text + "." for text in TABLE.right], table.labels)
    assert plain.with_blend(said, CORPUS).shared_words is None


def test_a_blend_of_a_wrong_length_is_told(corrected: DuplicatePipeline) -> None:
    with pytest.raises(InputError, match="takes 4 numbers, not 3"):
        replace(corrected, blend=(1.0, 1.0, 0.0))
    with pytest.raises(InputError, match="takes 3 numbers, not 4"):
        replace(corrected, shared_words=None)
    with pytest.raises(InputError, match="there is none"):
        replace(corrected, blend=None)


def test_a_cascade_knows_the_third_member() -> None:
    words = SharedWords.of(CORPUS)
    whole = DuplicatePipeline(WordScorer(), WordEmbedder(), blend=(1.0, 0.1, -1.0, 0.3), shared_words=words)
    table = labelled_by(whole.raw_scores(TABLE.left, TABLE.right))
    whole = whole.calibrate(table)
    fast = whole.with_cascade(table, share=0.98, most_lost=0.05)
    assert fast.cascade is not None
    assert fast.cascade.settled > 0
    scores, own = (pipeline.raw_scores(TABLE.left, TABLE.right) for pipeline in (whole, fast))
    asked = np.isclose(scores, own)
    assert asked.mean() >= 1 - fast.cascade.settled - 1e-9
    assert asked.any()
