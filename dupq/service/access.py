"""Access: hashed tokens and sessions, roles, and bearer authentication.

The tokens that are valid are kept in memory for `FRESH_SECONDS`: a token that another process revokes is refused after
that time at the latest, and one that this process revokes at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dupq.errors import InputError
from dupq.index.stores.base import Store
from dupq.index.stores.sql import Transaction
from dupq.index.verdicts import as_line, now
from dupq.service.problems import ProblemError
from dupq.service.rate_limit import RateLimit
from dupq.service.state import service_of

Role = Literal["reader", "bot", "moderator", "admin"]
Permission = Literal["read", "write", "review", "manage"]

ROLES: tuple[Role, ...] = get_args(Role)
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "reader": frozenset({"read"}),
    "bot": frozenset({"read", "write"}),
    "moderator": frozenset({"read", "review"}),
    "admin": frozenset({"read", "write", "review", "manage"}),
}
"""Role -> what it may do: read and score; write questions; give verdicts and merge; calibrate, tokens and jobs."""
PREFIX = "dupq_"
FRESH_SECONDS = 1.0
"""Age from which the tokens in memory are read again."""
MAX_NAME = 100
"""Longest name of a token."""
MAX_PREFERENCES = 4096
"""Most bytes of the preferences of a token, as JSON."""
FAILURES_EACH_SECOND, FAILURES_AT_ONCE = 0.2, 20
"""Wrong tokens of one address, before further ones are answered with 429 and are not looked up."""


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


@dataclass(frozen=True, slots=True)
class Session:
    """Session of the pages, from a login to its end.

    Attributes:
        caller: Who has logged in.
        csrf: Secret that every form of the session sends back.
        preferences: What was set by `Access.set_preferences`, kept with the token over sessions.
        key: Hash of the secret in the cookie.
    """

    caller: Caller
    csrf: str
    preferences: dict[str, Any]
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token without its secret.

    Attributes:
        name, role: As it was created.
        created: ISO 8601 date and time in UTC.
        revoked: The same, or None while it is valid.
    """

    name: str
    role: Role
    created: str
    revoked: str | None


