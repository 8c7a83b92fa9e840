"""Content of the review page of one pair.

It has both posts, the decision, the verdicts, and other candidates.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dupq.errors import NotCalibratedError
from dupq.index.review import ReviewItem
from dupq.index.stores.base import StoredDecision, StoredQuestion, StoredVerdict
from dupq.service.pages.filters import Filters
from dupq.service.pages.marks import Difference, MarkedPost, marked_posts
from dupq.service.pages.posts import Post, post_of, title_of, url_id
from dupq.service.pages.queue import Progress, progress
from dupq.service.pages.rendering import PREFERENCES
from dupq.service.sessions import Session
from dupq.service.state import Service
from dupq.types import Id

MAX_CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """Another pair with one of the two questions.

    Attributes:
        title: Of the question that it would be a duplicate of.
        decision: The stored decision.
        query: Parameters of the page of that pair.
    """

    title: str
    decision: StoredDecision
    query: str


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two posts.

    Attributes:
        letter: "A" or "B".
        post: What the forum has.
        marks: Its text with marks.
        candidates: Other candidates of this question, the most probable first.
        group: Number of questions in its duplicate group, 0 without one.
    """

    letter: str
    post: Post
    marks: MarkedPost
    candidates: tuple[Candidate, ...]
    group: int


@dataclass(frozen=True, slots=True)
class Keeping:
    """Question that is kept if the two are duplicates.

    Attributes:
        proposed: Name of the question that the index takes as canonical unless a merge prefers another one.
        third: Title of it if it is neither of the two, else "".
    """

    proposed: str
    third: str


@dataclass(frozen=True, slots=True)
class PairPage:
    """Content of the page of a pair.

    Attributes:
        sides: The two posts.
        item: The pair of the index.
        differences: Conflicts of the two titles.
        blind: True: the probability, the decision and what others said are hidden.
        contested: True if moderators differ.
        history: All rows of the pair, oldest first, with the numbers of rows that were taken back.
        undone: Numbers of rows that were taken back.
        outdated: True if a verdict was given on an earlier text.
        guarantee: The guarantee in a sentence; "" if nothing is calibrated.
        evidence: What it rests on, in a sentence; "" if the guarantee holds all of it.
        keeping: The canonical question.
        shown: Why the pair is shown, signed.
        key: Unique name of the verdict that is given with this page.
        progress: How far the review has got.
    """

    sides: tuple[Side, Side]
    item: ReviewItem
    differences: tuple[Difference, ...]
    blind: bool
    contested: bool
    history: tuple[StoredVerdict, ...]
    undone: frozenset[int]
    outdated: bool
    guarantee: str
    evidence: str
    keeping: Keeping
    shown: str
    key: str
    progress: Progress

    @property
    def texts(self) -> str:
        """The two texts of this page, by their slots."""
        return texts_of(self.item)


def pair_page(service: Service, session: Session, item: ReviewItem, chosen: str) -> PairPage:
    """Return what the page of a pair shows.

    Args:
        service: The service.
        session: Of the caller.
        item: The pair.
        chosen: "queue", "audit", or "" where the moderator chose it.
    """
    index, pair = service.index, (item.question, item.other)
    posts = (post_of(pair[0]), post_of(pair[1]))
    first, second, differences = marked_posts((posts[0].title, posts[0].body), (posts[1].title, posts[1].body))
    with service.store.reading() as view:
        history = tuple(view.verdicts(pair=(pair[0].id, pair[1].id)))
    state = index.verdict_of(pair[0].id, pair[1].id)
    groups = [index.group(question.id) for question in pair]
    sides = [
        Side(letter, post, marks, _candidates(service, post.id, pair), len(group.members) if group else 0)
        for letter, post, marks, group in zip("AB", posts, (first, second), groups, strict=True)
    ]
    name, (guarantee, evidence) = session.caller.name, _guarantee(service)
    return PairPage(
        sides=(sides[0], sides[1]),
        item=item,
        differences=differences,
        blind=chosen == "audit"
        and bool({**PREFERENCES, **session.preferences}["blind"])
        and session.caller.may("review")
        and name not in state.by,
        contested=state.answer == "contested",
        history=history,
        undone=frozenset(row.undoes for row in history if row.undoes is not None),
        outdated=bool(state.outdated),
        guarantee=guarantee,
        evidence=evidence,
        keeping=_keeping(service, pair),
        shown=signed(session, item, chosen),
        key=secrets.token_urlsafe(16),
        progress=progress(service, name),
    )


