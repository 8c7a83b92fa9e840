from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from dupq.service.ids import path_id
from dupq.service.problems import ProblemError
from dupq.service.state import Service
from tests.service.api.conftest import QUESTIONS, Call


def put(call: Call, *rows: dict[str, Any], query: str = "decide=false", **more: Any) -> Any:
    return call("PUT", f"/v1/questions?{query}", {"questions": list(rows)}, **more)


def test_a_request_may_be_repeated(call: Call) -> None:
    rows = [{"id": id_, "text": text} for id_, text in QUESTIONS.items()]
    empty = {"replaced": 0, "repeated": [], "skipped": []}
    assert put(call, *rows) == {"added": 6, "unchanged": 0, **empty}
    assert put(call, *rows) == {"added": 0, "unchanged": 6, **empty}
    assert put(call, {"id": "a", "text": "Where?"})["replaced"] == 1


def test_of_an_id_that_is_given_twice_the_last_row_is_stored(call: Call) -> None:
    found = put(call, {"id": 1, "text": "Who?"}, {"id": "1", "text": "Which?"}, {"id": 1, "text": "What?"})
    assert (found["added"], found["repeated"]) == (2, [1])
    assert call("GET", "/v1/questions/i:1")["text"] == "What?"
    assert call("GET", "/v1/questions/t:1")["text"] == "Which?"


def test_what_is_left_out_stays(call: Call) -> None:
    put(call, {"id": 1, "text": "Who?", "reach": 5, "created": "2026-05-01", "details": {"tags": ["x"]}})
    put(call, {"id": 1, "text": "Who is it?"})
    assert call("GET", "/v1/questions/1") == {
        "id": 1,
        "text": "Who is it?",
        "created": "2026-05-01T00:00:00+00:00",
        "reach": 5.0,
        "details": {"tags": ["x"]},
    }


@pytest.mark.parametrize(("setting", "text"), [("title", "Who?"), ("title+body", "Who?\nI ask.")])
def test_title_and_body_make_the_text(
    open_: Callable[..., tuple[Service, TestClient]], setting: str, text: str
) -> None:
    service, client = open_(question_text=setting)
    headers = {"Authorization": f"Bearer {service.access.create_token('bot', 'bot')}"}
    rows = [{"id": 1, "title": "Who?", "body": "I ask.", "details": {"url": "https://example.org"}}]
    assert client.put("/v1/questions?decide=false", json={"questions": rows}, headers=headers).status_code == 200
    found = client.get("/v1/questions/1", headers=headers).json()
    assert found["text"] == text
    assert found["details"] == {"title": "Who?", "body": "I ask.", "url": "https://example.org"}


BAD: tuple[tuple[Any, str], ...] = (
    ({"id": 1}, "either text, or title"),
    ({"id": 1, "text": "x", "title": "y"}, "either text, or title"),
    ({"id": 1, "body": "y"}, "either text, or title"),
    ({"id": 1, "text": " "}, "blank"),
    ({"id": 1, "title": " "}, "blank"),
    ({"id": 1, "text": "a\x00b"}, "NUL"),
    ({"id": "a\x00b", "text": "x"}, "NUL"),
    ({"id": 1, "text": "x", "details": {"title": "a\x00b"}}, "NUL"),
    ({"id": 1, "text": "x", "details": {"a\x00": 1}}, "NUL"),
    ({"id": " ", "text": "x"}, "blank"),
    ({"id": 2**63, "text": "x"}, "less than or equal"),
    ({"id": 1.5, "text": "x"}, "integer"),
    ({"id": True, "text": "x"}, "integer"),
    ({"text": "x"}, "Field required"),
    ({"id": 1, "text": 5}, "string"),
    ({"id": 1, "text": "x", "created": "1/5/2022"}, "the day or the month first"),
    ({"id": 1, "text": "x", "created": -99999999999}, "the years 1 to 9999"),
    ({"id": 1, "text": "x", "reach": 0}, "greater than 0"),
    ({"id": 1, "text": "x", "views": 3}, "Extra inputs"),
    ("x", "valid dictionary"),
)


@pytest.mark.parametrize(("row", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_row_is_named_and_nothing_is_stored(call: Call, row: Any, message: str) -> None:
    good = {"id": "good", "text": "Who?"}
    found = put(call, good, row, status=422)
    assert found["errors"][0]["at"].startswith("body/questions/1")
    assert message in " ".join(error["message"] for error in found["errors"])
    assert "skip_bad" in found["hint"]
    call("GET", "/v1/questions/good", status=404)
    left = put(call, good, row, query="decide=false&skip_bad=true")
    assert left["added"] == 1
    assert left["skipped"] == found["errors"]


@pytest.mark.parametrize("id_", ["a/b", "//", "a?b#c&d=e", "%2", "..", "t:x", "i:x", "ä\n", "a\nb", " x ", "+", "7.0"])
def test_any_character_may_stand_in_an_id(call: Call, client: TestClient, id_: str) -> None:
    put(call, {"id": id_, "text": "Who?"}, {"id": "other", "text": "Who is it?"})
    quoted = "t%3A" + "".join(f"%{byte:02X}" for byte in id_.encode())
    assert call("GET", f"/v1/questions/{quoted}")["id"] == id_
    assert call("GET", f"/v1/groups/{quoted}")["canonical"] == id_
    assert call("GET", "/v1/pairs", params={"id1": f"t:{id_}", "id2": "other"})["question1"]["id"] == id_
    call("DELETE", f"/v1/questions/{quoted}", status=204)
    call("DELETE", f"/v1/questions/{quoted}", status=404)


def test_a_number_and_a_text_that_look_alike_must_be_told_apart(call: Call, service: Service) -> None:
    put(call, {"id": 7, "text": "Who?"}, {"id": "7", "text": "What?"}, {"id": 8, "text": "Where?"})
    found = call("GET", "/v1/questions/7", status=409)
    assert "i:7" in found["hint"]
    assert call("GET", "/v1/questions/8")["id"] == 8
    call("DELETE", "/v1/questions/i:7", status=204)
    assert call("GET", "/v1/questions/7")["id"] == "7"
    put(call, {"id": 7, "text": "Who?"})
    with pytest.raises(ProblemError):
        path_id("7", service.index)


def test_an_id_that_is_not_stored_is_a_number_where_all_are(pipeline: DuplicatePipeline, tmp_path: Any) -> None:
    with QuestionIndex(tmp_path / "numbers.db", pipeline) as index:
        assert path_id("7", index) == "7"
        index.add([1], ["Who?"])
        assert path_id("7", index) == 7
        assert path_id("07", index) == "07"
        assert path_id("9" * 30, index) == "9" * 30


def test_new_questions_are_decided_by_a_job(call: Call, service: Service) -> None:
    rows = [{"id": id_, "text": text} for id_, text in QUESTIONS.items()]
    put(call, *rows, query="decide=true")
    with service.store.reading() as view:
        jobs = view.session.run("SELECT kind FROM service_jobs")
    assert ("decide",) in jobs
