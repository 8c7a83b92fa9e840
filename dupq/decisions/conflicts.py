"""What stands against two questions being the same, word by word: numbers, negations, names, order, opposites, choices.

Rules over an alignment, for a moderator to read. They know English words; numbers, and names in scripts that have
capitals, are read in any language. A rule may be silent where there is a conflict, and may fire where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from dupq.decisions import english
from dupq.decisions.alignment import Match, opposed
from dupq.decisions.words import Word


class ConflictKind(str, Enum):
    """What a conflict is about."""

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
    """One sign that two questions ask different things.

    Attributes:
        kind: What it is about.
        words1, words2: The places of the words that show it, in the first and in the second question; one may be empty.
        why: What they show; it holds in either order of the questions.
    """

    kind: ConflictKind
    words1: tuple[int, ...]
    words2: tuple[int, ...]
    why: str

    def mirrored(self) -> Conflict:
        """The same conflict with the questions exchanged."""
        return replace(self, words1=self.words2, words2=self.words1)


@dataclass(frozen=True)
class _Sides:
    """Two aligned questions as the rules read them."""

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
    """The conflicts between two aligned questions, kind by kind."""
    sides = _Sides(
        words1, words2, {match.word1: match.word2 for match in matches}, {match.word2: match.word1 for match in matches}
    )
    negation = list(_negation(sides))
    opposites = list(_opposites(sides))
    order = list(_order(sides))
    if negation and len(opposites) == 1 and _undone_by_negation(sides, negation[0], opposites[0]):
        negation, opposites = [], []
    if order and any(set(_between(order[0].words1)) & set(opposite.words1) for opposite in opposites):
        # "A is better than B" and "B is worse than A" say the same.
        order, opposites = [], []
    return [*_numbers(sides), *negation, *_names(sides), *order, *opposites, *_choices(sides)]


# ---- numbers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Quantity:
    value: str
    unit: str | None
    factor: float
    places: tuple[int, ...]

    @property
    def ordinal(self) -> bool:
        return self.value.endswith("th")

    def equals(self, other: _Quantity) -> bool:
        """Whether both may be the same amount; a unit that one of them leaves out is no difference."""
        if self.unit is None or other.unit is None:
            return self.value == other.value
        if self.unit != other.unit:
            return False
        try:
            return math.isclose(float(self.value) * self.factor, float(other.value) * other.factor, rel_tol=1e-9)
        except ValueError:
            return self.value == other.value


def _quantities(words: Sequence[Word]) -> list[_Quantity]:
    """The numbers of a question with their units; "one" by itself may be a pronoun and is left out."""
    found = []
    for place, word in enumerate(words):
        if word.number is None or word.function:
            continue
        for beside in (place + 1, place - 1):
            # A unit stands behind the number; before it, only a sign of currency does.
            if not 0 <= beside < len(words) or (beside < place and words[beside].key not in ("$", "€", "£", "₹", "rs")):
                continue
            unit = next((english.MEASURES[form] for form in words[beside].forms if form in english.MEASURES), None)
            if unit is not None:
                found.append(_Quantity(word.number, unit[0], unit[1], (place, beside)))
                break
        else:
            found.append(_Quantity(word.number, None, 1.0, (place,)))
    return found


def _numbers(sides: _Sides) -> Iterator[Conflict]:
    left, right = _quantities(sides.words1), _quantities(sides.words2)
    for exact in (True, False):
        for quantity in list(left):
            twin = next((q for q in right if quantity.equals(q) and (not exact or quantity.unit == q.unit)), None)
            if twin is not None:
                left.remove(quantity)
                right.remove(twin)
    # "first" and "2016" are both numbers, and no conflict.
    for kind in {quantity.ordinal for quantity in left} ^ {quantity.ordinal for quantity in right}:
        left = [quantity for quantity in left if quantity.ordinal != kind]
        right = [quantity for quantity in right if quantity.ordinal != kind]
    if not left or not right:
        return
    same_values = sorted(q.value for q in left) == sorted(q.value for q in right)
    yield Conflict(
        ConflictKind.NUMBER,
        tuple(sorted({place for quantity in left for place in quantity.places})),
        tuple(sorted({place for quantity in right for place in quantity.places})),
        "the same number of different units" if same_values else "the numbers differ",
    )


# ---- negation ----------------------------------------------------------------------------------------------------


def _negations(words: Sequence[Word]) -> tuple[int, ...]:
    found = []
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else None
        before = {earlier.key for earlier in words[max(0, place - 2) : place]}
        if word.key not in english.NEGATIONS and "~not" not in word.lemmas:
            continue
        # "... or not?", "... or why not?", "not only", "no matter", "no. 5" deny nothing.
        idle = (word.key == "not" and "or" in before and after is None) or (
            after is not None and ((word.key, after.key) in (("not", "only"), ("no", "matter")) or (
                word.key == "no" and after.number is not None and not after.function
            ))
        )  # fmt: skip
        if not idle:
            found.append(place)
    return tuple(found)


def _negation(sides: _Sides) -> Iterator[Conflict]:
    left, right = _negations(sides.words1), _negations(sides.words2)
    if bool(left) != bool(right):
        yield Conflict(ConflictKind.NEGATION, left, right, "only one of the questions is negated")


def _undone_by_negation(sides: _Sides, negation: Conflict, opposite: Conflict) -> bool:
    """Whether "not possible" stands against "impossible": nothing but grammar between the negation and the word."""
    first = sides.words1[opposite.words1[0]].key
    second = sides.words2[opposite.words2[0]].key
    if negation.words1:
        words, denied, place, same = sides.words1, negation.words1, opposite.words1[0], second.endswith(first)
    else:
        words, denied, place, same = sides.words2, negation.words2, opposite.words2[0], first.endswith(second)
    return same and len(denied) == 1 and denied[0] < place and not any(map(_bears, words[denied[0] + 1 : place]))


# ---- names -------------------------------------------------------------------------------------------------------


def _names(sides: _Sides) -> Iterator[Conflict]:
    left = _free_names(sides.words1, sides.free1, sides.words2)
    right = _free_names(sides.words2, sides.free2, sides.words1)
    if left and right:
        yield Conflict(ConflictKind.NAME, left, right, "different names (which may still name one thing)")


def _free_names(words: Sequence[Word], free: Sequence[int], others: Sequence[Word]) -> tuple[int, ...]:
    """The names that nothing on the other side answers to, nor is short for (NYC and New York City)."""
    initials, other_initials = _initials(words), _initials(others)
    acronyms = [word.key for word in others if word.name and len(word.key) > 1 and word.text.isupper()]
    spelled = {
        place
        for acronym in acronyms
        for start in range(len(words))
        if initials.startswith(acronym, start)
        for place in range(start, start + len(acronym))
    }
    return tuple(
        place
        for place in free
        if words[place].name
        and words[place].key not in english.NAME_TITLES
        and place not in spelled
        and not (words[place].text.isupper() and len(words[place].key) > 1 and words[place].key in other_initials)
    )


def _initials(words: Sequence[Word]) -> str:
    """The first letter of each word, one character a word."""
    return "".join(word.key[:1] or " " for word in words)


# ---- order -------------------------------------------------------------------------------------------------------

MAX_GAP = 6
"""Words between two that are held to have changed places."""


def _between(places: Sequence[int]) -> range:
    return range(min(places) + 1, max(places))


def _blocks(sides: _Sides) -> list[tuple[int, int, int]]:
    """Runs of words that stand together in both questions: (start in the first, start in the second, length)."""
    blocks: list[tuple[int, int, int]] = []
    for i in sorted(sides.to2):
        j = sides.to2[i]
        if blocks and (i, j) == (blocks[-1][0] + blocks[-1][2], blocks[-1][1] + blocks[-1][2]):
            blocks[-1] = (blocks[-1][0], blocks[-1][1], blocks[-1][2] + 1)
        else:
            blocks.append((i, j, 1))
    return blocks


def _order(sides: _Sides) -> Iterator[Conflict]:
    """Two runs of words that have changed places about words that stayed between them, all else being the same.

    A phrase that has merely moved ("In India, what ...", "What ... in India") leaves nothing between.
    """
    words = (*sides.words1, *sides.words2)
    if any(word.forms & english.EITHER_WAY for word in words):
        return
    if sum(map(_bears, _take(sides.words1, sides.free1))) > 1 or sum(map(_bears, _take(sides.words2, sides.free2))) > 1:
        return
    blocks = [(i, j, n) for i, j, n in _blocks(sides) if any(map(_bears, sides.words1[i : i + n]))]
    for place, (i, j, length) in enumerate(blocks):
        for other_i, other_j, other_length in blocks[place + 1 :]:
            one, other = sides.words1[i : i + length], sides.words1[other_i : other_i + other_length]
            gap1 = range(i + length, other_i)
            gap2 = range(other_j + other_length, j)
            near = 0 < len(gap1) <= MAX_GAP and 0 < len(gap2) <= MAX_GAP
            if near and _keys(one) != _keys(other) and _pivots(sides, gap1, gap2):
                yield Conflict(
                    ConflictKind.ORDER,
                    (*range(i, i + length), *range(other_i, other_i + other_length)),
                    (*range(other_j, other_j + other_length), *range(j, j + length)),
                    "the same words in changed roles",
                )
                return


def _keys(words: Sequence[Word]) -> list[str]:
    return [word.key for word in words]


def _take(words: Sequence[Word], places: Iterable[int]) -> list[Word]:
    return [words[place] for place in places]


def _bears(word: Word) -> bool:
    """Whether it is a word that a role can be given to."""
    return not word.function


def _pivots(sides: _Sides, gap1: range, gap2: range) -> bool:
    """Whether what stands between two words, in both questions, makes their order matter."""
    inside = [*_take(sides.words1, gap1), *_take(sides.words2, gap2)]
    if any(word.forms & english.EXCHANGEABLE for word in inside):
        return False
    if ("by" in _keys(_take(sides.words1, gap1))) != ("by" in _keys(_take(sides.words2, gap2))):
        return False  # one of them is in the passive: "did A beat B", "was B beaten by A"
    kept = _take(sides.words1, (i for i in gap1 if sides.to2.get(i) in gap2))
    if any(word.forms & english.ROLE_WORDS for word in kept):
        return True
    return any(map(_bears, kept)) and not any(word.forms & english.LOOSE_WORDS for word in inside)


# ---- opposites and choices ---------------------------------------------------------------------------------------


def _opposites(sides: _Sides) -> Iterator[Conflict]:
    taken: set[int] = set()
    for i in sides.free1:
        for j in sides.free2:
            if j in taken or not opposed(sides.words1[i], sides.words2[j]):
                continue
            if {sides.words1[i].key, sides.words2[j].key} <= english.PARTICLES and not _one_verb(sides, i, j):
                continue
            taken.add(j)
            yield Conflict(ConflictKind.OPPOSITE, (i,), (j,), "opposite words")
            break


def _one_verb(sides: _Sides, i: int, j: int) -> bool:
    """Whether two particles stand after the same word and before the same, before grammar, or at the end."""
    after1, after2 = sides.words1[i + 1 : i + 2], sides.words2[j + 1 : j + 2]
    alike = len(after1) == len(after2) and not any(map(_bears, (*after1, *after2)))
    return i > 0 and j > 0 and sides.to2.get(i - 1) == j - 1 and (alike or sides.to2.get(i + 1) == j + 1)


def _choices(sides: _Sides) -> Iterator[Conflict]:
    for first, second in (("or", "and"), ("and", "or")):
        if any(word.forms & english.SIDE_BY_SIDE for word in (sides.words1 if first == "and" else sides.words2)):
            continue
        for i, around1 in _joined(sides.words1, first):
            for j, around2 in _joined(sides.words2, second):
                if {sides.to2.get(place) for place in around1} == set(around2):
                    yield Conflict(
                        ConflictKind.CHOICE,
                        tuple(sorted((i, *around1))),
                        tuple(sorted((j, *around2))),
                        "one asks which of them, the other takes them together",
                    )
                    return


def _joined(words: Sequence[Word], connector: str) -> Iterator[tuple[int, tuple[int, int]]]:
    """Each such connector with the nearest words of meaning on its left and right, at most 3 words away."""
    for place, word in enumerate(words):
        beside = [*words[max(0, place - 1) : place], *words[place + 1 : place + 2]]
        if word.lemmas != {f"~{connector}"} or any(other.key in ("and", "or") for other in beside):
            continue  # "and/or" leaves it open
        left = next((i for i in range(place - 1, max(-1, place - 4), -1) if not words[i].function), None)
        right = next((i for i in range(place + 1, min(len(words), place + 4)) if not words[i].function), None)
        if left is not None and right is not None:
            yield place, (left, right)
