"""Dates from ISO 8601 text, epoch numbers, and datetime, pandas and NumPy objects."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from numbers import Real

import numpy as np

from dupq.data.arguments import as_kind, as_list
from dupq.errors import InputError

MISSING = frozenset({"", "nat", "nan", "null", "none", "<na>", "\\n"})
"""Text of pandas, SQL and MySQL (`\\N`) for a missing date, in lower case; MySQL's zero date is missing too."""

_TIME = (
    r"(?P<hour>\d{1,2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
)
_ASCII = re.ASCII | re.IGNORECASE
_FORMS = tuple(
    re.compile(form, _ASCII)
    for form in (
        r"(?P<year>\d{4})(?:(?P<mark>[-/])(?P<month>\d{1,2}))?",
        rf"(?P<year>\d{{4}})(?P<mark>[-/])(?P<month>\d{{1,2}})(?P=mark)(?P<day>\d{{1,2}})(?:(?:T|\s+){_TIME})?",
        rf"(?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}})(?:(?:T|\s+){_TIME})?",
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})",
    )
)
_ZERO = re.compile(r"0000-00-00( 00:00:00(\.0+)?)?")
_EPOCH = re.compile(r"[+-]?\d{9,}(\.\d*)?", re.ASCII)
_EITHER = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?:,?\s+\d{1,2}:\d{2}(?P<seconds>:\d{2})?(?P<half>\s*[ap]m)?)?(?P<rest>.*)",
    _ASCII | re.DOTALL,
)
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
"""(upper limit, units a second) of an epoch number: s, ms, µs, ns."""
_MIN_EPOCH = 1e8
"""A smaller number may be a year, a day of Excel or a counter; as seconds it is a day before March 1973."""
_START = datetime(1970, 1, 1, tzinfo=timezone.utc)


def parse_date(value: object, date_format: str | None = None, location: str = "") -> float | None:
    """Return a date as POSIX seconds in UTC, or None if it is missing.

    A date without a time zone counts as UTC, and a date without a time as midnight.

    Args:
        value: ISO 8601 text ("2020", "2020-01", "2020-01-31", a time after "T" or a space, "Z" or an offset); an epoch
            number in seconds, milliseconds, microseconds or nanoseconds, by its magnitude, also as text of 9 digits or
            more; a `datetime`, `date`, `pandas.Timestamp` or `numpy.datetime64`. Missing: None, NaN, NaT, blank text
            and the texts of `MISSING`.
        date_format: The `datetime.strptime` format of text; None: ISO 8601 or an epoch number.
        location: The place of the value, for the error.

    Raises:
        InputError: The value is no date, or an ambiguous one such as 1/5/2022.
    """
    as_kind(location, str, "location", "name the place of the value, or leave it out")
    if date_format is not None:
        as_kind(date_format, str, "date_format", "write it as '%d/%m/%Y'")
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
        return None if value is None else parse_date(value, date_format, location)
    if isinstance(value, str):
        return _from_text(value.strip(), date_format, location)
    if isinstance(value, datetime):
        return _seconds(value)
    if isinstance(value, date):
        return _seconds(datetime(value.year, value.month, value.day))
    # NumPy registers a time span as a number.
    if type(value) not in (bool, np.timedelta64) and isinstance(value, (Real, Decimal)):
        return _from_number(value, location)
    raise InputError(
        f"a date must be text, a number or a datetime, got {type(value).__name__}",
        location=location or None,
        hint="give ISO 8601 text, such as 2024-05-31",
    )


def parse_dates(values: object, name: str, date_format: str | None = None) -> list[float | None]:
    """Return dates as POSIX seconds or None, as `parse_date` does.

    Errors name the n-th date "`name` n", counted from 1.
    """
    return [parse_date(value, date_format, f"{name} {number}") for number, value in enumerate(as_list(values, name), 1)]


def check_date_format(date_format: str | None) -> None:
    """Check that `date_format` is None or a format of `datetime.strptime`.

    Raises:
        InputError: It is neither.
    """
    if date_format is None:
        return
    as_kind(date_format, str, "date_format", "write it as '%d/%m/%Y'")
    try:
        datetime.strptime(_START.strftime(date_format), date_format)
        usable = "%" in date_format
    except (ValueError, re.error):
        usable = False
    if not usable:
        raise InputError(
            f"date_format must be a format of strptime, got {date_format!r}",
            hint="write it as '%d/%m/%Y' or '%m/%d/%Y %H:%M'",
        )


