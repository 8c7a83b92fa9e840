from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupq.service.pages import charts
from dupq.service.pages.charts import Bin, Interval, Scale, Series

SVG = "{http://www.w3.org/2000/svg}"
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
TEXTS = st.text(max_size=20)


def parsed(svg: str) -> Xml.Element:
    """A picture that is valid XML, has title and description, and nothing that the security policy refuses."""
    assert "style=" not in svg
    assert "<script" not in svg
    root = Xml.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    names = {element.get("id"): element for element in root if element.get("id")}
    for role in ("aria-labelledby", "aria-describedby"):
        assert names[root.get(role)].text
    assert [element.tag for element in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert "nan" not in re.sub(r"<(title|desc|text)[^>]*>[^<]*", "", svg).lower()
    return root


def marked(root: Xml.Element, tag: str, look: str) -> list[Xml.Element]:
    return [element for element in root.iter(f"{SVG}{tag}") if look in (element.get("class") or "").split()]


def number(element: Xml.Element, name: str) -> float:
    return float(element.get(name) or "nan")


# ---- axes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 93, [0, 20, 40, 60, 80, 100]),
        (-3.2, 1, [-4, -3, -2, -1, 0, 1]),
        (0, 0.0021, [0, 0.0005, 0.001, 0.0015, 0.002, 0.0025]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1000, 1000), st.floats(1e-6, 1e12))
def test_ticks_rise_cover_and_are_few(start: float, size: float) -> None:
    low = start * size
    marks = charts.ticks(low, low + size)
    assert all(a < b for a, b in pairwise(marks))
    assert marks[0] <= low + 1e-6 * size
    assert marks[-1] >= low + size * (1 - 1e-6)
    assert 2 <= len(marks) <= 9


@given(st.floats(0.1, 1e9))
def test_ticks_of_counts_are_whole(high: float) -> None:
    assert all(mark.is_integer() for mark in charts.ticks(0, high, 4, whole=True))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_a_scale_is_monotone_and_stays_on_its_axis(values: list[float]) -> None:
    scale = Scale(-10, 10, 50, 250)
    pixels = [scale.at(value) for value in sorted(values)]
    assert pixels == sorted(pixels)
    assert all(50 <= pixel <= 250 for pixel in pixels)
    assert Scale(5, 5, 50, 250).at(5) == 50


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (7, "7"), (1200, "1,200"), (35000, "35k"), (1.5e6, "1.5M"), (0.25, "0.25")]
)
def test_numbers_of_an_axis_are_short(value: float, text: str) -> None:
    assert charts.count_label(value) == text


# ---- bars and areas -------------------------------------------------------------------------------------------------


def test_bars_stand_on_zero_and_on_each_other() -> None:
    series = [Series("duplicate", [2, 0, 6], "duplicate"), Series("distinct", [2, 0, 2], "distinct")]
    root = parsed(charts.stacked_bars("v", "Verdicts", ["1 May", "2 May", "3 May"], series))
    lower, upper = marked(root, "rect", "duplicate"), marked(root, "rect", "distinct")
    assert len(lower) == len(upper) == 2  # nothing is drawn for a day without verdicts
    base = {round(number(bar, "y") + number(bar, "height"), 1) for bar in lower}
    assert len(base) == 1
    for below, above in zip(lower, upper, strict=True):
        assert number(above, "y") + number(above, "height") == pytest.approx(number(below, "y"), abs=0.2)
    assert number(lower[1], "height") == pytest.approx(3 * number(lower[0], "height"), abs=0.3)
    assert "1 May to 3 May: 8 duplicate, 4 distinct." in Xml.tostring(root, "unicode")


def test_bars_do_not_overlap() -> None:
    labels = [str(day) for day in range(90)]
    root = parsed(charts.stacked_bars("v", "Verdicts", labels, [Series("all", [1] * 90, "live")]))
    bars = marked(root, "rect", "live")
    assert all(number(a, "x") + number(a, "width") <= number(b, "x") for a, b in pairwise(bars))
    assert number(bars[-1], "x") + number(bars[-1], "width") <= charts.WIDTH


@pytest.mark.parametrize("count", [1, 2, 7, 30, 90, 366])
def test_labels_of_days_do_not_overlap(count: int) -> None:
    root = parsed(charts.area("q", "Queue", ["30 Nov"] * count, range(count + 1)[1:]))
    places = sorted(number(text, "x") for text in marked(root, "text", "tick") if text.text == "30 Nov")
    assert places
    assert all(b - a >= 6 * charts.CHARACTER for a, b in pairwise(places))
    assert places[-1] + 3 * charts.CHARACTER <= charts.WIDTH


def test_an_area_stands_on_zero() -> None:
    root = parsed(charts.area("q", "Queue", ["a", "b"], [100, 110]))
    assert next(text.text for text in marked(root, "text", "tick")) == "0"
    assert "From 100 on a to 110 on b." in Xml.tostring(root, "unicode")


# ---- shares ---------------------------------------------------------------------------------------------------------


