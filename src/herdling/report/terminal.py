"""Curves for a terminal, drawn in braille dots: eight to a character, one colour a curve.

Thirty lines of ours rather than a plotting library's: no library for terminals has kept its interface from one major version to the next, and an extra to
install stands between a user and a look at the loss.
"""

from __future__ import annotations

from itertools import pairwise

from rich.text import Text

from herdling.report.chart import tick_label, ticks
from herdling.report.curves import CurveChart

COLOURS = ("yellow", "cyan", "magenta", "green", "red", "blue")
# Bit of each dot of a braille character, by column and row (Unicode, "Braille Patterns").
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800


def draw_chart(chart: CurveChart, *, width: int = 64, height: int = 10) -> Text:
    """Return a chart as text: `height` lines of dots with the value range beside them, and the range of x below."""
    points = [point for curve in chart.curves for point in curve.points]
    last = max(x for x, _ in points) or 1.0
    levels = ticks(0.0 if chart.from_zero else min(y for _, y in points), max(y for _, y in points))
    low, high = levels[0], levels[-1]
    dots: list[list[int]] = [[0] * width for _ in range(height)]
    colours: list[list[str]] = [[""] * width for _ in range(height)]
    for number, curve in enumerate(chart.curves):
        placed = [(round(x / last * (2 * width - 1)), round((high - y) / (high - low) * (4 * height - 1))) for x, y in curve.points]
        for column, row in _joined(placed):
            dots[row // 4][column // 2] |= _BITS[column % 2][row % 4]
            colours[row // 4][column // 2] = COLOURS[number % len(COLOURS)]
    text = Text(f"{chart.title}, {chart.y_unit}\n", style="bold")
    for number, line in enumerate(dots):
        label = tick_label(high) if number == 0 else tick_label(low) if number == height - 1 else ""
        text.append(f"{label:>8} ┤", style="dim not bold")
        for bits, colour in zip(line, colours[number], strict=True):
            text.append(chr(_BLANK + bits) if bits else " ", style=f"{colour} not bold")
        text.append("\n")
    text.append(f"{'':9}0{f'{tick_label(last)} {chart.x_unit}':>{width}}\n", style="dim not bold")
    if len(chart.curves) > 1:
        text.append(" " * 9)
        for number, curve in enumerate(chart.curves):
            text.append(f" ━ {curve.label} ", style=f"{COLOURS[number % len(COLOURS)]} not bold")
        text.append("\n")
    return text


def _joined(placed: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the dots of the straight lines between these."""
    found = list(placed[:1])
    for (x0, y0), (x1, y1) in pairwise(placed):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        found += [(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps)) for step in range(1, steps + 1)]
    return found