def _seconds(moment: datetime) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - _START).total_seconds()


def _from_number(value: Real | Decimal | str, location: str) -> float | None:
    try:
        number = float(value)
    except (OverflowError, ValueError):  # an int beyond every float, or a signalling Decimal
        number = math.inf
    if math.isnan(number):
        return None
    for limit, per_second in _UNITS:
        if _MIN_EPOCH <= abs(number) < limit:
            return number / per_second
    raise InputError(
        f"a numeric date must be seconds, ms, µs or ns since 1970 (9 to 20 digits), got {number:.17g}",
        location=location or None,
        hint="give ISO 8601 text, such as 2024-05-31",
    )


def _from_text(text: str, date_format: str | None, location: str) -> float | None:
    if text.lower() in MISSING or _ZERO.fullmatch(text):
        return None
    if date_format is not None:
        return _by_format(text, date_format, location)
    if len(text) == 12 and text.isdigit() and "1970" <= text[:4] <= "2099":
        # These twelve digits are a day of 1976 in milliseconds, or a recent day as YYYYMMDDhhmm.
        hint = "set --date-format '%Y%m%d%H%M'"
        raise InputError(f"the date {text!r} is ambiguous", location=location or None, hint=hint)
    for form in _FORMS:
        if found := form.fullmatch(text):
            try:
                return _from_parts(found.groupdict())
            except ValueError as error:
                raise _unreadable(text, location, f" ({error})") from error
    if _EPOCH.fullmatch(text):
        return _from_number(text, location)
    if found := _EITHER.fullmatch(text):
        raise _ambiguous(text, found, location)
    raise _unreadable(text, location)


def _from_parts(parts: dict[str, str | None]) -> float:
    fraction = (parts.get("fraction") or "").ljust(6, "0")[:6]
    year, month, day = (int(parts.get(name) or 1) for name in ("year", "month", "day"))
    hour, minute, second = (int(parts.get(name) or 0) for name in ("hour", "minute", "second"))
    moment = datetime(year, month, day, hour, minute, second, int(fraction), tzinfo=timezone.utc)
    zone = (parts.get("zone") or "").upper()
    if zone in ("", "Z", "UTC", "GMT"):
        return _seconds(moment)
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    if offset >= timedelta(hours=24):
        raise ValueError("the offset must be under 24 hours")
    return _seconds(moment) - (-1 if zone[0] == "-" else 1) * offset.total_seconds()


def _by_format(text: str, date_format: str, location: str) -> float:
    try:
        return _seconds(datetime.strptime(text, date_format))
    except (ValueError, OverflowError, re.error) as error:
        check_date_format(date_format)
        raise InputError(
            f"the date {text!r:.60} does not fit the format {date_format!r}",
            location=location or None,
            hint="check --date-format, or leave the date of this row empty",
        ) from error


def _ambiguous(text: str, found: re.Match[str], location: str) -> InputError:
    first, mark, second, year = found.groups()[:4]
    time = ""
    if ":" in text:
        half = "%I:%M{} %p" if found["half"] else "%H:%M{}"
        time = " " + half.format(":%S" if found["seconds"] else "")
    ends = f"{'%Y' if len(year) == 4 else '%y'}{time}"
    formats = [f"'%d{mark}%m{mark}{ends}'"] if int(second) <= 12 else []
    formats += [f"'%m{mark}%d{mark}{ends}'"] if int(first) <= 12 else []
    return InputError(
        f"the date {text!r:.60} may have the day or the month first",
        location=location or None,
        hint=f"set --date-format {' or '.join(formats)}"
        if formats and not found["rest"].strip()
        else "give ISO 8601 text, or set --date-format, such as '%d/%m/%Y %H:%M'",
    )


def _unreadable(text: str, location: str, why: str = "") -> InputError:
    return InputError(
        f"the date {text!r:.60} is unreadable{why}",
        location=location or None,
        hint="give ISO 8601 text such as 2024-05-31, or set --date-format, such as '%d %B %Y'",
    )
