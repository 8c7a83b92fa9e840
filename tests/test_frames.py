"""Frames of pandas, polars and Arrow in and out of `score_pairs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dupq import DuplicatePipeline, PairScore
from dupq.errors import InputError
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

TABLE = labelled_table(96)
LEFT = ["Who invented chess?", "Is go hard?", "Why do cats purr?"]
RIGHT = ["who invented chess", "Why do cats purr?", "Who invented go?"]
MADE = ["score", "probability", "decision", "warnings"]

Make = Callable[[dict[str, list[Any]]], Any]
LIBRARIES: dict[str, Make] = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table}


@pytest.fixture(scope="module")
def pipeline() -> DuplicatePipeline:
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(TABLE).with_languages(["en"])


@pytest.fixture(params=LIBRARIES)
def make(request: pytest.FixtureRequest) -> Make:
    return LIBRARIES[request.param]


def column(frame: Any, name: str) -> list[Any]:
    found = frame[name]
    return found.to_pylist() if isinstance(found, pa.ChunkedArray) else found.to_list()


@pytest.mark.parametrize("names", [("question1", "question2"), ("sentence1", "sentence2"), ("a", "b")])
def test_a_frame_comes_back_with_its_results(pipeline: DuplicatePipeline, make: Make, names: tuple[str, str]) -> None:
    frame = make({"n": [3, 1, 2], names[0]: LEFT, names[1]: RIGHT})
    scored = pipeline.score_pairs(frame, columns=names if names == ("a", "b") else None)
    assert type(scored) is type(frame)
    columns = scored.column_names if isinstance(scored, pa.Table) else list(scored.columns)
    assert columns == ["n", *names, *MADE]
    assert column(scored, "n") == [3, 1, 2]
    expected = pipeline.score_pairs(LEFT, RIGHT)
    assert column(scored, "score") == [one.score for one in expected]
    assert column(scored, "probability") == [one.probability for one in expected]
    assert column(scored, "decision") == [str(one.decision) for one in expected]
    assert column(scored, "warnings") == ["", "", ""]
    left = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    assert left == ["n", *names]


@pytest.mark.parametrize("index", [[9, 4, 7], ["x", "y", "z"], [1, 1, 1], pd.date_range("2020-01-01", periods=3)])
def test_an_index_stays_and_rows_go_by_position(pipeline: DuplicatePipeline, index: Any) -> None:
    frame = pd.DataFrame({"question1": LEFT, "question2": RIGHT}, index=index)
    scored = pipeline.score_pairs(frame)
    assert scored.index.equals(frame.index)
    assert scored["score"].to_list() == [one.score for one in pipeline.score_pairs(LEFT, RIGHT)]
    shuffled = frame.iloc[[2, 0, 1]]
    assert pipeline.score_pairs(shuffled)["score"].to_list() == [scored["score"].iloc[row] for row in (2, 0, 1)]


def test_bad_rows_of_a_frame(pipeline: DuplicatePipeline, make: Make) -> None:
    frame = make({"question1": [LEFT[0], None, LEFT[2]], "question2": [RIGHT[0], RIGHT[1], "😀"]})
    with pytest.raises(InputError, match="left text of pair 2: the text is missing"):
        pipeline.score_pairs(frame)
    scored = pipeline.score_pairs(frame, on_error="skip")
    assert column(scored, "decision")[0] == "duplicate"
    assert [pd.isna(value) for value in column(scored, "score")] == [False, True, False]
    assert [pd.isna(value) for value in column(scored, "decision")] == [False, True, False]
    assert column(scored, "warnings")[2] == "unknown_language"


def test_an_empty_frame(pipeline: DuplicatePipeline, make: Make) -> None:
    scored = pipeline.score_pairs(make({"question1": [], "question2": []}), columns=("question1", "question2"))
    assert column(scored, "score") == []


def test_what_is_no_such_frame(pipeline: DuplicatePipeline, make: Make) -> None:
    frame = make({"question1": LEFT, "other": RIGHT})
    with pytest.raises(InputError, match="no two text columns were found among question1, other"):
        pipeline.score_pairs(frame)
    with pytest.raises(InputError, match="no column 'question2'"):
        pipeline.score_pairs(frame, columns=("question1", "question2"))
    with pytest.raises(InputError, match="columns must be two names"):
        pipeline.score_pairs(frame, columns="question1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="already has a column 'score'"):
        pipeline.score_pairs(make({"question1": LEFT, "question2": RIGHT, "score": [1, 2, 3]}))
    with pytest.raises(InputError, match="got two sequences"):
        pipeline.score_pairs(LEFT, RIGHT, columns=("a", "b"))
    for wrong in (LEFT, 7, "text", pl.LazyFrame({"question1": LEFT, "question2": RIGHT})):
        with pytest.raises(InputError, match="must be a frame"):
            pipeline.score_pairs(wrong)


@pytest.mark.parametrize(
    "given",
    [tuple, np.array, pd.Series, pl.Series, pa.array, iter],
    ids=["tuple", "numpy", "pandas", "polars", "arrow", "iterator"],
)
def test_columns_of_any_kind(pipeline: DuplicatePipeline, given: Callable[[list[str]], Any]) -> None:
    expected = pipeline.score_pairs(LEFT, RIGHT)
    found = pipeline.score_pairs(given(LEFT), given(RIGHT))
    assert found == expected
    assert all(type(one.question1) is str for one in found if isinstance(one, PairScore))
    assert np.array_equal(pipeline.raw_scores(given(LEFT), given(RIGHT)), [one.score for one in expected])
    assert np.array_equal(pipeline.probabilities(given(LEFT), given(RIGHT)), [one.probability for one in expected])
    assert len(pipeline.text_warnings(given(LEFT))) == 3


def test_a_shuffled_series_goes_by_position(pipeline: DuplicatePipeline) -> None:
    left, right = pd.Series(LEFT, index=[2, 0, 1]), pd.Series(RIGHT, index=[7, 8, 9])
    assert pipeline.score_pairs(left, right) == pipeline.score_pairs(LEFT, RIGHT)
    many = pd.Series(TABLE.left, index=range(len(TABLE), 0, -1)), pd.Series(TABLE.right)
    assert pipeline.estimate_base_rate(*many).rate == pipeline.estimate_base_rate(TABLE.left, TABLE.right).rate
