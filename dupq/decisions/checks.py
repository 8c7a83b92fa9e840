"""What every function of this folder asks of the scores, labels and groups it is handed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.errors import InputError, ModelFolderError


def checked_scores(scores: ArrayLike, name: str = "scores") -> NDArray[np.float64]:
    """Finite numbers as float64 (n,), n >= 1.

    Raises:
        InputError: None at all, not one-dimensional, or a value that is not finite (the first is named).
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"{name} have the shape {values.shape}", mend="give one number a pair, and at least one pair")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{len(bad):,} of {len(values):,} {name} are not finite (first: pair {int(bad[0]) + 1})",
            mend="look at the texts of that pair, or at a network that was trained too fast",
        )
    return values


def checked_probabilities(probabilities: ArrayLike) -> NDArray[np.float64]:
    """As `checked_scores`, and within [0, 1]."""
    values = checked_scores(probabilities, "probabilities")
    bad = np.flatnonzero((values < 0) | (values > 1))
    if len(bad):
        raise InputError(
            f"{len(bad):,} of {len(values):,} probabilities are outside [0, 1] (first: pair {int(bad[0]) + 1})",
            mend="pass raw scores through a calibrator first",
        )
    return values


def checked_labels(labels: ArrayLike, n: int) -> NDArray[np.int8]:
    """Labels 0 and 1, both of them present, as int8 (n,)."""
    values = np.asarray(labels)
    if values.shape != (n,):
        raise InputError(f"{n:,} scores but labels of the shape {values.shape}", mend="give one label a score")
    bad = np.flatnonzero((values != 0) & (values != 1))
    if len(bad):
        raise InputError(
            f"{len(bad):,} of {n:,} labels are neither 0 nor 1 (first: pair {int(bad[0]) + 1})",
            mend="leave out the pairs that have no label",
        )
    whole = values.astype(np.int8)
    if whole.min() == whole.max():
        kind = "duplicates" if whole[0] else "distinct"
        raise InputError(f"all {n:,} pairs are {kind}", mend="give pairs of both labels, 0 and 1")
    return whole


def checked_groups(groups: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """The index of each pair's question group, 0..G-1, as int64 (n,); each pair its own group where none are given."""
    if groups is None:
        return np.arange(n, dtype=np.int64)
    values = np.asarray(groups)
    if values.shape != (n,):
        raise InputError(f"{n:,} scores but groups of the shape {values.shape}", mend="give one group key a pair")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def checked_rate(rate: float, name: str = "base rate") -> float:
    """A number strictly between 0 and 1."""
    if not (isinstance(rate, (int, float, np.floating)) and 0 < rate < 1):
        raise InputError(f"a {name} of {rate} makes no sense", mend="give a number between 0 and 1, both excluded")
    return float(rate)


def field(data: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """One field of a JSON object that came out of a model folder; a number must be finite.

    Raises:
        ModelFolderError: It is missing or of another type.
    """
    value = data.get(name) if isinstance(data, dict) else None
    if isinstance(value, int) and not isinstance(value, bool) and kind is float:
        value = float(value)
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        raise ModelFolderError(
            f"the field {name!r} is missing or damaged", where=where, mend="fetch or save the model folder again"
        )
    return value


def numbers(data: Any, name: str, where: str) -> tuple[float, ...]:
    """A list of finite numbers out of a JSON object, as floats; else ModelFolderError."""
    values = field(data, name, list, where)
    return tuple(field({name: value}, name, float, where) for value in values)
