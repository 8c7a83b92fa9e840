"""Contrast pairs: two questions of nearly the same words whose label is known by how the second was made.

Forum pairs teach that shared words mean a duplicate, and a network that learned only that flags "from Paris to Rome"
for "from Rome to Paris". Small edits that turn the label (contrast sets, Gardner et al. 2020), beside small edits that
do not (typos, contractions, synonyms, the passive), teach what matters. English only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dupq.data.splits import PairTable
from dupq.errors import InputError
from dupq.training import contrast_lessons as lessons
from dupq.training import contrast_words as words

Draw = np.random.Generator
Made = tuple[str, str, int] | None

# To train on, and held out; the lessons belong to the first.
OPPOSITES = ((*words.OPPOSITES[::2], *lessons.OPPOSITES), words.OPPOSITES[1::2])
GENDERED = ((*words.GENDERED[::2], *lessons.GENDERED), words.GENDERED[1::2])
DIRECTED = ((*words.DIRECTED[0], *lessons.DIRECTED), words.DIRECTED[1])
UNDIRECTED = ((*words.UNDIRECTED[0], *lessons.UNDIRECTED), words.UNDIRECTED[1])
ALTERNATIVES = ((*words.ALTERNATIVES[0], *lessons.ALTERNATIVES), words.ALTERNATIVES[1])


@dataclass(frozen=True, slots=True)
class ContrastTable:
    """n contrast pairs.

    Attributes:
        pairs: With their labels.
        kinds: What was changed in each: a name of `KINDS`.
    """

    pairs: PairTable
    kinds: list[str]


def contrast_pairs(
    questions: Sequence[str], per_kind: int, *, held_out: bool = False, seed: int = 0, kinds: Sequence[str] = ()
) -> ContrastTable:
    """Makes contrast pairs, by rule, out of open questions and templates.

    Args:
        questions: What the rules rewrite; a rule passes over those it does not fit.
        per_kind: Pairs of each kind; fewer where too few questions fit.
        held_out: Use the half of the words and templates that is kept out of training.
        seed: Another seed makes others.
        kinds: Names of `KINDS`; none given = all.

    Returns:
        The pairs, kind by kind; within a kind no pair comes twice.

    Raises:
        InputError: An unknown kind, or `per_kind` below 1.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown or per_kind < 1:
        problem = f"{sorted(unknown)[0]!r} is no kind of contrast" if unknown else f"per_kind is {per_kind}"
        raise InputError(problem, mend=f"kinds: {', '.join(KINDS)}; at least 1 of each")
    rows: list[tuple[str, str, int]] = []
    named: list[str] = []
    for kind in kinds or KINDS:
        draw = np.random.default_rng([seed, list(KINDS).index(kind), int(held_out)])
        found: dict[tuple[str, str], int] = {}
        for a, b, label in _attempts(kind, questions, held_out, draw, 50 * per_kind):
            pair = (a, b) if draw.random() < 0.5 else (b, a)
            if pair[::-1] not in found:
                found.setdefault(pair, label)
            if len(found) == per_kind:
                break
        rows += [(a, b, label) for (a, b), label in found.items()]
        named += [kind] * len(found)
    labels = np.array([label for *_, label in rows], dtype=np.int8)
    return ContrastTable(PairTable([a for a, *_ in rows], [b for _, b, _ in rows], labels), named)


def _attempts(
    kind: str, questions: Sequence[str], held_out: bool, draw: Draw, most: int
) -> Iterator[tuple[str, str, int]]:
    rule, half = KINDS[kind], int(held_out)
    if kind in FROM_TEMPLATES:
        sources: Iterator[str] = iter([""] * most)
    else:
        sources = (questions[index] for index in draw.permutation(len(questions)))
    for question in sources:
        made = rule(question, half, draw)
        if made is not None and made[0] != made[1]:
            yield made


# ---- rules that rewrite a question --------------------------------------------------------------------------------


def _number(question: str, half: int, draw: Draw) -> Made:
    """Another number."""
    found = list(re.finditer(r"(?<![\w.,])\d{1,4}(?![\w.,]*\d)", question))
    if len(found) != 1:
        return None
    value = int(found[0].group())
    # A year becomes a year nearby, a count another of like size.
    new = value + int(draw.integers(1, 9)) if value > 1000 else int(draw.integers(1, max(12, 3 * value)))
    return None if new == value else (question, _put(question, found[0].span(), str(new)), 0)


def _place(question: str, half: int, draw: Draw) -> Made:
    """Another place."""
    return _exchange(question, words.PLACES[half], draw)


def _name(question: str, half: int, draw: Draw) -> Made:
    """Another person."""
    names = words.NAMES[half]
    if _whole(names, question):
        return _exchange(question, names, draw)
    asked = re.sub(r"\b(?:my|his|her) (?:friend|brother|sister|boss|neighbour|teacher)\b", "{N}", question, count=1)
    if "{N}" not in asked:
        return None
    one, other = draw.choice(names, 2, replace=False)
    return asked.replace("{N}", one), asked.replace("{N}", other), 0


def _opposite(question: str, half: int, draw: Draw) -> Made:
    """A word for its opposite."""
    known = OPPOSITES[half]
    if half:
        return _turned(question, known, 0)
    start = int(draw.integers(len(known)))  # else the words that come first in the list would be met most
    return _turned(question, known[start:] + known[:start], 0)


def _gender(question: str, half: int, draw: Draw) -> Made:
    """He for she."""
    return _turned(question, GENDERED[half], 0)


