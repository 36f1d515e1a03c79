"""Curves of a training stage, from its `metrics.jsonl`: thinned to what a picture can show, never silently cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from herdling.report.card import Row, StageCard

Point = tuple[float, float]
MAX_POINTS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a chart, with (x, low, high) of its interval where that is known."""

    label: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveChart:
    """Lines that share their axes. `x_unit` and `y_unit` name what is counted; `from_zero` where a part of the axis would mislead."""

    title: str
    x_unit: str
    y_unit: str
    curves: Sequence[Curve]
    from_zero: bool = False


def stage_charts(stage: StageCard) -> list[CurveChart]:
    """Return the charts of one stage: loss, validation by source, accuracy of a reward model, speed, learning rate; those without two points are left out."""
    train = [row for row in stage.metrics if row.get("split") == "train"]
    x = "tokens" if any(row.get("tokens") for row in train) else "step"
    sources = {str(row["source"]): None for row in stage.metrics if row.get("split") == "validation" and "source" in row}
    validation = [Curve(label=source, points=points_of(_of_source(stage.metrics, source), x, "bits_per_byte")) for source in sources]
    per = "pair" if stage.kind in ("reward", "dpo") else "token"
    loss = "policy and value loss" if stage.kind == "ppo" else f"nats per {per}"
    charts = [
        CurveChart(title="Training loss", x_unit=x, y_unit=loss, curves=[Curve(label="train", points=thinned(points_of(train, x, "loss")))]),
        CurveChart(title="Validation", x_unit=x, y_unit="bits per byte", curves=validation),
        CurveChart(title="Accuracy in training", x_unit=x, y_unit="share of pairs", curves=[_train_curve(train, x, "accuracy")]),
        CurveChart(title="Speed", x_unit=x, y_unit="tokens per second", curves=[_train_curve(train, x, "tokens_per_second")], from_zero=True),
        CurveChart(title="Learning rate", x_unit=x, y_unit="as scheduled", curves=[_train_curve(train, x, "lr")], from_zero=True),
    ]
    return [chart for chart in charts if any(len(curve.points) > 1 for curve in chart.curves)]


def thinned(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """Return at most `most` points, each the mean of its neighbours: a noisy curve keeps its level."""
    if len(points) <= most:
        return list(points)
    edges = [round(index * len(points) / most) for index in range(most + 1)]
    groups = (points[first:last] for first, last in pairwise(edges))
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _train_curve(rows: Sequence[Row], x: str, y: str) -> Curve:
    return Curve(label=y.replace("_", " "), points=thinned(points_of(rows, x, y)))


def _of_source(metrics: Iterable[Row], source: str) -> list[Row]:
    return [row for row in metrics if row.get("split") == "validation" and row.get("source") == source]


def points_of(rows: Iterable[Row], x: str, y: str) -> list[Point]:
    """Return (x, y) of the rows that have both as finite numbers: a step that was not finite is written as null."""
    found = ((_number(row.get(x)), _number(row.get(y))) for row in rows)
    return [(a, b) for a, b in found if a is not None and b is not None]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and isfinite(value) else None
