from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.dates import check_date_format, parse_date, parse_dates
from dupq.errors import InputError

DAY = 1577836800.0
"""2020-01-01 in UTC."""
UTC = timezone.utc


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2020", 0),
        ("2020-01", 0),
        ("2020/01", 0),
        ("2020-01-01", 0),
        (" 2020-1-1\n", 0),
        ("2020/01/01 06:00", 6),
        ("20200101", 0),
        ("20200101T060000Z", 6),
        ("20200101060000", 6),
        ("2020-01-01T06", 6),
        ("2020-01-01T06:00", 6),
        ("2020-01-01t06:00:00z", 6),
        ("2020-01-01 06:00:00", 6),
        ("2020-01-01 06:00:00 UTC", 6),
        ("2020-01-01T06:00:00.000", 6),
        ("2020-01-01T06:00:00,000000000+00:00", 6),
        ("2020-01-01T06:00:00+06:00", 0),
        ("2020-01-01 06:00:00 +0600", 0),
        ("2020-01-01T06:00-06", 12),
        ("2020-01-01T06:30+05:30", 1),
        ("1577836800", 0),
        ("1577836800.0", 0),
        ("1577836800000", 0),
        ("1577836800000000", 0),
        ("1577836800000000000", 0),
    ],
)
def test_iso_text_and_epochs_are_read_in_utc(text: str, hours: int) -> None:
    assert parse_date(text) == DAY + 3600 * hours


@pytest.mark.parametrize(
    "value",
    [
        1577836800,
        1577836800.0,
        1577836800000,
        np.int64(1577836800),
        np.float64(1577836800),
        Decimal(1577836800),
        datetime(2020, 1, 1),
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 1, 1, 9, tzinfo=timezone(timedelta(hours=9))),
        date(2020, 1, 1),
        pd.Timestamp("2020-01-01"),
        pd.Timestamp("2020-01-01T09:00", tz="Asia/Tokyo"),
        np.datetime64("2020-01-01"),
        np.datetime64("2020-01-01T00:00", "ns"),
        np.datetime64("2020"),
    ],
)
def test_objects_are_read_in_utc(value: object) -> None:
    assert parse_date(value) == DAY


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "  ", "NaT", "nan", "NULL", "None", "<NA>", "\\N", "0000-00-00", "0000-00-00 00:00:00"),
        *(float("nan"), np.nan, pd.NaT, pd.NA, np.datetime64("NaT"), Decimal("NaN")),
    ],
)
def test_a_missing_date_is_none(value: object) -> None:
    assert parse_date(value) is None
    assert parse_date(value, "%d/%m/%Y") is None


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("1/5/2022", ["'%d/%m/%Y'", "'%m/%d/%Y'"]),
        ("9/1/2021 10:00", ["'%d/%m/%Y %H:%M'", "'%m/%d/%Y %H:%M'"]),
        ("12/31/2019 08:00", ["'%m/%d/%Y %H:%M'"]),
        ("31.12.2019", ["'%d.%m.%Y'"]),
        ("05-06-21", ["'%d-%m-%y'", "'%m-%d-%y'"]),
        ("1/5/2022 09:00:30 PM", ["'%d/%m/%Y %I:%M:%S %p'", "'%m/%d/%Y %I:%M:%S %p'"]),
    ],
)
def test_a_date_that_can_be_read_in_two_ways_is_refused_with_formats_that_read_it(text: str, hints: list[str]) -> None:
    with pytest.raises(InputError, match=r"row 7: .*day or the month first") as caught:
        parse_date(text, location="row 7")
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(f"--date-format {' or '.join(hints)}")
    for hint in hints:
        assert parse_date(text, hint.strip("'")) is not None


def test_twelve_digits_are_milliseconds_or_a_calendar_and_refused() -> None:
    with pytest.raises(InputError, match="ambiguous"):
        parse_date("202105011000")
    assert parse_date("202105011000", "%Y%m%d%H%M") == parse_date("2021-05-01T10:00")


