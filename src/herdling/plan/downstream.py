"""Forecast of tasks in two stages (Llama 3, section 3.2.1): size and data -> bits per byte of the right answer -> accuracy.

Forms of the first stage. `shared` (the default): bits = E + A/N^gamma + B/D^gamma with A, B and E of each task and *one* exponent for sizes, data and all
tasks; a task alone has too few runs to tell its exponents. `per_task`: five constants a task (Bhagia et al., 2024). `llama3`: bits linear in log FLOPs, as the
paper draws it, for compute-optimal runs; it extrapolates badly once runs are over-trained. The second stage is a sigmoid with free ends, through accuracy 1 at
0 bits. Intervals come from back-tests: each size of the fitted ladder is forecast from those below, and the error found grows with the root of the log of the
compute that lies between. No torch.
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
from herdling.plan.sigmoid import Sigmoid, fit_sigmoid

Form = Literal["shared", "per_task", "llama3"]
NOISE = 0.01
"""Huber's threshold on the log of a task's bits: evaluations of one checkpoint after another differ by about this."""
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
    exponent: float | None
    largest_flops: float
    spread: float | None = None
    num_back_tests: int = 0

    def forecast(self, run: LadderRun, task: str) -> TaskForecast:
        """Return what the ladder expects of a run of this size, tokens and FLOPs; its own scores are not read."""
        bits = self.bits[task](run)
        accuracy = self.sigmoids[task].accuracy(bits)
        if self.spread is None:
            return TaskForecast(bits=bits, accuracy=accuracy, interval=None)
        reach = student_90(self.num_back_tests) * self.spread * _gap(run, self.largest_flops) ** 0.5
        middle = _logit(accuracy)
        return TaskForecast(bits=bits, accuracy=accuracy, interval=Interval(low=_share(middle - reach), high=_share(middle + reach)))


def fit_ladder(runs: Sequence[LadderRun], *, form: Form = "shared", back_test: bool = True) -> LadderFit:
    """Fit both stages on runs of several sizes.

    Raises:
        DataError: fewer than six runs or two sizes.
    """
    if len(runs) < 6 or len({run.parameters for run in runs}) < 2:
        raise DataError(f"{len(runs)} runs of {len({run.parameters for run in runs})} sizes; a ladder needs at least 6 runs of 2 sizes")
    tasks = list(runs[0].tasks)
    exponent, bits = {"shared": _shared, "per_task": _per_task, "llama3": _linear}[form](runs, tasks)
    sigmoids = {
        task: fit_sigmoid(np.concatenate([run.tasks[task].bits for run in runs]), np.concatenate([run.tasks[task].accuracy for run in runs])) for task in tasks
    }
    spread, count = _back_test(runs, form) if back_test else (None, 0)
    return LadderFit(
        form=form,
        bits=bits,
        sigmoids=sigmoids,
        exponent=exponent,
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


def _shared(runs: Sequence[LadderRun], tasks: Sequence[str]) -> tuple[float, dict[str, Callable[[LadderRun], float]]]:
    """Search the one exponent by a narrowing grid; (E, A, B) of each task are solved for each candidate."""
    size, data, bits = _arrays(runs, tasks)
    middle, middle_data = size.mean(), data.mean()
    exponent, reach = 0.4, 0.35
    constants = np.zeros((len(tasks), 3))
    for _ in range(12):
        tried = np.clip(exponent + reach * np.linspace(-1, 1, 7), 0.01, 2.0)
        basis = np.stack([np.ones((len(tried), len(size))), np.exp(-tried[:, None] * (size - middle)), np.exp(-tried[:, None] * (data - middle_data))], axis=-1)
        solved, value = _solve(basis, bits)
        best = int(np.argmin(value.sum(axis=1)))
        exponent, constants, reach = float(tried[best]), solved[best], reach / 2

    def law(row: Array) -> Callable[[LadderRun], float]:
        return lambda run: float(
            row[0] + row[1] * np.exp(-exponent * (np.log(run.parameters) - middle)) + row[2] * np.exp(-exponent * (np.log(run.tokens) - middle_data))
        )

    return exponent, {task: law(row) for task, row in zip(tasks, constants, strict=True)}


def _solve(basis: Array, bits: Array) -> tuple[Array, Array]:
    """Return constants [G, T, 3], none below 0, and Huber's objective [G, T] for bases [G, R, 3] and bits [T, R], by reweighted least squares."""
    relative = basis[:, None] / bits[None, :, :, None]
    weights = np.ones(relative.shape[:3])
    for _ in range(40):
        weighted = relative * weights[..., None]
        normal = weighted.swapaxes(2, 3) @ relative + 1e-10 * np.eye(3)
        solved = _nonnegative(normal, weighted.sum(axis=2))
        residual = np.abs(np.log(np.maximum((relative @ solved[..., None])[..., 0], 1e-9)))
        weights = np.minimum(1.0, NOISE / np.maximum(residual, 1e-9))
    objective = np.where(residual <= NOISE, residual**2 / 2, NOISE * (residual - NOISE / 2)).sum(axis=2)
    return solved, objective


def _nonnegative(normal: Array, right: Array) -> Array:
    """Return the least x >= 0 of x'Nx/2 - x'r by trying every set of free variables; batches of 3 x 3."""
    best, least = np.zeros(right.shape), np.zeros(right.shape[:-1])
    for free in ([0, 1, 2], [0, 1], [0, 2], [1, 2], [0], [1], [2]):
        tried = np.zeros(right.shape)
        tried[..., free] = np.linalg.solve(normal[..., free, :][..., :, free], right[..., free][..., None])[..., 0]
        value = (tried * (0.5 * (normal @ tried[..., None])[..., 0] - right)).sum(axis=-1)
        better = (tried >= 0).all(axis=-1) & (value < least)
        best, least = np.where(better[..., None], tried, best), np.where(better, value, least)
    return best


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
