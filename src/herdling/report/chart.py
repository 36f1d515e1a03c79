"""Charts as inline SVG: lines, intervals, bars, shares over claims, histograms, and what was gained over what it cost.

Ours rather than a plotting library's, so that one picture follows the reader's light or dark colours and the width of the screen (colours and fonts are CSS,
see style.css), stays a few kilobytes, and needs nothing installed. Built as an XML tree: every text is escaped by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.etree import ElementTree as ET

from herdling.base.units import format_count
from herdling.report.curves import CurveChart

WIDTH, HEIGHT = 400.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 34.0
NUM_COLOURS = 6
LETTER = 6.6
"""Width of a letter of a label on average, for room beside the axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A measured share with its 95 % interval, all within [0, 1]."""

    label: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A point measured both ways, each as (low, value, high). Spots of one `series` share a colour, and are joined in their order."""

    label: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    series: int = 0


def line_chart(chart: CurveChart) -> str:
    """Draw lines over two linear axes, the one across beginning at 0."""
    points = [point for curve in chart.curves for point in curve.points]
    points += [(x, y) for curve in chart.curves for x, *bounds in curve.band for y in bounds]
    last = max(x for x, _ in points)
    xs = [x for x in ticks(0.0, last) if x <= last]
    ys = ticks(0.0 if chart.from_zero else min(y for _, y in points), max(y for _, y in points))
    svg = _svg(HEIGHT, f"{chart.title}: {chart.y_unit} over {chart.x_unit}")

    def place(x: float, y: float) -> tuple[float, float]:
        across = x / last * (WIDTH - LEFT - RIGHT)
        up = (y - ys[0]) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM)
        return LEFT + across, HEIGHT - BOTTOM - up

    for y in ys:
        _line(svg, "grid", place(0, y), place(last, y))
        _text(svg, tick_label(y), LEFT - 5, place(0, y)[1] + 3.5, anchor="end")
    for x in xs:
        _text(svg, tick_label(x), place(x, 0)[0], HEIGHT - BOTTOM + 14, anchor="middle")
    _text(svg, chart.x_unit, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, anchor="middle", style="unit")
    for number, curve in enumerate(chart.curves, start=1 if len(chart.curves) == 1 else 0):
        outline = [*((x, low) for x, low, _ in curve.band), *((x, high) for x, _, high in reversed(curve.band))]
        if outline:
            around = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in outline))
            ET.SubElement(svg, "polygon", {"class": f"band colour-{number % NUM_COLOURS}", "points": around})
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve.points))
        ET.SubElement(svg, "polyline", {"class": f"line colour-{number % NUM_COLOURS}", "points": path})
    return ET.tostring(svg, encoding="unicode")


def interval_chart(groups: Sequence[tuple[str, Sequence[Interval]]], title: str) -> str:
    """Draw for each group one dot with a whisker for each model, on one axis from 0 to 100 %."""
    row, head = 15.0, 22.0
    height = 24 + sum(head + row * len(intervals) for _, intervals in groups)
    svg = _svg(height, title)
    longest = max((len(interval.label) for _, intervals in groups for interval in intervals), default=0)
    left, right = min(WIDTH / 2, max(100.0, 8 + LETTER * longest)), WIDTH - 16
    for percent in (0, 25, 50, 75, 100):
        x = left + (right - left) * percent / 100
        _line(svg, "grid", (x, 4), (x, height - 20))
        _text(svg, f"{percent} %", x, height - 6, anchor="middle")
    y = 0.0
    for group, intervals in groups:
        y += head
        _text(svg, group, 0, y - 3, style="group")
        for number, interval in enumerate(intervals):
            y += row
            low, middle, high = (left + (right - left) * share for share in (interval.low, interval.value, interval.high))
            colour = f"colour-{number % NUM_COLOURS}"
            _text(svg, interval.label, left - 8, y - 3, anchor="end")
            _line(svg, f"whisker {colour}", (low, y - 7), (high, y - 7))
            ET.SubElement(svg, "circle", {"class": f"dot {colour}", "cx": f"{middle:.1f}", "cy": f"{y - 7:.1f}", "r": "4"})
    return ET.tostring(svg, encoding="unicode")


def bar_chart(bars: Sequence[tuple[str, float, str]], title: str) -> str:
    """Draw one bar for each (label, value, value as text)."""
    row, left = 20.0, 118.0
    svg = _svg(row * len(bars) + 4, title)
    most = max((value for _, value, _ in bars), default=0.0) or 1.0
    for number, (label, value, shown) in enumerate(bars):
        y = row * number + 14
        length = (WIDTH - left - 62) * value / most
        _text(svg, label, left - 8, y, anchor="end")
        ET.SubElement(svg, "rect", {"class": "bar", "x": f"{left}", "y": f"{y - 10}", "width": f"{max(1.0, length):.1f}", "height": "13", "rx": "2"})
        _text(svg, shown, left + length + 6, y)
    return ET.tostring(svg, encoding="unicode")