@pytest.mark.parametrize(
    "value",
    [
        *(
            "not a date",
            "2021-02-30",
            "2021-13",
            "2021-05-01T25:00",
            "2020-01-01T00:00+99:00",
            "12345678901234567890123",
        ),
        *("1 May 2021", "6/7", "٢٠٢٠", "1/2/3/4", "00:00", "2020T10", 44197, 5, 2020, 0, -3, 1e300, 10**400, True),
        *(np.True_, float("inf"), Decimal("sNaN"), b"2020", [2020], timedelta(1), np.array([1, 2]), object()),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_what_is_no_date_is_an_error_of_ours(value: object) -> None:
    with pytest.raises(InputError, match=r"created 2: .*date"):
        parse_dates(["2020", value], "created")


def test_a_format_is_used_for_text_and_must_fit() -> None:
    assert parse_date("01/05/2022", "%d/%m/%Y") == parse_date("2022-05-01")
    assert parse_date("01/05/2022", "%m/%d/%Y") == parse_date("2022-01-05")
    assert parse_date("1 May 2021 +0200", "%d %B %Y %z") == parse_date("2021-05-01T00:00+02:00")
    assert parse_date(datetime(2020, 1, 1), "%d/%m/%Y") == DAY
    with pytest.raises(InputError, match=r"row 2: the date '2022-05-01' does not fit"):
        parse_date("2022-05-01", "%d/%m/%Y", "row 2")


@pytest.mark.parametrize("date_format", ["%Q", "%", "d/m/Y", "", "%d/%", "%d %d"])
def test_a_format_that_no_date_can_fit_is_refused(date_format: str) -> None:
    with pytest.raises(InputError, match="date_format"):
        check_date_format(date_format)
    check_date_format("%d/%m/%Y %H:%M")
    check_date_format(None)


@pytest.mark.parametrize(
    "values",
    [
        ["2021-05-01", None, "2020"],
        pd.Series(["2021-05-01", None, "2020"], index=[5, 1, 3]),
        pd.Series(pd.to_datetime(["2021-05-01", None, "2020-01-01"]), index=[5, 1, 3]),
        pd.Series(pd.to_datetime(["2021-05-01", None, "2020-01-01"], utc=True)),
        pd.DatetimeIndex(["2021-05-01", None, "2020-01-01"]),
        np.array(["2021-05-01", "NaT", "2020-01-01"], "datetime64[ns]"),
        np.array(["2021-05-01", "NaT", "2020-01-01"], "datetime64[D]"),
        pl.Series([datetime(2021, 5, 1), None, datetime(2020, 1, 1)]),
        pl.Series([date(2021, 5, 1), None, date(2020, 1, 1)]),
        pa.array([datetime(2021, 5, 1), None, datetime(2020, 1, 1)]),
        (value for value in [1619827200, float("nan"), 1577836800]),
    ],
    ids=lambda values: type(values).__name__,
)
def test_columns_of_dates_go_by_position(values: Any) -> None:
    assert parse_dates(values, "created") == [1619827200.0, None, DAY]


def test_offsets_order_dates_that_text_would_turn_round() -> None:
    tokyo, utc = parse_dates(["2021-05-01T10:00:00+09:00", "2021-05-01T05:00:00Z"], "created")
    assert tokyo is not None
    assert utc is not None
    assert tokyo < utc


@given(st.datetimes(min_value=datetime(1000, 1, 1)), st.sampled_from(["T", " "]))
def test_every_datetime_comes_back_from_its_iso_text(moment: datetime, between: str) -> None:
    wanted = moment.replace(tzinfo=UTC).timestamp()
    assert parse_date(moment.isoformat(between)) == pytest.approx(wanted, abs=1e-5)
    assert parse_date(moment) == pytest.approx(wanted, abs=1e-5)


ANYTHING = st.one_of(
    st.text(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.datetimes(timezones=st.timezones()),
    st.dates(),
    st.binary(),
)


@given(ANYTHING, st.one_of(st.none(), st.text(max_size=8)))
def test_whatever_is_given_there_is_a_number_none_or_an_error_of_ours(value: object, date_format: str | None) -> None:
    try:
        found = parse_date(value, date_format)
    except InputError:
        return
    assert found is None or isinstance(found, float)
