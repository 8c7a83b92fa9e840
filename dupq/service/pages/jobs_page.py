"""Page of jobs: counts, dead jobs with their errors, retry and discard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from dupq.data.arguments import MAX_INT
from dupq.service.job_table import STATES, Job, JobState
from dupq.service.pages.rendering import render
from dupq.service.sessions import PageManager, PostManager
from dupq.service.state import Service, service_of
from dupq.service.webhooks.outgoing import receiver

router = APIRouter(include_in_schema=False)

PAGE = 50
"""Jobs of one page."""
MAX_RETRIED = 1000
"""Dead jobs that one click runs again."""
KINDS = {
    "upsert": "Add or change a post",
    "delete": "Remove a post",
    "decide": "Decide new questions",
    "deliver": "Deliver an event",
}
"""Family of kinds -> what its jobs do."""

Serving = Annotated[Service, Depends(service_of)]
Number = Annotated[int, Form(ge=1, le=MAX_INT)]


@router.get("/jobs", response_class=HTMLResponse)
def jobs_page(
    request: Request,
    session: PageManager,
    service: Serving,
    state: Literal["", "waiting", "running", "done", "dead", "discarded"] = "",
    kind: Annotated[str, Query(max_length=50)] = "",
    after: Annotated[int | None, Query(ge=1, le=MAX_INT)] = None,
    done: Literal["", "retried", "discarded", "gone"] = "",
    number: Annotated[int, Query(ge=0, le=MAX_INT)] = 0,
) -> HTMLResponse:
    """Show counts by kind and state, and the jobs of one state."""
    counts = _counts(service)
    if not state:
        # What needs a look comes first.
        state = "dead" if any(row.get("dead") for row in counts.values()) else "waiting"
    jobs = service.jobs.list(state=state, limit=PAGE + 1, after=after, kind=kind or None)
    return render(
        request,
        "jobs.html",
        session,
        counts=counts,
        states=sorted(STATES, key=lambda name: name != "dead"),
        kinds=KINDS,
        state=state,
        kind=kind,
        jobs=jobs[:PAGE],
        older=jobs[PAGE - 1].number if len(jobs) > PAGE else None,
        about={job.number: about(job, service.settings.webhook_urls) for job in jobs},
        done=done,
        number=number,
        paused=not service.settings.workers,
    )


@router.post("/jobs/retry")
def retry(
    session: PostManager, service: Serving, number: Number, state: Annotated[JobState, Form()]
) -> RedirectResponse:
    """Run a dead job, or one that waits for its retry, at once."""
    return _back(state, "retried" if service.jobs.retry(number) else "gone", number)


@router.post("/jobs/retry-dead")
def retry_dead(session: PostManager, service: Serving) -> RedirectResponse:
    """Run all dead jobs again, the newest thousand at most."""
    retried = sum(service.jobs.retry(job.number) for job in service.jobs.list(state="dead", limit=MAX_RETRIED))
    return _back("waiting", "retried" if retried else "gone", 0)


@router.post("/jobs/discard")
def discard(
    session: PostManager, service: Serving, number: Number, state: Annotated[JobState, Form()]
) -> RedirectResponse:
    """Give up a dead or waiting job."""
    return _back(state, "discarded" if service.jobs.discard(number) else "gone", number)


def _back(state: str, done: str, number: int) -> RedirectResponse:
    return RedirectResponse(f"/jobs?{urlencode({'state': state, 'done': done, 'number': number})}", 303)


def _counts(service: Service) -> dict[str, Counter[str]]:
    """Return family of kinds -> state -> number of jobs, known families first."""
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    with service.store.reading() as view:
        rows = view.session.run("SELECT kind, state, count(*) FROM service_jobs GROUP BY kind, state ORDER BY kind")
    for kind, state, count in rows:
        found.setdefault(kind.partition(":")[0], Counter())[state] += count
    return found


def about(job: Job, urls: Sequence[str]) -> str:
    """Return the subject of a job in a few words.

    Texts of posts and full addresses are left out, since they may hold secrets.

    Args:
        job: The job.
        urls: Addresses that get events.
    """
    payload = job.payload
    if job.family == "deliver":
        body = payload.get("body")
        event = str(body.get("type", "")) if isinstance(body, dict) else ""
        hosts = [urlsplit(url).hostname for url in urls if receiver(url) == payload.get("receiver")]
        return f"“{event}” to {hosts[0] if hosts else 'an address that is no longer set'}"
    ids = payload.get("ids")
    if isinstance(ids, list) and ids:
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        return f"{len(ids)} question{'' if len(ids) == 1 else 's'}: {', '.join(map(str, ids[:3]))}{more}"
    return str(payload.get("id", job.key))
