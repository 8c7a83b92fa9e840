"""Contrast sets: pairs of nearly the same words, labelled by the rule of each.

Forum pairs teach that shared words mean a duplicate, and a network that learns only that flags "from Paris to Rome" for
"from Rome to Paris". Small edits that change the label (contrast sets, Gardner et al. 2020), beside small edits that do
not (typos, contractions, synonyms, the passive), show the difference. English only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from dupq.data import lexicon
from dupq.data.arguments import as_int, as_seed
from dupq.data.pairs import PairTable, as_table
from dupq.errors import InputError
from dupq.training.contrast_templates import fill_family, template_families

Draw = np.random.Generator
Made = tuple[str, str, int] | None
"""Two questions and their label; None where the rule does not fit."""


@dataclass(frozen=True, slots=True)
class ContrastTable:
    """Contrast pairs with the kind of each.

    Attributes:
        pairs: n labelled pairs.
        kinds: The change in each, a name of `KINDS`.
    """

    pairs: PairTable
    kinds: list[str]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words of one split; the two splits share none.

    Attributes:
        held_out: True for the words kept out of training.
        opposites, gendered: Pairs of words.
        negations: Pattern of a question that can be negated, and verb -> its negation.
        words: Name -> words, or pairs of words, of `contrast_train.json` or `contrast_held_out.json`; "name" and
            "place" join the lists of `_NAMES` and `_PLACES`.
    """

    held_out: bool
    opposites: list[Sequence[str]]
    gendered: list[Sequence[str]]
    negations: tuple[str, dict[str, str]]
    words: dict[str, list[Any]]


_NAMES = ("male", "female")
_PLACES = ("country", "city", "state")
"""Lists within which a name, or a place, is replaced."""

_NEGATIONS = (
    (r"^(Why) (do|does|did|is|are|can|should) ", {"do": "don't", "does": "doesn't", "did": "didn't", "is": "isn't",
                                                  "are": "aren't", "can": "can't", "should": "shouldn't"}),
    (r"^(What|Which \w+|Who) (should|can|could|would) ", {"should": "shouldn't", "can": "can't", "could": "couldn't",
                                                          "would": "wouldn't"}),
)  # fmt: skip


@cache
def vocabulary(held_out: bool) -> Vocabulary:
    """Return the words to train on, or the held-out ones."""
    split = "held_out" if held_out else "train"
    words: dict[str, list[Any]] = lexicon.load(f"contrast_{split}")
    turned: dict[str, list[Sequence[str]]] = {
        kind: [row[:2] for row in lexicon.opposites() if (row.kind, row.split) == (kind, split)]
        for kind in ("opposite", "gender")
    }
    joined = {"name": [word for name in _NAMES for word in words[name]]}
    joined["place"] = [word for name in _PLACES for word in words[name]]
    return Vocabulary(held_out, turned["opposite"], turned["gender"], _NEGATIONS[held_out], {**words, **joined})


_NEGATIVE = re.compile(r"\b(?:not|no|never)\b|n't\b")
_ANY_NUMBER = re.compile(
    r"[^\s?!;:()\"'$€£₹]*\d[^\s?!;:()\"']*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|hundred|thousand|million)\b",
    re.IGNORECASE,
)
_LISTS = re.compile(r"\b(?:top|best|things|ways|reasons|tips|examples|facts|books|movies)\b", re.IGNORECASE)
"""Words of questions that ask for a list, whose length hardly matters."""

MAX_PER_KIND = 1_000_000
"""Pairs of one kind; more would take hours, and hold little that is new."""


