"""Two moderators at the same time: the second sees what the first said, and contested pairs are settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.test_keys import press, shown

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium
    from tests.browser.server import Server

pytestmark = pytest.mark.browser


@pytest.fixture
def pair(server: Server, chromium: Chromium, second: Chromium) -> tuple[int, int]:
    """A pair that Ann and Ben look at; Ann has called it a duplicate meanwhile."""
    chromium.enter(server, "moderator", "Ann")
    second.enter(server, "moderator", "Ben")
    chromium.open("/review")
    second.open("/review")
    pair = shown(chromium)
    assert shown(second) == pair
    press(chromium, "d")
    return pair


def test_the_second_sees_the_first_verdict(server: Server, second: Chromium, pair: tuple[int, int]) -> None:
    second.type("input[name=note]", "Other versions.")
    second.click("h1")
    press(second, "n")
    text = " ".join(second.text(".notice").split())
    assert "Ann said duplicate" in text
    assert "“distinct” was not recorded" in text
    assert second.value("input[name=note]") == "Other versions."
    assert second.run("return document.activeElement.id") == "conflict"
    assert [row.by for row in server.service.index.history()] == ["Ann"]
    statuses = [entry for entry in second.statuses() if entry.endswith("/review/verdict 409")]
    assert statuses


def test_the_second_can_keep_the_verdict(server: Server, second: Chromium, pair: tuple[int, int]) -> None:
    press(second, "n")
    second.click(".notice .button.primary")
    second.wait(lambda: shown(second) != pair, "the next pair")
    assert server.service.index.verdict_of(*pair).answer == "duplicate"


def test_a_contested_pair_is_settled(
    server: Server, chromium: Chromium, second: Chromium, pair: tuple[int, int]
) -> None:
    press(second, "n")
    press(second, "n")  # after having seen Ann's verdict
    index = server.service.index
    assert index.verdict_of(*pair).answer == "contested"

    third = server.token("moderator", "Cleo")
    chromium.open("/review/list?show=contested")
    assert "Ann duplicate" in " ".join(chromium.text("table").split())
    assert "Ben distinct" in " ".join(chromium.text("table").split())
    with chromium.next_page():
        chromium.click("table a")
    text = " ".join(chromium.text(".notice").split())
    assert "Ann says duplicate" in text
    assert "Ben says distinct" in text
    chromium.press("n")  # Ann changes her mind
    chromium.wait(lambda: "No pair matches" in chromium.text(), "the end of the contested pairs")
    assert index.verdict_of(*pair).answer == "distinct"

    second.reset(server.url)
    second.log_in(third, "/review/list?show=contested")
    assert "No pairs contested" in second.text()
