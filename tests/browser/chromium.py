"""Debian's chromium, driven by selenium: pages, keys, emulation, and what the console and axe-core find."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

if TYPE_CHECKING:
    from dupq.service.access import Role
    from tests.browser.server import Server

SECONDS = 60
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--window-size=1280,900",
)
DESKTOP, PHONE = (1280, 900), (390, 844)
AXE = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
T = TypeVar("T")


def path_of(variable: str, default: str, package: str) -> str:
    """The path of a program of the browser; it fails, and does not skip, where there is none."""
    path = os.environ.get(variable, default)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path} is missing: install Debian's packages chromium and chromium-driver, or set {variable} ({package})"
        )
    return path


class Chromium:
    """One browser with its own cookies."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = path_of("CHROMIUM", "/usr/bin/chromium", "chromium")
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = Service(path_of("CHROMEDRIVER", "/usr/bin/chromedriver", "chromium-driver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.base = ""

    def quit(self) -> None:
        self.driver.quit()

    def reset(self, base: str) -> None:
        """Go to a service as a new visitor would: no cookies, no emulation, an empty console."""
        self.base = base
        self.scripts(True)
        self.driver.get("about:blank")
        self.command("Network.clearBrowserCookies")
        self.size(DESKTOP)
        self.media()
        self.console()

    def command(self, method: str, /, **values: Any) -> Any:
        return self.driver.execute_cdp_cmd(method, values)

    # ---- emulation ------------------------------------------------------------------------------------------------

    def size(self, size: tuple[int, int]) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )

    def media(self, **features: str) -> None:
        """Set media features, such as prefers_color_scheme="dark"; those that are not named go back."""
        pairs = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=pairs)

    def scripts(self, on: bool) -> None:
        self.command("Emulation.setScriptExecutionDisabled", value=not on)

    # ---- pages ----------------------------------------------------------------------------------------------------

    def open(self, path: str) -> None:
        self.driver.get(self.base + path)

    def log_in(self, token: str, next_: str = "/review") -> None:
        self.open(f"/login?next={next_}")
        self.type("#token", token)
        with self.next_page():
            self.click("form[action='/login'] button")

    def enter(self, server: Server, role: Role, name: str) -> None:
        """Be logged in without the form."""
        secret = server.service.access.start_session(server.caller(role, name))
        self.command("Network.setCookie", name="dupq_session", value=secret, url=self.base, httpOnly=True)

    @property
    def path(self) -> str:
        return urlsplit(self.driver.current_url).path

    @contextmanager
    def next_page(self) -> Iterator[None]:
        """Wait until another page has replaced the present one."""
        before = self.find("html")
        yield

        def replaced() -> bool:
            try:
                before.is_enabled()
            except StaleElementReferenceException:
                return bool(self.run("return document.readyState === 'complete'"))
            return False

        self.wait(replaced, "another page")

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Wait until a condition is true; return its value."""

        def met(_: object) -> T:
            try:
                return condition()
            except StaleElementReferenceException:
                return None  # type: ignore[return-value]

        return WebDriverWait(self.driver, SECONDS, poll_frequency=0.03).until(met, f"waited for {what}, at {self.path}")

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str = "main") -> str:
        """What a reader sees of an element."""
        return self.find(css).text

    def value(self, css: str) -> str:
        return str(self.find(css).get_property("value"))

    def click(self, css: str) -> None:
        element = self.find(css)
        self.run("arguments[0].scrollIntoView({ block: 'center' })", element)  # not below the bar of the answers
        element.click()

    def type(self, css: str, text: str) -> None:
        field = self.find(css)
        field.clear()
        field.send_keys(text)

    def choose(self, css: str, text: str) -> None:
        Select(self.find(css)).select_by_visible_text(text)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    # ---- findings -------------------------------------------------------------------------------------------------

    def console(self) -> list[str]:
        """What the console has got since the last call, without the status of pages."""
        rows = self.driver.get_log("browser")
        return [
            f"{row['level']} {row['source']}: {row['message']}"
            for row in rows
            if row["source"] not in ("network", "recommendation")
        ]

    def statuses(self) -> list[str]:
        """Address and status of what this page has fetched."""
        return list(
            self.run(
                """
                return performance.getEntriesByType("resource").map((each) => `${each.name} ${each.responseStatus}`);
                """
            )
        )

    def wider(self) -> list[str]:
        """What reaches beyond the right or left edge of the page, and widens it."""
        found: list[str] = self.run(
            """
            const width = document.documentElement.clientWidth, root = document.scrollingElement;
            if (root.scrollWidth <= width) return [];
            return [...document.body.querySelectorAll("*")]
              .filter((each) => each.getBoundingClientRect().right > width + 0.5 && each.offsetParent)
              .map((each) => each.outerHTML.slice(0, 120)).slice(0, 5).concat(`page: ${root.scrollWidth} > ${width}`);
            """
        )
        return found

    def small_targets(self) -> list[str]:
        """Controls that are too small and too close to another one (WCAG 2.2, 2.5.8): words of a sentence may be."""
        found: list[str] = self.run(
            """
            const boxes = [];
            const controls = "a[href], button, input:not([type=hidden]), select, summary";
            for (const each of document.querySelectorAll(controls)) {
              if (!each.checkVisibility({ visibilityProperty: true }) || each.closest(".visually-hidden")) continue;
              const [box] = [each, ...each.labels ?? []].map((part) => part.getBoundingClientRect())
                .sort((one, other) => other.width * other.height - one.width * one.height);
              boxes.push({ each, box, x: box.left + box.width / 2, y: box.top + box.height / 2,
                           small: box.width < 23.5 || box.height < 23.5 });
            }
            const far = (one, other) => other.small
              ? Math.hypot(one.x - other.x, one.y - other.y) >= 24
              : Math.hypot(Math.max(other.box.left - one.x, 0, one.x - other.box.right),
                           Math.max(other.box.top - one.y, 0, one.y - other.box.bottom)) >= 12;
            const words = (node) => node.nodeType === 3 && node.textContent.trim();
            const inline = (one) => [...one.each.closest("p, dd")?.childNodes ?? []].some(words);
            const crowded = (one) => boxes.some((other) => other !== one && !far(one, other));
            const small = boxes.filter((one) => one.small && !inline(one) && crowded(one)).map((one) =>
              `${Math.round(one.box.width)} x ${Math.round(one.box.height)}: ${one.each.outerHTML.slice(0, 120)}`);
            return small;
            """
        )
        return found

    def axe(self, rules: Sequence[str] = ()) -> list[str]:
        """Violations that axe-core finds by its rules, or by all of them."""
        if not self.run("return Boolean(window.axe)"):
            self.run(AXE)
        options = {"resultTypes": ["violations"]}
        if rules:
            options["runOnly"] = list(rules)
        result = self.driver.execute_async_script(
            """
            const [options, done] = arguments;
            axe.run(document, options).then((found) => done(found.violations), (error) => done(String(error)));
            """,
            options,
        )
        if isinstance(result, str):
            raise RuntimeError(result)
        return [
            f"{violation['id']}: {node['html'][:160]} ({' '.join(node['failureSummary'].split())[:300]})"
            for violation in result
            for node in violation["nodes"]
        ]
