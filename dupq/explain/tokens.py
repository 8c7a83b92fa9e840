"""Words of a question, with positions, lemmas and the values of numbers.

Names and function words are marked. Words are split by Unicode category in any script. Inflection and function words
cover English only.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from dupq.explain import english


@dataclass(frozen=True, slots=True)
class Word:
    """Word of a question.

    Attributes:
        text: The word as written, `question[start:end]`.
        start, end: Its position, in characters.
        key: The text with case and Unicode form normalised; words with one key are identical.
        lemmas: Its possible lemmas; two words that share one are forms of one word. A number has one, its value
            ("#25", "#1th"); a function word has one, marked "~"; a unit also has its base unit and factor ("@m:1000").
        function: True for a function word, which carries little meaning alone.
        name: True if written as a name: a capital within a sentence, or letters of both cases.
    """

    text: str
    start: int
    end: int
    key: str
    lemmas: frozenset[str]
    function: bool = False
    name: bool = False

    @property
    def number(self) -> str | None:
        """The value of a number as text ("25", "1th"), else None."""
        return next((lemma[1:] for lemma in self.lemmas if lemma[0] == "#"), None)

    @property
    def forms(self) -> frozenset[str]:
        """Key and lemmas without marks, for look-up in the tables of English."""
        return self.lemmas | {self.key} | {lemma[1:] for lemma in self.lemmas if lemma[0] == "~"}


# ---- splitting ---------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"(?:L\.){2,}L?(?![LM])|D+(?:[.:/]D+|,D{2,3}(?!D))*|H M*"
    r"|L[LM]*(?:\#(?![LMD])|\+{2}(?![LMD+]))|L[LM]*(?:'L[LM]*)*|S[SM+]*|\+[SM+]*",
    re.VERBOSE,
)
"""Pattern over character classes: L letter, M mark, D digit, H ideograph or kana, S symbol; others are themselves."""

_ENDINGS = ("n't", "'s", "'re", "'ve", "'ll", "'d", "'m")
_SENTENCE_END = re.compile(r"[.?!:;\n\"“”「]")


def _classes(text: str) -> str:
    """Return the class of each character, see `_TOKEN`."""
    found = []
    for character in text:
        category = unicodedata.category(character)
        if category == "Nd":
            found.append("D")
        elif category[0] in "LN" or character == "_":
            found.append("H" if category == "Lo" and _spaceless(character) else "L")
        elif category[0] == "M" or character in "\u200c\u200d":
            found.append("M")
        elif character in "'\u2019":
            found.append("'")
        elif character in ".,:/+#":
            found.append(character)
        elif category in ("So", "Sm", "Sc") or character in "%&" or "\U0001f3fb" <= character <= "\U0001f3ff":
            found.append("S")
        else:
            found.append(" ")
    return "".join(found)


def _spaceless(character: str) -> bool:
    """Return True for scripts without spaces, in which a character is close to a word."""
    return character >= "\u3040" and ("\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" or (
        "\U00020000" <= character <= "\U0003ffff"
    ))  # fmt: skip


def _word_spans(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of each word; "don't" is split into "do" and "n't"."""
    spans = []
    for found in _TOKEN.finditer(_classes(text)):
        start, end = found.span()
        low = text[start:end].replace("\u2019", "'").lower()
        tail = 0
        if low in english.CONTRACTED_NEGATIONS:
            tail = 2
        elif low == "cannot":
            tail = 3
        elif low in ("wwi", "wwii"):
            tail = len(low) - 2
        else:
            tail = next((len(ending) for ending in _ENDINGS if low.endswith(ending) and low != ending), 0)
        if tail and len(low) == end - start:
            spans.append((start, end - tail))
            start = end - tail
        spans.append((start, end))
    return spans


