"""Pictures of the pages for the docs: with DUPQ_WRITE_SCREENSHOTS=1 they are written, and the shipped model decides."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dupq.pipeline import DuplicatePipeline
from tests.service.pages.reviewed import fill, judge, spread_over

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium
    from tests.browser.server import Server

pytestmark = pytest.mark.browser

DOCS = Path(__file__).parents[2] / "docs" / "_static"
MAX_BYTES = 150_000
WRITE = os.environ.get("DUPQ_WRITE_SCREENSHOTS") == "1"

if WRITE:

    @pytest.fixture(scope="module")
    def pipeline() -> DuplicatePipeline:
        """The shipped model, so that the pictures show its probabilities."""
        return DuplicatePipeline.from_pretrained()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the pictures go."""
    return DOCS if WRITE else tmp_path


def take(chromium: Chromium, path: Path, size: tuple[int, int]) -> None:
    """Write the page as it is seen in a window of this size."""
    chromium.size(size)
    chromium.run("document.activeElement.blur(); scrollTo(0, 0);")
    picture = base64.b64decode(chromium.command("Page.captureScreenshot", format="png", optimizeForSpeed=False)["data"])
    path.write_bytes(picture)
    assert 10_000 < len(picture) < MAX_BYTES, f"{path.name} has {len(picture):,} bytes"


def test_review(server: Server, chromium: Chromium, folder: Path) -> None:
    chromium.enter(server, "moderator", "Ann")
    index = server.service.index
    index.verdict(207, 209, "duplicate", by="Ben")
    chromium.open("/review/pair?id1=i:301&id2=i:302")
    take(chromium, folder / "review.png", (1100, 760))


def test_groups(server: Server, chromium: Chromium, folder: Path) -> None:
    index = server.service.index
    for one, other in ((101, 102), (107, 109), (201, 202), (204, 205), (306, 307), (301, 303), (104, 106)):
        index.verdict(one, other, "duplicate", by="Ann", note="Same pan, same milk." if one == 201 else "")
    index.verdict(204, 206, "duplicate", by="Ann")
    index.verdict(204, 206, "distinct", by="Ben", note="Varnish is not paint.")
    index.merge(102, 101, by="Ben", note="Its answers are about Python 3.")
    chromium.enter(server, "moderator", "Ann")
    chromium.open("/groups")
    take(chromium, folder / "groups.png", (1100, 760))


def test_dashboard(serve: Callable[..., Server], browsers: Callable[[int], Chromium], folder: Path) -> None:
    server, chromium = serve(), browsers(0)
    fill(server.service, 12)
    judge(server.service, 320, wrong_every=40)
    spread_over(server.service, 28)
    chromium.reset(server.url)
    chromium.enter(server, "admin", "Ann")
    chromium.open("/dashboard")
    take(chromium, folder / "dashboard.png", (1100, 1060))
