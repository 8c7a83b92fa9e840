"""Check scores, probabilities, labels, groups, and fields of model folders."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.data.arguments import as_list, as_number, is_number
from dupq.errors import InputError, ModelFolderError


def as_numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return the numbers of an array, list, Series or generator as float64.

    Args:
        values: Numbers of Python or NumPy; an array keeps its shape.
        name: The argument, for the error.

    Raises:
        InputError: An element is no number, or beyond the range of a float.
    """
    if not (isinstance(values, np.ndarray) and values.dtype.kind in "fiub"):
        if isinstance(values, np.ndarray) and values.ndim != 1:
            raise InputError(f"{name} must have the shape (n,), got {values.shape}", hint="give one number a pair")
        values = as_list(values, name)
        for number, value in enumerate(values, 1):
            # NumPy registers a time span as a number.
            if type(value) is np.timedelta64 or not isinstance(value, (Real, Decimal, np.bool_)):
                raise InputError(
                    f"{name} must be numbers, got {type(value).__name__} (pair {number})", hint="give one number a pair"
                )
    try:
        return np.asarray(values, dtype=np.float64)
    except (OverflowError, ValueError) as error:  # an int beyond every float, or a signalling Decimal
        raise InputError(f"{name} must be numbers that a float can hold", hint="give smaller ones") from error


def checked_scores(scores: ArrayLike, name: str = "scores") -> NDArray[np.float64]:
    """Return finite numbers as float64 (n,), n >= 1.

    Raises:
        InputError: The array is empty or not one-dimensional, or a value is not finite (the first is named).
    """
    values = as_numbers(scores, name)
    if values.ndim != 1 or not len(values):
        raise InputError(f"{name} must have the shape (n,), n >= 1, got {values.shape}", hint="give one number a pair")
    _refuse(~np.isfinite(values), f"{name} are not finite", "check the texts of that pair, or train at a lower rate")
    return values


def checked_cosines(cosines: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return n cosines as float64 (n,).

    Raises:
        InputError: They are missing, not n, not finite, or outside [-1, 1] by more than rounding.
    """
    if cosines is None:
        raise InputError(
            "cosines must be given where the calibrator reads them", hint="give the cosine of each pair's embeddings"
        )
    values = as_numbers(cosines, "cosines")
    if values.shape != (n,):
        raise InputError(f"cosines must have the shape ({n},), got {values.shape}", hint="give one cosine a pair")
    # Stored float16 vectors have a length of 1 up to rounding.
    _refuse(~(np.abs(values) <= 1.01), "cosines are outside [-1, 1]", "give cosines, and not scores of a bi-encoder")
    return values


def checked_probabilities(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return numbers in [0, 1] as float64 (n,), n >= 1; raise InputError otherwise."""
    values = checked_scores(probabilities, "probabilities")
    outside = (values < 0) | (values > 1)
    _refuse(outside, "probabilities are outside [0, 1]", "pass raw scores through a calibrator first")
    return values


def checked_labels(labels: ArrayLike, n: int) -> NDArray[np.int8]:
    """Return n labels 0 and 1 as int8 (n,).

    Raises:
        InputError: The number of labels is not n, a label is neither 0 nor 1, or all labels are equal.
    """
    values = as_numbers(labels, "labels")
    if values.shape != (n,):
        raise InputError(f"labels must have the shape ({n},), got {values.shape}", hint="give one label a score")
    _refuse((values != 0) & (values != 1), "labels are neither 0 nor 1", "leave out the pairs that have no label")
    hint = "give pairs of both labels, 0 and 1"
    if not n:
        raise InputError("there are no pairs", hint=hint)
    whole = values.astype(np.int8)
    if whole.min() == whole.max():
        raise InputError(f"all {n:,} pairs are {'duplicates' if whole[0] else 'distinct'}", hint=hint)
    return whole


def _refuse(bad: NDArray[np.bool_], problem: str, hint: str) -> None:
    if bad.any():
        first = int(bad.argmax()) + 1
        raise InputError(f"{int(bad.sum()):,} of {len(bad):,} {problem} (first: pair {first})", hint=hint)


def checked_groups(groups: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """Return the index of each pair's question group, 0..G-1, as int64 (n,).

    Args:
        groups: One key a pair, ints or texts; None: each pair is a group of its own.
        n: The number of pairs.

    Raises:
        InputError: The number of keys is not n, or the keys cannot be sorted.
    """
    if groups is None:
        return np.arange(n, dtype=np.int64)
    try:
        values = groups if isinstance(groups, np.ndarray) else np.array(as_list(groups, "groups"))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError("groups must be one key a pair, got nested lists", hint="give ints or texts") from error
    if values.shape != (n,):
        raise InputError(f"groups must have the shape ({n},), got {values.shape}", hint="give one group key a pair")
    try:
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise InputError("groups must be keys of one sortable type", hint="give ints or texts") from error


def checked_rate(rate: float, name: str = "base_rate") -> float:
    """Return a number strictly between 0 and 1 as a float; raise InputError otherwise."""
    hint = "give a share such as 0.05, not a percentage"
    return as_number(rate, name, 0, 1, above=True, below=True, hint=hint)


def field(data: Any, name: str, kind: type | tuple[type, ...], location: str) -> Any:
    """Return a field of a JSON object from a model folder.

    Args:
        data: The JSON object.
        name: The key.
        kind: The class of the value; an int serves as a float, and a float must be finite.
        location: The file, for the error.

    Raises:
        ModelFolderError: The field is missing, or of another class.
    """
    value = data.get(name) if isinstance(data, dict) else None
    if isinstance(value, int) and is_number(value) and kind is float:
        value = float(value)
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        raise ModelFolderError(
            f"the field {name!r} is missing or damaged", location=location, hint="fetch or save the model folder again"
        )
    return value


def numbers(data: Any, name: str, location: str) -> tuple[float, ...]:
    """Return a list of finite numbers in a JSON object as floats.

    Raises:
        ModelFolderError: The field is missing, or is no list of finite numbers.
    """
    values = field(data, name, list, location)
    return tuple(field({name: value}, name, float, location) for value in values)