def contrast_pairs(
    questions: Sequence[str],
    per_kind: int,
    *,
    duplicates: PairTable | None = None,
    held_out: bool = False,
    seed: int = 0,
    kinds: Sequence[str] = (),
) -> ContrastTable:
    """Make contrast pairs, by rule, from questions, labelled duplicates and templates.

    Args:
        questions: The questions to rewrite; a rule skips those that it does not fit.
        per_kind: The number of pairs of each kind; fewer if too few sources fit.
        duplicates: Labelled pairs; those of label 1 are rewritten on one side or on both (default: none).
        held_out: Use the words and templates that are kept out of training (default: False).
        seed: The seed of the draws (default: 0).
        kinds: Names of `KINDS` (default: all).

    Returns:
        The pairs, kind by kind, without repeats within a kind.

    Raises:
        InputError: A kind is unknown, or `per_kind` is not between 1 and `MAX_PER_KIND`.
    """
    as_int(per_kind, "per_kind", 1, MAX_PER_KIND)
    as_seed(seed)
    if unknown := set(kinds) - set(KINDS):
        raise InputError(f"{sorted(unknown)[0]!r} is no kind of contrast", hint=f"kinds: {', '.join(KINDS)}")
    known = PairTable([], [], np.zeros(0, np.int8)) if duplicates is None else as_table(duplicates, "duplicates")
    known = known.take(known.labels == 1)
    rows: list[tuple[str, str, int]] = []
    row_kinds: list[str] = []
    words = vocabulary(bool(held_out))
    for kind in kinds or KINDS:
        draw = np.random.default_rng([seed, KINDS.index(kind), int(held_out)])
        found: dict[tuple[str, str], int] = {}
        for a, b, label in _attempts(kind, questions, known, words, draw, 50 * per_kind):
            pair = (a, b) if draw.random() < 0.5 else (b, a)
            if pair[::-1] not in found:
                found.setdefault(pair, label)
            if len(found) == per_kind:
                break
        rows += [(a, b, label) for (a, b), label in found.items()]
        row_kinds += [kind] * len(found)
    labels = np.array([label for *_, label in rows], dtype=np.int8)
    return ContrastTable(PairTable([a for a, *_ in rows], [b for _, b, _ in rows], labels), row_kinds)


def _attempts(
    kind: str, questions: Sequence[str], known: PairTable, words: Vocabulary, draw: Draw, max_templates: int
) -> Iterator[tuple[str, str, int]]:
    """Yield the pairs that the rule of a kind makes, with repeats."""
    if kind in FROM_TEMPLATES:
        families = template_families(kind, words.held_out)
        choices = draw.integers(len(families), size=max_templates).tolist()
        made: Iterator[Made] = (fill_family(families[at], words.words, draw) for at in choices)
    elif kind in FROM_DUPLICATES:
        # Either side may be the one that is changed.
        turns = ((index, draw.random() < 0.5) for index in draw.permutation(len(known)).tolist())
        sides = (((known.left[at], known.right[at])[:: -1 if turned else 1]) for at, turned in turns)
        made = (FROM_DUPLICATES[kind](one, other, words, draw) for one, other in sides)
    else:
        made = (FROM_QUESTIONS[kind](questions[at], words, draw) for at in draw.permutation(len(questions)).tolist())
    yield from (row for row in made if row is not None and row[0] != row[1])


# ---- rules that rewrite a question --------------------------------------------------------------------------------


