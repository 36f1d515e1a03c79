"""Forecast of tasks in two stages (Llama 3, section 3.2.1): size and data -> bits per byte of the right answer -> accuracy.

Forms of the first stage. `shared` (the default): `shared_law.py`, exponents of all tasks and constants of each that resemble each other; a task alone has too
few runs to tell its exponents. `per_task`: five constants a task (Bhagia et al., 2024). `llama3`: bits linear in log FLOPs, as the paper draws it, for
compute-optimal runs; it extrapolates badly once runs are over-trained. The second stage is a sigmoid with free ends, through accuracy 1 at 0 bits. In the
default a run counts with its compute to the power 0.3 in both stages, as what is forecast lies beyond the largest, and a line in log FLOPs takes up what a run
of more compute does better, or worse, than its bits say. Intervals come from back-tests: each size of the fitted ladder is forecast from those below, and the
error found grows with the root of the log of the compute that lies between. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from herdling.base.errors import DataError
from herdling.plan.ladder import LadderRun
from herdling.plan.parametric import fit_laws, law_of
from herdling.plan.resampling import Interval, student_90
from herdling.plan.scaling_law import Array
from herdling.plan.shared_law import fit_shared
from herdling.plan.sigmoid import Sigmoid, fit_sigmoid

Form = Literal["shared", "per_task", "llama3"]
NOISE = 0.01
"""Huber's threshold on the log of a task's bits: evaluations of one checkpoint after another differ by about this."""
LARGE_RUNS = 0.3
"""Power of its compute with which a run counts. Tried on the OLMo ladder up to 3B: 0 to 0.5, docs/decisions/0076."""
MIN_GAP = float(np.log(2))
_EDGE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskForecast:
    """What one run is expected to reach on one task; `interval` holds the accuracy nine times in ten."""

    bits: float
    accuracy: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderFit:
    """A fitted ladder: bits as a function of a run for each task, the sigmoids, and the spread that back-tests found (None: too few sizes to back-test)."""

    form: Form
    bits: dict[str, Callable[[LadderRun], float]]
    sigmoids: dict[str, Sigmoid]
    drifts: dict[str, tuple[float, float]]
    """What is added to the logit of a sigmoid: (at the largest fitted run, for each e-fold of compute beyond it)."""
    exponents: tuple[float, float] | None
    """Of sizes and of data, where all tasks share them."""
    largest_flops: float
    spread: float | None = None
    num_back_tests: int = 0

    def forecast(self, run: LadderRun, task: str) -> TaskForecast:
        """Return what the ladder expects of a run of this size, tokens and FLOPs; its own scores are not read."""
        bits = self.bits[task](run)
        at_largest, rise = self.drifts[task]
        middle = _logit(self.sigmoids[task].accuracy(bits)) + at_largest + rise * float(np.log(run.flops / self.largest_flops))
        accuracy = _share(middle)
        if self.spread is None:
            return TaskForecast(bits=bits, accuracy=accuracy, interval=None)
        reach = student_90(self.num_back_tests) * self.spread * _gap(run, self.largest_flops) ** 0.5
        return TaskForecast(bits=bits, accuracy=accuracy, interval=Interval(low=_share(middle - reach), high=_share(middle + reach)))


def fit_ladder(runs: Sequence[LadderRun], *, form: Form = "shared", back_test: bool = True) -> LadderFit:
    """Fit both stages on runs of several sizes.

    Raises:
        DataError: fewer than six runs or two sizes.
    """
    if len(runs) < 6 or len({run.parameters for run in runs}) < 2:
        raise DataError(f"{len(runs)} runs of {len({run.parameters for run in runs})} sizes; a ladder needs at least 6 runs of 2 sizes")
    tasks = list(runs[0].tasks)
    exponents, bits = {"shared": _shared, "per_task": _per_task, "llama3": _linear}[form](runs, tasks)
    sigmoids = {task: _second_stage(runs, task, weighted=form == "shared") for task in tasks}
    drifts = {task: _drift(runs, task, sigmoids[task]) if form == "shared" else (0.0, 0.0) for task in tasks}
    spread, count = _back_test(runs, form) if back_test else (None, 0)
    return LadderFit(
        form=form,
        bits=bits,
        sigmoids=sigmoids,
        drifts=drifts,
        exponents=exponents,
        largest_flops=max(run.flops for run in runs),
        spread=spread,
        num_back_tests=count,
    )


def _back_test(runs: Sequence[LadderRun], form: Form) -> tuple[float | None, int]:
    """Return (root mean square error in logits per root of log compute, tasks times sizes it stands on)."""
    sizes = sorted({run.parameters for run in runs})
    errors, count = [], 0
    for size in sizes[2:]:
        below, above = [run for run in runs if run.parameters < size], [run for run in runs if run.parameters >= size]
        if len(below) < 6:
            continue
        fit = fit_ladder(below, form=form, back_test=False)
        for task in runs[0].tasks:
            count += 1
            for run in above:
                error = _logit(fit.forecast(run, task).accuracy) - _logit(run.tasks[task].final_accuracy)
                errors.append(error / _gap(run, fit.largest_flops) ** 0.5)
    return (float(np.sqrt(np.mean(np.square(errors)))), count) if errors else (None, 0)


def _gap(run: LadderRun, largest_flops: float) -> float:
    """Return the log of the compute of a run over that of the largest fitted one, at least log 2."""
    return max(MIN_GAP, float(np.log(run.flops / largest_flops)))


def _logit(share: float) -> float:
    inside = min(1 - _EDGE, max(_EDGE, share))
    return float(np.log(inside / (1 - inside)))


def _share(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _arrays(runs: Sequence[LadderRun], tasks: Sequence[str]) -> tuple[Array, Array, Array]:
    """Return log N [R], log D [R] and bits at the end of the runs [T, R]."""
    bits = np.array([[run.tasks[task].final_bits for run in runs] for task in tasks])
    return np.log([run.parameters for run in runs]), np.log([run.tokens for run in runs]), bits


def _counts(runs: Sequence[LadderRun]) -> Array:
    """Return how much each run [R] counts in the default form."""
    compute = np.array([run.flops for run in runs])
    return np.asarray((compute / compute.max()) ** LARGE_RUNS)


def _second_stage(runs: Sequence[LadderRun], task: str, *, weighted: bool) -> Sigmoid:
    """Fit the sigmoid of a task; weighted, a run counts as a whole however often it was evaluated."""
    curves = [run.tasks[task] for run in runs]
    weights = [np.full(len(curve.bits), count / len(curve.bits)) for curve, count in zip(curves, _counts(runs), strict=True)]
    bits, accuracy = np.concatenate([curve.bits for curve in curves]), np.concatenate([curve.accuracy for curve in curves])
    return fit_sigmoid(bits, accuracy, np.concatenate(weights) if weighted else None)


def _drift(runs: Sequence[LadderRun], task: str, sigmoid: Sigmoid) -> tuple[float, float]:
    """Return (at the largest run, slope over log compute) of the weighted line through what the ends of runs are above the sigmoid, in logits."""
    ends = [run.tasks[task] for run in runs]
    above = np.array([_logit(end.final_accuracy) - _logit(sigmoid.accuracy(end.final_bits)) for end in ends])
    compute = np.log([run.flops for run in runs])
    slope, at_largest = np.polyfit(compute - compute.max(), above, 1, w=np.sqrt(_counts(runs)))
    return float(at_largest), float(slope)


def _shared(runs: Sequence[LadderRun], tasks: Sequence[str]) -> tuple[tuple[float, float], dict[str, Callable[[LadderRun], float]]]:
    size, data, bits = _arrays(runs, tasks)
    law = fit_shared(np.exp(size), np.exp(data), bits, np.broadcast_to(_counts(runs), bits.shape), noise=NOISE)

    def bits_of(row: int) -> Callable[[LadderRun], float]:
        return lambda run: float(law.values(run.parameters, run.tokens)[row])

    return (law.alpha, law.beta), {task: bits_of(row) for row, task in enumerate(tasks)}


def _per_task(runs: Sequence[LadderRun], tasks: Sequence[str]) -> tuple[None, dict[str, Callable[[LadderRun], float]]]:
    size, data, bits = _arrays(runs, tasks)
    found: dict[str, Callable[[LadderRun], float]] = {}
    for task, row in zip(tasks, bits, strict=True):
        theta, _ = fit_laws(np.exp(size), np.exp(data), np.log(row)[None], np.ones((1, len(row))))
        law = law_of(theta[0])
        found[task] = lambda run, law=law: float(law.loss(run.parameters, run.tokens))  # type: ignore[misc]
    return None, found


def _linear(runs: Sequence[LadderRun], tasks: Sequence[str]) -> tuple[None, dict[str, Callable[[LadderRun], float]]]:
    flops = np.log([run.flops for run in runs])
    _, _, bits = _arrays(runs, tasks)
    found: dict[str, Callable[[LadderRun], float]] = {}
    for task, row in zip(tasks, bits, strict=True):
        slope, start = np.polyfit(flops, row, 1)
        found[task] = lambda run, slope=slope, start=start: float(start + slope * np.log(run.flops))  # type: ignore[misc]
    return None, found
