"""A moderator who works by keys alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium
    from tests.browser.server import Server

pytestmark = pytest.mark.browser

ANSWERS = {"d": "duplicate", "n": "distinct", "s": "skip"}
ESCAPE, TAB = "\ue00c", "\ue004"


def shown(chromium: Chromium) -> tuple[int, int]:
    """The ids of the pair that is shown, the lower one first."""
    one, other = sorted(int(chromium.value(f"#verdict [name=id{side}]").removeprefix("i:")) for side in (1, 2))
    return one, other


def press(chromium: Chromium, key: str) -> None:
    """Press a key that shows another pair, or the same one again, and wait for it."""
    before = chromium.value("#verdict [name=key]")
    chromium.press(key)
    chromium.wait(lambda: chromium.value("#verdict [name=key]") != before, f"the pair after {key!r}")


def rows(server: Server) -> int:
    return len(server.service.index.history())


def test_thirty_pairs_by_keys_and_five_undone(server: Server, chromium: Chromium) -> None:
    chromium.open("/")
    chromium.log_in(server.token("moderator", "Ann"))
    assert chromium.path == "/review"
    given: list[tuple[tuple[int, int], str]] = []
    for key in "dnsdnnddsn" * 3:
        given.append((shown(chromium), ANSWERS[key]))
        press(chromium, key)
    assert len({pair for pair, _ in given}) == 30
    assert "today 30 by you" in " ".join(chromium.text().split())
    for pair, answer in reversed(given[25:]):
        press(chromium, "u")
        assert shown(chromium) == pair
        assert f"“{answer}”" in chromium.text("#status")
    index = server.service.index
    for pair, answer in given[:25]:
        state = index.verdict_of(*pair)
        assert [(row.answer, row.by) for row in state.opinions] == [(answer, "Ann")], pair
    for pair, _ in given[25:]:
        assert not index.verdict_of(*pair).opinions
    assert rows(server) == 35  # nothing is erased: each undo is a row of its own
    assert chromium.console() == []


def test_undo_after_a_restart(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open("/review")
    pairs = []
    for key in "dnd":
        pairs.append(shown(chromium))
        press(chromium, key)
    server.stop()
    server.start()
    for pair in reversed(pairs):
        press(chromium, "u")
        assert shown(chromium) == pair
        assert not server.service.index.verdict_of(*pair).opinions
    chromium.press("u")
    chromium.wait(lambda: "no verdict" in chromium.text("#status"), "nothing to take back")


def test_a_server_that_is_down_loses_nothing(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open("/review")
    pair = shown(chromium)
    server.stop()
    chromium.press("d")
    chromium.wait(lambda: "Try again" in chromium.text("#status"), "the message")
    assert shown(chromium) == pair
    server.start()
    press(chromium, "d")
    assert server.service.index.verdict_of(*pair).answer == "duplicate"


def test_moves_swap_and_help(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open("/review")
    first = shown(chromium)
    press(chromium, "j")
    assert shown(chromium) != first
    press(chromium, "k")
    assert shown(chromium) == first

    kept = chromium.value("input[name=keep]:checked")
    chromium.press("c")
    swapped = chromium.value("input[name=keep]:checked")
    assert swapped != kept

    chromium.press("?")
    chromium.wait(lambda: chromium.find("dialog").is_displayed(), "the keys")
    chromium.press("d")  # keys of the page are off while the list of them is open
    chromium.press(ESCAPE)
    chromium.wait(lambda: not chromium.find("dialog").is_displayed(), "the page without the keys")
    assert rows(server) == 0
    press(chromium, "d")
    group = server.service.index.group(first[0])
    assert group is not None
    assert f"i:{group.canonical}" == swapped


def test_back_and_reload_show_the_right_pair(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open("/review")
    press(chromium, "j")
    second = shown(chromium)
    press(chromium, "j")
    third = shown(chromium)
    chromium.driver.back()
    chromium.wait(lambda: shown(chromium) == second, "the pair before")
    chromium.driver.forward()
    chromium.wait(lambda: shown(chromium) == third, "the pair after")
    chromium.driver.refresh()
    assert shown(chromium) == third


def test_keys_are_off_while_typing(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open("/review")
    pair = shown(chromium)
    chromium.type("input[name=note]", "dnsujk?")
    chromium.press("\n")  # Enter in the note must not choose an answer
    assert chromium.value("input[name=note]") == "dnsujk?"
    assert shown(chromium) == pair
    chromium.click("h1")
    press(chromium, "n")
    assert [(row.answer, row.note) for row in server.service.index.history()] == [("distinct", "dnsujk?")]

    chromium.open("/review/list")
    chromium.type("input[name=text]", "dns")
    assert chromium.value("input[name=text]") == "dns"
    assert rows(server) == 1


def test_keys_can_be_switched_off_and_stay_off(server: Server, chromium: Chromium) -> None:
    token = server.token("moderator", "Ann")
    chromium.log_in(token)
    before = chromium.value("#verdict [name=key]")
    chromium.click("form.keys button")
    chromium.wait(lambda: chromium.value("#verdict [name=key]") != before, "the page without keys")
    assert "Keys are off" in chromium.text(".helpline")
    assert not chromium.all("#verdict kbd")
    for key in "dnsujk?":
        chromium.press(key)
    press_link = chromium.find("a[rel=next]")
    before = chromium.value("#verdict [name=key]")
    press_link.click()
    chromium.wait(lambda: chromium.value("#verdict [name=key]") != before, "the next pair")
    assert rows(server) == 0
    assert not chromium.find("dialog").is_displayed()

    with chromium.next_page():
        chromium.click("form[action='/logout'] button")
    chromium.log_in(token)
    chromium.press("d")
    assert "Keys are off" in chromium.text(".helpline")
    assert rows(server) == 0


def test_modified_and_repeated_keys_do_nothing(server: Server, chromium: Chromium) -> None:
    chromium.enter(server, "moderator", "Ann")
    chromium.open("/review")
    pair = shown(chromium)
    for modifiers in (1, 2, 4):  # Alt, Control, Meta
        chromium.command("Input.dispatchKeyEvent", type="keyDown", key="d", code="KeyD", modifiers=modifiers)
        chromium.command("Input.dispatchKeyEvent", type="keyUp", key="d", code="KeyD", modifiers=modifiers)
    for text in ("ArrowRight", "Backspace", "Enter"):
        chromium.command("Input.dispatchKeyEvent", type="keyDown", key=text, code=text)
        chromium.command("Input.dispatchKeyEvent", type="keyUp", key=text, code=text)
    chromium.command("Input.dispatchKeyEvent", type="keyDown", key="d", code="KeyD", autoRepeat=True)
    assert shown(chromium) == pair
    assert rows(server) == 0


def test_an_audit_pair_is_blind(server: Server, chromium: Chromium) -> None:
    item_places = [place for place, item in enumerate(server.service.index.review_queue(40)) if item.chosen == "audit"]
    chromium.enter(server, "moderator", "Ann")
    chromium.open("/review")
    for _ in range(40):
        if chromium.all(".blind"):
            break
        press(chromium, "j")
    assert item_places
    assert "Audit pair" in chromium.text(".verdict-line")
    html = chromium.find("main").get_property("outerHTML")
    assert not re.search(r"\d\s?%", str(html))
    assert not chromium.all(".bar .threshold, svg.bar")
    pair = shown(chromium)
    press(chromium, "d")
    assert "audit pair at" in chromium.text("#status")
    row = server.service.index.verdict_of(*pair).opinions[0]
    assert (row.chosen, row.by) == ("audit", "Ann")
