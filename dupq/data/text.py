"""The text of a question: what is accepted, and the form under which two spellings count as the same question."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError

MAX_CHARACTERS = 20_000
"""A longer text is refused: no network here reads more than a few hundred words of it."""

_NOT_WORD = re.compile(r"[\W_]+", re.UNICODE)


def normalise(text: str) -> str:
    """The text without what does not make it another question: case, space, punctuation, Unicode form.

    A text made only of such characters ("??", "+") keeps its bare symbols, so that two of them stay apart.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(_NOT_WORD.sub(" " if folded.isascii() else _keep_marks, folded).split())
    return words or "".join(folded.split())


def _keep_marks(gap: re.Match[str]) -> str:
    # The vowel signs of Hindi, Thai or Arabic are marks to Unicode, not letters, and yet they make another word. The
    # selectors that turn a symbol into an emoji are marks as well, and make none.
    return "".join(char if _is_mark(char) else " " for char in gap.group())


def _is_mark(char: str) -> bool:
    selector = "\ufe00" <= char <= "\ufe0f" or char >= "\U000e0100"
    return not selector and unicodedata.category(char) in ("Mn", "Mc")


def fingerprint(text: str) -> int:
    """A 63-bit hash of the normalised text; the same on every machine and in every version."""
    digest = hashlib.blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def fingerprints(texts: list[str]) -> NDArray[np.int64]:
    """`fingerprint` of each text: int64 array (n,)."""
    return np.fromiter((fingerprint(text) for text in texts), dtype=np.int64, count=len(texts))


def check_text(value: object, where: str) -> str:
    """Returns `value` unchanged if it is a usable question; raises InputError naming `where` if it is not."""
    if value is None or (isinstance(value, float) and value != value):
        raise InputError("the text is missing (None or NaN)", where=where, mend="give a question, or drop the row")
    if not isinstance(value, str):
        raise InputError(f"the text is a {type(value).__name__}, not a str", where=where, mend="convert it to str")
    if len(value) > MAX_CHARACTERS:
        raise InputError(
            f"the text has {len(value):,} characters; at most {MAX_CHARACTERS:,} are read",
            where=where,
            mend="cut it to the question itself",
        )
    if not value.strip() or not any(character.isprintable() and not character.isspace() for character in value):
        raise InputError("the text is blank", where=where, mend="give a question, or drop the row")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        # A byte that a file's reader could not decode arrives as one of these (PEP 383).
        what = f"the byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else "a lone surrogate"
        raise InputError(
            f"the text is not valid UTF-8 ({what} at character {error.start + 1})",
            where=where,
            mend="decode the source with its true encoding, or drop the row",
        ) from error
    return value
