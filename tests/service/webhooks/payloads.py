"""Requests as forums send them, with texts of our own.

Shapes: see the modules `dupq.service.webhooks.discourse` and `.github`, which cite the source of each forum.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient

from dupq.service.webhooks.signatures import signature_of

SECRET = "a secret of the forum"
INSTANCE = "https://forum.example"


def discourse_post(topic: int = 7, *, version: int = 1, **changes: Any) -> dict[str, Any]:
    """A post, as WebHookPostSerializer writes it."""
    post = {
        "id": 1000 + topic,
        "name": "Ada",
        "username": "ada",
        "created_at": "2026-03-01T10:00:00.000Z",
        "cooked": "<p>cooked, never used</p>",
        "raw": "I tried the usual ways, and none helped.",
        "post_number": 1,
        "post_type": 1,
        "updated_at": f"2026-03-01T10:{version:02}:00.000Z",
        "reply_count": 0,
        "topic_id": topic,
        "topic_slug": "how-do-i-learn-python",
        "topic_title": "How do I learn Python quickly?",
        "topic_archetype": "regular",
        "topic_posts_count": 3,
        "category_id": 4,
        "category_slug": "help",
        "version": version,
        "hidden": False,
        "deleted_at": None,
        "user_deleted": False,
    }
    return {"post": {**post, **changes}}


def discourse_topic(topic: int = 7, **changes: Any) -> dict[str, Any]:
    """A topic, as WebHookTopicViewSerializer writes it: it has no text and no version."""
    found = {
        "id": topic,
        "title": "How do I learn Python quickly?",
        "fancy_title": "How do I learn Python quickly?",
        "slug": "how-do-i-learn-python",
        "posts_count": 3,
        "created_at": "2026-03-01T10:00:00.000Z",
        "views": 12,
        "like_count": 2,
        "visible": True,
        "closed": False,
        "archived": False,
        "archetype": "regular",
        "category_id": 4,
        "tags": ["beginner"],
        "deleted_at": None,
    }
    return {"topic": {**found, **changes}}


def send_discourse(client: TestClient, event: str, body: Any, number: int | str = 1, **options: Any) -> Any:
    """Send an event as Discourse does; return the answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {
        "content-type": "application/json",
        "x-discourse-instance": INSTANCE,
        "x-discourse-event-id": str(number),
        "x-discourse-event-type": event.partition("_")[0],
        "x-discourse-event": event,
        "x-discourse-event-signature": signature_of(options.pop("secret", SECRET), raw),
        **options.pop("headers", {}),
    }
    headers = {name: value for name, value in headers.items() if value is not None}
    return client.post("/webhooks/discourse", content=raw, headers=headers)


def github_issue(action: str = "opened", number: int = 5, second: int = 0, **changes: Any) -> dict[str, Any]:
    """An issue event, cut to the members that are used and some that are not."""
    issue = {
        "id": 90000 + number,
        "number": number,
        "title": "The parser stops at an empty line",
        "body": "It stops without an error.",
        "html_url": f"https://github.com/owner/project/issues/{number}",
        "labels": [{"id": 1, "name": "bug", "color": "d73a4a"}],
        "state": "open",
        "locked": False,
        "comments": 2,
        "created_at": "2026-03-01T10:00:00Z",
        "updated_at": f"2026-03-01T10:00:{second:02}Z",
        "closed_at": None,
        **changes,
    }
    return {"action": action, "issue": issue, "repository": {"id": 3, "full_name": "owner/project", "private": False}}


def send_github(client: TestClient, body: Any, delivery: str = "d1", **options: Any) -> Any:
    """Send an event as GitHub does; return the answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {
        "content-type": "application/json",
        "x-github-event": "issues",
        "x-github-delivery": delivery,
        "x-hub-signature-256": signature_of(SECRET, raw),
        **options.pop("headers", {}),
    }
    return client.post("/webhooks/github", content=raw, headers=headers)


def send_generic(client: TestClient, body: Any, **headers: str) -> Any:
    """Send a question of another forum; return the answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json", "x-dupq-signature-256": signature_of(SECRET, raw), **headers}
    return client.post("/webhooks/generic", content=raw, headers=sent)
