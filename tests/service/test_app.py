from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from dupq.errors import InputError
from dupq.pipeline import DuplicatePipeline
from dupq.service.app import create_app, first_token, open_service
from dupq.service.executor import ClientGoneError
from dupq.service.middleware import CLIENT_GONE, HEADERS
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service

Headers = Callable[..., dict[str, str]]
PAIRS = {"pairs": [["How do I learn Python?", "How do I learn Python fast?"]]}
LIMIT = 30.0


def counted(service: Service, route: str, status: int) -> float:
    return (
        service.metrics.registry.get_sample_value("dupq_requests_total", {"route": route, "status": str(status)}) or 0
    )


# ---- the parts ------------------------------------------------------------------------------------------------------


def test_the_service_scores_for_a_token_alone(client: TestClient, as_role: Headers) -> None:
    refused = client.post("/v1/score", json=PAIRS)
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert client.post("/v1/score", json=PAIRS, headers=as_role("reader")).status_code == 200


def test_the_first_token_is_made_once(service: Service, client: TestClient) -> None:
    token = first_token(service)
    assert token is not None
    assert first_token(service) is None
    caller = service.access.caller(token)
    assert caller is not None
    assert caller.role == "admin"


def test_beyond_loopback_a_token_comes_first(tmp_path: Path, pipeline: DuplicatePipeline) -> None:
    settings = ServiceSettings(db=str(tmp_path / "forum.db"), host="0.0.0.0")
    with pytest.raises(InputError, match=r"without a token the host must be on loopback, got 0\.0\.0\.0"):
        open_service(settings, pipeline)
    inside = open_service(settings.model_copy(update={"host": "::1"}), pipeline)
    first_token(inside)
    inside.close()
    open_service(settings, pipeline).close()


def test_a_stop_ends_what_was_begun(open_: Callable[..., tuple[Service, TestClient]], as_role: Headers) -> None:
    service, client = open_(stop_seconds=LIMIT)
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(LIMIT)
        done.set()

    future = service.executor._add_unit(work)
    threading.Timer(0.05, go.set).start()
    client.__exit__()
    assert done.is_set()
    assert future.done()
    assert not service.executor.alive


