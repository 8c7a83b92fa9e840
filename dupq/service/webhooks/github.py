"""Webhooks of GitHub: issues become questions; pull requests do not.

Source: octokit/webhooks. `payload-schemas/api.github.com/issues/opened.schema.json` at commit
221e322843fd94fa9c1fdb6e05d27854a3ce7143 (an issue that was transferred here is opened with `changes.old_issue`), and
`payload-examples/api.github.com/issues/edited.payload.json` at 0ec20b74bfc1939b2cab49ead31452f3be5db69a. An issue has
no version; `updated_at` orders its events, to the second, and `X-GitHub-Delivery` names a delivery and its repetitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dupq.data.dates import parse_date
from dupq.service.problems import ProblemError
from dupq.service.webhooks.posts import Change, Ignored
from dupq.service.webhooks.signatures import member

SIGNATURE = "x-hub-signature-256"
WRITTEN = frozenset({"opened", "edited", "closed", "reopened", "labeled", "unlabeled"})
GONE = frozenset({"deleted", "transferred"})


def is_ping(headers: Mapping[str, str]) -> bool:
    """Return True for the event that GitHub sends when the webhook is made."""
    return headers.get("x-github-event") == "ping"


def change_of(headers: Mapping[str, str], body: Mapping[str, Any]) -> Change:
    """Return what an event changes.

    Args:
        headers: With names in lower case.
        body: The JSON.

    Raises:
        Ignored: The event is of no question.
        ProblemError: 400 or 422: a header or a member is missing or malformed.
    """
    event, delivery = headers.get("x-github-event", ""), headers.get("x-github-delivery", "")
    if not event:
        raise ProblemError(400, "the header x-github-event is missing", hint="send the request as GitHub does")
    if not delivery.isprintable() or len(delivery) > 100:
        raise ProblemError(400, "x-github-delivery must be a short name", hint="send it unchanged")
    if event != "issues":
        raise Ignored(f"events {event!r:.60} are not used")
    action, issue = member(body, "action", str, "body"), member(body, "issue", dict, "body")
    if action not in WRITTEN | GONE:
        raise Ignored(f"the action {action!r:.60} changes no question")
    if issue.get("pull_request") is not None:
        raise Ignored("it is a pull request")
    repository = member(member(body, "repository", dict, "body"), "full_name", str, "repository")
    number = member(issue, "number", int, "issue")
    if repository.count("/") != 1 or not repository.isprintable() or "#" in repository:
        raise ProblemError(422, f"repository.full_name must be owner/name, got {repository!r:.60}", hint="see GitHub")
    id_ = f"github:{repository}#{number}"
    if action in GONE:
        return Change(id_, {}, delivery=delivery or None, deleted=True, final=True)
    updated = parse_date(member(issue, "updated_at", str, "issue"), location="issue.updated_at")
    labels = issue.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
        raise ProblemError(422, f"issue.labels must be a list of objects, got {labels!r:.60}", hint="see GitHub")
    fields: dict[str, Any] = {
        "title": member(issue, "title", str, "issue"),
        "body": issue.get("body"),
        "tags": [member(label, "name", str, "label") for label in labels],
        "category": repository,
        "url": issue.get("html_url"),
        "closed": issue.get("state") == "closed",
        "created": issue.get("created_at"),
    }
    fields |= {"answers": issue["comments"]} if issue.get("comments") is not None else {}
    return Change(id_, fields, (updated or 0.0,), delivery=delivery or None)
