"""All pages with JavaScript off: real forms and links do everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.test_keys import rows, shown
from tests.service.demo import ROWS

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium
    from tests.browser.server import Server

pytestmark = pytest.mark.browser


@pytest.fixture
def plain(server: Server, chromium: Chromium) -> Chromium:
    """A browser without JavaScript, at the first pair."""
    chromium.scripts(False)
    chromium.log_in(server.token("moderator", "Ann"))
    return chromium


def go(chromium: Chromium, css: str) -> None:
    with chromium.next_page():
        chromium.click(css)


def test_verdict_undo_and_moves(server: Server, plain: Chromium) -> None:
    assert not plain.run("return Boolean(document.querySelector('.swap:not([hidden])'))")
    first = shown(plain)
    plain.type("input[name=note]", "The same.")
    go(plain, "#verdict [value=duplicate]")
    assert "Duplicate recorded" in plain.text("#status")
    assert server.service.index.verdict_of(*first).opinions[0].note == "The same."
    second = shown(plain)
    go(plain, "#verdict [value=distinct]")
    go(plain, "#status button")
    assert shown(plain) == second
    go(plain, "form[action='/review/undo'] [data-key=u]")
    assert shown(plain) == first
    assert not server.service.index.verdict_of(*first).opinions
    go(plain, "a[rel=next]")
    go(plain, "a[rel=next]")
    assert plain.path == "/review"
    go(plain, ".helpline a")
    assert plain.path == "/review/help"
    go(plain, "form.keys button")
    assert plain.path == "/review/help"
    assert "Keys are off" in plain.text()


def test_another_question_is_kept(server: Server, plain: Chromium) -> None:
    one, _ = shown(plain)
    plain.click("input[name=keep]:not(:checked)")
    kept = plain.value("input[name=keep]:checked")
    go(plain, "#verdict [value=duplicate]")
    group = server.service.index.group(one)
    assert group is not None
    assert kept == f"i:{group.canonical}"


def test_filters_and_search(server: Server, plain: Chromium) -> None:
    plain.open("/review/list")
    plain.type("input[name=text]", "radiator")
    plain.choose("select[name=decision]", "duplicate")
    go(plain, ".filters .primary")
    assert all("adiator" in row.text for row in plain.all("tbody tr"))
    assert len(plain.all(".chip")) == 2
    go(plain, ".between .button")  # work through these
    assert "radiator" in plain.text(".posts").lower()
    before = shown(plain)
    go(plain, "#verdict [value=skip]")
    assert shown(plain) != before
    assert "radiator" in plain.text(".posts").lower()
    assert len(plain.all(".chip")) == 2
    go(plain, ".chip")
    assert len(plain.all(".chip")) == 1


def test_bulk_with_one_confirmation_and_back(server: Server, plain: Chromium) -> None:
    plain.open("/review/bulk")
    plain.type("input[name=bound]", "0.9")
    go(plain, ".between button")
    boxes = plain.all("input[name=row]")
    assert len(boxes) >= 3
    for box in boxes[:3]:
        box.click()
    go(plain, ".bulk .primary")
    assert rows(server) == 0
    assert "Record 3 pairs as duplicates?" in plain.text("h1")
    plain.type("input[name=note]", "In bulk.")
    go(plain, "main .primary")
    assert [(row.answer, row.note) for row in server.service.index.history()] == [("duplicate", "In bulk.")] * 3
    go(plain, "main .danger")
    assert server.service.index.reviewed() == []


def test_merge_and_unmerge(server: Server, plain: Chromium) -> None:
    one, other, title = ROWS[0][0], ROWS[17][0], ROWS[17][5]
    plain.open(f"/groups/show?id=i:{one}")
    plain.type("input[name=find]", title)
    go(plain, ".search button")
    go(plain, f"button[value='i:{other}']")
    assert "Merged" in plain.text()
    group = server.service.index.group(one)
    assert group is not None
    assert set(group.members) == {one, other}
    plain.open(f"/review/pair?id1=i:{one}&id2=i:{other}")
    go(plain, ".post-meta a[href^='/groups']")
    go(plain, "form[action='/groups/merge'] .small")  # make the other one canonical
    assert server.service.index.group(one).canonical == other  # type: ignore[union-attr]
    plain.open(f"/groups/show?id=i:{one}")
    for _ in range(2):
        plain.click("details.act summary")
        go(plain, "form[action='/groups/unmerge'] .danger")
    assert "taken back" in plain.text()
    assert server.service.index.group(one) is None


def test_logout_and_theme(server: Server, plain: Chromium) -> None:
    plain.open("/preferences")
    plain.click("input[name=theme][value=dark]")
    go(plain, "main .primary")
    assert plain.find("html").get_attribute("data-theme") == "dark"
    dark = plain.find("body").value_of_css_property("color")
    go(plain, "form[action='/logout'] button")
    assert plain.path == "/login"
    assert plain.find("body").value_of_css_property("color") != dark
    plain.open("/review")
    assert plain.path == "/login"
