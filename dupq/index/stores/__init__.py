"""Stores of an index; `open_store` finds the right one for a path or URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dupq.errors import require_extra
from dupq.index.stores.base import WAIT_SECONDS

if TYPE_CHECKING:
    from dupq.index.stores.base import Store

POSTGRES = ("postgresql://", "postgres://")


def is_url(place: str | Path) -> bool:
    """Return True for a URL of PostgreSQL, and False for a path."""
    return isinstance(place, str) and place.startswith(POSTGRES)


def open_store(place: str | Path, *, create: bool = True, wait: float = WAIT_SECONDS) -> Store:
    """Open the store of a path or URL.

    A path is that of a SQLite file; a URL `postgresql://...` is that of a PostgreSQL database with pgvector.

    Args:
        place: Path or URL.
        create: Create the store if it does not exist.
        wait: Seconds to wait for another writer, 0 or more.

    Raises:
        InputError: There is no store and `create` is False; or what is there is no store, damaged, or newer.
        OutputError: It cannot be reached or written.
        MissingExtraError: The extra `postgres` is not installed.
    """
    if is_url(place):
        require_extra("postgres", "an index in PostgreSQL")
        from dupq.index.stores.postgres import PostgresStore

        return PostgresStore(str(place), create=create, wait=wait)
    from dupq.index.stores.sqlite import SqliteStore

    return SqliteStore(place, create=create, wait=wait)
