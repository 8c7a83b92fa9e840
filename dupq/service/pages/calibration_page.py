"""Calibration for managers: dry run, new version, and the way back.

A dry run compares before and after. The page lists all versions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dupq.data.arguments import MAX_INT
from dupq.errors import InputError, NotCalibratedError, NotEnoughLabelsError
from dupq.evaluation.metrics import Metric
from dupq.index.calibration_versions import policy_of
from dupq.index.calibrations import MIN_OF_EACH, MIN_VERDICTS, CalibrationResult, HeldOut
from dupq.index.review import ReviewedPair
from dupq.service.pages.rendering import percent, render
from dupq.service.sessions import PageManager, PostManager
from dupq.service.state import Service, service_of

router = APIRouter(include_in_schema=False)

Serving = Annotated[Service, Depends(service_of)]

FIGURES = (
    ("log_loss", "Log loss", "lower is better", False),
    ("brier", "Brier score", "lower is better", False),
    ("calibration_error", "Calibration error", "lower is better", False),
    ("precision", "Precision", "higher is better", True),
    ("recall", "Recall among judged pairs", "higher is better", True),
)
"""Figures of held-out verdicts: attribute, name, direction, True for a share."""


@dataclass(frozen=True, slots=True)
class Stock:
    """Verdicts that a calibration can use.

    Attributes:
        duplicates, distinct: Clear answers in the sample.
        others: Verdicts that do not count: skipped, contested, or on pairs outside of the sample.
    """

    duplicates: int
    distinct: int
    others: int

    @property
    def lacking(self) -> list[str]:
        """Labels that are missing until a calibration is possible, in words."""
        needs = (
            (MIN_VERDICTS - self.duplicates - self.distinct, "clear verdict"),
            (MIN_OF_EACH - self.duplicates, "duplicate"),
            (MIN_OF_EACH - self.distinct, "distinct pair"),
        )
        return [f"{count} more {name}{'' if count == 1 else 's'}" for count, name in needs if count > 0]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of held-out verdicts, before and after.

    Attributes:
        name, direction: Its name, and what is better.
        before, after: Value and interval, in words.
    """

    name: str
    direction: str
    before: tuple[str, str]
    after: tuple[str, str]


@router.get("/calibrate", response_class=HTMLResponse)
def calibration_page(
    request: Request,
    session: PageManager,
    service: Serving,
    done: Literal["", "calibrated", "rolled-back"] = "",
    number: Annotated[int, Query(ge=0, le=MAX_INT)] = 0,
) -> HTMLResponse:
    """Show what a calibration could use, and the versions."""
    return _page(request, session, service, done=done, number=number)


@router.post("/calibrate/try", response_class=HTMLResponse)
async def try_out(
    request: Request, session: PostManager, service: Serving, policy: Annotated[str, Form(max_length=100)] = ""
) -> Response:
    """Fit and evaluate a calibration, and show it before anything is written."""
    return await _tried(request, session, service, policy.strip())


async def _tried(request: Request, session: PostManager, service: Service, policy: str, problem: str = "") -> Response:
    seen = await run_in_threadpool(_state, service)
    try:
        result = await _calibrate(service, session, policy, dry_run=True)
    except (InputError, NotEnoughLabelsError, NotCalibratedError) as error:
        page = partial(_page, request, session, service, policy=policy, problem=_sentence(error), status=409)
        return await run_in_threadpool(page)
    return await run_in_threadpool(
        render,
        request,
        "calibrate_try.html",
        session,
        status=409 if problem else 200,
        result=result,
        rows=comparisons(result.before, result.after),
        conclusion=conclusion(result),
        change=_change(result.log_loss_change),
        policy=policy,
        seen=seen,
        problem=problem,
    )


