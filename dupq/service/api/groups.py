"""Duplicate groups, merges and their way back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from dupq.data.arguments import MAX_INT
from dupq.index.groups import Group
from dupq.service.access import Reader, Reviewer
from dupq.service.api import answers
from dupq.service.api.declared import errors
from dupq.service.api.questions import AMBIGUOUS, MISSING, IdInPath, missing
from dupq.service.api.strict_json import StrictRoute
from dupq.service.ids import path_id
from dupq.service.schemas import GroupDetails, Groups, Merged, MergeRequest, UnmergeRequest
from dupq.service.state import Service, service_of
from dupq.service.webhooks.outgoing import emit

router = APIRouter(prefix="/v1", tags=["groups"], route_class=StrictRoute)
Served = Annotated[Service, Depends(service_of)]


@router.get("/groups", operation_id="groups", response_model=Groups)
def groups(
    caller: Reader,
    service: Served,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[int, Query(ge=0, le=MAX_INT, description="`cursor` of the page before")] = 0,
) -> dict[str, Any]:
    """Return the duplicate groups by verdicts and merges, the largest first."""
    found = service.index.groups()
    end = cursor + limit
    return {
        "groups": [answers.group(group) for group in found[cursor:end]],
        "total": len(found),
        "cursor": end if end < len(found) else None,
    }


@router.get(
    "/groups/{id:id}",
    operation_id="get_group",
    response_model=GroupDetails,
    responses=errors({404: MISSING, 409: AMBIGUOUS}),
)
def get_group(id_: IdInPath, caller: Reader, service: Served) -> dict[str, Any]:
    """Return the duplicate group of a question.

    It has the canonical question, the members, the links and the weakest link.
    """
    wanted = path_id(id_, service.index)
    if wanted not in service.index:
        raise missing(wanted)
    group = service.index.group(wanted) or Group(wanted, (wanted,))
    stored = service.index.questions(group.members)
    return {
        **answers.group(group),
        "questions": [answers.question(stored[member]) for member in group.members if member in stored],
    }


@router.post("/merge", operation_id="merge", response_model=Merged)
def merge(body: MergeRequest, caller: Reviewer, service: Served) -> dict[str, Any]:
    """Join the groups of two questions, and prefer the first as canonical."""
    number = service.index.merge(body.canonical, body.duplicate, by=caller.name, note=body.note, key=body.key)
    group = service.index.group(body.canonical)
    found = {"number": number, "group": None if group is None else answers.group(group)}
    data = {**found, "canonical": body.canonical, "duplicate": body.duplicate, "by": caller.name, "note": body.note}
    emit(service, "merged", f"merged:{number}", data)
    return found


@router.post("/unmerge", operation_id="unmerge", response_model=Merged)
def unmerge(body: UnmergeRequest, caller: Reviewer, service: Served) -> dict[str, Any]:
    """Take a merge back; the groups are then those that they would be without it."""
    number = service.index.unmerge(body.number, by=caller.name, note=body.note, key=body.key)
    return {"number": number, "group": None}
