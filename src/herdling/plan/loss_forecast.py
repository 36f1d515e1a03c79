"""What a sweep says of one larger training: its loss, with an interval that holds the law's doubt, the luck of one run, and how far earlier forecasts missed.

The law is the parametric one at the size and tokens that are trained. Its 90 % interval: the spread of laws refitted to resampled runs, and the scatter of
single runs around the law, by Student; where it is wider, what forecasts of the largest budgets from the smaller ones missed, grown with the root of the log of
the compute between, as a random walk grows (the ladder's rule, docs/decisions/0070); and where that is wider, what other forms say that fit the same runs,
each with one run's luck: a curve with a floor through the lowest losses of the budgets, a straight line in log compute where no floor is in sight. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from herdling.base.errors import DataError
from herdling.plan.isoflop import Valley, budgets, fit_isoflop
from herdling.plan.measurements import LossRows
from herdling.plan.parametric import ParametricFit, fit_laws, fit_parametric, law_of, told_apart
from herdling.plan.resampling import kept_rows, student_90
from herdling.plan.scaling_law import Array

NUM_CONSTANTS = 5
NUM_BOOTSTRAPS = 200
SMALL_FLOPS = 1e14
"""Below this largest budget a forecast of the loss is doubtful: 13 and 17 % too high at eight times 1.6e12 and 1.6e13 (docs/decisions/0073)."""
MIN_VALLEYS = 4
"""Budgets that a curve of the lowest losses is drawn through."""
_GAMMAS = np.linspace(0.02, 0.6, 117)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossForecast:
    """The expected loss of a training and its 90 % interval; `valleys` is what the lowest losses of the budgets say, where they say something."""

    parameters: float
    tokens: float
    loss: float
    low: float
    high: float
    valleys: float | None
    from_flops: float
    """The largest budget that it stands on."""

    @property
    def flops(self) -> float:
        """6ND."""
        return 6 * self.parameters * self.tokens


def forecast_loss(rows: LossRows, parameters: float, tokens: float, *, outliers: str = "keep", seed: int = 0) -> LossForecast:
    """Forecast the loss of a training of this size on these tokens.

    Raises:
        DataError: the runs are too few or too alike for a law.
    """
    fit = fit_parametric(rows, outliers=outliers)
    kept = kept_rows(rows, fit)
    loss = float(fit.law.loss(parameters, tokens))
    flops = 6 * parameters * tokens
    valleys = valley_loss(kept, flops)
    luck = _luck(kept, fit)
    forms = [loss, *(said for said in (valleys, straight_loss(kept, flops, within=luck)) if said is not None)]
    half = max(_law_and_luck(kept, fit, parameters, tokens, seed), _missed_before(kept, flops))
    return LossForecast(
        parameters=parameters,
        tokens=tokens,
        loss=loss,
        low=float(min(loss * np.exp(-half), min(forms) * np.exp(-luck))),
        high=float(max(loss * np.exp(half), max(forms) * np.exp(luck))),
        valleys=valleys,
        from_flops=float(kept.flops.max()),
    )


def straight_loss(rows: LossRows, flops: float, *, within: float) -> float | None:
    """Return the loss at a budget by a straight line in log compute through the lowest losses: no floor in sight yet (Llama 3, section 3.2.1, figure 4).

    None where the line misses one of them by more than `within`, in log loss: then the floor is in sight.
    """
    valleys = _valleys(rows)
    if len(valleys) < MIN_VALLEYS:
        return None
    compute, loss = np.log([valley.flops for valley in valleys]), np.array([valley.loss for valley in valleys])
    slope, level = np.polyfit(compute, loss, 1)
    said = float(level + slope * np.log(flops))
    return said if said > 0 and np.abs(np.log((level + slope * compute) / loss)).max() <= within else None


def _valleys(rows: LossRows) -> tuple[Valley, ...]:
    try:
        return fit_isoflop(rows).valleys
    except DataError:
        return ()


def valley_loss(rows: LossRows, flops: float) -> float | None:
    """Return the loss at a budget by L = E + k C^-gamma through the lowest losses of the budgets; None where they cannot tell (fewer than four)."""
    valleys = _valleys(rows)
    if len(valleys) < MIN_VALLEYS:
        return None
    compute, loss = np.array([valley.flops for valley in valleys]), np.array([valley.loss for valley in valleys])
    best = min((_floor_and_fall(compute, loss, gamma) for gamma in _GAMMAS), key=lambda found: found[0])
    _, gamma, floor, factor = best
    return float(floor + factor * flops**-gamma)


def _floor_and_fall(compute: Array, loss: Array, gamma: float) -> tuple[float, float, float, float]:
    """Return (squared error, gamma, E, k) of the best E, k at this gamma, E not below 0."""
    falls = compute**-gamma
    basis = np.stack([np.ones_like(falls), falls / falls.mean()], axis=1)
    floor, factor = np.linalg.lstsq(basis, loss, rcond=None)[0]
    if floor < 0:
        floor, factor = 0.0, float((falls * loss).sum() / (falls**2).sum() * falls.mean())
    error = float(((basis @ np.array([floor, factor]) - loss) ** 2).sum())
    return error, float(gamma), float(floor), float(factor / falls.mean())


def _luck(rows: LossRows, fit: ParametricFit) -> float:
    """Return half the width, in log loss, of where one more run of a known law ends: the scatter of runs around the law."""
    freedom = max(1, len(rows.loss) - NUM_CONSTANTS)
    residual = np.log(rows.loss / fit.law.loss(rows.parameters, rows.tokens))
    return student_90(freedom) * float(np.sqrt((residual**2).sum() / freedom))


def _law_and_luck(rows: LossRows, fit: ParametricFit, parameters: float, tokens: float, seed: int) -> float:
    """Return half the width of the interval in log loss: laws of resampled runs, and one run's scatter around a law."""
    count = len(rows.loss)
    freedom = max(1, count - NUM_CONSTANTS)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=NUM_BOOTSTRAPS).astype(np.float64)
    start = np.array([np.log(fit.law.E), np.log(fit.law.A), np.log(fit.law.B), fit.law.alpha, fit.law.beta])
    refitted, _ = fit_laws(rows.parameters, rows.tokens, np.log(rows.loss)[None], draws, start=start)
    said = np.log([float(law_of(row).loss(parameters, tokens)) for row in refitted if told_apart(row)])
    # Resampled laws stand on the same residuals, so their spread is as much too small as the residuals are.
    doubt = float(((said - np.log(fit.law.loss(parameters, tokens))) ** 2).mean()) * count / freedom if len(said) else 0.0
    return float(np.hypot(student_90(freedom) * np.sqrt(doubt), _luck(rows, fit)))


def _missed_before(rows: LossRows, flops: float) -> float:
    """Return how far forecasts from the smaller budgets missed the larger ones, as half the width of an interval at `flops`; 0 where none could be made."""
    try:
        groups = budgets(rows)
    except DataError:
        return 0.0
    walked = []
    for number in range(3, len(groups)):
        below = np.concatenate(groups[:number])
        try:
            law = fit_parametric(rows.take(below)).law
        except DataError:
            continue
        group = groups[number]
        miss = float(np.log(rows.loss[group] / law.loss(rows.parameters[group], rows.tokens[group])).mean())
        walked.append(miss / np.sqrt(np.log(rows.flops[group].mean() / rows.flops[below].max())))
    further = np.log(flops / rows.flops.max())
    if not walked or further <= 0:
        return 0.0
    return student_90(len(walked)) * float(np.sqrt(np.mean(np.square(walked)) * further))
