"""Conflicts between two aligned questions.

They concern numbers, negations, names, word order, opposites and choices. The rules are hints for a moderator. They
cover English words; numbers, and names in scripts with capitals, are found in any language. A rule may miss a conflict,
and may report one that is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from dupq.explain import english
from dupq.explain.alignment import Match, opposed
from dupq.explain.tokens import Word


class ConflictKind(str, Enum):
    """Kind of a conflict."""

    NUMBER = "number"
    NEGATION = "negation"
    NAME = "name"
    ORDER = "order"
    OPPOSITE = "opposite"
    CHOICE = "choice"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Conflict:
    """Sign that two questions ask different things.

    Attributes:
        kind: The rule that found it.
        words1, words2: Indices of its words in the first and in the second question; one may be empty.
        why: The reason, worded for either order of the questions.
    """

    kind: ConflictKind
    words1: tuple[int, ...]
    words2: tuple[int, ...]
    why: str

    def mirrored(self) -> Conflict:
        """Return the conflict with the questions exchanged."""
        return replace(self, words1=self.words2, words2=self.words1)


@dataclass(frozen=True)
class _Sides:
    """Two aligned questions, with the match of each word: to2[i] = j, to1[j] = i."""

    words1: Sequence[Word]
    words2: Sequence[Word]
    to2: dict[int, int]
    to1: dict[int, int]

    @property
    def free1(self) -> list[int]:
        return [index for index in range(len(self.words1)) if index not in self.to2]

    @property
    def free2(self) -> list[int]:
        return [index for index in range(len(self.words2)) if index not in self.to1]


def find_conflicts(words1: Sequence[Word], words2: Sequence[Word], matches: Sequence[Match]) -> list[Conflict]:
    """Return the conflicts between two aligned questions, grouped by kind.

    Args:
        words1, words2: Their words.
        matches: The alignment, see `align`.
    """
    sides = _Sides(
        words1, words2, {match.word1: match.word2 for match in matches}, {match.word2: match.word1 for match in matches}
    )
    negation = list(_negation(sides))
    opposites = list(_opposites(sides))
    order = list(_order(sides))
    if negation and len(opposites) == 1 and _negated_opposite(sides, negation[0], opposites[0]):
        negation, opposites = [], []
    if order and any(set(_indices_between(order[0].words1)) & set(opposite.words1) for opposite in opposites):
        # "A is better than B" and "B is worse than A" mean the same.
        order, opposites = [], []
    return [*_numbers(sides), *negation, *_names(sides), *order, *opposites, *_choices(sides)]


# ---- numbers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Quantity:
    value: str
    unit: str | None
    factor: float
    indices: tuple[int, ...]

    @property
    def ordinal(self) -> bool:
        return self.value.endswith("th")

    def equals(self, other: _Quantity) -> bool:
        """Return True if both may be the same amount; a missing unit equals any unit."""
        if self.unit is None or other.unit is None:
            return self.value == other.value
        if self.unit != other.unit:
            return False
        try:
            return math.isclose(float(self.value) * self.factor, float(other.value) * other.factor, rel_tol=1e-9)
        except ValueError:
            return self.value == other.value


def _quantities(words: Sequence[Word]) -> list[_Quantity]:
    """Return the numbers of a question with their units.

    A lone "one" is left out, because it may be a pronoun.
    """
    found = []
    for index, word in enumerate(words):
        if word.number is None or word.function:
            continue
        for beside in (index + 1, index - 1):
            # A unit follows the number; only a currency sign precedes it.
            if not 0 <= beside < len(words) or (beside < index and words[beside].key not in ("$", "€", "£", "₹", "rs")):
                continue
            unit = next((english.UNITS[form] for form in words[beside].forms if form in english.UNITS), None)
            if unit is not None:
                found.append(_Quantity(word.number, unit[0], unit[1], (index, beside)))
                break
        else:
            found.append(_Quantity(word.number, None, 1.0, (index,)))
    return found


def _numbers(sides: _Sides) -> Iterator[Conflict]:
    left, right = _quantities(sides.words1), _quantities(sides.words2)
    for exact in (True, False):
        for quantity in list(left):
            twin = next((q for q in right if quantity.equals(q) and (not exact or quantity.unit == q.unit)), None)
            if twin is not None:
                left.remove(quantity)
                right.remove(twin)
    # An ordinal and a cardinal, such as "first" and "2016", are no conflict.
    for kind in {quantity.ordinal for quantity in left} ^ {quantity.ordinal for quantity in right}:
        left = [quantity for quantity in left if quantity.ordinal != kind]
        right = [quantity for quantity in right if quantity.ordinal != kind]
    if not left or not right:
        return
    same_values = sorted(q.value for q in left) == sorted(q.value for q in right)
    yield Conflict(
        ConflictKind.NUMBER,
        tuple(sorted({index for quantity in left for index in quantity.indices})),
        tuple(sorted({index for quantity in right for index in quantity.indices})),
        "the same number in different units" if same_values else "the numbers differ",
    )


# ---- negation ----------------------------------------------------------------------------------------------------


def _negations(words: Sequence[Word]) -> tuple[int, ...]:
    found = []
    for index, word in enumerate(words):
        after = words[index + 1] if index + 1 < len(words) else None
        before = {earlier.key for earlier in words[max(0, index - 2) : index]}
        if word.key not in english.NEGATIONS and "~not" not in word.lemmas:
            continue
        # "... or not?", "... or why not?", "not only", "no matter" and "no. 5" negate nothing.
        idiom = (word.key == "not" and "or" in before and after is None) or (
            after is not None and ((word.key, after.key) in (("not", "only"), ("no", "matter")) or (
                word.key == "no" and after.number is not None and not after.function
            ))
        )  # fmt: skip
        if not idiom:
            found.append(index)
    return tuple(found)


def _negation(sides: _Sides) -> Iterator[Conflict]:
    left, right = _negations(sides.words1), _negations(sides.words2)
    if bool(left) != bool(right):
        yield Conflict(ConflictKind.NEGATION, left, right, "only one of the questions is negated")


def _negated_opposite(sides: _Sides, negation: Conflict, opposite: Conflict) -> bool:
    """Return True for two forms of one negation: "not possible" and "impossible".

    Only function words may stand between the negation and its word.
    """
    first = sides.words1[opposite.words1[0]].key
    second = sides.words2[opposite.words2[0]].key
    if negation.words1:
        words, negated, index, same = sides.words1, negation.words1, opposite.words1[0], second.endswith(first)
    else:
        words, negated, index, same = sides.words2, negation.words2, opposite.words2[0], first.endswith(second)
    return same and len(negated) == 1 and negated[0] < index and not _has_content(words[negated[0] + 1 : index])


# ---- names -------------------------------------------------------------------------------------------------------


def _names(sides: _Sides) -> Iterator[Conflict]:
    left = _free_names(sides.words1, sides.free1, sides.words2)
    right = _free_names(sides.words2, sides.free2, sides.words1)
    if left and right:
        yield Conflict(ConflictKind.NAME, left, right, "different names (which may still name one thing)")


def _free_names(words: Sequence[Word], free: Sequence[int], others: Sequence[Word]) -> tuple[int, ...]:
    """Return the unmatched names that no acronym links to the other side.

    NYC, for example, is linked to New York City. Titles of names are left out.
    """
    initials, other_initials = _initials(words), _initials(others)
    acronyms = [word.key for word in others if word.name and len(word.key) > 1 and word.text.isupper()]
    spelled = {
        index
        for acronym in acronyms
        for start in range(len(words))
        if initials.startswith(acronym, start)
        for index in range(start, start + len(acronym))
    }
    return tuple(
        index
        for index in free
        if words[index].name
        and words[index].key not in english.NAME_TITLES
        and index not in spelled
        and not (words[index].text.isupper() and len(words[index].key) > 1 and words[index].key in other_initials)
    )


def _initials(words: Sequence[Word]) -> str:
    """Return the first letters of the words, one character a word."""
    return "".join(word.key[:1] or " " for word in words)


# ---- order -------------------------------------------------------------------------------------------------------

MAX_GAP = 6
"""The largest number of words between two that exchanged their places."""


def _indices_between(indices: Sequence[int]) -> range:
    return range(min(indices) + 1, max(indices))


def _blocks(sides: _Sides) -> list[tuple[int, int, int]]:
    """Return the runs of words common to both questions.

    A run is (start in the first, start in the second, length).
    """
    blocks: list[tuple[int, int, int]] = []
    for i in sorted(sides.to2):
        j = sides.to2[i]
        if blocks and (i, j) == (blocks[-1][0] + blocks[-1][2], blocks[-1][1] + blocks[-1][2]):
            blocks[-1] = (blocks[-1][0], blocks[-1][1], blocks[-1][2] + 1)
        else:
            blocks.append((i, j, 1))
    return blocks


def _order(sides: _Sides) -> Iterator[Conflict]:
    """Yield the conflict of two runs of words that exchanged places.

    Other words stay between them in both questions, and at most one content word of each question has no match. A
    phrase that only moved ("In India, what ...", "What ... in India") has no such words.
    """
    words = (*sides.words1, *sides.words2)
    if any(word.forms & english.SYMMETRIC_QUESTIONS for word in words):
        return
    for side_words, free in ((sides.words1, sides.free1), (sides.words2, sides.free2)):
        if sum(not side_words[index].function for index in free) > 1:
            return
    blocks = [(i, j, n) for i, j, n in _blocks(sides) if _has_content(sides.words1[i : i + n])]
    for index, (i, j, length) in enumerate(blocks):
        for other_i, other_j, other_length in blocks[index + 1 :]:
            one, other = sides.words1[i : i + length], sides.words1[other_i : other_i + other_length]
            gap1 = range(i + length, other_i)
            gap2 = range(other_j + other_length, j)
            near = 0 < len(gap1) <= MAX_GAP and 0 < len(gap2) <= MAX_GAP
            if near and _keys(one) != _keys(other) and _pivots(sides, gap1, gap2):
                yield Conflict(
                    ConflictKind.ORDER,
                    (*range(i, i + length), *range(other_i, other_i + other_length)),
                    (*range(other_j, other_j + other_length), *range(j, j + length)),
                    "the same words in exchanged roles",
                )
                return


def _keys(words: Sequence[Word]) -> list[str]:
    return [word.key for word in words]


def _select(words: Sequence[Word], indices: Iterable[int]) -> list[Word]:
    return [words[index] for index in indices]


def _has_content(words: Iterable[Word]) -> bool:
    """Return True if a word is no function word."""
    return not all(word.function for word in words)


def _pivots(sides: _Sides, gap1: range, gap2: range) -> bool:
    """Return True if the words between make the order of their neighbours matter.

    `gap1` and `gap2` are the indices of these words in the two questions.
    """
    inside = [*_select(sides.words1, gap1), *_select(sides.words2, gap2)]
    if any(word.forms & english.SYMMETRIC_RELATIONS for word in inside):
        return False
    if ("by" in _keys(_select(sides.words1, gap1))) != ("by" in _keys(_select(sides.words2, gap2))):
        return False  # one question is in the passive: "did A beat B", "was B beaten by A"
    kept = _select(sides.words1, (i for i in gap1 if sides.to2.get(i) in gap2))
    if any(word.forms & english.ROLE_WORDS for word in kept):
        return True
    return _has_content(kept) and not any(word.forms & english.LOOSE_WORDS for word in inside)


# ---- opposites and choices ---------------------------------------------------------------------------------------


def _opposites(sides: _Sides) -> Iterator[Conflict]:
    used: set[int] = set()
    for i in sides.free1:
        for j in sides.free2:
            if j in used or not opposed(sides.words1[i], sides.words2[j]):
                continue
            if {sides.words1[i].key, sides.words2[j].key} <= english.PARTICLES and not _same_verb(sides, i, j):
                continue
            used.add(j)
            yield Conflict(ConflictKind.OPPOSITE, (i,), (j,), "opposite words")
            break


def _same_verb(sides: _Sides, i: int, j: int) -> bool:
    """Return True if two particles may belong to the same verb.

    They follow the same word, and precede the same word, a function word each, or the end.
    """
    after1, after2 = sides.words1[i + 1 : i + 2], sides.words2[j + 1 : j + 2]
    alike = len(after1) == len(after2) and not _has_content((*after1, *after2))
    return i > 0 and j > 0 and sides.to2.get(i - 1) == j - 1 and (alike or sides.to2.get(i + 1) == j + 1)


def _choices(sides: _Sides) -> Iterator[Conflict]:
    for first, second in (("or", "and"), ("and", "or")):
        if any(word.forms & english.JOINT_WORDS for word in (sides.words1 if first == "and" else sides.words2)):
            continue
        for i, around1 in _joined(sides.words1, first):
            for j, around2 in _joined(sides.words2, second):
                if {sides.to2.get(index) for index in around1} == set(around2):
                    yield Conflict(
                        ConflictKind.CHOICE,
                        tuple(sorted((i, *around1))),
                        tuple(sorted((j, *around2))),
                        "one question asks for a choice, the other joins both",
                    )
                    return


def _joined(words: Sequence[Word], connector: str) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield each such connector with the nearest content word on either side.

    It is left out unless both are at most 3 words away.
    """
    for index, word in enumerate(words):
        beside = [*words[max(0, index - 1) : index], *words[index + 1 : index + 2]]
        if word.lemmas != {f"~{connector}"} or any(other.key in ("and", "or") for other in beside):
            continue  # "and/or" means either
        left = next((i for i in range(index - 1, max(-1, index - 4), -1) if not words[i].function), None)
        right = next((i for i in range(index + 1, min(len(words), index + 4)) if not words[i].function), None)
        if left is not None and right is not None:
            yield index, (left, right)
