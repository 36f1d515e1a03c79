"""What a sweep says by every method: isoFLOP parabolas, the parametric law, the envelope; how far they disagree, and what that costs. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from herdling.base.errors import DataError
from herdling.plan.coverage import score_above, score_largest_budgets
from herdling.plan.isoflop import TokenLaw, fit_envelope, fit_isoflop
from herdling.plan.lowest_curve import curve_of
from herdling.plan.measurements import LossRows
from herdling.plan.parametric import ParametricFit, fit_parametric
from herdling.plan.resampling import LEVEL, Interval, flops_name, line_intervals, loss_key, parametric_intervals, tokens_key
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN, SERVING_FLOPS_PER_PARAMETER, Allocation, ParametricLaw

FORECASTS = {"tokens_at": tokens_key, "loss_at": loss_key}
TOP_SHARE = 0.9
"""Where compute has no budgets, the rows above this quantile are the ones left out."""


def forecast_sweep(
    rows: LossRows,
    flops: Sequence[float],
    *,
    outliers: str = "keep",
    large_runs: float = 0.0,
    isoflop: bool = True,
    trajectories: bool = False,
    num_bootstraps: int = 300,
    **aims: float | None,
) -> dict[str, Any]:
    """Fit a sweep by every method that it allows and return what `herdling fit` prints: `isoflop`, `parametric`, `envelope`, `disagreement`, `held_out`.

    `isoflop` wants runs in budgets; `trajectories` says that rows are points along training curves; `aims` are those of `plans_beside`. A sweep whose parabolas
    stand but whose law does not has `not_fitted`, why.
    """
    line = fit_isoflop(rows) if isoflop else None
    envelope = fit_envelope(rows) if trajectories else None
    found: dict[str, Any] = {
        "isoflop": None if line is None else _line(line, flops),
        "parametric": None,
        "envelope": None if envelope is None else _line(envelope, flops, intervals=False),
        "disagreement": {},
        **plans_beside(None, flops),
        "held_out": _held_out(rows, in_budgets=isoflop, outliers=outliers, large_runs=large_runs),
        "convention": {"N": rows.convention, "C": "6ND"},
        "outliers": {"policy": outliers, "dropped_lines": []},
        "repeated_lines": rows.repeated_lines(),
    }
    try:
        fit = fit_parametric(rows, outliers=outliers, large_runs=large_runs)
    except DataError as error:
        if line is None:
            raise
        return found | {"not_fitted": str(error)}
    found["parametric"] = _law(rows, fit, flops, num_bootstraps)
    found["outliers"]["dropped_lines"] = list(fit.dropped_lines)
    if line is not None:
        found["disagreement"] = {flops_name(budget): _disagreement(line, fit, budget) for budget in flops}
    return found | plans_beside(fit.law, flops, **aims)


def plans_beside(
    law: ParametricLaw | None,
    flops: Sequence[float],
    *,
    served_tokens: float | None = None,
    tokens_per_parameter: float | None = None,
    max_tokens: float | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return plans beside the compute-optimal one, for each budget; none where nothing was asked for or there is no law.

    `serving`: the cheapest way to its loss when `served_tokens` are paid for as well. `over_trained`: a model with `tokens_per_parameter`. `limited`: the best
    with at most `max_tokens`.
    """
    found: dict[str, dict[str, dict[str, float]]] = {"serving": {}, "over_trained": {}, "limited": {}}
    if law is None:
        return found
    for budget in flops:
        name = flops_name(budget)
        if served_tokens:
            found["serving"][name] = _serving(law, budget, served_tokens)
        if tokens_per_parameter is not None:
            found["over_trained"][name] = _beside(law, law.over_train(budget, tokens_per_parameter))
        if max_tokens is not None:
            found["limited"][name] = _beside(law, law.allocate(budget, max_tokens=max_tokens))
    return found


def fits_of(rows: LossRows, *, outliers: str = "keep", large_runs: float = 0.0, isoflop: bool = True) -> tuple[TokenLaw | None, ParametricFit | None]:
    """Return the fitted line and law that `forecast_sweep` speaks of, each where there is one."""
    line = fit_isoflop(rows) if isoflop else None
    try:
        return line, fit_parametric(rows, outliers=outliers, large_runs=large_runs)
    except DataError:
        return line, None


