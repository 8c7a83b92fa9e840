"""Pairs to be reviewed, by filters that the index itself does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dupq.data.text import normalise
from dupq.explain.explanation import explain
from dupq.index.question_index import QuestionIndex
from dupq.index.review import ReviewItem
from dupq.index.review_pages import ReviewPage, Source
from dupq.index.stores.base import StoredQuestion

MAX_SCANNED = 300
"""Pairs that one page looks at."""
PART = 50


@dataclass(frozen=True, slots=True)
class ReviewFilters:
    """Filters of the pairs to be reviewed; None or "" for any.

    Attributes:
        source: "queue"; "contested", the oldest first; or "answered", by the moderator `by`, the last one first.
        by: A moderator: under "answered" the one whose pairs are listed; under "contested" one whose pairs are not.
        decision: "duplicate", "review" or "distinct".
        min_probability, max_probability: Range of the probability, in [0, 1].
        tag, category: Of one of the questions.
        search: Words that stand in the two questions, in any order, as far as they are typed.
        conflict: Kind of conflict between the two texts.
    """

    source: Source = "queue"
    by: str | None = None
    decision: str | None = None
    min_probability: float = 0.0
    max_probability: float = 1.0
    tag: str = ""
    category: str = ""
    search: str = ""
    conflict: str = ""

    def keep(self, item: ReviewItem) -> bool:
        """Return True if a pair passes the filters that the index does not have."""
        questions = (item.question, item.other)
        if self.tag and not any(_same(self.tag, tag) for question in questions for tag in tags_of(question)):
            return False
        if self.category and not any(_same(self.category, category_of(question)) for question in questions):
            return False
        if self.search:
            text = " ".join(normalise(searched) for question in questions for searched in _texts(question))
            if not all(word in text for word in normalise(self.search).split()):
                return False
        return not self.conflict or self.conflict in conflict_kinds(item)


@dataclass(frozen=True, slots=True)
class FilteredPage:
    """Pairs that pass the filters.

    Attributes:
        items: The pairs.
        scanned: Number of pairs that the filters were applied to.
        after: Name of the place after them; None: there are no more pairs.
    """

    items: list[ReviewItem]
    scanned: int
    after: str | None


def filtered_page(
    index: QuestionIndex,
    filters: ReviewFilters,
    limit: int = 20,
    after: str | None = None,
    audit_share: float = 0.2,
    max_scanned: int = MAX_SCANNED,
) -> FilteredPage:
    """Return the next pairs that pass the filters.

    The page ends early once `max_scanned` pairs were looked at.

    Args:
        index: The index.
        filters: The filters.
        limit: Maximum number of pairs.
        after: `FilteredPage.after` of the page before; None: the first page.
        audit_share: Share of audit pairs in the queue, in [0, 1].
        max_scanned: Number of pairs after which a page ends, where a filter leaves some out.

    Raises:
        InputError: A bad filter or place.
    """
    narrow = any((filters.tag, filters.category, filters.search, filters.conflict))

    def page_of(size: int, place: str | None) -> ReviewPage:
        return index.review_page(
            size,
            source=filters.source,
            after=place,
            by=filters.by,
            audit_share=audit_share,
            decision=filters.decision,
            min_probability=filters.min_probability,
            max_probability=filters.max_probability,
        )

    items: list[ReviewItem] = []
    scanned, place = 0, after
    while True:
        page = page_of(PART if narrow else limit, place)
        kept = [at for at, item in enumerate(page.items) if filters.keep(item)]
        if len(items) + len(kept) > limit:
            # The place after the last pair that is returned: the same pairs again, up to that one.
            page = page_of(kept[limit - len(items) - 1] + 1, place)
            kept = [at for at, item in enumerate(page.items) if filters.keep(item)]
        items += [page.items[at] for at in kept]
        scanned, place = scanned + len(page.items), page.after
        if place is None or len(items) >= limit or scanned >= max_scanned or not narrow:
            return FilteredPage(items, scanned, place)


def tags_of(question: StoredQuestion) -> list[str]:
    """Return the tags in the details of a question."""
    tags = (question.details or {}).get("tags")
    if isinstance(tags, str):
        return [tags]
    found = []
    for tag in tags if isinstance(tags, list) else []:
        # Discourse and GitHub name a tag or label by an object.
        named = tag.get("name") if isinstance(tag, Mapping) else tag
        found += [named] if isinstance(named, str) else []
    return found


def category_of(question: StoredQuestion) -> str:
    """Return the category in the details of a question, or ""."""
    found: Any = (question.details or {}).get("category", "")
    return str(found) if isinstance(found, (str, int)) else ""


def conflict_kinds(item: ReviewItem) -> list[str]:
    """Return the kinds of conflict between the texts of a pair, each once.

    The network is not used.
    """
    conflicts = explain(item.question.text, item.other.text).conflicts
    return list(dict.fromkeys(str(conflict.kind) for conflict in conflicts))


def _texts(question: StoredQuestion) -> list[str]:
    shown = (question.details or {}).get("title"), (question.details or {}).get("body")
    return [question.text, *(text for text in shown if isinstance(text, str))]


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()
