"""Check arguments: sequences, ids, paths, choices, and numbers with their range."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from dupq.errors import InputError

NO_NUMBERS = (bool, np.timedelta64)
"""Types that are numbers to Python or NumPy, and none here: truth values and spans of time."""
MIN_INT, MAX_INT = -(2**63), 2**63 - 1
"""The range of the integers that SQLite and Parquet store."""
MAX_SEED = 2**32 - 1
"""The largest seed that NumPy's legacy generator accepts; the trainer seeds it too."""


# ---- sequences ---------------------------------------------------------------------------------------------------


def as_list(values: object, name: str) -> list[Any]:
    """Return the elements of a list, array, Series or generator in their order.

    Args:
        values: Any iterable but a str, bytes, set or mapping. A pandas or polars Series, a NumPy array or an Arrow
            array gives plain Python objects. The index of a Series is ignored.
        name: The argument, for the error.

    Raises:
        InputError: `values` is one str, bytes, a set, a mapping, a frame of several columns, or not iterable.
    """
    if isinstance(values, (list, tuple)):
        return list(values)
    if isinstance(values, (str, bytes, bytearray)):
        raise InputError(
            f"{name} must be a sequence, got one {type(values).__name__}", hint=f"give a list: [{values[:20]!r}]"
        )
    if getattr(values, "ndim", 1) != 1 or hasattr(values, "columns"):
        raise InputError(f"{name} must have one dimension, got {type(values).__name__}", hint="give one column")
    if isinstance(values, (Mapping, set, frozenset)) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a sequence, got {type(values).__name__}", hint="give a list, array or Series")
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        values = values.astype("datetime64[us]")  # finer units would become int
    # The methods of Arrow, pandas, polars and NumPy that give plain Python objects.
    for method in ("to_pylist", "to_list", "tolist"):
        if callable(found := getattr(values, method, None)):
            return list(found())
    return list(values)


def as_texts(values: object, name: str) -> list[Any]:
    """Return n texts as a list of str.

    An element that is no str stays as it is, so that `check_text` can name its place. Raises InputError as `as_list`.
    """
    return [
        str(value) if type(value) is not str and isinstance(value, str) else value for value in as_list(values, name)
    ]


def as_ids(values: object, name: str = "ids") -> list[int | str]:
    """Return ids as int and str, as `as_id` does.

    Errors name the n-th id "`name` n", counted from 1.
    """
    return [as_id(value, f"{name} {number}") for number, value in enumerate(as_list(values, name), 1)]


# ---- single values -----------------------------------------------------------------------------------------------


def as_kind(value: object, kind: type[Any], name: str, hint: str) -> Any:
    """Return `value` if it is an instance of `kind`.

    Raises:
        InputError: `value` is of another class; the error has this `hint`.
    """
    if isinstance(value, kind):
        return value
    raise InputError(f"{name} must be of class {kind.__name__}, got {type(value).__name__}", hint=hint)


def as_choice(value: object, choices: Iterable[str], name: str) -> str:
    """Return `value` if it is one of these texts; raise InputError otherwise."""
    known = tuple(choices)
    # The class comes first: an array would be compared by element.
    if isinstance(value, str) and value in known:
        return value
    raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r:.60}", hint=f"give {known[0]}")


def as_path(value: object, name: str) -> Path:
    """Return `value` as a Path.

    Raises:
        InputError: `value` is no str or Path, or holds a character that no path can hold.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{name} must be a path, got {type(value).__name__}", hint="give the name of a file or folder")
    path = os.fspath(value)
    try:
        names = os.fsencode(path).split(os.fsencode(os.sep))
        if isinstance(path, str) and all(b"\0" not in name and len(name) < 256 for name in names):
            return Path(path)
    except UnicodeEncodeError:
        pass
    raise InputError(f"{name} must be a path that a file can have, got {path!r:.60}", hint="give another name")


def as_id(value: object, location: str) -> int | str:
    """Return an id as an int of 64 bits or a str; 7 and "7" are two ids.

    Args:
        value: The id.
        location: Its place, for the error.

    Raises:
        InputError: The id is a bool, a float, missing, blank, too large, or of another class.
    """
    if isinstance(value, str):
        if not value.strip():
            raise InputError("the id must not be blank", location=location, hint="give an int or a str")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError(
                f"the id {value!r:.60} is not valid Unicode",
                location=location,
                hint="decode the source with its own encoding",
            )
        return str(value)
    # NumPy registers a time span as an integer.
    if type(value) not in (bool, np.timedelta64) and isinstance(value, Integral):
        if not MIN_INT <= (number := int(value)) <= MAX_INT:
            hint = "give it as a str; from a file, with --id-type text"
            raise InputError("the id must be an int of at most 64 bits, or a str", location=location, hint=hint)
        return number
    kind = type(value).__name__
    is_float = isinstance(value, (float, np.floating))
    if value is None or kind in ("NAType", "NaTType") or (is_float and value != value):
        raise InputError("the id is missing", location=location, hint="give an int or a str")
    hint = "convert the column with astype('Int64')" if is_float else "convert it to str"
    raise InputError(f"the id must be an int or a str, got {kind} {value!r:.60}", location=location, hint=hint)


def as_int(value: Any, name: str, low: int = 1, high: int | None = None, hint: str | None = None) -> int:
    """Return an integer in [low, high] as an int.

    Args:
        value: The argument.
        name: Its name, for the error.
        low, high: The limits, both included; `high` None: no upper limit.
        hint: The hint of the error (default: an example).

    Raises:
        InputError: `value` is no integer (a bool and a float are none), or outside the limits.
    """
    is_int = not isinstance(value, NO_NUMBERS) and isinstance(value, (int, np.integer))
    if is_int and low <= int(value) and (high is None or int(value) <= high):
        return int(value)
    wanted = f"of at least {low}" if high is None else f"between {low} and {high}"
    raise InputError(f"{name} must be an integer {wanted}, got {value!r:.60}", hint=hint or f"give one such as {low}")


def as_number(
    value: Any,
    name: str,
    low: float,
    high: float,
    *,
    above: bool = False,
    below: bool = False,
    hint: str | None = None,
) -> float:
    """Return a finite number in [low, high] as a float.

    Args:
        value: The argument.
        name: Its name, for the error.
        low, high: The limits; `high` may be infinite.
        above, below: True: exclude `low`, or `high`.
        hint: The hint of the error (default: the range).

    Raises:
        InputError: `value` is no finite number, or outside the limits.
    """
    if is_number(value) and (low < value if above else low <= value) and (value < high if below else value <= high):
        return float(value)
    if math.isinf(high):
        wanted = f"above {low:g}" if above else f"of at least {low:g}"
    else:
        wanted = f"in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"
    raise InputError(f"{name} must be a number {wanted}, got {value!r:.60}", hint=hint or f"give one {wanted}")


def as_seed(value: Any) -> int:
    """Return a seed, an integer from 0 to 2**32 - 1.

    Raises:
        InputError: `value` is no such integer.
    """
    return as_int(value, "seed", 0, MAX_SEED)


def is_number(value: Any) -> bool:
    """Return True for a finite number of Python or NumPy; a bool is none."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, NO_NUMBERS)
    return number and bool(abs(value) <= sys.float_info.max)  # False for NaN, and exact for an int of any size
