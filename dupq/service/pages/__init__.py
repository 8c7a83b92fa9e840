"""The pages of the service."""

from __future__ import annotations

from fastapi import APIRouter

from dupq.service.pages import bulk, dashboard, login, preferences, review, review_list

ROUTERS: tuple[APIRouter, ...] = (
    login.router,
    review.router,
    review_list.router,
    bulk.router,
    preferences.router,
    dashboard.router,
)
