from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient


def test_the_service_scores_for_a_token_alone(client: TestClient, as_role: Callable[..., dict[str, str]]) -> None:
    body = {"pairs": [["How do I learn Python?", "How do I learn Python fast?"]]}
    refused = client.post("/v1/score", json=body)
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    answer = client.post("/v1/score", json=body, headers=as_role("reader"))
    assert answer.status_code == 200
    assert 0 <= answer.json()[0]["probability"] <= 1
