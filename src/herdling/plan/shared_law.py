"""One law for many quantities: E + A/N^alpha + B/D^beta with E, A and B of each row and the exponents of all.

A task of a ladder, or a held-out source of a data mix, has too few runs to tell five constants. So the exponents are shared, and drawn towards each other by a
prior: few runs vary size and data enough to tell alpha from beta. Given these two the rest is a linear problem (variable projection), so they are searched on a
grid that narrows. The robust loss is Huber's, on the log. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from herdling.plan.scaling_law import Array

EXPONENTS_DIFFER = 0.3
"""Prior deviation of log(alpha / beta). Tried on the OLMo ladder up to 3B: 0.1 to 1, docs/decisions/0076."""
USUAL_EXPONENT, USUAL_SPREAD = 0.33, 0.4
"""Where `usual` is asked for: prior of the geometric mean of alpha and beta, and its deviation in log. Published laws of losses have 0.28 to 0.37."""
_MIDDLE, _REACH = 0.4, 0.35
_REFIT_REACH, _REFIT_ROUNDS, _REFIT_NARROWING = 0.3, 7, 0.6
_ROUNDS, _WIDE_ROUNDS, _NARROWING, _REWEIGHTED = 22, 2, 0.74, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLaw:
    """Fitted rows: exponents of all, and constants [T, 3]: E, and A and B at the middle of the runs (`centre`: mean log N, mean log D)."""

    alpha: float
    beta: float
    constants: Array
    centre: tuple[float, float]

    def values(self, parameters: Array | float, tokens: Array | float) -> Array:
        """Return what every row [T] is at these sizes and tokens: [T], or [T, n] for arrays of n."""
        size, data = np.log(np.asarray(parameters, dtype=np.float64)) - self.centre[0], np.log(np.asarray(tokens, dtype=np.float64)) - self.centre[1]
        falls = np.stack([np.ones_like(size), np.exp(-self.alpha * size), np.exp(-self.beta * data)])
        return np.asarray(self.constants @ falls)


def fit_shared(parameters: Array, tokens: Array, values: Array, weights: Array, *, noise: float, usual: bool = False) -> SharedLaw:
    """Fit rows [T, R] of positive values at R runs; `weights` [T, R], 0 where a row was not measured; `noise` is Huber's threshold on the log of a value.

    `usual` draws the exponents to those of published laws of losses, for rows so short that they could say anything.
    """
    centre = float(np.log(parameters).mean()), float(np.log(tokens).mean())
    size, data = np.log(parameters) - centre[0], np.log(tokens) - centre[1]
    weights = weights / weights.mean()
    middle, reach, robust, least = np.full(2, _MIDDLE), _REACH, weights, np.inf
    for round_ in range(_ROUNDS):
        steps = np.linspace(-1, 1, 7 if round_ < _WIDE_ROUNDS else 3)
        tried = np.clip(middle + reach * np.array(list(product(steps, steps))), 0.01, 2.0)
        basis = np.stack([np.ones((len(tried), len(size))), np.exp(-tried[:, :1] * size), np.exp(-tried[:, 1:] * data)], axis=-1)
        solved, reweighted, value = _solve(basis, values, weights, robust, noise)
        value += _prior(np.log(tried), noise, usual=usual) / 2
        value = np.where(np.isfinite(value), value, np.inf)
        best = int(np.argmin(value))
        if value[best] <= least:
            least, middle, robust, constants = value[best], tried[best], reweighted[best], solved[best]
        reach *= _NARROWING
    return SharedLaw(alpha=float(middle[0]), beta=float(middle[1]), constants=constants, centre=centre)


def refit_shared(
    law: SharedLaw, parameters: Array, tokens: Array, values: Array, weights: Array, *, noise: float, usual: bool = False
) -> tuple[Array, Array, Array]:
    """Refit a law to made values [M, T, R] that scatter around it, as `fit_shared` would; returns alpha [M], beta [M] and constants [M, T, 3].

    Least squares, each world's exponents searched around its own best so far: without outliers there is nothing to reweight, and all worlds are one batch.
    """
    size, data = np.log(parameters) - law.centre[0], np.log(tokens) - law.centre[1]
    weights = weights / weights.mean()
    middle = np.tile(np.log([law.alpha, law.beta]), (len(values), 1))
    least, constants, reach = np.full(len(values), np.inf), np.zeros((*values.shape[:2], 3)), _REFIT_REACH
    for _ in range(_REFIT_ROUNDS):
        around = middle.copy()
        for step in product((-1, 0, 1), repeat=2):
            log_exponents = np.clip(around + reach * np.array(step), np.log(0.01), np.log(2.0))
            alpha, beta = np.exp(log_exponents).T
            basis = np.stack([np.ones((len(values), len(size))), np.exp(-alpha[:, None] * size), np.exp(-beta[:, None] * data)], axis=-1)
            solved, error = _least_squares(basis, values, weights)
            error += _prior(log_exponents, noise, usual=usual)
            better = error < least
            least[better], middle[better], constants[better] = error[better], log_exponents[better], solved[better]
        reach *= _REFIT_NARROWING
    return np.exp(middle[:, 0]), np.exp(middle[:, 1]), constants


def _prior(log_exponents: Array, noise: float, *, usual: bool) -> Array:
    """Return the squared deviations from what exponents are like, in the units of squared residuals, for log alpha and log beta [G, 2]."""
    apart = (log_exponents[:, 0] - log_exponents[:, 1]) / EXPONENTS_DIFFER
    far = (log_exponents.mean(axis=1) - np.log(USUAL_EXPONENT)) / USUAL_SPREAD
    return np.asarray(noise**2 * (apart**2 + (far**2 if usual else 0.0)))


def _least_squares(basis: Array, values: Array, weights: Array) -> tuple[Array, Array]:
    """Return constants [M, T, 3], none below 0, and squared relative errors [M] but for a constant, for bases [M, R, 3] and values [M, T, R]."""
    relative = basis[:, None] / values[..., None]
    weighted = relative * weights[..., None]
    normal, right = weighted.swapaxes(2, 3) @ relative, weighted.sum(axis=2)
    solved = _nonnegative(normal + 1e-10 * np.eye(3), right)
    return solved, ((solved[..., None, :] @ (normal @ solved[..., None]))[..., 0, 0] - 2 * (solved * right).sum(axis=-1)).sum(axis=1)


def _solve(basis: Array, values: Array, weights: Array, robust: Array, noise: float) -> tuple[Array, Array, Array]:
    """Return constants [G, T, 3], none below 0, robust weights [G, T, R] and objective [G] for bases [G, R, 3], by least squares reweighted from `robust`."""
    relative = basis[:, None] / values[None, :, :, None]
    reweighted = np.broadcast_to(robust, relative.shape[:3])
    for _ in range(_REWEIGHTED):
        weighted = relative * reweighted[..., None]
        solved = _nonnegative(weighted.swapaxes(2, 3) @ relative + 1e-10 * np.eye(3), weighted.sum(axis=2))
        residual = np.abs(np.log(np.maximum((relative @ solved[..., None])[..., 0], 1e-9)))
        reweighted = weights * np.minimum(1.0, noise / np.maximum(residual, 1e-9))
    huber = np.where(residual <= noise, residual**2 / 2, noise * (residual - noise / 2))
    return solved, reweighted, (weights * huber).sum(axis=(1, 2))


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