def test_an_interval_is_drawn_from_its_low_to_its_high_end() -> None:
    rows = [Interval("precision", 0.5, 0.25, 0.75, "50 %", 0.9), Interval("recall", None, 0, 1, "too few")]
    root = parsed(charts.intervals("p", "Precision", rows, target_name="policy"))
    (dot,) = marked(root, "circle", "live")
    (line,) = marked(root, "path", "interval")
    start, end = re.match(r"M([\d.]+) [\d.]+H([\d.]+)", line.get("d") or "").groups()  # type: ignore[union-attr]
    axis = Scale(0, 1, 6, charts.WIDTH - 14)
    assert float(start) == pytest.approx(axis.at(0.25), abs=0.1)
    assert float(end) == pytest.approx(axis.at(0.75), abs=0.1)
    assert number(dot, "cx") == pytest.approx(axis.at(0.5), abs=0.1)
    targets = [path.get("d") or "" for path in marked(root, "path", "target")]
    assert any(d.startswith(f"M{axis.at(0.9):g} ") for d in targets)
    assert len(targets) == 2  # the one of the row, and that of the legend
    assert {"0%", "100%", "too few"} <= {text.text for text in root.iter(f"{SVG}text")}


def test_a_reliability_diagram_has_its_points_where_they_belong() -> None:
    root = parsed(charts.reliability("r", "Reliability", [Bin(0.9, 0.8, 0.6, 0.95, 40), Bin(0.1, 0.2, 0.1, 0.4, 10)]))
    dots = marked(root, "circle", "live")
    assert [number(dot, "cx") for dot in dots] == sorted(number(dot, "cx") for dot in dots)
    assert number(dots[0], "cy") > number(dots[1], "cy")  # a higher share is further up
    assert number(dots[0], "r") < number(dots[1], "r")  # more pairs, a larger point
    (diagonal,) = marked(root, "path", "expected")
    x0, y0, x1, y1 = map(float, re.findall(r"[\d.]+", diagonal.get("d") or ""))
    for dot, (stated, observed) in zip(dots, ((0.1, 0.2), (0.9, 0.8)), strict=True):
        assert number(dot, "cx") == pytest.approx(x0 + stated * (x1 - x0), abs=0.2)
        assert number(dot, "cy") == pytest.approx(y0 + observed * (y1 - y0), abs=0.2)
    assert len(marked(root, "path", "interval")) == 2


def test_parts_of_a_whole_fill_the_bar() -> None:
    root = parsed(charts.share_bar("d", "Decisions", [("duplicate", 1, "duplicate"), ("distinct", 3, "distinct")]))
    first, second = root.iter(f"{SVG}rect")
    assert number(second, "x") == charts.WIDTH / 4
    assert number(second, "x") + number(second, "width") == pytest.approx(charts.WIDTH, abs=1.1)
    assert number(first, "x") == 0


# ---- nothing, and anything ------------------------------------------------------------------------------------------


def test_nothing_is_drawn_of_nothing() -> None:
    assert charts.stacked_bars("a", "A", [], []) == ""
    assert charts.stacked_bars("a", "A", ["x"], [Series("s", [0], "live")]) == ""
    assert charts.area("a", "A", [], []) == ""
    assert charts.area("a", "A", ["x"], [math.nan]) == ""
    assert charts.intervals("a", "A", []) == ""
    assert charts.reliability("a", "A", []) == ""
    assert charts.reliability("a", "A", [Bin(math.nan, 0, 0, 0, 1)]) == ""
    assert charts.histograms("a", "A", [0], [], "x") == ""
    assert charts.histograms("a", "A", [0, 1], [Series("s", [0], "live")], "x") == ""
    assert charts.share_bar("a", "A", []) == ""


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, NUMBERS, NUMBERS), max_size=12), TEXTS)
def test_bars_and_areas_of_anything_are_valid(rows: Sequence[tuple[str, float, float]], title: str) -> None:
    labels = [label for label, _, _ in rows]
    series = [Series(title, [a for _, a, _ in rows], "live"), Series("b", [b for _, _, b in rows], "expected")]
    for svg in (
        charts.stacked_bars("n", f"t{title}", labels, series),
        charts.area("n", f"t{title}", labels, series[0].values),
        charts.share_bar("n", f"t{title}", [(label, a, "live") for label, a, _ in rows]),
        charts.histograms("n", f"t{title}", range(len(rows) + 1), series, title),
    ):
        assert not svg or parsed(svg) is not None


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=6), NUMBERS)
def test_shares_of_anything_are_valid(rows: Sequence[tuple[str, float, float, float, float]], top: float) -> None:
    shares = [Interval(text, value, low, high, text, target) for text, value, low, high, target in rows]
    bins = [Bin(value, low, high, target, 3) for _, value, low, high, target in rows]
    for svg in (
        charts.intervals("n", "Shares", shares, target_name="<&>", top=top),
        charts.reliability("n", "Reliability", bins),
    ):
        assert not svg or parsed(svg) is not None
