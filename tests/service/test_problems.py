from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.testclient import TestClient

from dupq.errors import (
    ConflictError,
    DupqError,
    InputError,
    ModelFolderError,
    NotCalibratedError,
    NotEnoughLabelsError,
    OutputError,
)
from dupq.service.executor import BusyError, StoppingError
from dupq.service.problems import MEDIA_TYPE, ProblemError, add_handlers, problem


def raising(error: Exception) -> TestClient:
    app = FastAPI()
    shapes = {"/other": lambda status, detail: problem(status, f"other: {detail}")}
    add_handlers(app, shapes, lambda _, status, detail, **__: HTMLResponse(f"<p>{detail}", status))

    @app.get("/")
    @app.get("/other")
    def route() -> None:
        raise error

    return TestClient(app)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("m", hint="h"), 422),
        (ConflictError("m", hint="h"), 409),
        (NotEnoughLabelsError("m", hint="h"), 409),
        (NotCalibratedError("m", hint="h"), 503),
        (OutputError("m", hint="h"), 503),
        (StoppingError(), 503),
        (BusyError(7.2), 429),
        (ModelFolderError("m", hint="h"), 422),
        (DupqError("m", hint="h"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, DupqError) else "",
)
def test_an_error_of_dupq_is_a_problem(error: DupqError, status: int) -> None:
    answer = raising(error).get("/")
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    found = answer.json()
    assert found["status"] == status
    assert found["type"] == "about:blank"
    assert found["hint"] == error.hint
    assert found["title"]
    assert found["detail"].endswith(error.message)


def test_an_error_names_its_place() -> None:
    answer = raising(InputError("the text is blank", location="second text of pair 3")).get("/")
    assert answer.json()["detail"] == "second text of pair 3: the text is blank"


def test_a_browser_gets_a_page() -> None:
    answer = raising(InputError("m")).get("/", headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 422
    assert answer.text == "<p>m"


def test_what_passes_has_a_time_to_come_again() -> None:
    assert raising(BusyError(7.2)).get("/").headers["retry-after"] == "8"
    assert int(raising(StoppingError()).get("/").headers["retry-after"]) > 0
    assert int(raising(OutputError("m")).get("/").headers["retry-after"]) > 0


def test_a_problem_has_members_and_headers_of_its_own() -> None:
    answer = raising(ProblemError(409, "changed", hint="h", headers={"X-A": "b"}, rows=[1])).get("/")
    assert answer.json()["rows"] == [1]
    assert answer.headers["x-a"] == "b"


def test_some_paths_have_another_shape() -> None:
    client = raising(ProblemError(429, "busy", headers={"Retry-After": "3"}))
    answer = client.get("/other")
    assert answer.json()["detail"] == "other: busy"
    assert answer.headers["retry-after"] == "3"
    assert client.post("/other").json()["detail"] == "other: Method Not Allowed"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
def test_what_is_not_there_and_what_is_not_allowed(method: str, client: TestClient) -> None:
    missing = client.request(method, "/nope")
    assert missing.status_code == 404
    assert missing.headers["content-type"] == MEDIA_TYPE
    refused = client.request(method, "/healthz")
    assert refused.status_code == 405
    assert refused.headers["content-type"] == MEDIA_TYPE
    assert refused.headers["allow"] == "GET"
    assert method == "HEAD" or refused.json()["title"] == "Method Not Allowed"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"pairs": 7}',
        b'{"pairs": [["a", "b", "c"]]}',
        b'{"pairs": [["a", null]]}',
        b'{"pairs": [["a", "\\ud800"]]}',
        b"[" * 100_000,
        b"9" * 10_000,
    ],
    ids=range(9),
)
def test_a_body_that_cannot_be_read_is_a_problem(
    body: bytes, client: TestClient, as_role: Callable[..., dict[str, str]]
) -> None:
    headers = as_role("reader") | {"Content-Type": "application/json"}
    answer = client.post("/v1/score", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["detail"]