@router.post("/calibrate", response_class=HTMLResponse)
async def calibrate(
    request: Request,
    session: PostManager,
    service: Serving,
    seen: Annotated[str, Form(max_length=50)],
    policy: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Write and use the calibration that was tried out.

    If verdicts or versions have changed since, the page shows the new figures instead.
    """
    if seen != await run_in_threadpool(_state, service):
        problem = "Verdicts or versions have changed since you tried it: these are the figures now."
        return await _tried(request, session, service, policy, problem)
    try:
        result = await _calibrate(service, session, policy, dry_run=False)
    except (InputError, NotEnoughLabelsError, NotCalibratedError) as error:
        page = partial(_page, request, session, service, policy=policy, problem=_sentence(error), status=409)
        return await run_in_threadpool(page)
    return RedirectResponse(f"/calibrate?{urlencode({'done': 'calibrated', 'number': result.number})}", 303)


@router.get("/calibrate/roll-back", response_class=HTMLResponse)
def roll_back_page(
    request: Request, session: PageManager, service: Serving, number: Annotated[int, Query(ge=0, le=MAX_INT)]
) -> HTMLResponse:
    """Show a version before it is used again."""
    versions = service.index.calibrations()
    wanted = next((version for version in versions if version.number == number), None)
    if number and wanted is None:
        return _page(request, session, service, problem=f"There is no version {number}.", status=404)
    used = next((version for version in versions if version.in_use), None)
    return render(request, "calibrate_back.html", session, number=number, wanted=wanted, used=used, own=_own(service))


@router.post("/calibrate/roll-back", response_class=HTMLResponse)
def roll_back(
    request: Request,
    session: PostManager,
    service: Serving,
    number: Annotated[int, Form(ge=0, le=MAX_INT)],
) -> Response:
    """Decide by another version."""
    try:
        service.index.roll_back(number, by=session.caller.name)
    except InputError as error:
        return _page(request, session, service, problem=_sentence(error), status=409)
    return RedirectResponse(f"/calibrate?{urlencode({'done': 'rolled-back', 'number': number})}", 303)


# ---- parts ----------------------------------------------------------------------------------------------------------


def _page(
    request: Request,
    session: PageManager,
    service: Service,
    *,
    policy: str = "",
    problem: str = "",
    status: int = 200,
    done: str = "",
    number: int = 0,
) -> HTMLResponse:
    versions = service.index.calibrations()
    return render(
        request,
        "calibrate.html",
        session,
        status=status,
        stock=stock_of(service.index.reviewed()),
        least=MIN_VERDICTS,
        versions=versions[::-1],
        own_in_use=not any(version.in_use for version in versions),
        own=_own(service),
        policy=policy,
        problem=problem,
        done=done,
        number=number,
    )


def stock_of(pairs: list[ReviewedPair]) -> Stock:
    """Return the verdicts that a calibration can use."""
    clear = [pair.answer for pair in pairs if pair.sampled and pair.answer in ("duplicate", "distinct")]
    return Stock(clear.count("duplicate"), clear.count("distinct"), len(pairs) - len(clear))


def comparisons(before: HeldOut, after: HeldOut) -> list[Comparison]:
    """Return the figures of held-out verdicts, before and after, in words."""
    return [
        Comparison(title, direction, *(_words(getattr(side, name), share) for side in (before, after)))
        for name, title, direction, share in FIGURES
    ]


def _words(figure: Metric, share: bool) -> tuple[str, str]:
    def word(value: float) -> str:
        return percent(value) if share else f"{value:.3f}"

    if not math.isfinite(figure.value):  # nothing is flagged, or there is no duplicate
        return "—", ""
    known = math.isfinite(figure.low) and math.isfinite(figure.high)
    return word(figure.value), f"{word(figure.low)} to {word(figure.high)}" if known else ""


def conclusion(result: CalibrationResult) -> str:
    """Return the comparison in one sentence, for someone who decides now."""
    change = result.log_loss_change
    if change.low > 0:
        return "The new calibration predicts held-out verdicts worse than the one in use: leave it."
    text = result.conclusion
    return f"{text[:1].upper()}{text[1:]}."


def _change(change: Metric) -> str:
    return f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"


def _own(service: Service) -> dict[str, str]:
    """Return threshold, policy and guarantee of the pipeline's own calibration."""
    try:
        own = service.pipeline.candidate_decider
    except NotCalibratedError:
        return {"threshold": "", "policy": "", "guarantee": ""}
    return {"threshold": percent(own.threshold), "policy": str(policy_of(own)), "guarantee": own.guarantee}


def _state(service: Service) -> str:
    """Return a text that changes with each verdict and with the version in use."""
    with service.store.reading() as view:
        return f"{view.last_verdict()}-{view.meta('calibration') or 0}-{len(view.calibrations())}"


async def _calibrate(service: Service, session: PostManager, policy: str, *, dry_run: bool) -> CalibrationResult:
    run = partial(service.index.calibrate, policy=policy or None, by=session.caller.name, dry_run=dry_run)
    return await service.executor.run(run)


def _sentence(error: InputError | NotEnoughLabelsError | NotCalibratedError) -> str:
    text = f"{error.message}. {error.hint}." if error.hint else f"{error.message}."
    return text[:1].upper() + text[1:]
