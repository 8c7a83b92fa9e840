"""Webhooks of other forums."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dupq.service.state import Service
from dupq.service.webhooks.signatures import signature_of
from tests.service.webhooks.payloads import SECRET, send_generic

Find = Callable[[Any], Any]
Open = Callable[..., tuple[Service, TestClient]]


def test_the_usual_fields_need_no_mapping(client: TestClient, question: Find) -> None:
    body = {"id": 12, "title": "How do I sort a list?", "body": "By two keys.", "tags": ["python"], "version": 1}
    answer = send_generic(client, body)
    assert (answer.status_code, answer.json()["id"]) == (202, 12)
    stored = question(12)
    assert stored.text == "How do I sort a list?"
    assert stored.details == {"title": "How do I sort a list?", "body": "By two keys.", "tags": ["python"]}


def test_fields_are_found_by_their_paths(open_: Open) -> None:
    fields = {"id": "data.thread.key", "text": "data.posts.0.text", "created": "data.at", "event": "name"}
    service, client = open_(generic_secret=SECRET, generic_fields=fields, workers=0)
    body = {"name": "thread.new", "data": {"thread": {"key": "t-1"}, "posts": [{"text": "Why?"}], "at": 1_700_000_000}}
    assert send_generic(client, body).json()["id"] == "t-1"
    from dupq.service.work import follow_post

    follow_post(service, {"id": "t-1"})
    stored = service.index.questions(["t-1"])["t-1"]
    assert (stored.text, stored.created) == ("Why?", "2023-11-14T22:13:20+00:00")
    body["name"] = "thread.deleted"
    assert send_generic(client, body).status_code == 202
    follow_post(service, {"id": "t-1"})
    assert "t-1" not in service.index


def test_versions_order_edits_and_a_newer_one_brings_a_question_back(client: TestClient, question: Find) -> None:
    def send(version: Any, **changes: Any) -> int:
        body = {"id": "q", "text": f"version {version}", "version": version, **changes}
        return int(send_generic(client, body).status_code)

    assert [send(1), send(1), send(3), send(2)] == [202, 200, 202, 200]
    assert question("q").text == "version 3"
    assert [send(3, deleted=True), send(3, deleted=True), send(3), send(2)] == [202, 200, 200, 200]
    assert question("q") is None
    assert send("4") == 202
    assert question("q").text == "version 4"


def test_without_versions_the_last_one_counts(client: TestClient, question: Find) -> None:
    assert send_generic(client, {"id": "q", "text": "one"}).status_code == 202
    assert send_generic(client, {"id": "q", "text": "one"}).status_code == 200
    assert send_generic(client, {"id": "q", "text": "two"}).status_code == 202
    assert question("q").text == "two"
    headers = {"x-dupq-delivery": "a name"}
    assert send_generic(client, {"id": "q", "text": "three"}, **headers).status_code == 202
    assert send_generic(client, {"id": "q", "text": "four"}, **headers).status_code == 200
    assert send_generic(client, {"id": "q", "deleted": "2026-01-01"}).status_code == 202
    assert question("q") is None


def test_either_header_may_have_the_signature(client: TestClient) -> None:
    raw = json.dumps({"id": "q", "text": "one"}).encode()
    other = {"x-hub-signature-256": signature_of(SECRET, raw)}
    assert client.post("/webhooks/generic", content=raw, headers=other).status_code == 202
    assert send_generic(client, b"{}", **{"x-dupq-event": "ping"}).json() == {"status": "pong"}
    wrong = {**other, "x-dupq-signature-256": "sha256=0"}
    assert client.post("/webhooks/generic", content=raw, headers=wrong).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": None, "text": "x"},
        {"id": True, "text": "x"},
        {"id": "", "text": "x"},
        {"id": 2**70, "text": "x"},
        {"id": "a\x00", "text": "x"},
        {"id": "a"},
        {"id": "a", "text": 5},
        {"id": "a", "text": ""},
        {"id": "a", "text": "x", "tags": 5},
        {"id": "a", "text": "x", "version": []},
        {"id": "a", "text": "x", "version": "soon"},
        {"id": "a", "text": "x", "version": True},
        {"id": "a", "text": "x", "event": {}},
        {"id": "a", "text": "x", "created": "soon"},
    ],
)
def test_what_is_malformed_is_refused(client: TestClient, service: Service, body: Any) -> None:
    answer = send_generic(client, body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["hint"]
    assert service.jobs.list() == ()
