"""Pairs that a pipeline was calibrated on are not measured on, and what is not known of them is stated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupq import DuplicatePipeline
from dupq.data.pairs import PairTable
from dupq.data.text import fingerprints
from dupq.data.writing import write_rows
from dupq.errors import LeakError
from tests.cli.test_commands import model, run
from tests.fakes import WordEmbedder, WordScorer
from tests.test_pipeline import TABLE, noisy

__all__ = ["model"]

THIRD = len(TABLE) // 30 * 10  # a question group has ten pairs in a row
A, B, C = (noisy(TABLE.take(np.arange(len(TABLE)) // THIRD == part)) for part in range(3))


@pytest.fixture(scope="module")
def blended() -> DuplicatePipeline:
    """Blended on A, calibrated on B."""
    return DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder()).with_blend(A).calibrate(B)


def questions(*tables: PairTable) -> list[int]:
    return sorted(
        {*fingerprints([text for table in tables for side in (table.left, table.right) for text in side]).tolist()}
    )


def known(pipeline: DuplicatePipeline) -> list[int]:
    assert pipeline.calibrated_on is not None
    return pipeline.calibrated_on.tolist()


def turned(table: PairTable) -> PairTable:
    """The same questions in other pairs, turned round, written otherwise, with other labels."""
    right = [text.upper() + "?!" for text in table.right]
    return PairTable(right[::-1], table.left[::-1], 1 - table.labels[::-1])


@pytest.mark.parametrize("seen", [A, B, turned(A), turned(B)])
def test_what_the_blend_or_the_calibrator_saw_is_refused(blended: DuplicatePipeline, seen: PairTable) -> None:
    with pytest.raises(LeakError, match=rf"in {len(seen):,} of {len(seen):,} pairs \(first: pair 1\)") as caught:
        blended.evaluate(seen)
    assert f"{len(questions(seen)):,} questions of these pairs" in caught.value.message
    assert blended.evaluate(C).about["measured_on"].startswith("other pairs than those of its thresholds; not known")
    known_networks = replace(blended, trained_on=np.array([1, 2, 3]))
    assert known_networks.evaluate(C).about["measured_on"] == "pairs that nothing of it was fitted on"


def test_one_shared_question_is_enough_and_is_counted(blended: DuplicatePipeline) -> None:
    left = list(C.left)
    left[7] = B.right[3].lower()
    mixed = PairTable(left, C.right, C.labels)
    with pytest.raises(LeakError, match=rf"1 questions of these pairs, in 1 of {len(C)} pairs \(first: pair 8\)"):
        blended.evaluate(mixed)
    assert np.flatnonzero(blended.seen_pairs(mixed)).tolist() == [7]


def test_each_fit_adds_what_it_saw(blended: DuplicatePipeline) -> None:
    assert known(blended) == questions(A, B)
    assert known(blended.calibrate(C)) == questions(A, B, C)  # the blend stays
    assert known(blended.adapt(C)) == questions(A, B, C)
    assert known(blended.with_base_rate(0.2).with_policy("f1")) == questions(A, B)
    assert known(blended.with_blend(C)) == questions(C)  # and nothing else is fitted
    plain = DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder())
    assert known(plain.calibrate(A).calibrate(B)) == questions(B)  # nothing of the first fit stays
    assert known(plain.calibrate(A).with_cascade(B, min_agreement=0.8, max_ap_loss=0.2)) == questions(A, B)
    for pairs in (A, B):
        with pytest.raises(LeakError):
            plain.calibrate(A).with_cascade(B, min_agreement=0.8, max_ap_loss=0.2).evaluate(pairs)


def test_an_int8_form_remembers_the_pairs_its_ranges_were_taken_from(tiny_bi_encoder: Path, tmp_path: Path) -> None:
    pipeline = DuplicatePipeline.from_networks(bi_encoder=tiny_bi_encoder)
    scores = pipeline.raw_scores(TABLE.left, TABLE.right)
    labels = (scores + np.random.default_rng(0).normal(0, scores.std(), len(scores)) > np.median(scores)).astype(
        np.int8
    )
    table = PairTable(TABLE.left, TABLE.right, labels)
    first, second = (table.take(np.arange(len(table)) // THIRD == part) for part in (0, 1))
    exported = pipeline.calibrate(first, miss_rate=0.4, delta=0.11).export(first)
    assert known(exported) == questions(first)
    assert exported.rule is not None
    assert exported.rule.distinct is not None
    assert exported.rule.distinct.policy.delta == 0.11
    assert known(exported.calibrate(second)) == questions(first, second)
    exported.save(tmp_path / "int8")
    opened = DuplicatePipeline.from_pretrained(tmp_path / "int8")
    assert known(opened) == questions(first)
    with pytest.raises(LeakError):
        opened.evaluate(turned(first))
    assert exported.to_torch().calibrated_on is None


def test_a_pipeline_saved_without_them_knows_the_whole_set_alone(blended: DuplicatePipeline) -> None:
    old = replace(blended, calibrated_on=None, trained_on=np.array([1, 2, 3]))
    with pytest.raises(LeakError, match=f"these {len(B)} pairs are those that its thresholds were fitted on"):
        old.evaluate(B)
    order = np.random.default_rng(1).permutation(len(B))
    with pytest.raises(LeakError):
        old.evaluate(PairTable([B.right[i] for i in order], [B.left[i] for i in order], B.labels[order]))
    stated = "other pairs than those of its thresholds; not known: which questions it was calibrated on"
    assert old.evaluate(B.take(np.arange(len(B) - 1))).about["measured_on"] == stated
    assert old.evaluate(C).about["measured_on"] == stated
    # What is fitted on top of what is not known does not make that known.
    adapted = old.adapt(C)
    assert known(adapted) == questions(C)
    assert adapted.evaluate(A).about["measured_on"] == stated
    assert replace(old.with_blend(A), trained_on=np.array([1])).calibrate(B).evaluate(C).about["measured_on"] == (
        "pairs that nothing of it was fitted on"
    )


def written(path: Path, table: PairTable) -> Path:
    rows = (
        {"question1": a, "question2": b, "label": int(c)}
        for a, b, c in zip(table.left, table.right, table.labels, strict=True)
    )
    write_rows(path, rows, ["question1", "question2", "label"])
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_the_command_refuses_the_calibration_file_of_any_format(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, ending: str
) -> None:
    scores = DuplicatePipeline.from_pretrained(model).raw_scores(TABLE.left, TABLE.right)
    table = PairTable(TABLE.left, TABLE.right, (scores > np.median(scores)).astype(np.int8))
    table.labels[::7] = 1 - table.labels[::7]
    first = np.arange(len(table)) < len(table) // 20 * 10
    calibration = written(tmp_path / f"calibration.{ending}", table.take(first))
    pipe = tmp_path / "pipe"
    status, _, err = run(capsys, "calibrate", calibration, "--model", model, "-o", pipe)
    assert status == 0, err
    stated = "--policy", "f1", "--miss-rate", "0.5", "--delta", "0.2"
    status, out, err = run(capsys, "calibrate", calibration, "--model", model, "-o", tmp_path / "stated", *stated)
    assert status == 0, err
    assert "recall >= 0.5 with confidence 0.8" in out
    before = {path.name: path.read_bytes() for path in pipe.glob("*.json")}
    for options in ((), ("--attach",), ("-o", tmp_path / "report.json")):
        status, out, err = run(capsys, "evaluate", pipe, calibration, *options)
        assert (status, out) == (2, "")
        assert "are among those that its blend, calibrator or thresholds were fitted on" in err
    status, _, err = run(capsys, "evaluate", pipe, calibration, "--unseen")
    assert status == 2
    assert "every pair holds a question that the pipeline was trained or calibrated on" in err
    assert {path.name: path.read_bytes() for path in pipe.glob("*.json")} == before
    assert not (tmp_path / "report.json").exists()
    every = written(tmp_path / f"all.{ending}", table)
    status, out, err = run(capsys, "evaluate", pipe, every, "--unseen", "--json")
    assert status == 0, err
    assert f"left out {int(first.sum()):,} pairs" in err
    assert json.loads(out)["sample"]["pairs"] == int((~first).sum())


def test_the_folder_is_read_by_who_does_not_know_the_file(model: Path, tmp_path: Path) -> None:
    pipeline = DuplicatePipeline.from_pretrained(model)
    pipeline.save(tmp_path / "with")
    replace(pipeline, calibrated_on=None).save(tmp_path / "without")
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("with", "without")]
    assert names[0] - names[1] == {"calibration_questions.safetensors"}
    assert json.loads((tmp_path / "with" / "dupq.json").read_text())["format"] == 3
    assert DuplicatePipeline.from_pretrained(tmp_path / "without").calibrated_on is None
