"""The list of pairs with its filters, and verdicts in bulk."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from dupq.service.pages.filters import Filters
from dupq.service.pages.queue import MAX_PLACE, pairs_at, progress
from dupq.service.state import Service
from tests.service.demo import ROWS
from tests.service.pages.test_review import Browser, browse, forum  # noqa: F401 - fixtures

CATEGORIES = {row[0]: row[1] for row in ROWS}
TEXTS = {row[0]: f"{row[5]} {row[6]}" for row in ROWS}
TAGS = {row[0]: row[2].split() for row in ROWS}


def found(service: Service, query: dict[str, str]) -> list[tuple[int, int]]:
    items = pairs_at(service, Filters.of(query), "Anna", 0, MAX_PLACE)
    return [(int(item.question.id), int(item.other.id)) for item in items]


def test_each_filter_keeps_its_pairs_alone(forum: Service) -> None:  # noqa: F811
    everything = found(forum, {})
    assert len(everything) > 50
    decisions = {(d.id, d.other): d for d in forum.index.decisions()}
    expected = {
        "category=home": [pair for pair in everything if "home" in {CATEGORIES[id_] for id_ in pair}],
        "tag=git": [pair for pair in everything if "git" in TAGS[pair[0]] + TAGS[pair[1]]],
        "decision=duplicate": [pair for pair in everything if decisions[pair].decision == "duplicate"],
        "text=git": [pair for pair in everything if any("git" in f"{TEXTS[id_]}".lower() for id_ in pair)],
        "low=0.9": [pair for pair in everything if decisions[pair].probability >= 0.9],
        "high=0.6": [pair for pair in everything if decisions[pair].probability <= 0.6],
    }
    for query, pairs in expected.items():
        name, value = query.split("=")
        assert 0 < len(pairs) < len(everything), query
        assert sorted(found(forum, {name: value})) == sorted(pairs), query
    assert {frozenset(pair) for pair in found(forum, {"conflict": "number", "text": "istanbul", "low": "0.9"})} >= {
        frozenset((301, 302))
    }
    assert (301, 303) not in found(forum, {"conflict": "number"})
    assert all(
        "merino" in " ".join(row[6] for row in ROWS if row[0] in pair) for pair in found(forum, {"text": "MERINO"})
    )
    assert found(forum, {"text": "no such words"}) == []
    assert found(forum, {"text": "100%_!"}) == []
    assert (301, 302) in found(forum, {"text": "istanbul bags"})  # words of either question


@pytest.mark.parametrize("text", ["Straße", "STRASSE", "stras", "se heiss", "name der straße"])
def test_words_with_a_sharp_s_are_found(forum: Service, text: str) -> None:  # noqa: F811
    forum.index.add([901, 902], ["Wie heißt die Straße?", "Name der Straße, wie heißt sie?"])
    forum.index.flag_stored([901])
    assert (901, 902) in found(forum, {"text": text})


def test_filters_stay_while_one_works_through_pairs(
    forum: Service,  # noqa: F811
    browse: Callable[..., Browser],  # noqa: F811
) -> None:
    anna = browse()
    page = anna.get("/review/list?tag=git&low=0.6")
    assert 'href="/review?tag=git&amp;low=0.6"' in page
    anna.get("/review?tag=git&low=0.6")
    for _ in range(3):
        ids = [anna.form("/review/verdict")[name] for name in ("id1", "id2")]
        assert "git" in [tag for id_ in ids for tag in TAGS[int(str(id_)[2:])]]
        page = anna.answer("distinct")
        assert "tag=git" in anna.url
        assert "low=0.6" in anna.url
    assert 'class="chip"' in page
    assert "/review?tag=git&amp;low=0.6&amp;at=1" in page


def test_mine(forum: Service, browse: Callable[..., Browser]) -> None:  # noqa: F811
    anna, ben = browse("Anna"), browse("Ben")
    for who in (anna, ben):
        who.get("/review")
        who.answer("distinct")
    assert len(found(forum, {"show": "mine"})) == 1
    page = anna.get("/review/list?show=mine")
    assert "<bdi>Anna</bdi>" in page
    assert "<bdi>Ben</bdi>" not in page


def test_a_list_is_paged_and_bad_values_count_as_missing(
    forum: Service,  # noqa: F811
    browse: Callable[..., Browser],  # noqa: F811
) -> None:
    anna = browse()
    first = anna.get("/review/list")
    assert first.count("<tr>") == 26
    assert 'rel="next" href="/review/list?page=2"' in first
    second = anna.get("/review/list?page=2")
    assert 'rel="prev"' in second
    for query in ("page=x", "page=-1", "low=nan", "low=9", "show=all", "decision=maybe", "at=x", "text=%00"):
        anna.get(f"/review/list?{query}")
        assert anna.status == 200, query
        anna.get(f"/review?{query}")
        assert anna.status == 200, query


def test_progress_counts_what_stands(forum: Service, browse: Callable[..., Browser]) -> None:  # noqa: F811
    before = progress(forum, "Anna")
    assert before.left == before.judged
    anna, ben = browse("Anna"), browse("Ben")
    for who in (anna, anna, ben):
        who.get("/review")
        who.answer("duplicate")
    after = progress(forum, "Anna")
    assert (before.left - after.left, after.mine, after.all) == (3, 2, 3)
    anna.get("/review")
    anna.undo()
    assert progress(forum, "Anna").mine == 1


# ---- bulk -----------------------------------------------------------------------------------------------------------


def test_bulk_leaves_out_a_pair_whose_text_was_edited(
    forum: Service,  # noqa: F811
    browse: Callable[..., Browser],  # noqa: F811
) -> None:
    anna = browse()
    anna.get("/review/bulk?bound=0.97")
    rows = _rows(anna)[:1]
    anna.post("/review/bulk/confirm", {"csrf": anna.form("/review/bulk/confirm")["csrf"], "row": rows, "bound": "0.97"})
    id_ = int(re.findall(r'"id1": "i:(\d+)"', rows[0])[0])
    forum.index.add([id_], [forum.index.questions([id_])[id_].text + " Edited."])
    page = anna.post("/review/bulk", {**anna.form("/review/bulk"), "row": rows})
    assert anna.status == 409
    assert "One of the texts was edited since." in page
    assert not forum.index.history()


def test_bulk_records_each_row_and_reports_conflicts(
    forum: Service,  # noqa: F811
    browse: Callable[..., Browser],  # noqa: F811
) -> None:
    anna = browse()
    anna.get("/review/bulk?bound=0.97")
    rows = _rows(anna)
    assert len(rows) > 3
    csrf = anna.form("/review/bulk/confirm")["csrf"]
    page = anna.post("/review/bulk/confirm", {"csrf": csrf, "row": rows[:3], "bound": "0.97"})
    assert "Record 3 pairs as duplicates?" in page
    assert not forum.index.history()
    confirmed = {**anna.form("/review/bulk"), "row": rows[:3], "note": "all the same"}
    # Meanwhile another moderator judges the first of them.
    item = pairs_at(forum, Filters(low=0.97), "Ben", 0, 50)
    first = next(i for i in item if f'"id1": "i:{i.question.id}", "id2": "i:{i.other.id}"' in rows[0])
    forum.index.verdict(first.question.id, first.other.id, "distinct", by="Ben")
    page = anna.post("/review/bulk", confirmed)
    assert anna.status == 200
    assert "2 recorded, 1 not" in page
    assert "Ben said distinct." in page
    assert [(row.by, row.answer, row.note) for row in forum.index.history()[1:]] == [
        ("Anna", "duplicate", "all the same")
    ] * 2
    # The same form again is no further verdict, and all can be taken back.
    anna.post("/review/bulk", confirmed)
    assert len(forum.index.history()) == 3
    numbers = re.findall(r'name="number" value="(\d+)"', anna.text)
    anna.post("/review/bulk/undo", {**anna.form("/review/bulk/undo"), "number": numbers})
    assert anna.status == 200
    assert [row.undoes for row in forum.index.history()[3:]] == [2, 3]


@pytest.mark.parametrize("row", ["", "{", "[]", '{"id1": 3}', '{"id1":"i:1","id2":"i:2","expected":0}'])
def test_a_damaged_row_is_left_out(
    forum: Service,  # noqa: F811
    browse: Callable[..., Browser],  # noqa: F811
    row: str,
) -> None:
    anna = browse()
    anna.get("/review")
    anna.post("/review/bulk", {"csrf": anna.form("/review/verdict")["csrf"], "row": row})
    assert anna.status == 200
    assert not forum.index.history()


def test_bulk_is_for_those_who_may_review(
    forum: Service,  # noqa: F811
    browse: Callable[..., Browser],  # noqa: F811
    client: TestClient,
) -> None:
    rita = browse("Rita", "reader")
    rita.get("/review/bulk")
    assert rita.status == 403


def _rows(browser: Browser) -> list[str]:
    return [html.unescape(value) for value in re.findall(r'name="row" id="row-\d+" value="([^"]*)"', browser.text)]
