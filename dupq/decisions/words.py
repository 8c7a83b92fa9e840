"""The words of a question: where they stand, what they are a form of, which are numbers, names and grammar.

Words are split by Unicode category, so any script is read; inflection and grammar are known of English only.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from dupq.decisions import english


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a question.

    Attributes:
        text: As written; `question[start:end]`.
        start, end: Where it stands, in characters.
        key: The text without case and Unicode form; two words of one key are identical.
        lemmas: What it may be a form of; two words that share a lemma are forms of one word. A number has one: its
            value ("#25", "#1th"). A word of grammar has one, marked "~". A unit has its measure too ("@m:1000").
        function: A word of grammar, which bears little meaning by itself.
        name: Written as a name: a capital within a sentence, or letters of both cases.
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
        """Its value as text ("25", "1th"), if it is a number."""
        return next((lemma[1:] for lemma in self.lemmas if lemma[0] == "#"), None)

    @property
    def forms(self) -> frozenset[str]:
        """Key and lemmas, without marks: what the tables of English are asked for."""
        return self.lemmas | {self.key} | {lemma[1:] for lemma in self.lemmas if lemma[0] == "~"}


# ---- splitting ---------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"(?:L\.){2,}L?(?![LM])|D+(?:[.:/]D+|,D{2,3}(?!D))*|H M*"
    r"|L[LM]*(?:\#(?![LMD])|\+{2}(?![LMD+]))|L[LM]*(?:'L[LM]*)*|S[SM+]*|\+[SM+]*",
    re.VERBOSE,
)
"""Read over the classes of the characters: L letter, M mark, D digit, H ideograph or kana, S symbol, or itself."""

_ENDINGS = ("n't", "'s", "'re", "'ve", "'ll", "'d", "'m")
_SENTENCE_END = re.compile(r"[.?!:;\n\"“”「]")


def _classes(text: str) -> str:
    """One class a character; see `_TOKEN`."""
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
    """Whether it belongs to a script in which words are not set apart and a character is near to a word."""
    return character >= "\u3040" and ("\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" or (
        "\U00020000" <= character <= "\U0003ffff"
    ))  # fmt: skip


def _cut(text: str) -> list[tuple[int, int]]:
    """Where the words stand; "don't" is "do" and "n't"."""
    spans = []
    for found in _TOKEN.finditer(_classes(text)):
        start, end = found.span()
        low = text[start:end].replace("\u2019", "'").lower()
        tail = 0
        if low in english.UNAPOSTROPHISED:
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
    """What an English word may be an inflected form of, itself included; accents do not count."""
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
    """The value of a number in digits, or its text where it is no plain number (a time, a date, a version)."""
    plain = unicodedata.normalize("NFKC", text)
    if re.fullmatch(r"\d{1,3}(,\d{2,3})*,\d{3}(\.\d+)?", plain):
        plain = plain.replace(",", "")
    if len(plain) > 15 or not re.fullmatch(r"\d+(\.\d+)?", plain):
        return plain
    return float(plain) if "." in plain else int(plain)


def _number_at(text: str, spans: list[tuple[int, int]], first: int) -> tuple[str, int] | None:
    """The number that begins at this word, and how many words it takes: "twenty-five", "10 million", "2nd"; or None."""
    total: float = 0
    current: float | None = None
    kind = ""
    place = first
    while place < len(spans):
        start, end = spans[place]
        low = text[start:end].lower()
        glued = place > first and start == spans[place - 1][1]
        if place > first and not glued and text[spans[place - 1][1] : start].strip(" -\u2010\u2011"):
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
            return f"{current:.15g}th", place + 1 - first
        else:
            break
        place += 1
    return (f"{total + (current or 0):.15g}", place - first) if kind else None


def _lone_number(text: str, low: str, before: str) -> str | None:
    """An ordinal or a Roman numeral, by the word before it."""
    if low in english.ORDINALS and not (low == "second" and before.lower() in ("a", "per", "each", "every", "one")):
        return f"{english.ORDINALS[low]}th"
    if text in english.ROMAN and (
        before.lower() in english.BEFORE_ROMAN or (len(text) > 1 and before[:1].isupper() and not before.isupper())
    ):
        return str(english.ROMAN[text])
    return None


# ---- words -------------------------------------------------------------------------------------------------------


def split_words(text: str) -> list[Word]:
    """The words of a text, in their order; symbols and emojis count as words, punctuation does not."""
    spans = _cut(text)
    titled = _is_title(text, spans)
    words: list[Word] = []
    place = 0
    while place < len(spans):
        start, end = spans[place]
        piece = text[start:end]
        low = piece.lower()
        taken = 1
        if counted := _number_at(text, spans, place):
            value: str | None = counted[0]
            taken = counted[1]
            end = spans[place + taken - 1][1]
            piece = text[start:end]
        else:
            value = _lone_number(piece, low, words[-1].text if words else "")
        key = _key(piece)
        counts = value is not None and (key != "one" or (bool(words) and words[-1].key in english.BEFORE_ROMAN))
        function = key in english.FUNCTION and not counts and piece not in ("US", "U.S.")
        opens = not words or bool(_SENTENCE_END.search(text[words[-1].end : start]))
        name = value is None and not function and _is_name(piece, opens, titled)
        if value is not None:
            forms = frozenset({f"#{value}"})
        elif function:
            is_verb = key == "'s" and words and words[-1].function and words[-1].key != "let"
            forms = frozenset({"~be" if is_verb else f"~{english.FUNCTION[key]}"})
        else:
            forms = lemmas(english.ALIASES.get(key, key) if name or piece.isupper() else key)
            forms |= {"@{}:{}".format(*english.MEASURES[form]) for form in forms if form in english.MEASURES}
        words.append(Word(piece, start, end, key, forms, function, name))
        place += taken
    return words


def _is_title(text: str, spans: list[tuple[int, int]]) -> bool:
    """Whether capitals say nothing here: Every Word Has One, OR ALL LETTERS ARE."""
    pieces = [text[start:end] for start, end in spans[1:]]
    telling = [piece for piece in pieces if piece[0].isalpha() and (len(piece) > 3 or piece.lower() in ("is", "are"))]
    return len(telling) > 3 and sum(piece[0].isupper() for piece in telling) >= 0.8 * len(telling)


def _is_name(piece: str, opens: bool, titled: bool) -> bool:
    letters = [character for character in piece if character.isalpha()]
    if not letters or not any(character.isupper() for character in letters):
        return False
    if titled or opens:
        # Only capitals inside the word still tell: iPhone, McDonald, and USA at the start of a sentence.
        return any(c.isupper() for c in letters[1:]) and (not titled or any(c.islower() for c in letters))
    return letters[0].isupper() or any(c.isupper() for c in letters[1:])
