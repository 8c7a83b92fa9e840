"""Pictures of the dashboard as SVG text: values in, text out.

Colours are classes of `static/pages.css`, which follow the light or dark theme; there is no style attribute, since the
content security policy of the service refuses it. A picture is as wide as a phone, so that its text is read at its own
size everywhere. A function returns "" where there is nothing to draw; the page then has words in its place. Values that
are not finite are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 360.0
"""Width of a picture."""
TOP, BOTTOM = 12.0, 24.0
"""Room above the plot, and below it for the labels of the axis."""
CHARACTER = 6.4
"""Width of a character of an axis label, at most."""
LABEL_WIDTH = 62.0
"""Room of one label of the horizontal axis."""
_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one kind, one for each label.

    Attributes:
        name: Name in the legend.
        values: n values; those that are not finite are left out.
        look: Class that colours it: "duplicate", "distinct", "skipped", "live" or "expected".
    """

    name: str
    values: Sequence[float]
    look: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with its interval.

    Attributes:
        name: Its name.
        value: The share; None where it is not known.
        low, high: Ends of the interval.
        text: The value in words, beside the name.
        target: Share that it is compared with, drawn as a line across its interval; None: there is none.
    """

    name: str
    value: float | None
    low: float
    high: float
    text: str
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin of a reliability diagram.

    Attributes:
        probability: Mean probability of its pairs.
        observed: Share of duplicates among them.
        low, high: Interval of `observed`.
        pairs: Number of pairs.
    """

    probability: float
    observed: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Straight line from values to pixels.

    A value outside of the axis moves to its end.

    Attributes:
        low, high: Ends of the axis in values.
        start, end: The same in pixels.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Return rising round values that cover the range from `low` to `high`.

    The first and the last may lie a little outside of the range.

    Args:
        low, high: Range of the values, low < high.
        most: Number of steps, about.
        whole: Use whole numbers only, for counts.
    """
    raw = (high - low) / most
    if not (math.isfinite(raw) and raw > 1e-300):
        return [low, low + 1]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, max(last, first + 1) + 1)]


def count_label(value: float) -> str:
    """Return a number of an axis, such as "0", "1,200", "35k" or "1.5M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def percent_label(value: float) -> str:
    """Return a share of an axis, such as "20%" or "2.5%"."""
    return f"{100 * value:.3g}%"


# ---- pictures -------------------------------------------------------------------------------------------------------


def stacked_bars(name: str, title: str, labels: Sequence[str], series: Sequence[Series], *, height: float = 200) -> str:
    """Draw counts by label as bars that stand on zero, one series upon the other.

    Args:
        name: Identifier in the page.
        title: Title for screen readers.
        labels: n labels, such as days; those that find room are written.
        series: Their counts, 0 or more, n each.
        height: Of the picture.
    """
    columns = [[_finite(row.values[place]) for row in series] for place in range(len(labels))]
    totals = [sum(column) for column in columns]
    if not labels or not any(totals):
        return ""
    marks = ticks(0, max(totals), 4, whole=True)
    frame = _Frame(marks, [count_label(mark) for mark in marks], height)
    slot = (frame.right - frame.left) / len(labels)
    wide = max(min(slot * 0.72, 36.0), 0.5)
    parts = frame.grid()
    for place, column in enumerate(columns):
        middle, base = frame.left + (place + 0.5) * slot, 0.0
        bars = []
        for row, value in zip(series, column, strict=True):
            if value:
                y, foot = frame.y.at(base + value), frame.y.at(base)
                bars.append(
                    _tag("rect", look=f"mark {row.look}", x=middle - wide / 2, y=y, width=wide, height=foot - y)
                )
            base += value
        if bars:
            words = ", ".join(f"{v:g} {row.name}" for row, v in zip(series, column, strict=True) if v)
            parts.append(_tag("g", _tag("title", escape(_plain(f"{labels[place]}: {words}"))) + "".join(bars)))
    parts += frame.labels(labels, [frame.left + (place + 0.5) * slot for place in range(len(labels))])
    totals_text = ", ".join(f"{count_label(sum(map(_finite, row.values)))} {row.name}" for row in series)
    return _svg(name, title, f"{labels[0]} to {labels[-1]}: {totals_text}.", height, parts)


