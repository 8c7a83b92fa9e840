"""Groups over HTTP: the list, one group, merging, unmerging and the canonical question."""

from __future__ import annotations

import html
from collections.abc import Callable

import pytest

from dupq.service.pages.folding import fold_numbers, fold_pairs, fold_texts
from dupq.service.state import Service
from tests.service.pages.person import Person

LogIn = Callable[..., Person]
SCRIPT = 'How do I escape <script>alert(1)</script> & "quotes" in a page?'


@pytest.fixture
def forum(service: Service) -> Service:
    """Two groups: 1, 2, 3 by verdicts and "a", "b" by a merge; 4 and 7 of their own."""
    texts = {
        1: SCRIPT,
        2: "How can I escape HTML in a page?",
        3: "Escape HTML in pages: how?",
        4: "How do I bake bread?",
        "a": "Which tea is best?",
        "b": "What is the best tea?",
        7: "Where do cranes sleep?",
    }
    service.index.add(
        list(texts),
        list(texts.values()),
        created=[f"2024-0{month}-01" for month in range(1, 8)],
        details=[{"title": t} for t in texts.values()],
    )
    service.index.decide()
    service.index.verdict(1, 2, "duplicate", by="Ann", note="Clear: <b>same</b>.")
    service.index.verdict(2, 3, "duplicate", by="Björn")
    service.index.verdict(1, 3, "distinct", by="Carla")
    service.index.merge("a", "b", by="Dora", note="Tea.")
    return service


# ---- the list -------------------------------------------------------------------------------------------------------


def test_an_empty_index_has_a_page_that_leads_on(log_in: LogIn) -> None:
    page = log_in("reader").get("/groups")
    assert "No group yet" in page
    assert 'href="/review"' in page


def test_groups_are_listed_largest_first_and_escaped(forum: Service, log_in: LogIn) -> None:
    page = log_in("reader").get("/groups")
    assert "<script>alert" not in page
    assert html.escape("<script>alert(1)</script>") in page
    assert page.index("3 questions") < page.index("2 questions")
    assert "1 disputed" in page
    assert "2 groups, by verdicts and merges" in page


@pytest.mark.parametrize(("query", "found"), [("BEST tea", True), ("b", True), ("escape tea", False), ("i:2", True)])
def test_groups_are_found_by_words_and_ids(forum: Service, log_in: LogIn, query: str, found: bool) -> None:
    person = log_in("reader")
    page = person.get(f"/groups?q={query}")
    assert ("1 of 2 groups" in page) == found
    assert ("No group fits" in page) != found


def test_groups_with_disputed_pairs_and_with_weak_links_come_first_on_request(forum: Service, log_in: LogIn) -> None:
    person = log_in("reader")
    disputed = person.get("/groups?order=disputed")
    assert "1 of 2" in disputed
    assert "tea" not in disputed
    weakest = person.get("/groups?order=weakest")
    assert weakest.index("escape") < weakest.index("tea")


def test_groups_are_shown_in_pages(service: Service, log_in: LogIn) -> None:
    words = [f"animal{letter}" for letter in "abcdefghijklmnopqrstuv"]  # numbers would be folded
    texts = [f"{ask} {word} {word}?" for word in words for ask in ("Feed", "What eats")]
    service.index.add(range(len(texts)), texts)
    for place in range(0, len(texts), 2):
        service.index.merge(place, place + 1, by="Ann")
    person = log_in("reader")
    first = person.get("/groups")
    assert "Page 1 of 2" in first
    assert 'rel="next"' in first
    assert 'rel="prev"' not in first
    last = person.get("/groups?page=99")  # a page that is no more
    assert "Page 2 of 2" in last
    assert last.count('class="title"') == 2


def test_groups_of_a_template_are_one_line(service: Service, log_in: LogIn) -> None:
    texts = [f"Weekly thread {number}: what did you read?" for number in range(8)]
    service.index.add(range(9), [*texts, "Which book is this?"])
    for one in range(0, 8, 2):
        service.index.merge(one, one + 1, by="Ann")
    page = log_in("reader").get("/groups")
    assert "4 groups" in page
    assert "weekly thread #" in page


# ---- one group ------------------------------------------------------------------------------------------------------


def test_a_group_shows_members_links_the_weakest_and_the_history(forum: Service, log_in: LogIn) -> None:
    page = log_in("reader").get("/groups/show?id=2")
    assert "<script>alert" not in page
    assert "<b>same</b>" not in page
    for text in (
        "canonical",
        "weakest link",
        "by <bdi>Ann</bdi>",
        "by <bdi>Björn</bdi>",
        "Clear:",
        "History",
        "distinct",
    ):
        assert text in page, text
    assert page.count("weakest link") == 1
    assert "Make canonical" not in page  # a reader changes nothing
    assert "/groups/merge" not in page


def test_a_question_without_duplicates_has_a_page(forum: Service, log_in: LogIn) -> None:
    page = log_in("moderator").get("/groups/show?id=4")
    assert "no duplicates" in page
    assert "Merge another question in" in page


def test_an_id_that_is_not_stored_is_not_found(forum: Service, log_in: LogIn) -> None:
    person = log_in("reader")
    person.get("/groups/show?id=nothing")
    assert person.status == 404


