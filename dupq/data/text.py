"""Check, normalise and hash the text of a question.

Two normal forms serve two purposes. `normalise` removes all punctuation, so that close spellings of a question never
land in different splits. `duplicate_key` flags a duplicate without a score, so it is stricter: characters that make
another word or number stay, as in C++ and C#, .NET, 1.5 or -5. Equal duplicate keys imply equal normal forms.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError

_NOT_WORD = re.compile(r"[\W_]+", re.UNICODE)
_WORD_OR_SIGN = re.compile(
    r"(?:(?<![\w.])\.(?=\w)|(?<![\w\-])-(?=\.?\d))?"  # the point of .NET and the sign of -5 belong to what follows
    r"\w+(?:(?<=\d)[.,:/\-](?=\d)\w+)*"  # and 1.5, 10:30 or 9/11 are one number
    r"|[^\w\s!\"'(),\-./:;?\[\]`{}]"
)
_SIGNS = frozenset("#%&@*\\_§‰")
"""Unicode punctuation that does not punctuate a sentence."""


def normalise(text: str) -> str:
    """Normalise case, whitespace, punctuation and Unicode form.

    A text of punctuation only ("??", "+") keeps its symbols, so that two different ones stay apart.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(_NOT_WORD.sub(" " if folded.isascii() else _keep_marks, folded).split())
    return words or "".join(folded.split())


def _keep_marks(gap: re.Match[str]) -> str:
    # Vowel signs of Hindi, Thai or Arabic are marks in Unicode, not letters, but they distinguish words.
    return "".join(
        char if unicodedata.category(char) in ("Mn", "Mc") and not _is_variation_selector(char) else " "
        for char in gap.group()
    )


def _is_variation_selector(char: str) -> bool:
    # Unicode counts the selectors that turn a symbol into an emoji as marks; they distinguish no words.
    return "\ufe00" <= char <= "\ufe0f" or char >= "\U000e0100"


def duplicate_key(text: str) -> str:
    """Return the key of exact duplicates.

    The key normalises case, whitespace and Unicode form, and leaves out sentence punctuation.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not folded.isascii():
        folded = "".join(map(_plain, folded))
    return " ".join(_WORD_OR_SIGN.findall(folded)) or "".join(folded.split())


def _plain(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] in "ZC" or _is_variation_selector(char):
        return " "
    if category == "Pd" or char == "\u2212":
        return "-"
    return "'" if category[0] == "P" and char not in _SIGNS and not char.isascii() else char


def fingerprint(text: str) -> int:
    """Return a 63-bit hash of the normalised text, equal on every machine."""
    return _hash(normalise(text))


def fingerprints(texts: Iterable[str]) -> NDArray[np.int64]:
    """Return the `fingerprint` of each text, int64 (n,)."""
    return np.fromiter(map(fingerprint, texts), np.int64)


def duplicate_key_hash(text: str) -> int:
    """Return a 63-bit hash of the `duplicate_key`, equal on every machine."""
    return _hash(duplicate_key(text))


def duplicate_key_hashes(texts: Iterable[str]) -> NDArray[np.int64]:
    """Return the `duplicate_key_hash` of each text, int64 (n,)."""
    return np.fromiter(map(duplicate_key_hash, texts), np.int64)


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def check_text(value: object, location: str) -> str:
    """Return `value` unchanged if it is a usable question of any length.

    Args:
        value: The text.
        location: Its file and row, or its argument, for the error.

    Raises:
        InputError: The text is missing, no str, blank, or not valid UTF-8.
    """
    if value is None or (isinstance(value, float) and value != value):
        raise InputError("the text is missing (None or NaN)", location=location, hint="give a question or drop the row")
    if not isinstance(value, str):
        raise InputError(f"text must be a str, got {type(value).__name__}", location=location, hint="convert it to str")
    if not value.strip() or not any(character.isprintable() and not character.isspace() for character in value):
        raise InputError("the text is blank", location=location, hint="give a question or drop the row")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        # Python decodes an undecodable byte of a file to one of these surrogates (PEP 383).
        found = f"the byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else "a lone surrogate"
        raise InputError(
            f"the text is not valid UTF-8 ({found} at character {error.start + 1})",
            location=location,
            hint="decode the source with its own encoding or drop the row",
        ) from error
    return value
