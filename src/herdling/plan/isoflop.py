"""Compute-optimal tokens without a law of the loss: the isoFLOP procedure of Llama 3, section 3.2.1, and approach 1 of Hoffmann et al., 2022, on trajectories.

For each budget a parabola of loss over log10 tokens; its lowest point is the optimal number of TOKENS; a straight line through these in log-log gives
D*(C) = A C^alpha. The parabola misplaces the optimum where the grid is wide or off centre, so the parametric fit stands beside it. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from herdling.base.errors import DataError
from herdling.plan.measurements import LossRows
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN, Array

SAME_BUDGET = 1.1
"""Runs whose compute differs by less than this factor share a budget."""
MIN_POINTS_PER_BUDGET = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Valley:
    """One budget: the optimal tokens and their loss, how far the runs reached, and whether the lowest point lies among them."""

    flops: float
    tokens: float
    loss: float
    num_points: int
    inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLaw:
    """D*(C) = A C^alpha, the compute-optimal number of tokens; `valleys` are the budgets that it was drawn through."""

    alpha: float
    A: float
    valleys: tuple[Valley, ...]

    def tokens(self, flops: float) -> float:
        """Return the optimal tokens at a budget."""
        return float(self.A * flops**self.alpha)

    def parameters(self, flops: float) -> float:
        """Return C / 6D: the size that the optimal tokens leave."""
        return flops / FLOPS_PER_PARAMETER_AND_TOKEN / self.tokens(flops)


def fit_isoflop(rows: LossRows, *, only_inside: bool = False) -> TokenLaw:
    """Fit a parabola to each budget and a power law to their lowest points. `only_inside` leaves out budgets whose lowest point was extrapolated.

    Raises:
        DataError: fewer than two usable budgets, a budget with fewer than three runs, or one whose losses curve downward.
    """
    valleys = [_valley(rows, group) for group in budgets(rows)]
    kept = [valley for valley in valleys if valley.inside or not only_inside]
    if len(kept) < 2:
        lost = f" ({len(valleys) - len(kept)} left out, whose lowest point is not among its runs)" if len(kept) < len(valleys) else ""
        raise DataError(
            f"{rows.name}: {counted(len(kept), 'usable compute budget')}{lost}; a power law needs at least two, better five. Add runs at another budget"
        )
    alpha, factor = power_law(np.array([valley.flops for valley in kept]), np.array([valley.tokens for valley in kept]))
    return TokenLaw(alpha=alpha, A=factor, valleys=tuple(kept))


def budgets(rows: LossRows) -> list[NDArray[np.intp]]:
    """Return the rows of each compute budget, smallest first.

    Raises:
        DataError: compute does not fall into budgets.
    """
    order = np.argsort(rows.flops, kind="stable")
    sorted_flops = rows.flops[order]
    groups = np.split(order, np.flatnonzero(sorted_flops[1:] / sorted_flops[:-1] > SAME_BUDGET) + 1)
    for group in groups:
        if rows.flops[group].max() > SAME_BUDGET**2 * rows.flops[group].min():
            raise DataError(
                f"{rows.name}: compute runs on from {rows.flops[group].min():.3g} to {rows.flops[group].max():.3g} FLOPs without steps: "
                f"no budgets to fit parabolas to. An isoFLOP sweep trains several sizes at each of a few; for other runs: herdling fit parametric {rows.name}"
            )
    return groups


def _valley(rows: LossRows, group: NDArray[np.intp]) -> Valley:
    flops, where = float(np.exp(np.log(rows.flops[group]).mean())), np.log10(rows.tokens[group])
    num_sizes = len(np.unique(np.round(where, 6)))
    if num_sizes < MIN_POINTS_PER_BUDGET:
        lines = ", ".join(str(rows.lines[int(row)]) for row in group[:5])
        raise DataError(
            f"{rows.name}, line {lines}: the budget {flops:.3g} has {counted(len(group), 'run')} of {counted(num_sizes, 'size')}, "
            f"a parabola needs at least {MIN_POINTS_PER_BUDGET} sizes; add runs or remove it"
        )
    curvature, slope, lowest = parabola(where, rows.loss[group])
    if curvature <= 0:
        raise DataError(
            f"{rows.name}, line {rows.lines[int(group[0])]}: the losses of the budget {flops:.3g} do not curve upward, "
            "so it has no best size; widen the range of sizes or remove it"
        )
    return Valley(flops=flops, tokens=float(10**slope), loss=lowest, num_points=len(group), inside=bool(where.min() <= slope <= where.max()))


def counted(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def parabola(where: Array, loss: Array) -> tuple[float, float, float]:
    """Return (curvature, place of the lowest point, loss there) of the least-squares parabola."""
    centre = where.mean()
    second, first, constant = np.polyfit(where - centre, loss, 2)
    if second == 0:
        return 0.0, float(centre), float(constant)
    return float(second), float(centre - first / (2 * second)), float(constant - first**2 / (4 * second))


def power_law(flops: Array, values: Array) -> tuple[float, float]:
    """Return (exponent, factor) of the least-squares line in log-log."""
    x, y = np.log(flops), np.log(values)
    exponent = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return exponent, float(np.exp(y.mean() - exponent * x.mean()))


def fit_envelope(rows: LossRows, *, num_budgets: int = 200) -> TokenLaw:
    """Fit approach 1: `rows` are points along training curves, a curve for each size. At each of many budgets the curve that is lowest tells the best tokens.

    Losses between the points of a curve are interpolated. Where the winner is the smallest or the largest size at hand, the best may lie beyond: left out.
    """
    at = np.linspace(np.log(rows.flops.min()), np.log(rows.flops.max()), num_budgets)
    sizes = np.unique(rows.parameters)
    curves = np.full((len(sizes), num_budgets), np.inf)
    for number, size in enumerate(sizes):
        curve = np.flatnonzero(rows.parameters == size)
        curve = curve[np.argsort(rows.flops[curve])]
        curves[number] = np.interp(at, np.log(rows.flops[curve]), rows.loss[curve], left=np.inf, right=np.inf)
    valleys = []
    for flops, losses in zip(np.exp(at), curves.T, strict=True):
        present = np.flatnonzero(np.isfinite(losses))
        best = int(np.argmin(losses))
        if len(present) >= 3 and present[0] < best < present[-1]:
            tokens = float(flops / FLOPS_PER_PARAMETER_AND_TOKEN / sizes[best])
            valleys.append(Valley(flops=float(flops), tokens=tokens, loss=float(losses[best]), num_points=len(present), inside=True))
    if len(valleys) < 3:
        raise DataError(f"{rows.name}: {len(valleys)} budgets where a middle size is ahead; an envelope needs curves of three sizes that overlap")
    alpha, factor = power_law(np.array([valley.flops for valley in valleys]), np.array([valley.tokens for valley in valleys]))
    return TokenLaw(alpha=alpha, A=factor, valleys=tuple(valleys))
