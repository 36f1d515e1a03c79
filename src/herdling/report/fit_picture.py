"""What `herdling fit` draws of sweeps and data mixes: isoFLOP curves with their optima, optimal tokens over compute, loss over compute.

Each panel takes fitted values of `plan/` and draws what these say; nothing is fitted here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from herdling.plan.data_mix import MixFit, MixForecast
from herdling.plan.isoflop import TokenLaw, budgets, parabola
from herdling.plan.lowest_curve import lowest_curve
from herdling.plan.measurements import LossRows
from herdling.plan.parametric import ParametricFit
from herdling.plan.resampling import flops_name, kept_rows, line_intervals, loss_key, parametric_intervals, tokens_key
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN
from herdling.report.panels import Marks, Panel, geometric, picture

NUM_STEPS = 40
NUM_BOOTSTRAPS = 200
BESIDE = 0.035
"""From the forecast of a mix to the left, where the next one stands, as a share of the axis: at one compute all would lie on each other."""


def sweep_picture(rows: LossRows, line: TokenLaw | None, fit: ParametricFit | None, flops: Sequence[float]) -> str:
    """Draw a sweep: its isoFLOP curves and optimal tokens where there is a line, the loss over compute where there is a law; out to the largest of `flops`."""
    panels = [] if line is None else [isoflop_panel(rows, line), tokens_panel(line, fit, flops)]
    if fit is not None:
        panels.append(loss_panel(rows, fit, flops))
    return picture([[panel] for panel in panels], f"Scaling laws of {rows.name}")


def isoflop_panel(rows: LossRows, line: TokenLaw) -> Panel:
    """Draw the losses of each budget over tokens with its parabola and the lowest point (Llama 3, figure 2)."""
    groups = budgets(rows)
    marks = []
    for number, group in enumerate(groups):
        where, shade = np.log10(rows.tokens[group]), number / max(1, len(groups) - 1)
        curvature, middle, lowest = parabola(where, rows.loss[group])
        across = np.linspace(where.min(), where.max(), NUM_STEPS)
        curve = [(float(10**x), float(lowest + curvature * (x - middle) ** 2)) for x in across]
        dots = [(float(rows.tokens[row]), float(rows.loss[row])) for row in group]
        marks.append(Marks(curve=curve, dots=dots, shade=shade, label=flops_name(float(f"{rows.flops[group].mean():.2g}"))))
    optima = [(valley.tokens, valley.loss) for valley in line.valleys]
    marks.append(Marks(curve=optima, dots=optima, hollow=True, dashed=True, colour=5))
    return Panel(title="Loss at each budget of FLOPs", x_unit="training tokens", y_unit="loss", marks=marks, log_x=True, names="ends")


def tokens_panel(line: TokenLaw, fit: ParametricFit | None, flops: Sequence[float]) -> Panel:
    """Draw the optimal tokens over compute: the optima of the budgets, the line through them with its 90 % band, and the parametric law beside it."""
    valleys = line.valleys
    across = geometric(valleys[0].flops, max(*flops, valleys[-1].flops), NUM_STEPS)
    marks = []
    if len(valleys) > 2:
        sure = line_intervals(line, across)
        marks.append(Marks(band=[(x, sure[tokens_key(x)].low, sure[tokens_key(x)].high) for x in across], colour=2))
    marks.append(Marks(curve=[(x, line.tokens(x)) for x in across], colour=2, label=f"parabolas: {line.A:.3g} C^{line.alpha:.3f}"))
    if fit is not None:
        law = fit.law
        curve = [(x, law.allocate(x).tokens) for x in across]
        marks.append(Marks(curve=curve, dashed=True, colour=1, label=f"parametric law: C^{1 - law.parameter_exponent:.3f}"))
    marks.append(Marks(dots=[(valley.flops, valley.tokens) for valley in valleys], colour=2))
    marks.append(Marks(dots=[(x, line.tokens(x)) for x in flops], colour=0, hollow=True, label="forecast"))
    return Panel(title="Compute-optimal tokens", x_unit="training FLOPs", y_unit="tokens", marks=marks, log_x=True, log_y=True, names="left")


def loss_panel(
    rows: LossRows,
    fit: ParametricFit,
    flops: Sequence[float],
    *,
    forecasts: Mapping[float, tuple[float, float, float]] | None = None,
    measured: Mapping[str, tuple[float, float]] | None = None,
) -> Panel:
    """Draw the least loss that the law and the curve through the lowest points expect of each compute over the measured ones, out to the largest of `flops`.

    `forecasts` of trainings (FLOPs -> loss, low, high) stand with their own 90 % intervals. Without them the law's 90 % band is drawn: it is narrower, for it
    holds neither one run's luck nor another form of the law. `measured` names larger runs: (FLOPs, loss).
    """
    across = geometric(float(rows.flops.min()), max(*flops, float(rows.flops.max())), NUM_STEPS)
    if forecasts:
        dots, whiskers = [(x, loss) for x, (loss, _, _) in forecasts.items()], [(x, low, high) for x, (_, low, high) in forecasts.items()]
        expected = [Marks(dots=dots, whiskers=whiskers, colour=0, hollow=True, label="forecast, 90 %")]
    else:
        expected = [Marks(dots=[(x, fit.law.allocate(x).loss) for x in flops], colour=1, hollow=True, label="forecast")]
        expected.append(Marks(dots=_lowest_curve(rows, fit, flops), colour=0, hollow=True))
    marks = [
        *([] if forecasts else [_law_band(rows, fit, across)]),
        Marks(dots=[(float(x), float(y)) for x, y in zip(rows.flops, rows.loss, strict=True)], colour=2, label="runs"),
        Marks(curve=[(x, fit.law.allocate(x).loss) for x in across], colour=1, label="least loss by the law"),
        Marks(curve=_lowest_curve(rows, fit, across), colour=0, dashed=True, label="through the lowest points"),
        *expected,
    ]
    marks += [Marks(dots=[spot], colour=3 + number, label=name) for number, (name, spot) in enumerate((measured or {}).items())]
    return Panel(title="Loss over compute", x_unit="training FLOPs", y_unit="loss", marks=marks, log_x=True)


def _lowest_curve(rows: LossRows, fit: ParametricFit, across: Sequence[float]) -> list[tuple[float, float]]:
    """Return the curve E + k C^-gamma through the lowest losses of the budgets; empty where they are too few."""
    curve = lowest_curve(kept_rows(rows, fit))
    return [(x, float(curve.loss(x))) for x in across] if curve else []


def _law_band(rows: LossRows, fit: ParametricFit, across: Sequence[float]) -> Marks:
    sure = parametric_intervals(rows, fit, across, num_bootstraps=NUM_BOOTSTRAPS)
    ends = sure.get("bootstrap") or sure.get("jackknife") or {}
    return Marks(band=[(x, ends[loss_key(x)].low, ends[loss_key(x)].high) for x in across] if ends else (), colour=1)


def mixes_picture(fit: MixFit, found: Sequence[MixForecast], flops: float, tokens_per_parameter: float) -> str:
    """Draw for each held-out source the losses of every mix over compute, its law at this ratio of tokens to parameters, and the forecast with its interval.

    The forecast of the best stands at `flops`, the others a little to the left of it, side by side.
    """
    panels = [_mix_panel(fit, found, source, flops, tokens_per_parameter, is_first=source == next(iter(fit.laws))) for source in fit.laws]
    return picture([[panel] for panel in panels], f"Data mixes of {fit.rows.name}")


def _mix_panel(fit: MixFit, found: Sequence[MixForecast], source: str, flops: float, tokens_per_parameter: float, *, is_first: bool) -> Panel:
    rows = fit.rows
    across = geometric(float(rows.flops.min()), max(flops, float(rows.flops.max())), NUM_STEPS)
    sizes = np.sqrt(np.array(across) / FLOPS_PER_PARAMETER_AND_TOKEN / tokens_per_parameter)
    losses = np.array([fit.loss(source, size, tokens_per_parameter * size) for size in sizes])
    marks = []
    for colour, forecast in enumerate(found):
        dots = [(float(rows.flops[row]), float(rows.losses[source][row])) for row, mix in enumerate(rows.mixes) if mix == forecast.mix]
        curve = [(x, float(y)) for x, y in zip(across, losses[:, fit.mixes.index(forecast.mix)], strict=True)]
        ends = forecast.intervals[source]
        marks.append(Marks(curve=curve, dots=dots, colour=colour, label=forecast.mix))
        x = flops / (across[-1] / across[0]) ** (BESIDE * colour)
        marks.append(Marks(dots=[(x, forecast.losses[source])], whiskers=[(x, ends.low, ends.high)], colour=colour, hollow=True))
    title = "Loss over compute" if len(fit.laws) == 1 else f"Loss of {source}"
    x_unit = f"training FLOPs; lines: {tokens_per_parameter:.3g} tokens per parameter"
    return Panel(title=title, x_unit=x_unit if is_first else "training FLOPs", y_unit="loss", marks=marks, log_x=True)
