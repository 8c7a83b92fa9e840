"""Posts of forums: which events of a post are news, and what they change.

A row of `service_posts` for each post keeps what orders its events (`seen`), and what the index does not have yet
(`pending`). An event is compared with it and stored with its job in one transaction, so doubles and late events have no
job, and an event that was answered is never lost. The job brings the index to the state of the row. The text of a
deleted post is not kept.

Order of events. A version of the forum (a number, or a time) orders the events that have one. Events of a topic in
Discourse have none; they are ordered by the number of the delivery, field by field. Two events may have the same
version where an author edits within minutes, which Discourse does not count; their contents differ.

Limits. Discourse repeats a failed delivery under a new number, so the repetition of an event without a version counts
as the newest, and may bring back an older title. Titles of post events take no precedence over those of topics: newer
versions of Discourse send an edit of the title alone as `topic_edited` only. A deletion is compared with the last
recovery where it has a time; some versions of Discourse make the payload before the deletion, without one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dupq.data.details import NAMES, details_of, reach_of
from dupq.data.html import strip_clear_html
from dupq.index.new_questions import checked_questions
from dupq.index.stores.base import NewQuestion, Store, StoredQuestion, encoded_id
from dupq.index.stores.sql import Transaction
from dupq.service.job_table import add_job
from dupq.types import Id

if TYPE_CHECKING:
    from dupq.service.settings import ServiceSettings

DELIVERIES = 20
"""Names of deliveries that are kept of each post; a replay among them is ignored whatever it holds."""
PLAIN = ("category", "category_id", "closed")
"""Details beside those of `dupq.data.details`."""


class Ignored(Exception):  # noqa: N818 - it is no error
    """An event that needs no work; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Change:
    """News of one post, as an event states it.

    Attributes:
        id: Id of the question.
        fields: Details that the event has (title, body, tags, ...) and `text`, `created`; None removes one.
        order: Version of the post, compared from left to right; None: the event has none.
        moment: Number of the delivery, which grows; 0: unknown.
        delivery: Unique name of the delivery, or None.
        deleted: True: deleted; False: recovered; None: the event does not change it.
        deleted_at: POSIX time of the deletion; None: the event has none.
        final: The post will never come back.
        left_out: Reason -> True if the question is left out for it, such as a private message.
        known_only: The event may concern a private message, and counts for a known question only.
    """

    id: Id
    fields: dict[str, Any] = field(default_factory=dict)
    order: tuple[float, ...] | None = None
    moment: int = 0
    delivery: str | None = None
    deleted: bool | None = None
    deleted_at: float | None = None
    final: bool = False
    left_out: dict[str, bool] = field(default_factory=dict)
    known_only: bool = False

    @property
    def digest(self) -> str:
        """Hash of the content."""
        content = [self.fields, self.deleted, self.left_out]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(slots=True)
class Post:
    """Row of one post.

    Attributes:
        number: Number of its last change that was stored.
        order, moment, digest: Of the last event with a version.
        moments: Field -> delivery that wrote it last, and 1 if that event had a version.
        state_moment: Delivery that deleted or recovered it last.
        recovered: POSIX time at which an event last recovered it.
        deleted, final, left_out: As of a change.
        deliveries: The last deliveries.
        pending: Fields that are not in the index yet.
    """

    number: int = 0
    order: list[float] | None = None
    moment: int = 0
    digest: str = ""
    moments: dict[str, list[int]] = field(default_factory=dict)
    state_moment: int = 0
    recovered: float = 0.0
    deleted: bool = False
    final: bool = False
    left_out: dict[str, bool] = field(default_factory=dict)
    deliveries: list[str] = field(default_factory=list)
    pending: dict[str, Any] | None = None

    @property
    def wanted(self) -> bool:
        """True if the question belongs into the index."""
        return not self.deleted and not any(self.left_out.values())