def area(name: str, title: str, labels: Sequence[str], values: Sequence[float], *, height: float = 200) -> str:
    """Draw one count by label as an area that stands on zero."""
    points = [(place, value) for place, value in enumerate(values) if math.isfinite(value)]
    if not points:
        return ""
    marks = ticks(0, max(max(value for _, value in points), 1), 4, whole=True)
    frame = _Frame(marks, [count_label(mark) for mark in marks], height)
    x = Scale(0, max(len(values) - 1, 1), frame.left, frame.right)
    pixels = [(x.at(place), frame.y.at(value)) for place, value in points]
    if len(pixels) == 1:
        pixels.append((frame.right, pixels[0][1]))
    line = "L".join(f"{_number(a)} {_number(b)}" for a, b in pixels)
    foot = f"L{_number(pixels[-1][0])} {_number(frame.y.start)}L{_number(pixels[0][0])} {_number(frame.y.start)}Z"
    last_x, last_y = pixels[-1]
    parts = [
        *frame.grid(),
        _tag("path", look="shade live", d=f"M{line}{foot}"),
        _tag("path", look="line live", d=f"M{line}"),
        _tag("circle", look="mark live", cx=last_x, cy=last_y, r=3.5),
        *frame.labels(labels, [x.at(place) for place in range(len(labels))]),
    ]
    first, last = points[0][1], points[-1][1]
    text = f"From {count_label(first)} on {labels[points[0][0]]} to {count_label(last)} on {labels[points[-1][0]]}."
    return _svg(name, title, text, height, parts)


def intervals(name: str, title: str, rows: Sequence[Interval], *, target_name: str = "", top: float = 1.0) -> str:
    """Draw shares as points with their intervals, one below the other.

    The axis starts at 0.

    Args:
        name: Identifier in the page.
        title: Title for screen readers.
        rows: The shares. One that is not known has its text, and no point.
        target_name: Name of the targets of the rows, in a legend above them; "": there is none.
        top: End of the axis, above 0.
    """
    if not rows or not (math.isfinite(top) and top > 0):
        return ""
    marks = ticks(0, top)
    head, step = (26.0 if target_name else 6.0), 44.0
    height = head + step * len(rows) + BOTTOM
    x, foot = Scale(0, marks[-1], 6.0, WIDTH - 14.0), height - BOTTOM
    parts = []
    for mark in marks:
        parts.append(_tag("path", look="grid", d=f"M{_number(x.at(mark))} {_number(foot)}v5"))
        anchor = "start" if mark == 0 else "end" if mark == marks[-1] else "middle"
        at = x.at(mark) + (10 if anchor == "end" else -4 if anchor == "start" else 0)
        parts.append(_text(at, foot + 18, percent_label(mark), "tick", anchor))
    parts.append(_tag("path", look="base", d=f"M{_number(x.start)} {_number(foot)}H{_number(x.end)}"))
    if target_name:
        parts += [_tag("path", look="line target", d="M9 4v14"), _text(17, 15, target_name, "label target", "start")]
    for place, row in enumerate(rows):
        text_y = head + step * place + 14
        y = text_y + 16
        parts.append(_text(6, text_y, row.name, "label", "start"))
        parts.append(_text(WIDTH - 6, text_y, row.text, "label figure", "end"))
        parts.append(_tag("path", look="grid", d=f"M{_number(x.start)} {_number(y)}H{_number(x.end)}"))
        if row.target is not None and math.isfinite(row.target):
            parts.append(_tag("path", look="line target", d=f"M{_number(x.at(row.target))} {_number(y - 9)}v18"))
        if row.value is not None and all(map(math.isfinite, (row.value, row.low, row.high))):
            low, high = x.at(row.low), x.at(row.high)
            caps = f"M{_number(low)} {_number(y - 5)}v10M{_number(high)} {_number(y - 5)}v10"
            parts.append(_tag("path", look="line interval", d=f"M{_number(low)} {_number(y)}H{_number(high)}{caps}"))
            parts.append(_tag("circle", look="mark live", cx=x.at(row.value), cy=y, r=5))
    comparison = f" Target: {target_name}." if target_name else ""
    return _svg(name, title, "; ".join(f"{row.name}: {row.text}" for row in rows) + "." + comparison, height, parts)


