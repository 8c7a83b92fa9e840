"""Access: tokens that are hashed at rest, roles, and rate limits."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dupq.index.stores.base import Store
from dupq.index.stores.sql import Transaction
from dupq.index.verdicts import now
from dupq.service.problems import ProblemError
from dupq.service.state import Service, service_of

Role = Literal["reader", "bot", "moderator", "admin"]
Permission = Literal["read", "write", "review", "manage"]

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "reader": frozenset({"read"}),
    "bot": frozenset({"read", "write"}),
    "moderator": frozenset({"read", "review"}),
    "admin": frozenset({"read", "write", "review", "manage"}),
}
"""Role -> what it may do: read and score; write questions; give verdicts and merge; calibrate, tokens and jobs."""
PREFIX = "dupq_"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        number: Number of the token.
        name: Name of the token, which verdicts are recorded under.
        role: Its role.
    """

    number: int
    name: str
    role: Role

    def may(self, permission: Permission) -> bool:
        """Return True if the role has the permission."""
        return permission in PERMISSIONS[self.role]


def hashed(secret: str) -> str:
    """Return the hash that is stored of a token or session; both have 256 random bits, so no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Access:
    """Tokens and sessions of a service.

    Args:
        store: Of the index, with the tables of the service.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def create_token(self, name: str, role: Role) -> str:
        """Create a token; return its secret, which is stored nowhere."""
        secret = PREFIX + secrets.token_urlsafe(32)

        def add(transaction: Transaction) -> None:
            run = transaction.session.run
            number = run("SELECT coalesce(max(number), 0) + 1 FROM service_tokens")[0][0]
            run(
                "INSERT INTO service_tokens(number, name, role, hash, created) VALUES(?, ?, ?, ?, ?)",
                (number, name, role, hashed(secret), now()),
            )

        self._store.write(add)
        return secret

    def caller(self, secret: str) -> Caller | None:
        """Return the caller of a token that was not revoked, or None."""
        with self._store.reading() as view:
            rows = view.session.run(
                "SELECT number, name, role FROM service_tokens WHERE hash=? AND revoked IS NULL", (hashed(secret),)
            )
        return Caller(*rows[0]) if rows else None


_BEARER = HTTPBearer(auto_error=False, description="A token of `dupq token create`")


def require(permission: Permission) -> Callable[..., Caller]:
    """Return the dependency of a route of the API that needs a bearer token with this permission."""

    def check(
        request: Request,
        service: Annotated[Service, Depends(service_of)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> Caller:
        caller = service.access.caller(bearer.credentials) if bearer else None
        if caller is None:
            raise ProblemError(
                401,
                "a valid bearer token is needed",
                hint="create one: dupq token create --role ... --name ...",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not caller.may(permission):
            raise ProblemError(403, f"the role {caller.role} may not do this", hint="use a token of another role")
        request.state.caller = caller
        return caller

    return check


Reader = Annotated[Caller, Depends(require("read"))]
Writer = Annotated[Caller, Depends(require("write"))]
Reviewer = Annotated[Caller, Depends(require("review"))]
Manager = Annotated[Caller, Depends(require("manage"))]
