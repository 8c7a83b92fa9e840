"""Tables of English for the explanation of a pair, read from `dupq.data.lexicon`.

The tables are short on purpose: they point things out to a moderator, and no score depends on them.
"""

from __future__ import annotations

from dupq.data import lexicon

_GRAMMAR = lexicon.load("grammar")
_FORMS = lexicon.load("word_forms")
_NAMES = lexicon.load("names")
_NUMBERS = lexicon.load("numbers")

FUNCTION: dict[str, str] = {
    **dict(zip(_GRAMMAR["function_words"], _GRAMMAR["function_words"], strict=True)),
    **lexicon.by_form(_GRAMMAR["function_word_forms"]),
}
"""Function word -> its base form. Function words match only each other, never by similarity of meaning."""
NEGATIONS = frozenset(_GRAMMAR["negations"])
CONTRACTED_NEGATIONS = frozenset(_GRAMMAR["contracted_negations"])
"""Contractions of "not" typed without the apostrophe."""
SYMMETRIC_RELATIONS = frozenset(_GRAMMAR["symmetric_relations"])
"""Relations that hold in both directions between the words around them: "A is similar to B"."""
SYMMETRIC_QUESTIONS = frozenset(_GRAMMAR["symmetric_questions"])
"""Symmetric relations at any place in the question: "the distance from A to B"."""
ROLE_WORDS = frozenset(_GRAMMAR["role_words"])
"""Function words that give the words on their left and right different roles."""
LOOSE_WORDS = frozenset(_GRAMMAR["loose_words"])
"""Function words that attach phrases in any order: "a maths book for beginners"."""
JOINT_WORDS = frozenset(_GRAMMAR["joint_words"])
"""Words beside which "A and B" asks for a choice, as "A or B" does."""
PARTICLES = frozenset(_GRAMMAR["particles"])
"""Words that are opposites only after the same verb: "turn on", "turn off"."""

IRREGULAR = lexicon.by_form(_FORMS["irregular"])
"""Irregular form, or spelling variant -> its lemma."""
NOT_INFLECTED = frozenset(_FORMS["not_inflected"])
"""Words that look like an inflected form and are none."""

NAME_ALIASES = lexicon.by_form(_NAMES["aliases"])
"""Name -> its usual form; applied only to words written as a name."""
NAME_TITLES = frozenset(_NAMES["titles"])

SMALL: dict[str, int] = {word: value for value, word in enumerate(_NUMBERS["small"])}
TENS: dict[str, int] = {word: 10 * value for value, word in enumerate(_NUMBERS["tens"], 2)}
SCALES: dict[str, int] = _NUMBERS["scales"]
ORDINALS: dict[str, int] = {word: value for value, word in enumerate(_NUMBERS["ordinals"], 1)}
ROMAN: dict[str, int] = {word: value for value, word in enumerate(_NUMBERS["roman"], 1)}
BEFORE_ROMAN = frozenset(_NUMBERS["before_roman"])
"""Words after which a single I, V or X is a number."""

UNITS: dict[str, tuple[str, float]] = {
    unit: (base, factor) for base, units in lexicon.load("units").items() for unit, factor in units.items()
}
"""Unit -> (base unit, factor)."""

OPPOSITES = frozenset(frozenset(pair[:2]) for pair in lexicon.opposites() if pair.explained)