def texts_of(item: ReviewItem) -> str:
    """Return the two present texts of a pair, by their slots."""
    return f"{item.question.slot}-{item.other.slot}"


def pair_query(one: Id, other: Id, filters: Filters | None = None, **more: object) -> str:
    """Return the query of the page of a pair."""
    return (filters or Filters()).query(id1=url_id(one), id2=url_id(other), **more)


def _candidates(service: Service, id_: Id, pair: Sequence[StoredQuestion]) -> tuple[Candidate, ...]:
    ids = {question.id for question in pair}
    rows = [row for row in service.index.decisions_of(id_) if {row.id, row.other} != ids][:MAX_CANDIDATES]
    others = [row.other if row.id == id_ else row.id for row in rows]
    stored = service.index.questions(others)
    return tuple(
        Candidate(title_of(stored[other]), row, pair_query(id_, other))
        for row, other in zip(rows, others, strict=True)
        if other in stored
    )


def _guarantee(service: Service) -> tuple[str, str]:
    """Return the guarantee of the index and its evidence, each as a sentence.

    Each is "" where there is none.
    """
    try:
        text = service.index.decider.guarantee
    except NotCalibratedError:
        return "", ""
    guarantee, _, evidence = text.partition("; ")
    return f"{guarantee[:1].upper()}{guarantee[1:]}.", f"{evidence[:1].upper()}{evidence[1:]}." if evidence else ""


def _keeping(service: Service, pair: tuple[StoredQuestion, StoredQuestion]) -> Keeping:
    """Return the canonical question of the joined groups of two questions.

    It is chosen as in `index.groups`.
    """
    groups = [group for group in map(service.index.group, (pair[0].id, pair[1].id)) if group is not None]
    merged = [group for group in groups if group.merges]
    if merged:
        canonical = max(merged, key=lambda group: max(group.merges)).canonical
    else:
        stored = service.index.questions(group.canonical for group in groups)
        oldest = min(
            [*pair, *stored.values()],
            key=lambda question: (question.created is None, question.created or "", question.slot),
        )
        canonical = oldest.id
    ids = [question.id for question in pair]
    third = "" if canonical in ids else title_of(service.index.questions([canonical])[canonical])
    return Keeping(url_id(canonical), third)


# ---- why a pair is shown --------------------------------------------------------------------------------------------


def signed(session: Session, item: ReviewItem, chosen: str) -> str:
    """Return why a pair is shown, with a signature, so that a form can bring it back."""
    return f"{chosen}.{_signature(session, item, chosen)}"


def read_signed(session: Session, item: ReviewItem, shown: str) -> str:
    """Return the signed reason why a pair was shown.

    It is "" if the signature is not that of this session and pair.
    """
    chosen, _, signature = shown.partition(".")
    expected = _signature(session, item, chosen)
    return chosen if hmac.compare_digest(signature.encode(), expected.encode()) else ""


def _signature(session: Session, item: ReviewItem, chosen: str) -> str:
    names = sorted((url_id(item.question.id), url_id(item.other.id)))
    text = "\0".join((chosen, *names)).encode("utf-8", "surrogatepass")
    return hmac.new(session.csrf.encode(), text, hashlib.sha256).hexdigest()[:32]


# ---- the bar --------------------------------------------------------------------------------------------------------


def bar(decision: StoredDecision) -> dict[str, Any]:
    """Return the numbers of the bar of a probability, in percent of its width."""
    return {"width": round(100 * decision.probability, 2), "threshold": round(100 * min(decision.threshold, 1.0), 2)}