def calibration_chart(points: Sequence[tuple[float, Interval]], title: str, x_unit: str, y_unit: str) -> str:
    """Draw for each (claimed share, observed share) a dot with its whisker, and the line on which both agree. The axis across goes from a half to 1."""
    svg = _svg(HEIGHT, title)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - 0.5) * 2 * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    for percent in (0, 25, 50, 75, 100):
        _line(svg, "grid", place(0.5, percent / 100), place(1.0, percent / 100))
        _text(svg, f"{percent} %", LEFT - 5, place(0.5, percent / 100)[1] + 3.5, anchor="end")
    for percent in (50, 60, 70, 80, 90, 100):
        _text(svg, f"{percent} %", place(percent / 100, 0)[0], HEIGHT - BOTTOM + 14, anchor="middle" if percent < 100 else "end")
    _line(svg, "agreement", place(0.5, 0.5), place(1.0, 1.0))
    for claimed, interval in points:
        _line(svg, "whisker colour-1", place(claimed, interval.low), place(claimed, interval.high))
        x, y = place(claimed, interval.value)
        dot = ET.SubElement(svg, "circle", {"class": "dot colour-1", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4"})
        ET.SubElement(dot, "title").text = interval.label
    _text(svg, x_unit, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, anchor="middle", style="unit")
    _text(svg, y_unit, LEFT, TOP - 1, style="unit")
    return ET.tostring(svg, encoding="unicode")


def histogram_chart(edges: Sequence[float], series: Sequence[Sequence[int]], title: str, x_unit: str) -> str:
    """Draw histograms on common edges over each other, each as a filled outline in its own colour."""
    svg = _svg(HEIGHT, title)
    most = max((count for counts in series for count in counts), default=0) or 1
    span = edges[-1] - edges[0] or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - edges[0]) / span * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / most * (HEIGHT - TOP - BOTTOM)

    for y in (count for count in ticks(0.0, most, 4) if count <= most):
        _line(svg, "grid", place(edges[0], y), place(edges[-1], y))
        _text(svg, tick_label(y), LEFT - 5, place(0, y)[1] + 3.5, anchor="end")
    for x in (tick for tick in ticks(edges[0], edges[-1]) if edges[0] <= tick <= edges[-1]):
        _text(svg, tick_label(x), place(x, 0)[0], HEIGHT - BOTTOM + 14, anchor="middle")
    for number, counts in enumerate(series):
        outline = [(edges[0], 0.0), *((edge, count) for index, count in enumerate(counts) for edge in edges[index : index + 2]), (edges[-1], 0.0)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in outline))
        ET.SubElement(svg, "polygon", {"class": f"area colour-{number % NUM_COLOURS}", "points": path})
    _text(svg, x_unit, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, anchor="middle", style="unit")
    return ET.tostring(svg, encoding="unicode")


def frontier_chart(spots: Sequence[Spot], title: str, x_unit: str, y_unit: str) -> str:
    """Draw a dot with whiskers both ways for each spot, named beside it; spots of a series are joined.

    The axis across begins at 0 and goes by the square root, over which rewards rise and fall most evenly (Gao et al. 2022); a run gone astray leaves room so.
    """
    roots = ticks(0.0, max(max(0.0, spot.x[2]) for spot in spots) ** 0.5)
    ys = ticks(min(spot.y[0] for spot in spots), max(spot.y[2] for spot in spots))
    svg = _svg(HEIGHT, title)

    def place(x: float, y: float) -> tuple[float, float]:
        across = max(0.0, x) ** 0.5 / roots[-1] * (WIDTH - LEFT - RIGHT)
        return LEFT + across, HEIGHT - BOTTOM - (y - ys[0]) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM)

    for y in ys:
        _line(svg, "grid", place(0, y), place(roots[-1] ** 2, y))
        _text(svg, tick_label(y), LEFT - 5, place(0, y)[1] + 3.5, anchor="end")
    for root in roots:
        _text(svg, tick_label(root**2), place(root**2, ys[0])[0], HEIGHT - BOTTOM + 14, anchor="middle")
    _text(svg, x_unit, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, anchor="middle", style="unit")
    _text(svg, y_unit, LEFT, TOP - 1, style="unit")
    for series in dict.fromkeys(spot.series for spot in spots):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(spot.x[1], spot.y[1]) for spot in spots if spot.series == series))
        ET.SubElement(svg, "polyline", {"class": f"frontier colour-{series % NUM_COLOURS}", "points": path})
    taken: list[tuple[float, float]] = []
    for spot in spots:
        colour, (x, y) = f"colour-{spot.series % NUM_COLOURS}", place(spot.x[1], spot.y[1])
        _line(svg, f"whisker {colour}", place(spot.x[0], spot.y[1]), place(spot.x[2], spot.y[1]))
        _line(svg, f"whisker {colour}", place(spot.x[1], spot.y[0]), place(spot.x[1], spot.y[2]))
        ET.SubElement(svg, "circle", {"class": f"dot {colour}", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4"})
        _name_spot(svg, spot.label, x, y, taken)
    return ET.tostring(svg, encoding="unicode")


def _name_spot(svg: ET.Element, label: str, x: float, y: float, taken: list[tuple[float, float]]) -> None:
    """Write a spot's name beside it, on the side where there is room, below the names that are there already."""
    down = y - 5
    while any(abs(down - other) < 11 and abs(x - beside) < 90 for beside, other in taken):
        down += 11
    taken.append((x, down))
    is_left = x > WIDTH * 0.75
    _text(svg, label, x - 7 if is_left else x + 7, down, anchor="end" if is_left else "start")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten) that enclose `low` and `high`."""
    span = high - low or abs(high) or 1.0
    raw = span / about
    scale = 10.0 ** floor(log10(raw))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= raw * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def tick_label(value: float) -> str:
    """Write a tick: counts with a suffix, small numbers as they are."""
    return format_count(value) if abs(value) >= 1000 else f"{value:.6g}"


def _svg(height: float, title: str) -> ET.Element:
    svg = ET.Element("svg", {"viewBox": f"0 0 {WIDTH:g} {height:g}", "role": "img", "aria-label": title})
    ET.SubElement(svg, "title").text = title
    return svg


def _line(svg: ET.Element, style: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    places = zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
    ET.SubElement(svg, "line", {"class": style, **{name: f"{place:.1f}" for name, place in places}})


def _text(svg: ET.Element, text: str, x: float, y: float, *, anchor: str = "start", style: str = "label") -> None:
    ET.SubElement(svg, "text", {"class": style, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}).text = text
