"""Diagrams of a report as SVG text, without a plotting library.

A report that holds them is one file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from dupq.evaluation.metrics import ReliabilityBin

INK, PALE, GRID = "#1f2937", "#6b7280", "#e5e7eb"
COLOURS = ("#2563eb", "#ea580c", "#15803d", "#7c3aed", "#be123c", "#0e7490", "#a16207")
BLUE, ORANGE = COLOURS[:2]
FONTS = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 520, 400, 64, 44, 500, 344

Point = tuple[float, float]


class Plot:
    """A pair of axes with a title and a legend.

    Args:
        title, x, y: Title and labels.
        x_range, y_range: Ends of the axes in data units.
    """

    def __init__(self, title: str, x: str, y: str, x_range: Point, y_range: Point) -> None:
        self.title, self.x_range, self.y_range = title, x_range, y_range
        self._legend: list[tuple[str, str, str]] = []  # name, colour, mark
        self._parts: list[str] = []
        for value in _ticks(*x_range):
            across, _ = self.at(value, y_range[0])
            tick = _text(across, BOTTOM + 18, f"{value:g}", PALE)
            self._parts += [_path(f"M{across:.1f} {BOTTOM}V{TOP}", GRID), tick]
        for value in _ticks(*y_range):
            _, up = self.at(x_range[0], value)
            tick = _text(LEFT - 8, up + 4, f"{value:g}", PALE, "end")
            self._parts += [_path(f"M{LEFT} {up:.1f}H{RIGHT}", GRID), tick]
        self._parts += [
            _path(f"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}", PALE),
            _text(LEFT, 26, title, INK, "start", font_size=15, font_weight=600),
            _text((LEFT + RIGHT) / 2, HEIGHT - 16, x, INK, font_size=13),
            _text(18, (TOP + BOTTOM) / 2, y, INK, font_size=13, transform=f"rotate(-90 18 {(TOP + BOTTOM) // 2})"),
        ]

    def at(self, x: float, y: float) -> Point:
        """Convert a point from data units to pixels, clipped to the axes."""
        across, up = (
            min(max((value - low) / ((high - low) or 1), 0.0), 1.0)
            for value, (low, high) in ((x, self.x_range), (y, self.y_range))
        )
        return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)

    def line(self, points: Sequence[Point], colour: str, name: str = "", *, dashed: bool = False) -> None:
        """Draw a line through points; a name enters the legend."""
        path = "M" + "L".join("{:.1f} {:.1f}".format(*self.at(*point)) for point in points)
        self._parts.append(_path(path, colour, stroke_width=2, **({"stroke_dasharray": "5 4"} if dashed else {})))
        self._legend += [(name, colour, "╌╌" if dashed else "──")] if name else []

    def dot(self, x: float, y: float, colour: str, text: str = "", *, hint: str = "") -> None:
        """Draw a point with a label beside it and a hint under the pointer.

        The hint is the label by default.
        """
        a, b = self.at(x, y)
        self._parts.append(_tag("circle", _tag("title", escape(hint or text)), cx=a, cy=b, r=4, fill=colour))
        if text:  # a falling curve leaves room above it on the left, and below it on the right
            across, down, anchor = (-8, 16, "end") if a > (LEFT + RIGHT) / 2 else (8, -8, "start")
            self._parts.append(_text(a + across, b + down, text, colour, anchor))

    def bars(self, edges: Sequence[float], heights: Sequence[float], colour: str, name: str) -> None:
        """Draw translucent bars between consecutive edges."""
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            (a, b), (c, d) = self.at(low, self.y_range[0]), self.at(high, height)
            self._parts.append(_tag("rect", x=a, y=d, width=c - a, height=b - d, fill=colour, fill_opacity=0.45))
        self._legend.append((name, colour, "■"))

    def svg(self, *, legend: str = "top-left") -> str:
        """Return the SVG; `legend` is the corner of the legend, such as "bottom-right"."""
        x, anchor = (LEFT + 12, "start") if "left" in legend else (RIGHT - 8, "end")
        y = TOP + 20 if "top" in legend else BOTTOM + 6 - 18 * len(self._legend)
        names = [
            _text(x, y + 18 * row, f"{mark} {name}", colour, anchor, stroke="white", paint_order="stroke")
            for row, (name, colour, mark) in enumerate(self._legend)
        ]
        body = "".join([_tag("rect", width=WIDTH, height=HEIGHT, fill="white"), *self._parts, *names])
        page: dict[str, str | float] = {"xmlns": "http://www.w3.org/2000/svg", "width": WIDTH, "height": HEIGHT}
        view = f"0 0 {WIDTH} {HEIGHT}"
        return _tag("svg", body, **page, viewBox=view, role="img", aria_label=self.title, font_family=FONTS)


def _tag(name: str, body: str = "", /, **attributes: str | float) -> str:
    for key, value in attributes.items():
        name += f" {key.replace('_', '-')}='{escape(value) if isinstance(value, str) else f'{value:.4g}'}'"
    return f"<{name}>{body}</{name.split()[0]}>"


def _path(path: str, colour: str, **more: str | float) -> str:
    return _tag("path", d=path, fill="none", stroke=colour, **more)


def _text(x: float, y: float, text: str, colour: str, anchor: str = "middle", **more: str | float) -> str:
    return _tag("text", escape(text), x=x, y=y, fill=colour, text_anchor=anchor, **{"font_size": 12, **more})


def _ticks(low: float, high: float) -> list[float]:
    if not high > low:
        return [low]
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> str:
    """Draw observed shares of duplicates against probabilities, with 95 % intervals."""
    plot = Plot("Reliability", "stated probability", "observed share of duplicates", (0, 1), (0, 1))
    plot.line([(0, 0), (1, 1)], PALE, "perfect", dashed=True)
    plot.line([(b.probability, b.observed) for b in bins], BLUE, "observed, with 95 % interval")
    for b in bins:
        plot.line([(b.probability, b.low), (b.probability, b.high)], BLUE)
        hint = f"stated {b.probability:.3f}, observed {b.observed:.3f} [{b.low:.3f}, {b.high:.3f}], {b.pairs:,} pairs"
        plot.dot(b.probability, b.observed, BLUE, hint=hint)
    return plot.svg()


def precision_recall_diagram(
    curve: Sequence[Point], thresholds: Sequence[tuple[str, float, float]], base_rate: float
) -> str:
    """Draw the curve of precision and recall, with thresholds on it.

    `curve` holds (recall, precision) of each point, and `thresholds` (name, recall, precision).
    """
    plot = Plot("Precision and recall", "recall", "precision", (0, 1), (0, 1))
    plot.line([(0, base_rate), (1, base_rate)], PALE, "all flagged", dashed=True)
    plot.line(curve, BLUE, "precision")
    for (name, recall, precision), colour in zip(thresholds, COLOURS[1:], strict=False):
        plot.dot(recall, precision, colour, f"{name}: precision {precision:.3f}, recall {recall:.3f}")
    return plot.svg(legend="bottom-left")


def score_histogram(
    edges: Sequence[float], duplicates: Sequence[float], distinct: Sequence[float], cuts: Sequence[tuple[str, float]]
) -> str:
    """Draw a histogram of raw scores for each label, with thresholds.

    `edges` are k + 1 raw scores, `duplicates` and `distinct` the k shares of each label's pairs between them, and
    `cuts` are thresholds (name, score).
    """
    top = 1.3 * max([*duplicates, *distinct, 1e-9])
    plot = Plot("Scores by label", "raw score", "share of the label's pairs", (edges[0], edges[-1]), (0, top))
    plot.bars(edges, distinct, ORANGE, "distinct")
    plot.bars(edges, duplicates, BLUE, "duplicate")
    for (name, score), colour in zip(cuts, (INK, COLOURS[3]), strict=False):
        plot.line([(score, 0), (score, top)], colour, name, dashed=True)
    half = len(duplicates) // 2
    right_is_free = max([*duplicates[half:], *distinct[half:]]) < max([*duplicates[:half], *distinct[:half]])
    return plot.svg(legend="top-right" if right_is_free else "top-left")
