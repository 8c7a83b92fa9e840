"""Webhooks of Discourse: first posts of regular topics become questions.

Source: discourse/discourse. Headers, signature and body: `app/jobs/regular/emit_web_hook_event.rb` at commit
00e592a2f9dbb1727f3804bf555fa1e5f27df9e9, where the content type of a form is sent over plain JSON, and a retry makes a
new event id. Names of events: `config/initializers/012-web_hook_events.rb` at 00fc07242c8da0bb8c78d7798662874f0aa76210
(closing is `topic_closed_status_updated`). Members of a post: `app/serializers/web_hook_post_serializer.rb` at
00ec81dd4e235c69df8fa4b21b85949aef671f4d; of a topic: `app/serializers/web_hook_topic_view_serializer.rb` at
09eae9857f6084ddcc7a9dd9fcd7db057bd496fe, which has no text and no version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from dupq.data.dates import parse_date
from dupq.service.problems import ProblemError
from dupq.service.webhooks.posts import Change, Ignored
from dupq.service.webhooks.signatures import member

if TYPE_CHECKING:
    from dupq.service.settings import ServiceSettings

SIGNATURE = "x-discourse-event-signature"
POST_EVENTS = frozenset({"post_created", "post_edited", "post_destroyed", "post_recovered"})
TOPIC_EVENTS = frozenset({"topic_created", "topic_revised", "topic_edited", "topic_destroyed", "topic_recovered"})
_STATUS = re.compile(r"topic_\w+_status_updated\Z", re.ASCII)
REGULAR = "regular"


def is_ping(headers: Mapping[str, str]) -> bool:
    """Return True for the test that the administration of Discourse sends."""
    return headers.get("x-discourse-event-type") == "ping"


def change_of(headers: Mapping[str, str], body: Mapping[str, Any], settings: ServiceSettings) -> Change:
    """Return what an event changes.

    Args:
        headers: With names in lower case.
        body: The JSON.
        settings: Form of the ids.

    Raises:
        Ignored: The event is of no question.
        ProblemError: 400 or 422: a header or a member is missing or malformed.
    """
    kind, event = _header(headers, "x-discourse-event-type"), _header(headers, "x-discourse-event")
    host, base = _instance(_header(headers, "x-discourse-instance"))
    moment = _header(headers, "x-discourse-event-id")
    if not (moment.isascii() and moment.isdigit() and len(moment) < 19):
        raise ProblemError(400, f"x-discourse-event-id must be a number, got {moment!r:.60}", hint="send it unchanged")
    if kind == "post" and event in POST_EVENTS:
        return _of_post(event, member(body, "post", dict, "body"), host, base, int(moment), settings)
    if kind == "topic" and (event in TOPIC_EVENTS or _STATUS.match(event)):
        return _of_topic(event, member(body, "topic", dict, "body"), host, base, int(moment), settings)
    raise Ignored(f"events {event!r:.60} are not used")


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise ProblemError(400, f"the header {name} is missing", hint="send the request as Discourse does")
    return value


def _instance(url: str) -> tuple[str, str]:
    """Return the name of a forum, with its folder if it has one, and its address."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not url.isprintable() or "@" in parts.netloc:
        raise ProblemError(
            400, f"x-discourse-instance must be the address of the forum, got {url!r:.60}", hint="send it unchanged"
        )
    folder = parts.path.rstrip("/")
    return f"{parts.netloc.lower()}{folder}", f"{parts.scheme}://{parts.netloc}{folder}"


def _id(host: str, topic: int, settings: ServiceSettings) -> str | int:
    return topic if settings.discourse_ids == "topic" else f"discourse:{host}:{topic}"


