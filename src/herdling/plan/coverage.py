"""Is a scaling law to be believed? The score on left-out budgets, and how often the intervals of `resampling.py` hold the truth where the truth is known.

An interval is a claim that can be tested: worlds are made from the fitted law with the noise that was found, each is fitted anew, and the intervals that
hold the law are counted. No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from herdling.base.errors import DataError
from herdling.plan.isoflop import budgets, fit_isoflop
from herdling.plan.lowest_curve import lowest_curve
from herdling.plan.measurements import LossRows
from herdling.plan.parametric import ParametricFit, fit_parametric
from herdling.plan.resampling import Interval, kept_rows, line_intervals, parametric_intervals, quantities, tokens_key


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What a law fitted on smaller budgets says of the largest: mean |relative error| of the loss over the rows left out, and that of the curve through the
    lowest points of the smaller budgets (`lowest_curve.py`), where there are enough of them."""

    num_rows: int
    from_flops: float
    mean_relative_error: float
    by_curve: float | None = None


def score_largest_budgets(rows: LossRows, *, num_budgets: int = 1, outliers: str = "keep", large_runs: float = 0.0) -> HeldOut:
    """Leave the largest budgets out, fit the rest, predict the loss of those left out.

    Raises:
        DataError: too little is left to fit.
    """
    groups = budgets(rows)
    if len(groups) <= num_budgets:
        raise DataError(f"{rows.name}: {len(groups)} compute budgets, so none is left to fit when the largest {num_budgets} are left out")
    return score_above(rows, float(rows.flops[groups[-num_budgets]].min()), outliers=outliers, large_runs=large_runs)


def score_above(rows: LossRows, flops: float, *, outliers: str = "keep", large_runs: float = 0.0) -> HeldOut:
    """Fit the rows below `flops`, predict the loss of the others."""
    above = rows.flops >= flops
    below, held = rows.take(np.flatnonzero(~above)), rows.take(np.flatnonzero(above))
    fit = fit_parametric(below, outliers=outliers, large_runs=large_runs)
    error = np.abs(fit.law.loss(held.parameters, held.tokens) / held.loss - 1).mean()
    curve = lowest_curve(kept_rows(below, fit))
    said = [curve.loss_of(fit.law, size, tokens) for size, tokens in zip(held.parameters, held.tokens, strict=True)] if curve else None
    by_curve = float(np.abs(said / held.loss - 1).mean()) if said else None
    return HeldOut(num_rows=len(held.loss), from_flops=flops, mean_relative_error=float(error), by_curve=by_curve)


def coverage_of_line(rows: LossRows, flops: Sequence[float], *, num_worlds: int = 400, seed: int = 0) -> dict[str, float]:
    """Return how often `line_intervals` hold the truth, in worlds whose valleys lie on the fitted line and whose losses carry the noise of their budget."""
    law, groups = fit_isoflop(rows), budgets(rows)
    smooth, noise = np.zeros(len(rows.loss)), np.zeros(len(rows.loss))
    for group, valley in zip(groups, law.valleys, strict=True):
        where = np.log10(rows.tokens[group])
        coefficients = np.polyfit(where, rows.loss[group], 2)
        smooth[group] = np.polyval(coefficients, where - np.log10(law.tokens(valley.flops) / valley.tokens))
        noise[group] = (rows.loss[group] - np.polyval(coefficients, where)) * (len(group) / max(1, len(group) - 3)) ** 0.5
    truth = {"alpha": law.alpha} | {tokens_key(budget): law.tokens(budget) for budget in flops}
    generator = np.random.default_rng(seed)
    held: Counter[str] = Counter()
    for _ in range(num_worlds):
        loss = smooth.copy()
        for group in groups:
            loss[group] += generator.choice(noise[group], size=len(group))
        _count(held, line_intervals(fit_isoflop(replace(rows, loss=loss)), flops), truth)
    return {name: held[name] / num_worlds for name in truth}


def coverage_of_law(
    rows: LossRows, fit: ParametricFit, flops: Sequence[float], *, num_worlds: int = 100, num_bootstraps: int = 100, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return for `bootstrap` and `jackknife` how often each quantity's interval holds the truth, in worlds of the fitted law with residuals drawn anew."""
    kept = kept_rows(rows, fit)
    expected = fit.law.loss(kept.parameters, kept.tokens)
    residual = np.log(kept.loss / expected) * (len(kept.loss) / max(1, len(kept.loss) - 5)) ** 0.5
    truth = quantities(fit.law, flops)
    generator = np.random.default_rng(seed)
    held: dict[str, Counter[str]] = {"bootstrap": Counter(), "jackknife": Counter()}
    for number in range(num_worlds):
        made = replace(kept, loss=np.asarray(expected * np.exp(generator.choice(residual, size=len(expected)))))
        found = parametric_intervals(made, fit_parametric(made, large_runs=fit.large_runs), flops, seed=seed + number, num_bootstraps=num_bootstraps)
        for method, intervals in found.items():
            _count(held[method], intervals, truth)
    return {method: {name: counts[name] / num_worlds for name in truth} for method, counts in held.items()}


def _count(held: Counter[str], intervals: dict[str, Interval], truth: dict[str, float]) -> None:
    held.update(name for name, value in truth.items() if intervals[name].holds(value))