SEEN = (
    "order",
    "moment",
    "digest",
    "moments",
    "state_moment",
    "recovered",
    "deleted",
    "final",
    "left_out",
    "deliveries",
)
"""Attributes of a post in the column `seen`; a row of an earlier version may lack some."""


def find_post(store: Store, id_: Id) -> Post | None:
    """Return the row of a post, or None."""
    with store.reading() as view:
        rows = view.session.run("SELECT number, seen, pending FROM service_posts WHERE id=?", (encoded_id(id_),))
    return _post(*rows[0]) if rows else None


def _post(number: int, seen: str, pending: str | None) -> Post:
    return Post(number, **json.loads(seen), pending=None if pending is None else json.loads(pending))


def store_change(store: Store, change: Change) -> bool:
    """Store the news of an event, and the job that brings it to the index.

    It returns False if the event is no news.

    Raises:
        OutputError: The store cannot be written.
    """
    return store.write(lambda transaction: _accept(transaction, change))


def _accept(transaction: Transaction, change: Change) -> bool:
    key = encoded_id(change.id)
    rows = transaction.session.run("SELECT number, seen, pending FROM service_posts WHERE id=?", (key,))
    post = _post(*rows[0]) if rows else Post()
    unwelcome = change.known_only or any(change.left_out.values())
    if not rows and unwelcome and not transaction.find([change.id]):
        return False  # nothing of a private message is stored, not even its number
    if post.deleted and _came_back(transaction, key, post, change):
        post.deleted = False
    fields = _news(post, change)
    if fields is None:
        return False
    post.number += 1
    if change.order is not None and (post.order is None or [*change.order] > post.order):
        post.order = [*change.order]
    if change.order is not None or not change.moment:
        post.digest, post.moment = change.digest, max(post.moment, change.moment)
    if change.deleted is not None:
        post.deleted, post.state_moment = change.deleted, max(post.state_moment, change.moment)
    if change.deleted is False:
        post.recovered = time.time()
    post.final = change.final
    post.deliveries = [*post.deliveries, *([change.delivery] if change.delivery else [])][-DELIVERIES:]
    for name, value in fields.items():
        post.moments[name] = [change.moment, int(change.order is not None)]
        if name in change.left_out:
            post.left_out[name] = value
    written = {name: value for name, value in fields.items() if name not in change.left_out}
    post.pending = None if post.deleted else {**(post.pending or {}), **written}
    _write(transaction, key, post)
    add_job(transaction, "upsert" if post.wanted else "delete", f"post:{key}:{post.number}", {"id": change.id})
    return True


def _came_back(transaction: Transaction, key: str, post: Post, change: Change) -> bool:
    """Return True if a deleted post has come back before an event, by `sync`.

    The event must be newer than the deletion. Until the job of the deletion is done, the question is still stored, and
    has not come back.
    """
    newer = change.order is not None and post.order is not None and [*change.order] > post.order
    unordered = change.order is None and not change.moment
    if not (newer or unordered or change.moment > post.state_moment):
        return False
    jobs = transaction.session.run("SELECT state FROM service_jobs WHERE key=?", (f"post:{key}:{post.number}",))
    return (not jobs or jobs[0][0] == "done") and bool(transaction.find([change.id]))


def _news(post: Post, change: Change) -> dict[str, Any] | None:
    """Return the fields that an event changes, or None.

    It is None for a double, and for an event older than what is known.
    """
    if post.final or (change.delivery is not None and change.delivery in post.deliveries):
        return None
    if change.final:
        return {}
    newer: bool | None = None
    if change.order is not None and post.order is not None:
        if [*change.order] < post.order:
            return None
        newer = [*change.order] > post.order
    switched = change.deleted is not None and change.deleted != post.deleted
    if switched:
        if change.moment and change.moment <= post.state_moment:
            return None
        if newer is False and not change.moment and not change.deleted:
            return None  # without numbers of deliveries, only a newer version brings a post back
        if change.deleted:
            # A deletion that was undone is delivered again. Clocks of two machines are compared, so this is not exact.
            repeated = change.deleted_at is not None and change.deleted_at < post.recovered
            return None if repeated else {}
    elif post.deleted:
        return None  # a late edit of a deleted post
    elif change.digest == post.digest and not newer and (change.order is not None or not change.moment):
        return None  # a double
    elif newer is False and change.moment and change.moment <= post.moment:
        return None  # the same version, and an earlier delivery
    found = {}
    for name, value in {**change.fields, **change.left_out}.items():
        moment, versioned = post.moments.get(name, (0, 0))
        # Between two versions the versions decide, whatever order they were delivered in.
        if (newer and versioned) or not change.moment or change.moment > moment:
            found[name] = value
    return found if found or switched else None


