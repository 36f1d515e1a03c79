"""Accuracy as a sigmoid of bits per byte of the right answer: the second stage of a task's forecast (Llama 3, section 3.2.1; Bhagia et al., 2024). No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from herdling.plan.scaling_law import Array

ANCHOR_SHARE = 0.005
"""How much the point (0 bits, accuracy 1) weighs against all measured ones together, where these have weights. Tried: 0.0005 to 0.02, docs/decisions/0076."""
_WIDE, _NARROW = 9, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigmoid:
    """accuracy = top - drop / (1 + exp(-slope (bits - middle))): `top` at 0 bits, `top - drop` (about chance) at many."""

    top: float
    drop: float
    slope: float
    middle: float

    def accuracy(self, bits: float) -> float:
        """Return the accuracy at these bits, between 0 and 1."""
        value = self.top - self.drop / (1 + np.exp(np.clip(-self.slope * (bits - self.middle), -60, 60)))
        return float(min(1.0, max(0.0, value)))


def fit_sigmoid(bits: Array, accuracy: Array, weights: Array | None = None) -> Sigmoid:
    """Fit by least squares with 0 <= drop <= 1, top <= 1, slope and middle >= 0, and one more point: accuracy 1 at 0 bits.

    Without `weights` every point counts the same, that one too, as in the published method. (top, drop) are linear, so they are solved for each point of a grid
    over (middle, log slope) that narrows around the best.
    """
    x, y = np.append(bits, 0.0), np.append(accuracy, 1.0)
    share = np.ones(len(x)) if weights is None else np.append(weights / weights.sum(), ANCHOR_SHARE)
    share = share / share.sum()
    least, best = np.inf, Sigmoid(top=1.0, drop=0.0, slope=1.0, middle=1.0)
    middle, log_slope, reach, reach_slope = 1.2, np.log(3.5), 1.2, 1.8
    for round_ in range(34):
        steps = np.linspace(-1, 1, _WIDE if round_ < 4 else _NARROW)
        middles, slopes = (axis.ravel() for axis in np.meshgrid(np.maximum(0.0, middle + reach * steps), np.exp(log_slope + reach_slope * steps)))
        curve = 1 / (1 + np.exp(np.clip(-slopes[:, None] * (x - middles[:, None]), -60, 60)))
        top, drop = _ends(curve, y, share)
        error = (top[:, None] - drop[:, None] * curve - y) ** 2 @ share
        at = int(np.argmin(error))
        if error[at] < least:
            least, best = float(error[at]), Sigmoid(top=float(top[at]), drop=float(drop[at]), slope=float(slopes[at]), middle=float(middles[at]))
        middle, log_slope = best.middle, float(np.log(best.slope))
        reach, reach_slope = 0.65 * reach, 0.65 * reach_slope
    return best


def _ends(curve: Array, accuracy: Array, share: Array) -> tuple[Array, Array]:
    """Return the best (top, drop) of each curve [G, n] within their bounds; `share` [n] sums to 1."""
    mean_curve, mean = curve @ share, accuracy @ share
    centred = curve - mean_curve[:, None]
    drop = np.clip(-(centred @ (share * (accuracy - mean))) / np.maximum(centred**2 @ share, 1e-15), 0.0, 1.0)
    top = mean + drop * mean_curve
    at_most = np.clip((curve @ (share * (1 - accuracy))) / np.maximum(curve**2 @ share, 1e-15), 0.0, 1.0)
    return np.minimum(top, 1.0), np.where(top > 1.0, at_most, drop)
