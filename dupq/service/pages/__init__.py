"""Pages for people: the review page, groups, dashboard and jobs.

Each module of pages has a `router`.
"""

from __future__ import annotations

from fastapi import APIRouter

from dupq.service.pages import (
    bulk,
    calibration_page,
    dashboard,
    groups,
    jobs_page,
    login,
    preferences,
    review,
    review_list,
)

ROUTERS: tuple[APIRouter, ...] = (
    login.router,
    review.router,
    review_list.router,
    bulk.router,
    preferences.router,
    groups.router,
    dashboard.router,
    calibration_page.router,
    jobs_page.router,
)
