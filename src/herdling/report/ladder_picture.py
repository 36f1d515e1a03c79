"""What `herdling fit ladder` draws: for each task the bits of the right answer over compute, and accuracy over bits, with the forecasts of larger runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from herdling.plan.downstream import LadderFit
from herdling.plan.ladder import LadderRun
from herdling.report.panels import Marks, Panel, Point, geometric, picture

NUM_STEPS = 40
MOST_POINTS = 150
"""Points of training curves that a panel shows of all runs together."""
ROW = 200.0


def ladder_picture(fit: LadderFit, fitted: Sequence[LadderRun], larger: Sequence[LadderRun]) -> str:
    """Draw both stages of every task side by side, a row a task."""
    rows = [[_bits_panel(fit, fitted, larger, task, is_first=number == 0), _accuracy_panel(fit, fitted, larger, task)] for number, task in enumerate(fit.bits)]
    return picture(rows, "Tasks forecast by a ladder of runs", height=ROW)


def _bits_panel(fit: LadderFit, fitted: Sequence[LadderRun], larger: Sequence[LadderRun], task: str, *, is_first: bool) -> Panel:
    """Draw the first stage: ends of runs over compute, and the law for runs with the tokens per parameter of the largest."""
    last = max([*larger, *fitted], key=lambda run: run.flops)
    across = geometric(min(run.flops for run in fitted), last.flops, NUM_STEPS)
    curve = [(x, fit.bits[task](_scaled(last, x))) for x in across]
    marks = [
        Marks(dots=[_end(run, task) for run in fitted], colour=2, label="runs" if is_first else ""),
        Marks(curve=curve, colour=1, label="law" if is_first else ""),
        Marks(dots=[(run.flops, fit.bits[task](run)) for run in larger], colour=0, hollow=True, label="forecast" if is_first else ""),
        Marks(dots=[_end(run, task) for run in larger], colour=3, label="measured" if is_first else ""),
    ]
    return Panel(title=task, x_unit="training FLOPs", y_unit="bits per byte", marks=marks, log_x=True)


def _accuracy_panel(fit: LadderFit, fitted: Sequence[LadderRun], larger: Sequence[LadderRun], task: str) -> Panel:
    """Draw the second stage: training curves, the sigmoid through them, and the forecasts with their 90 % intervals."""
    points = [(float(x), float(y)) for run in fitted for x, y in zip(run.tasks[task].bits, run.tasks[task].accuracy, strict=True)]
    points = points[:: 1 + len(points) // MOST_POINTS]
    forecasts = [fit.forecast(run, task) for run in larger]
    bits = [x for x, _ in points] + [found.bits for found in forecasts]
    low, high = min(bits), max(bits)
    curve = [(x, fit.sigmoids[task].accuracy(x)) for x in (low + (high - low) * step / (NUM_STEPS - 1) for step in range(NUM_STEPS))]
    whiskers = [(found.bits, found.interval.low, found.interval.high) for found in forecasts if found.interval]
    marks = [
        Marks(dots=points, colour=2),
        Marks(curve=curve, colour=1),
        Marks(dots=[(found.bits, found.accuracy) for found in forecasts], whiskers=whiskers, colour=0, hollow=True),
        Marks(dots=[(run.tasks[task].final_bits, run.tasks[task].final_accuracy) for run in larger], colour=3),
    ]
    return Panel(title="", x_unit="bits per byte", y_unit="accuracy", marks=marks)


def _end(run: LadderRun, task: str) -> Point:
    return run.flops, run.tasks[task].final_bits


def _scaled(run: LadderRun, flops: float) -> LadderRun:
    """Return a run of this compute with the tokens per parameter of `run`."""
    factor = (flops / run.flops) ** 0.5
    return replace(run, parameters=factor * run.parameters, tokens=factor * run.tokens, flops=flops)
