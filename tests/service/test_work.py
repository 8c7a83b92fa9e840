"""Adding and deciding questions by jobs, and the events about them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dupq.errors import InputError, OutputError
from dupq.index.stores.base import NewQuestion
from dupq.pipeline import DuplicatePipeline
from dupq.service import work
from dupq.service.app import open_service
from dupq.service.job_table import LaterError, add_job
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service
from dupq.service.webhooks.outgoing import emit, receiver
from dupq.service.work import add_questions, decide
from tests.fakes import WordEmbedder, WordScorer
from tests.service.webhooks.payloads import SECRET, discourse_post, discourse_topic, send_discourse

Open = Callable[..., tuple[Service, TestClient]]
WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 6
URLS = ("https://a.example/hook", "https://b.example/hook")
WORDS = ["red", "green", "blue", "pink", "grey", "black", "white", "brown"]


def questions(count: int) -> list[NewQuestion]:
    return [NewQuestion(n, f"How do I paint a wall {WORDS[n % 8]} number {n}?") for n in range(count)]


@pytest.fixture
def idle(open_: Open) -> Service:
    """A service whose jobs run only when a test runs them."""
    return open_(workers=0, webhook_urls=URLS, webhook_secret=WEBHOOK_SECRET)[0]


def of_kind(service: Service, kind: str) -> list[dict[str, Any]]:
    return [job.payload for job in reversed(service.jobs.list(None, 1000, kind=kind))]


def test_questions_are_stored_with_jobs_of_32_that_decide_them(idle: Service) -> None:
    written = add_questions(idle, questions(70), decide=True)
    assert written.added == 70
    jobs = of_kind(idle, "decide")
    assert [len(job["ids"]) for job in jobs] == [32, 32, 6]
    assert sorted(id_ for job in jobs for id_ in job["ids"]) == list(range(70))


def test_a_repetition_adds_no_work(idle: Service) -> None:
    add_questions(idle, questions(40), decide=True)
    assert add_questions(idle, questions(40), decide=True).unchanged == 40
    assert len(of_kind(idle, "decide")) == 2
    for job in of_kind(idle, "decide"):
        decide(idle, job)
    add_questions(idle, questions(40)[3:], decide=True)
    assert len(of_kind(idle, "decide")) == 2, "what is decided needs no job"
    changed = [NewQuestion(5, "How do I paint a door?")]
    add_questions(idle, changed, decide=True)
    add_questions(idle, questions(6)[5:], decide=True)  # back to the first text, which has a new slot
    assert [job["ids"] for job in of_kind(idle, "decide")[2:]] == [[5], [5]]


def test_another_pipeline_decides_what_is_sent_again(idle: Service) -> None:
    add_questions(idle, questions(2), decide=True)
    decide(idle, of_kind(idle, "decide")[0])
    idle.pipeline = DuplicatePipeline(WordScorer(fingerprint="another"), WordEmbedder())
    for _ in range(2):
        assert add_questions(idle, questions(2), decide=True).unchanged == 2
    assert [job["ids"] for job in of_kind(idle, "decide")] == [[0, 1], [0, 1]]


def test_questions_are_decided_by_units_of_a_batch_of_pairs(idle: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    add_questions(idle, questions(8), decide=True)
    flag, units = idle.index.flag_stored, []

    def count(ids: Any) -> Any:
        units.append(len(ids))
        return flag(ids)

    monkeypatch.setattr(idle.index, "flag_stored", count)
    decide(idle, {"ids": list(range(8))})
    assert units == [3, 3, 2], "10 candidates each, of 32 pairs"


def test_without_decide_there_is_no_job(idle: Service) -> None:
    add_questions(idle, questions(3), decide=False)
    assert of_kind(idle, "decide") == []


def test_a_bad_question_stores_nothing(idle: Service) -> None:
    with pytest.raises(InputError, match="text 41"):
        add_questions(idle, [*questions(40), NewQuestion("bad", " ")], decide=True)
    assert len(idle.index) == 0


def test_what_is_not_given_stays(idle: Service) -> None:
    first = [NewQuestion(1, "Why is it red?", "2026-01-01", 5.0, {"title": "x"}), NewQuestion(2, "Why is it so?")]
    add_questions(idle, first, decide=False)
    given = [NewQuestion(1, "Why is it red?"), NewQuestion(2, "Why is it so?", reach=3.0)]
    assert add_questions(idle, [*given, given[1]], decide=False).repeated == {2: (2, 3)}
    one, two = (idle.index.questions([1, 2])[id_] for id_ in (1, 2))
    assert (one.reach, one.created, one.details) == (5.0, "2026-01-01T00:00:00+00:00", {"title": "x"})
    assert two.reach == 3.0


def test_a_failure_on_the_way_is_completed_by_the_same_call(idle: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    add, calls = idle.jobs.add, []

    def fail_once(*args: Any, **options: Any) -> bool:
        calls.append(args)
        if len(calls) == 2:
            raise OutputError("the disk is full")
        return add(*args, **options)

    monkeypatch.setattr(idle.jobs, "add", fail_once)
    with pytest.raises(OutputError):
        add_questions(idle, questions(70), decide=True)
    assert len(idle.index) == 64
    add_questions(idle, questions(70), decide=True)
    ids = [id_ for job in of_kind(idle, "decide") for id_ in job["ids"]]
    assert sorted(ids) == list(range(70))


def test_a_decision_fills_the_queue_and_sends_one_event_for_each_pair(idle: Service) -> None:
    texts = ["How do I paint a wall?", "How do I paint a wall", "What is the best pizza in Rome?"]
    rows = [NewQuestion(n, text, details={"url": f"https://x.example/{n}"}) for n, text in enumerate(texts)]
    add_questions(idle, rows, decide=True)
    (job,) = of_kind(idle, "decide")
    decide(idle, job)
    decide(idle, job)  # a handler may run twice
    assert idle.index.decisions()
    events = of_kind(idle, "deliver")
    assert len(events) == 2, "one for each address"
    body = events[0]["body"]
    assert events[0]["body"]["data"] == events[1]["body"]["data"]
    assert body["type"] == "flagged"
    data = body["data"]
    assert {data["id"], data["duplicate_id"]} == {0, 1}
    assert (data["probability"], data["decision"], data["copy"]) == (1.0, "duplicate", True)
    for name in ("threshold", "guarantee", "base_rate", "model", "warnings", "url", "text", "duplicate_text"):
        assert name in data
    assert "example/hook" not in json.dumps(events), "an address may hold a secret"


def test_another_text_is_another_event(idle: Service) -> None:
    add_questions(idle, [NewQuestion(0, "How do I paint a wall?")], decide=True)
    add_questions(idle, [NewQuestion(1, "how do I paint a wall")], decide=True)
    for job in of_kind(idle, "decide"):
        decide(idle, job)
    add_questions(idle, [NewQuestion(1, "how do i paint a wall")], decide=True)
    decide(idle, of_kind(idle, "decide")[-1])
    assert len(of_kind(idle, "deliver")) == 4


def test_questions_that_were_removed_meanwhile_are_left_out(idle: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    add_questions(idle, questions(6), decide=True)
    idle.index.remove([0])
    flag, removed = idle.index.flag_stored, []

    def remove_first(ids: Any) -> Any:
        if not removed:
            removed.append(idle.index.remove([1]))
        return flag(ids)

    monkeypatch.setattr(idle.index, "flag_stored", remove_first)
    decide(idle, {"ids": list(range(6))})
    assert removed == [1]
    assert {id_ for row in idle.index.decisions() for id_ in (row.id, row.other)} == {2, 3, 4, 5}
    idle.index.remove(range(6))
    decide(idle, {"ids": list(range(6))})


def test_jobs_count_in_the_metrics(service: Service, client: TestClient) -> None:
    add_questions(service, questions(2), decide=True)
    end = time.monotonic() + 60
    while service.jobs.counts()["done"] < 1 and time.monotonic() < end:
        time.sleep(0.01)
    while b'dupq_jobs_ended_total{kind="decide",outcome="done"} 1.0' not in service.metrics.text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_wrong_settings_of_events_stop_the_start(tmp_path: Path, pipeline: DuplicatePipeline) -> None:
    for settings in (
        {"webhook_urls": URLS},
        {"webhook_urls": URLS, "webhook_secret": "short"},
        {"webhook_urls": URLS, "webhook_secret": "whsec_c2hvcnQ="},
        {"webhook_urls": ("ftp://a.example",), "webhook_secret": WEBHOOK_SECRET},
        {"webhook_urls": ("https://user:pass@a.example",), "webhook_secret": WEBHOOK_SECRET},
        {"webhook_urls": ("https://[::1",), "webhook_secret": WEBHOOK_SECRET},
    ):
        with pytest.raises(InputError) as error:
            open_service(ServiceSettings(db=str(tmp_path / "x.db"), **settings), pipeline)  # type: ignore[arg-type]
        assert "pass" not in str(error.value).replace("password", "")


PROGRAM = """
import functools, json, os, sys
from fastapi.testclient import TestClient
from dupq.pipeline import DuplicatePipeline
from dupq.service import app
from dupq.service.app import create_app, open_service
from dupq.service.settings import ServiceSettings
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table
from tests.service.webhooks.payloads import SECRET, discourse_post, send_discourse

pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
app.Jobs = functools.partial(app.Jobs, lease_seconds=2.0)  # so that the job of a killed process is soon leased again
service = open_service(ServiceSettings(db=sys.argv[1], discourse_secret=SECRET), pipeline)
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
start = int(sys.argv[3])
with TestClient(create_app(service)) as client:
    for topic in range(start, start + 10**9):
        body = discourse_post(topic, topic_title=f"How is topic {topic} done?")
        answer = send_discourse(client, "post_created", body)
        assert answer.status_code == 202, answer.text
        os.write(log, f"{topic}\\n".encode())
"""


def test_an_event_that_was_answered_is_in_the_index_after_a_kill(tmp_path: Path, open_: Open) -> None:
    db, log = tmp_path / "forum.db", tmp_path / "log"
    log.touch()
    for life in (1, 2):
        before = len(log.read_text().splitlines())
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(db), str(log), str(life * 1_000_000)])
        end = time.monotonic() + 240
        while len(log.read_text().splitlines()) < before + 8:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    service, _ = open_(db=str(db), discourse_secret=SECRET)
    end = time.monotonic() + 240
    while (counts := service.jobs.counts())["waiting"] + counts["running"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    ids = [f"discourse:forum.example:{topic}" for topic in log.read_text().split()]
    assert len(service.index.questions(ids)) == len(ids) >= 16
    assert counts["dead"] == 0


def test_two_jobs_on_a_post_leave_its_last_state(open_: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    service, client = open_(discourse_secret=SECRET, workers=0)
    put = work._put
    send_discourse(client, "post_created", discourse_post(), 1)

    def slow(service: Service, rows: Any, decide: bool) -> Any:
        monkeypatch.setattr(work, "_put", put)
        # The next version comes while the first one is embedded; its own job follows.
        send_discourse(client, "post_edited", discourse_post(version=2, topic_title="The second title?"), 2)
        return put(service, rows, decide)

    monkeypatch.setattr(work, "_put", slow)
    for job in of_kind(service, "upsert"):
        work.follow_post(service, job)
    for job in of_kind(service, "upsert"):
        work.follow_post(service, job)
    assert service.index.questions(["discourse:forum.example:7"]).popitem()[1].text == "The second title?"


def run_one(service: Service) -> bool:
    """Run the next job on a post, as a worker would."""
    lease = service.jobs.claim(["upsert", "delete"])
    if lease is None:
        return False
    work.follow_post(service, lease.payload)
    assert service.jobs.finish(lease)
    return True


@pytest.mark.parametrize("event", ["post_edited", "post_destroyed"])
def test_two_services_on_a_store_leave_the_last_state_of_a_post(
    open_: Open, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    service, client = open_(discourse_secret=SECRET, workers=0)
    other, _ = open_(discourse_secret=SECRET, workers=0)
    put = work._put
    send_discourse(client, "post_created", discourse_post(), 1)

    def slow(service: Service, rows: Any, decide: bool) -> Any:
        monkeypatch.setattr(work, "_put", put)
        send_discourse(client, event, discourse_post(version=2, topic_title="The second title?"), 2)
        assert not run_one(other), "a job on the post is leased"
        return put(service, rows, decide)

    monkeypatch.setattr(work, "_put", slow)
    assert run_one(service)
    assert run_one(other)
    texts = [question.text for question in service.index.questions(["discourse:forum.example:7"]).values()]
    assert texts == (["The second title?"] if event == "post_edited" else [])


def test_a_post_that_is_shown_again_while_it_is_hidden_keeps_its_text(
    open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, client = open_(discourse_secret=SECRET, workers=0)
    send_discourse(client, "post_created", discourse_post(), 1)
    assert run_one(service)
    send_discourse(client, "topic_visible_status_updated", discourse_topic(visible=False), 2)
    settle = work.settle

    def slow(*args: Any) -> bool:
        monkeypatch.setattr(work, "settle", settle)
        send_discourse(client, "topic_visible_status_updated", discourse_topic(), 3)
        return settle(*args)

    monkeypatch.setattr(work, "settle", slow)
    while run_one(service):
        pass
    (stored,) = service.index.questions(["discourse:forum.example:7"]).values()
    assert (stored.details or {})["body"] == "I tried the usual ways, and none helped."


def test_a_receiver_that_hangs_does_not_hold_back_the_others(open_: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, well = map(receiver, URLS)
    order: list[str] = []

    def send(service: Service, payload: Any) -> None:
        order.append(payload["receiver"])
        if payload["receiver"] == dead:
            raise LaterError("no answer", 3600.0)

    monkeypatch.setattr(work, "deliver", send)
    service, _ = open_(workers=0, webhook_urls=URLS, webhook_secret=WEBHOOK_SECRET)
    for number in range(5):
        emit(service, "flagged", f"flagged:{number}", {})
    # All that could not be delivered is due again.
    service.store.write(
        lambda transaction: transaction.session.run(
            "UPDATE service_jobs SET due=1, attempts=1 WHERE key LIKE ?", (f"deliver:{dead}:%",)
        )
    )
    service.jobs.start(1)
    end = time.monotonic() + 60
    while len(order) < 10:
        assert time.monotonic() < end
        time.sleep(0.01)
    service.jobs.stop(60)
    assert sorted(order[:2]) == sorted((dead, well))
    assert order.count(dead) == order.count(well) == 5


def test_events_of_earlier_versions_and_of_former_receivers_are_done(idle: Service, open_: Open) -> None:
    emit(idle, "flagged", "flagged:1", {})
    idle.store.write(lambda transaction: add_job(transaction, "deliver", "old", {"receiver": "gone", "key": "1"}))
    service, _ = open_(workers=1, webhook_urls=(), webhook_secret=WEBHOOK_SECRET)
    end = time.monotonic() + 60
    while service.jobs.counts()["dead"] < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert {job.error for job in service.jobs.list("dead")} == {"the address is no longer in the settings"}


@pytest.mark.postgres
def test_posts_and_events_in_postgresql(postgres_url: str, open_: Open) -> None:
    options = {"webhook_urls": URLS, "webhook_secret": WEBHOOK_SECRET, "workers": 0}
    service, client = open_(db=postgres_url, discourse_secret=SECRET, **options)
    for topic in (7, 8):
        body = discourse_post(topic, raw="NUL in a body: \x00")
        assert send_discourse(client, "post_created", body, topic).status_code == 202
        assert send_discourse(client, "post_created", body, topic).status_code == 200
    for job in of_kind(service, "upsert"):
        work.follow_post(service, job)
    for job in of_kind(service, "decide"):
        decide(service, job)
    assert len(service.index) == 2
    assert len(of_kind(service, "deliver")) == 2
    assert send_discourse(client, "post_destroyed", discourse_post(7), 9).status_code == 202
    work.follow_post(service, of_kind(service, "delete")[0])
    assert len(service.index) == 1
