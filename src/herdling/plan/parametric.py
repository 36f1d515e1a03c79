"""Fit L(N, D) = E + A/N^alpha + B/D^beta: Huber on the log of the loss, variable projection for the start, Newton's method to the end.

For fixed exponents the law is linear in (E, A, B), so a grid over (alpha, beta) with a linear solve inside finds the valley (variable projection). From
there all five move together, with exact gradient and Hessian of the *sum* of Huber terms in (log E, log A, log B, alpha, beta); averaging the terms makes a
tolerance end the search too early (Besiroglu et al., 2024). Sizes and tokens are centred in log first, without which the condition number is 1e11. Rows of a
batch are fits of their own: a bootstrap of 1,000 is one call. Source: Hoffmann et al., 2022, approach 3. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from herdling.base.errors import DataError, SettingsError
from herdling.plan.measurements import LossRows
from herdling.plan.scaling_law import Array, ParametricLaw

HUBER_DELTA = 1e-3
MIN_POINTS = 6
MIN_COMPUTE_RATIO = 1.5
MIN_EXPONENT, MAX_EXPONENT = 0.01, 3.0
_GRID = np.linspace(0.05, 1.1, 15)
_SMALL = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametricFit:
    """A fitted law, its objective (sum of Huber terms), how many rows it stands on, which (by line) the outlier policy left out, how large runs counted."""

    law: ParametricLaw
    objective: float
    num_points: int
    dropped_lines: tuple[int, ...]
    mean_relative_error: float
    large_runs: float = 0.0


def fit_parametric(rows: LossRows, *, outliers: str = "keep", large_runs: float = 0.0, delta: float = HUBER_DELTA) -> ParametricFit:
    """Fit the law.

    `outliers`: `keep`, `highest:K` (drop the K highest losses, as Besiroglu et al. drop 5) or `residual:Z` (drop residuals beyond Z robust deviations).
    `large_runs`: the power of its compute with which a run counts; published fits have 0, forecasts of losses miss by less with 0.3 (docs/decisions/0076).

    Raises:
        DataError: fewer than 6 points, or sizes or tokens that do not vary.
    """
    kept = _without_outliers(rows, outliers, delta)
    require_varied(kept)
    parameters, objective = fit_laws(kept.parameters, kept.tokens, np.log(kept.loss)[None], run_weights(kept, large_runs)[None], delta=delta)
    if not told_apart(parameters[0]):
        alpha, beta = parameters[0][3:]
        raise DataError(
            f"{rows.name}: the losses do not tell what size and data buy (alpha {alpha:.3g}, beta {beta:.3g}; expected {MIN_EXPONENT:g} to {MAX_EXPONENT:g}); "
            "add runs of other sizes and tokens, or look for runs that went wrong"
        )
    law = law_of(parameters[0])
    error = np.abs(law.loss(kept.parameters, kept.tokens) / kept.loss - 1).mean()
    dropped = tuple(sorted(set(rows.lines) - set(kept.lines)))
    return ParametricFit(
        law=law, objective=float(objective[0]), num_points=len(kept.loss), dropped_lines=dropped, mean_relative_error=float(error), large_runs=large_runs
    )


def run_weights(rows: LossRows, large_runs: float) -> Array:
    """Return how much each row counts, 1 in the mean."""
    weights = (rows.flops / rows.flops.max()) ** large_runs
    return np.asarray(weights / weights.mean())


def told_apart(parameters: Array) -> bool:
    """Say whether a fit has exponents that a law can have; resamples of few points often have not."""
    return bool(np.all(np.isfinite(parameters)) and parameters[3:].min() >= MIN_EXPONENT and parameters[3:].max() <= MAX_EXPONENT)


def require_varied(rows: LossRows) -> None:
    """Refuse rows that cannot tell the five constants apart."""
    if len(rows.loss) < MIN_POINTS:
        raise DataError(
            f"{rows.name}: {len(rows.loss)} usable points, a law of five constants needs at least {MIN_POINTS}; add runs of other sizes and budgets"
        )
    if rows.flops.max() < MIN_COMPUTE_RATIO * rows.flops.min():
        raise DataError(
            f"{rows.name}: all runs have about the same compute ({rows.flops.min():.3g} to {rows.flops.max():.3g} FLOPs), "
            f"so how the loss falls with it is not in the data; add runs at another, at least a factor of {MIN_COMPUTE_RATIO:g} away"
        )
    for what, values in (("sizes", rows.parameters), ("token counts", rows.tokens)):
        if len(np.unique(np.round(np.log(values), 3))) < 3:
            raise DataError(f"{rows.name}: fewer than three different {what}, so what more of them buys is not in the data; add runs")


def _without_outliers(rows: LossRows, policy: str, delta: float) -> LossRows:
    name, _, amount = policy.partition(":")
    if policy == "keep":
        return rows
    try:
        number = float(amount)
    except ValueError:
        number = -1.0
    if name not in ("highest", "residual") or number <= 0:
        raise SettingsError(f"outliers: found {policy!r}, expected keep, highest:K (the K highest losses go) or residual:Z (beyond Z robust deviations)")
    if name == "highest":
        return rows.take(np.sort(np.argsort(rows.loss)[: max(0, len(rows.loss) - int(number))]))
    require_varied(rows)
    parameters, _ = fit_laws(rows.parameters, rows.tokens, np.log(rows.loss)[None], np.ones((1, len(rows.loss))), delta=delta)
    residual = np.log(rows.loss) - np.log(law_of(parameters[0]).loss(rows.parameters, rows.tokens))
    deviation = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    return rows.take(np.flatnonzero(np.abs(residual) <= number * max(deviation, _SMALL)))


def law_of(parameters: Array) -> ParametricLaw:
    """Return the law of one row (log E, log A, log B, alpha, beta)."""
    e, a, b, alpha, beta = (float(value) for value in parameters)
    return ParametricLaw(E=float(np.exp(e)), A=float(np.exp(a)), B=float(np.exp(b)), alpha=alpha, beta=beta)


def fit_laws(
    parameters: Array, tokens: Array, log_loss: Array, weights: Array, *, delta: float = HUBER_DELTA, start: Array | None = None, max_steps: int = 200
) -> tuple[Array, Array]:
    """Fit R laws at once to n points: `log_loss` [R, n] or [1, n], `weights` [R, n] (a bootstrap's counts; 0 leaves out). Returns ([R, 5], objective [R]).

    Without `start` [5] or [R, 5] each row's own grid is searched.
    """
    size, data = np.log(parameters), np.log(tokens)
    centre = np.array([size.mean(), data.mean()])
    size, data = size - centre[0], data - centre[1]
    count = len(weights)
    log_loss = np.broadcast_to(log_loss, weights.shape)
    if start is None:
        theta = np.stack([_grid_start(size, data, log_loss[row], weights[row], delta) for row in range(count)])
    else:
        theta = np.array(np.broadcast_to(start, (count, 5)))
        theta[:, 1] -= theta[:, 3] * centre[0]
        theta[:, 2] -= theta[:, 4] * centre[1]
    theta, objective = _newton(theta, size, data, log_loss, weights, delta, max_steps)
    theta[:, 1] += theta[:, 3] * centre[0]
    theta[:, 2] += theta[:, 4] * centre[1]
    return theta, objective


def _grid_start(size: Array, data: Array, log_loss: Array, weights: Array, delta: float) -> Array:
    """Return the best of a grid of exponents, (E, A, B) solved for each: least squares of relative residuals, reweighted to Huber's."""
    alpha, beta = (axis.ravel() for axis in np.meshgrid(_GRID, _GRID))
    loss = np.exp(log_loss)
    basis = np.stack([np.ones((len(alpha), len(size))), np.exp(-alpha[:, None] * size), np.exp(-beta[:, None] * data)], axis=-1) / loss[None, :, None]
    robust = np.broadcast_to(weights, basis.shape[:2])
    solved = np.ones((len(alpha), 3))
    for _ in range(4):
        weighted = basis * robust[..., None]
        normal = weighted.transpose(0, 2, 1) @ basis
        normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        solved = np.maximum(np.linalg.solve(normal, weighted.sum(axis=1)[..., None])[..., 0], 1e-6 * loss.min())
        residual = np.log(np.maximum((basis @ solved[..., None])[..., 0], _SMALL))
        robust = weights * np.minimum(1.0, delta / np.maximum(np.abs(residual), _SMALL))
    best = int(np.argmin((weights * _huber(residual, delta)).sum(axis=1)))
    return np.concatenate([np.log(solved[best]), [alpha[best], beta[best]]])


def _huber(residual: Array, delta: float) -> Array:
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def _terms(theta: Array, size: Array, data: Array) -> Array:
    """Return log of the three terms of the law [R, 3, n]."""
    constant = np.broadcast_to(theta[:, 0, None], (len(theta), len(size)))
    return np.stack([constant, theta[:, 1, None] - theta[:, 3, None] * size, theta[:, 2, None] - theta[:, 4, None] * data], axis=1)


def _residual(theta: Array, size: Array, data: Array, log_loss: Array) -> tuple[Array, Array]:
    """Return (residual [R, n], share of each term in the prediction [R, 3, n])."""
    terms = _terms(theta, size, data)
    largest = terms.max(axis=1)
    raised = np.exp(terms - largest[:, None])
    total = raised.sum(axis=1)
    return largest + np.log(total) - log_loss, raised / total[:, None]


def _newton(theta: Array, size: Array, data: Array, log_loss: Array, weights: Array, delta: float, max_steps: int) -> tuple[Array, Array]:
    """Minimize the sum of Huber terms for all rows: Newton steps with absolute eigenvalues, damped where a step does not lower the objective.

    The threshold comes down to `delta` in stages of 10: at once, so few points would be curved that a step from afar knows nothing.
    """
    for threshold in (100 * delta, 10 * delta, delta):
        damping = np.full(len(theta), 1e-3)
        active = np.ones(len(theta), dtype=bool)
        value = (weights * _huber(_residual(theta, size, data, log_loss)[0], threshold)).sum(axis=1)
        for _ in range(max_steps if threshold == delta else 30):
            at = np.flatnonzero(active)
            if not len(at):
                break
            step = _step(theta[at], size, data, log_loss[at], weights[at], threshold, damping[at])
            tried = theta[at] + step
            reached = (weights[at] * _huber(_residual(tried, size, data, log_loss[at])[0], threshold)).sum(axis=1)
            better = reached < value[at]
            theta[at[better]] = tried[better]
            gain = np.where(better, value[at] - reached, np.inf)
            value[at[better]] = reached[better]
            damping[at] = np.where(better, damping[at] * 0.2, damping[at] * 8)
            done = (gain <= 1e-13 * value[at]) | (damping[at] > 1e12) | (value[at] < 1e-22)
            active[at[done]] = False
    return theta, value


def _step(theta: Array, size: Array, data: Array, log_loss: Array, weights: Array, delta: float, damping: Array) -> Array:
    residual, share = _residual(theta, size, data, log_loss)
    slope = weights * np.clip(residual, -delta, delta)
    curved = weights * (np.abs(residual) <= delta)
    # Derivative of the log prediction in (log E, log A, log B, alpha, beta): each term's share times its own derivative.
    factors = np.stack([np.ones_like(size), np.ones_like(size), np.ones_like(size), -size, -data])
    owner = np.array([0, 1, 2, 1, 2])
    jacobian = share[:, owner] * factors
    gradient = (jacobian @ slope[..., None])[..., 0]
    hessian = ((curved - slope)[:, None] * jacobian) @ jacobian.transpose(0, 2, 1)
    same = np.equal.outer(owner, owner)
    hessian += ((slope[:, None] * jacobian) @ factors.T[None]) * same
    scale = np.sqrt((weights[:, None] * jacobian**2).sum(axis=2)) + _SMALL
    scaled = hessian / (scale[:, :, None] * scale[:, None, :])
    values, vectors = np.linalg.eigh((scaled + scaled.transpose(0, 2, 1)) / 2)
    inverse = 1 / (np.maximum(np.abs(values), 1e-10) + damping[:, None])
    rotated = (vectors.transpose(0, 2, 1) @ (gradient / scale)[..., None])[..., 0]
    step = -(vectors @ (inverse * rotated)[..., None])[..., 0] / scale
    longest = np.abs(step).max(axis=1, keepdims=True)
    return np.asarray(step * np.minimum(1.0, 1.0 / np.maximum(longest, _SMALL)))
