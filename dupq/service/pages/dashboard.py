"""Dashboard: queue, precision, reliability, drift, versions and jobs.

The precision is shown against its guarantee.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from dupq.decisions.drift import DriftResult
from dupq.errors import NotCalibratedError
from dupq.index.monitor import MonitorReport
from dupq.index.review import Estimates
from dupq.index.sampling import Estimate
from dupq.service.pages import charts
from dupq.service.pages.dashboard_figures import (
    Day,
    Scores,
    alarm_sentence,
    days_of,
    live_scores,
    missing,
    reliability_bins,
    score_shares,
)
from dupq.service.pages.rendering import percent, render
from dupq.service.sessions import PageReader
from dupq.service.state import Service, service_of

router = APIRouter(include_in_schema=False)

KEEP_SECONDS = 60.0
"""A report of the monitor is shown so long while nothing was added."""
DECISIONS = ("duplicate", "review", "distinct")


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart, and its values as a table.

    Attributes:
        svg: The chart; "" if there is nothing to draw.
        columns: Head of the table.
        rows: Its rows.
        empty: What is missing, where there is nothing to draw.
    """

    svg: Markup
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = ""


@router.get("/dashboard", response_class=HTMLResponse)
def dashboard(
    request: Request,
    session: PageReader,
    service: Annotated[Service, Depends(service_of)],
    days: Annotated[int, Query(ge=7, le=366)] = 30,
) -> HTMLResponse:
    """Show the state of the review, of the model and of the service."""
    index = service.index
    report, lacks = _report(request.app, service)
    estimates = index.estimates() if report is None else report.estimates
    with service.store.reading() as view:
        timeline = days_of(view, days, datetime.now(timezone.utc).date())
        scores = live_scores(view, service.pipeline.fingerprint)
    return render(
        request,
        "dashboard.html",
        session,
        days=days,
        today=timeline[-1],
        report=report,
        lacks=lacks,
        estimates=estimates,
        alarm_sentence=alarm_sentence(report.alarm) if report is not None else "",
        verdicts=_verdicts(timeline),
        queue=_queue(timeline),
        precision=_precision(estimates, report),
        reliability=_reliability(service),
        decisions=_decisions(report),
        drift=_drift(None if report is None else score_shares(index.decider, scores)),
        drift_found=report.drift if report is not None and isinstance(report.drift, DriftResult) else None,
        base_rate=_base_rate(estimates, report),
        versions=index.calibrations()[::-1],
        stats=index.stats(),
        model=service.settings.model or "the shipped model",
        jobs=service.jobs.counts(),
    )


def _report(app: FastAPI, service: Service) -> tuple[MonitorReport | None, str]:
    """Return the report of the monitor, or why there is none.

    The test of the scores takes half a second of the processor, which flags need more, so a report is shown again
    until a verdict, a question or a calibration is added, and for `KEEP_SECONDS` at most.
    """
    with service.store.reading() as view:
        position = view.position()
        state = (view.last_verdict(), view.meta("calibration"), position.slot, position.removal)
    kept: tuple[object, float, MonitorReport] | None = getattr(app.state, "monitor", None)
    if kept is not None and kept[0] == state and time.monotonic() - kept[1] < KEEP_SECONDS:
        return kept[2], ""
    try:
        report = service.index.monitor()
    except NotCalibratedError as error:
        return None, error.message
    app.state.monitor = (state, time.monotonic(), report)
    return report, ""


# ---- pictures -------------------------------------------------------------------------------------------------------


def _verdicts(days: Sequence[Day]) -> Picture:
    series = [
        charts.Series("duplicate", [day.duplicate for day in days], "duplicate"),
        charts.Series("distinct", [day.distinct for day in days], "distinct"),
        charts.Series("skipped", [day.skip for day in days], "skipped"),
    ]
    svg = charts.stacked_bars("verdicts-chart", "Verdicts by day", [_label(day) for day in days], series)
    rows = [
        (day.day.isoformat(), f"{day.duplicate:,}", f"{day.distinct:,}", f"{day.skip:,}")
        for day in reversed(days)
        if day.verdicts
    ]
    empty = f"No verdict in the last {len(days)} days."
    return Picture(Markup(svg), ("Day", "Duplicate", "Distinct", "Skipped"), rows, empty)


def _queue(days: Sequence[Day]) -> Picture:
    if not any(day.waiting or day.verdicts for day in days):
        return Picture(Markup(), (), (), "No pair waits: the queue fills when questions are decided.")
    svg = charts.area(
        "queue-chart", "Pairs without a verdict", [_label(day) for day in days], [day.waiting for day in days]
    )
    rows = [(day.day.isoformat(), f"{day.waiting:,}") for day in reversed(days)]
    return Picture(Markup(svg), ("Day", "Waiting at its end"), rows)


