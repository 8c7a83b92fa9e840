"""Scores, explanations and flags."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from dupq.service.access import Reader
from dupq.service.state import Service, service_of

router = APIRouter(prefix="/v1", tags=["scoring"])


class ScoreRequest(BaseModel):
    """Pairs to score."""

    pairs: list[tuple[str, str]]


@router.post("/score")
async def score(
    body: ScoreRequest, caller: Reader, service: Annotated[Service, Depends(service_of)]
) -> list[dict[str, Any]]:
    """Score pairs of questions."""
    found = await service.executor.score(body.pairs)
    return [{"probability": pair.probability, "decision": str(pair.decision)} for pair in found]