# ---- around each request --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/nope", "/v1/score", "/static/style.css", "/docs", "/openapi.json"])
def test_each_answer_has_an_id_and_the_headers_of_security(path: str, client: TestClient) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
        answer = client.request(method, path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert answer.headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("", False)]
)
def test_an_id_is_kept_if_it_is_sane(given: str, kept: bool, client: TestClient) -> None:
    answer = client.get("/nope", headers={"X-Request-Id": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_requests_are_counted_by_the_template_of_their_route(service: Service, client: TestClient) -> None:
    for number in range(5):
        client.get(f"/nope/{number}")
        client.post(f"/v1/calibrations/{number}/use")
        client.get(f"/static/{number}.css")
    assert counted(service, "(unknown)", 404) == 5
    assert counted(service, "/v1/calibrations/{number}/use", 401) == 5
    assert counted(service, "/static", 404) == 5
    routes = {
        sample.labels["route"]
        for family in service.metrics.registry.collect()
        for sample in family.samples
        if "route" in sample.labels
    }
    assert routes == {"(unknown)", "/v1/calibrations/{number}/use", "/static"}


def test_the_log_names_each_request_and_no_query(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "dupq.service.requests"):
        client.get("/nope%0aINFO forged?token=dupq_secret")
        client.get("/healthz")
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert re.fullmatch(r"GET /nope%0a\S*forged 404 \d+ ms", lines[0][1])
    assert lines[0][0] == "INFO"
    assert lines[1][0] == "DEBUG"


def broken(service: Service, function: Callable[[], Any]) -> TestClient:
    app = create_app(service)

    @app.get("/v1/broken")
    def route() -> None:
        function()

    return TestClient(app)


def test_an_unexpected_error_is_a_problem_without_details(
    service: Service, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("the secret is 42")

    answer = broken(service, fail).get("/v1/broken", headers={"X-Request-Id": "abc"})
    assert answer.status_code == 500
    assert answer.json()["request_id"] == "abc"
    assert "42" not in answer.text
    assert any("the secret is 42" in str(record.exc_info) for record in caplog.records if record.exc_info)
    assert counted(service, "/v1/broken", 500) == 1


def test_a_client_that_has_gone_gets_no_answer(service: Service, client: TestClient) -> None:
    def leave() -> None:
        raise ClientGoneError

    with pytest.raises(AssertionError):  # of the test client: there is no answer
        broken(service, leave).get("/v1/broken")
    assert counted(service, "/v1/broken", CLIENT_GONE) == 1


def test_the_work_of_a_client_that_has_gone_is_dropped(service: Service, client: TestClient) -> None:
    """The whole way from a closed connection to the executor, without a server."""
    token = service.access.create_token("a reader", "reader")
    body = b'{"pairs": [["a b?", "a c?"]]}'
    gate = threading.Event()

    async def ask() -> None:
        blocked = asyncio.ensure_future(service.executor.run(lambda: gate.wait(LIMIT)))
        await asyncio.sleep(0)
        messages = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if len(messages) > 1 else messages[0]

        async def send(message: dict[str, Any]) -> None:
            raise AssertionError(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/score",
            "raw_path": b"/v1/score",
            "query_string": b"",
            "headers": [
                (b"authorization", f"Bearer {token}".encode()),
                (b"content-type", b"application/json"),
            ],
            "client": ("127.0.0.1", 1),
        }
        await asyncio.wait_for(client.app(scope, receive, send), LIMIT)  # type: ignore[arg-type]
        assert service.executor.waiting == 0
        gate.set()
        await blocked

    asyncio.run(ask())
    assert counted(service, "/v1/score", CLIENT_GONE) == 1


# ---- the limit of a body --------------------------------------------------------------------------------------------


def test_a_large_body_is_refused_before_it_is_read(
    open_: Callable[..., tuple[Service, TestClient]],
) -> None:
    service, client = open_(max_body_bytes=2000)
    headers = {"Authorization": f"Bearer {service.access.create_token('a', 'reader')}"}
    large = {"pairs": [["x" * 3000, "y"]]}
    answers = [
        client.post("/v1/score", json=large, headers=headers),
        client.post("/v1/score", content=iter([b"[" * 1000] * 5), headers=headers),  # no length is given
        client.post("/rerank", content=b"x" * 3000, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [413] * 3
    assert answers[0].json()["detail"] == answers[1].json()["detail"] == "the body must be of at most 2000 bytes"
    assert set(answers[2].json()) == {"error", "error_type"}
    assert client.post("/v1/score", json=PAIRS, headers=headers).status_code == 200


def test_the_bodies_in_progress_are_bounded(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    service, _ = open_(max_body_bytes=1024)
    held = threading.Event()
    app = create_app(service)

    @app.post("/v1/held")
    async def route(request: Request) -> int:
        body = await request.body()
        await asyncio.to_thread(held.wait, LIMIT)
        return len(body)

    async def all_() -> list[int]:
        from httpx2 import ASGITransport, AsyncClient

        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as many:
            tasks = [asyncio.ensure_future(many.post("/v1/held", content=b"x" * 1000)) for _ in range(12)]
            while not any(task.done() for task in tasks):
                await asyncio.sleep(0.01)
            held.set()
            answers = await asyncio.gather(*tasks)
            answers.append(await many.post("/v1/held", content=b"x" * 1000))
        return [answer.status_code for answer in answers]

    statuses = asyncio.run(all_())
    assert statuses.count(429) == 4
    assert statuses[-1] == 200


# ---- the description ------------------------------------------------------------------------------------------------


def test_each_operation_describes_its_problems(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["info"]["title"] == "dupq"
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    tags = {tag["name"] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert set(operation["tags"]) <= tags, path
            assert operation["description"], path
            if operation.get("security"):
                assert {"401", "403", "429", "503"} <= set(operation["responses"]), path
            if "requestBody" in operation:
                assert {"413", "422"} <= set(operation["responses"]), path
    assert "HTTPValidationError" not in str(document)
    assert "Problem" in document["components"]["schemas"]


def test_the_page_of_the_api_is_plain(client: TestClient) -> None:
    document, page = client.get("/openapi.json").json(), client.get("/docs")
    assert page.status_code == 200
    assert all(
        f"<code>{method.upper()} {path}</code>" in page.text
        for path, found in document["paths"].items()
        for method in found
    )
    assert not re.search(r"""(src|href)="?'?https?:|<script|style=| on\w+=""", page.text)
