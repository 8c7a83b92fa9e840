"""Calibration over HTTP: what is missing, a dry run, a new version, and the way back."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace

import pytest

from dupq.evaluation.metrics import Metric
from dupq.index.review import ReviewedPair
from dupq.index.stores.base import StoredDecision
from dupq.service.pages.calibration_page import Stock, comparisons, conclusion, stock_of
from dupq.service.state import Service
from tests.service.pages.person import Person
from tests.service.pages.reviewed import fill, judge

LogIn = Callable[..., Person]


@pytest.fixture
def forum(service: Service) -> Service:
    """A forum whose whole queue has verdicts."""
    fill(service, things=2)
    judge(service, 200)
    return service


def test_what_is_missing_is_shown_in_place_of_the_button(service: Service, log_in: LogIn) -> None:
    person = log_in()
    page = person.get("/calibrate")
    assert "30 more clear verdicts, 5 more duplicates, 5 more distinct pairs needed" in page
    assert "/calibrate/try" not in page
    assert "The pipeline\u2019s own" in page
    # Asked for all the same, the reason is on the page.
    csrf = person.forms("/logout")[0]["csrf"]
    page = html.unescape(person.post("/calibrate/try", {"csrf": csrf}))
    assert person.status == 409
    assert "are too few to calibrate an index" in page
    assert "30 more verdicts" in page


def test_it_is_tried_before_a_version_is_written(forum: Service, log_in: LogIn) -> None:
    person = log_in()
    person.get("/calibrate")
    page = person.send("/calibrate/try")
    assert person.status == 200
    assert "nothing is written yet" in page
    for name in ("Log loss", "Brier score", "Calibration error", "Precision", "Recall", "Before", "After"):
        assert name in page, name
    assert "nan" not in page.lower().replace("nantes", "")
    assert forum.index.calibrations() == []
    page = person.send("/calibrate")
    assert "Version 1 decides from now on." in page
    (version,) = forum.index.calibrations()
    assert (version.by, version.in_use) == ("Ada", True)


def test_a_policy_is_taken_and_a_bad_one_is_explained(forum: Service, log_in: LogIn) -> None:
    person = log_in()
    person.get("/calibrate")
    page = html.unescape(person.send("/calibrate/try", policy="<i>best</i>"))
    assert person.status == 409
    assert "policy" in page
    page = person.send("/calibrate/try", policy="recall>=0.8")
    assert person.status == 200
    assert person.forms("/calibrate")[0]["policy"] == "recall>=0.8"


def test_a_version_is_not_written_over_newer_verdicts(forum: Service, log_in: LogIn) -> None:
    person = log_in()
    person.get("/calibrate")
    person.send("/calibrate/try")
    form = person.forms("/calibrate")[0]
    last = forum.index.history()[-1]
    forum.index.verdict(last.id, last.other, "distinct", by="Someone")
    page = person.post("/calibrate", form)
    assert person.status == 409
    assert "have changed since you tried it" in page
    assert forum.index.calibrations() == []
    person.send("/calibrate")  # the new figures were seen
    assert len(forum.index.calibrations()) == 1


def test_the_way_back_is_shown_before_it_is_gone(forum: Service, log_in: LogIn) -> None:
    forum.index.calibrate(by="<b>Ann</b>")
    person = log_in()
    page = person.get("/calibrate")
    assert "&lt;b&gt;Ann&lt;/b&gt;" in page
    page = person.get("/calibrate/roll-back?number=0")
    assert "Use the pipeline\u2019s own calibration?" in page
    assert forum.index.calibrations()[0].in_use
    page = person.send("/calibrate/roll-back")
    assert "The pipeline\u2019s own calibration decides from now on." in page
    assert not forum.index.calibrations()[0].in_use
    assert "Use version 1?" in person.get("/calibrate/roll-back?number=1")
    person.send("/calibrate/roll-back")
    assert forum.index.calibrations()[0].in_use


def test_a_version_that_is_not_there_is_explained(service: Service, log_in: LogIn) -> None:
    person = log_in()
    assert "There is no version 9." in person.get("/calibrate/roll-back?number=9")
    assert person.status == 404
    csrf = person.forms("/logout")[0]["csrf"]
    page = person.post("/calibrate/roll-back", {"number": "9", "csrf": csrf})
    assert person.status == 409
    assert "Number must be that of a calibration or 0, got 9" in page


def test_only_managers_calibrate_with_the_secret_of_the_page(service: Service, log_in: LogIn) -> None:
    manager, moderator = log_in("admin", "Max"), log_in("moderator", "Moe")
    manager.get("/calibrate")
    csrf = manager.forms("/logout")[0]["csrf"]
    for path in ("/calibrate", "/calibrate/roll-back?number=0"):
        moderator.get(path)
        assert moderator.status == 403, path
    for path in ("/calibrate/try", "/calibrate", "/calibrate/roll-back"):
        fields = {"seen": "0-0-0", "number": "0", "csrf": csrf}
        moderator.post(path, fields)
        assert moderator.status == 403, path
        manager.post(path, {**fields, "csrf": "wrong"})
        assert manager.status == 403, path


def test_a_figure_that_does_not_exist_is_a_dash_and_a_worse_one_is_not_advised(forum: Service) -> None:
    result = forum.index.calibrate(by="Ann", dry_run=True)
    nothing = Metric(float("nan"), float("nan"), float("nan"))
    rows = {row.name: row for row in comparisons(result.before, replace(result.after, precision=nothing))}
    assert rows["Precision"].after == ("—", "")
    assert rows["Log loss"].before[1].count(" to ") == 1
    worse = replace(result, log_loss_change=Metric(0.2, 0.1, 0.3))
    assert conclusion(worse).endswith("leave it.")
    better = replace(result, log_loss_change=Metric(-0.2, -0.3, -0.1))
    assert conclusion(better).startswith("The new calibration predicts held-out verdicts better")


def test_verdicts_outside_of_the_sample_do_not_count() -> None:
    decision = StoredDecision("a", "b", "s", 0.0, 0.5, 0.5, "review")

    def pair(answer: str, sampled: bool) -> ReviewedPair:
        return ReviewedPair(decision, answer, 0.5, sampled, 0.5, False, 1)

    pairs = [pair("duplicate", True), pair("duplicate", False), pair("skip", True), pair("distinct", True)]
    assert stock_of(pairs) == Stock(1, 1, 2)
    assert Stock(25, 4, 0).lacking == ["1 more clear verdict", "1 more distinct pair"]
    assert Stock(25, 5, 0).lacking == []
