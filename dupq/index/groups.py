"""Duplicate groups of an index, each with a canonical question.

A group is a component over standing verdicts and merges. It is a function of the present state, so a deletion or an
unmerge needs no repair. Removed questions stay in a component without being members, so that a deletion does not tear a
group apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dupq.errors import InputError
from dupq.index.stores.base import StoredMerge, StoredQuestion, StoredVerdict, encoded_id
from dupq.index.stores.sql import STANDING, Transaction, View
from dupq.index.verdicts import answer_of, opinions, require_stored
from dupq.types import Id


@dataclass(frozen=True, slots=True)
class Link:
    """A pair with the answer "duplicate" that holds a group together.

    Attributes:
        id, other: The two questions; one that was removed may be among them.
        probability: P(duplicate) when the last verdict was given, or None if the pair had no decision.
    """

    id: Id
    other: Id
    probability: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Stored questions that are the same, two at least.

    Attributes:
        canonical: The stored member that the latest standing merge prefers, else the oldest by date, else the one that
            was stored first.
        members: All members in that order of age; `canonical` is one of them.
        weakest: The link by verdict with the lowest probability; None if no link has one.
        merges: Numbers of the merges that stand in the group.
        disputed: Pairs of the group that are "distinct" or "contested".
        links: The pairs with the answer "duplicate" that hold it together, merges aside.
    """

    canonical: Id
    members: tuple[Id, ...]
    weakest: Link | None = None
    merges: tuple[int, ...] = ()
    disputed: tuple[tuple[Id, Id], ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(slots=True)
class _Links:
    """Links and disputed pairs among some questions, by encoded ids."""

    links: dict[tuple[str, str], Link]
    disputed: dict[tuple[str, str], tuple[Id, Id]]
    merges: dict[int, StoredMerge]

    def neighbours(self) -> dict[str, set[str]]:
        near: dict[str, set[str]] = {}
        merged = [(encoded_id(merge.canonical), encoded_id(merge.duplicate)) for merge in self.merges.values()]
        for one, other in [*self.links, *merged]:
            near.setdefault(one, set()).add(other)
            near.setdefault(other, set()).add(one)
        return near


def all_groups(view: View) -> list[Group]:
    """Return all groups, the largest first.

    Groups of one size are sorted by the encoded id of the canonical question.
    """
    links = _links(view, view.verdicts_where(STANDING), view.standing_merges())
    near = links.neighbours()
    components: list[list[str]] = []
    seen: set[str] = set()
    for start in near:
        if start in seen:
            continue
        component, waiting = [], [start]
        seen.add(start)
        while waiting:
            node = waiting.pop()
            component.append(node)
            waiting += near[node] - seen
            seen |= near[node]
        components.append(component)
    stored = view.find_encoded(seen)
    of = {node: number for number, component in enumerate(components) for node in component}
    parts = [_Links({}, {}, {}) for _ in components]
    for pair, link in links.links.items():
        parts[of[pair[0]]].links[pair] = link
    for pair, ids in links.disputed.items():
        if pair[0] in of and of[pair[0]] == of.get(pair[1]):
            parts[of[pair[0]]].disputed[pair] = ids
    for number, merge in links.merges.items():
        parts[of[encoded_id(merge.canonical)]].merges[number] = merge
    groups = [
        _group([stored[node] for node in component if node in stored], part)
        for component, part in zip(components, parts, strict=True)
    ]
    return sorted(
        (group for group in groups if group is not None),
        key=lambda group: (-len(group.members), encoded_id(group.canonical)),
    )


def group_of(view: View, id_: Id) -> Group | None:
    """Return the group of a stored question, or None if it has no duplicates.

    Only rows of the group's own questions are read.

    Raises:
        InputError: The question is not stored.
    """
    require_stored(view, (id_,))
    seen, frontier = {encoded_id(id_)}, {encoded_id(id_)}
    verdicts: dict[int, StoredVerdict] = {}
    merges: dict[int, StoredMerge] = {}
    links = _Links({}, {}, {})
    while frontier:
        found, joined = view.verdicts_among(frontier), view.merges_among(frontier)
        verdicts |= {row.number: row for row in found}
        merges |= {row.number: row for row in joined}
        step = _links(view, found, joined)
        links.links |= step.links
        links.disputed |= step.disputed
        links.merges |= step.merges
        frontier = set(step.neighbours()) - seen
        seen |= frontier
    links.disputed = {pair: ids for pair, ids in links.disputed.items() if set(pair) <= seen}
    return _group(list(view.find_encoded(seen).values()), links)


def _links(view: View, verdicts: Sequence[StoredVerdict], merges: Iterable[StoredMerge]) -> _Links:
    """Return the links that standing verdicts and merges make.

    All standing verdicts of a pair must be given.
    """
    present = view.present_slots({slot for row in verdicts for slot in (row.slot_one, row.slot_other)})
    pairs: dict[tuple[str, str], list[StoredVerdict]] = {}
    for row in verdicts:
        if row.slot_one in present and row.slot_other in present:
            pairs.setdefault((encoded_id(row.id), encoded_id(row.other)), []).append(row)
    links, disputed = {}, {}
    for pair, rows in pairs.items():
        given = opinions(rows)
        answer = answer_of(given)
        if answer == "duplicate":
            links[pair] = Link(given[-1].id, given[-1].other, given[-1].probability)
        elif answer in ("distinct", "contested"):
            disputed[pair] = (given[-1].id, given[-1].other)
    return _Links(links, disputed, {merge.number: merge for merge in merges})


def _group(members: Sequence[StoredQuestion], links: _Links) -> Group | None:
    if len(members) < 2:
        return None
    # A date that is not known is later than all others.
    by_age = [question.id for question in sorted(members, key=lambda q: (q.created is None, q.created or "", q.slot))]
    stored = {encoded_id(id_) for id_ in by_age}
    preferred = [merge.canonical for _, merge in sorted(links.merges.items(), reverse=True)]
    canonical = next((id_ for id_ in preferred if encoded_id(id_) in stored), by_age[0])
    probable = [link for link in links.links.values() if link.probability is not None]
    return Group(
        canonical=canonical,
        members=tuple(by_age),
        weakest=min(
            probable,
            key=lambda link: (link.probability, encoded_id(link.id), encoded_id(link.other)),
            default=None,
        ),
        merges=tuple(sorted(links.merges)),
        disputed=tuple(links.disputed[pair] for pair in sorted(links.disputed)),
        links=tuple(links.links[pair] for pair in sorted(links.links)),
    )


def add_merge(transaction: Transaction, merge: StoredMerge) -> int:
    """Append a merge of two stored questions; return its number.

    Raises:
        InputError: A question is not stored, or the key was used for another merge.
    """
    if known := transaction.merges_where("v.key=?", (merge.key,)):
        return _repeated(known[0], merge)
    require_stored(transaction, (merge.canonical, merge.duplicate))
    return transaction.add_merge(merge)


def undo_merge(transaction: Transaction, number: int, *, by: str, at: str, note: str, key: str) -> int:
    """Append a row that takes a merge back; return its number.

    Raises:
        InputError: There is no such merge, it was taken back already, it is itself such a row, or the key was used for
            another merge.
    """
    found = transaction.merges_where("v.number=?", (number,))
    if not found:
        raise InputError(f"there is no merge {number}", hint="see index.group(id).merges")
    row = found[0]
    undo = StoredMerge(0, row.canonical, row.duplicate, by, at, note, number, key)
    if known := transaction.merges_where("v.key=?", (key,)):
        return _repeated(known[0], undo)
    if row.undoes is not None:
        raise InputError(
            f"row {number} takes merge {row.undoes} back, and cannot be taken back itself", hint="merge again"
        )
    if transaction.merges_where("v.undoes=?", (number,)):
        raise InputError(f"merge {number} was taken back already", hint="merge again")
    return transaction.add_merge(undo)


def _repeated(known: StoredMerge, merge: StoredMerge) -> int:
    facts = [(encoded_id(row.canonical), encoded_id(row.duplicate), row.by, row.undoes) for row in (known, merge)]
    if facts[0] == facts[1]:
        return known.number
    raise InputError(f"the key {merge.key!r:.60} was used for merge {known.number}", hint="give each merge its own")
