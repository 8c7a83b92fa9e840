"""The review page over HTTP: what it shows, verdicts, conflicts, undo."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from dupq.index.review import ReviewItem
from dupq.service.access import Role
from dupq.service.pages import verdicts
from dupq.service.pages.posts import url_id
from dupq.service.state import Service
from tests.service.demo import seed


class Browser:
    """A client with a session, which fills in forms as a browser would."""

    def __init__(self, service: Service, client: TestClient, name: str, role: Role = "moderator") -> None:
        self.client, self.name = client, name
        secret = service.access.create_token(name, role)
        caller = service.access.caller(secret)
        assert caller is not None
        self.cookie = {"Cookie": f"dupq_session={service.access.start_session(caller)}"}
        self.status, self.text, self.url = 0, "", ""

    def get(self, path: str) -> str:
        return self._show(self.client.get(path, headers=self.cookie, follow_redirects=False))

    def post(self, path: str, fields: dict[str, object]) -> str:
        return self._show(self.client.post(path, data=fields, headers=self.cookie, follow_redirects=False))

    def _show(self, answer: Response) -> str:
        if answer.status_code == 303:
            return self.get(answer.headers["location"])
        self.status, self.text, self.url = answer.status_code, answer.text, str(answer.url)
        return self.text

    def form(self, action: str, number: int = 0) -> dict[str, object]:
        """The fields of a form of the present page, and the controls that belong to it by its id."""
        forms = re.findall(rf'<form([^>]*)action="{action}"([^>]*)>(.*?)</form>', self.text, re.DOTALL)
        attributes, inner = "".join(forms[number][:2]), forms[number][2]
        name = re.search(r'id="(\w+)"', attributes)
        controls = re.findall(r"<input[^>]*>", inner)
        if name is not None:
            controls += re.findall(rf'<input[^>]*form="{name.group(1)}"[^>]*>', self.text)
        fields: dict[str, object] = {}
        for control in controls:
            found = dict(re.findall(r'([\w-]+)="([^"]*)"', control))
            if found.get("type") in ("radio", "checkbox") and " checked" not in control:
                continue
            fields[found["name"]] = html.unescape(found.get("value", ""))
        return fields

    def answer(self, answer: str, **more: object) -> str:
        return self.post("/review/verdict", {**self.form("/review/verdict"), "answer": answer, **more})

    def undo(self) -> str:
        return self.post("/review/undo", self.form("/review/undo", -1))


@pytest.fixture
def browse(service: Service, client: TestClient) -> Callable[..., Browser]:
    """A function that logs someone in."""
    return lambda name="Anna", role="moderator": Browser(service, client, name, role)


@pytest.fixture
def forum(service: Service) -> Service:
    seed(service.index)
    return service


def pair_path(item: ReviewItem) -> str:
    return f"/review/pair?id1={url_id(item.question.id)}&id2={url_id(item.other.id)}"


def add_pair(service: Service, title: str, body: str, other_body: str = "") -> str:
    """Add two questions that are candidates of each other; return the path of their page."""
    service.index.add(
        ["one", "two"],
        ["How do I bake rye bread at home?", "How can I bake rye bread at home?"],
        details=[{"title": title, "body": body}, {"title": "How can I bake rye bread at home?", "body": other_body}],
    )
    service.index.decide()
    return "/review/pair?id1=one&id2=two"


# ---- what is shown --------------------------------------------------------------------------------------------------


def test_the_next_pair_has_both_posts_and_what_dupq_thinks(forum: Service, browse: Callable[..., Browser]) -> None:
    item = forum.index.review_queue(1)[0]
    page = browse().get("/review")
    for question in (item.question, item.other):
        assert question.details is not None
        for word in question.details["title"].replace("?", "").split():
            assert word in page
        assert question.details["tags"][0] in page
        assert html.escape(question.details["url"]) in page
    assert 'role="img" aria-label="Probability of a duplicate' in page
    assert "aria-keyshortcuts" in page
    for letter in "DNSCUJK?":
        assert f'data-key="{letter.lower()}"' in page


def test_no_page_has_inline_style_or_script(forum: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    for path in ("/review", "/review/list", "/review/bulk?bound=0.5", "/review/help", "/preferences"):
        page = anna.get(path)
        assert anna.status == 200, path
        assert "style=" not in page
        assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=", page)


def test_markup_in_a_post_is_text(service: Service, browse: Callable[..., Browser]) -> None:
    path = add_pair(service, "Bake <script>alert(1)</script> bread?", "<img src=x onerror=alert(2)> & <b>bold</b>")
    page = browse().get(path)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(" in page
    assert page.count("<script") == 1


def test_a_link_that_is_none_of_the_web_is_left_out(service: Service, browse: Callable[..., Browser]) -> None:
    path = add_pair(service, "Bread?", "")
    service.index.add(
        ["one"], ["How do I bake rye bread at home?"], details=[{"title": "Bread?", "url": "javascript:alert(1)"}]
    )
    assert "javascript:" not in browse().get(path)


def test_texts_of_any_direction_and_emoji_are_whole(service: Service, browse: Callable[..., Browser]) -> None:
    family = "👩‍👩‍👧"
    path = add_pair(service, f"כיצד אופים לחם {family}?", "كيف أخبز الخبز؟ " + family * 400)
    page = browse().get(path)
    assert family in page
    assert 'class="body" dir="auto"' in page
    lead = re.search(r'class="body" dir="auto">(.*?)</div>\s*<details', page, re.DOTALL)
    assert lead is not None
    assert lead.group(1).endswith(family)  # folded between two emojis


def test_a_long_post_is_folded_and_whole(service: Service, browse: Callable[..., Browser]) -> None:
    body = "".join(f"line {number} of a very long post\n" for number in range(4000))
    assert len(body) > 100_000
    path = add_pair(service, "Bread?", body)
    page = browse().get(path)
    assert '<details class="fold">' in page
    assert "line 3999 of" in page
    huge = browse("Ben").get(add_pair(service, "Bread?", "x" * 3_000_000))
    assert len(huge) < 300_000
    assert "more characters are on the forum only" in huge


def test_conflicts_are_marked_with_words_for_those_who_listen(forum: Service, browse: Callable[..., Browser]) -> None:
    page = browse().get("/review/pair?id1=301&id2=302")
    assert '<mark class="conflict">5 hours</mark><span class="visually-hidden"> [number differs]</span>' in page
    assert '<mark class="conflict">15 hours</mark><span' in page


def test_answers_are_shown(service: Service, browse: Callable[..., Browser]) -> None:
    path = add_pair(service, "Bread?", "")
    service.index.add(
        ["one"],
        ["How do I bake rye bread at home?"],
        details=[{"title": "Bread?", "answers": ["Use a pot.", {"text": "Use <b>steam</b>.", "accepted": True}]}],
    )
    page = browse().get(path)
    assert "2 answers" in page
    assert page.index("Use &lt;b&gt;steam") < page.index("Use a pot.")


# ---- verdicts -------------------------------------------------------------------------------------------------------


def test_a_verdict_is_recorded_and_the_next_pair_shown(forum: Service, browse: Callable[..., Browser]) -> None:
    first, second = forum.index.review_queue(2)
    anna = browse()
    anna.get("/review")
    page = anna.answer("duplicate", note="same task")
    assert anna.status == 200
    assert "Duplicate recorded." in page
    row = forum.index.history()[-1]
    assert {row.id, row.other} == {first.question.id, first.other.id}
    assert (row.answer, row.by, row.note, row.chosen) == ("duplicate", "Anna", "same task", first.chosen)
    assert row.sampled == pytest.approx(first.sampled)
    assert url_id(second.question.id) == anna.form("/review/verdict")["id1"]


def test_a_form_that_is_sent_twice_is_one_verdict(forum: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    anna.get("/review")
    fields = {**anna.form("/review/verdict"), "answer": "distinct"}
    assert "Distinct recorded." in anna.post("/review/verdict", fields)
    assert "Distinct recorded." in anna.post("/review/verdict", fields)
    assert len(forum.index.history()) == 1


def test_five_verdicts_are_taken_back_one_by_one(forum: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    anna.get("/review")
    for answer in ("duplicate", "distinct", "skip", "duplicate", "distinct"):
        anna.answer(answer)
    given = forum.index.history()
    for row in reversed(given):
        page = anna.undo()
        assert "Taken back" in page
        shown = anna.form("/review/verdict")
        assert {shown["id1"], shown["id2"]} == {url_id(row.id), url_id(row.other)}
    assert [row.undoes for row in forum.index.history()[5:]] == [row.number for row in reversed(given)]
    assert "no verdict to take back" in anna.undo()
    # The pair that was taken back keeps the reason it was shown for.
    anna.get(f"/review/pair?id1={url_id(given[0].id)}&id2={url_id(given[0].other)}&undone={given[0].number}")
    anna.answer("duplicate")
    assert forum.index.history()[-1].chosen == given[0].chosen


def test_the_status_line_takes_its_own_verdict_back(forum: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    anna.get("/review")
    anna.answer("duplicate")
    anna.post("/review/undo", anna.form("/review/undo", 0))
    assert forum.index.history()[-1].undoes == 1
    assert "Duplicate recorded" not in anna.get("/review?did=1")


def test_the_second_of_two_moderators_gets_the_first_verdict(forum: Service, browse: Callable[..., Browser]) -> None:
    anna, ben = browse("Anna"), browse("Ben")
    anna.get("/review")
    ben.get("/review")
    anna.answer("distinct", note="other tool")
    page = ben.answer("duplicate", note="same to me")
    assert ben.status == 409
    assert "<bdi><strong>Anna</strong></bdi> said" in page
    assert "other tool" in page
    assert len(forum.index.history()) == 1
    assert ben.form("/review/verdict")["note"] == "same to me"
    # Giving it again with what was seen makes the pair contested.
    ben.answer("duplicate")
    assert ben.status == 200
    row = forum.index.history()[-1]
    assert forum.index.verdict_of(row.id, row.other).answer == "contested"
    listed = browse("Clara").get("/review/list?show=contested")
    assert "<bdi>Anna</bdi>" in listed
    assert "<bdi>Ben</bdi>" in listed
    page = browse("Dora").get("/review?show=contested")
    assert '<h2 id="contested">Contested</h2>' in page


def test_a_text_that_was_edited_meanwhile_is_not_judged(forum: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    anna.get("/review")
    item = forum.index.review_queue(1)[0]
    forum.index.add([item.question.id], [item.question.text + " Edited."])
    page = anna.answer("duplicate")
    assert anna.status == 409
    assert "was edited" in page
    assert not forum.index.history()


def test_an_edit_while_a_verdict_is_recorded_is_seen(
    forum: Service, browse: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = browse()
    anna.get("/review")
    item = forum.index.review_queue(1)[0]
    true = verdicts.read_signed

    def edited(*arguments: Any) -> str:  # after the pair was read, before the verdict is written
        forum.index.add([item.question.id], [item.question.text + " Edited."])
        return true(*arguments)

    monkeypatch.setattr(verdicts, "read_signed", edited)
    assert "was edited" in anna.answer("duplicate")
    assert not forum.index.history()


def test_another_canonical_question_is_merged_and_unmerged(forum: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    anna.get("/review/pair?id1=101&id2=102")
    assert anna.form("/review/verdict")["keep"] == "i:101"  # the older one
    anna.answer("duplicate", keep="i:102")
    group = forum.index.group(101)
    assert group is not None
    assert group.canonical == 102
    assert len(group.merges) == 1
    anna.undo()
    assert forum.index.group(101) is None
    anna.answer("duplicate")
    group = forum.index.group(101)
    assert group is not None
    assert group.canonical == 101
    assert not group.merges
    # The canonical question of a group stays the proposal.
    anna.get("/review/pair?id1=103&id2=102")
    assert anna.form("/review/verdict")["keep"] == "i:101"
    anna.answer("duplicate", keep="i:103")
    group = forum.index.group(101)
    assert group is not None
    assert group.canonical == 103


# ---- blind audits ---------------------------------------------------------------------------------------------------


def test_an_audit_pair_hides_the_probability_until_the_verdict(forum: Service, browse: Callable[..., Browser]) -> None:
    at, item = next((at, item) for at, item in enumerate(forum.index.review_queue(20)) if item.chosen == "audit")
    assert item.decision is not None
    forum.index.merge(301, 302, by="Ben")
    anna = browse()
    page = anna.get(f"/review?at={at}")
    assert {anna.form("/review/verdict")[name] for name in ("id1", "id2")} == {
        url_id(item.question.id),
        url_id(item.other.id),
    }
    assert "Audit pair" in page
    assert "gauge" not in page
    assert " %" not in page
    assert f"{item.decision.probability:.3f}"[:4] not in page
    assert 'class="badge duplicate"' not in page
    page = anna.answer("distinct")
    assert "dupq had put this audit pair at" in page
    assert forum.index.history()[-1].chosen == "audit"
    # A forged reason does not count.
    anna.get("/review/pair?id1=301&id2=302")
    anna.answer("distinct", shown="audit." + "0" * 32)
    assert forum.index.history()[-1].chosen == ""
    # Those who want may see it.
    anna.post("/preferences", {**anna.form("/preferences"), "blind": "off"})
    at = next(at for at, item in enumerate(forum.index.review_queue(20)) if item.chosen == "audit")
    assert "gauge" in anna.get(f"/review?at={at}")


# ---- moving ---------------------------------------------------------------------------------------------------------


def test_one_moves_through_the_queue_and_back_to_past_verdicts(forum: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    items = forum.index.review_queue(3)
    for at, item in enumerate(items):
        anna.get(f"/review?at={at}")
        assert anna.form("/review/verdict")["id1"] == url_id(item.question.id)
        assert f'rel="next" href="/review?at={at + 1}"' in anna.text
    anna.get("/review?at=1")
    anna.answer("duplicate")
    assert parse_qs(urlsplit(anna.url).query)["at"] == ["1"]
    assert anna.form("/review/verdict")["id1"] == url_id(items[2].question.id)
    anna.get("/review?at=-1")
    assert anna.form("/review/verdict")["id1"] == url_id(items[1].question.id)
    anna.get("/review?at=-7")
    assert anna.form("/review/verdict")["id1"] == url_id(items[1].question.id)
    anna.get("/review?at=9999")
    assert anna.form("/review/verdict")["id1"] == url_id(items[0].question.id)


def test_an_empty_queue_says_what_to_do_next(service: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    assert "No pairs yet" in anna.get("/review")
    add_pair(service, "Bread?", "")
    anna.get("/review")
    page = anna.answer("distinct")
    assert "All done" in page
    assert "Distinct recorded." in page
    assert "No pair matches" in anna.get("/review?tag=nothing")
    anna.get("/review")
    assert "Taken back" in anna.undo()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/review/pair?id1=7&id2=101", 404, "No such question"),
        ("/review/pair?id1=101&id2=101", 404, "one question"),
        ("/review/pair", 404, "names no pair"),
        ("/review/pair?id1=103&id2=101", 410, "no longer on the forum"),
        ("/review/pair?id1=%00&id2=101", 404, "No such question"),
    ],
)
def test_a_pair_that_cannot_be_shown_has_its_own_page(
    forum: Service, browse: Callable[..., Browser], path: str, status: int, text: str
) -> None:
    forum.index.verdict(101, 103, "distinct", by="Ben")
    forum.index.remove([103])
    anna = browse()
    page = anna.get(path)
    assert (anna.status, text in page) == (status, True)
    assert 'href="/review"' in page


# ---- roles and preferences ------------------------------------------------------------------------------------------


def test_a_reader_sees_pairs_and_no_form(forum: Service, browse: Callable[..., Browser]) -> None:
    rita, anna = browse("Rita", "reader"), browse()
    page = rita.get("/review")
    assert rita.status == 200
    assert "/review/verdict" not in page
    assert "/review/undo" not in page
    anna.get("/review")
    fields = {**anna.form("/review/verdict"), "answer": "duplicate", "csrf": rita.form("/preferences")["csrf"]}
    rita.post("/review/verdict", fields)
    assert rita.status == 403
    assert not forum.index.history()


def test_without_a_session_one_is_sent_to_the_login(forum: Service, client: TestClient) -> None:
    for path in ("/review", "/review/list?tag=git", "/review/bulk", "/preferences"):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=")


def test_keys_stay_off(forum: Service, browse: Callable[..., Browser]) -> None:
    anna = browse()
    assert 'data-keys="on"' in anna.get("/review")
    page = anna.post("/preferences", anna.form("/preferences"))
    assert 'data-keys="off"' in page
    assert "aria-keyshortcuts" not in page
    assert 'data-keys="off"' in anna.get("/review?at=1")
    page = anna.post("/preferences", {"csrf": anna.form("/preferences")["csrf"], "theme": "dark"})
    assert 'data-theme="dark"' in page
    assert 'data-keys="off"' in anna.get("/review")


def test_verdicts_and_merges_are_events(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    service, client = open_(webhook_urls=("https://example.org/hook",), webhook_secret=secret, workers=0)
    seed(service.index)
    anna = Browser(service, client, "Anna")
    anna.get("/review/pair?id1=101&id2=102")
    anna.answer("duplicate", keep="i:102")
    anna.undo()
    with service.store.reading() as view:
        rows = view.session.run("SELECT payload FROM service_jobs WHERE kind LIKE 'deliver:%' ORDER BY number")
    events = [json.loads(row[0])["body"] for row in rows]
    assert [event["type"] for event in events] == ["verdict", "merged", "verdict"]
    assert events[1]["data"]["canonical"] == 102
    assert events[2]["data"]["undoes"] == events[0]["data"]["number"]