def _write(transaction: Transaction, key: str, post: Post) -> None:
    seen = json.dumps({name: getattr(post, name) for name in SEEN})
    pending = None if post.pending is None else json.dumps(post.pending)
    transaction.session.run(
        "INSERT INTO service_posts(id, number, seen, pending) VALUES(?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET"
        " number=excluded.number, seen=excluded.seen, pending=excluded.pending",
        (key, post.number, seen, pending),
    )


def settle(store: Store, id_: Id, number: int, pending: Mapping[str, Any] | None) -> bool:
    """Replace the pending fields of a post once the index has them.

    It returns False if the post has changed since `number`.
    """
    key, text = encoded_id(id_), None if pending is None else json.dumps(dict(pending))

    def write(transaction: Transaction) -> bool:
        run = transaction.session.run
        if not run("SELECT 1 FROM service_posts WHERE id=? AND number=?", (key, number)):
            return False
        run("UPDATE service_posts SET pending=? WHERE id=?", (text, key))
        return True

    return store.write(write)


# ---- from fields to a question ------------------------------------------------------------------------------------


def compose(
    id_: Id, fields: Mapping[str, Any], stored: StoredQuestion | None, settings: ServiceSettings
) -> NewQuestion | None:
    """Return the question of a post as `dupq index sync` would store it.

    It is None while the post has no title or text.

    Args:
        id_: Id of the question.
        fields: Fields of a change.
        stored: The question in the index, whose other details stay.
        settings: Which of title and body the networks read.

    Raises:
        InputError: A field cannot be stored.
    """
    at = f"the question {id_!r}"
    details = dict(stored.details or {}) if stored is not None else {}
    columns = {name: name for name in NAMES if name in fields}
    for name in (*columns, *PLAIN):
        if name in fields:
            details.pop(name, None)
    if "category_id" in fields and "category" not in fields and stored is not None:
        # A topic's events have only the number of its category.
        known = (stored.details or {}).get("category_id")
        if known != fields["category_id"]:
            details["category"] = str(fields["category_id"])
    details |= details_of(fields, columns, at, lambda text, _: strip_clear_html(text))
    details |= {name: fields[name] for name in PLAIN if fields.get(name) is not None}
    if "text" in fields:
        text = fields["text"]
    elif stored is not None and not {"title", "body"} & fields.keys():
        text = stored.text  # such as a topic that was closed
    else:
        parts = ("title", "body") if settings.question_text == "title+body" else ("title",)
        if any(part not in details and part not in fields for part in parts):
            return None  # an event of the topic came first; the one of its first post has the rest
        text = "\n".join(details[part] for part in parts if part in details)
    reach = reach_of(details) if "views" in details else None
    ((question,), _) = checked_questions(
        [id_],
        [text],
        created=[fields.get("created")],
        reach=None if reach is None else [reach],
        details=[details],
    )
    return question


def check_change(change: Change, settings: ServiceSettings) -> None:
    """Raise InputError if the fields of a change cannot be stored.

    The sender gets the error then, and no job fails later.
    """
    compose(change.id, change.fields, None, settings)
    checked_questions([change.id], ["a question"], created=[change.fields.get("created")])
