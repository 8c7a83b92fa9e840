"""Near-certain pairs in bulk, each with a verdict of its own.

They are chosen from a list and confirmed once.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from dupq.errors import ConflictError, InputError
from dupq.index.review import ReviewItem
from dupq.index.stores.base import StoredVerdict
from dupq.service.ids import path_id
from dupq.service.pages.filters import Filters
from dupq.service.pages.pair import pair_query, signed, texts_of
from dupq.service.pages.posts import Post, post_of, url_id
from dupq.service.pages.queue import bulk_pairs, standing_row
from dupq.service.pages.rendering import render
from dupq.service.pages.verdicts import VerdictForm, give_verdict, undo_verdict
from dupq.service.problems import ProblemError
from dupq.service.sessions import PageReviewer, PostReviewer, Session
from dupq.service.state import Service, service_of

router = APIRouter(prefix="/review/bulk", include_in_schema=False)
Parts = Annotated[Service, Depends(service_of)]

ROWS = 50
BOUND = 0.98
FIELDS = ("id1", "id2", "expected", "texts", "shown", "key")


@dataclass(frozen=True, slots=True)
class Row:
    """One pair of the list, or of its result.

    Attributes:
        item: The pair.
        posts: Its posts.
        value: What the form brings back of it.
        href: Its own page.
        problem: Why no verdict was recorded; "" if one was.
    """

    item: ReviewItem
    posts: tuple[Post, Post]
    value: str
    href: str
    problem: str = ""


@router.get("")
def show_bulk(request: Request, session: PageReviewer, service: Parts, bound: str = "") -> Response:
    """Show the pairs from a probability on."""
    level = _bound(bound)
    items = bulk_pairs(service, level, ROWS + 1)
    rows = [_row(session, item) for item in items[:ROWS]]
    return render(request, "bulk.html", session, rows=rows, bound=level, more=len(items) > ROWS, taken=None)


@router.post("/confirm")
def confirm_bulk(
    request: Request,
    session: PostReviewer,
    service: Parts,
    row: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
    bound: Annotated[str, Form()] = "",
) -> Response:
    """Show what was chosen, to be confirmed."""
    found = [(value, _read(service, value)) for value in row[:ROWS]]
    rows = [
        Row(item, (post_of(item.question), post_of(item.other)), value, _href(item))
        for value, (item, _) in ((value, read) for value, read in found if read is not None)
    ]
    if not rows:
        return RedirectResponse(f"/review/bulk?bound={_bound(bound):g}", 303)
    return render(request, "bulk_confirm.html", session, rows=rows, bound=_bound(bound))


@router.post("")
def post_bulk(
    request: Request,
    session: PostReviewer,
    service: Parts,
    row: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
    note: Annotated[str, Form(max_length=2000)] = "",
    bound: Annotated[str, Form()] = "",
) -> Response:
    """Record a verdict on each pair that was confirmed.

    Pairs with a problem, such as a conflict, are shown; the others go on.
    """
    done: list[StoredVerdict] = []
    left: list[Row] = []
    for value in row[:ROWS]:
        read = _read(service, value)
        if read is None:
            continue
        item, form = read
        form = form.model_copy(update={"note": note})
        problem = ""
        try:
            done.append(give_verdict(service, session, item, form))
        except ConflictError as error:
            said = [f"{last.by} said {last.answer}." for last in error.rows[-1:] if isinstance(last, StoredVerdict)]
            problem = said[0] if said else "One of the texts was edited since."
        except InputError as error:
            problem = f"{error.message}."
        if problem:
            left.append(Row(item, (post_of(item.question), post_of(item.other)), value, _href(item), problem))
    return render(
        request,
        "bulk_done.html",
        session,
        status=409 if left and not done else 200,
        done=[verdict for verdict in done if standing_row(service, verdict.number) is not None],
        left=left,
        bound=_bound(bound),
        key=secrets.token_urlsafe(16),
    )


@router.post("/undo")
def undo_bulk(
    session: PostReviewer,
    service: Parts,
    key: Annotated[str, Form(min_length=8, max_length=100)],
    number: Annotated[list[int], Form()] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Take back all verdicts of one confirmation."""
    for each in number[:ROWS]:
        try:
            undo_verdict(service, session, each, f"{key}:{each}")
        except InputError:
            continue  # it was taken back already
    return RedirectResponse("/review/bulk", 303)


def _row(session: Session, item: ReviewItem) -> Row:
    value = {
        "id1": url_id(item.question.id),
        "id2": url_id(item.other.id),
        "expected": item.last,
        "texts": texts_of(item),
        "shown": signed(session, item, item.chosen),
        "key": secrets.token_urlsafe(16),
    }
    return Row(item, (post_of(item.question), post_of(item.other)), json.dumps(value), _href(item))


def _read(service: Service, value: str) -> tuple[ReviewItem, VerdictForm] | None:
    """Return the pair and the verdict of a row, or None.

    It is None if the row is damaged, or a question was removed.
    """
    try:
        fields: Any = json.loads(value)
        form = VerdictForm(**{name: fields[name] for name in FIELDS}, answer="duplicate")
        item = service.index.review_item(path_id(form.id1, service.index), path_id(form.id2, service.index))
    except (ValueError, TypeError, KeyError, ProblemError):
        return None
    return item, form


def _href(item: ReviewItem) -> str:
    return "/review/pair" + pair_query(item.question.id, item.other.id, Filters())


def _bound(text: str) -> float:
    try:
        bound = float(text)
    except ValueError:
        return BOUND
    return bound if 0.5 <= bound <= 1 else BOUND