def _of_post(
    event: str, post: Mapping[str, Any], host: str, base: str, moment: int, settings: ServiceSettings
) -> Change:
    topic, number = member(post, "topic_id", int, "post"), member(post, "post_number", int, "post")
    version = member(post, "version", int, "post")
    member(post, "id", int, "post")
    if number != 1:
        raise Ignored("it is not the first post of its topic")
    updated = post.get("updated_at")
    # An author's edits within minutes keep the version, and change this time.
    order = (float(version), parse_date(updated, location="post.updated_at") or 0.0 if updated is not None else 0.0)
    id_ = _id(host, topic, settings)
    if event == "post_destroyed":
        # Some versions of Discourse make the payload after the deletion, when the post has no topic.
        private = post.get("topic_archetype") not in (None, "", REGULAR)
        deleted_at = parse_date(post.get("deleted_at"), location="post.deleted_at")
        return Change(id_, {}, order, moment, deleted=True, deleted_at=deleted_at, known_only=private)
    if post.get("deleted_at") is not None and event != "post_recovered":
        raise Ignored("the post is deleted")
    archetype = post.get("topic_archetype") or ""
    left_out = {"hidden": bool(post.get("hidden")) or bool(post.get("user_deleted"))}
    if archetype:
        left_out["private"] = archetype != REGULAR
    fields: dict[str, Any] = {}
    if not left_out.get("private"):
        slug = post.get("topic_slug")
        fields = {
            "title": member(post, "topic_title", str, "post"),
            "body": member(post, "raw", str, "post"),
            "url": f"{base}/t/{quote(slug, safe='', errors='replace')}/{topic}"
            if isinstance(slug, str) and slug
            else f"{base}/t/{topic}",
            "created": post.get("created_at"),
        }
        fields |= {name: post[name] for name in ("category_id",) if post.get(name) is not None}
        fields |= {"category": post["category_slug"]} if isinstance(post.get("category_slug"), str) else {}
        count = post.get("topic_posts_count")
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            fields["answers"] = count - 1
    recovered = False if event == "post_recovered" else None
    return Change(id_, fields, order, moment, None, recovered, left_out=left_out, known_only=not archetype)


def _of_topic(
    event: str, topic: Mapping[str, Any], host: str, base: str, moment: int, settings: ServiceSettings
) -> Change:
    number = member(topic, "id", int, "topic")
    id_ = _id(host, number, settings)
    if event == "topic_destroyed":
        private = topic.get("archetype") not in (None, "", REGULAR)
        deleted_at = parse_date(topic.get("deleted_at"), location="topic.deleted_at")
        return Change(id_, {}, None, moment, deleted=True, deleted_at=deleted_at, known_only=private)
    if topic.get("deleted_at") is not None and event != "topic_recovered":
        raise Ignored("the topic is deleted")
    archetype = topic.get("archetype") or ""
    left_out: dict[str, bool] = {}
    if archetype:
        left_out["private"] = archetype != REGULAR
    if isinstance(topic.get("visible"), bool):
        left_out["unlisted"] = not topic["visible"]
    fields: dict[str, Any] = {}
    if not left_out.get("private"):
        slug = topic.get("slug")
        fields = {"title": member(topic, "title", str, "topic"), "created": topic.get("created_at")}
        if isinstance(slug, str) and slug:
            fields["url"] = f"{base}/t/{quote(slug, safe='', errors='replace')}/{number}"
        if "tags" in topic:
            fields["tags"] = _tags(topic["tags"])
        if isinstance(topic.get("closed"), bool):
            fields["closed"] = topic["closed"]
        names = {"category_id": "category_id", "views": "views", "like_count": "score"}
        fields |= {ours: topic[name] for name, ours in names.items() if topic.get(name) is not None}
        count = topic.get("posts_count")
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            fields["answers"] = count - 1
    recovered = False if event == "topic_recovered" else None
    return Change(id_, fields, None, moment, None, recovered, left_out=left_out, known_only=not archetype)


def _tags(tags: object) -> list[str]:
    """Return the names of tags, which some versions send as objects.

    Raises:
        ProblemError: 422: they are something else.
    """
    names = [tag.get("name") if isinstance(tag, dict) else tag for tag in tags] if isinstance(tags, list) else [None]
    if not all(isinstance(name, str) for name in names):
        raise ProblemError(422, f"topic.tags must be a list of names, got {tags!r:.60}", hint="send them unchanged")
    return [str(name) for name in names]
