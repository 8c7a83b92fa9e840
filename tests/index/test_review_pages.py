from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dupq.errors import InputError
from dupq.index.question_index import QuestionIndex
from dupq.index.review import ReviewItem
from dupq.pipeline import DuplicatePipeline
from tests.index.stored import IDS, TEXTS


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def judged(request: pytest.FixtureRequest, tmp_path: Path, pipeline: DuplicatePipeline) -> Iterator[QuestionIndex]:
    at = str(request.getfixturevalue("postgres_url")) if request.param == "postgres" else tmp_path / "forum.db"
    with QuestionIndex(at, pipeline) as index:
        index.add(IDS, TEXTS)
        index.flag_stored(IDS)
        yield index


def pair(item: ReviewItem) -> frozenset[Any]:
    return frozenset((item.question.id, item.other.id))


def all_pages(index: QuestionIndex, limit: int, between: Any = None, **options: Any) -> list[ReviewItem]:
    items: list[ReviewItem] = []
    after: str | None = None
    while True:
        page = index.review_page(limit, after=after, **options)
        items += page.items
        if between is not None:
            between(page)
        if page.after is None:
            return items
        after = page.after


@pytest.mark.parametrize("limit", [1, 3, 7])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_pages_of_the_queue_are_the_queue(judged: QuestionIndex, limit: int, share: float) -> None:
    whole = judged.review_queue(1000, audit_share=share)
    pages = all_pages(judged, limit, audit_share=share)
    assert [(pair(item), item.chosen) for item in pages] == [(pair(item), item.chosen) for item in whole]
    assert len({pair(item) for item in pages}) == len(judged.decisions())


def test_verdicts_between_two_pages_repeat_no_pair_and_lose_none(judged: QuestionIndex) -> None:
    def answer(page: Any) -> None:
        for item in list(page.items)[::2]:
            judged.verdict(item.question.id, item.other.id, "distinct", by="ann")

    pages = [pair(item) for item in all_pages(judged, 4, answer)]
    assert len(pages) == len(set(pages)) == len(judged.decisions())


def test_a_page_takes_the_filters_of_the_queue(judged: QuestionIndex) -> None:
    middle = sorted(row.probability for row in judged.decisions())[len(judged.decisions()) // 2]
    for options in ({"max_probability": middle}, {"min_probability": middle}, {"decision": "distinct"}):
        pages = all_pages(judged, 3, **options)
        assert {pair(item) for item in pages} == {pair(item) for item in judged.review_queue(1000, **options)}


def test_contested_pairs_come_a_page_at_a_time(judged: QuestionIndex) -> None:
    pairs = judged.review_queue(5)
    for item in pairs:
        judged.verdict(item.question.id, item.other.id, "duplicate", by="ann")
        judged.verdict(item.question.id, item.other.id, "distinct", by="bob")
    pages = all_pages(judged, 2, source="contested")
    assert [pair(item) for item in pages] == [pair(item) for item in pairs]
    assert [verdict.by for verdict in pages[0].opinions] == ["ann", "bob"]
    assert all_pages(judged, 2, source="contested", by="ann") == []


def test_the_pairs_of_a_moderator_come_last_one_first(judged: QuestionIndex) -> None:
    pairs = [pair(item) for item in judged.review_queue(5)]
    for one, other in pairs:
        judged.verdict(one, other, "distinct", by="ann")
    judged.verdict(*pairs[0], "duplicate", by="ann")  # it replaces the first
    judged.undo(by="ann")  # and stands no more
    judged.verdict(*pairs[1], "duplicate", by="bob")
    pages = all_pages(judged, 2, source="answered", by="ann")
    assert [pair(item) for item in pages] == pairs[::-1]
    assert {verdict.by for verdict in pages[3].opinions} == {"ann", "bob"}
    assert [pair(item) for item in all_pages(judged, 2, source="answered", by="bob")] == [pairs[1]]


@pytest.mark.parametrize(
    "options",
    [
        {"after": "nonsense"},
        {"after": "é"},
        {"after": "WyJuIiwgNV0"},  # a place of another source
        {"after": "WyJxIiwgMSwgIngiLCB7fV0"},
        {"source": "all"},
        {"source": "answered"},
        {"limit": 0},
        {"min_probability": 0.5, "max_probability": 0.4},
    ],
)
def test_a_bad_argument_is_refused(judged: QuestionIndex, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        judged.review_page(**options)


def test_the_history_comes_a_page_at_a_time(judged: QuestionIndex) -> None:
    for one, other in (pair(item) for item in judged.review_queue(5)):
        judged.verdict(one, other, "distinct", by="ann")
    rows = judged.history()
    assert judged.history(limit=2) == rows[:2:-1]
    assert judged.history(limit=2, before=4) == rows[2:0:-1]
    assert judged.history(limit=10, before=1) == []
    first = rows[0]
    assert judged.history(first.id, limit=10) == judged.history(first.id)[::-1]
    with pytest.raises(InputError, match="no question has the id"):
        judged.history("nothing", limit=3)
