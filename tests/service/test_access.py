from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient

from dupq.errors import InputError
from dupq.index.stores import open_store
from dupq.service.access import FAILURES_AT_ONCE, PERMISSIONS, ROLES, Access, Permission, hashed
from dupq.service.state import Service
from dupq.service.tables import prepare_tables
from tests.postgres import Proxy, Server, is_commit
from tests.service.stores import BOTH, Repeating, place_of

PAIRS = {"pairs": [["How do I learn Python?", "How do I learn Python fast?"]]}


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return place_of(request.param, request, tmp_path)


@pytest.fixture
def store(place: str) -> Iterator[Any]:
    with closing(open_store(place)) as made:
        prepare_tables(made)
        yield made


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


# ---- tokens -------------------------------------------------------------------------------------------------------


def test_a_token_is_known_by_its_secret_alone(store: Any) -> None:
    access = Access(store)
    assert not access.has_tokens()
    secret = access.create_token("Ann", "moderator")
    assert re.fullmatch(r"dupq_[A-Za-z0-9_-]{43}", secret)
    assert access.has_tokens()
    caller = access.caller(secret)
    assert caller is not None
    assert (caller.name, caller.role) == ("Ann", "moderator")
    for wrong in ("", "dupq_", secret[:-1], secret + "x", secret.upper(), hashed(secret), "é\ud800"):
        assert access.caller(wrong) is None
    others = {access.create_token(f"bot {number}", "bot") for number in range(5)}
    assert len(others | {secret}) == 6


def test_no_secret_is_stored_or_listed(store: Any) -> None:
    access = Access(store)
    secret = access.create_token("Ann", "moderator")
    cookie = access.start_session(access.caller(secret))  # type: ignore[arg-type]
    with store.reading() as view:
        kept = [view.session.run(f"SELECT * FROM service_{table}") for table in ("tokens", "sessions")]
    for value in (secret, secret.removeprefix("dupq_"), cookie):
        assert value not in str(kept)
    assert hashed(secret) in str(kept)
    assert secret not in str(access.tokens())
    assert hashed(secret) not in str(access.tokens())


def test_a_revoked_token_ends_at_once_and_with_its_sessions(store: Any) -> None:
    access = Access(store)
    kept, ended = access.create_token("Ann", "moderator"), access.create_token("Bob", "admin")
    caller = access.caller(ended)
    assert caller is not None
    cookie = access.start_session(caller)
    assert access.session(cookie) is not None
    access.revoke_token("Bob")
    assert access.caller(ended) is None
    assert access.session(cookie) is None
    assert access.caller(kept) is not None
    access.revoke_token("Bob")  # it stays revoked, since the first time
    assert [(row.name, row.revoked is None) for row in access.tokens()] == [("Ann", True), ("Bob", False)]
    access.revoke_token("Ann")
    assert not access.has_tokens()
    with pytest.raises(InputError, match="no token has the name 'Carl'"):
        access.revoke_token("Carl")


def test_another_process_revokes_within_seconds(store: Any, place: str) -> None:
    access = Access(store)
    secret = access.create_token("Ann", "reader")
    assert access.caller(secret) is not None
    with closing(open_store(place)) as other:
        Access(other).revoke_token("Ann")
        added = Access(other).create_token("Bob", "reader")
    assert access.caller(added) is not None  # what is not in memory is looked up
    deadline = time.monotonic() + 60
    while access.caller(secret) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_name_is_of_one_valid_token(store: Any) -> None:
    access = Access(store)
    first = access.create_token("Ann", "moderator")
    session = access.session(access.start_session(access.caller(first)))  # type: ignore[arg-type]
    assert session is not None
    access.set_preferences(session, {"theme": "dark"})
    with pytest.raises(InputError, match="a valid token has the name 'Ann'"):
        access.create_token(" Ann ", "reader")
    access.revoke_token("Ann")
    second = access.create_token("Ann", "reader")  # she goes on under her name
    assert access.caller(first) is None
    caller = access.caller(second)
    assert caller is not None
    assert (caller.role, caller.number) != ("moderator", session.caller.number)
    assert [row.name for row in access.tokens()] == ["Ann"]
    again = access.session(access.start_session(caller))
    assert again is not None
    assert again.preferences == {"theme": "dark"}


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00b", "\ud800", "a\u202eb", "a\u200bb", "x" * 101, None, 7])
def test_an_unfit_name_is_one_error(tmp_path: Path, name: Any) -> None:
    with closing(open_store(tmp_path / "forum.db")) as store:
        prepare_tables(store)
        with pytest.raises(InputError, match="name must"):
            Access(store).create_token(name, "reader")
        with pytest.raises(InputError, match="role must be one of reader, bot, moderator, admin, got 'root'"):
            Access(store).create_token("Ann", "root")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Ann", "Zoë", "山田", "O'Brien; DROP TABLE service_tokens", "x" * 100, "🦊"])