def _precision(estimates: Estimates, report: MonitorReport | None) -> Picture:
    rows = [
        ("Precision, random audit", estimates.audit, missing(estimates.audit, "audited verdict")),
        ("Precision, all verdicts", estimates.precision, missing(estimates.precision, "verdict on a flagged pair")),
        ("Recall among judged pairs", estimates.recall, missing(estimates.recall, "verdict")),
    ]
    level = report.alarm.level if report is not None and report.alarm is not None else None
    of, target = (estimates.target_of, estimates.target) if estimates.target is not None else ("precision", level)
    svg = ""
    if any(estimate.value is not None for _, estimate, _ in rows):
        svg = charts.intervals(
            "precision-chart",
            "Precision and recall, with 95 % intervals",
            [
                charts.Interval(
                    label, *_values(row), _short(row), target if label.lower().startswith(str(of)) else None
                )
                for label, row, _ in rows
            ],
            target_name="" if target is None else f"{of} that the policy asks for: {percent(target)}",
        )
    table = [(label, *_estimate_row(row)) for label, row, _ in rows]
    return Picture(Markup(svg), ("", "Share", "95 % interval", "Verdicts"), table, rows[0][2])


def _reliability(service: Service) -> Picture:
    bins = reliability_bins(service.index.reviewed())
    svg = charts.reliability("reliability-chart", "Stated probability and observed share of duplicates", bins)
    rows = [
        (percent(b.probability), percent(b.observed), f"{percent(b.low)} to {percent(b.high)}", f"{b.pairs:,}")
        for b in bins
    ]
    empty = "No verdict from the queue or the audit yet: the first ones appear here at once."
    return Picture(Markup(svg), ("Stated", "Observed", "95 % interval", "Pairs"), rows, empty)


def _decisions(report: MonitorReport | None) -> Picture:
    shares = {} if report is None else report.decisions
    parts = [(name, shares.get(name, 0.0), name) for name in DECISIONS]
    svg = charts.share_bar("decisions-chart", "Decisions on judged pairs", parts)
    rows = [(name, percent(share)) for name, share, _ in parts]
    return Picture(Markup(svg), ("Decision", "Share of judged pairs"), rows, "No pair is decided yet.")


def _drift(scores: Scores | None) -> Picture:
    if scores is None:
        return Picture(Markup(), (), ())
    series = [
        charts.Series("at the calibration", scores.expected, "expected"),
        charts.Series("since", scores.live, "live"),
    ]
    svg = charts.histograms("drift-chart", "Scores at the calibration and since", scores.edges, series, "raw score")
    rows = [
        (f"{low:.2f} to {high:.2f}", percent(before), percent(now))
        for low, high, before, now in zip(
            scores.edges[:-1], scores.edges[1:], scores.expected, scores.live, strict=True
        )
    ]
    return Picture(Markup(svg), ("Score", "At the calibration", "Since"), rows)


def _base_rate(estimates: Estimates, report: MonitorReport | None) -> Picture:
    expected = None if report is None else report.expected_base_rate
    rows = [charts.Interval("By the verdicts", *_values(estimates.base_rate), _short(estimates.base_rate), expected)]
    if report is not None and isinstance(report.drift, DriftResult):
        found = report.drift.base_rate
        note = "" if found.reliable else ", unreliable"
        text = f"{percent(found.rate)} ({percent(found.low)} to {percent(found.high)}{note})"
        rows.append(charts.Interval("By the scores alone", found.rate, found.low, found.high, text, expected))
    svg = ""
    if any(row.value is not None for row in rows):
        top = max([expected or 0.0, *(row.high for row in rows if row.value is not None)])
        svg = charts.intervals(
            "base-rate-chart",
            "Share of duplicates among judged pairs, with 95 % intervals",
            rows,
            target_name="" if expected is None else f"probabilities are stated for {percent(expected)}",
            top=min(1.0, max(1.15 * top, 0.01)),
        )
    table = [(row.name, row.text) for row in rows]
    if expected is not None:
        table.append(("Probabilities are stated for", percent(expected)))
    return Picture(Markup(svg), ("Estimate", "Share (95 % interval)"), table, missing(estimates.base_rate, "verdict"))


def _label(day: Day) -> str:
    return f"{day.day.day} {day.day:%b}"


def _short(estimate: Estimate) -> str:
    if estimate.value is None:
        return "too few verdicts"
    return f"{percent(estimate.value)} ({percent(estimate.low)} to {percent(estimate.high)})"


def _values(estimate: Estimate) -> tuple[float | None, float, float]:
    return estimate.value, estimate.low, estimate.high


def _estimate_row(estimate: Estimate) -> tuple[Any, ...]:
    if estimate.value is None:
        return "—", "—", f"{estimate.pairs:,}"
    return percent(estimate.value), f"{percent(estimate.low)} to {percent(estimate.high)}", f"{estimate.pairs:,}"
