"""Webhooks of GitHub."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from dupq.service.state import Service
from tests.service.webhooks.payloads import github_issue, send_github

ID = "github:owner/project#5"
Find = Callable[[Any], Any]


def test_an_issue_becomes_a_question(client: TestClient, question: Find) -> None:
    answer = send_github(client, github_issue())
    assert (answer.status_code, answer.json()["id"]) == (202, ID)
    stored = question(ID)
    assert stored.text == "The parser stops at an empty line"
    assert stored.details == {
        "title": "The parser stops at an empty line",
        "body": "It stops without an error.",
        "tags": ["bug"],
        "url": "https://github.com/owner/project/issues/5",
        "answers": 2,
        "category": "owner/project",
        "closed": False,
    }


def test_an_empty_body_removes_the_old_one(client: TestClient, question: Find) -> None:
    send_github(client, github_issue())
    send_github(client, github_issue("edited", second=1, body=None, labels=[]), "d2")
    stored = question(ID)
    assert "body" not in stored.details
    assert "tags" not in stored.details


def test_closing_and_labels_change_the_details(client: TestClient, question: Find) -> None:
    send_github(client, github_issue())
    slot = question(ID).slot
    send_github(client, github_issue("closed", second=1, state="closed"), "d2")
    assert question(ID).details["closed"] is True
    send_github(client, github_issue("reopened", second=2), "d3")
    send_github(client, github_issue("labeled", second=3, labels=[{"name": "bug"}, {"name": "docs"}]), "d4")
    stored = question(ID)
    assert (stored.slot, stored.details["closed"], stored.details["tags"]) == (slot, False, ["bug", "docs"])


def test_replays_and_late_edits_are_ignored(client: TestClient, question: Find) -> None:
    assert send_github(client, github_issue()).status_code == 202
    assert send_github(client, github_issue()).status_code == 200
    assert send_github(client, github_issue("edited", second=9, title="The last title"), "d2").status_code == 202
    assert send_github(client, github_issue("edited", second=4, title="An earlier title"), "d3").status_code == 200
    assert send_github(client, github_issue("edited", second=9, title="In the same second"), "d4").status_code == 202
    assert send_github(client, github_issue("edited", second=9, title="The last title"), "d2").status_code == 200
    assert question(ID).text == "In the same second"


@pytest.mark.parametrize("action", ["deleted", "transferred"])
def test_an_issue_that_is_gone_never_comes_back(client: TestClient, question: Find, action: str) -> None:
    send_github(client, github_issue())
    assert question(ID)
    assert send_github(client, github_issue(action, second=1), "d2").status_code == 202
    assert send_github(client, github_issue("edited", second=9), "d3").status_code == 200
    assert question(ID) is None


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (github_issue(pull_request={"url": "https://api.github.com"}), "issues"),
        (github_issue("pinned"), "issues"),
        (github_issue(), "issue_comment"),
        ({"zen": "Keep it simple."}, "star"),
    ],
)
def test_what_is_no_issue_is_left_out(client: TestClient, service: Service, body: Any, event: str) -> None:
    answer = send_github(client, body, headers={"x-github-event": event})
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    assert service.jobs.list() == ()


def test_a_ping_is_answered(client: TestClient) -> None:
    assert send_github(client, {"zen": "x"}, headers={"x-github-event": "ping"}).json() == {"status": "pong"}


def test_a_form_is_read(client: TestClient) -> None:
    form = urlencode({"payload": json.dumps(github_issue())}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert send_github(client, form, headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, github_issue(), {"x-github-event": ""}),
        (400, github_issue(), {"x-github-delivery": "x" * 200}),
        (403, github_issue(), {"x-hub-signature-256": "sha256=0"}),
        (422, {"action": "opened"}, {}),
        (422, {**github_issue(), "repository": {"full_name": "owner"}}, {}),
        (422, {**github_issue(), "repository": {"full_name": "owner/\ud800"}}, {}),
        (422, github_issue(title=None), {}),
        (422, github_issue(body=3), {}),
        (422, github_issue(labels=[1]), {}),
        (422, github_issue(labels=[{"name": 1}]), {}),
        (422, github_issue(updated_at="x"), {}),
        (422, github_issue(comments=-1), {}),
        (422, github_issue(html_url=5), {}),
    ],
)
def test_what_is_malformed_is_refused(client: TestClient, status: int, body: Any, headers: dict[str, str]) -> None:
    answer = send_github(client, body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