def _number(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace the number."""
    found = list(re.finditer(r"(?<![\w.,])\d{1,4}(?![\w.,]*\d)", question))
    if len(found) != 1:
        return None
    value = int(found[0].group())
    new = _number_near(value, draw)
    return None if new == value else (question, _replace_span(question, found[0].span(), str(new)), 0)


def _number_near(value: int, draw: Draw) -> int:
    """Draw a year close to a year, or a count of similar size."""
    return value + int(draw.integers(1, 9)) if 1900 <= value < 2100 else int(draw.integers(2, max(12, 3 * value)))


def _place(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace the place."""
    return _replace_member(question, _PLACES, words, draw)


def _name(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace the person."""
    if made := _replace_member(question, _NAMES, words, draw):
        return made
    template = re.sub(r"\b(?:my|his|her) (?:friend|brother|sister|boss|neighbour|teacher)\b", "{N}", question, count=1)
    if "{N}" not in template:
        return None
    one, other = draw.choice(words.words["name"], 2, replace=False)
    return template.replace("{N}", one), template.replace("{N}", other), 0


def _opposite(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace a word with its opposite."""
    pairs = words.opposites
    if not words.held_out:
        # A random start keeps the first pairs of the list from being used most.
        start = int(draw.integers(len(pairs)))
        pairs = pairs[start:] + pairs[:start]
    return _replace_with_partner(question, pairs, 0)


def _gender(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace he with she."""
    return _replace_with_partner(question, words.gendered, 0)


def _negation(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Negate a question with a question word, whose answer changes."""
    pattern, negations = words.negations
    found = re.match(pattern, question)
    if found is None or _NEGATIVE.search(question):
        return None
    return question, _replace_span(question, found.span(2), negations[found.group(2)]), 0


def _synonym(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace a word with a synonym."""
    return _replace_with_partner(question, words.words["synonym"], 1)


def _contraction(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Contract two words, or expand a contraction."""
    return _replace_with_partner(question, words.words["contraction"], 1)


def _typo(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Swap two letters (to train on), or drop one (held out)."""
    found = list(re.finditer(r"\b[a-z]{6,}\b", question))
    if not found:
        return None
    match = found[int(draw.integers(len(found)))]
    word, at = match.group(), int(draw.integers(1, len(match.group()) - 2))
    wrong = word[:at] + word[at + 1 :] if words.held_out else word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return question, _replace_span(question, match.span(), wrong), 1


def _surface(question: str, words: Vocabulary, draw: Draw) -> Made:
    """Drop capitals and question mark (training), or capitalise all (held out)."""
    return question, question.upper() if words.held_out else question.lower().rstrip("?").rstrip(), 1


# ---- rules that rewrite duplicates --------------------------------------------------------------------------------


def _paired_name(one: str, other: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace the person in one question (0) or in both (1)."""
    return _replace_in_one_or_both(one, other, _NAMES, words, draw)


def _paired_place(one: str, other: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace the place in one question (0) or in both (1)."""
    return _replace_in_one_or_both(one, other, _PLACES, words, draw)


def _paired_number(one: str, other: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace the number in one question (0) or in both (1)."""
    old = _ANY_NUMBER.findall(one)
    if len(old) != 1 or _ANY_NUMBER.findall(other) != old or not old[0].isdigit() or _LISTS.search(f"{one} {other}"):
        return None
    value = int(old[0])
    new = _number_near(value, draw)
    return None if new == value else _one_or_both(one, other, old[0], str(new), draw)


def _paired_opposite(one: str, other: str, words: Vocabulary, draw: Draw) -> Made:
    """Replace a word of both questions with its opposite in one of them.

    Words that often have other senses are skipped.
    """
    for at in draw.permutation(len(words.opposites)).tolist():
        pair = words.opposites[at]
        if not set(pair).isdisjoint(words.words["ambiguous"]):
            continue
        found = _whole_words(pair, other)
        if len(found) == 1 and _whole_words(pair, one) == found:
            new = pair[1] if found[0] == pair[0] else pair[0]
            return one, _replace_word(other, found[0], new), 0
    return None


def _paired_negation(one: str, other: str, words: Vocabulary, draw: Draw) -> Made:
    """Negate one of two questions with a question word."""
    made = _negation(other, words, draw)
    return None if made is None or _NEGATIVE.search(one) else (one, made[1], 0)


def _paired_context(one: str, other: str, words: Vocabulary, draw: Draw) -> Made:
    """Put remarks that do not matter before one or both questions.

    Both questions get different remarks.
    """
    first, second = draw.choice(words.words["aside"], 2, replace=False)
    return (f"{first} {one}" if draw.random() < 0.7 else one), f"{second} {other}", 1


def _paired_wording(one: str, other: str, words: Vocabulary, draw: Draw) -> Made:
    """Change the wording of one of two questions, but not the meaning."""
    rules = (_synonym, _contraction, _typo, _surface)
    made = rules[int(draw.integers(len(rules)))](other, words, draw)
    return None if made is None else (one, made[1], 1)


def _replace_in_one_or_both(one: str, other: str, lists: Sequence[str], words: Vocabulary, draw: Draw) -> Made:
    """Replace the one list member that both questions hold.

    The replacement is another member of its list.
    """
    found = _member(one, lists, words)
    if found is None or found != _member(other, lists, words):
        return None
    return _one_or_both(one, other, found[0], draw.choice([word for word in found[1] if word != found[0]]), draw)


def _one_or_both(one: str, other: str, old: str, new: str, draw: Draw) -> Made:
    label = int(draw.integers(2))
    return _replace_word(one, old, new) if label else one, _replace_word(other, old, new), label


# ---- replacement of words -----------------------------------------------------------------------------------------


def _replace_span(text: str, span: tuple[int, int], new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


def _replace_word(text: str, old: str, new: str) -> str:
    return re.sub(rf"\b{re.escape(old)}\b", new, text)


def _whole_words(candidates: Sequence[str], text: str) -> list[str]:
    """Return the candidates that occur in a text as whole words, in this case."""
    return [word for word in candidates if word in text and re.search(rf"\b{re.escape(word)}\b", text)]


def _member(text: str, lists: Sequence[str], words: Vocabulary) -> tuple[str, list[str]] | None:
    """Return the only list member in a text, with its list.

    Return None if the text holds none or several.
    """
    found = [(word, name) for name in lists for word in set(words.words[name]).intersection(re.findall(r"\w+", text))]
    return (found[0][0], words.words[found[0][1]]) if len(found) == 1 else None


def _replace_member(question: str, lists: Sequence[str], words: Vocabulary, draw: Draw) -> Made:
    """Replace the only member of some lists with another one of its list."""
    found = _member(question, lists, words)
    if found is None:
        return None
    other = draw.choice([word for word in found[1] if word != found[0]])
    return question, _replace_word(question, found[0], other), 0


def _replace_with_partner(question: str, pairs: Sequence[Sequence[str]], label: int) -> Made:
    """Replace the first word that has a partner; skip questions that compare both."""
    for pair in pairs:
        found = _whole_words(pair, question)
        if len(found) == 1:
            other = pair[1] if found[0] == pair[0] else pair[0]
            if re.search(rf"\b{re.escape(other)}\b", question, re.IGNORECASE):
                return None
            return question, _replace_word(question, found[0], other), label
    return None


FROM_QUESTIONS: dict[str, Callable[[str, Vocabulary, Draw], Made]] = {
    "number": _number,
    "place": _place,
    "name": _name,
    "opposite": _opposite,
    "gender": _gender,
    "negation": _negation,
    "synonym": _synonym,
    "contraction": _contraction,
    "typo": _typo,
    "surface": _surface,
}
"""Kind that rewrites a question -> its rule, which takes the question, the words of a split and a random generator."""

FROM_TEMPLATES = (
    "direction", "no direction", "passive", "alternative", "relation", "tense", "comparison", "not opposite",
    "modifier", "context", "pronoun", "trait", "everyday",
)  # fmt: skip
"""Kinds that fill templates."""

FROM_DUPLICATES: dict[str, Callable[[str, str, Vocabulary, Draw], Made]] = {
    "paired name": _paired_name,
    "paired place": _paired_place,
    "paired number": _paired_number,
    "paired opposite": _paired_opposite,
    "paired negation": _paired_negation,
    "paired context": _paired_context,
    "paired wording": _paired_wording,
}
"""Kind that rewrites duplicates, on one side or on both -> its rule."""

KINDS = (*FROM_QUESTIONS, *FROM_TEMPLATES, *FROM_DUPLICATES)
"""All kinds of contrast."""