def _key(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'").rstrip(".")


def lemmas(key: str) -> frozenset[str]:
    """Return the possible lemmas of an English word, itself included, without accents."""
    bare = "".join(c for c in unicodedata.normalize("NFD", key) if not "\u0300" <= c <= "\u036f")
    word = unicodedata.normalize("NFC", bare)
    found = {english.IRREGULAR.get(word, word)}
    if word in english.IRREGULAR or word in english.NOT_INFLECTED or not (word.isascii() and word.isalpha()):
        return frozenset(found)
    if len(word) > 3 and word.endswith("s") and word[-2] not in "su" and not word.endswith("is"):
        found.add(word[:-1])
        if word.endswith("ies"):
            found.add(word[:-3] + "y")
        elif word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            found.add(word[:-2])
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base == word or len(base) < 2 or word.endswith("eed") or not any(c in "aeiouy" for c in base):
            continue
        found.add(base + "e")
        if len(base) > 2:
            found.add(base)
        if len(base) > 3 and base[-1] == base[-2]:
            found.add(base[:-1])
        if ending == "ed" and base.endswith("i"):
            found.add(base[:-1] + "y")
    return frozenset(english.IRREGULAR.get(form, form) for form in found)


# ---- numbers -----------------------------------------------------------------------------------------------------


def _digits(text: str) -> float | int | str:
    """Return the value of a number in digits, or its normalised text.

    Times, dates, versions and numbers of more than 15 characters are text.
    """
    plain = unicodedata.normalize("NFKC", text)
    if re.fullmatch(r"\d{1,3}(,\d{2,3})*,\d{3}(\.\d+)?", plain):
        plain = plain.replace(",", "")
    if len(plain) > 15 or not re.fullmatch(r"\d+(\.\d+)?", plain):
        return plain
    return float(plain) if "." in plain else int(plain)


def _number_at(text: str, spans: list[tuple[int, int]], first: int) -> tuple[str, int] | None:
    """Return the number that starts at a word, and its length in words.

    Examples are "twenty-five", "10 million" and "2nd". None if no number starts there.
    """
    total: float = 0
    current: float | None = None
    kind = ""
    index = first
    while index < len(spans):
        start, end = spans[index]
        low = text[start:end].lower()
        glued = index > first and start == spans[index - 1][1]
        if index > first and not glued and text[spans[index - 1][1] : start].strip(" -\u2010\u2011"):
            break
        if not kind and low[0].isdecimal():
            value = _digits(low)
            if isinstance(value, str):
                return value, 1
            current, kind = value, "digits"
        elif low in english.TENS and kind in ("", "scale"):
            current, kind = (current or 0) + english.TENS[low], "tens"
        elif low in english.SMALL and (kind in ("", "scale") or (kind == "tens" and 0 < english.SMALL[low] < 10)):
            current, kind = (current or 0) + english.SMALL[low], "small"
        elif kind and (low in english.SCALES or (glued and low == "k")):
            scale = english.SCALES.get(low, 1000)
            if scale == 100:
                current = (current or 1) * scale
            else:
                total, current = total + (current or 1) * scale, None
            kind = "scale"
        elif kind == "digits" and glued and low in ("st", "nd", "rd", "th"):
            return f"{current:.15g}th", index + 1 - first
        else:
            break
        index += 1
    return (f"{total + (current or 0):.15g}", index - first) if kind else None


def _ordinal_or_roman(text: str, low: str, before: str) -> str | None:
    """Return the value of an ordinal or a Roman numeral.

    The word before it excludes other meanings, such as that of "a second". None for them and for other words.
    """
    if low in english.ORDINALS and not (low == "second" and before.lower() in ("a", "per", "each", "every", "one")):
        return f"{english.ORDINALS[low]}th"
    if text in english.ROMAN and (
        before.lower() in english.BEFORE_ROMAN or (len(text) > 1 and before[:1].isupper() and not before.isupper())
    ):
        return str(english.ROMAN[text])
    return None


# ---- words -------------------------------------------------------------------------------------------------------


def split_words(text: str) -> list[Word]:
    """Return the words of a text, in order.

    Symbols and emojis are words, punctuation is not.
    """
    return first_words(text, len(text))[0]


def first_words(text: str, max_words: int) -> tuple[list[Word], int]:
    """Return the first words of a text, and the number of tokens after them.

    It stops at `max_words` words; see `split_words`.
    """
    spans = _word_spans(text)
    titled = _is_title(text, spans)
    words: list[Word] = []
    index = 0
    while index < len(spans) and len(words) < max_words:
        start, end = spans[index]
        piece = text[start:end]
        low = piece.lower()
        length = 1
        if number := _number_at(text, spans, index):
            value: str | None = number[0]
            length = number[1]
            end = spans[index + length - 1][1]
            piece = text[start:end]
        else:
            value = _ordinal_or_roman(piece, low, words[-1].text if words else "")
        key = _key(piece)
        is_number = value is not None and (key != "one" or (bool(words) and words[-1].key in english.BEFORE_ROMAN))
        function = key in english.FUNCTION and not is_number and piece not in ("US", "U.S.")
        starts_sentence = not words or bool(_SENTENCE_END.search(text[words[-1].end : start]))
        name = value is None and not function and _is_name(piece, starts_sentence, titled)
        if value is not None:
            forms = frozenset({f"#{value}"})
        elif function:
            is_verb = key == "'s" and words and words[-1].function and words[-1].key != "let"
            forms = frozenset({"~be" if is_verb else f"~{english.FUNCTION[key]}"})
        else:
            forms = lemmas(english.NAME_ALIASES.get(key, key) if name or piece.isupper() else key)
            forms |= {"@{}:{}".format(*english.UNITS[form]) for form in forms if form in english.UNITS}
        words.append(Word(piece, start, end, key, forms, function, name))
        index += length
    return words, len(spans) - index


def _is_title(text: str, spans: list[tuple[int, int]]) -> bool:
    """Return True for a text in which capitals mark no names.

    Examples: Every Word Has One, OR ALL LETTERS ARE CAPITALS.
    """
    pieces = [text[start:end] for start, end in spans[1:]]
    capitalisable = [
        piece for piece in pieces if piece[0].isalpha() and (len(piece) > 3 or piece.lower() in ("is", "are"))
    ]
    return len(capitalisable) > 3 and sum(piece[0].isupper() for piece in capitalisable) >= 0.8 * len(capitalisable)


def _is_name(piece: str, starts_sentence: bool, titled: bool) -> bool:
    letters = [character for character in piece if character.isalpha()]
    if not letters or not any(character.isupper() for character in letters):
        return False
    if titled or starts_sentence:
        # Here only capitals inside the word mark a name: iPhone, McDonald, and USA at the start of a sentence.
        return any(c.isupper() for c in letters[1:]) and (not titled or any(c.islower() for c in letters))
    return letters[0].isupper() or any(c.isupper() for c in letters[1:])