def hashed(secret: str) -> str:
    """Return the hash of a token or session, as it is stored.

    Both have 256 random bits, so no salt is needed.
    """
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class Access:
    """Tokens and sessions of a service; safe to share between threads.

    Args:
        store: Of the index, with the tables of the service.
        session_hours: Hours after which a session ends.
        rate, burst: Requests a second of one token, and at once; a rate of 0: no limit.
        clock: Source of POSIX seconds.

    Attributes:
        requests: Limit of requests, by the number of a token.
        failures: Limit of wrong tokens, by the address of the client.
    """

    def __init__(
        self,
        store: Store,
        *,
        session_hours: float = 12.0,
        rate: float = 0.0,
        burst: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._clock = store, clock
        self.session_seconds = 3600 * session_hours
        self.requests = RateLimit(rate, burst)
        self.failures = RateLimit(FAILURES_EACH_SECOND, FAILURES_AT_ONCE)
        self._known: dict[str, Caller] = {}  # by the hash of the token
        self._read_at = -math.inf
        self._reading = threading.Lock()

    # ---- tokens ---------------------------------------------------------------------------------------------------

    def create_token(self, name: str, role: Role) -> str:
        """Create a token; return its secret, which is stored nowhere.

        The name of a revoked token can be given again, with any role: verdicts then go on under this name.

        Raises:
            InputError: The name is unfit or that of a valid token, or there is no such role.
        """
        name = _checked_name(name)
        if role not in ROLES:
            raise InputError(f"role must be one of {', '.join(ROLES)}, got {role!r:.60}", hint="see dupq token --help")
        secret = PREFIX + secrets.token_urlsafe(32)
        hash_, created = hashed(secret), now()

        def add(transaction: Transaction) -> None:
            run = transaction.session.run
            if run("SELECT 1 FROM service_tokens WHERE hash=?", (hash_,)):
                return  # it was committed, and the answer was lost
            if run("SELECT 1 FROM service_tokens WHERE name=? AND revoked IS NULL", (name,)):
                raise InputError(
                    f"a valid token has the name {name!r:.60}", hint="choose another name, or revoke that token first"
                )
            number = run("SELECT coalesce(max(number), 0) + 1 FROM service_tokens")[0][0]
            run(
                "INSERT INTO service_tokens(number, name, role, hash, created, preferences) VALUES(?, ?, ?, ?, ?, '{}')"
                " ON CONFLICT(name) DO UPDATE SET number=excluded.number, role=excluded.role, hash=excluded.hash,"
                " created=excluded.created, revoked=NULL",
                (number, name, role, hash_, created),
            )

        self._store.write(add)
        self._forget()
        return secret

    def revoke_token(self, name: str) -> None:
        """Revoke a token and end its sessions; one that was revoked stays so.

        Raises:
            InputError: No token has this name.
        """
        at = now()

        def revoke(transaction: Transaction) -> None:
            run = transaction.session.run
            rows = run("SELECT number FROM service_tokens WHERE name=?", (name,))
            if not rows:
                raise InputError(f"no token has the name {name!r:.60}", hint="see dupq token list")
            run("UPDATE service_tokens SET revoked=? WHERE number=? AND revoked IS NULL", (at, rows[0][0]))
            run("DELETE FROM service_sessions WHERE token=?", (rows[0][0],))

        self._store.write(revoke)
        self._forget()

    def tokens(self) -> list[TokenRow]:
        """Return all tokens without their secrets, oldest first."""
        with self._store.reading() as view:
            rows = view.session.run("SELECT name, role, created, revoked FROM service_tokens ORDER BY number")
        return [TokenRow(*row) for row in rows]

    def has_tokens(self) -> bool:
        """Return True if a token is valid."""
        with self._store.reading() as view:
            return bool(view.session.run("SELECT 1 FROM service_tokens WHERE revoked IS NULL LIMIT 1"))

    def known_caller(self, secret: str) -> Caller | None:
        """Return the caller of a token from memory, or None; it reads no store."""
        if time.monotonic() - self._read_at > FRESH_SECONDS:
            return None
        return self._known.get(hashed(secret))

    def caller(self, secret: str) -> Caller | None:
        """Return the caller of a token that is valid, or None."""
        return self.known_caller(secret) or self._read_tokens().get(hashed(secret))

    def recent_caller(self, secret: str) -> Caller | None:
        """Return the caller of a token, or None, with few reads of the store.

        Unless this process changes tokens, the store is read once in `FRESH_SECONDS`: a token that another process has
        created since then is not found.
        """
        if time.monotonic() - self._read_at > FRESH_SECONDS:
            self._read_tokens()
        return self._known.get(hashed(secret))

    def _forget(self) -> None:
        with self._reading:  # so that a read that has begun before the change is not kept
            self._read_at = -math.inf

    def _read_tokens(self) -> dict[str, Caller]:
        asked = time.monotonic()
        with self._reading:
            if self._read_at > asked:  # another thread has read them meanwhile
                return self._known
            at = time.monotonic()  # before the read: what is revoked during it is seen by the next one
            with self._store.reading() as view:
                rows = view.session.run("SELECT hash, number, name, role FROM service_tokens WHERE revoked IS NULL")
            self._known = {row[0]: Caller(*row[1:]) for row in rows}
            self._read_at = at
            return self._known

    # ---- sessions -------------------------------------------------------------------------------------------------

    def start_session(self, caller: Caller, instead_of: str | None = None) -> str:
        """Start a session, and return the secret of its cookie.

        The secret is new whatever the client has sent.

        Args:
            caller: Who logs in.
            instead_of: Secret of the session that the client had before, which ends.
        """
        secret, csrf, ends = secrets.token_urlsafe(32), secrets.token_urlsafe(32), self._clock() + self.session_seconds

        def start(transaction: Transaction) -> None:
            run = transaction.session.run
            run("DELETE FROM service_sessions WHERE ends<=? OR hash=?", (self._clock(), hashed(instead_of or "")))
            run(
                "INSERT INTO service_sessions(hash, token, csrf, ends) VALUES(?, ?, ?, ?) ON CONFLICT(hash) DO NOTHING",
                (hashed(secret), caller.number, csrf, ends),
            )

        self._store.write(start)
        return secret

    def session(self, secret: str) -> Session | None:
        """Return the session of a cookie, or None if it ended or its token was revoked."""
        key = hashed(secret)
        with self._store.reading() as view:
            rows = view.session.run(
                "SELECT t.number, t.name, t.role, s.csrf, t.preferences FROM service_sessions s"
                " JOIN service_tokens t ON t.number=s.token WHERE s.hash=? AND s.ends>? AND t.revoked IS NULL",
                (key, self._clock()),
            )
        return Session(Caller(*rows[0][:3]), rows[0][3], json.loads(rows[0][4]), key) if rows else None

    def end_session(self, session: Session) -> None:
        """End a session."""
        self._store.write(
            lambda transaction: transaction.session.run("DELETE FROM service_sessions WHERE hash=?", (session.key,))
        )

    def set_preferences(self, session: Session, preferences: Mapping[str, Any]) -> Session:
        """Change preferences for all sessions of a token, and return the session.

        Only the given names change: {"keys": False} leaves the others as they are.

        Args:
            session: The present session.
            preferences: What JSON can hold; a value of None removes the name.

        Raises:
            InputError: They are too long, or JSON cannot hold them.
        """

        def change(transaction: Transaction) -> dict[str, Any]:
            run = transaction.session.run
            rows = run("SELECT preferences FROM service_tokens WHERE number=?", (session.caller.number,))
            changed = {**(json.loads(rows[0][0]) if rows else {}), **preferences}
            kept = {name: value for name, value in changed.items() if value is not None}
            text = json.dumps(kept, allow_nan=False)
            if len(text) > MAX_PREFERENCES:
                raise InputError(f"preferences must have at most {MAX_PREFERENCES} bytes", hint="remove some")
            run("UPDATE service_tokens SET preferences=? WHERE number=?", (text, session.caller.number))
            return kept

        return replace(session, preferences=self._store.write(change))


def _checked_name(name: str) -> str:
    """Return a name of one printable line."""
    name = unicodedata.normalize("NFC", as_line(name, "name").strip())
    if len(name) > MAX_NAME or not name.isprintable():
        raise InputError(
            f"name must be one line of at most {MAX_NAME} printable characters, got {name!r:.60}",
            hint="give the name of a person or program",
        )
    return name


# ---- bearer tokens --------------------------------------------------------------------------------------------------

_BEARER = HTTPBearer(auto_error=False, description="A token of `dupq token create`")


def address_of(request: Request) -> str:
    """Return the address of the client, by which failures are limited."""
    return request.client.host if request.client else ""


async def authenticated(request: Request, access: Access, secret: str) -> Caller | None:
    """Return the caller of a token, or None.

    A wrong token counts as a failure of the address of the client. After too many failures of an address its tokens are
    compared with those in memory alone, so that guesses cost the store nothing while a valid token still passes.

    Raises:
        ProblemError: The token is wrong, as too many of this address were before.
    """
    caller = access.known_caller(secret)
    if caller is not None:
        return caller
    address = address_of(request)
    exhausted = access.failures.wait(address) > 0
    caller = await run_in_threadpool(access.recent_caller if exhausted else access.caller, secret)
    if caller is None and (wait := access.failures.take(address)):
        raise too_many("too many wrong tokens from this address", wait)
    return caller


def too_many(detail: str, wait: float) -> ProblemError:
    """Return the problem of a request that comes too early, by this number of seconds."""
    seconds = max(1, math.ceil(wait))
    return ProblemError(
        429,
        detail,
        hint=f"try again in {seconds} s",
        headers={"Retry-After": str(seconds), "Cache-Control": "no-store"},
    )


def check_rate(access: Access, caller: Caller) -> None:
    """Count a request of a token; raise a problem 429 if it comes too early."""
    limit = access.requests
    if wait := limit.take(caller.number):
        error = too_many(f"this token may make {limit.rate:g} requests a second", wait)
        error.headers["RateLimit-Policy"] = f'"token";q={limit.burst};w={max(1, math.ceil(limit.burst / limit.rate))}'
        error.headers["RateLimit"] = f'"token";r=0;t={error.headers["Retry-After"]}'
        raise error


def require(permission: Permission) -> Callable[..., Any]:
    """Return the dependency of an API route that requires a permission.

    The request must carry a bearer token whose role has the permission.
    """

    async def check(
        request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
    ) -> Caller:
        access = service_of(request).access
        caller = await authenticated(request, access, bearer.credentials) if bearer else None
        if caller is None:
            raise ProblemError(
                401,
                "a valid bearer token is needed",
                hint="create one: dupq token create --role ... --name ...",
                headers={"WWW-Authenticate": "Bearer"},
            )
        check_rate(access, caller)
        if not caller.may(permission):
            raise ProblemError(403, f"the role {caller.role} may not do this", hint="use a token of another role")
        request.state.caller = caller
        return caller

    return check


Reader = Annotated[Caller, Depends(require("read"))]
Writer = Annotated[Caller, Depends(require("write"))]
Reviewer = Annotated[Caller, Depends(require("review"))]
Manager = Annotated[Caller, Depends(require("manage"))]
