"""What is no text, table, rule or path is refused by name, wherever it is given: cases that random inputs found."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.fuzz.world import noisy
from dupq import (
    DuplicatePipeline,
    MiningSettings,
    Policy,
    QuestionIndex,
    TrainSettings,
    leak_report,
    load_pairs,
    read_pairs,
    split_file,
    train,
)
from dupq.calibration.calibrators import fit_calibrator
from dupq.calibration.prior_shift import adjust_prior, estimate_base_rate
from dupq.data.arguments import as_choice, as_path
from dupq.data.dates import check_date_format, parse_date
from dupq.data.grouping import question_groups
from dupq.data.pairs import PairTable
from dupq.data.questions import read_questions
from dupq.data.reading import Columns
from dupq.data.text import check_text
from dupq.decisions.drift import DriftMonitor
from dupq.decisions.threshold_table import ThresholdTable, build_threshold_table
from dupq.decisions.thresholds import choose_threshold
from dupq.errors import DupqError, InputError
from dupq.evaluation.contrast_slices import contrast_rows
from dupq.evaluation.metrics import compute_metrics, reliability
from dupq.explain.explanation import explain
from dupq.mining.find_duplicates import find_duplicates
from dupq.models.loading import INT8, STOCK, check_running
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

TABLE = noisy(labelled_table())
SCORES = list(np.linspace(-2, 2, 60))
LABELS = [0, 1] * 30
FRAME = pd.DataFrame({"a": [1]})


@pytest.fixture(scope="module")
def pipeline() -> DuplicatePipeline:
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(TABLE)


def table(pipeline: DuplicatePipeline) -> ThresholdTable:
    rule = pipeline.rule
    assert rule is not None
    assert rule.table is not None
    return rule.table


Call = Callable[[DuplicatePipeline, Path], Any]
CALLS: dict[str, Call] = {
    "calibrate on tuples": lambda p, _: p.calibrate((TABLE.left, TABLE.right)),  # type: ignore[arg-type]
    "evaluate on dicts": lambda p, _: p.evaluate([{"q1": "a", "q2": "b"}]),  # type: ignore[arg-type]
    "adapt on a frame": lambda p, _: p.adapt(FRAME),  # type: ignore[arg-type]
    "cascade of no pairs": lambda p, _: p.with_cascade(TABLE.take(np.arange(0))),
    "blend of no pairs": lambda p, _: p.with_blend(TABLE.take(np.arange(0))),
    "a table of unequal columns": lambda p, _: p.adapt(PairTable(TABLE.left, TABLE.right[1:], TABLE.labels)),
    "a table with a bad text": lambda p, _: p.adapt(PairTable(["a", None], ["b", "c"], np.ones(2, np.int8))),  # type: ignore[list-item]
    "pairs that are str": lambda p, _: PairTable.from_pairs(["a", "b"]),  # type: ignore[list-item]
    "readings as an array": lambda p, _: p.with_options(np.array(["both"])),  # type: ignore[arg-type]
    "a text that is a list": lambda p, _: p.text_warnings([["a"]]),  # type: ignore[list-item]
    "on_error as a frame": lambda p, _: p.score_pairs(["a"], ["b"], on_error=FRAME),  # type: ignore[arg-type]
    "a corpus of dicts": lambda p, _: p.with_blend(TABLE, [{}]),  # type: ignore[list-item]
    "a judge that is none": lambda p, _: find_duplicates({}, ["a", "b"]),  # type: ignore[arg-type]
    "columns that are no names": lambda p, _: find_duplicates(p, FRAME, text_columns=[1]),
    "groups that are none": lambda p, _: list(find_duplicates(p, ["a b", "a b"]).rows(1.5)),  # type: ignore[arg-type]
    "a folder that is no path": lambda p, _: p.save(7),  # type: ignore[arg-type]
    "a folder with a NUL": lambda p, f: p.save(f / "a\0b"),
    "an index of a long name": lambda p, f: QuestionIndex(f / ("a" * 300), p),
    "a source that is a date": lambda p, _: list(read_pairs(date(2020, 1, 1))),  # type: ignore[arg-type]
    "a report that is a range": lambda p, _: list(read_pairs([{}], report=range(3))),  # type: ignore[arg-type]
    "columns as a tuple": lambda p, _: list(read_pairs([{}], columns=("a", "b"))),  # type: ignore[arg-type]
    "a column that is a frame": lambda p, _: Columns(FRAME, "b"),  # type: ignore[arg-type]
    "labelled as a Series": lambda p, _: load_pairs([{}], labelled=FRAME["a"]),  # type: ignore[arg-type]
    "an id type as an array": lambda p, f: list(read_questions(f, id_type=np.array(["auto"]))),  # type: ignore[arg-type]
    "split into a list": lambda p, _: split_file([{}], []),  # type: ignore[list-item, arg-type]
    "settings that are none": lambda p, f: split_file([{}], f, [1]),  # type: ignore[list-item, arg-type]
    "groups of numbers": lambda p, _: question_groups([1, 2], ["a", "b"]),  # type: ignore[list-item]
    "leaks of one column": lambda p, _: leak_report(["a"], ["b"]),  # type: ignore[arg-type]
    "a date format that is a number": lambda p, _: parse_date("2020-01-01", 7),  # type: ignore[arg-type]
    "a date format that is a Series": lambda p, _: check_date_format(FRAME["a"]),  # type: ignore[arg-type]
    "a span for an id": lambda p, f: QuestionIndex(f / "db", p).add([np.timedelta64(3, "s")], ["a"]),  # type: ignore[list-item]
    "groups of several parts": lambda p, _: reliability([0.5] * 2, [0, 1], [[1], [1, 2]]),
    "restart as an array": lambda p, f: train("bi-encoder", TABLE, f, TrainSettings("b"), restart=FRAME["a"]),  # type: ignore[arg-type]
    "pairs of no dimension": lambda p, _: list(p.score_iter(np.array(3))),  # type: ignore[arg-type]
    "a seed that is a span": lambda p, _: build_threshold_table(SCORES, LABELS, seed=np.timedelta64(3, "s")),  # type: ignore[arg-type]
    "a rate that is a span": lambda p, _: p.with_base_rate(np.timedelta64(1, "s")),  # type: ignore[arg-type]
    "a count that is a Series": lambda p, _: MiningSettings(max_pairs=FRAME["a"]),  # type: ignore[arg-type]
    "a count that is a span": lambda p, _: MiningSettings(max_pairs=np.timedelta64(3, "s")),  # type: ignore[arg-type]
    "a kind as an array": lambda p, _: Policy(FRAME["a"]),  # type: ignore[arg-type]
    "bins without end": lambda p, _: compute_metrics(SCORES, [0.5] * 60, LABELS, None, None, bins=2**63 - 1),
    "resamples without end": lambda p, _: compute_metrics(SCORES, [0.5] * 60, LABELS, None, None, resamples=2**63 - 1),
    "fresh as an array": lambda p, f: find_duplicates(p, ["a", "b"], work=f / "w", fresh=np.ones(2)),  # type: ignore[arg-type]
    "a successor as an array": lambda p, f: QuestionIndex(f / "db", p, successor=np.ones(2)),  # type: ignore[arg-type]
    "labels of no dimension": lambda p, _: contrast_rows(["a"], ["b"], np.float64(1), [1]),  # type: ignore[arg-type]
    "a place as a Series": lambda p, _: parse_date(12, location=FRAME["a"]),  # type: ignore[arg-type]
    "a place of a text as a Series": lambda p, _: check_text(" ", FRAME["a"]),  # type: ignore[arg-type]
    "rows of no dimension": lambda p, _: list(read_pairs(np.array(3))),
    "rows whose columns are numbers": lambda p, _: list(read_pairs([{1: "a", 2: "b"}])),  # type: ignore[dict-item]
    "labels of unequal shape": lambda p, _: p.adapt(PairTable(["a"] * 2, ["b"] * 2, [[1], [1, 2]])),  # type: ignore[arg-type]
    "training on a tuple": lambda p, f: train("bi-encoder", (1, 2), f, TrainSettings("base")),  # type: ignore[arg-type]
    "a method as a list": lambda p, f: train("bi-encoder", TABLE, f, TrainSettings("base"), method=[]),  # type: ignore[arg-type]
    "soft labels as a date": lambda p, f: train(
        "bi-encoder", TABLE, f, TrainSettings("b"), soft_labels=date(2020, 1, 1)
    ),  # type: ignore[arg-type]
    "a span for a date": lambda p, _: parse_date(np.timedelta64(3, "s")),
    "scores that are dicts": lambda p, _: fit_calibrator([{}] * 60, LABELS),  # type: ignore[list-item]
    "scores of unequal lengths": lambda p, _: fit_calibrator([[1.0], [1.0, 2.0]], [0, 1]),
    "a score beyond floats": lambda p, _: fit_calibrator([10**400, *SCORES[1:]], LABELS),
    "folds of none": lambda p, _: fit_calibrator(SCORES, LABELS, folds=0),
    "a seed that is a float": lambda p, _: build_threshold_table(SCORES, LABELS, seed=0.0),  # type: ignore[arg-type]
    "a date that is a Series": lambda p, _: build_threshold_table(SCORES, LABELS, date=FRAME["a"]),  # type: ignore[arg-type]
    "groups of two types": lambda p, _: reliability([0.5] * 2, [0, 1], np.array([1, "a"], dtype=object)),
    "bins that are a list": lambda p, _: compute_metrics(SCORES, [0.5] * 60, LABELS, None, None, bins=[1]),  # type: ignore[arg-type]
    "a threshold that is a text": lambda p, _: compute_metrics(SCORES, [0.5] * 60, LABELS, None, "1"),  # type: ignore[arg-type]
    "a threshold that signals": lambda p, _: compute_metrics(SCORES, [0.5] * 60, LABELS, None, Decimal("sNaN")),  # type: ignore[arg-type]
    "probabilities in a dict": lambda p, _: adjust_prior({"a": 0.5}, 0.5, 0.1),  # type: ignore[arg-type]
    "evidence that is none": lambda p, _: choose_threshold("f1", (1, 2)),  # type: ignore[arg-type]
    "a near cut that is a text": lambda p, _: choose_threshold("f1", table(p), near="x"),  # type: ignore[arg-type]
    "a reference that is none": lambda p, _: estimate_base_rate(SCORES, 0.5),  # type: ignore[arg-type]
    "draws of none": lambda p, _: DriftMonitor(p.score_reference(), draws=0).check(SCORES),
    "flags of another length": lambda p, _: contrast_rows(["a"], ["b"], [1], []),
    "a result that is none": lambda p, _: explain("b?", "a?", None, "x"),  # type: ignore[arg-type]
    "vectors by a path": lambda p, f: explain("b?", "a?", f),  # type: ignore[arg-type]
    "a colour that is a frame": lambda p, _: p.explain("a b?", "a c?").to_text(FRAME),  # type: ignore[arg-type]
    "threads without end": lambda p, f: check_running(STOCK, f, None, 10**30),
    "a device that is a number": lambda p, f: check_running(INT8, f, 5, None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_what_cannot_be_meant_is_an_error_of_ours(call: Call, pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    with pytest.raises(DupqError) as caught:
        call(pipeline, tmp_path)
    assert caught.value.message
    assert caught.value.hint


def test_a_policy_by_its_text_chooses_as_the_policy_does(pipeline: DuplicatePipeline) -> None:
    assert choose_threshold("F1", table(pipeline)).score == pipeline.with_policy("f1").rule.duplicate.score  # type: ignore[union-attr]


def test_an_endless_batch_is_one_batch(pipeline: DuplicatePipeline) -> None:
    pairs = [("a b?", "a c?"), ("d?", "d?")]
    assert list(pipeline.score_iter(iter(pairs), batch_size=10**30)) == list(pipeline.score_iter(pairs))


@pytest.mark.parametrize("repeats", [3, 2000])
def test_explain_reads_no_more_words_than_it_lays_out(pipeline: DuplicatePipeline, repeats: int) -> None:
    found = pipeline.explain("What is it? " + "word " * repeats, "Who asks?")
    assert len(found.words1) + found.unread[0] == 3 + repeats
    assert len(found.words1) == min(250, 3 + repeats)


@pytest.mark.parametrize("value", ["a", np.str_("a")])
def test_a_choice_is_a_text_among_them(value: str) -> None:
    assert as_choice(value, ("a", "b"), "html") == "a"
    for wrong in ("c", None, 1, np.array(["a"]), math.nan):
        with pytest.raises(InputError, match="html must be one of a, b"):
            as_choice(wrong, ("a", "b"), "html")


def test_a_path_is_one_that_a_file_can_have(tmp_path: Path) -> None:
    assert as_path(str(tmp_path), "path") == tmp_path
    assert as_path("é" * 127, "path") == Path("é" * 127)
    for wrong in (None, 1, b"a", "a\0b", "\ud800", "a" * 256, "é" * 128 + "/b"):
        with pytest.raises(InputError, match="path must be a path"):
            as_path(wrong, "path")
