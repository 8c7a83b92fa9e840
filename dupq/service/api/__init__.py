"""Routes of the API; each module has a `router`."""

from __future__ import annotations

from fastapi import APIRouter

from dupq.service.api import calibration, compatible, groups, operations, questions, review, scoring

ROUTERS: tuple[APIRouter, ...] = (
    scoring.router,
    questions.router,
    review.router,
    groups.router,
    calibration.router,
    compatible.router,
    operations.router,
)