NEGATABLE = (
    (r"^(Why) (do|does|did|is|are|can|should) ", {"do": "don't", "does": "doesn't", "did": "didn't", "is": "isn't",
                                                  "are": "aren't", "can": "can't", "should": "shouldn't"}),
    (r"^(What|Which \w+|Who) (should|can|could|would) ", {"should": "shouldn't", "can": "can't", "could": "couldn't",
                                                          "would": "wouldn't"}),
)  # fmt: skip


def _negation(question: str, half: int, draw: Draw) -> Made:
    """Not; only in questions with a question word, whose answer it changes."""
    pattern, negatives = NEGATABLE[half]
    found = re.match(pattern, question)
    if found is None or re.search(r"\b(?:not|no|never)\b|n't\b", question):
        return None
    return question, _put(question, found.span(2), negatives[found.group(2)]), 0


def _synonym(question: str, half: int, draw: Draw) -> Made:
    """A word for another of the same meaning."""
    return _turned(question, words.SYNONYMS[half::2], 1)


def _contraction(question: str, half: int, draw: Draw) -> Made:
    """Two words for their contraction, or the other way round."""
    return _turned(question, words.CONTRACTIONS[half::2], 1)


def _typo(question: str, half: int, draw: Draw) -> Made:
    """Two letters the wrong way round (to train on), or one left out (held out)."""
    found = list(re.finditer(r"\b[a-z]{6,}\b", question))
    if not found:
        return None
    match = found[int(draw.integers(len(found)))]
    word, at = match.group(), int(draw.integers(1, len(match.group()) - 2))
    wrong = word[:at] + word[at + 1 :] if half else word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return question, _put(question, match.span(), wrong), 1


def _surface(question: str, half: int, draw: Draw) -> Made:
    """Without capitals and question mark (to train on), or in capitals (held out)."""
    return question, question.upper() if half else question.lower().rstrip("?").rstrip(), 1


# ---- rules that fill a template -----------------------------------------------------------------------------------


def _direction(question: str, half: int, draw: Draw) -> Made:
    """Two names change places where it matters who comes first."""
    return _swapped(DIRECTED[half], half, draw, 0)


def _no_direction(question: str, half: int, draw: Draw) -> Made:
    """Two names change places where it does not matter."""
    return _swapped(UNDIRECTED[half], half, draw, 1)


def _passive(question: str, half: int, draw: Draw) -> Made:
    """Active and passive: the right way round, or the wrong."""
    a, b = draw.choice(words.NAMES[half], 2, replace=False)
    actions = words.ACTIONS[half]
    verb, participle = actions[int(draw.integers(len(actions)))]
    label = int(draw.integers(2))
    done_to, by = (b, a) if label else (a, b)
    return (
        (f"Did {a} {verb} {b}?", f"Was {done_to} {participle} by {by}?", label)
        if draw.random() < 0.5
        else (f"Why did {a} {verb} {b}?", f"Why was {done_to} {participle} by {by}?", label)
    )


def _alternative(question: str, half: int, draw: Draw) -> Made:
    """A or B against A and B."""
    pairs = ALTERNATIVES[half]
    one, other = pairs[int(draw.integers(len(pairs)))]
    fill = _filling(half, draw)
    return one.format(**fill), other.format(**fill), 0


def _filling(half: int, draw: Draw) -> dict[str, str]:
    a, b = draw.choice(words.NAMES[half], 2, replace=False)
    p, q = draw.choice(words.PLACES[half], 2, replace=False)
    x, y = draw.choice(words.THINGS[half], 2, replace=False)
    return {"A": a, "B": b, "P": p, "Q": q, "X": x, "Y": y, "c": draw.choice(words.COMPARED[half])}


def _swapped(templates: Sequence[str], half: int, draw: Draw, label: int) -> Made:
    template, fill = templates[int(draw.integers(len(templates)))], _filling(half, draw)
    other = fill | {"A": fill["B"], "B": fill["A"], "P": fill["Q"], "Q": fill["P"], "X": fill["Y"], "Y": fill["X"]}
    return template.format(**fill), template.format(**other), label


# ---- what the rules share -----------------------------------------------------------------------------------------


def _put(text: str, span: tuple[int, int], new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


def _whole(candidates: Sequence[str], text: str) -> list[str]:
    """Which of these stand in a text as whole words, in the case given."""
    return [word for word in candidates if word in text and re.search(rf"\b{re.escape(word)}\b", text)]


def _exchange(question: str, members: Sequence[str], draw: Draw) -> Made:
    """The one member of a class that stands in the question becomes another."""
    found = _whole(members, question)
    if len(found) != 1:
        return None
    other = draw.choice([member for member in members if member != found[0]])
    return question, re.sub(rf"\b{re.escape(found[0])}\b", other, question), 0


def _turned(question: str, pairs: Sequence[tuple[str, str]], label: int) -> Made:
    """The one word that stands in the question becomes its partner; not where both stand there, to be compared."""
    for pair in pairs:
        found = _whole(pair, question)
        if len(found) == 1:
            other = pair[1] if found[0] == pair[0] else pair[0]
            if re.search(rf"\b{re.escape(other)}\b", question, re.IGNORECASE):
                return None
            return question, re.sub(rf"\b{re.escape(found[0])}\b", other, question), label
    return None


KINDS: dict[str, Callable[[str, int, Draw], Made]] = {
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
    "direction": _direction,
    "no direction": _no_direction,
    "passive": _passive,
    "alternative": _alternative,
}
"""Each kind of contrast -> its rule, which is given a question, the half of the words and a generator of numbers."""

FROM_TEMPLATES = ("direction", "no direction", "passive", "alternative")
