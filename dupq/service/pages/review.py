"""The review page: pairs one after the other, verdicts, undo."""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from dupq.errors import ConflictError, InputError
from dupq.index.review import ReviewItem
from dupq.index.stores.base import StoredVerdict
from dupq.service.ids import path_id
from dupq.service.pages.filters import Filters
from dupq.service.pages.pair import PairPage, pair_page, pair_query, read_signed
from dupq.service.pages.posts import title_of
from dupq.service.pages.queue import MAX_PLACE, pairs_at, past_verdict, place_after, progress, standing_row, verdict_row
from dupq.service.pages.rendering import percent, render
from dupq.service.pages.verdicts import VerdictForm, give_verdict, undo_verdict
from dupq.service.problems import ProblemError
from dupq.service.sessions import PageReader, PostReviewer, Session
from dupq.service.state import Service, service_of
from dupq.types import Id

router = APIRouter(prefix="/review", include_in_schema=False)
Parts = Annotated[Service, Depends(service_of)]

RECORDED = {"duplicate": "Duplicate recorded.", "distinct": "Distinct recorded.", "skip": "Pair skipped."}


class Run:
    """Position of a moderator in a run: filters, place and last verdict.

    Args:
        request: The request, whose query has all of it.
    """

    def __init__(self, request: Request) -> None:
        query = request.query_params
        self.filters = Filters.of(query)
        self.at = max(-MAX_PLACE, min(MAX_PLACE, _number(query.get("at"))))
        self.did, self.undone = _number(query.get("did")), _number(query.get("undone"))
        self.nothing = query.get("undone") == "none"

    def address(self, at: int) -> str:
        """Return the address of another place of this run."""
        return "/review" + self.filters.query(at=at)


@router.get("")
def show_next(request: Request, session: PageReader, service: Parts) -> Response:
    """Show the pair at a place of the run, the next one without a place."""
    run, name = Run(request), session.caller.name
    if run.at < 0:
        row = past_verdict(service, name, -run.at)
        if row is None:
            return RedirectResponse(run.address(run.at + 1), 303)
        item = service.index.review_item(row.id, row.other)
        return _pair(request, session, service, run, item, row.chosen, run.at)
    found = pairs_at(service, run.filters, name, run.at, 1, run=True)
    if not found and run.at > 0:
        return RedirectResponse("/review" + run.filters.query(did=run.did), 303)
    if not found:
        return render(
            request,
            "review_empty.html",
            session,
            run=run,
            status_line=_status_line(service, session, run),
            progress=progress(service, name),
            key=secrets.token_urlsafe(16),
        )
    return _pair(request, session, service, run, found[0], found[0].chosen, run.at)


@router.get("/pair")
def show_pair(request: Request, session: PageReader, service: Parts, id1: str = "", id2: str = "") -> Response:
    """Show one pair."""
    run = Run(request)
    item = find_pair(request, session, service, id1, id2)
    if isinstance(item, Response):
        return item
    row = verdict_row(service, run.undone) if run.undone else None
    same = (
        row is not None and {row.id, row.other} == {item.question.id, item.other.id} and row.by == session.caller.name
    )
    return _pair(request, session, service, run, item, row.chosen if row is not None and same else "")


@router.get("/help")
def show_help(request: Request, session: PageReader) -> Response:
    """Show the keys, and what the answers mean."""
    return render(request, "help.html", session)


# ---- verdicts -------------------------------------------------------------------------------------------------------


@router.post("/verdict")
def post_verdict(
    request: Request, session: PostReviewer, service: Parts, form: Annotated[VerdictForm, Form()]
) -> Response:
    """Record a verdict, and go on to the next pair."""
    filters = read_back(form.back)
    item = find_pair(request, session, service, form.id1, form.id2)
    if isinstance(item, Response):
        return item
    try:
        row = give_verdict(service, session, item, form)
    except ConflictError as error:
        if not error.rows:
            return _changed(request, session, item, filters)
        return _conflict(request, session, service, item, form, filters, error)
    at = place_after(filters, form.at)
    return RedirectResponse("/review" + filters.query(at=at, did=row.number), 303)


@router.post("/undo")
def post_undo(
    session: PostReviewer,
    service: Parts,
    key: Annotated[str, Form(min_length=8, max_length=100)],
    number: Annotated[int | None, Form(ge=1)] = None,
    back: Annotated[str, Form()] = "",
) -> Response:
    """Take back a verdict of the moderator, and show its pair.

    The verdict is the last one unless another is named.
    """
    filters = read_back(back)
    try:
        row = undo_verdict(service, session, number, key)
    except InputError:
        return RedirectResponse("/review" + filters.query(undone="none"), 303)
    if any(id_ not in service.index for id_ in (row.id, row.other)):
        return RedirectResponse("/review" + filters.query(), 303)
    return RedirectResponse("/review/pair" + pair_query(row.id, row.other, filters, undone=row.number), 303)


def read_back(query: str) -> Filters:
    """Return the filters of a query that a form has brought back."""
    return Filters.of(dict(parse_qsl(query.removeprefix("?")[:2000])))


# ---- pages ----------------------------------------------------------------------------------------------------------


