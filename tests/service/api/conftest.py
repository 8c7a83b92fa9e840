from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dupq.service.access import Role

Call = Callable[..., Any]

QUESTIONS = {
    "a": "How can I learn chess?",
    "b": "How can I learn chess fast?",
    "c": "How can I learn chess well?",
    "d": "How much does a chess board cost?",
    "e": "How much does a chess board cost in 2020?",
    "f": "How much does a chess board cost in 2021?",
}


@pytest.fixture
def call(client: TestClient, as_role: Callable[[Role], dict[str, str]]) -> Call:
    """A function that sends a request in a role and returns its JSON; it checks the status."""
    headers: dict[Role, dict[str, str]] = {}

    def send(method: str, path: str, body: Any = None, *, role: Role = "admin", status: int = 200, **more: Any) -> Any:
        if role not in headers:
            headers[role] = as_role(role)
        sent = {} if body is None else {"json": body}
        answer = client.request(method, path, headers={**headers[role], **more.pop("headers", {})}, **sent, **more)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.json() if answer.content else None

    return send


@pytest.fixture
def filled(call: Call) -> Call:
    """`call`, with stored questions and decisions on their pairs."""
    rows = [
        {"id": id_, "text": text, "details": {"tags": ["chess", id_], "category": "money" if id_ > "c" else "learning"}}
        for id_, text in QUESTIONS.items()
    ]
    call("PUT", "/v1/questions?decide=false", {"questions": rows})
    call("POST", "/v1/flag", {"ids": list(QUESTIONS), "decide": True})
    return call
