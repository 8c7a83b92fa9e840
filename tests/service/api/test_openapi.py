"""The OpenAPI document: each example works, and no request made from it is answered with a server error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service.openapi import Served, run, served


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(str(tmp_path_factory.mktemp("openapi") / "forum.db")) as found:
        yield found


def test_no_case_is_answered_with_a_server_error(service: Served) -> None:
    found = run(service, 500)
    assert found.cases >= 500
    assert found.server_errors == 0
    assert found.failures == []
    assert {200, 400, 404, 422} <= set(found.statuses)


@pytest.mark.postgres
def test_no_case_is_answered_with_a_server_error_on_postgres(postgres_url: str) -> None:
    with served(postgres_url) as service:
        check_examples(service)
        found = run(service, 300)
        assert found.server_errors == 0
        assert found.failures == []


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/") or operation.get("tags") == ["compatible"]:
                yield method, path, operation


def schema_of(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def test_each_operation_is_named_and_described(service: Served) -> None:
    document = service.app.openapi()
    names = []
    for _, path, operation in operations(document):
        names.append(operation["operationId"])
        assert operation["summary"], path
        assert operation["description"].rstrip().endswith("."), path
        assert "200" in operation["responses"] or "204" in operation["responses"]
        assert {"401", "403", "429", "503"} <= set(operation["responses"]), path
        if path.startswith("/v1/"):
            media = {
                kind for status, row in operation["responses"].items() if status >= "400" for kind in row["content"]
            }
            assert media == {"application/problem+json"}, path
        if "requestBody" in operation:
            assert schema_of(document, operation)["examples"], path
    assert len(set(names)) == len(names) >= 24


def test_each_example_works(tmp_path: Path) -> None:
    """In this order, because a verdict needs its questions, and an undo its verdict."""
    with served(str(tmp_path / "forum.db")) as service:
        check_examples(service)


def check_examples(service: Served) -> None:
    document = service.app.openapi()
    rank = {"put_questions": 0, "give_verdict": 1, "merge": 2}
    found = sorted(operations(document), key=lambda row: rank.get(row[2]["operationId"], 3))
    headers = {"Authorization": f"Bearer {service.secret}"}
    sent = 0
    for method, path, operation in found:
        if "requestBody" not in operation:
            continue
        for example in schema_of(document, operation)["examples"]:
            if operation["operationId"] == "undo_verdict" and example:
                rows = service.client.get("/v1/history", headers=headers).json()["rows"]
                undone = {row["undoes"] for row in rows}
                example = {
                    "number": next(r["number"] for r in rows if r["answer"] != "undo" and r["number"] not in undone),
                    "force": True,
                }
            answer = service.client.request(method, path, json=example, headers=headers)
            # Thirty verdicts are needed to calibrate.
            assert answer.status_code == (409 if path == "/v1/calibrate" else 200), (path, answer.text)
            sent += 1
    assert sent >= 16


HOSTILE = (
    '"a\\u0000b"', '"\\ud800"', '"\\udc00\\ud800"', "NaN", "-Infinity", "1e400", "1" * 5000, "9" * 30, "-1", "0", "1.5",
    "true", "null", '""', '" \\t\\u200b"', "[]", "{}", "[[]]", '{"a": NaN}', "[" * 3000 + "]" * 3000, '"\\u202e"',
    '"' + "x" * 1_000_000 + '"',
)  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: value[:12])
def test_a_hostile_value_is_no_server_error(service: Served, value: str) -> None:
    """In the place of every field, and as the whole body."""
    service.restore()
    headers = {"Authorization": f"Bearer {service.secret}", "Content-Type": "application/json"}
    document = service.app.openapi()
    for method, path, operation in operations(document):
        if "requestBody" not in operation:
            continue
        bodies = [value]
        for example in schema_of(document, operation)["examples"]:
            for name in example:
                bodies.append(json.dumps({**example, name: "HERE"}).replace('"HERE"', value))
                if isinstance(example[name], list):
                    bodies.append(json.dumps({**example, name: ["HERE"]}).replace('"HERE"', value))
        for body in bodies:
            answer = service.client.request(method, path, content=body.encode(), headers=headers)
            assert answer.status_code < 500, (path, body[:200], answer.text)
            answer.content.decode("utf-8")


@pytest.mark.parametrize("text", ["%00", "%FF", "%ED%A0%80", "..", ".", "%2E%2E%2F", "i:7", "t:7", "i:x", "é", "%0A"])
def test_any_character_may_stand_in_a_path_or_query(service: Served, text: str) -> None:
    headers = {"Authorization": f"Bearer {service.secret}"}
    for path in (
        f"/v1/questions/{text}",
        f"/v1/groups/{text}",
        f"/v1/history?id={text}",
        f"/v1/pairs?id1={text}&id2=2",
    ):
        answer = service.client.get(path, headers=headers)
        assert answer.status_code < 500, (path, answer.text)
    answer = service.client.get(f"/v1/review?search={text}&tag={text}&cursor={text}&by={text}", headers=headers)
    assert answer.status_code < 500


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[1, 2", b"\xef\xbb\xbf{}", b'{"pairs": []} x', b"'a'"])
def test_a_body_that_is_no_json_is_refused_as_such(service: Served, content: bytes) -> None:
    headers = {"Authorization": f"Bearer {service.secret}", "Content-Type": "application/json"}
    answer = service.client.post("/v1/score", content=content, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_the_full_run_is_recorded() -> None:
    path = Path(__file__).parents[3] / "benchmarks" / "results" / "service_openapi.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["cases"] >= 20_000
    assert result["server_errors"] == result["failed_checks"] == 0
