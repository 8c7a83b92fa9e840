from __future__ import annotations

from typing import Any

import pytest

from dupq.index.verdicts import merge_key
from dupq.service.review_list import ReviewFilters, filtered_page
from dupq.service.state import Service
from tests.service.api.conftest import QUESTIONS, Call


def pairs(found: dict[str, Any]) -> list[set[str]]:
    return [{item["question1"]["id"], item["question2"]["id"]} for item in found["items"]]


def answered(item: dict[str, Any], answer: str = "distinct") -> dict[str, Any]:
    return {
        "id1": item["question1"]["id"],
        "id2": item["question2"]["id"],
        "answer": answer,
        "chosen": item["chosen"],
        "sampled": item["sampled"],
        "expected": item["last"],
    }


def test_the_pages_are_the_queue(filled: Call, service: Service) -> None:
    whole = filled("GET", "/v1/review?limit=100", role="reader")
    queue = service.index.review_queue(100)
    assert pairs(whole) == [{item.question.id, item.other.id} for item in queue]
    seen, cursor = [], ""
    while cursor is not None:
        page = filled("GET", "/v1/review", params={"limit": 4, **({"cursor": cursor} if cursor else {})})
        seen += pairs(page)
        cursor = page["cursor"]
    assert seen == pairs(whole)
    item = whole["items"][0]
    assert item["question1"]["text"] == QUESTIONS[item["question1"]["id"]]
    assert item["question1"]["details"]["tags"][0] == "chess"
    assert {"probability", "decision", "threshold", "guarantee", "base_rate", "model"} <= set(item["decision"])


def test_the_filters(filled: Call) -> None:
    def found(query: str) -> list[set[str]]:
        return pairs(filled("GET", f"/v1/review?limit=100&{query}"))

    everything = found("")
    assert found("tag=A") == [pair for pair in everything if "a" in pair]
    assert found("category=Money") == [pair for pair in everything if pair & {"d", "e", "f"}]
    assert found("search=board 2020") == [pair for pair in everything if "e" in pair]
    assert found("conflict=number") == [{"e", "f"}]
    items = filled("GET", "/v1/review?limit=100&decision=duplicate")["items"]
    assert items
    assert {item["decision"]["decision"] for item in items} == {"duplicate"}
    items = filled("GET", "/v1/review?limit=100&min_probability=0.2&max_probability=0.9")["items"]
    assert all(0.2 <= item["decision"]["probability"] <= 0.9 for item in items)
    assert found("tag=nothing") == []
    filled("GET", "/v1/review?min_probability=0.5&max_probability=0.2", status=422)
    filled("GET", "/v1/review?contested=true&mine=true", status=422)
    filled("GET", "/v1/review?cursor=x", status=422)


def test_a_filter_looks_at_some_pairs_a_page_and_goes_on(filled: Call, service: Service) -> None:
    filters = ReviewFilters(search="board")
    expected = [item for item in service.index.review_queue(100) if filters.keep(item)]
    seen: list[Any] = []
    after: str | None = None
    pages = 0
    while True:
        page = filtered_page(service.index, filters, limit=2, after=after, max_scanned=3)
        assert len(page.items) <= 2
        seen += page.items
        pages += 1
        if page.after is None:
            break
        after = page.after
    assert [(item.question.id, item.other.id) for item in seen] == [
        (item.question.id, item.other.id) for item in expected
    ]
    assert pages >= len(expected) / 2


def test_an_audit_pair_is_blind_on_request(filled: Call) -> None:
    items = filled("GET", "/v1/review?limit=100&blind=true")["items"]
    assert {item["chosen"] for item in items} == {"queue", "audit"}
    for item in items:
        assert (item["decision"] is None) == (item["chosen"] == "audit")
    assert all(item["decision"] for item in filled("GET", "/v1/review?limit=100")["items"])


def test_a_verdict_is_in_the_name_of_the_token(filled: Call, service: Service) -> None:
    item = filled("GET", "/v1/review")["items"][0]
    row = filled("POST", "/v1/verdicts", answered(item) | {"note": "other questions"}, role="moderator")
    assert (row["by"], row["answer"], row["note"]) == ("the moderator", "distinct", "other questions")
    assert row["probability"] == item["decision"]["probability"]
    ids = {"id1": item["question1"]["id"], "id2": item["question2"]["id"]}
    pair = filled("GET", "/v1/pairs", params=ids)
    assert (pair["answer"], pair["last"], pair["history"]) == ("distinct", row["number"], [row])
    assert [opinion["by"] for opinion in pair["opinions"]] == ["the moderator"]
    assert pairs(filled("GET", "/v1/review?mine=true", role="moderator")) == [set(ids.values())]
    assert pairs(filled("GET", "/v1/review?mine=true")) == []
    assert pairs(filled("GET", "/v1/review", params={"by": "the moderator"})) == [set(ids.values())]
    for role in ("reader", "bot"):
        filled("POST", "/v1/verdicts", answered(item), role=role, status=403)


def test_the_second_moderator_sees_the_verdict_of_the_first(filled: Call) -> None:
    item = filled("GET", "/v1/review")["items"][0]
    first = filled("POST", "/v1/verdicts", answered(item), role="moderator")
    found = filled("POST", "/v1/verdicts", answered(item, "duplicate"), status=409)
    assert found["rows"] == [first]
    second = filled("POST", "/v1/verdicts", answered(item, "duplicate") | {"expected": first["number"]})
    contested = filled("GET", "/v1/review?contested=true")
    assert [opinion["number"] for opinion in contested["items"][0]["opinions"]] == [first["number"], second["number"]]


