"""Small pictures as SVG text, drawn without a plotting library, so that a report is one file that opens anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from dupq.decisions.metrics import ReliabilityBin

INK, PALE, GRID = "#1f2937", "#6b7280", "#e5e7eb"
BLUE, ORANGE, GREEN, VIOLET = "#2563eb", "#ea580c", "#15803d", "#7c3aed"
COLOURS = (BLUE, ORANGE, GREEN, VIOLET, "#be123c", "#0e7490", "#a16207")
_FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"

Point = tuple[float, float]


class Plot:
    """One set of axes, filled in piece by piece; `svg()` gives the picture.

    Args:
        title: Stands above.
        x, y: What the axes show.
        x_range, y_range: The ends of the axes, in data units.
        x_log: Whether x is drawn by its logarithm; both ends are then above 0.
        x_names: Words that stand at x = 0, 1, ... instead of numbers.
        width, height: In pixels.
    """

    def __init__(
        self,
        title: str,
        x: str,
        y: str,
        x_range: Point,
        y_range: Point,
        *,
        x_log: bool = False,
        x_names: Sequence[str] | None = None,
        width: int = 520,
        height: int = 400,
    ) -> None:
        self.title, self.x_label, self.y_label = title, x, y
        self.x_range, self.y_range, self.x_log, self.x_names = x_range, y_range, x_log, x_names
        self.width, self.height = width, height
        self.left, self.top, self.right, self.bottom = 64, 44, width - 20, height - 56
        self._parts: list[str] = []
        self._legend: list[tuple[str, str, str]] = []

    def at(self, x: float, y: float) -> Point:
        """Pixels of a point in data units; what is outside the axes is drawn at their edge."""
        scale: Callable[[float], float] = math.log10 if self.x_log else float
        low, high = scale(self.x_range[0]), scale(self.x_range[1])
        across = (scale(max(x, self.x_range[0]) if self.x_log else x) - low) / ((high - low) or 1)
        up = (y - self.y_range[0]) / ((self.y_range[1] - self.y_range[0]) or 1)
        across, up = min(max(across, 0.0), 1.0), min(max(up, 0.0), 1.0)
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def line(self, points: Sequence[Point], colour: str, name: str = "", *, dashed: bool = False) -> None:
        """A line through the points."""
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self.at(*point) for point in points))
        dash = " stroke-dasharray='5 4'" if dashed else ""
        self._parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'{dash}/>")
        if name:
            self._legend.append((name, colour, "dashed" if dashed else "line"))

    def band(self, points: Sequence[tuple[float, float, float]], colour: str, name: str = "") -> None:
        """A shaded area between (x, low, high)."""
        around = [(x, high) for x, _, high in points] + [(x, low) for x, low, _ in reversed(points)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self.at(*point) for point in around))
        self._parts.append(f"<polygon points='{path}' fill='{colour}' fill-opacity='0.15' stroke='none'/>")
        if name:
            self._legend.append((name, colour, "band"))

    def whisker(self, x: float, low: float, high: float, colour: str) -> None:
        """An upright interval."""
        (a, b), (_, c) = self.at(x, low), self.at(x, high)
        self._parts.append(
            f"<path d='M{a:.1f} {b:.1f}V{c:.1f}M{a - 3:.1f} {b:.1f}h6M{a - 3:.1f} {c:.1f}h6' "
            f"stroke='{colour}' stroke-width='1.5' fill='none'/>"
        )

    def dot(self, x: float, y: float, colour: str, text: str = "", *, hint: str = "") -> None:
        """A point, a word where a falling curve leaves room for it, and a hint that shows under the pointer."""
        a, b = self.at(x, y)
        tip = f"<title>{escape(hint or text)}</title>" if hint or text else ""
        self._parts.append(
            f"<circle cx='{a:.1f}' cy='{b:.1f}' r='4' fill='{colour}' stroke='white' stroke-width='1'>{tip}</circle>"
        )
        if text:
            end = a > (self.left + self.right) / 2
            self._text(a + (-8 if end else 8), b + (16 if end else -8), text, colour, "end" if end else "start", 12)

    def bars(self, edges: Sequence[float], heights: Sequence[float], colour: str, name: str = "") -> None:
        """Upright bars between consecutive edges, see-through."""
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            (a, b), (c, d) = self.at(low, self.y_range[0]), self.at(high, height)
            self._parts.append(
                f"<rect x='{a:.1f}' y='{d:.1f}' width='{max(c - a, 0):.1f}' height='{b - d:.1f}' fill='{colour}' "
                f"fill-opacity='0.45' stroke='{colour}' stroke-opacity='0.6' stroke-width='0.5'/>"
            )
        if name:
            self._legend.append((name, colour, "band"))

    def upright(self, x: float, colour: str, name: str = "") -> None:
        """A dashed line from bottom to top."""
        a, _ = self.at(x, self.y_range[0])
        self._parts.append(
            f"<path d='M{a:.1f} {self.bottom}V{self.top}' stroke='{colour}' stroke-width='1.5' stroke-dasharray='5 4'/>"
        )
        if name:
            self._legend.append((name, colour, "dashed"))

    def svg(self, *, legend: str = "top-left") -> str:
        """The picture; `legend` is the corner it stands in."""
        head = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {self.width} {self.height}' width='{self.width}' "
            f"height='{self.height}' role='img' aria-label='{escape(self.title, quote=True)}' {_FONT}>"
            f"<rect width='{self.width}' height='{self.height}' fill='white'/>"
        )
        inside, self._parts = self._parts, []
        self._axes()
        frame, self._parts = self._parts, []
        self._draw_legend(legend)
        return head + "".join([*frame, *inside, *self._parts]) + "</svg>"

    def _text(self, x: float, y: float, text: str, colour: str, anchor: str, size: int, more: str = "") -> None:
        style = f"fill='{colour}' text-anchor='{anchor}' font-size='{size}'{more}"
        self._parts.append(f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>")

    def _axes(self) -> None:
        marks = [(x, f"{x:g}") for x in (_log_ticks if self.x_log else _ticks)(*self.x_range)]
        if self.x_names is not None:
            marks = [(float(place), name) for place, name in enumerate(self.x_names)]
        for value, name in marks:
            a, _ = self.at(value, self.y_range[0])
            self._parts.append(f"<path d='M{a:.1f} {self.bottom}V{self.top}' stroke='{GRID}'/>")
            self._text(a, self.bottom + 18, name, PALE, "middle", 12)
        for value in _ticks(*self.y_range):
            _, b = self.at(self.x_range[0], value)
            self._parts.append(f"<path d='M{self.left} {b:.1f}H{self.right}' stroke='{GRID}'/>")
            self._text(self.left - 8, b + 4, f"{value:g}", PALE, "end", 12)
        self._parts.append(
            f"<path d='M{self.left} {self.top}V{self.bottom}H{self.right}' stroke='{PALE}' fill='none'/>"
        )
        self._text(self.left, 26, self.title, INK, "start", 15, " font-weight='600'")
        self._text((self.left + self.right) / 2, self.height - 16, self.x_label, INK, "middle", 13)
        middle = (self.top + self.bottom) / 2
        self._text(18, middle, self.y_label, INK, "middle", 13, f" transform='rotate(-90 18 {middle:.0f})'")

    def _draw_legend(self, corner: str) -> None:
        if not self._legend:
            return
        wide = 40 + 6.6 * max(len(name) for name, _, _ in self._legend)
        high = 8 + 18 * len(self._legend)
        x = self.left + 8 if "left" in corner else self.right - wide - 8
        y = self.top + 8 if "top" in corner else self.bottom - high - 8
        self._parts.append(
            f"<rect x='{x:.1f}' y='{y:.1f}' width='{wide:.1f}' height='{high}' rx='4' fill='white' "
            f"fill-opacity='0.85' stroke='{GRID}'/>"
        )
        for row, (name, colour, kind) in enumerate(self._legend):
            middle = y + 13 + 18 * row
            if kind == "band":
                place = f"x='{x + 8:.1f}' y='{middle - 5:.1f}' width='18' height='10'"
                self._parts.append(f"<rect {place} fill='{colour}' fill-opacity='0.4'/>")
            else:
                dash = " stroke-dasharray='5 4'" if kind == "dashed" else ""
                self._parts.append(f"<path d='M{x + 8:.1f} {middle:.1f}h18' stroke='{colour}' stroke-width='2'{dash}/>")
            self._text(x + 32, middle + 4, name, INK, "start", 12)


def _ticks(low: float, high: float) -> list[float]:
    if not high > low:
        return [low]
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [x for k in powers for x in (10.0**k, 2 * 10.0**k, 5 * 10.0**k) if low * 0.999 <= x <= high * 1.001]


def reliability_diagram(bins: Sequence[ReliabilityBin], title: str = "Reliability") -> str:
    """Observed share of duplicates against stated probability, with 95 % intervals; the diagonal is perfect."""
    plot = Plot(title, "stated probability", "observed share of duplicates", (0, 1), (0, 1))
    plot.line([(0, 0), (1, 1)], PALE, "perfect", dashed=True)
    plot.band([(b.probability, b.low, b.high) for b in bins], BLUE, "95 % interval")
    plot.line([(b.probability, b.observed) for b in bins], BLUE, "observed")
    for b in bins:
        plot.whisker(b.probability, b.low, b.high, BLUE)
        hint = f"stated {b.probability:.3f}, observed {b.observed:.3f} [{b.low:.3f}, {b.high:.3f}], {b.pairs:,} pairs"
        plot.dot(b.probability, b.observed, BLUE, hint=hint)
    return plot.svg()


def precision_recall_diagram(
    curve: Sequence[Point],
    chosen: Sequence[tuple[str, float, float]],
    base_rate: float,
    title: str = "Precision and recall",
) -> str:
    """Precision against recall, with the chosen thresholds on it.

    Args:
        curve: (recall, precision), recall rising.
        chosen: (name, recall, precision) of each threshold.
        base_rate: The precision of calling every pair a duplicate.
        title: Of the picture.
    """
    plot = Plot(title, "recall", "precision", (0, 1), (0, 1))
    plot.line([(0, base_rate), (1, base_rate)], PALE, "all flagged", dashed=True)
    plot.line(list(curve), BLUE, "precision")
    for index, (name, recall, precision) in enumerate(chosen):
        text = f"{name}: precision {precision:.3f}, recall {recall:.3f}"
        plot.dot(recall, precision, COLOURS[1 + index % (len(COLOURS) - 1)], text)
    return plot.svg(legend="bottom-left")


def score_histogram(
    edges: Sequence[float],
    duplicates: Sequence[float],
    distinct: Sequence[float],
    cuts: Sequence[tuple[str, float]],
    title: str = "Scores by label",
) -> str:
    """Share of each label's pairs in each bin of the raw score, and the cuts of the rule.

    Args:
        edges: k + 1 rising scores.
        duplicates, distinct: k shares, each set summing to 1 or less.
        cuts: (name, score) of each threshold.
        title: Of the picture.
    """
    top = max([*duplicates, *distinct, 1e-9])
    plot = Plot(title, "raw score", "share of the label's pairs", (edges[0], edges[-1]), (0, top * 1.3))
    plot.bars(edges, distinct, ORANGE, "distinct")
    plot.bars(edges, duplicates, BLUE, "duplicate")
    for index, (name, cut) in enumerate(cuts):
        plot.upright(cut, (INK, VIOLET)[index % 2], name)
    half = len(duplicates) // 2
    right_is_free = max([*duplicates[half:], *distinct[half:]]) < max([*duplicates[:half], *distinct[:half]])
    return plot.svg(legend="top-right" if right_is_free else "top-left")
