"""Tables of the service: tokens, sessions, jobs, and posts of forums.

They are in the database of the index. They are read and written through the index's own store (`dupq.index.stores`), in
transactions that are repeated after a lost connection, so every action is repeatable. A row of `meta` holds their
format.
"""

from __future__ import annotations

from dupq.errors import InputError
from dupq.index.stores.base import Store
from dupq.index.stores.sql import Transaction

FORMAT = 1
"""Number of the last migration of these tables; older ones are migrated, newer ones refused."""
META = "service_format"

MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "CREATE TABLE service_tokens(number BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL,"
        " hash TEXT NOT NULL UNIQUE, created TEXT NOT NULL, revoked TEXT,"
        " preferences TEXT NOT NULL)",
        "CREATE TABLE service_sessions(hash TEXT PRIMARY KEY, token BIGINT NOT NULL, csrf TEXT NOT NULL,"
        " ends DOUBLE PRECISION NOT NULL)",
        "CREATE INDEX service_sessions_token ON service_sessions(token)",
        "CREATE TABLE service_jobs(number BIGINT PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL UNIQUE,"
        " payload TEXT NOT NULL, state TEXT NOT NULL, attempts BIGINT NOT NULL, due DOUBLE PRECISION NOT NULL,"
        " lease TEXT, lease_ends DOUBLE PRECISION, error TEXT, created DOUBLE PRECISION NOT NULL,"
        " ended DOUBLE PRECISION)",
        "CREATE INDEX service_jobs_due ON service_jobs(state, kind, due)",
        "CREATE TABLE service_posts(id TEXT PRIMARY KEY, number BIGINT NOT NULL, seen TEXT NOT NULL, pending TEXT)",
    ),
}
"""Format -> the statements that lead to it from the one before, in types that both databases have."""


def prepare_tables(store: Store) -> None:
    """Create or migrate the tables of the service, in one transaction.

    Raises:
        InputError: They are of a newer version of dupq.
        OutputError: They cannot be written.
    """
    with store.reading() as view:
        found = int(view.meta(META) or 0)
    if found == FORMAT:
        return

    def migrate(transaction: Transaction) -> None:
        present = int(transaction.meta(META) or 0)
        if present > FORMAT:
            raise InputError(
                f"the tables of the service have format {present}; this version of dupq reads up to {FORMAT}",
                location=store.location,
                hint="update dupq",
            )
        for number in range(present + 1, FORMAT + 1):
            for statement in MIGRATIONS[number]:
                transaction.session.run(statement)
        transaction.set_meta(META, FORMAT)

    store.write(migrate)
