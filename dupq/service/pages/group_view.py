"""Content of the page of a duplicate group: members, links and history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dupq.index.groups import Group, group_of
from dupq.index.stores.base import StoredMerge, StoredQuestion, StoredVerdict, encoded_id, ordered_pair
from dupq.index.stores.sql import View
from dupq.index.verdicts import answer_of, opinions
from dupq.service.pages.folding import Fold, fold_pairs, fold_texts
from dupq.service.pages.posts import Post, post_of, title_of
from dupq.service.state import Service
from dupq.types import Id

MAX_HISTORY = 100
"""Rows of the history that a page shows, the newest."""
MAX_READ = 200
"""Members whose history is read."""


@dataclass(frozen=True, slots=True)
class GroupLink:
    """A pair that holds a group together, or that is disputed in it.

    Attributes:
        left, right: The two questions; of one that was removed only the id is known.
        kind: "verdict", "merge", or "disputed" for a pair that is distinct or contested.
        answer: Answer of a verdict: "duplicate", "distinct" or "contested".
        by: Names of the moderators.
        at: ISO 8601 time of the last row.
        note: Note of the last row.
        probability: P(duplicate) when the verdict was given; None for a merge, or if it was not known.
        weakest: True for the link by verdict with the lowest probability.
        merge: Number of a merge; 0 for a verdict.
    """

    left: Post | Id
    right: Post | Id
    kind: Literal["verdict", "merge", "disputed"]
    answer: str
    by: tuple[str, ...]
    at: str
    note: str
    probability: float | None
    weakest: bool = False
    merge: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the history of a group.

    Attributes:
        at: ISO 8601 time.
        by: Name of the moderator.
        text: What was done, in words.
        pair: Titles, or ids of removed questions.
        note: A text.
        undone: True for a row that was taken back later.
    """

    at: str
    by: str
    text: str
    pair: tuple[str, str]
    note: str
    undone: bool


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group, or one question by itself.

    Attributes:
        question: The question that was asked for.
        canonical: The canonical question.
        members: All members, the canonical one first.
        folds: Places in `members` that are shown together.
        links: Links and disputed pairs: the weakest first, then by rising probability, then merges.
        link_folds: Places in `links` that are shown together.
        history: Newest first.
    """

    question: Post
    canonical: Post
    members: tuple[Post, ...]
    folds: tuple[Fold, ...]
    links: tuple[GroupLink, ...]
    link_folds: tuple[Fold, ...]
    history: tuple[Event, ...]

    @property
    def alone(self) -> bool:
        """True for a question without duplicates."""
        return len(self.members) == 1


def group_view(service: Service, id_: Id) -> GroupView:
    """Return the group of a question, or the question by itself.

    Raises:
        InputError: The question is not stored.
    """
    with service.store.reading() as view:
        group = group_of(view, id_) or Group(id_, (id_,))
        ids = [group.canonical, *(m for m in group.members if encoded_id(m) != encoded_id(group.canonical))]
        names = [encoded_id(member) for member in ids]
        verdicts, merges = view.verdicts_among(names), view.merges_among(names)
        slots = view.present_slots({slot for row in verdicts for slot in (row.slot_one, row.slot_other)})
        others = {encoded_id(i) for row in verdicts for i in (row.id, row.other)}
        others |= {encoded_id(i) for row in merges for i in (row.canonical, row.duplicate)}
        stored = view.find_encoded({*names, *others})
        history = _history(view, ids)
    members = [post_of(stored[name]) for name in names]
    standing = [row for row in verdicts if {row.slot_one, row.slot_other} <= slots]
    links = _links(group, standing, merges, stored, {*names})
    return GroupView(
        question=post_of(stored[encoded_id(id_)]),
        canonical=members[0],
        members=tuple(members),
        folds=(Fold((0,)), *_after_first(members)),
        links=links,
        link_folds=tuple(fold_pairs([_texts_of(link) for link in links])),
        history=history,
    )


def _after_first(members: Sequence[Post]) -> list[Fold]:
    """Fold the members but the canonical one."""
    folds = fold_texts([member.title for member in members[1:]])
    return [Fold(tuple(place + 1 for place in fold.places), fold.pattern) for fold in folds]


def _texts_of(link: GroupLink) -> tuple[str, str] | None:
    """Return the texts that a link is folded by, or None.

    The weakest link, merges, disputed pairs and links of removed questions are never folded.
    """
    if link.kind != "verdict" or link.weakest or not (isinstance(link.left, Post) and isinstance(link.right, Post)):
        return None
    return link.left.title, link.right.title


def _links(
    group: Group,
    verdicts: Sequence[StoredVerdict],
    merges: Sequence[StoredMerge],
    stored: dict[str, StoredQuestion],
    members: set[str],
) -> tuple[GroupLink, ...]:
    def side(id_: Id) -> Post | Id:
        question = stored.get(encoded_id(id_))
        return post_of(question) if question is not None else id_

    weakest = None
    if group.weakest is not None:
        weakest = ordered_pair(encoded_id(group.weakest.id), encoded_id(group.weakest.other))
    pairs: dict[tuple[str, str], list[StoredVerdict]] = {}
    for row in verdicts:
        pairs.setdefault(ordered_pair(encoded_id(row.id), encoded_id(row.other)), []).append(row)
    found = []
    for pair, rows in pairs.items():
        given = opinions(rows)
        answer = answer_of(given)
        inside = all(name in members or name not in stored for name in pair)
        if answer not in ("duplicate", "distinct", "contested") or (answer != "duplicate" and not inside):
            continue
        last = given[-1]
        found.append(
            GroupLink(
                left=side(last.id),
                right=side(last.other),
                kind="verdict" if answer == "duplicate" else "disputed",
                answer=answer,
                by=tuple(
                    f"{v.by} ({v.answer})" if answer == "contested" else v.by for v in given if v.answer != "skip"
                ),
                at=last.at,
                note=last.note,
                probability=last.probability,
                weakest=pair == weakest,
            )
        )
    found += [
        GroupLink(side(m.canonical), side(m.duplicate), "merge", "", (m.by,), m.at, m.note, None, merge=m.number)
        for m in merges
    ]
    order = {"disputed": 0, "verdict": 1, "merge": 2}
    found.sort(key=lambda link: (order[link.kind], link.probability if link.probability is not None else 2.0, link.at))
    return tuple(found)


def _history(view: View, ids: Sequence[Id]) -> tuple[Event, ...]:
    verdicts: dict[int, StoredVerdict] = {}
    merges: dict[int, StoredMerge] = {}
    for id_ in ids[:MAX_READ]:
        verdicts |= {row.number: row for row in view.verdicts(id_=id_)}
        name = encoded_id(id_)
        merges |= {row.number: row for row in view.merges_where("v.canonical=? OR v.duplicate=?", (name, name))}
    undone = {row.undoes for row in verdicts.values()}, {row.undoes for row in merges.values()}
    members = {encoded_id(id_) for id_ in ids}
    sides = [(row.id, row.other) for row in verdicts.values()]
    sides += [(merge.canonical, merge.duplicate) for merge in merges.values()]
    stored = view.find_encoded({encoded_id(id_) for side in sides for id_ in side})

    def title(id_: Id) -> str:
        question = stored.get(encoded_id(id_))
        return title_of(question) if question is not None else str(id_)

    events = [
        Event(
            at=row.at,
            by=row.by,
            text="took a verdict back" if row.answer == "undo" else "skipped" if row.answer == "skip" else row.answer,
            pair=(title(row.id), title(row.other)),
            note=row.note,
            undone=row.number in undone[0],
        )
        for row in verdicts.values()
        # A verdict that sets a question of another group apart belongs to neither.
        if {encoded_id(row.id), encoded_id(row.other)} <= members or row.number in undone[0]
    ]
    events += [
        Event(
            at=merge.at,
            by=merge.by,
            text=f"merge {merge.number}" if merge.undoes is None else f"took merge {merge.undoes} back",
            pair=(title(merge.canonical), title(merge.duplicate)),
            note=merge.note,
            undone=merge.number in undone[1],
        )
        for merge in merges.values()
    ]
    return tuple(sorted(events, key=lambda event: event.at, reverse=True)[:MAX_HISTORY])
