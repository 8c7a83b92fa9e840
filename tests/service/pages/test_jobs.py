"""Jobs over HTTP: counts by kind, dead jobs with their errors, retry and discard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from dupq.service.job_table import DeadJobError
from dupq.service.state import Service
from dupq.service.webhooks.outgoing import emit, receiver
from tests.service.pages.person import Person

LogIn = Callable[..., Person]
SECRET = "https://hooks.example.org/T0KEN-in-the-path"
DELIVER = f"deliver:{receiver(SECRET)}"


@pytest.fixture
def running(open_: Callable[..., tuple[Service, TestClient]]) -> tuple[Service, TestClient]:
    """A service that runs no jobs, so that they stay as they are."""
    return open_(workers=0, webhook_urls=(SECRET,), webhook_secret="whsec_" + "a" * 43 + "=")


@pytest.fixture
def dead(service: Service) -> Service:
    """One dead delivery, number 1, and two jobs that wait."""
    emit(service, "flagged", "flagged:1:2", {"text": "What is <b>this</b>?"})
    lease = service.jobs.claim([DELIVER])
    assert lease is not None
    service.jobs.fail(lease, DeadJobError("answered 404 <script>alert(1)</script>"))
    service.jobs.add("upsert", "post:1", {"id": "discourse:forum.example.org:7"})
    service.jobs.add("decide", "decide:1", {"ids": ["a", "b", 3, 4, 5]})
    return service


def states(service: Service) -> dict[int, str]:
    return {job.number: job.state for job in service.jobs.list()}


def test_a_service_without_jobs_says_so(log_in: LogIn) -> None:
    page = log_in().get("/jobs")
    assert "No job is waiting." in page
    assert "This process runs no jobs" in page
    assert "No dead job" in log_in(name="Bea").get("/jobs?state=dead")


def test_dead_jobs_come_first_with_their_error(dead: Service, log_in: LogIn) -> None:
    page = log_in().get("/jobs")
    assert "answered 404 &lt;script&gt;" in page
    assert "“flagged” to hooks.example.org" in page
    assert "T0KEN" not in page  # the address may be a secret
    assert "What is" not in page  # and texts are not for this page
    assert 'aria-label="1 dead: Deliver an event"' in page
    assert 'aria-label="1 waiting: Decide new questions"' in page


def test_jobs_are_listed_by_state_and_kind(dead: Service, log_in: LogIn) -> None:
    person = log_in()
    page = person.get("/jobs?state=waiting")
    assert "discourse:forum.example.org:7" in page
    assert "5 questions: a, b, 3 and 2 more" in page
    page = person.get("/jobs?state=waiting&kind=decide")
    assert "discourse:forum.example.org:7" not in page
    assert "5 questions" in page
    assert "No job is done of this kind." in person.get("/jobs?state=done&kind=decide")
    page = person.get("/jobs?state=dead&kind=deliver")
    assert "Dead: Deliver an event" in page
    assert "job 1<" in page
    person.get("/jobs?state=odd")
    assert person.status == 422


def test_a_dead_job_is_retried(dead: Service, log_in: LogIn) -> None:
    person = log_in()
    person.get("/jobs")
    page = person.send("/jobs/retry")
    assert "Job 1 runs again." in page
    assert states(dead)[1] == "waiting"


def test_a_job_is_discarded(dead: Service, log_in: LogIn) -> None:
    person = log_in()
    person.get("/jobs")
    form = person.forms("/jobs/discard")[0]
    assert "Job 1 was discarded." in person.post("/jobs/discard", form)
    assert states(dead)[1] == "discarded"
    assert "neither dead nor waiting" in person.post("/jobs/discard", form)
    assert "neither dead nor waiting" in person.post("/jobs/retry", {**form, "number": "99"})


def test_all_dead_jobs_are_retried_at_once(dead: Service, log_in: LogIn) -> None:
    emit(dead, "flagged", "flagged:3:4", {})
    lease = dead.jobs.claim([DELIVER])
    assert lease is not None
    dead.jobs.fail(lease, DeadJobError("gone"))
    person = log_in()
    person.get("/jobs?state=dead")
    assert "The dead jobs run again." in person.send("/jobs/retry-dead")
    assert "dead" not in states(dead).values()


def test_older_jobs_are_on_the_next_page(service: Service, log_in: LogIn) -> None:
    for number in range(52):
        service.jobs.add("decide", f"decide:{number}", {"ids": [number]})
    person = log_in()
    page = person.get("/jobs")
    assert "job 52" in page
    assert ">Older jobs<" in page
    page = person.get("/jobs?state=waiting&after=3")
    assert "job 2<" in page
    assert ">Older jobs<" not in page


def test_only_managers_see_and_change_jobs_with_the_secret_of_the_page(dead: Service, log_in: LogIn) -> None:
    manager, moderator = log_in("admin", "Max"), log_in("moderator", "Moe")
    moderator.get("/jobs")
    assert moderator.status == 403
    assert 'href="/jobs"' not in moderator.get("/dashboard")
    manager.get("/jobs")
    fields = manager.forms("/jobs/retry")[0]
    for path in ("/jobs/retry", "/jobs/discard", "/jobs/retry-dead"):
        manager.post(path, {**fields, "csrf": "wrong"})
        assert manager.status == 403, path
        moderator.post(path, fields)
        assert moderator.status == 403, path
    assert states(dead)[1] == "dead"
