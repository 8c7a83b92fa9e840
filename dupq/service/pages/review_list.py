"""List of pairs with filters and search."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from dupq.index.verdicts import answer_of
from dupq.service.pages.filters import DECISIONS, SHOWN, Filters
from dupq.service.pages.marks import KINDS
from dupq.service.pages.pair import bar, pair_query
from dupq.service.pages.posts import post_of
from dupq.service.pages.queue import MAX_PLACE, categories_and_tags, pairs_at, progress
from dupq.service.pages.rendering import render
from dupq.service.sessions import PageReader
from dupq.service.state import Service, service_of

router = APIRouter(prefix="/review", include_in_schema=False)

ROWS = 25


@router.get("/list")
def show_list(
    request: Request, session: PageReader, service: Annotated[Service, Depends(service_of)], page: str = "1"
) -> Response:
    """Show pairs, some on a page."""
    filters = Filters.of(request.query_params)
    number = min(int(page), MAX_PLACE // ROWS) if page.isascii() and page.isdigit() and 0 < len(page) < 6 else 1
    number = max(number, 1)
    items = pairs_at(service, filters, session.caller.name, ROWS * (number - 1), ROWS + 1)
    blind = session.preferences.get("blind", True) and session.caller.may("review")
    rows = [
        {
            "posts": (post_of(item.question), post_of(item.other)),
            "decision": item.decision,
            "bar": bar(item.decision) if item.decision is not None else None,
            "hidden": bool(blind and item.chosen == "audit"),
            "opinions": item.opinions,
            "answer": answer_of(item.opinions),
            "href": "/review" + filters.query(at=ROWS * (number - 1) + place)
            if filters.show == "open"
            else "/review/pair" + pair_query(item.question.id, item.other.id, filters),
        }
        for place, item in enumerate(items[:ROWS])
    ]
    categories, tags = categories_and_tags(service)
    return render(
        request,
        "review_list.html",
        session,
        rows=rows,
        filters=filters,
        number=number,
        first=ROWS * (number - 1) + 1,
        before="/review/list" + filters.query(page=number - 1) if number > 1 else "",
        after="/review/list" + filters.query(page=number + 1) if len(items) > ROWS else "",
        shown=SHOWN,
        decisions=DECISIONS,
        kinds=KINDS,
        categories=categories,
        tags=tags,
        progress=progress(service, session.caller.name),
    )
