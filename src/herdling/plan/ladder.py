"""Read a ladder of runs with their task scores: each row a run and a task, with bits per byte of the right answer and accuracy.

Columns `run`, `N`, `D`, `task`, `bpb` and `acc` (or `bpb_avg5`, `acc_avg5`), perhaps `C` and `role` (`fit` marks the runs to fit). A run with several rows a
task is a training curve: its end is the mean of the last five evaluations, and the curve itself goes into the second stage. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from herdling.base.errors import DataError, SettingsError, did_you_mean
from herdling.plan.measurements import column_of, positive_number, read_table
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN, Array

NUM_LAST = 5
SKIPPED_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCurve:
    """Evaluations of one run on one task in order of tokens: bits per byte and accuracy, each [n], and those at the end of the run."""

    bits: Array
    accuracy: Array
    final_bits: float
    final_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRun:
    """One run: parameters, tokens at its end, FLOPs, whether the file marks it for fitting (None: it marks nothing), and its tasks."""

    name: str
    parameters: float
    tokens: float
    flops: float
    marked: bool | None
    tasks: dict[str, TaskCurve]


def read_ladder(path: Path) -> list[LadderRun]:
    """Read the runs of a ladder, smallest first.

    Raises:
        DataError: a missing column, a cell that is no number of its kind, or a run that lacks a task of the others.
    """
    columns, rows = read_table(path)
    column_of(path, columns, ("run", "name"))
    bits = column_of(path, columns, ("bpb_avg5", "bpb", "nll"))
    accuracy = column_of(path, columns, ("acc_avg5", "acc", "accuracy"))
    size, data, task = (column_of(path, columns, names) for names in (("N", "parameters"), ("D", "tokens"), ("task", "benchmark")))
    flops = column_of(path, columns, ("C", "flops"), needed=False)
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    facts: dict[str, tuple[float, float | None, bool | None]] = {}
    for line, row in rows:
        numbers = {str(name): positive_number(path, line, str(name), row[str(name)]) for name in (bits, size, data)}
        right = _share(path, line, str(accuracy), row[str(accuracy)])
        name = row.get("run") or row["name"]
        compute = positive_number(path, line, flops, row[flops]) if flops else None
        if name in facts and facts[name][0] != numbers[str(size)]:
            raise DataError(f"{path}, line {line}: the run {name} has {size} {row[str(size)]}, in a line before {facts[name][0]:g}; a run has one size")
        facts[name] = (numbers[str(size)], compute, row["role"] == "fit" if "role" in columns else None)
        found.setdefault(name, {}).setdefault(row[str(task)], []).append((numbers[str(data)], numbers[str(bits)], right))
    runs = [_run(name, *facts[name], tasks) for name, tasks in found.items()]
    _require_same_tasks(path, runs)
    return sorted(runs, key=lambda run: (run.parameters, run.tokens))


def _share(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise DataError(f"{path}, line {line}: {column} is {text!r}, expected a share from 0 to 1")
    return value


def _run(name: str, parameters: float, flops: float | None, marked: bool | None, tasks: dict[str, list[tuple[float, float, float]]]) -> LadderRun:
    curves = {}
    tokens = 0.0
    for task, rows in tasks.items():
        data, bits, accuracy = np.array(sorted(rows, key=lambda row: row[0])).T
        tokens = float(data[-1])
        kept = slice(int(np.ceil(SKIPPED_SHARE * len(data))) if len(data) > NUM_LAST else 0, None)
        curves[task] = TaskCurve(
            bits=_moving_average(bits[kept]),
            accuracy=_moving_average(accuracy[kept]),
            final_bits=float(bits[-NUM_LAST:].mean()),
            final_accuracy=float(accuracy[-NUM_LAST:].mean()),
        )
    compute = flops if flops is not None else FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens
    return LadderRun(name=name, parameters=parameters, tokens=tokens, flops=compute, marked=marked, tasks=curves)


def _moving_average(values: Array) -> Array:
    """Return the mean of each value and up to four before it."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - NUM_LAST)
    return np.asarray((total[end] - total[start]) / (end - start))


def _require_same_tasks(path: Path, runs: list[LadderRun]) -> None:
    tasks = set().union(*(run.tasks for run in runs))
    for run in runs:
        missing = sorted(tasks - set(run.tasks))
        if missing:
            raise DataError(f"{path}: the run {run.name} has no rows for {', '.join(missing)}; every run needs every task")


def with_curves(runs: list[LadderRun], curves: list[LadderRun]) -> list[LadderRun]:
    """Return runs whose second stage stands on the training curves of another file, where it has them; ends and sizes stay."""
    by_name = {run.name: run for run in curves}

    def merged(run: LadderRun) -> dict[str, TaskCurve]:
        other = by_name[run.name].tasks if run.name in by_name else {}
        return {
            task: replace(other[task], final_bits=curve.final_bits, final_accuracy=curve.final_accuracy) if task in other else curve
            for task, curve in run.tasks.items()
        }

    return [replace(run, tasks=merged(run)) for run in runs]


def chosen_tasks(runs: list[LadderRun], tasks: list[str] | None) -> list[LadderRun]:
    """Return runs with some of their tasks; all, if none is named.

    Raises:
        SettingsError: a task that no run has.
    """
    for task in tasks or []:
        if task not in runs[0].tasks:
            raise SettingsError(f"task {task}: not in the file{did_you_mean(task, runs[0].tasks)}; there are: {', '.join(sorted(runs[0].tasks))}")
    return [replace(run, tasks={task: run.tasks[task] for task in tasks}) for run in runs] if tasks else runs


def split_ladder(runs: list[LadderRun], largest: float | None = None) -> tuple[list[LadderRun], list[LadderRun]]:
    """Return (runs to fit, larger runs to forecast): up to `largest` parameters; else up to the largest run marked `fit`; else all but the largest size.

    Raises:
        DataError: fewer than two sizes or six runs are left to fit.
    """
    marked = [run.parameters for run in runs if run.marked]
    sizes = sorted({run.parameters for run in runs})
    limit = largest or (max(marked) if marked else sizes[max(0, len(sizes) - 2)])
    fitted, larger = [run for run in runs if run.parameters <= limit], [run for run in runs if run.parameters > limit]
    num_sizes = len({run.parameters for run in fitted})
    if num_sizes < 2 or len(fitted) < 6:
        raise DataError(
            f"{len(fitted)} runs of {num_sizes} sizes up to {limit:.3g} parameters; a ladder needs at least 6 runs of 2 sizes below the ones it forecasts"
        )
    return fitted, larger
