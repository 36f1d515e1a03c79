"""How sure a scaling law is: 90 % intervals by Student for the isoFLOP line, by bootstrap and jackknife for the parametric law (tested by `coverage.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from herdling.base.errors import DataError
from herdling.plan.isoflop import TokenLaw, budgets
from herdling.plan.measurements import LossRows
from herdling.plan.parametric import ParametricFit, fit_laws, law_of, run_weights, told_apart
from herdling.plan.scaling_law import Array, ParametricLaw

LEVEL = 0.9
NUM_BOOTSTRAPS = 300
MIN_USABLE = 0.95
# Student's two-sided 90 % quantile for 1 to 30 degrees of freedom.
T_90 = (
    *(6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753),
    *(1.746, 1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697),
)
Z_90 = 1.6449


def student_90(freedom: int) -> float:
    """Return Student's two-sided 90 % quantile."""
    return T_90[freedom - 1] if freedom <= len(T_90) else Z_90 + (Z_90**3 + Z_90) / (4 * freedom) + (5 * Z_90**5 + 16 * Z_90**3 + 3 * Z_90) / (96 * freedom**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The ends of a 90 % interval."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Say whether a value lies inside."""
        return self.low <= value <= self.high


def line_intervals(law: TokenLaw, flops: Sequence[float]) -> dict[str, Interval]:
    """Return Student's intervals of the isoFLOP line: `alpha`, and the optimal tokens at each of `flops` as `tokens:FLOPS`.

    Budgets are not equally sure, so each counts with its own distance from the line through the *others* (the jackknife form, HC3): with one deviation for all,
    intervals meant for nine truths of ten hold eight. They hold all that scatters a budget: noise, grids off centre, the parabola's bias where it differs
    by budget; not a bend of the line beyond the largest budget.

    Raises:
        DataError: two budgets, through which any line passes.
    """
    x, y = np.log([valley.flops for valley in law.valleys]), np.log([valley.tokens for valley in law.valleys])
    freedom = len(x) - 2
    if freedom < 1:
        raise DataError("two budgets: a line passes through any two points, so nothing tells how sure it is; add a third budget")
    residual = y - law.alpha * x - np.log(law.A)
    centred = x - x.mean()
    lever = centred / (centred**2).sum()
    without = residual / (1 - 1 / len(x) - lever * centred)
    quantile = student_90(freedom)
    half = quantile * float(np.sqrt(((lever * without) ** 2).sum()))
    found = {"alpha": Interval(low=law.alpha - half, high=law.alpha + half)}
    for budget in flops:
        influence = 1 / len(x) + lever * (np.log(budget) - x.mean())
        reach = quantile * float(np.sqrt(((influence * without) ** 2).sum()))
        middle = law.tokens(budget)
        found[tokens_key(budget)] = Interval(low=float(middle * np.exp(-reach)), high=float(middle * np.exp(reach)))
    return found


def tokens_key(flops: float) -> str:
    """Return the name of a forecast of tokens: `tokens:3.8e25`."""
    return f"tokens:{flops_name(flops)}"


def loss_key(flops: float) -> str:
    """Return the name of a forecast of the least loss: `loss:3.8e25`."""
    return f"loss:{flops_name(flops)}"


def flops_name(flops: float) -> str:
    """Write FLOPs as people do: 3.8e25."""
    return f"{flops:.6g}".replace("e+", "e")


def quantities(law: ParametricLaw, flops: Sequence[float]) -> dict[str, float]:
    """Return all that intervals are given for: the constants, the exponent of optimal size, and at each of `flops` optimal tokens and their loss."""
    found = law.as_dict() | {"parameter_exponent": law.parameter_exponent}
    for budget in flops:
        optimum = law.allocate(budget)
        found |= {tokens_key(budget): optimum.tokens, loss_key(budget): optimum.loss}
    return found


def parametric_intervals(
    rows: LossRows, fit: ParametricFit, flops: Sequence[float], *, seed: int = 0, num_bootstraps: int = NUM_BOOTSTRAPS
) -> dict[str, dict[str, Interval]]:
    """Return `bootstrap` (rows drawn anew with replacement) and `jackknife` (one budget left out at a time) intervals of each quantity.

    A method whose refits often have no law at all is left out: so few points tell nothing of how sure they are.
    """
    kept = kept_rows(rows, fit)
    generator = np.random.default_rng(seed)
    count = len(kept.loss)
    counts = generator.multinomial(count, np.full(count, 1 / count), size=num_bootstraps).astype(np.float64)
    alike = run_weights(kept, fit.large_runs)
    drawn = _refit(kept, fit.law, counts * alike)
    blocks = _blocks(kept)
    weights = np.ones((len(blocks), count))
    for number, block in enumerate(blocks):
        weights[number, block] = 0.0
    left_out = _refit(kept, fit.law, weights * alike)
    centre = quantities(fit.law, flops)
    found = {}
    if len(drawn) >= MIN_USABLE * num_bootstraps:
        found["bootstrap"] = _percentile(centre, [quantities(law, flops) for law in drawn])
    if len(left_out) == len(blocks):
        found["jackknife"] = _jackknife(centre, [quantities(law, flops) for law in left_out])
    return found


def kept_rows(rows: LossRows, fit: ParametricFit) -> LossRows:
    """Return the rows that the outlier policy of a fit kept."""
    return rows.take(np.flatnonzero(~np.isin(rows.lines, fit.dropped_lines)))


def _refit(rows: LossRows, law: ParametricLaw, weights: Array) -> list[ParametricLaw]:
    start = np.array([np.log(law.E), np.log(law.A), np.log(law.B), law.alpha, law.beta])
    fitted, _ = fit_laws(rows.parameters, rows.tokens, np.log(rows.loss)[None], weights, start=start)
    return [law_of(row) for row in fitted if told_apart(row)]


def _blocks(rows: LossRows) -> list[NDArray[np.intp]]:
    """Return what the jackknife leaves out at a time: a budget, or a tenth of the rows where compute has no budgets."""
    try:
        found = budgets(rows)
    except DataError:
        found = []
    return list(found) if len(found) >= 4 else [block for block in np.array_split(np.argsort(rows.flops), 10) if len(block)]


def _percentile(centre: dict[str, float], drawn: list[dict[str, float]]) -> dict[str, Interval]:
    found = {}
    for name in centre:
        low, high = np.percentile([draw[name] for draw in drawn], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
        found[name] = Interval(low=float(low), high=float(high))
    return found


def _jackknife(centre: dict[str, float], left_out: list[dict[str, float]]) -> dict[str, Interval]:
    found = {}
    count = len(left_out)
    for name, middle in centre.items():
        values = np.log([max(draw[name], 1e-300) for draw in left_out])
        error = float(np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum()))
        reach = student_90(count - 1) * error
        found[name] = Interval(low=float(middle * np.exp(-reach)), high=float(middle * np.exp(reach)))
    return found
