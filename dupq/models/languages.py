"""Language check of a text by script, function words and an identifier."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier  # type: ignore[import-untyped]


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_CHARACTERS = 2000
"""Number of characters of a text that are checked."""
ENGLISH_SHARE = 0.15
"""Share of English function words from which a text is English without an identifier."""
MIN_PROBABILITY = 0.3
"""Probability from which the language of the identifier is used."""
MIN_RATIO = 3.0
"""Ratio to the probability of every trained language from which it is used."""
MIN_LETTERS = 6
"""Number of Latin letters from which a language can be identified."""

ENGLISH = _word_set(
    "the how what which who whose when where why does doesn't don't this that these those your with have should would "
    "there from than and you whats doesnt didnt isn't wasn't can't couldn't wouldn't shouldn't between without"
)
"""Function words that are frequent in English questions and rare in other languages."""

OTHER_SCRIPTS = _word_set(
    "am ar ary arz as ba be bg bn dz el fa gom grc gu hbo he hi hy ja ka kk km kn ko ky lo mk ml mn mr my ne or pa ps "
    "ru sa sdh si sr ta te tg th tt ug uk ur wuu yue zh"
)
"""Codes of the languages in other scripts than the Latin one, as the identifier returns them."""

_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_NO_LANGUAGE = "zxx"
_ENGLISH_TOO = ("en", "pcm")  # Nigerian Pidgin, which the identifier finds in short English questions


def unknown_language(text: str, languages: Collection[str] | None) -> str | None:
    """Return a message if a text seems to be in none of the languages, else None.

    Args:
        text: Any text; its first `MAX_CHARACTERS` characters are checked.
        languages: ISO 639 codes of the languages a model was trained on; None: unknown, and only a text without words
            gets a message.
    """
    plain = _ADDRESS.sub(" ", text)
    if not any(char.isalnum() for char in plain):
        return "it has no words"
    words = _WORD.findall(plain[:MAX_CHARACTERS])
    if languages is None or not words:
        return None
    trained = ", ".join(sorted(languages))
    other = _other_script(words)
    if other is not None and not OTHER_SCRIPTS.intersection(languages):
        return f"it is written in the {other} script, and the model was trained on {trained}"
    if "en" in languages and _share_of_english(words) >= ENGLISH_SHARE:
        return None
    if other is None and sum(map(len, words)) < MIN_LETTERS:
        return None
    accepted = {*languages, _NO_LANGUAGE, *(_ENGLISH_TOO if "en" in languages else ())}
    code, probability = _identifier().classify(plain[:MAX_CHARACTERS])
    if code in accepted or probability < MIN_PROBABILITY:
        return None
    ranked = dict(_identifier().rank(plain[:MAX_CHARACTERS]))
    if probability < MIN_RATIO * max(ranked.get(language, 0.0) for language in languages):
        return None
    return f"its language seems to be {code!r}, and the model was trained on {trained}"


def _share_of_english(words: list[str]) -> float:
    return sum(word.lower().replace("\u2019", "'") in ENGLISH for word in words) / len(words)


def _other_script(words: list[str]) -> str | None:
    """Return the most frequent script other than Latin; None if Latin prevails."""
    if all(word.isascii() for word in words):
        return None
    scripts = [_script(char) for word in words for char in word if char.isalpha()]
    others = [script for script in scripts if script != "Latin"]
    return max(set(others), key=others.count) if 2 * len(others) > len(scripts) else None


@lru_cache(maxsize=16_384)
def _script(char: str) -> str:
    """Return the script of a letter, the first word of its Unicode name.

    For instance "Latin", "Cyrillic" or "Han".
    """
    return (
        "Latin" if char.isascii() else unicodedata.name(char, "unknown").split()[0].capitalize().replace("Cjk", "Han")
    )


@cache
def _identifier() -> LanguageIdentifier:
    """Load py3langid, naive Bayes over byte n-grams (Lui & Baldwin 2012)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
