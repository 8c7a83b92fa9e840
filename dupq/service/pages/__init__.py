"""Pages for people: the review page, groups, dashboard and jobs; each module has a `router`."""

from __future__ import annotations

from fastapi import APIRouter

from dupq.service.pages import dashboard, login

ROUTERS: tuple[APIRouter, ...] = (login.router, dashboard.router)
