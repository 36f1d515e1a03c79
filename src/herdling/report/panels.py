"""Panels of curves, bands and dots on straight or logarithmic axes, in rows under each other, as one SVG: the pictures of measured laws.

A panel is a value: what is drawn, in units of its axes. Two panels in a row share the width of a phone; colours and dark mode come from `standalone.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import ceil, floor, log10
from typing import Literal
from xml.etree import ElementTree as ET

from herdling.base.units import format_count
from herdling.report.chart import LETTER, NUM_COLOURS, WIDTH, tick_label, ticks
from herdling.report.standalone import standalone

Point = tuple[float, float]
Place = Callable[[float, float], Point]
HEAD, FOOT, GAP, EDGE = 40.0, 34.0, 14.0, 16.0
LINE = 13.0
"""From one label to the next below it."""
MOST_POWER = 307
PAGE = "display:block;margin:auto;max-width:46rem;height:auto"
"""A tall picture is scrolled at its width rather than shrunk to the height of a window."""
LARGEST_COUNT = 1e15
"""Above it a tick is written as 1e18, below as 10B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """One thing in one colour: a line through `curve`, a `band` of (x, low, high), `dots` with `whiskers` of (x, low, high), a `label` at the end.

    `shade` from 0 to 1 takes a colour between two of the palette for series that are ordered; else `colour` is a number of the palette.
    """

    curve: Sequence[Point] = ()
    band: Sequence[tuple[float, float, float]] = ()
    dots: Sequence[Point] = ()
    whiskers: Sequence[tuple[float, float, float]] = ()
    label: str = ""
    colour: int = 0
    shade: float | None = None
    dashed: bool = False
    hollow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A pair of axes with what is drawn on them. Labels stand in the `names` corner: `top` or `bottom` right, `left` (top left), or at the `ends` of lines."""

    title: str
    x_unit: str
    y_unit: str
    marks: Sequence[Marks]
    log_x: bool = False
    log_y: bool = False
    names: Literal["top", "bottom", "left", "ends"] = "top"


def picture(rows: Sequence[Sequence[Panel]], title: str, *, height: float = 260.0) -> str:
    """Return one SVG with a row of panels under the other, each `height` units high; the width is 400 units."""
    svg = ET.Element("svg", {"viewBox": f"0 0 {WIDTH:g} {height * len(rows):g}", "role": "img", "aria-label": title, "style": PAGE})
    ET.SubElement(svg, "title").text = title
    for down, panels in enumerate(rows):
        width = (WIDTH - GAP * (len(panels) - 1)) / len(panels)
        for across, panel in enumerate(panels):
            group = ET.SubElement(svg, "g", {"transform": f"translate({across * (width + GAP):g} {down * height:g})"})
            _draw(group, panel, width, height)
    return standalone(ET.tostring(svg, encoding="unicode"), ())


def _draw(group: ET.Element, panel: Panel, width: float, height: float) -> None:
    points = [point for marks in panel.marks for point in _points(marks)]
    xs, ys = (_ticks([point[axis] for point in points], log, about) for axis, log, about in ((0, panel.log_x, width / 75), (1, panel.log_y, height / 50)))
    left = EDGE / 2 + 6 + LETTER * max(len(_written(value)) for value in ys)
    beside = LETTER * max((len(marks.label) for marks in panel.marks), default=0) if panel.names == "ends" else 0.0
    right = width - EDGE - beside
    place = _scale(panel, xs, ys, (left, right, HEAD, height - FOOT))
    for value in ys:
        _line(group, "grid", place(xs[0], value), place(xs[-1], value))
        _text(group, _written(value), left - 5, place(xs[0], value)[1] + 3.5, "end")
    for value in xs:
        _text(group, _written(value), place(value, ys[0])[0], height - FOOT + 14, "middle")
    _text(group, panel.title, EDGE / 2, 14, "start", "title")
    _text(group, panel.y_unit, EDGE / 2, 28, "start", "unit")
    _text(group, panel.x_unit, (left + right) / 2, height - 5, "middle", "unit")
    for marks in panel.marks:
        _mark(group, marks, place)
    _name(group, panel, place, (left + 6, right - 4, HEAD + 10, height - FOOT - 6))


def _points(marks: Marks) -> list[Point]:
    spans = [*marks.band, *marks.whiskers]
    return [*marks.curve, *marks.dots, *((x, low) for x, low, _ in spans), *((x, high) for x, _, high in spans)]


def _ticks(values: Sequence[float], log: bool, about: float) -> list[float]:
    """Return round numbers that enclose the values: for a logarithmic axis powers of ten, or 1, 2, 5 between them where these are few."""
    low, high = min(values), max(values)
    if not log:
        return ticks(low, high, max(2, round(about)))
    first, last = floor(log10(low) + 1e-9), ceil(log10(high) - 1e-9)
    if last - first <= max(1, about / 3):
        fine = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
        inside = [value for value in fine if low <= value <= high]
        below, above = [value for value in fine if value < low * (1 + 1e-9)], [value for value in fine if value > high * (1 - 1e-9)]
        return sorted({*below[-1:], *inside, *above[:1]})
    step = max(1, ceil((last - first) / about))
    return [10.0 ** min(power, MOST_POWER) for power in range(first, last + step, step)]


def _written(value: float) -> str:
    if abs(value) >= LARGEST_COUNT:
        return f"{value:.3g}".replace("e+", "e")
    return format_count(value) if abs(value) >= 1000 else tick_label(value)


def _scale(panel: Panel, xs: Sequence[float], ys: Sequence[float], box: tuple[float, float, float, float]) -> Place:
    """Return what turns a value into a place within `box` (left, right, top, bottom)."""
    left, right, top, bottom = box

    def share(value: float, ends: Sequence[float], log: bool) -> float:
        return log10(value / ends[0]) / log10(ends[-1] / ends[0]) if log else (value - ends[0]) / (ends[-1] - ends[0])

    return lambda x, y: (left + share(x, xs, panel.log_x) * (right - left), bottom - share(y, ys, panel.log_y) * (bottom - top))


def _mark(group: ET.Element, marks: Marks, place: Place) -> None:
    looks = _looks(marks)
    if marks.band:
        around = [*((x, low) for x, low, _ in marks.band), *((x, high) for x, _, high in reversed(marks.band))]
        ET.SubElement(group, "polygon", {**looks("band"), "points": _path(around, place)})
    if marks.curve:
        dashes = {"stroke-dasharray": "4 3"} if marks.dashed else {}
        ET.SubElement(group, "polyline", {**looks("line"), **dashes, "points": _path(marks.curve, place)})
    for x, low, high in marks.whiskers:
        _line(group, "whisker", place(x, low), place(x, high), looks)
    for x, y in marks.dots:
        across, up = place(x, y)
        ring = {"r": "3.6"} if marks.hollow else {"r": "2.6"}
        ET.SubElement(group, "circle", {**looks("ring" if marks.hollow else "dot"), "cx": f"{across:.1f}", "cy": f"{up:.1f}", **ring})


def _looks(marks: Marks) -> Callable[[str], dict[str, str]]:
    if marks.shade is None:
        return lambda style: {"class": f"{style} colour-{marks.colour % NUM_COLOURS}"}
    mixed = f"--c:color-mix(in oklab,var(--late) {100 * marks.shade:.0f}%,var(--early))"
    return lambda style: {"class": style, "style": mixed}


def _name(group: ET.Element, panel: Panel, place: Place, box: tuple[float, float, float, float]) -> None:
    """Write the labels into a corner of `box` (left, right, top, bottom), or beside the last point of each line."""
    left, right, top, bottom = box
    named = [marks for marks in panel.marks if marks.label]
    if panel.names == "ends":
        spots = _spread([(x + 4, y + 3.5) for x, y in (place(*marks.curve[-1]) for marks in named)], [len(marks.label) for marks in named], (top, bottom))
        anchor = "start"
    else:
        first = bottom - LINE * (len(named) - 1) if panel.names == "bottom" else top
        spots = [(left if panel.names == "left" else right, first + LINE * number) for number in range(len(named))]
        anchor = "start" if panel.names == "left" else "end"
    for marks, (x, y) in zip(named, spots, strict=True):
        _text(group, marks.label, x, y, anchor).attrib.update(_looks(marks)("name"))


def _spread(spots: Sequence[Point], letters: Sequence[int], within: tuple[float, float]) -> list[Point]:
    """Move labels up and down, as little as can be, until none lies on another: those that would are laid a line apart, their middle where it was.

    A label begins at its spot and is so many letters long; all stay between the ends of `within` where there is room.
    """
    top, bottom = within
    found = list(spots)
    stacks = [[number] for number in sorted(range(len(spots)), key=lambda number: spots[number][1])]
    while clash := _clash(stacks, found, letters):
        first, second = clash
        together = sorted(stacks.pop(second) + stacks.pop(first), key=lambda number: spots[number][1])
        middle = sum(spots[number][1] for number in together) / len(together)
        reach = LINE * (len(together) - 1) / 2
        middle = min(max(middle, top + reach), max(bottom - reach, top + reach))
        for place, number in enumerate(together):
            found[number] = (spots[number][0], middle - reach + LINE * place)
        stacks.insert(first, together)
    return found


def _clash(stacks: Sequence[Sequence[int]], spots: Sequence[Point], letters: Sequence[int]) -> tuple[int, int] | None:
    """Return the first two stacks of which a label of one lies on a label of the other."""
    for first, second in combinations(range(len(stacks)), 2):
        for one, other in product(stacks[first], stacks[second]):
            begin, end = sorted((one, other), key=lambda number: spots[number][0])
            over = spots[begin][0] + LETTER * letters[begin] > spots[end][0]
            if over and abs(spots[one][1] - spots[other][1]) < LINE - 1e-6:
                return first, second
    return None


def _path(points: Sequence[Point], place: Place) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))


def _line(group: ET.Element, style: str, start: Point, end: Point, looks: Callable[[str], dict[str, str]] | None = None) -> None:
    ends = zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
    ET.SubElement(group, "line", {**(looks(style) if looks else {"class": style}), **{name: f"{value:.1f}" for name, value in ends}})


def _text(group: ET.Element, text: str, x: float, y: float, anchor: str, style: str = "label") -> ET.Element:
    element = ET.SubElement(group, "text", {"class": style, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})
    element.text = text
    return element


def geometric(low: float, high: float, count: int = 60) -> list[float]:
    """Return values from `low` to `high` in equal ratios."""
    return [low * (high / low) ** (number / (count - 1)) for number in range(count)]