def reliability(name: str, title: str, bins: Sequence[Bin]) -> str:
    """Draw the observed share of duplicates against the probability.

    Each point has its interval, and a line marks a perfect match.
    """
    known = [b for b in bins if all(map(math.isfinite, (b.probability, b.observed, b.low, b.high)))]
    if not known:
        return ""
    marks = ticks(0, 1)
    height = WIDTH - 20
    frame = _Frame(marks, [percent_label(mark) for mark in marks], height, top=30.0, bottom=44.0, right=14.0)
    x = Scale(0, 1, frame.left, frame.right)
    parts = frame.grid()
    for mark in marks:
        parts.append(
            _tag("path", look="grid", d=f"M{_number(x.at(mark))} {_number(frame.y.start)}V{_number(frame.y.end)}")
        )
        anchor = "end" if mark == 1 else "middle"
        parts.append(
            _text(x.at(mark) + (8 if mark == 1 else 0), frame.y.start + 16, percent_label(mark), "tick", anchor)
        )
    parts.append(_text((frame.left + frame.right) / 2, height - 8, "stated probability", "label", "middle"))
    parts.append(_text(4, 14, "observed share of duplicates", "label", "start"))
    diagonal = f"M{_number(x.at(0))} {_number(frame.y.at(0))}L{_number(x.at(1))} {_number(frame.y.at(1))}"
    parts.append(_tag("path", look="line expected dashed", d=diagonal))
    known = sorted(known, key=lambda b: b.probability)
    path = "L".join(f"{_number(x.at(b.probability))} {_number(frame.y.at(b.observed))}" for b in known)
    parts.append(_tag("path", look="line live thin", d=f"M{path}"))
    most = max(b.pairs for b in known) or 1
    for b in known:
        at, low, high = x.at(b.probability), frame.y.at(b.low), frame.y.at(b.high)
        cap = f"M{_number(at - 4)} {_number(low)}h8M{_number(at - 4)} {_number(high)}h8"
        parts.append(_tag("path", look="line interval", d=f"M{_number(at)} {_number(low)}V{_number(high)}{cap}"))
        hint = f"stated {b.probability:.1%}, observed {b.observed:.1%} ({b.low:.1%} to {b.high:.1%}), {b.pairs:,} pairs"
        size = 3.5 + 3.5 * math.sqrt(max(b.pairs, 0) / most)
        circle = _tag("circle", _tag("title", escape(hint)), look="mark live", cx=at, cy=frame.y.at(b.observed), r=size)
        parts.append(circle)
    words = "; ".join(f"stated {b.probability:.0%}, observed {b.observed:.0%}" for b in known)
    return _svg(name, title, f"{words}.", height, parts)


def histograms(
    name: str, title: str, edges: Sequence[float], series: Sequence[Series], x_name: str, *, height: float = 220
) -> str:
    """Draw shares between rising edges as outlines that stand on zero.

    There are k + 1 edges for k shares. Outlines let two series be compared.
    """
    heights = [[_finite(value) for value in row.values] for row in series]
    most = max((value for row in heights for value in row), default=0.0)
    if len(edges) < 2 or not most or not all(map(math.isfinite, edges)):
        return ""
    marks = ticks(0, most, 4)
    frame = _Frame(marks, [percent_label(mark) for mark in marks], height, bottom=42.0)
    x = Scale(edges[0], edges[-1], frame.left, frame.right)
    parts = frame.grid()
    inner = [mark for mark in ticks(edges[0], edges[-1]) if edges[0] <= mark <= edges[-1]]
    for mark in inner:
        parts.append(_text(x.at(mark), frame.y.start + 16, f"{mark:g}", "tick", "middle"))
    parts.append(_text((frame.left + frame.right) / 2, height - 6, x_name, "label", "middle"))
    for row, values in zip(series, heights, strict=True):
        path = f"M{_number(x.at(edges[0]))} {_number(frame.y.start)}"
        for low, high, value in zip(edges[:-1], edges[1:], values, strict=True):
            path += f"L{_number(x.at(low))} {_number(frame.y.at(value))}H{_number(x.at(high))}"
        path += f"V{_number(frame.y.start)}Z"
        parts.append(_tag("path", look=f"outline {row.look}", d=path))
    names = " and ".join(row.name for row in series)
    return _svg(name, title, f"Shares of {names} from {edges[0]:.3g} to {edges[-1]:.3g}.", height, parts)


