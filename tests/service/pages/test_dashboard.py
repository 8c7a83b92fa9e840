"""The dashboard over HTTP, empty and full, and the figures that it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from fastapi.testclient import TestClient

from dupq.index.monitor import precision_alarm
from dupq.index.review import ReviewedPair
from dupq.index.sampling import Estimate
from dupq.index.stores.base import StoredDecision
from dupq.pipeline import DuplicatePipeline
from dupq.service.app import create_app, open_service
from dupq.service.pages.dashboard_figures import alarm_sentence, days_of, missing, reliability_bins
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service
from tests.fakes import WordEmbedder, WordScorer
from tests.service.pages.person import Person
from tests.service.pages.reviewed import fill, judge
from tests.service.stores import BOTH, place_of

LogIn = Callable[..., Person]


@pytest.fixture
def forum(service: Service) -> Service:
    fill(service, things=2)
    judge(service, 60)
    return service


def pictures(page: str) -> list[Xml.Element]:
    return [Xml.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


# ---- the page -------------------------------------------------------------------------------------------------------


def test_an_empty_index_has_a_dashboard_that_names_what_is_missing(log_in: LogIn) -> None:
    page = log_in("reader").get("/dashboard")
    for text in (
        "No verdict in the last 30 days.",
        "the queue fills when questions are decided",
        "No audited verdict yet: 10 more are needed for an interval.",
        "No verdict from the queue or the audit yet",
        "No pair is decided yet.",
    ):
        assert text in page, text
    assert pictures(page) == []
    assert "style=" not in page
    assert "/calibrate" not in page  # managers only


def test_a_full_dashboard_has_a_picture_and_a_table_of_each(forum: Service, log_in: LogIn) -> None:
    judge(forum, 140)
    forum.index.calibrate(by="Ann", policy="recall>=0.9")
    forum.index.decide(everything=True)
    page = log_in().get("/dashboard")
    found = {(picture[0].get("id") or "").removesuffix("-title") for picture in pictures(page)}
    names = ("verdicts", "queue", "precision", "reliability", "decisions", "base-rate")
    assert {f"{name}-chart" for name in names} <= found
    assert page.count("As a table") >= len(names)
    assert "style=" not in page
    assert "nan" not in page.lower()
    assert forum.pipeline.fingerprint in page
    assert "Version 1" in page
    assert 'href="/calibrate"' in page


def test_the_security_policy_allows_what_the_page_loads(forum: Service, client: TestClient, log_in: LogIn) -> None:
    page = log_in().get("/dashboard")
    assert not re.search(r"<script(?![^>]*src=)", page)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        assert client.get(address).status_code == 200, address


def test_the_days_shown_can_be_chosen(forum: Service, log_in: LogIn) -> None:
    person = log_in("reader")
    assert 'href="/dashboard?days=14" aria-current="true"' in person.get("/dashboard?days=14")
    person.get("/dashboard?days=100000")
    assert person.status == 422


def test_a_new_verdict_is_seen_at_once(forum: Service, log_in: LogIn) -> None:
    person = log_in("reader")
    waiting = len(forum.index.review_queue(10_000))
    assert f"<b>{waiting}</b> <span>pairs wait for a verdict" in person.get("/dashboard")
    judge(forum, 3)
    page = person.get("/dashboard")
    assert f"<b>{waiting - 3}</b> <span>pairs wait for a verdict" in page
    assert "<b>63</b> <span>verdicts today" in page


@pytest.mark.parametrize("kind", BOTH)
def test_the_pages_read_both_stores(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, open_: Callable[..., tuple[Service, TestClient]]
) -> None:
    service, client = open_(db=place_of(kind, request, tmp_path))
    fill(service, things=1)
    judge(service, 30)
    person = Person(service, client)
    for path in (
        "/dashboard",
        "/groups?q=archery",
        "/groups/show?id=q0-0-0&find=100% archery_!",
        "/calibrate",
        "/jobs",
    ):
        person.get(path)
        assert person.status == 200, path
    assert "<b>30</b> <span>verdicts today" in person.get("/dashboard")


def test_a_pipeline_without_calibration_has_a_dashboard(tmp_path: Path) -> None:
    pipeline = DuplicatePipeline(WordScorer(), WordEmbedder())
    service = open_service(ServiceSettings(db=str(tmp_path / "bare.db")), pipeline)
    with TestClient(create_app(service)) as client:
        page = Person(service, client).get("/dashboard")
    assert "flags none until its pipeline is calibrated" in page


def test_a_visitor_is_sent_to_the_login(client: TestClient) -> None:
    for path in ("/dashboard", "/groups", "/groups/show?id=1", "/calibrate", "/jobs"):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login?next=/"), path


# ---- figures --------------------------------------------------------------------------------------------------------


def test_the_queue_of_a_day_is_what_came_less_what_was_answered(service: Service) -> None:
    today = datetime.now(timezone.utc).date()
    old, new = (today - timedelta(days=9)).isoformat(), (today - timedelta(days=2)).isoformat()
    texts = ["How do I learn archery?", "How do I learn archery fast?", "How do I learn archery well?"]
    service.index.add([1, 2, 3], texts, created=[old, old, new])
    service.index.decide()
    waiting = len(service.index.review_queue(100))
    service.index.verdict(1, 2, "duplicate", by="Ann")
    service.index.verdict(1, 2, "duplicate", by="Bea")
    taken_back = service.index.verdict(1, 3, "distinct", by="Ann")
    service.index.undo(taken_back.number, by="Ann")
    with service.store.reading() as view:
        days = days_of(view, 5, today)
    assert [day.day for day in days] == [today - timedelta(days=ago) for ago in (4, 3, 2, 1, 0)]
    assert [day.waiting for day in days] == [1, 1, 3, 3, waiting - 1]
    assert (days[-1].duplicate, days[-1].distinct, days[-1].verdicts) == (2, 0, 2)


def pair(probability: float, answer: str, pi: float = 1.0, *, sampled: bool = True) -> ReviewedPair:
    decision = StoredDecision("a", "b", "s", 0.0, probability, 0.5, "review")
    return ReviewedPair(decision, answer, pi, sampled, pi, False, 1)


def test_verdicts_weigh_by_the_inverse_of_their_sampling_probability() -> None:
    pairs = [pair(0.5, "duplicate", 1.0), pair(0.5, "distinct", 0.25)]
    pairs += [pair(0.5, "duplicate", sampled=False), pair(0.5, "skip"), pair(0.5, "contested"), pair(0.99, "duplicate")]
    low, high = reliability_bins(pairs)
    assert low.observed == pytest.approx(1 / 5)
    assert low.low < low.observed < low.high
    assert (low.pairs, high.pairs) == (2, 1)
    assert (high.probability, high.observed, high.high) == (pytest.approx(0.99), 1.0, 1.0)
    assert high.low < 0.5  # one verdict says little
    assert reliability_bins([]) == []


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (0, "No audited verdict yet: 10 more are needed for an interval."),
        (9, "9 audited verdicts yet: 1 more is needed for an interval."),
        (10, "10 audited verdicts so far, none of them a duplicate."),
    ],
)
def test_what_is_missing_is_counted(pairs: int, text: str) -> None:
    assert missing(Estimate(None, 0, 1, pairs, "too few"), "audited verdict") == text
    assert missing(Estimate(0.5, 0.1, 0.9, 20), "audited verdict") == ""


def test_the_alarm_is_one_sentence() -> None:
    for alarm, start in (
        (None, "The policy of the threshold states no precision"),
        (precision_alarm([], 0.9), "No flagged pair was audited"),
        (precision_alarm([1] * 9 + [0], 0.9), "9 of 10 audited flagged pairs are duplicates, which"),
        (precision_alarm([0] * 10, 0.9), "0 of 10 audited flagged pairs are duplicates, too few"),
    ):
        sentence = alarm_sentence(alarm)
        assert sentence.startswith(start)
        assert sentence.endswith(".")
        assert ". " not in sentence
