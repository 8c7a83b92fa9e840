"""`dupq token`: create, list and revoke the tokens of the service."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dupq.cli.console import emit, format_table, note
from dupq.errors import require_extra

if TYPE_CHECKING:
    from dupq.service.access import Access

ROLES = ("reader", "bot", "moderator", "admin")


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    token = commands.add_parser("token", help="create, list and revoke the tokens of the service")
    actions = token.add_subparsers(dest="action", required=True, metavar="ACTION")

    create = actions.add_parser("create", parents=[shared], help="create a token and print it, once")
    create.add_argument(
        "--role",
        required=True,
        choices=ROLES,
        help="reader: read and score; bot: write questions too; moderator: review; admin: all, and calibrate",
    )
    create.add_argument("--name", required=True, help="name of the person or program; verdicts are recorded under it")
    create.set_defaults(run=run_create)

    listing = actions.add_parser("list", parents=[shared], help="list the tokens, without their secrets")
    listing.set_defaults(run=run_list)

    revoke = actions.add_parser("revoke", parents=[shared], help="revoke a token and end its sessions")
    revoke.add_argument("name", metavar="NAME", help="name of the token")
    revoke.set_defaults(run=run_revoke)

    for action in (create, listing, revoke):
        action.add_argument(
            "--db",
            default=os.environ.get("DUPQ_SERVE_DB", "forum.db"),
            help="index of the service: a file, or postgresql://user@host/database (default: $DUPQ_SERVE_DB, "
            "else forum.db)",
        )


@contextmanager
def _opened(args: argparse.Namespace, *, create: bool = False) -> Iterator[Access]:
    require_extra("serve", "the service")
    from dupq.index.stores import open_store
    from dupq.service.access import Access
    from dupq.service.tables import prepare_tables

    store = open_store(args.db, create=create)
    try:
        prepare_tables(store)
        yield Access(store)
    finally:
        store.close()


def run_create(args: argparse.Namespace) -> int:
    with _opened(args, create=True) as access:
        secret = access.create_token(args.name, args.role)
    note("this token is shown once; keep it like a password")
    emit(args, {"name": args.name, "role": args.role, "token": secret}, secret)
    return 0


def run_list(args: argparse.Namespace) -> int:
    with _opened(args) as access:
        tokens = [asdict(row) for row in access.tokens()]
    rows = [[row["name"], row["role"], row["created"][:10], (row["revoked"] or "")[:10]] for row in tokens]
    emit(args, tokens, format_table(rows, ["name", "role", "created", "revoked"]) if rows else "no tokens")
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    with _opened(args) as access:
        access.revoke_token(args.name)
    emit(args, {"revoked": args.name}, f"revoked: {args.name}")
    return 0
