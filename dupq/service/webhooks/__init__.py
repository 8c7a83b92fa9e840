"""Incoming webhooks of forums, and outgoing events."""

from __future__ import annotations

from fastapi import APIRouter

ROUTERS: tuple[APIRouter, ...] = ()
