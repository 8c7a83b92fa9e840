from __future__ import annotations

from tests.service.api.conftest import QUESTIONS, Call


def test_a_group_has_its_links_and_the_weakest(filled: Call) -> None:
    for one, other in (("a", "b"), ("b", "c")):
        filled("POST", "/v1/verdicts", {"id1": one, "id2": other, "answer": "duplicate"})
    found = filled("GET", "/v1/groups/c", role="reader")
    assert (found["canonical"], found["members"]) == ("a", ["a", "b", "c"])
    assert [(link["id1"], link["id2"]) for link in found["links"]] == [("a", "b"), ("b", "c")]
    assert found["weakest"]["probability"] == min(link["probability"] for link in found["links"])
    assert [question["text"] for question in found["questions"]] == [QUESTIONS[id_] for id_ in "abc"]
    alone = filled("GET", "/v1/groups/d")
    assert (alone["members"], alone["links"], alone["weakest"]) == (["d"], [], None)
    filled("GET", "/v1/groups/nothing", status=404)


def test_groups_come_a_page_at_a_time(filled: Call) -> None:
    for one, other in (("a", "b"), ("b", "c"), ("e", "f")):
        filled("POST", "/v1/verdicts", {"id1": one, "id2": other, "answer": "duplicate"})
    first = filled("GET", "/v1/groups?limit=1")
    assert (first["total"], [group["members"] for group in first["groups"]]) == (2, [["a", "b", "c"]])
    second = filled("GET", f"/v1/groups?limit=1&cursor={first['cursor']}")
    assert ([group["members"] for group in second["groups"]], second["cursor"]) == ([["e", "f"]], None)


def test_an_unmerge_restores_the_groups(filled: Call) -> None:
    merge = filled("POST", "/v1/merge", {"canonical": "d", "duplicate": "a", "key": "m1"}, role="moderator")
    assert (merge["group"]["canonical"], merge["group"]["merges"]) == ("d", [merge["number"]])
    again = {"canonical": "d", "duplicate": "a", "key": "m1"}
    assert filled("POST", "/v1/merge", again, role="moderator") == merge
    assert "was used" in filled("POST", "/v1/merge", again | {"duplicate": "b"}, role="moderator", status=422)["detail"]
    filled("POST", "/v1/unmerge", {"number": merge["number"]}, role="moderator")
    assert filled("GET", "/v1/groups")["groups"] == []
    assert "taken back already" in filled("POST", "/v1/unmerge", {"number": merge["number"]}, status=422)["detail"]
    filled("POST", "/v1/merge", {"canonical": "d", "duplicate": "nothing"}, status=422)
    filled("POST", "/v1/merge", {"canonical": "d", "duplicate": "a"}, role="reader", status=403)