def test_names_are_kept_as_they_are(store: Any, name: str) -> None:
    access = Access(store)
    caller = access.caller(access.create_token(name, "bot"))
    assert caller is not None
    assert caller.name == name
    access.revoke_token(name)


def test_a_lost_answer_of_a_commit_doubles_nothing(store: Any) -> None:
    access = Access(Repeating(store))
    secret = access.create_token("Ann", "moderator")
    caller = access.caller(secret)
    assert caller is not None
    session = access.session(access.start_session(caller))
    assert session is not None
    access.set_preferences(session, {"keys": False})
    access.end_session(session)
    access.revoke_token("Ann")
    assert access.create_token("Ann", "reader") != secret
    assert len(access.tokens()) == 1


@pytest.mark.postgres
def test_a_connection_lost_at_the_commit_creates_one_token(
    postgres_server: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dupq.index.stores.postgres.BACK_OFF_SECONDS", 0.01)
    proxy = Proxy(postgres_server)
    schema = postgres_url.rsplit("dupq_schema=", 1)[1]
    with closing(open_store(postgres_server.at(host="127.0.0.1", port=proxy.port, dupq_schema=schema))) as store:
        prepare_tables(store)
        access = Access(store)
        proxy.sees = is_commit
        secret = access.create_token("Ann", "moderator")
        assert proxy.cuts == 1
        assert access.caller(secret) is not None
        assert [row.name for row in access.tokens()] == ["Ann"]
    proxy.close()


def test_many_threads_create_and_use_tokens(store: Any) -> None:
    access = Access(store)

    def work(number: int) -> str:
        caller = access.caller(access.create_token(f"bot {number}", "bot"))
        return caller.name if caller else ""

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [f"bot {number}" for number in range(24)]
    with store.reading() as view:
        assert view.session.run("SELECT count(DISTINCT number) FROM service_tokens") == [(24,)]


def test_threads_race_for_one_name(store: Any) -> None:
    access = Access(store)

    def create(_: int) -> bool:
        try:
            return bool(access.create_token("Ann", "reader"))
        except InputError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1


def test_the_roles() -> None:
    assert set(PERMISSIONS) == set(ROLES)
    assert PERMISSIONS["admin"] == set(get_args(Permission))
    assert all("read" in given for given in PERMISSIONS.values())


# ---- bearer tokens ------------------------------------------------------------------------------------------------


def test_all_wrong_tokens_are_answered_equally(service: Service, client: TestClient) -> None:
    revoked = service.access.create_token("Bob", "admin")
    service.access.revoke_token("Bob")
    headers: list[dict[str, str]] = [
        *({}, bearer(revoked), bearer("dupq_" + "x" * 43), bearer("x"), {"Authorization": f"Basic {revoked}"}),
        {"Authorization": revoked},
        {"Authorization": ""},
    ]
    answers = [client.post("/v1/score", json=PAIRS, headers=given) for given in headers]
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert {**answer.json(), "request_id": 0} == {**answers[0].json(), "request_id": 0}
        assert revoked not in answer.text


def test_a_session_is_no_bearer_token(service: Service, client: TestClient) -> None:
    caller = service.access.caller(service.access.create_token("Ann", "admin"))
    assert caller is not None
    secret = service.access.start_session(caller)
    assert client.post("/v1/score", json=PAIRS, headers=bearer(secret)).status_code == 401
    client.cookies.set("dupq_session", secret)
    assert client.post("/v1/score", json=PAIRS).status_code == 401


def test_the_requests_of_a_token_are_limited(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    service, client = open_(rate_limit=0.01, rate_burst=3)
    ann, bob = (bearer(service.access.create_token(name, "reader")) for name in ("Ann", "Bob"))
    assert [client.post("/v1/score", json=PAIRS, headers=ann).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = client.post("/v1/score", json=PAIRS, headers=ann)
    assert 1 <= int(refused.headers["retry-after"]) <= 100
    assert refused.headers["ratelimit-policy"] == '"token";q=3;w=300'
    assert refused.headers["ratelimit"] == f'"token";r=0;t={refused.headers["retry-after"]}'
    assert refused.headers["content-type"] == "application/problem+json"
    assert client.post("/v1/score", json=PAIRS, headers=bob).status_code == 200
    for _ in range(10):
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200


def test_a_refused_role_costs_too(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    service, client = open_(rate_limit=0.01, rate_burst=1)
    secret = service.access.create_token("Ann", "reader")
    assert client.post("/v1/score", json=PAIRS, headers=bearer(secret)).status_code == 200
    assert client.post("/v1/score", json=PAIRS, headers=bearer(secret)).status_code == 429


def test_wrong_tokens_of_an_address_are_limited_and_valid_ones_pass(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = service.access.create_token("Ann", "reader")
    monkeypatch.setattr(service.access.failures, "_clock", lambda: 0.0)  # nothing comes back
    for number in range(FAILURES_AT_ONCE):
        assert client.post("/v1/score", json=PAIRS, headers=bearer(f"wrong {number}")).status_code == 401
    refused = client.post("/v1/score", json=PAIRS, headers=bearer("wrong"))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert client.post("/v1/score", json=PAIRS).status_code == 401  # no token is no guess
    # One office or proxy is one address: whoever guesses there locks nobody out.
    assert client.post("/v1/score", json=PAIRS, headers=bearer(secret)).status_code == 200


def test_guesses_do_not_read_the_store(service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = service.access._read_tokens
    monkeypatch.setattr(service.access, "_read_tokens", lambda: reads.append(1) or read())  # type: ignore[func-returns-value]
    monkeypatch.setattr(service.access.failures, "_clock", lambda: 0.0)
    monkeypatch.setattr("dupq.service.access.FRESH_SECONDS", 1e9)
    for _ in range(FAILURES_AT_ONCE + 50):
        client.post("/v1/score", json=PAIRS, headers=bearer("wrong"))
    assert len(reads) <= FAILURES_AT_ONCE + 1


# ---- large bodies -------------------------------------------------------------------------------------------------


def test_a_large_body_of_an_unknown_caller_is_not_read(service: Service, client: TestClient) -> None:
    large = b" " * 70_000 + b'{"pairs": []'  # no JSON: a route that had read it would say so

    def post(path: str = "/v1/score", **given: Any) -> int:
        return client.post(path, content=large, **given).status_code

    json = {"Content-Type": "application/json"}
    secret = service.access.create_token("Ann", "reader")
    assert post(headers=json) == 401
    assert post(headers={**json, **bearer("wrong")}) == 401
    assert post("/login") == 401
    assert post(headers={**json, **bearer(secret)}) in (400, 422)
    answer = client.post("/v1/score", content=iter([large]), headers=json)  # of unknown length
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    caller = service.access.caller(secret)
    assert caller is not None
    client.cookies.set("dupq_session", service.access.start_session(caller))
    assert post("/logout") == 403  # read, and without the secret of a form
    client.cookies.clear()
    signed = client.post("/webhooks/github", content=large, headers=json)
    assert "body of more than" not in signed.text
