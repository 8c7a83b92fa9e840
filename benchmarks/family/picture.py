"""One picture of the family: each method is an arrow from training on Quora alone to training on near misses too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.family import sets
from benchmarks.family.results import QUORA_AP, WORLDS_AUC, Row, of_trainings, overlap_auc, pooled
from benchmarks.family.runs import MADE_OF
from benchmarks.family.stages import STAGES, stage_of
from benchmarks.readme import ROOT

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""
TITLE = "What near misses teach each similarity network"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 960, 640, 76, 122, 936, 578
HEADS = {"early": "compares early", "merged": "compares merged vectors", "late": "compares late"}
CAPTIONS = {
    "early": "the tokens of both questions meet",
    "merged": "two vectors and a trained head",
    "late": "two vectors and their distance",
}
STYLE = """
.paper{fill:#fff}.ink{fill:#1f2937}.pale{fill:#5b6472}.grid{stroke:#e5e7eb}.chance{stroke:#5b6472}
.early{--c:#c2410c}.merged{--c:#7c3aed}.late{--c:#2563eb}
.arrow{fill:none;stroke:var(--c);stroke-width:2;opacity:.8}.tip,.name{fill:var(--c)}
.start{fill:#fff;stroke:var(--c);stroke-width:1.5}
.name,.halo{paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}
@media (prefers-color-scheme: dark){
.paper{fill:#14181f}.ink{fill:#f3f4f6}.pale{fill:#a3acba}.grid{stroke:#2b323d}.chance{stroke:#a3acba}
.early{--c:#fb923c}.merged{--c:#c4b5fd}.late{--c:#60a5fa}.start{fill:#14181f}.name,.halo{stroke:#14181f}}
""".replace("\n", "")
"""Colours of a light and of a dark page; the picture has a ground of its own, so that it is legible on both."""


def place(encoder: str) -> Path:
    return ROOT / "docs" / "_static" / f"family-{encoder}.svg"


def picture(folder: Path) -> str:
    """The SVG of an encoder's results; "" before two methods have both training sets."""
    found = of_trainings(folder)
    alone, mixed = found[sets.QUORA], found[sets.MIXED]
    names = [name for name in alone if name in mixed and name not in MADE_OF]

    def point(rows: list[Row]) -> Point:
        return float(pooled(rows, QUORA_AP).mean()), float(pooled(rows, WORLDS_AUC).mean())

    arrows = {name: (point(alone[name]), point(mixed[name])) for name in names}
    return draw(arrows, f"from {folder.name}", overlap_auc()[0]) if len(arrows) > 1 else ""


class Axes:
    """The map of data units to pixels; the line of chance is inside it.

    Args:
        points: Points in data units, (n, 2).
        overlap: ROC AUC of the word overlap; its line is inside too.
    """

    def __init__(self, points: NDArray[np.float64], overlap: float) -> None:
        low, high = points.min(axis=0), points.max(axis=0)
        margin = np.maximum(0.06 * (high - low), 0.005)
        self.low, self.high = low - margin, high + margin
        self.low[1], self.high[1] = min(self.low[1], overlap - 0.02, 0.48), max(self.high[1], 0.53)
        self.overlap = overlap

    def x(self, value: float) -> float:
        return float(LEFT + (value - self.low[0]) / (self.high[0] - self.low[0]) * (RIGHT - LEFT))

    def y(self, value: float) -> float:
        return float(BOTTOM - (value - self.low[1]) / (self.high[1] - self.low[1]) * (BOTTOM - TOP))

    def svg(self) -> str:
        columns = "".join(
            f"<path class='grid' d='M{self.x(value):.1f} {TOP}V{BOTTOM}'/>"
            + text(self.x(value), BOTTOM + 18, f"{value:g}", "pale", 12, "middle")
            for value in ticks(self.low[0], self.high[0])
        )
        rows = "".join(
            f"<path class='grid' d='M{LEFT} {self.y(value):.1f}H{RIGHT}'/>"
            + text(LEFT - 8, self.y(value) + 4, f"{value:g}", "pale", 12, "end")
            for value in ticks(self.low[1], self.high[1])
        )
        middle = (TOP + BOTTOM) // 2
        marks = "".join(
            f"<path class='chance' d='M{LEFT} {self.y(value):.1f}H{RIGHT}' stroke-dasharray='5 4'/>"
            for value in (0.5, self.overlap)
        )
        return (
            f"{columns}{rows}{marks}"
            + text((LEFT + RIGHT) / 2, HEIGHT - 18, "average precision on Quora →", "ink", 14, "middle")
            + f"<g transform='rotate(-90 26 {middle})'>"
            + text(26, middle, "ROC AUC on near misses →", "ink", 14, "middle")
            + "</g>"
        )


def ticks(low: float, high: float) -> list[float]:
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 9)
    return [round(step * k, 9) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def text(x: float, y: float, words: str, kind: str, size: float, anchor: str = "start", weight: int = 400) -> str:
    return (
        f"<text class='{kind}' x='{x:.1f}' y='{y:.1f}' font-size='{size:g}' text-anchor='{anchor}' "
        f"font-weight='{weight}'>{escape(words)}</text>"
    )


def draw(arrows: dict[str, tuple[Point, Point]], under: str, overlap: float) -> str:
    """Return the SVG of arrows (start, end) in data units by method, above the ROC AUC of the word overlap."""
    axes = Axes(np.array([point for arrow in arrows.values() for point in arrow]), overlap)
    pixels: dict[str, tuple[Point, Point]] = {}
    for name, ((x1, y1), (x2, y2)) in arrows.items():
        pixels[name] = ((axes.x(x1), axes.y(y1)), (axes.x(x2), axes.y(y2)))
    taken = [(x - 5, y - 5, x + 5, y + 5) for arrow in pixels.values() for x, y in arrow]
    lines = {"chance; below it, shared words mislead": 0.5, "the share of common words alone": overlap}
    captions = []
    for words, value in lines.items():
        captions.append(text(LEFT + 6, axes.y(value) - 5, words, "pale halo", 11))
        taken.append((LEFT + 6, axes.y(value) - 16, LEFT + 6 + 5.8 * len(words), axes.y(value)))
    labels = []
    # The highest ends are named first; a name without room is left to the pointer.
    for name in sorted(pixels, key=lambda name: pixels[name][1][1]):
        box = room(name, pixels[name][1], taken)
        if box:
            taken.append(box)
            labels.append(text(box[0], box[3] - 3, name, f"name {stage_of(name)}", 11))
    heading = text(24, 36, f"{TITLE}, {under}", "ink", 20, weight=650)
    line = "Each arrow is a method: trained on Quora rows alone (ring), and on as many of which half are near misses"
    heading += text(24, 58, f"{line} (head).", "pale", 13)
    for row, stage in enumerate(STAGES):
        x = 24 + row * 300
        heading += (
            f"<g class='{stage}'><path class='arrow' d='M{x} 82h22'/><path class='tip' d='M{x + 30} 82l-9 -4.5v9z'/>"
        )
        heading += text(x + 38, 86, HEADS[stage], "name", 13, weight=600) + "</g>"
        heading += text(x + 38, 102, CAPTIONS[stage], "pale", 11)
    page = f"width='{WIDTH}' height='{HEIGHT}' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{TITLE}'"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' {page} font-family='system-ui, -apple-system, Segoe UI, Helvetica, "
        f"Arial, sans-serif'><style>{STYLE}</style><rect class='paper' width='{WIDTH}' height='{HEIGHT}' rx='8'/>"
        + axes.svg()
        + "".join(arrow(name, pixels[name], arrows[name]) for name in pixels)
        + "".join(labels)
        + "".join(captions)
        + f"{heading}</svg>\n"
    )


def arrow(name: str, ends: tuple[Point, Point], data: tuple[Point, Point]) -> str:
    """An arrow, and its figures under the pointer."""
    (x1, y1), (x2, y2) = ends
    (ap1, auc1), (ap2, auc2) = data
    hint = f"{name}: AP on Quora {ap1:.3f} to {ap2:.3f}, AUC on near misses {auc1:.3f} to {auc2:.3f}"
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
    stop = max(length - 8, 0) / length
    return (
        f"<g class='{stage_of(name)}'><title>{escape(hint)}</title>"
        f"<path class='arrow' d='M{x1:.1f} {y1:.1f}L{x1 + stop * (x2 - x1):.1f} {y1 + stop * (y2 - y1):.1f}'/>"
        f"<circle class='start' cx='{x1:.1f}' cy='{y1:.1f}' r='3.5'/>"
        f"<path class='tip' d='M0 0l-10 -4.5v9z' transform='translate({x2:.1f} {y2:.1f}) rotate({angle:.1f})'/></g>"
    )


def room(name: str, end: Point, taken: Sequence[Box]) -> Box | None:
    """The box of a name beside the end of its arrow that covers nothing; None without one."""
    wide, high, (x, y) = 6.4 * len(name) + 4, 14, end
    places = [(x + 8, y - 7), (x - 8 - wide, y - 7)]
    places += [(x - wide / 2, y - 22), (x - wide / 2, y + 8), (x, y - 22), (x, y + 8)]
    for left, top in places:
        box = (left, top, left + wide, top + high)
        inside = box[0] >= LEFT and box[1] >= TOP and box[2] <= RIGHT and box[3] <= BOTTOM
        if inside and not any(box[0] < c and a < box[2] and box[1] < d and b < box[3] for a, b, c, d in taken):
            return box
    return None