def share_bar(name: str, title: str, parts: Sequence[tuple[str, float, str]]) -> str:
    """Draw parts of a whole as one bar; each part is (name, size, class)."""
    known = [(word, _finite(size), look) for word, size, look in parts]
    total = sum(size for _, size, _ in known)
    if not total:
        return ""
    drawn, left = [], 0.0
    for word, size, look in known:
        wide = WIDTH * size / total
        if size:
            hint = _tag("title", escape(_plain(f"{word}: {percent_label(size / total)}")))
            drawn.append(_tag("rect", hint, look=f"mark {look}", x=left, y=0.0, width=max(wide - 1, 0.5), height=14.0))
        left += wide
    words = ", ".join(f"{word} {percent_label(size / total)}" for word, size, _ in known)
    return _svg(name, title, f"{words}.", 14.0, drawn)


# ---- parts of a picture ---------------------------------------------------------------------------------------------


class _Frame:
    """Vertical axis from the first to the last tick, and its grid."""

    def __init__(
        self,
        marks: Sequence[float],
        names: Sequence[str],
        height: float,
        *,
        top: float = TOP,
        bottom: float = BOTTOM,
        right: float = 6.0,
    ) -> None:
        self.marks, self.names = marks, names
        self.left, self.right = 10 + CHARACTER * max(map(len, names)), WIDTH - right
        self.y = Scale(marks[0], marks[-1], height - bottom, top)

    def grid(self) -> list[str]:
        """Draw a line and a label for each tick; the first line is the base."""
        parts = []
        for mark, name in zip(self.marks, self.names, strict=True):
            y = self.y.at(mark)
            look = "base" if mark == self.marks[0] else "grid"
            parts.append(_tag("path", look=look, d=f"M{_number(self.left)} {_number(y)}H{_number(self.right)}"))
            parts.append(_text(self.left - 6, y + 4, name, "tick", "end"))
        return parts

    def labels(self, labels: Sequence[str], places: Sequence[float]) -> list[str]:
        """Write the labels of the horizontal axis that find room, the last one among them."""
        most = max(1, int((self.right - self.left) // LABEL_WIDTH))
        step = max(1, math.ceil(len(labels) / most))
        parts = []
        for place in range(len(labels) - 1, -1, -step):
            half = CHARACTER * len(labels[place]) / 2
            at = min(max(places[place], self.left + half - 4), WIDTH - half)
            parts.append(_text(at, self.y.start + 16, labels[place], "tick", "middle"))
        return parts[::-1]


def _svg(name: str, title: str, text: str, height: float, parts: Sequence[str]) -> str:
    head = _tag("title", escape(_plain(title)), id=f"{name}-title") + _tag(
        "desc", escape(_plain(text)), id=f"{name}-desc"
    )
    return _tag(
        "svg",
        head + "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        look="chart",
        viewBox=f"0 0 {_number(WIDTH)} {_number(height)}",
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-desc",
    )


def _tag(kind: str, body: str = "", /, *, look: str = "", **attributes: str | float) -> str:
    found = ([("class", look)] if look else []) + list(attributes.items())
    written = "".join(
        f' {key.replace("_", "-")}="{escape(_plain(value)) if isinstance(value, str) else _number(value)}"'
        for key, value in found
    )
    return f"<{kind}{written}>{body}</{kind}>" if body else f"<{kind}{written}/>"


def _text(x: float, y: float, text: str, look: str, anchor: str) -> str:
    return _tag("text", escape(_plain(text)), look=look, x=x, y=y, text_anchor=anchor)


def _number(value: float) -> str:
    return f"{round(value, 1):g}"


def _plain(text: str) -> str:
    return _REFUSED.sub("�", text)


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) and value > 0 else 0.0
