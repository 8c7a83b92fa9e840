"""Which texts are copies: one question up to case, space and sentence punctuation.

A copy is called a duplicate unseen, so this is stricter than `data.text.normalise`, by which splits are kept apart: a
character that makes another word or number stays, as in C++ and C#, .NET, 1.5 or -5.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_WORD_OR_SIGN = re.compile(
    r"(?:(?<![\w.])\.(?=\w)|(?<![\w\-])-(?=\.?\d))?"  # the point of .NET and the sign of -5 belong to what follows
    r"\w+(?:(?<=\d)[.,:/\-](?=\d)\w+)*"  # and 1.5, 10:30 or 9/11 are one number
    r"|[^\w\s!\"'(),\-./:;?\[\]`{}]"
)
_SIGNS = frozenset("#%&@*\\_§‰")
"""Punctuation to Unicode, and yet no marks of a sentence."""


def copy_form(text: str) -> str:
    """What is left of a text when case, space and sentence punctuation are taken away; equal for copies only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not folded.isascii():
        folded = "".join(_plain(char) for char in folded)
    return " ".join(_WORD_OR_SIGN.findall(folded)) or "".join(folded.split())


def _plain(char: str) -> str:
    kind = unicodedata.category(char)
    # The selectors that turn a symbol into an emoji are marks to Unicode, and make no other word.
    if kind[0] in "ZC" or "\ufe00" <= char <= "\ufe0f" or char >= "\U000e0100":
        return " "
    if kind == "Pd" or char == "\u2212":
        return "-"
    return "'" if kind[0] == "P" and char not in _SIGNS and not char.isascii() else char


def copy_print(text: str) -> int:
    """A 63-bit hash of `copy_form`; the same on every machine."""
    digest = hashlib.blake2b(copy_form(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def copy_prints(texts: Iterable[str]) -> NDArray[np.int64]:
    """`copy_print` of each text, int64 (n,)."""
    return np.fromiter(map(copy_print, texts), np.int64)
