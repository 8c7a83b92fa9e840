"""Pages for people: the review page, groups, dashboard and jobs; each module has a `router`."""

from __future__ import annotations

from fastapi import APIRouter

from dupq.service.pages import calibration_page, dashboard, groups, jobs_page

ROUTERS: tuple[APIRouter, ...] = (groups.router, dashboard.router, calibration_page.router, jobs_page.router)
