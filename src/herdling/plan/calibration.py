"""From measured step times to the `Efficiency` of a machine and its software: a robust least-squares fit with the shipped scalars as prior. Imports no torch.

Fits log time by Levenberg-Marquardt over log scalars. Few measurements move the scalars little, because each is held to its start by a prior; the interval is
the 90 % quantile of what the fit leaves, wider for few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from herdling.base.errors import DataError
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import Gpu
from herdling.plan.split import Job, Split, Stack
from herdling.plan.throughput import forecast

SCALARS = ("matmul", "low_precision", "attention", "thin", "short", "memory", "tensor", "overlap", "data", "crowd", "pressure", "launch", "step")
SHARES = ("matmul", "low_precision", "overlap")
"""Scalars that cannot pass 1: the ceilings are what was reached."""
PRIOR = 0.7
"""Standard deviation of each log scalar around its start: a factor of two either way is likely."""
NOISE = 0.05
"""Standard deviation of a log step time around a right model."""
COVERED = 0.9
"""Share of measurements that the interval is to hold."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A step that someone timed."""

    job: Job
    split: Split
    stack: Stack
    gpu: Gpu
    seconds: float


def fit_efficiency(
    measurements: Sequence[Measurement], start: Efficiency | None = None, *, weights: Sequence[float] | None = None, rounds: int = 30
) -> Efficiency:
    """Return the scalars that explain these step times. Raises `DataError` without measurements or with a time that is none."""
    if not measurements:
        raise DataError("calibration: no measured step; accepted: at least one")
    wrong = [one.seconds for one in measurements if not 0 < one.seconds < float("inf")]
    if wrong:
        raise DataError(f"calibration: a step took {wrong[0]} seconds; accepted: more than 0")
    start = start or Efficiency()
    weighing = np.ones(len(measurements)) if weights is None else np.asarray(weights, float)
    found = _minimise(lambda logs: log_errors(measurements, _with(start, logs)), weighing, rounds)
    fitted = _with(start, found)
    return replace(fitted, spread=spread_of(np.abs(log_errors(measurements, fitted))))


def log_errors(measurements: Sequence[Measurement], efficiency: Efficiency) -> Array:
    """Return log(forecast / measured) of each."""
    return np.log([forecast(one.job, one.split, one.stack, one.gpu, efficiency).seconds / one.seconds for one in measurements])


def spread_of(errors: Array) -> float:
    """Return the conformal half width: the 90 % quantile of absolute log errors corrected for their number; twice the largest for too few."""
    rank = ceil(COVERED * (len(errors) + 1))
    return float(np.sort(errors)[rank - 1]) if rank <= len(errors) else 2 * float(errors.max()) + NOISE


def _with(start: Efficiency, logs: Array) -> Efficiency:
    scaled = {name: getattr(start, name) * float(np.exp(log)) for name, log in zip(SCALARS, logs, strict=True)}
    return replace(start, **{name: min(value, 1.0) if name in SHARES else value for name, value in scaled.items()})


def _minimise(errors: Callable[[Array], Array], weights: Array, rounds: int) -> Array:
    """Return the logs that minimise weighted Huber errors and the prior."""
    logs, damping = np.zeros(len(SCALARS)), 1.0
    now, size = errors(logs), 1e-3
    for _ in range(rounds):
        jacobian = np.stack([(errors(logs + size * unit) - now) / size for unit in np.eye(len(SCALARS))], axis=1)
        pull = weights * np.minimum(1.0, 2 * NOISE / np.maximum(np.abs(now), 1e-12)) / NOISE**2
        curvature = jacobian.T @ (pull[:, None] * jacobian) + np.eye(len(SCALARS)) / PRIOR**2
        slope = jacobian.T @ (pull * now) + logs / PRIOR**2
        while damping < 1e6:
            stepped = np.clip(logs - np.linalg.solve(curvature + damping * np.eye(len(SCALARS)), slope), -3, 3)
            then = errors(stepped)
            if _loss(then, stepped, weights) < _loss(now, logs, weights):
                break
            damping *= 4
        else:
            return logs
        gained = _loss(now, logs, weights) - _loss(then, stepped, weights)
        logs, now, damping = stepped, then, damping / 4
        if gained < 1e-4 * len(now):
            break
    return logs


def _loss(errors: Array, logs: Array, weights: Array) -> float:
    size, limit = np.abs(errors), 2 * NOISE
    huber = np.where(size < limit, size**2 / 2, limit * (size - limit / 2))
    return float((weights * huber).sum() / NOISE**2 + (logs**2).sum() / PRIOR**2 / 2)
