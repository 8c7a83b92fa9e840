"""Webhooks of Discourse."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from dupq.service.state import Service
from dupq.service.webhooks.signatures import signature_of
from tests.service.webhooks.payloads import SECRET, discourse_post, discourse_topic, send_discourse

ID = "discourse:forum.example:7"
Find = Callable[[Any], Any]


def without_version(version: Any) -> dict[str, Any]:
    """A post with this in place of its version."""
    body = discourse_post()
    body["post"]["version"] = version
    return body


def test_a_new_post_becomes_a_question_as_a_sync_would_store_it(client: TestClient, question: Find) -> None:
    answer = send_discourse(client, "post_created", discourse_post())
    assert answer.status_code == 202
    assert answer.json() == {"status": "stored", "id": ID}
    stored = question(ID)
    assert stored.text == "How do I learn Python quickly?"
    assert stored.created == "2026-03-01T10:00:00+00:00"
    assert stored.details == {
        "title": "How do I learn Python quickly?",
        "body": "I tried the usual ways, and none helped.",
        "url": "https://forum.example/t/how-do-i-learn-python/7",
        "answers": 2,
        "category": "help",
        "category_id": 4,
    }


def test_a_new_question_is_decided(client: TestClient, service: Service, question: Find) -> None:
    send_discourse(client, "post_created", discourse_post(7))
    send_discourse(client, "post_created", discourse_post(8, topic_title="How do I learn Python fast?"), 2)
    question(ID)
    assert {id_ for row in service.index.decisions_of(ID) for id_ in (row.id, row.other)} == {ID, ID[:-1] + "8"}


def test_a_replay_and_a_retry_with_a_new_number_are_doubles(
    client: TestClient, service: Service, question: Find
) -> None:
    body = discourse_post()
    assert send_discourse(client, "post_created", body, 1).status_code == 202
    for number in (1, 2):
        answer = send_discourse(client, "post_created", body, number)
        assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    question(ID)
    assert sum(job.kind == "upsert" for job in service.jobs.list()) == 1


def test_edits_out_of_order_leave_the_last_version(client: TestClient, question: Find) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    third = discourse_post(version=3, topic_title="How do I learn Python in a week?")
    second = discourse_post(version=2, topic_title="How do I learn Python in a month?")
    assert send_discourse(client, "post_edited", third, 2).status_code == 202
    assert send_discourse(client, "post_edited", second, 3).status_code == 200
    assert question(ID).text == "How do I learn Python in a week?"


def test_an_edit_within_minutes_keeps_the_version_and_is_no_double(client: TestClient, question: Find) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    later = discourse_post(raw="A better text.", updated_at="2026-03-01T10:01:30.000Z")
    assert send_discourse(client, "post_edited", later, 2).status_code == 202
    same_time = discourse_post(raw="A better text.", updated_at="2026-03-01T10:01:30.000Z", topic_title="A new title?")
    assert send_discourse(client, "post_edited", same_time, 3).status_code == 202
    stored = question(ID)
    assert (stored.text, stored.details["body"]) == ("A new title?", "A better text.")


def test_a_deleted_question_is_removed_and_a_late_edit_does_not_bring_it_back(
    client: TestClient, service: Service, question: Find
) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    assert question(ID)
    assert send_discourse(client, "post_destroyed", discourse_post(version=2), 3).status_code == 202
    assert send_discourse(client, "post_edited", discourse_post(version=2, raw="late"), 2).status_code == 200
    assert send_discourse(client, "topic_edited", discourse_topic(title="late"), 4).status_code == 200
    assert question(ID) is None
    with service.store.reading() as view:
        ((seen, pending),) = view.session.run("SELECT seen, pending FROM service_posts")
    assert pending is None
    assert "usual ways" not in seen, "no text of a deleted post is kept"


def test_a_deletion_before_its_question_wins(client: TestClient, question: Find) -> None:
    send_discourse(client, "post_destroyed", discourse_post(), 2)
    assert send_discourse(client, "post_created", discourse_post(), 1).status_code == 200
    assert question(ID) is None


def test_a_recovered_question_comes_back(client: TestClient, question: Find) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    send_discourse(client, "post_destroyed", discourse_post(topic_archetype="", topic_title=None), 2)
    send_discourse(client, "topic_destroyed", discourse_topic(), 3)
    assert question(ID) is None
    assert send_discourse(client, "post_recovered", discourse_post(), 4).status_code == 202
    assert send_discourse(client, "topic_recovered", discourse_topic(), 5).status_code == 202
    stored = question(ID)
    assert stored.details["body"] == "I tried the usual ways, and none helped."
    assert stored.details["tags"] == ["beginner"]
    assert send_discourse(client, "post_destroyed", discourse_post(), 2).status_code == 200, "the deletion is older"
    assert question(ID)


def test_a_recovery_of_the_topic_alone_brings_its_title_back(client: TestClient, question: Find) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    send_discourse(client, "topic_destroyed", discourse_topic(), 2)
    assert question(ID) is None
    send_discourse(client, "topic_recovered", discourse_topic(), 3)
    assert question(ID).text == "How do I learn Python quickly?"


@pytest.mark.parametrize(("event", "body"), [("topic_destroyed", discourse_topic), ("post_destroyed", discourse_post)])
def test_a_deletion_that_is_delivered_again_does_not_undo_a_later_recovery(
    client: TestClient, question: Find, event: str, body: Callable[..., Any]
) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    send_discourse(client, "topic_recovered", discourse_topic(), 3)  # event 2, the deletion, was answered with an error
    old, new = body(deleted_at="2026-03-02T10:00:00Z"), body(deleted_at="2999-01-01T00:00:00Z")
    assert send_discourse(client, event, old, 4).status_code == 200
    assert question(ID)
    assert send_discourse(client, event, new, 5).status_code == 202
    assert question(ID) is None


def test_a_deleted_question_that_a_sync_brings_back_is_followed_again(
    client: TestClient, service: Service, question: Find
) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    send_discourse(client, "topic_destroyed", discourse_topic(), 3)
    assert question(ID) is None
    service.index.add([ID], ["How do I learn Python quickly?"])
    assert send_discourse(client, "topic_edited", discourse_topic(title="late"), 2).status_code == 200
    edited = discourse_post(version=2, topic_title="How do I learn Python?")
    assert send_discourse(client, "post_edited", edited, 4).status_code == 202
    assert question(ID).text == "How do I learn Python?"
    assert send_discourse(client, "topic_destroyed", discourse_topic(), 5).status_code == 202
    assert question(ID) is None
    service.index.add([ID], ["How do I learn Python?"])
    assert send_discourse(client, "topic_destroyed", discourse_topic(), 6).status_code == 202, "it is deleted again"
    assert question(ID) is None


def test_events_of_a_topic_change_its_details_and_title(client: TestClient, question: Find) -> None:
    send_discourse(client, "topic_created", discourse_topic(), 1)
    send_discourse(client, "post_created", discourse_post(), 2)
    before = question(ID)
    assert before.details["tags"] == ["beginner"]
    answer = send_discourse(client, "topic_closed_status_updated", discourse_topic(closed=True, views=90), 3)
    assert answer.status_code == 202
    closed = question(ID)
    assert closed.details["closed"] is True
    assert closed.reach == 90
    assert (closed.slot, closed.details["body"]) == (before.slot, before.details["body"])
    edited = discourse_topic(title="How do I learn Rust?", tags=[{"id": 3, "name": "rust"}], category_id=9)
    send_discourse(client, "topic_edited", edited, 4)
    stored = question(ID)
    assert (stored.text, stored.details["tags"], stored.details["category"]) == ("How do I learn Rust?", ["rust"], "9")
    assert send_discourse(client, "topic_edited", discourse_topic(), 4).status_code == 200, "the delivery is known"
    assert send_discourse(client, "topic_edited", discourse_topic(), 1).status_code == 200, "the delivery is older"


def test_a_post_and_its_topic_are_edited_in_either_order(client: TestClient, question: Find) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    send_discourse(client, "post_edited", discourse_post(version=2, topic_title="A second title?"), 6)
    answer = send_discourse(client, "topic_edited", discourse_topic(title="An old title?", tags=["new"]), 5)
    assert answer.status_code == 202
    stored = question(ID)
    assert (stored.text, stored.details["tags"]) == ("A second title?", ["new"])


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ("post_created", discourse_post(topic_archetype="private_message")),
        ("post_destroyed", discourse_post(topic_archetype="private_message")),
        ("post_recovered", discourse_post(topic_archetype="")),
        ("topic_created", discourse_topic(archetype="private_message")),
        ("topic_destroyed", discourse_topic(archetype="private_message")),
        ("post_created", discourse_post(post_number=2)),
        ("post_created", discourse_post(hidden=True)),
        ("post_edited", discourse_post(deleted_at="2026-03-01T10:00:00Z")),
        ("user_created", {"user": {"id": 1}}),
        ("post_liked", discourse_post()),
    ],
)
def test_what_is_no_public_question_is_left_out_and_not_stored(
    client: TestClient, service: Service, event: str, body: Any
) -> None:
    answer = send_discourse(client, event, body)
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
    with service.store.reading() as view:
        assert view.count("service_posts") == view.count("service_jobs") == 0


@pytest.mark.parametrize(
    ("event", "body", "back"),
    [
        ("post_edited", discourse_post(version=2, hidden=True), discourse_post(version=3)),
        ("topic_visible_status_updated", discourse_topic(visible=False), discourse_topic()),
        ("topic_edited", discourse_topic(archetype="private_message"), discourse_topic()),
    ],
)
def test_a_question_that_is_hidden_later_is_removed_until_it_is_shown(
    client: TestClient, question: Find, event: str, body: Any, back: Any
) -> None:
    send_discourse(client, "post_created", discourse_post(), 1)
    assert question(ID)
    assert send_discourse(client, event, body, 2).status_code == 202
    assert question(ID) is None
    assert send_discourse(client, event, back, 3).status_code == 202
    assert question(ID).details["body"] == "I tried the usual ways, and none helped."


def test_a_form_and_a_form_that_is_json_are_read(client: TestClient, question: Find) -> None:
    form = urlencode({"payload": json.dumps(discourse_post())}).encode()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert send_discourse(client, "post_created", form, headers=kind).status_code == 202
    plain = json.dumps(discourse_post(version=2)).encode()  # as Discourse sends it under this content type
    assert send_discourse(client, "post_edited", plain, 2, headers=kind).status_code == 202
    assert question(ID)
    unlike = {**kind, "x-discourse-event-signature": signature_of(SECRET, json.dumps(discourse_post()).encode())}
    assert send_discourse(client, "post_created", form, headers=unlike).status_code == 403, "the raw bytes are signed"


def test_ids_and_texts_can_be_those_of_a_sync(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    service, client = open_(discourse_secret=SECRET, discourse_ids="topic", question_text="title+body", workers=0)
    assert send_discourse(client, "topic_created", discourse_topic(), 1).json()["id"] == 7
    from dupq.service.work import follow_post

    follow_post(service, {"id": 7})
    assert 7 not in service.index, "the text of the post is missing yet"
    send_discourse(client, "post_created", discourse_post(), 2)
    follow_post(service, {"id": 7})
    text = service.index.questions([7])[7].text
    assert text == "How do I learn Python quickly?\nI tried the usual ways, and none helped."


def test_a_folder_and_a_port_belong_to_the_forum(client: TestClient) -> None:
    headers = {"x-discourse-instance": "https://Example.org:8443/forum/"}
    answer = send_discourse(client, "post_created", discourse_post(), headers=headers)
    assert answer.json()["id"] == "discourse:example.org:8443/forum:7"


def test_a_ping_is_answered(client: TestClient) -> None:
    answer = send_discourse(client, "ping", {"ping": "OK"}, headers={"x-discourse-event": None})
    assert (answer.status_code, answer.json()) == (200, {"status": "pong"})


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (403, discourse_post(), {"x-discourse-event-signature": None}),
        (403, discourse_post(), {"x-discourse-event-signature": "sha256=" + "0" * 64}),
        (403, discourse_post(), {"x-discourse-event-signature": "é"}),
        (403, discourse_post(), {"x-discourse-event-signature": "sha1=00"}),
        (400, discourse_post(), {"x-discourse-instance": None}),
        (400, discourse_post(), {"x-discourse-instance": "forum.example"}),
        (400, discourse_post(), {"x-discourse-instance": "https://[::1"}),
        (400, discourse_post(), {"x-discourse-instance": "https://a:b/"}),
        (400, discourse_post(), {"x-discourse-event-id": "-1"}),
        (400, discourse_post(), {"x-discourse-event-id": None}),
        (400, discourse_post(), {"x-discourse-event": None}),
        (400, discourse_post(), {"x-discourse-event-type": None}),
        (400, b"", {}),
        (400, b"{", {}),
        (400, b"\xff\xfe", {}),
        (400, b"[1]", {}),
        (400, b'{"post": NaN}', {}),
        (400, b"[" * 100_000, {}),
        (400, b'{"post": ' + b"9" * 5000 + b"}", {}),
        (400, b"a=1", {"content-type": "application/x-www-form-urlencoded"}),
        (400, b"payload=%ff&payload=1", {"content-type": "application/x-www-form-urlencoded"}),
        (422, {}, {}),
        (422, {"post": []}, {}),
        (422, discourse_post(topic_id="7"), {}),
        (422, discourse_post(topic_id=-7), {}),
        (422, discourse_post(topic_id=2**70), {}),
        (422, without_version(None), {}),
        (422, without_version(True), {}),
        (422, without_version(1.5), {}),
        (422, discourse_post(topic_title=None), {}),
        (422, discourse_post(topic_title=" "), {}),
        (422, discourse_post(topic_title="\ud800"), {}),
        (422, discourse_post(topic_title="a\x00b"), {}),
        (422, discourse_post(raw=["x"]), {}),
        (422, discourse_post(updated_at="yesterday"), {}),
        (422, discourse_post(updated_at={}), {}),
        (422, discourse_post(created_at="1/5/2022"), {}),
        (422, discourse_post(category_id=float("inf")), {}),
    ],
)
def test_what_is_malformed_is_refused_with_a_hint(
    client: TestClient, service: Service, status: int, body: Any, headers: dict[str, Any]
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).replace("Infinity", "1e999").encode()
    headers = {name: value.encode() if value == "é" else value for name, value in headers.items()}
    answer = send_discourse(client, "post_created", raw, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["hint"]
    assert SECRET not in answer.text
    with service.store.reading() as view:
        assert view.count("service_posts") == view.count("service_jobs") == 0


def test_a_slug_that_is_no_text_does_no_harm(client: TestClient, question: Find) -> None:
    send_discourse(client, "post_created", discourse_post(topic_slug="\ud800/../x"))
    assert question(ID).details["url"].startswith("https://forum.example/t/%")


def test_without_a_secret_nothing_is_accepted(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    _, client = open_()
    for kind in ("discourse", "github", "generic"):
        answer = client.post(f"/webhooks/{kind}", content=b"{}")
        assert answer.status_code == 403
        assert f"{kind}_secret is not set" in answer.json()["detail"]
        assert f"DUPQ_SERVE_{kind.upper()}_SECRET" in answer.json()["hint"]


def test_a_huge_body_is_refused(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    _, client = open_(discourse_secret=SECRET, max_body_bytes=5000)
    assert send_discourse(client, "post_created", discourse_post(raw="x" * 5000)).status_code == 413


def test_a_large_post_is_stored_whole(client: TestClient, question: Find) -> None:
    raw = "Why? 🐍 " * 20_000
    assert send_discourse(client, "post_created", discourse_post(raw=raw)).status_code == 202
    assert question(ID).details["body"] == raw.strip()
