"""Calibration and jobs: tried out, confirmed, taken back; a dead job and its retry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.verdicts import judge

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium
    from tests.browser.server import Server

pytestmark = pytest.mark.browser


def go(chromium: Chromium, css: str) -> None:
    with chromium.next_page():
        chromium.click(css)


def test_calibrate_now_and_the_way_back(server: Server, chromium: Chromium) -> None:
    index = server.service.index
    chromium.enter(server, "admin", "Ann")
    chromium.open("/calibrate")
    assert "30 more clear verdicts" in chromium.text()
    judge(server.service, 90)
    chromium.open("/dashboard")
    go(chromium, "a[href='/calibrate']")
    go(chromium, "main form .primary")
    assert "nothing is written yet" in chromium.text("h1")
    table = chromium.text("table.compare")
    assert "Before" in table
    assert "Log loss" in table
    assert index.calibrations() == []
    go(chromium, "main form .primary")
    assert "Version 1 decides from now on" in chromium.text()
    assert [(version.number, version.by, version.in_use) for version in index.calibrations()] == [(1, "Ann", True)]
    go(chromium, ".versions .button")
    go(chromium, "main form .primary")
    assert "own calibration decides from now on" in chromium.text()
    assert not index.calibrations()[0].in_use
    chromium.open("/dashboard")
    assert chromium.all("svg.chart")
    assert chromium.console() == []


def test_what_was_tried_out_is_not_written_after_new_verdicts(server: Server, chromium: Chromium) -> None:
    judge(server.service, 90)
    chromium.enter(server, "admin", "Ann")
    chromium.open("/calibrate")
    go(chromium, "main form .primary")
    judge(server.service, 2)
    go(chromium, "main form .primary")
    assert "have changed since" in chromium.text(".notice")
    assert server.service.index.calibrations() == []
    go(chromium, "main form .primary")
    assert len(server.service.index.calibrations()) == 1


def test_a_dead_job_is_shown_and_discarded(server: Server, chromium: Chromium) -> None:
    service = server.service
    chromium.enter(server, "admin", "Ann")
    service.jobs.add("deliver", "an-event", {"event": "flagged", "receiver": "gone", "key": "1", "body": {}})
    chromium.wait(lambda: service.jobs.list(state="dead"), "a job that fails for good")
    number = service.jobs.list(state="dead")[0].number
    chromium.open("/dashboard")
    assert "needs a look" in chromium.text()
    go(chromium, "a[href='/jobs']")
    assert f"job {number}" in chromium.text()
    assert "no longer in the settings" in chromium.text("pre.error")
    go(chromium, f"form[action='/jobs/retry'] button[value='{number}']")
    assert f"Job {number} runs again" in chromium.text()
    chromium.wait(lambda: service.jobs.list(state="dead"), "the second failure")
    chromium.open("/jobs?state=dead")
    chromium.click("details.act summary")
    go(chromium, "button.danger")
    assert "was discarded" in chromium.text()
    assert service.jobs.counts()["discarded"] == 1


def test_a_retried_job_is_done(server: Server, chromium: Chromium) -> None:
    service = server.service
    chromium.enter(server, "admin", "Ann")
    service.index.add(["late"], ["How do I remove duplicates from a list in Python 2?"])
    assert service.jobs.add("decide", "a-question", {"ids": ["late"]}, due=4e9)
    change = "UPDATE service_jobs SET state='dead', attempts=8, error='the disk is full' WHERE key='a-question'"
    service.store.write(lambda transaction: transaction.session.run(change))
    chromium.open("/jobs")
    assert "the disk is full" in chromium.text()
    go(chromium, "form[action='/jobs/retry'] button")
    chromium.wait(lambda: service.index.decisions_of("late"), "its decisions")
    chromium.wait(lambda: service.jobs.counts()["done"] == 1, "the end of the job")
    assert service.jobs.list(state="dead") == ()


def test_only_managers_see_them(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ben")
    chromium.open("/dashboard")
    assert not chromium.all("a[href='/jobs'], a[href='/calibrate']")
    for path in ("/jobs", "/calibrate"):
        chromium.open(path)
        assert "403" in chromium.text()
