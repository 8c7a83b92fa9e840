"""Routes of the API; each module has a `router`."""

from __future__ import annotations

from fastapi import APIRouter

from dupq.service.api import operations, scoring

ROUTERS: tuple[APIRouter, ...] = (scoring.router, operations.router)