def test_a_verdict_names_the_texts_that_were_shown(filled: Call, service: Service) -> None:
    item = filled("GET", "/v1/review")["items"][0]
    ids = {"id1": item["question1"]["id"], "id2": item["question2"]["id"]}
    assert filled("GET", "/v1/pairs", params=ids)["slots"] == item["slots"]
    service.index.add([ids["id2"]], ["Is this another question now?"])
    found = filled("POST", "/v1/verdicts", answered(item) | {"slots": item["slots"]}, status=409)
    assert found["rows"] == []
    slots = filled("GET", "/v1/pairs", params=ids)["slots"]
    assert slots[0] == item["slots"][0]
    filled("POST", "/v1/verdicts", answered(item) | {"slots": slots})
    for bad in ([1], [1, 2, 3], [0, 1], "12", 7):
        filled("POST", "/v1/verdicts", answered(item) | {"slots": bad}, status=422)


def test_a_repeated_request_is_one_verdict(filled: Call) -> None:
    item = filled("GET", "/v1/review")["items"][0]
    row = filled("POST", "/v1/verdicts", answered(item), headers={"Idempotency-Key": "k1"})
    assert filled("POST", "/v1/verdicts", answered(item), headers={"Idempotency-Key": "k1"}) == row
    assert filled("POST", "/v1/verdicts", answered(item) | {"key": "k1"}) == row
    filled("POST", "/v1/verdicts", answered(item) | {"key": "k1"}, headers={"Idempotency-Key": "k2"}, status=422)
    undo = filled("POST", "/v1/undo", {"key": "k3"})
    assert filled("POST", "/v1/undo", {"key": "k3"}) == undo
    assert len(filled("GET", "/v1/history")["rows"]) == 2


def test_undo_goes_back_step_by_step(filled: Call) -> None:
    items = filled("GET", "/v1/review?limit=3")["items"]
    numbers = [filled("POST", "/v1/verdicts", answered(item), role="moderator")["number"] for item in items]
    assert [filled("POST", "/v1/undo", {}, role="moderator")["undoes"] for _ in numbers] == numbers[::-1]
    assert "no verdict to take back" in filled("POST", "/v1/undo", {}, role="moderator", status=422)["detail"]
    row = filled("POST", "/v1/verdicts", answered(items[0]) | {"expected": None}, role="moderator")
    filled("POST", "/v1/undo", {"number": row["number"]}, status=422)
    filled("POST", "/v1/undo", {"number": row["number"], "force": True}, role="moderator", status=403)
    assert filled("POST", "/v1/undo", {"number": row["number"], "force": True})["by"] == "the admin"


def test_undo_takes_back_the_merge_of_the_review_page(filled: Call, service: Service) -> None:
    row = service.index.verdict("a", "b", "duplicate", by="the moderator", key="from-a-form")
    service.index.merge("b", "a", by="the moderator", key=merge_key(row))
    filled("POST", "/v1/undo", {"number": row.number}, role="moderator")
    assert filled("GET", "/v1/groups")["groups"] == []


def test_the_history_comes_last_first(filled: Call) -> None:
    items = filled("GET", "/v1/review?limit=5")["items"]
    rows = [filled("POST", "/v1/verdicts", answered(item)) for item in items][::-1]
    page = filled("GET", "/v1/history?limit=2")
    assert page["rows"] == rows[:2]
    assert filled("GET", f"/v1/history?limit=2&cursor={page['cursor']}")["rows"] == rows[2:4]
    id_ = items[0]["question1"]["id"]
    assert filled("GET", f"/v1/history?id={id_}")["rows"] == [row for row in rows if id_ in (row["id1"], row["id2"])]
    filled("GET", "/v1/history?id=nothing", status=404)


@pytest.mark.parametrize(
    "change", [{"id2": "nothing"}, {"id2": "a"}, {"answer": "undo"}, {"sampled": 0}, {"by": "ann"}]
)
def test_a_bad_verdict_is_refused(filled: Call, change: dict[str, Any]) -> None:
    filled("POST", "/v1/verdicts", {"id1": "a", "id2": "b", "answer": "distinct", **change}, status=422)


def test_events_are_stored_once(filled: Call, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str, Any]] = []
    for module in ("review", "groups"):
        monkeypatch.setattr(
            f"dupq.service.api.{module}.emit", lambda _, event, key, data: sent.append((event, key, data))
        )
    row = filled("POST", "/v1/verdicts", {"id1": "a", "id2": "b", "answer": "duplicate"})
    undo = filled("POST", "/v1/undo", {})
    merge = filled("POST", "/v1/merge", {"canonical": "a", "duplicate": "c"})
    assert [(event, key) for event, key, _ in sent] == [
        ("verdict", f"verdict:{row['number']}"),
        ("verdict", f"verdict:{undo['number']}"),
        ("merged", f"merged:{merge['number']}"),
    ]
    assert sent[0][2] == row
    assert (sent[2][2]["canonical"], sent[2][2]["duplicate"]) == ("a", "c")
