"""axe-core, the console, the width of a phone and the keyboard, on every page in its states, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from dupq.pipeline import DuplicatePipeline
from tests.browser.verdicts import judge
from tests.service.demo import seed
from tests.service.pages.reviewed import fill, spread_over

if TYPE_CHECKING:
    from dupq.service.access import Role
    from tests.browser.chromium import Chromium
    from tests.browser.server import Server

pytestmark = pytest.mark.browser

CONTRAST = ("color-contrast", "link-in-text-block")
"""Rules whose outcome depends on the colours."""
TAB = "\ue004"


@dataclass(frozen=True, slots=True)
class World:
    """A service with everything on its pages, one without anything, and a browser.

    Attributes:
        full, empty: The services.
        browser: The browser.
    """

    full: Server
    empty: Server
    browser: Chromium

    def visit(self, path: str, role: Role | None = "admin", *, empty: bool = False) -> None:
        server = self.empty if empty else self.full
        self.browser.base = server.url
        if role:
            self.browser.enter(server, role, f"the {role}")
        else:
            self.browser.command("Network.clearBrowserCookies")
        self.browser.open(path)

    def click(self, css: str) -> None:
        with self.browser.next_page():
            self.browser.click(css)


@pytest.fixture(scope="module")
def world(
    browsers: Callable[[int], Chromium], pipeline: DuplicatePipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    from tests.browser.server import Server

    with ExitStack() as stack:
        servers = []
        for name in ("full", "empty"):
            server = Server(pipeline, db=str(tmp_path_factory.mktemp(name) / "forum.db"), rate_limit=0, workers=0)
            server.start()
            stack.callback(server.stop)
            servers.append(server)
        full = servers[0].service
        seed(full.index)
        fill(full, 4)
        judge(full, 120)
        index = full.index
        for by, answer in (("Ann", "duplicate"), ("Björn", "distinct")):
            index.verdict(201, 202, answer, by=by, note="See the answer: it is about steel.")
        for other in (102, 103):
            index.merge(101, other, by="Ann", note="Same list.")
        index.calibrate(by="Ann")
        spread_over(full, 20)
        full.jobs.add("upsert", "one", {"id": 7})
        full.jobs.add("deliver", "two", {"event": "flagged"})
        full.store.write(
            lambda transaction: transaction.session.run(
                "UPDATE service_jobs SET state='dead', error=?, attempts=8 WHERE kind='deliver'",
                ("ConnectError: https://forum.example.org/hooks/" + "x" * 200,),
            )
        )
        browser = browsers(0)
        browser.reset(servers[0].url)
        yield World(servers[0], servers[1], browser)


def wrong_token(world: World) -> None:
    world.visit("/login", None)
    world.browser.type("#token", "dupq_wrong")
    world.click("main form button")


def conflict(world: World) -> None:
    world.visit("/review/pair?id1=i:301&id2=i:303")
    world.full.service.index.verdict(301, 303, "duplicate", by=f"Cleo {len(world.full.service.index.history())}")
    world.browser.click("#verdict [value=distinct]")
    world.browser.wait(lambda: world.browser.all("#conflict"), "the conflict")


def recorded(world: World) -> None:
    world.visit("/review/pair?id1=i:304&id2=i:305")
    world.browser.click("#verdict [value=distinct]")
    world.browser.wait(lambda: world.browser.all(".flash"), "the line of the verdict")


def keys_dialog(world: World) -> None:
    world.visit("/review")
    world.browser.press("?")


def bulk_confirm(world: World) -> None:
    world.visit("/review/bulk?bound=0.6")
    world.browser.click("[name=row]")
    world.click(".bulk .primary")


def bulk_done(world: World) -> None:
    bulk_confirm(world)
    world.click("main form .primary")


def opened(world: World, path: str) -> None:
    """Open all that is folded."""
    world.visit(path)
    world.browser.run("for (const each of document.querySelectorAll('details')) each.open = true;")


def tried(world: World) -> None:
    world.visit("/calibrate")
    world.click("main form .primary")


def blind(world: World) -> None:
    place = next(
        place for place, item in enumerate(world.full.service.index.review_queue(99)) if item.chosen == "audit"
    )
    world.visit(f"/review?at={place}")


PAGES: dict[str, Callable[[World], object]] = {
    "login": lambda world: world.visit("/login", None),
    "login with a wrong token": wrong_token,
    "review": lambda world: world.visit("/review"),
    "review as reader": lambda world: world.visit("/review", "reader"),
    "review without pairs": lambda world: world.visit("/review", empty=True),
    "review with a filter that nothing passes": lambda world: world.visit("/review?text=zzzz"),
    "keys": keys_dialog,
    "audit pair": blind,
    "verdict recorded": recorded,
    "conflict": conflict,
    "contested pair": lambda world: world.visit("/review/pair?id1=i:201&id2=i:202"),
    "list": lambda world: world.visit("/review/list"),
    "list with filters": lambda world: world.visit("/review/list?category=home&low=0.2&text=pan&show=answered"),
    "list of contested pairs": lambda world: world.visit("/review/list?show=contested"),
    "list without pairs": lambda world: world.visit("/review/list", empty=True),
    "bulk": lambda world: world.visit("/review/bulk?bound=0.6"),
    "bulk confirm": bulk_confirm,
    "bulk done": bulk_done,
    "bulk without pairs": lambda world: world.visit("/review/bulk", empty=True),
    "help": lambda world: world.visit("/review/help"),
    "preferences": lambda world: world.visit("/preferences?saved=1"),
    "groups": lambda world: opened(world, "/groups"),
    "groups without one": lambda world: world.visit("/groups", empty=True),
    "group": lambda world: opened(world, "/groups/show?id=i:101&find=list"),
    "question without a group": lambda world: world.visit("/groups/show?id=i:210&done=unmerged"),
    "dashboard": lambda world: opened(world, "/dashboard"),
    "dashboard without data": lambda world: world.visit("/dashboard", empty=True),
    "calibrate": lambda world: world.visit("/calibrate"),
    "calibrate, tried out": tried,
    "calibrate, way back": lambda world: world.visit("/calibrate/roll-back?number=0"),
    "calibrate without data": lambda world: world.visit("/calibrate", empty=True),
    "jobs": lambda world: opened(world, "/jobs?state=dead"),
    "jobs without one": lambda world: world.visit("/jobs", empty=True),
    "API": lambda world: world.visit("/docs"),
    "error 403": lambda world: world.visit("/jobs", "moderator"),
    "error 404": lambda world: world.visit("/nowhere"),
    "error 404 of a pair": lambda world: world.visit("/review/pair?id1=i:1&id2=i:2"),
    "error 422": lambda world: world.visit("/groups?page=0"),
}


@pytest.mark.parametrize("name", PAGES)
def test_page(world: World, name: str) -> None:
    from tests.browser.chromium import DESKTOP, PHONE

    browser = world.browser
    browser.size(DESKTOP)
    browser.console()
    still = {"prefers_reduced_motion": "reduce"}
    browser.media(**still)
    PAGES[name](world)
    found: dict[str, list[str]] = {"light": browser.axe()}
    browser.media(prefers_color_scheme="dark", **still)
    found["dark"] = browser.axe(CONTRAST)
    browser.size(PHONE)
    found["dark phone"] = browser.axe()
    browser.media(**still)
    found["phone"] = browser.axe(CONTRAST)
    found["wider than a phone"] = browser.wider()
    found["small targets"] = browser.small_targets()
    found["moving"] = browser.run(
        """
        return [...document.querySelectorAll("*")].filter((each) => {
          const style = getComputedStyle(each);
          return style.transitionDuration.split(",").concat(style.animationDuration.split(","))
            .some((length) => parseFloat(length) > 0.001);
        }).map((each) => each.outerHTML.slice(0, 100));
        """
    )
    found["console"] = browser.console()
    browser.size(DESKTOP)
    assert {where: problems for where, problems in found.items() if problems} == {}


def test_the_theme_follows_the_system_and_the_preference(world: World) -> None:
    browser = world.browser
    world.visit("/review")

    def paper() -> str:
        return browser.find("html").value_of_css_property("background-color")

    browser.media()
    light = paper()
    browser.media(prefers_color_scheme="dark")
    dark = paper()
    assert dark != light
    browser.open("/preferences")
    browser.click("input[name=theme][value=light]")
    world.click("main .primary")
    assert paper() == light
    browser.media()


TABBED = ("/login", "/review", "/review/list", "/review/bulk?bound=0.6", "/groups/show?id=i:101", "/jobs", "/dashboard")


@pytest.mark.parametrize("path", TABBED)
def test_tab_reaches_everything_and_the_focus_is_seen(world: World, path: str) -> None:
    browser = world.browser
    browser.media(prefers_reduced_motion="reduce")
    world.visit(path, None if path == "/login" else "admin")
    browser.run("document.activeElement.blur(); scrollTo(0, 0);")
    wanted = browser.run(
        """
        window.number = 0;
        for (const each of document.querySelectorAll(
          "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")) {
          if (each.disabled || !each.checkVisibility({ visibilityProperty: true })) continue;
          const group = [...document.getElementsByName(each.name || "-")];
          if (each.type === "radio" && !each.checked && group.some((other) => other.checked)) continue;
          each.dataset.number = window.number++;
        }
        return window.number;
        """
    )
    seen: list[int] = []
    hidden: list[str] = []
    for _ in range(wanted + 5):
        browser.press(TAB)
        number, problem = browser.run(
            """
            if (document.activeElement === document.body) return [null, ""];
            const each = document.activeElement, box = each.getBoundingClientRect(), style = getComputedStyle(each);
            const x = Math.min(Math.max(box.left + box.width / 2, 0), innerWidth - 1);
            const y = Math.min(Math.max(box.top + Math.min(box.height, innerHeight) / 2, 0), innerHeight - 1);
            const top = document.elementFromPoint(x, y);
            const label = each.closest("label");
            const covered = !(top && (each.contains(top) || top.contains(each) || label?.contains(top)));
            const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
            const name = each.outerHTML.slice(0, 100);
            const problem = covered ? `covered by ${top?.outerHTML.slice(0, 60)}: ${name}` : "";
            return [Number(each.dataset.number ?? -1), ring ? problem : `no ring: ${name}`];
            """
        )
        if number is None:  # past the end: the next one is the first of the page
            continue
        seen.append(number)
        if problem:
            hidden.append(problem)
    assert hidden == []
    assert set(range(wanted)) - set(seen) == set()
    ranks = [number for number in dict.fromkeys(seen) if number >= 0]
    first = ranks.index(0)
    assert ranks[first:] + ranks[:first] == list(range(wanted))  # in the order of the page


def test_the_first_tab_skips_to_the_content(world: World) -> None:
    browser = world.browser
    world.visit("/review/list")
    browser.run("document.activeElement.blur()")
    browser.press(TAB)
    assert "Skip" in browser.run("return document.activeElement.textContent")
    browser.press("\n")
    browser.wait(lambda: browser.run("return document.activeElement.id") == "main", "the content")


def test_every_title_of_a_page_is_its_own(world: World) -> None:
    titles = {}
    for path in (
        "/review",
        "/review/list",
        "/review/bulk",
        "/review/help",
        "/groups",
        "/dashboard",
        "/calibrate",
        "/jobs",
    ):
        world.visit(path)
        titles[path] = world.browser.driver.title
        assert len(world.browser.all("h1")) == 1, path
    assert len(set(titles.values())) == len(titles)
