"""Labels of a file, read from numbers and words as 1 = duplicate and 0 = distinct."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from dupq.errors import InputError

LabelMap = Mapping[str, int]
"""The words of a file, stripped and in lower case -> the label of each."""

DEFAULT_LABELS: LabelMap = {
    "true": 1,
    "false": 0,
    "yes": 1,
    "no": 0,
    "duplicate": 1,
    "distinct": 0,
    "not duplicate": 0,
    "not_duplicate": 0,
    "non-duplicate": 0,
}
"""Words that need no mapping; a note names the label of each."""

_NUMBER = re.compile(r"([01])(\.0*)?")


def parse_label(
    value: object, mapping: LabelMap | None, row: str, column: str, note: Callable[[str], None] | None = None
) -> int:
    """Return the label of a cell.

    Args:
        value: The cell: a number, a bool or a text.
        mapping: The words of this file, which exclude all others; None: 1 and 0, 1.0 and 0.0, and `DEFAULT_LABELS`.
        row, column: The place of the cell, for errors and notes.
        note: Called with a line on each word that was read as a label.

    Raises:
        InputError: The cell holds no label.
    """
    text = " ".join(str(value).split()).lower()
    location = f"{row}, column {column!r}"
    if mapping is not None:
        if text not in mapping:
            given = " ".join(f"{word}={label}" for word, label in mapping.items())
            raise InputError(f"the label must be one of {given}, got {value!r}", location=location, hint="add it")
        return mapping[text]
    if found := _NUMBER.fullmatch(text):
        return int(found[1])
    if text not in DEFAULT_LABELS:
        raise InputError(
            f"the label must be 0 or 1, got {value!r}",
            location=location,
            hint="write 1 = duplicate, 0 = distinct, or name your words: --labels same=1 other=0",
        )
    label = DEFAULT_LABELS[text]
    if note is not None:
        note(f"labels of column {column!r}: {text} is read as {label} = {'duplicate' if label else 'distinct'}")
    return label


def parse_labels(values: Sequence[str] | None) -> dict[str, int] | None:
    """Parse the mapping of `--labels yes=1 no=0`.

    Returns:
        Words in lower case -> 0 or 1; None without values.

    Raises:
        InputError: A value is not WORD=0 or WORD=1, a word has both labels, or a label has no word.
    """
    if not values:
        return None
    hint = "write --labels yes=1 no=0 after the name of the file"
    mapping: dict[str, int] = {}
    for value in values:
        word, equals, label = value.rpartition("=")
        word = " ".join(word.split()).lower()
        if not equals or not word or label.strip() not in ("0", "1"):
            raise InputError(f"each of --labels must be WORD=1 or WORD=0, got {value!r}", hint=hint)
        if mapping.setdefault(word, int(label)) != int(label):
            raise InputError(f"--labels gives both labels to {word!r}", hint=hint)
    if set(mapping.values()) != {0, 1}:
        raise InputError(f"--labels must name words for both labels, got {' '.join(values)}", hint=hint)
    return mapping