def test_a_moderator_finds_and_merges_a_question_and_takes_it_back(forum: Service, log_in: LogIn) -> None:
    person = log_in("moderator")
    for words in ("bake bread", "i:4"):
        assert "How do I bake bread?" in person.get(f"/groups/show?id=1&find={words}")
    page = person.send("/groups/merge", -1, note="Bread <i>too</i>.", duplicate="i:4")
    assert "Merged." in page
    assert "merge 2 by <bdi>Ada</bdi>" in page
    assert "<i>too</i>" not in page
    group = forum.index.group(4)
    assert group is not None
    assert set(group.members) == {1, 2, 3, 4}
    page = person.send("/groups/unmerge", note="A slip.")
    assert "The merge was taken back" in page
    assert forum.index.group(4) is None
    history = person.get("/groups/show?id=1")
    assert "took merge 2 back" in history
    assert "A slip." in history


def test_a_form_that_is_sent_twice_is_one_merge(forum: Service, log_in: LogIn) -> None:
    person = log_in("moderator")
    person.get("/groups/show?id=1&find=bake bread")
    form = {**person.forms("/groups/merge")[-1], "duplicate": "i:4"}
    person.post("/groups/merge", form)
    person.post("/groups/merge", form)
    # The same page, gone back to, merges another question too.
    person.post("/groups/merge", {**form, "duplicate": "i:7"})
    group = forum.index.group(1)
    assert group is not None
    assert len(group.merges) == 2
    assert {4, 7} <= set(group.members)


def test_another_question_becomes_canonical(forum: Service, log_in: LogIn) -> None:
    person = log_in("moderator")
    person.get("/groups/show?id=1")
    forms = [form for form in person.forms("/groups/merge") if form.get("canonical") == "i:3"]
    page = person.post("/groups/merge", forms[0])
    assert "The canonical question is set." in page
    group = forum.index.group(1)
    assert group is not None
    assert group.canonical == 3


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"duplicate": "i:1"}, "The two ids must differ"),
        ({"duplicate": "nothing"}, "No question has the id"),
        ({"duplicate": "i:4", "note": "a\x00b"}, "NUL"),
    ],
)
def test_a_bad_merge_is_explained_on_the_page(
    forum: Service, log_in: LogIn, fields: dict[str, str], problem: str
) -> None:
    person = log_in("moderator")
    person.get("/groups/show?id=1&find=bread")
    page = person.post("/groups/merge", {**person.forms("/groups/merge")[-1], **fields})
    assert person.status == 409
    assert problem in html.unescape(page)
    assert 'role="alert"' in page


def test_a_merge_that_was_taken_back_already_is_explained(forum: Service, log_in: LogIn) -> None:
    person = log_in("moderator")
    person.get("/groups/show?id=a")
    form = person.forms("/groups/unmerge")[0]
    forum.index.unmerge(1, by="Dora")
    page = person.post("/groups/unmerge", form)
    assert person.status == 409
    assert "was taken back already" in page


def test_members_and_links_of_a_template_are_folded(service: Service, log_in: LogIn) -> None:
    texts = [f"What did you make this week? Week {number}" for number in range(1, 9)]
    service.index.add(range(9), [*texts, "Show what you made"])
    for number in range(1, 8):
        service.index.verdict(0, number, "duplicate", by="Ann")
    service.index.merge(0, 8, by="Ann")
    page = log_in("reader").get("/groups/show?id=0")
    assert "7 questions" in page
    assert "7 links" in page
    assert "week week #" in page


def test_changes_need_the_role_and_the_secret_of_the_page(forum: Service, log_in: LogIn) -> None:
    reader, moderator = log_in("reader", "Rita"), log_in("moderator", "Moe")
    moderator.get("/groups/show?id=a")
    fields = {"canonical": "i:1", "duplicate": "i:4", "key": "x" * 16, "id": "a", "number": "1"}
    for path in ("/groups/merge", "/groups/unmerge"):
        moderator.post(path, fields)
        assert moderator.status == 403, path
        moderator.post(path, {**fields, "csrf": "wrong"})
        assert moderator.status == 403, path
        reader.post(
            path, {**fields, "csrf": moderator.forms("/logout")[0]["csrf"] if moderator.forms("/logout") else ""}
        )
        assert reader.status == 403, path
    assert forum.index.group(4) is None
    assert forum.index.group("a") is not None


# ---- folds ----------------------------------------------------------------------------------------------------------


def test_texts_that_differ_in_a_name_or_number_are_folded() -> None:
    texts = ["What is the weather in Oslo today?", "How do I bake bread?"]
    texts += [f"What is the weather in {town} today?" for town in ("Rome", "Lima", "Cairo")]
    folds = fold_texts(texts)
    assert [fold.places for fold in folds] == [(0, 2, 3, 4), (1,)]
    assert folds[0].pattern == "what is the weather in … today"
    assert [fold.places for fold in fold_texts(texts[:4])] == [(0,), (1,), (2,), (3,)]  # too few


def test_folds_keep_every_row_once() -> None:
    texts = [f"Thread {n // 3} for {n}" for n in range(30)] + ["", "Alone here", "Thread"]
    for folds in (fold_texts(texts), fold_numbers(texts), fold_pairs([(text, texts[0]) for text in texts])):
        assert sorted(place for fold in folds for place in fold.places) == list(range(len(texts)))
        assert [fold.places[0] for fold in folds] == sorted(fold.places[0] for fold in folds)
