"""Stored questions: add, replace, read and delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Query, Response

from dupq.errors import InputError
from dupq.index.stores.base import NewQuestion
from dupq.service.access import Reader, Writer
from dupq.service.api import answers
from dupq.service.api.declared import errors
from dupq.service.api.strict_json import StrictRoute
from dupq.service.ids import path_id
from dupq.service.problems import ProblemError
from dupq.service.schemas import BadRow, NewRow, Question, QuestionsRequest, QuestionsWritten
from dupq.service.state import Service, service_of
from dupq.service.work import add_questions
from dupq.types import Id

router = APIRouter(prefix="/v1", tags=["questions"], route_class=StrictRoute)
Served = Annotated[Service, Depends(service_of)]
ID = "Id of the question. A number and a text that look alike are written i:7 and t:7."
IdInPath = Annotated[str, Path(alias="id", description=ID, examples=["t1"])]
WRITERS = CapacityLimiter(8)
"""Threads that wait for the model to embed questions; other requests have threads of their own."""
MISSING = "No question has the id."
AMBIGUOUS = "Both a number and a text are stored under the id."


@router.put("/questions", operation_id="put_questions", response_model=QuestionsWritten)
async def put_questions(
    body: QuestionsRequest,
    caller: Writer,
    service: Served,
    decide: Annotated[
        bool | None, Query(description="Decide them against all others (default: the setting decide_new)")
    ] = None,
    skip_bad: Annotated[bool, Query(description="Leave out rows that cannot be stored; else all are refused")] = False,
) -> dict[str, Any]:
    """Add or replace questions.

    A request may have any number of them, and changes nothing if it is repeated. Rows that cannot be stored are named,
    and nothing is stored then, unless skip_bad is true. If the server fails meanwhile, send the request again.
    """
    wanted = service.settings.decide_new if decide is None else decide
    return await run_sync(_put, service, body.questions, wanted, skip_bad, limiter=WRITERS)


def _put(service: Service, given: Sequence[NewRow | BadRow], decide: bool, skip_bad: bool) -> dict[str, Any]:
    skipped: list[dict[str, str]] = []
    rows: dict[Id, NewQuestion] = {}
    repeated: dict[Id, None] = {}
    with_body = service.settings.question_text == "title+body"
    for place, row in enumerate(given):
        if isinstance(row, NewRow):
            try:
                question = row.new_question(with_body=with_body)
            except InputError as error:
                skipped.append({"at": f"body/questions/{place}", "message": error.message})
                continue
            if question.id in rows:
                repeated[question.id] = None
                del rows[question.id]
            rows[question.id] = question
        else:
            for at, message in row.errors:
                skipped.append({"at": f"body/questions/{place}{f'/{at}' if at else ''}", "message": message})
    if skipped and not skip_bad:
        raise ProblemError(
            422,
            f"{skipped[0]['at']}: {skipped[0]['message']}",
            hint="correct the rows, or leave them out with ?skip_bad=true; nothing was stored",
            errors=skipped,
        )
    written = add_questions(service, list(rows.values()), decide=decide)
    return {
        "added": written.added,
        "replaced": written.replaced,
        "unchanged": written.unchanged,
        "repeated": list(repeated),
        "skipped": skipped,
    }


@router.get(
    "/questions/{id:id}",
    operation_id="get_question",
    response_model=Question,
    responses=errors({404: MISSING, 409: AMBIGUOUS}),
)
def get_question(id_: IdInPath, caller: Reader, service: Served) -> dict[str, Any]:
    """Return a stored question."""
    wanted = path_id(id_, service.index)
    stored = service.index.questions([wanted])
    if wanted not in stored:
        raise missing(wanted)
    return answers.question(stored[wanted])


@router.delete(
    "/questions/{id:id}",
    operation_id="delete_question",
    status_code=204,
    response_class=Response,
    responses=errors({404: MISSING, 409: AMBIGUOUS}),
)
def delete_question(id_: IdInPath, caller: Writer, service: Served) -> None:
    """Delete a question and its decisions; verdicts on it stay in the history."""
    wanted = path_id(id_, service.index)
    if not service.index.remove([wanted]):
        raise missing(wanted)


def missing(id_: Id) -> ProblemError:
    """Return the error of an id that is not stored."""
    return ProblemError(404, f"no question has the id {id_!r:.60}", hint="add it first: PUT /v1/questions")
