from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dupq.service.api import operations
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service

LIMIT = 30.0


@pytest.fixture(autouse=True)
def ask_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "FRESH_SECONDS", -1.0)


def test_a_service_that_runs_is_healthy_and_ready(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "model": "ok", "store": "ok"}


def failing(client: TestClient) -> dict[str, str]:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"
    found: dict[str, str] = answer.json()["failures"]
    return found


def test_it_is_not_ready_while_it_stops(service: Service, client: TestClient) -> None:
    service.stopping = True
    assert failing(client) == {"service": "it is stopping"}
    assert client.get("/healthz").status_code == 200


def test_it_is_not_ready_without_its_model(service: Service, client: TestClient) -> None:
    service.executor.close(LIMIT)
    assert failing(client) == {"model": "the service is stopping"}


def test_it_is_not_ready_while_the_model_hangs(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "CHECK_SECONDS", 0.1)
    began, gate = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        gate.wait(LIMIT)

    unit = threading.Thread(target=service.executor.call, args=(hang,))
    unit.start()
    assert began.wait(LIMIT)
    assert failing(client) == {"model": "no answer within 0.1 s"}
    assert service.executor.waiting == 0  # its pair does not stay behind
    gate.set()
    unit.join(LIMIT)
    monkeypatch.setattr(operations, "CHECK_SECONDS", LIMIT)
    assert client.get("/readyz").status_code == 200


def test_it_is_not_ready_without_its_store(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: Service) -> None:
        raise OSError("postgresql://me:secret@host")

    monkeypatch.setattr(operations, "_read", lost)
    assert failing(client) == {"store": "OSError"}


def test_the_model_is_not_asked_for_each_probe(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "FRESH_SECONDS", 1e9)
    for _ in range(5):
        assert client.get("/readyz").status_code == 200
    assert service.metrics.registry.get_sample_value("dupq_batch_size_count") == 1


# ---- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_show_requests_the_model_the_jobs_and_the_index(
    service: Service, client: TestClient, as_role: Callable[..., dict[str, str]]
) -> None:
    service.index.add([1, 2], ["How do I learn Python?", "How can I learn Python?"])
    service.index.flag_stored([1, 2])
    client.post("/v1/score", json={"pairs": [["a?", "b?"]] * 3}, headers=as_role("reader"))
    text = client.get("/metrics").text
    values: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            values[name] = float(value)
    assert values['dupq_requests_total{route="/v1/score",status="200"}'] == 1
    assert values['dupq_request_seconds_count{route="/v1/score"}'] == 1
    assert values["dupq_batch_size_sum"] == 3
    assert values["dupq_executor_waiting"] == 0
    assert values["dupq_questions"] == 2
    assert values["dupq_queue_pairs"] == 1
    assert values["process_resident_memory_bytes"] > 0


def test_metrics_need_a_token_beyond_loopback(
    service: Service, client: TestClient, as_role: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/metrics").status_code == 200
    beyond = ServiceSettings(**{**service.settings.model_dump(), "host": "0.0.0.0"})
    monkeypatch.setattr(service, "settings", beyond)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Basic eA=="}).status_code == 401
    assert client.get("/metrics", headers=as_role("reader")).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