def _line(law: TokenLaw, flops: Sequence[float], *, intervals: bool = True) -> dict[str, Any]:
    found = {"alpha": law.alpha, "A": law.A, "tokens_at": {flops_name(budget): law.tokens(budget) for budget in flops}}
    found["parameters_at"] = {flops_name(budget): law.parameters(budget) for budget in flops}
    if intervals and (curve := curve_of(law.valleys)):
        found["loss_at"] = {flops_name(budget): float(curve.loss(budget)) for budget in flops}
    sure = intervals and len(law.valleys) > 2
    found["intervals"] = _by_budget(line_intervals(law, flops), flops) if sure else None
    found["budgets"] = [asdict(valley) for valley in law.valleys]
    return found


def _by_budget(intervals: Mapping[str, Interval], flops: Sequence[float]) -> dict[str, Any]:
    ends = {name: [interval.low, interval.high] for name, interval in intervals.items()}
    at = {name: {flops_name(budget): ends.pop(key(budget)) for budget in flops if key(budget) in ends} for name, key in FORECASTS.items()}
    return {"level": LEVEL, **ends, **{name: found for name, found in at.items() if found}}


def _law(rows: LossRows, fit: ParametricFit, flops: Sequence[float], num_bootstraps: int) -> dict[str, Any]:
    optima = {flops_name(budget): fit.law.allocate(budget) for budget in flops}
    intervals = parametric_intervals(rows, fit, flops, num_bootstraps=num_bootstraps)
    return {
        **fit.law.as_dict(),
        "parameter_exponent": fit.law.parameter_exponent,
        "tokens_at": {name: optimum.tokens for name, optimum in optima.items()},
        "parameters_at": {name: optimum.parameters for name, optimum in optima.items()},
        "loss_at": {name: optimum.loss for name, optimum in optima.items()},
        "intervals": {method: _by_budget(found, flops) for method, found in intervals.items()},
        "objective": fit.objective,
        "num_points": fit.num_points,
        "large_runs": fit.large_runs,
        "mean_relative_error": fit.mean_relative_error,
    }


def _disagreement(line: TokenLaw, fit: ParametricFit, flops: float) -> dict[str, float]:
    """Return the ratio of tokens, and the share of compute that the parabolas' choice wastes if the parametric law is right."""
    tokens = line.tokens(flops)
    loss = float(fit.law.loss(flops / FLOPS_PER_PARAMETER_AND_TOKEN / tokens, tokens))
    wasted = 1 - fit.law.equivalent_flops(loss) / flops
    return {"tokens_ratio": tokens / fit.law.allocate(flops).tokens, "wasted_compute": wasted}


def _serving(law: ParametricLaw, flops: float, served_tokens: float) -> dict[str, float]:
    optimal = law.allocate(flops)
    plan = law.allocate_with_serving(optimal.loss, served_tokens)
    before = optimal.training_flops + SERVING_FLOPS_PER_PARAMETER * optimal.parameters * served_tokens
    saved = 1 - (plan.training_flops + plan.serving_flops) / before
    return {**asdict(plan), "served_tokens": served_tokens, "saved_compute": saved}


def _beside(law: ParametricLaw, plan: Allocation) -> dict[str, float]:
    """Return a plan with what it costs: the share of the compute with which the optimal model would reach the same loss cheaper."""
    optimal = law.allocate(plan.training_flops)
    wasted = 1 - law.equivalent_flops(plan.loss) / plan.training_flops
    return {**asdict(plan), "optimal_loss": optimal.loss, "serving_cost": plan.parameters / optimal.parameters, "wasted_compute": max(0.0, wasted)}


def _held_out(rows: LossRows, *, in_budgets: bool, **policy: Any) -> dict[str, Any]:
    try:
        if in_budgets:
            return asdict(score_largest_budgets(rows, **policy))
        return asdict(score_above(rows, float(np.quantile(rows.flops, TOP_SHARE)), **policy))
    except DataError as error:
        return {"not_scored": str(error)}
