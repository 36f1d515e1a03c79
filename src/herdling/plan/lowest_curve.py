"""The least loss that compute buys, without a law of size and data: L = E + k C^-gamma through the lowest point of each budget's parabola.

A parametric law is drawn through the arms of the parabolas too, where sizes are far too large or too small for their tokens; what these add bends its floor. On
Llama 3's 133 points the curve through the lowest points forecasts budgets up to 333 times larger with 0.5 % (root of the mean square), the law with 2.0 %, too
high each time (docs/decisions/0073). No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from herdling.base.errors import DataError
from herdling.plan.isoflop import Valley, fit_isoflop
from herdling.plan.measurements import LossRows
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN, Array, ParametricLaw

MIN_VALLEYS = 4
"""Budgets that a curve of three constants is drawn through."""
_GAMMAS = np.linspace(0.02, 0.6, 117)


@dataclass(frozen=True, slots=True, kw_only=True)
class LowestCurve:
    """L(C) = E + k (C / scale)^-gamma, E not below 0. Of many curves fitted at once the constants are arrays `[n]`."""

    E: Array
    k: Array
    gamma: Array
    scale: float

    def loss(self, flops: float) -> Array:
        """Return the least loss at a budget."""
        return np.asarray(self.E + self.k * (flops / self.scale) ** -self.gamma)

    def loss_of(self, law: ParametricLaw, parameters: float, tokens: float) -> float:
        """Return the loss of this size on these tokens: the curve at their compute, raised by as much as the law says that they lie above its optimum."""
        flops = FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens
        return float(self.loss(flops) * law.loss(parameters, tokens) / law.allocate(flops).loss)


def lowest_curve(rows: LossRows, *, least: int = MIN_VALLEYS) -> LowestCurve | None:
    """Fit the curve to a sweep; None where fewer than `least` budgets have a lowest point, or more compute did not lower it."""
    return curve_of(valleys_of(rows), least=least)


def curve_of(valleys: Sequence[Valley], *, least: int = MIN_VALLEYS) -> LowestCurve | None:
    """Fit the curve to lowest points; None as `lowest_curve` says."""
    if len(valleys) < least:
        return None
    fitted = curves_through(valleys, np.array([[valley.loss for valley in valleys]]))
    return LowestCurve(E=fitted.E[0], k=fitted.k[0], gamma=fitted.gamma[0], scale=fitted.scale) if fitted.k[0] > 0 else None


def valleys_of(rows: LossRows) -> tuple[Valley, ...]:
    """Return the lowest point of each budget; none where compute has no budgets, or one of them no lowest point."""
    try:
        return fit_isoflop(rows).valleys
    except DataError:
        return ()


def curves_through(valleys: Sequence[Valley], losses: Array) -> LowestCurve:
    """Fit a curve to each row of `losses` `[n, B]` at the compute of these lowest points: least squares over a grid of gamma. Its constants are `[n]`."""
    compute = np.array([valley.flops for valley in valleys])
    scale = float(np.exp(np.log(compute).mean()))
    tried = [_at_gamma(compute / scale, losses, gamma) for gamma in _GAMMAS]
    best = np.argmin([error for error, _, _ in tried], axis=0)
    floor, factor = (np.take_along_axis(np.array([one[place] for one in tried]), best[None], axis=0)[0] for place in (1, 2))
    return LowestCurve(E=floor, k=factor, gamma=_GAMMAS[best], scale=scale)


def _at_gamma(compute: Array, losses: Array, gamma: float) -> tuple[Array, Array, Array]:
    """Return squared error, E and k, each `[n]`, of the best curve with this gamma."""
    fall = compute**-gamma
    centred = fall - fall.mean()
    factor = (losses - losses.mean(axis=1, keepdims=True)) @ centred / (centred @ centred)
    floor = losses.mean(axis=1) - factor * fall.mean()
    factor = np.where(floor < 0, losses @ fall / (fall @ fall), factor)
    floor = np.maximum(floor, 0.0)
    error = ((floor[:, None] + factor[:, None] * fall - losses) ** 2).sum(axis=1)
    return error, floor, factor
