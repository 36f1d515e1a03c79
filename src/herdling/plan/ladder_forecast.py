"""What a ladder says of larger runs, task by task, and how right it was where they are in the file: what `herdling fit ladder` prints. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from herdling.plan.downstream import Form, LadderFit, fit_ladder
from herdling.plan.ladder import LadderRun


def forecast_ladder(fitted: Sequence[LadderRun], larger: Sequence[LadderRun], *, form: Form = "shared") -> dict[str, Any]:
    """Fit the smaller runs, forecast the larger ones, and score each forecast against what the run reached.

    Returns `form`, `exponents`, `spread`, `fitted` (names of runs), `runs` (for each larger run its tasks, `mean_relative_error` and `coverage`), and these two
    over all.
    """
    fit = fit_ladder(fitted, form=form)
    runs = {run.name: _score(fit, run) for run in larger}
    errors = [run["mean_relative_error"] for run in runs.values() if run["mean_relative_error"] is not None]
    coverage = [run["coverage"] for run in runs.values() if run["coverage"] is not None]
    return {
        "form": form,
        "exponents": None if fit.exponents is None else {"alpha": fit.exponents[0], "beta": fit.exponents[1]},
        "spread": fit.spread,
        "fitted": [run.name for run in fitted],
        "runs": runs,
        "mean_relative_error": float(np.mean(errors)) if errors else None,
        "coverage": float(np.mean(coverage)) if coverage else None,
    }


def _score(fit: LadderFit, run: LadderRun) -> dict[str, Any]:
    tasks: dict[str, dict[str, Any]] = {}
    for task, curve in run.tasks.items():
        found = fit.forecast(run, task)
        tasks[task] = {
            "bits": found.bits,
            "accuracy": found.accuracy,
            "interval": [found.interval.low, found.interval.high] if found.interval else None,
            "measured_bits": curve.final_bits,
            "measured_accuracy": curve.final_accuracy,
            "relative_error": found.accuracy / curve.final_accuracy - 1 if curve.final_accuracy else None,
            "held": found.interval.holds(curve.final_accuracy) if found.interval else None,
        }
    errors = [abs(row["relative_error"]) for row in tasks.values() if row["relative_error"] is not None]
    held = [row["held"] for row in tasks.values() if row["held"] is not None]
    return {
        "parameters": run.parameters,
        "tokens": run.tokens,
        "flops": run.flops,
        "mean_relative_error": float(np.mean(errors)) if errors else None,
        "coverage": float(np.mean(held)) if held else None,
        "tasks": tasks,
    }