def find_pair(request: Request, session: Session, service: Service, one: str, other: str) -> ReviewItem | Response:
    """Return the pair that two names stand for, or a page with the error."""
    index = service.index
    if not one or not other:
        return _error(
            request, session, 404, "No pair", "The address names no pair.", "A pair has two ids: id1 and id2."
        )
    try:
        ids: list[Id] = [path_id(one, index), path_id(other, index)]
        if ids[0] == ids[1] and type(ids[0]) is type(ids[1]):
            return _error(request, session, 404, "No pair", "The two ids are one question.", "Name two questions.")
        stored = index.questions(ids)
    except InputError as error:
        return _error(request, session, 404, "No such question", f"{error.message}.", error.hint or "")
    except ProblemError as error:
        return _error(request, session, error.status, "Which question?", f"{error.detail}.", error.hint or "")
    for id_ in ids:
        if id_ not in stored:
            return _missing(request, session, service, id_)
    return index.review_item(ids[0], ids[1])


def _missing(request: Request, session: Session, service: Service, id_: Id) -> Response:
    try:
        known = bool(service.index.history(id_))
    except InputError:
        known = False
    if known:
        return _error(
            request,
            session,
            410,
            "The question was removed",
            f"The question {id_} is no longer on the forum.",
            "Its verdicts stay in the history. There is nothing left to decide.",
        )
    return _error(
        request,
        session,
        404,
        "No such question",
        f"No question has the id {id_!r:.80}.",
        "It may have been removed before anyone gave a verdict on it.",
    )


def _error(request: Request, session: Session, status: int, heading: str, detail: str, hint: str) -> Response:
    links = [{"title": "Next pair", "href": "/review"}, {"title": "All pairs", "href": "/review/list"}]
    return render(
        request,
        "error.html",
        session,
        status=status,
        code=status,
        heading=heading,
        detail=detail,
        hint=hint,
        links=links,
    )


def _changed(request: Request, session: Session, item: ReviewItem, filters: Filters) -> Response:
    href = "/review/pair" + pair_query(item.question.id, item.other.id, filters)
    return render(
        request,
        "error.html",
        session,
        status=409,
        code=409,
        heading="A question was edited",
        detail="One of the two texts has changed since you opened the pair, so your verdict was not recorded.",
        hint="Look at the present texts, and decide again.",
        links=[{"title": "Show the present texts", "href": href}, {"title": "Next pair", "href": "/review"}],
    )


def _pair(
    request: Request, session: Session, service: Service, run: Run, item: ReviewItem, chosen: str, at: int | None = None
) -> Response:
    """Return the page of a pair, at a place of the run if it has one."""
    page = pair_page(service, session, item, chosen)
    context = _context(service, session, page, run.filters, at)
    return render(request, "pair.html", session, **context, status_line=_status_line(service, session, run))


def _conflict(
    request: Request,
    session: Session,
    service: Service,
    item: ReviewItem,
    form: VerdictForm,
    filters: Filters,
    error: ConflictError,
) -> Response:
    """Return the page of a pair again, with the verdicts that came first.

    The moderator's own answer is kept.
    """
    rows = tuple(row for row in error.rows if isinstance(row, StoredVerdict))
    item = service.index.review_item(item.question.id, item.other.id)
    page = pair_page(service, session, item, read_signed(session, item, form.shown))
    context = _context(service, session, page, filters, form.at, conflict=rows, form=form)
    return render(request, "pair.html", session, status=409, **context, status_line=None)


def _context(
    service: Service,
    session: Session,
    page: PairPage,
    filters: Filters,
    at: int | None,
    conflict: tuple[StoredVerdict, ...] = (),
    form: VerdictForm | None = None,
) -> dict[str, Any]:
    item = page.item
    return {
        "page": page,
        "filters": filters,
        "at": at or 0,
        "back": filters.query(),
        "conflict": conflict,
        "form": form,
        "may_review": session.caller.may("review"),
        "permalink": "/review/pair" + pair_query(item.question.id, item.other.id),
        "previous": "/review" + filters.query(at=(at or 0) - 1),
        "next": "/review" + filters.query(at=0 if at is None else at + 1),
    }


def _status_line(service: Service, session: Session, run: Run) -> dict[str, Any] | None:
    """Return what was done last, and the number of the verdict that can be taken back."""
    if run.nothing:
        return {"text": "You have no verdict to take back.", "undo": None}
    if run.undone:
        row = verdict_row(service, run.undone)
        if row is not None and row.by == session.caller.name and standing_row(service, run.undone) is None:
            return {"text": f"Taken back: your verdict “{row.answer}” on this pair.", "undo": None}
    row = standing_row(service, run.did) if run.did else None
    if row is None or row.by != session.caller.name:
        return None
    text = RECORDED[row.answer]
    if row.chosen == "audit" and row.answer != "skip" and row.probability is not None:
        text += f" dupq had put this audit pair at {percent(row.probability)}."
    stored = service.index.questions([row.id, row.other])
    titles = " / ".join(title_of(stored[id_]) for id_ in (row.id, row.other) if id_ in stored)
    return {"text": text, "undo": row.number, "titles": titles}


def _number(text: str | None) -> int:
    try:
        return int((text or "0")[:12])
    except ValueError:
        return 0
