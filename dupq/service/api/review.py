"""The review queue, verdicts and their history."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query

from dupq.data.arguments import MAX_INT
from dupq.decisions.decider import Decider
from dupq.errors import ConflictError, InputError
from dupq.index.review import ReviewItem
from dupq.service.access import Reader, Reviewer
from dupq.service.api import answers
from dupq.service.api.declared import errors
from dupq.service.api.questions import AMBIGUOUS, ID, MISSING, missing
from dupq.service.api.strict_json import StrictRoute
from dupq.service.ids import path_id
from dupq.service.problems import ProblemError
from dupq.service.review_list import ReviewFilters, conflict_kinds, filtered_page
from dupq.service.schemas import (
    ConflictName,
    DecisionName,
    History,
    PairDetails,
    ReviewList,
    UndoRequest,
    VerdictRequest,
    VerdictRow,
)
from dupq.service.state import Service, service_of
from dupq.service.webhooks.outgoing import emit

router = APIRouter(prefix="/v1", tags=["review"], route_class=StrictRoute)
Served = Annotated[Service, Depends(service_of)]
NO_ID = errors({404: MISSING, 409: AMBIGUOUS})
CONFLICT = "The pair has later rows, which `rows` lists, or a text was replaced and `rows` is empty."
Key = Annotated[
    str | None, Header(alias="Idempotency-Key", max_length=255, description="A repeated request is one verdict")
]
Blind = Annotated[bool, Query(description="Leave out the decision of audit pairs, so that it sways nobody")]
Filter = Annotated[str, Query(max_length=200)]
Probability = Annotated[float, Query(ge=0, le=1)]


@router.get("/review", operation_id="review", response_model=ReviewList)
def review(
    caller: Reader,
    service: Served,
    decision: DecisionName | None = None,
    min_probability: Probability = 0.0,
    max_probability: Probability = 1.0,
    contested: Annotated[bool, Query(description="Pairs whose moderators differ, the oldest first")] = False,
    mine: Annotated[bool, Query(description="Pairs that this token has answered, the last one first")] = False,
    by: Annotated[str | None, Query(max_length=200, description="As `mine`, of another moderator")] = None,
    tag: Filter = "",
    category: Filter = "",
    search: Annotated[str, Query(max_length=200, description="Words of the two questions")] = "",
    conflict: Annotated[ConflictName | None, Query(description="Kind of conflict between the two texts")] = None,
    blind: Blind = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    cursor: Annotated[str | None, Query(max_length=1000, description="`cursor` of the page before")] = None,
) -> dict[str, Any]:
    """Return the pairs whose verdict is worth the most, random audit pairs among them.

    A page may hold fewer pairs than `limit`, or none, and still have a cursor: the filters look at some hundred pairs
    a page.
    """
    answered = by is not None or mine
    if contested and answered:
        raise ProblemError(422, "contested must be left out beside mine and by", hint="ask for one of them")
    filters = ReviewFilters(
        source="contested" if contested else "answered" if answered else "queue",
        by=(by or caller.name) if answered else None,
        decision=decision,
        min_probability=min_probability,
        max_probability=max_probability,
        tag=tag,
        category=category,
        search=search,
        conflict=conflict or "",
    )
    page = filtered_page(service.index, filters, limit, cursor)
    decider = answers.decider_of(service)
    items = [
        _item(item, _decision(item, decider, service, hidden=blind and item.chosen == "audit"), conflict is not None)
        for item in page.items
    ]
    return {"items": items, "scanned": page.scanned, "cursor": page.after}


@router.get(
    "/pairs",
    operation_id="get_pair",
    response_model=PairDetails,
    responses=NO_ID,
)
def get_pair(
    id1: Annotated[str, Query(description=ID, examples=["t1"])],
    id2: Annotated[str, Query(description=ID, examples=["2"])],
    caller: Reader,
    service: Served,
) -> dict[str, Any]:
    """Return one pair: both questions, the decision, the verdicts and their history."""
    one, other = path_id(id1, service.index), path_id(id2, service.index)
    stored = service.index.questions([one, other])
    for id_ in (one, other):
        if id_ not in stored:
            raise missing(id_)
    item = service.index.review_item(one, other)
    state = service.index.verdict_of(one, other)
    rows = [row for row in service.index.history(one) if {row.id, row.other} == {one, other}]
    found = _item(item, _decision(item, answers.decider_of(service), service), True)
    return {**found, "answer": state.answer, "history": [answers.verdict(row) for row in rows]}


def _decision(
    item: ReviewItem, decider: Decider | None, service: Service, *, hidden: bool = False
) -> dict[str, Any] | None:
    if item.decision is None or hidden:
        return None
    return answers.decided(item.decision, decider, service.pipeline.fingerprint)


def _item(item: ReviewItem, decision: dict[str, Any] | None, conflicts: bool) -> dict[str, Any]:
    return {
        "question1": answers.question(item.question),
        "question2": answers.question(item.other),
        "decision": decision,
        "chosen": item.chosen,
        "sampled": item.sampled,
        "last": item.last,
        "slots": item.slots,
        "opinions": [answers.verdict(row) for row in item.opinions],
        "conflicts": conflict_kinds(item) if conflicts else None,
    }


@router.post("/verdicts", operation_id="give_verdict", response_model=VerdictRow, responses=errors({409: CONFLICT}))
def give_verdict(
    body: VerdictRequest, caller: Reviewer, service: Served, idempotency_key: Key = None
) -> dict[str, Any]:
    """Give a verdict on a pair, in the name of the token."""
    try:
        row = service.index.verdict(
            body.id1,
            body.id2,
            body.answer,
            by=caller.name,
            sampled=body.sampled,
            chosen=body.chosen,
            note=body.note,
            expected=body.expected,
            slots=body.slots,
            key=_key(body.key, idempotency_key),
        )
    except ConflictError as error:
        raise ProblemError(
            409,
            error.message,
            hint=error.hint,
            rows=[answers.verdict(row) for row in error.rows],  # type: ignore[arg-type]
        ) from error
    found = answers.verdict(row)
    emit(service, "verdict", f"verdict:{row.number}", found)
    return found


@router.post("/undo", operation_id="undo_verdict", response_model=VerdictRow)
def undo_verdict(body: UndoRequest, caller: Reviewer, service: Served, idempotency_key: Key = None) -> dict[str, Any]:
    """Take back this moderator's last standing verdict, or one by its number.

    A merge that was given with it on the review page is taken back too.
    """
    if body.force and not caller.may("manage"):
        raise ProblemError(403, f"the role {caller.role} may not take back verdicts of others", hint="leave force out")
    row = service.index.undo(
        body.number, by=caller.name, force=body.force, note=body.note, key=_key(body.key, idempotency_key)
    )
    found = answers.verdict(row)
    emit(service, "verdict", f"verdict:{row.number}", found)
    return found


@router.get(
    "/history", operation_id="history", response_model=History, responses=errors({404: MISSING, 409: AMBIGUOUS})
)
def history(
    caller: Reader,
    service: Served,
    id_: Annotated[str | None, Query(alias="id", description=ID)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[int | None, Query(ge=1, le=MAX_INT, description="`cursor` of the page before")] = None,
) -> dict[str, Any]:
    """Return the history of verdicts, last first, rows that were taken back included."""
    wanted = None if id_ is None else path_id(id_, service.index)
    try:
        rows = service.index.history(wanted, limit=limit, before=cursor)
    except InputError as error:  # all else was checked
        raise ProblemError(404, error.message, hint=error.hint) from error
    return {
        "rows": [answers.verdict(row) for row in rows],
        "cursor": rows[-1].number if len(rows) == limit else None,
    }


def _key(*given: str | None) -> str | None:
    """Return the name of a request; raise ProblemError if body and header give two."""
    keys = {key for key in given if key is not None}
    if len(keys) > 1:
        raise ProblemError(422, "key must be that of the header Idempotency-Key", hint="give one of them")
    return next(iter(keys), None)
