"""Scores, explanations and flags."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool

from dupq.index.question_index import K
from dupq.models.batching import chunks
from dupq.service.access import Reader
from dupq.service.api import answers
from dupq.service.api.declared import errors
from dupq.service.api.strict_json import StrictRoute
from dupq.service.problems import ProblemError
from dupq.service.schemas import Explained, ExplainRequest, FlaggedQuestion, FlagRequest, ScoredPair, ScoreRequest
from dupq.service.state import Service, service_of
from dupq.service.work import emit_flags
from dupq.types import Id

router = APIRouter(prefix="/v1", tags=["scoring"], route_class=StrictRoute)
Served = Annotated[Service, Depends(service_of)]


@router.post("/score", operation_id="score", response_model=list[ScoredPair])
async def score(body: ScoreRequest, caller: Reader, service: Served) -> list[dict[str, Any]]:
    """Score pairs of questions.

    The answers come in the order of the pairs. Any number of pairs is read in batches; texts that are too long are
    truncated, with a warning.
    """
    found = await service.executor.score(body.texts()) if body.pairs else []
    decider, model = service.pipeline.decider, service.pipeline.fingerprint
    return [answers.scored(pair, decider, model) for pair in found]


@router.post("/explain", operation_id="explain", response_model=Explained, response_model_exclude_unset=True)
async def explain(body: ExplainRequest, caller: Reader, service: Served) -> dict[str, Any]:
    """Explain a pair: matching words, differences and conflicts, beside its score."""
    found = await service.executor.run(lambda: service.pipeline.explain(body.question1, body.question2))
    result = found.result
    decided = None if result is None else answers.scored(result, service.pipeline.decider, service.pipeline.fingerprint)
    return {**answers.plain(found.to_dict()), "result": decided}


@router.post(
    "/flag",
    operation_id="flag",
    response_model=list[FlaggedQuestion],
    responses=errors({404: "No question has one of the ids."}),
)
async def flag(body: FlagRequest, caller: Reader, service: Served) -> list[dict[str, Any]]:
    """Flag questions with their likely duplicates among the stored ones.

    The answers come in the order of the questions. A stored question is not among its own flags.
    """
    model = service.pipeline.fingerprint
    ids = body.ids
    if ids is None:
        texts = [body.question] if body.question is not None else body.questions or []
        reports = await service.executor.flag(texts, k=body.k, min_cosine=body.min_cosine) if texts else []
        return [answers.flagged(report, model) for report in reports]
    if body.decide:
        if not caller.may("write"):
            raise ProblemError(403, f"the role {caller.role} may not store decisions", hint="leave decide out")
        return await _decided(ids, body, service)
    stored = await run_in_threadpool(service.index.questions, ids)
    _require(ids, stored)
    # One more, because a question is the nearest to itself.
    k = body.k or service.pipeline.candidate_rule.neighbours or K
    texts = [stored[id_].text for id_ in ids]
    reports = await service.executor.flag(texts, k=k + 1, min_cosine=body.min_cosine) if texts else []
    found = []
    for id_, report in zip(ids, reports, strict=True):
        row = answers.flagged(report, model, id_)
        own = [flag for flag in row["flags"] if (type(flag["id"]), flag["id"]) != (type(id_), id_)]
        found.append({**row, "flags": own[:k]})
    return found


async def _decided(ids: list[Id], body: FlagRequest, service: Service) -> list[dict[str, Any]]:
    """Flag stored questions, store the decisions, and send events.

    One event is sent for each pair of duplicates.
    """
    _require(ids, await run_in_threadpool(service.index.questions, ids))
    found: list[dict[str, Any]] = []
    for part in chunks(len(ids), service.executor.flagged_at_once(body.k)):
        flag_stored = partial(service.index.flag_stored, ids[part], k=body.k, min_cosine=body.min_cosine)
        for id_, report in zip(ids[part], await service.executor.run(flag_stored), strict=True):
            await run_in_threadpool(emit_flags, service, id_, report)
            found.append(answers.flagged(report, service.pipeline.fingerprint, id_))
    return found


def _require(ids: list[Id], stored: dict[Id, Any]) -> None:
    missing = [id_ for id_ in ids if id_ not in stored]
    if missing:
        raise ProblemError(404, f"no question has the id {missing[0]!r:.60}", hint="7 and '7' are two ids")
