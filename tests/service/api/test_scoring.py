from __future__ import annotations

import pytest

from dupq.pipeline import DuplicatePipeline
from dupq.service.state import Service
from tests.service.api.conftest import QUESTIONS, Call

DECIDED = {"probability", "decision", "threshold", "guarantee", "base_rate", "model", "warnings"}


def test_a_score_has_all_that_is_needed_to_rely_on_it(call: Call, pipeline: DuplicatePipeline) -> None:
    pairs = [[QUESTIONS["a"], QUESTIONS["b"]], {"question1": QUESTIONS["a"], "question2": QUESTIONS["d"]}]
    found = call("POST", "/v1/score", {"pairs": pairs}, role="reader")
    for row, pair in zip(found, [pairs[0], list(pairs[1].values())], strict=True):  # type: ignore[attr-defined]
        expected = pipeline.score(*pair)
        assert set(row) == {*DECIDED, "score"}
        assert row["probability"] == pytest.approx(expected.probability)
        assert (row["score"], row["decision"]) == (pytest.approx(expected.score), str(expected.decision))
        assert (row["threshold"], row["base_rate"]) == (expected.threshold, expected.base_rate)
        assert (row["guarantee"], row["model"]) == (pipeline.guarantee, pipeline.fingerprint)


def test_a_large_batch_is_split_and_keeps_its_order(call: Call, service: Service) -> None:
    texts = list(QUESTIONS.values())
    pairs = [
        [texts[number % 6], f"How can I learn number {number}?"] for number in range(3 * service.settings.batch + 1)
    ]
    found = call("POST", "/v1/score", {"pairs": pairs})
    assert [row["score"] for row in found] == pytest.approx(
        service.pipeline.raw_scores(*zip(*pairs, strict=True)).tolist()
    )
    assert call("POST", "/v1/score", {"pairs": []}) == []


def test_a_bad_pair_is_named(call: Call) -> None:
    found = call("POST", "/v1/score", {"pairs": [["a", "b"], ["a", " "]]}, status=422)
    assert any(error["at"].startswith("body/pairs/1/") and "blank" in error["message"] for error in found["errors"])


def test_an_explanation_carries_the_score(call: Call, pipeline: DuplicatePipeline) -> None:
    found = call("POST", "/v1/explain", {"question1": QUESTIONS["e"], "question2": QUESTIONS["f"]})
    assert [conflict["kind"] for conflict in found["conflicts"]] == ["number"]
    assert found["matches"] == pipeline.explain(QUESTIONS["e"], QUESTIONS["f"]).to_dict()["matches"]
    assert set(found["result"]) == {*DECIDED, "score"}


def test_flags_of_new_and_stored_questions(filled: Call, service: Service) -> None:
    one = filled("POST", "/v1/flag", {"question": QUESTIONS["a"], "k": 2}, role="reader")
    assert [row["question"] for row in one] == [QUESTIONS["a"]]
    assert [flag["id"] for flag in one[0]["flags"]] == [
        flag.id for flag in service.index.flag(QUESTIONS["a"], k=2).flags
    ]
    assert one[0]["flags"][0]["copy"] is True
    assert set(one[0]["flags"][0]) >= DECIDED
    many = filled("POST", "/v1/flag", {"questions": list(QUESTIONS.values()), "k": 3})
    assert [row["question"] for row in many] == list(QUESTIONS.values())
    stored = filled("POST", "/v1/flag", {"ids": ["d", "a"], "k": 3})
    expected = service.index.flag_stored(["d", "a"], k=3)
    for row, report, id_ in zip(stored, expected, ["d", "a"], strict=True):
        assert row["id"] == id_
        assert [flag["id"] for flag in row["flags"]] == [flag.id for flag in report.flags]
    close = filled("POST", "/v1/flag", {"ids": ["d"], "min_cosine": 0.99})
    assert close[0]["flags"] == []


def test_flags_are_stored_on_request_by_those_who_may_write(filled: Call, service: Service) -> None:
    filled("PUT", "/v1/questions?decide=false", {"questions": [{"id": "g", "text": "How can I learn chess soon?"}]})
    filled("POST", "/v1/flag", {"ids": ["g"]}, role="bot")
    assert service.index.decisions_of("g") == []
    filled("POST", "/v1/flag", {"ids": ["g"], "decide": True}, role="reader", status=403)
    filled("POST", "/v1/flag", {"ids": ["g"], "decide": True}, role="bot")
    assert service.index.decisions_of("g")
    assert "no question has the id 'h'" in filled("POST", "/v1/flag", {"ids": ["h"]}, status=404)["detail"]
    for body in (
        {},
        {"question": "x", "ids": ["a"]},
        {"question": "x", "decide": True},
        {"question": "x", "k": 0},
        {"question": "x", "k": 101},
    ):
        filled("POST", "/v1/flag", body, status=422)
