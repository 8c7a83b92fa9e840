"""Posts as people write them, and as attackers do: markup, other directions, emoji, long words, long texts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium
    from tests.browser.server import Server

pytestmark = pytest.mark.browser

ATTACK = (
    "<script>alert(1); window.hacked = true</script><img src=x onerror='window.hacked = true'>"
    "\"'><svg onload=window.hacked=true>{{ 7 * 7 }}${window.hacked = true}"
)
ARABIC = "كيف أتعلم لغة Python بسرعة؟"
EMOJI = "How do I cook 🍝 for a 👩‍👩‍👧‍👦 of 4? 🏳️‍🌈"
LONG_WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 8
LONG = "The 17th line of a log, and so on.\n" * 2900
HOSTILE_URL = "javascript:window.hacked=true"

POSTS: dict[str, dict[str, Any]] = {
    "attack": {"title": ATTACK, "body": ATTACK, "tags": [ATTACK], "category": ATTACK, "url": HOSTILE_URL},
    "arabic": {"title": ARABIC, "body": ARABIC * 3, "tags": ["لغة"], "category": "برمجة"},
    "hebrew": {"title": "\u202eoverride\u202c איך ללמוד Python?", "body": "שורה ראשונה\nשורה שנייה"},  # noqa: RUF001
    "emoji": {"title": EMOJI, "body": EMOJI + "\u0000\u202e\ufeff", "tags": ["🍝"]},
    "word": {"title": LONG_WORD, "body": LONG_WORD, "tags": [LONG_WORD[:200]], "category": LONG_WORD[:200]},
    "long": {"title": "Why does this log end?", "body": LONG, "answers": [{"text": LONG, "accepted": True}, "No."]},
    "code": {"title": "What is wrong here?", "body": "```\n" + "x = 1;\t" * 200 + "\n```"},
    "empty": {"title": "Nothing"},
    "quote' \" <b> & %2F / ? #id": {"title": "An id that needs care", "url": "https://forum.example.org/t/1?a=1&b=2"},
}


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    """A service with these posts: all pairs are decided, and some have verdicts and merges with hostile notes."""
    server = serve()
    index = server.service.index
    ids = list(POSTS)
    index.add(
        ids,
        [f"{post['title']}\n{post.get('body', '')}".replace("\x00", "") for post in POSTS.values()],
        details=[{**post, "body": post.get("body", "").replace("\x00", "")} for post in POSTS.values()],
    )
    index.decide()
    index.verdict(ids[0], ids[4], "duplicate", by=ATTACK[:60], note=ATTACK)
    index.verdict(ids[0], ids[4], "distinct", by="Ann", note=LONG_WORD)
    index.merge(ids[0], ids[1], by=ATTACK[:60], note=ATTACK)
    index.merge(ids[4], ids[5], by="Ann", note=ARABIC)
    return server


def query(one: str, other: str) -> str:
    from urllib.parse import urlencode

    return urlencode({"id1": one, "id2": other})


def harmless(chromium: Chromium) -> list[str]:
    """What went wrong on the present page."""
    from selenium.common.exceptions import NoAlertPresentException

    found = [f"console: {line}" for line in chromium.console()]
    with suppress(NoAlertPresentException):
        found.append(f"alert: {chromium.driver.switch_to.alert.text}")
    if chromium.run("return Boolean(window.hacked)"):
        found.append("a script of a post has run")
    if chromium.run(
        "return Boolean(document.querySelector('main script, main img, main svg[onload], a[href^=javascript]'))"
    ):
        found.append("markup of a post is markup of the page")
    return [*found, *chromium.wider()]


def test_pages_of_hostile_posts(server: Server, chromium: Chromium) -> None:
    from tests.browser.chromium import PHONE

    chromium.enter(server, "admin", "Ann <b>")
    ids = list(POSTS)
    pairs = [(ids[0], ids[4]), *pairwise(ids)]
    pages = [f"/review/pair?{query(one, other)}" for one, other in pairs]
    pages += ["/review/list", "/review/list?show=answered", "/review/list?show=contested", "/review/bulk?bound=0.5"]
    pages += ["/groups", f"/groups/show?id={ids[0]}&find=log", f"/groups/show?id={ids[4]}", "/dashboard"]
    pages += [f"/review/list?text={LONG_WORD[:150]}", "/review/list?text=%3Cscript%3Ealert(1)%3C/script%3E"]
    chromium.size(PHONE)
    found = {}
    for page in pages:
        chromium.open(page)
        chromium.run("for (const each of document.querySelectorAll('details')) each.open = true;")
        if problems := harmless(chromium):
            found[page] = problems
    assert found == {}, "\n".join(f"{page[:60]}: {problem[:200]}" for page, rows in found.items() for problem in rows)


def test_markup_is_shown_as_it_was_written(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open(f"/review/pair?{query('attack', 'emoji')}")
    text = chromium.run("return document.querySelector('.post').textContent")
    assert "<script>alert(1); window.hacked = true</script>" in text
    assert "{{ 7 * 7 }}" in text
    assert not chromium.all(".post:first-child a.forum")
    assert "🍝" in chromium.text(".posts")


def test_direction_follows_the_text(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open(f"/review/pair?{query('arabic', 'emoji')}")
    first, other = chromium.all(".post h2")
    assert ARABIC in first.text.replace("\n", " ")
    assert [heading.value_of_css_property("direction") for heading in (first, other)] == ["rtl", "ltr"]
    assert chromium.find("html").value_of_css_property("direction") == "ltr"


def test_a_long_post_is_folded_and_whole(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open(f"/review/pair?{query('long', 'empty')}")
    assert chromium.find(".decide").is_displayed()
    height = chromium.run("return document.documentElement.scrollHeight")
    assert height < 5000
    assert chromium.run(
        "return [...document.querySelectorAll('.post .body')].reduce((n, b) => n + b.textContent.length, 0)"
    ) > len(LONG)
    chromium.click(".fold summary")
    chromium.wait(lambda: chromium.run("return document.documentElement.scrollHeight") > height, "the rest")
    parts = [str(part.get_property("textContent")) for part in chromium.all(".post:first-child .body:not(.answer)")]
    assert "".join("".join(parts).split()) == "".join(LONG.split())
    assert "The post has no further text" in chromium.text(".posts")


def test_a_verdict_on_ids_that_need_care(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    odd = list(POSTS)[-1]
    chromium.open(f"/review/pair?{query(odd, 'word')}")
    before = chromium.value("#verdict [name=key]")
    chromium.press("d")
    chromium.wait(lambda: chromium.value("#verdict [name=key]") != before, "the next pair")
    assert server.service.index.verdict_of(odd, "word").answer == "duplicate"
    chromium.open("/groups")
    with chromium.next_page():
        next(
            link
            for link in chromium.all("a.title")
            if "An id that needs care" in link.text or LONG_WORD[:20] in link.text
        ).click()
    assert "An id that needs care" in chromium.text()
