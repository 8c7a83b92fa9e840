from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.arguments import (
    as_id,
    as_ids,
    as_list,
    as_texts,
)
from dupq.errors import InputError

SHUFFLED = [2, 0, 1]
Made = Callable[[list[Any]], Any]
MAKERS: dict[str, Made] = {
    "list": list,
    "tuple": tuple,
    "generator": iter,
    "dict values": lambda values: dict(enumerate(values)).values(),
    "numpy": np.array,
    "numpy objects": lambda values: np.array(values, dtype=object),
    "pandas": pd.Series,
    "pandas, shuffled": lambda values: pd.Series(values, index=SHUFFLED),
    "pandas, one index for all": lambda values: pd.Series(values, index=["x"] * len(values)),
    "pandas nullable": lambda values: pd.Series(values).convert_dtypes(),
    "pandas categories": lambda values: pd.Series(values, dtype="category"),
    "pandas index": pd.Index,
    "polars": pl.Series,
    "arrow": pa.array,
    "arrow chunks": lambda values: pa.chunked_array([values[:1], values[1:]]),
}


@pytest.mark.parametrize("made", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("values", [["b", "a", "ü"], [12, 1, 2]])
def test_every_sequence_goes_by_position_and_gives_plain_objects(made: Made, values: list[Any]) -> None:
    for got in (as_list(made(values), "ids"), as_ids(made(values))):
        assert got == values
        assert {type(value) for value in got} == {type(values[0])}


def test_a_frame_that_was_shuffled_keeps_texts_and_ids_together() -> None:
    frame = pd.DataFrame({"id": [10, 20, 30, 40], "q": ["a?", "b?", "c?", "d?"]}).sample(frac=1, random_state=3)
    assert list(frame.index) != [0, 1, 2, 3]
    assert dict(zip(as_ids(frame.id), as_texts(frame.q, "questions"), strict=True)) == {
        10: "a?",
        20: "b?",
        30: "c?",
        40: "d?",
    }


def test_texts_of_numpy_become_plain_str() -> None:
    class Marked(str):
        pass

    got = as_texts([np.str_("a"), Marked("b"), "c"], "questions")
    assert got == ["a", "b", "c"]
    assert {type(text) for text in got} == {str}


@pytest.mark.parametrize(
    "values",
    ["12", b"12", bytearray(b"12"), np.str_("12"), {"a": 1}, {1, 2}, frozenset({1}), 7, None, 1.5, np.array("12")],
)
def test_what_is_no_sequence_is_refused(values: object) -> None:
    with pytest.raises(InputError, match="ids must"):
        as_list(values, "ids")


@pytest.mark.parametrize(
    "values",
    [
        pd.DataFrame({"a": [1], "b": [2]}),
        pd.DataFrame({"a": [1]}),
        pl.DataFrame({"a": [1]}),
        pa.table({"a": [1]}),
        np.zeros((2, 2)),
    ],
)
def test_more_than_one_column_is_refused(values: object) -> None:
    with pytest.raises(InputError, match="one dimension"):
        as_ids(values)


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), "", " \n"],
)
def test_a_missing_id_is_an_error_of_ours(value: object) -> None:
    with pytest.raises(InputError, match="id 2: the id"):
        as_id(value, "id 2")


@pytest.mark.parametrize(
    "value",
    [
        True,
        np.True_,
        1.5,
        2.0,
        np.float64(3),
        b"1",
        [1],
        {"a": 1},
        np.array([1, 2]),
        pd.Series([1, 2]),
        2**63,
        -(2**63) - 1,
        10**5000,
        "\ud800",
        "a\udc80",
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_id_is_an_error_of_ours(value: object) -> None:
    with pytest.raises(InputError, match=r"ids 3: the id .*(must be an int|not valid)"):
        as_ids([1, "a", value])


def test_numbers_of_numpy_become_plain_int() -> None:
    got = as_ids([np.int64(7), np.uint8(7), 2**63 - 1, -(2**63), "7"])
    assert got == [7, 7, 2**63 - 1, -(2**63), "7"]
    assert [type(id_) for id_ in got] == [int, int, int, int, str]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_of_numpy_come_out_as_dates_whatever_their_unit(unit: str) -> None:
    dates = np.array(["2020-01-01", "NaT"], dtype=f"datetime64[{unit}]")
    first, missing = as_list(dates, "created")
    assert (first.year, missing) == (2020, None)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.decimals(),
    st.lists(st.integers(), max_size=3),
    st.sampled_from([pd.NA, pd.NaT, np.array([1, 2]), np.datetime64("NaT"), object()]),
)


@given(
    st.lists(ANYTHING, max_size=5), st.sampled_from([list, tuple, iter, lambda values: pd.Series(values, dtype=object)])
)
def test_whatever_is_given_there_is_a_list_of_ids_or_an_error_of_ours(values: list[Any], made: Made) -> None:
    try:
        got = as_ids(made(values))
    except InputError:
        return
    assert [type(id_) in (int, str) for id_ in got] == [True] * len(values)
    assert got == values


@given(ANYTHING)
def test_whatever_stands_for_a_sequence_there_is_a_list_or_an_error_of_ours(values: object) -> None:
    with suppress(InputError):
        assert isinstance(as_list(values, "ids"), list)
