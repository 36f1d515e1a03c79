"""What a sweep says of one larger training: its loss, with an interval that holds the curve's doubt, the luck of one run, and how far earlier forecasts missed.

Near the optimum the loss is that of the lowest points: a curve with a floor, E + k C^-gamma, through the lowest point of each budget's parabola. On Llama 3's
133 points it forecasts budgets up to 333 times larger with 0.5 % (root of the mean square; the parametric law: 2.0 %, too high each time; decision 0073). How
much a size and its tokens lie above the optimum of their compute is said by the parametric law, which also stands in where fewer than four budgets have a
lowest point.

The 90 % interval: the spread of curves through lowest points that are moved by their own error, and the scatter of single runs, by Student; where it is wider,
what forecasts of the larger budgets from the smaller ones missed, grown with the root of the log of the compute between, as a random walk grows (the ladder's
rule, decision 0070); and where that is wider, what other forms say that fit the same runs, each with one run's luck: the parametric law, a straight line in
log compute where no floor is in sight. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from herdling.base.errors import DataError
from herdling.plan.isoflop import budgets
from herdling.plan.lowest_curve import MIN_VALLEYS, LowestCurve, curves_through, lowest_curve, valleys_of
from herdling.plan.measurements import LossRows
from herdling.plan.parametric import ParametricFit, fit_laws, fit_parametric, law_of, told_apart
from herdling.plan.resampling import kept_rows, student_90
from herdling.plan.scaling_law import Array, ParametricLaw

NUM_CONSTANTS = 5
NUM_DRAWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LossForecast:
    """The expected loss of a training and its 90 % interval. `law` is what the parametric law says, `curve` what the curve through the lowest losses says,
    where there are enough of them: then it is what `loss` stands on."""

    parameters: float
    tokens: float
    loss: float
    low: float
    high: float
    law: float
    curve: float | None
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
    flops = 6 * parameters * tokens
    curve = lowest_curve(kept)
    law, loss = float(fit.law.loss(parameters, tokens)), _said(curve, fit.law, parameters, tokens)
    luck = _luck(kept, fit)
    doubt = _doubt_of_curve(kept, flops, _scatter(kept, fit), seed) if curve else _doubt_of_law(kept, fit, parameters, tokens, seed)
    half = max(float(np.hypot(doubt, luck)), _missed_before(kept, flops))
    straight = straight_loss(kept, flops, within=luck)
    forms = [loss, law] if straight is None else [loss, law, straight]
    return LossForecast(
        parameters=parameters,
        tokens=tokens,
        loss=loss,
        low=float(min(loss * np.exp(-half), min(forms) * np.exp(-luck))),
        high=float(max(loss * np.exp(half), max(forms) * np.exp(luck))),
        law=law,
        curve=loss if curve else None,
        from_flops=float(kept.flops.max()),
    )


def _said(curve: LowestCurve | None, law: ParametricLaw, parameters: float, tokens: float) -> float:
    return curve.loss_of(law, parameters, tokens) if curve else float(law.loss(parameters, tokens))


def straight_loss(rows: LossRows, flops: float, *, within: float) -> float | None:
    """Return the loss at a budget by a straight line in log compute through the lowest losses: no floor in sight yet (Llama 3, section 3.2.1, figure 4).

    None where the line misses one of them by more than `within`, in log loss: then the floor is in sight.
    """
    valleys = valleys_of(rows)
    if len(valleys) < MIN_VALLEYS:
        return None
    compute, loss = np.log([valley.flops for valley in valleys]), np.array([valley.loss for valley in valleys])
    slope, level = np.polyfit(compute, loss, 1)
    said = float(level + slope * np.log(flops))
    return said if said > 0 and np.abs(np.log((level + slope * compute) / loss)).max() <= within else None


def _scatter(rows: LossRows, fit: ParametricFit) -> float:
    """Return the scatter of runs around the law, one standard deviation in log loss."""
    residual = np.log(rows.loss / fit.law.loss(rows.parameters, rows.tokens))
    return float(np.sqrt((residual**2).sum() / max(1, len(rows.loss) - NUM_CONSTANTS)))


def _luck(rows: LossRows, fit: ParametricFit) -> float:
    """Return half the width, in log loss, of where one more run of a known law ends: the scatter of runs around the law."""
    return student_90(max(1, len(rows.loss) - NUM_CONSTANTS)) * _scatter(rows, fit)


def _doubt_of_curve(rows: LossRows, flops: float, sigma: float, seed: int) -> float:
    """Return half the width, in log loss, of curves through lowest points that are moved by the error of a parabola's lowest point."""
    valleys = valleys_of(rows)
    lowest = np.array([valley.loss for valley in valleys])
    errors = [sigma * np.sqrt(_leverage(np.log(rows.tokens[group]), np.log(valley.tokens))) for group, valley in zip(budgets(rows), valleys, strict=True)]
    moved = lowest * np.exp(np.random.default_rng(seed).normal(size=(NUM_DRAWS, len(valleys))) * errors)
    said = np.log(curves_through(valleys, moved).loss(flops) / curves_through(valleys, lowest[None]).loss(flops))
    return student_90(max(1, len(rows.loss) - NUM_CONSTANTS)) * float(np.sqrt((said**2).mean()))


def _leverage(where: Array, at: float) -> float:
    """Return the variance of a least-squares parabola at a place, in variances of one point."""
    basis, row = np.vander(where - at, 3), np.array([0.0, 0.0, 1.0])
    return float(row @ np.linalg.pinv(basis.T @ basis) @ row)


def _doubt_of_law(rows: LossRows, fit: ParametricFit, parameters: float, tokens: float, seed: int) -> float:
    """Return half the width, in log loss, of laws refitted to resampled runs."""
    count = len(rows.loss)
    freedom = max(1, count - NUM_CONSTANTS)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=NUM_DRAWS).astype(np.float64)
    start = np.array([np.log(fit.law.E), np.log(fit.law.A), np.log(fit.law.B), fit.law.alpha, fit.law.beta])
    refitted, _ = fit_laws(rows.parameters, rows.tokens, np.log(rows.loss)[None], draws, start=start)
    said = np.log([float(law_of(row).loss(parameters, tokens)) for row in refitted if told_apart(row)])
    # Resampled laws stand on the same residuals, so their spread is as much too small as the residuals are.
    doubt = float(((said - np.log(fit.law.loss(parameters, tokens))) ** 2).mean()) * count / freedom if len(said) else 0.0
    return student_90(freedom) * float(np.sqrt(doubt))


def _missed_before(rows: LossRows, flops: float) -> float:
    """Return how far forecasts from the smaller budgets missed the larger ones, as half the width of an interval at `flops`; 0 where none could be made."""
    try:
        groups = budgets(rows)
    except DataError:
        return 0.0
    walked = []
    for number in range(3, len(groups)):
        below, group = rows.take(np.concatenate(groups[:number])), groups[number]
        try:
            law = fit_parametric(below).law
        except DataError:
            continue
        curve = lowest_curve(below, least=3)
        said = [_said(curve, law, rows.parameters[row], rows.tokens[row]) for row in group]
        miss = float(np.log(rows.loss[group] / said).mean())
        walked.append(miss / np.sqrt(np.log(rows.flops[group].mean() / below.flops.max())))
    further = np.log(flops / rows.flops.max())
    if not walked or further <= 0:
        return 0.0
    return student_90(len(walked)) * float(np.sqrt(np.mean(np.square(walked)) * further))
