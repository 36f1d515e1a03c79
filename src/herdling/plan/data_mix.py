"""Choose a data mix by its predicted loss (Llama 3, section 3.1.2): several small models on each mix, a law for each, and the loss of the large one on each.

For every held-out source the mixes have constants of their own and share the exponents, unless exponents of each mix forecast its largest runs better. How sure
the order is comes from worlds made of the fitted laws with the residuals found, drawn by runs: what is said of a mix is its expected loss, and the chance that
none of the others is better. A large run's own luck is not in it, nor what no small run can tell: an ability that only large models have. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from herdling.base.errors import DataError, SettingsError, did_you_mean
from herdling.plan.measurements import MixRows
from herdling.plan.resampling import Z_90, Interval, student_90
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN, Array
from herdling.plan.shared_law import SharedLaw, fit_shared, refit_shared

NOISE = 0.003
"""Huber's threshold on the log of a loss: another seed moves a small model's loss by about this."""
MIN_RUNS, MIN_LEFT, MIN_LEFT_OF_ITS_OWN = 4, 3, 6
OWN_BETTER = 0.8
"""A mix has exponents of its own where these miss its largest runs by less than this share of what shared ones miss."""
NUM_WORLDS = 400
CONSTANTS, EXPONENTS = 3, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MixFit:
    """Fitted mixes: for each source the laws that hold its mixes, in the order of `mixes`; `own` says for which sources each mix has exponents of its own."""

    rows: MixRows
    mixes: tuple[str, ...]
    laws: dict[str, tuple[SharedLaw, ...]]
    own: dict[str, bool]
    missed: dict[str, float | None]
    """Mean |relative error| of the largest runs of each mix, forecast from the others; None where too few are left."""

    def loss(self, source: str, parameters: float, tokens: float) -> Array:
        """Return the loss of every mix on a source at this size and these tokens."""
        return np.concatenate([np.atleast_1d(law.values(parameters, tokens)) for law in self.laws[source]])


@dataclass(frozen=True, slots=True, kw_only=True)
class MixForecast:
    """What is expected of one mix at the target: its loss on each source, their weighted mean, how far behind the best mix that is, the chance to be best."""

    mix: str
    losses: dict[str, float]
    intervals: dict[str, Interval]
    mean: float
    interval: Interval
    behind: float
    behind_interval: Interval
    chance_best: float


def fit_mixes(rows: MixRows) -> MixFit:
    """Fit every mix on every source.

    Raises:
        DataError: fewer than two mixes, or one with fewer than four runs or of one compute only.
    """
    mixes = tuple(dict.fromkeys(rows.mixes))
    _require_runs(rows, mixes)
    weights = _membership(rows, mixes)
    kept = weights * (rows.flops < np.where(weights > 0, rows.flops, 0).max(axis=1, keepdims=True) / 1.1)
    laws, own, missed = {}, {}, {}
    for source, loss in rows.losses.items():
        together, apart = (_missed(rows, loss, weights, kept, own=flag) for flag in (False, True))
        own[source] = together is not None and apart is not None and apart < OWN_BETTER * together
        missed[source] = apart if own[source] else together
        laws[source] = _laws(rows, loss, weights, own=own[source])
    return MixFit(rows=rows, mixes=mixes, laws=laws, own=own, missed=missed)


def forecast_mixes(
    fit: MixFit, flops: float, tokens_per_parameter: float, *, importance: Mapping[str, float] | None = None, num_worlds: int = NUM_WORLDS, seed: int = 0
) -> list[MixForecast]:
    """Forecast every mix at a compute and a ratio of tokens to parameters, the best first; `importance` weighs the sources in the mean (all alike without).

    Raises:
        SettingsError: an unknown source, or weights of which none is above 0.
    """
    parameters = (flops / FLOPS_PER_PARAMETER_AND_TOKEN / tokens_per_parameter) ** 0.5
    tokens = tokens_per_parameter * parameters
    share = _shares(fit, importance or {})
    losses = {source: fit.loss(source, parameters, tokens) for source in fit.laws}
    worlds = _worlds(fit, parameters, tokens, num_worlds, seed)
    mean, means = (np.sum([share[source] * by_source[source] for source in share], axis=0) for by_source in (losses, worlds))
    best = int(np.argmin(mean))
    chance = np.bincount(np.argmin(means, axis=1), minlength=len(fit.mixes)) / num_worlds
    found = [
        MixForecast(
            mix=mix,
            losses={source: float(losses[source][row]) for source in losses},
            intervals={source: _interval(worlds[source][:, row], losses[source][row]) for source in losses},
            mean=float(mean[row]),
            interval=_interval(means[:, row], mean[row]),
            behind=float(mean[row] - mean[best]),
            behind_interval=_interval(means[:, row] - means[:, best], mean[row] - mean[best]),
            chance_best=float(chance[row]),
        )
        for row, mix in enumerate(fit.mixes)
    ]
    return sorted(found, key=lambda forecast: forecast.mean)


def describe_mixes(
    fit: MixFit, found: Sequence[MixForecast], flops: float, tokens_per_parameter: float, importance: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return what `herdling fit mixes` prints: `best`, what may be as good for all that is known (`not_told_apart`), each mix, how laws were chosen."""
    rows = fit.rows
    parameters = (flops / FLOPS_PER_PARAMETER_AND_TOKEN / tokens_per_parameter) ** 0.5
    return {
        "at": {"flops": flops, "parameters": parameters, "tokens": tokens_per_parameter * parameters, "times_largest": flops / float(rows.flops.max())},
        "best": found[0].mix,
        "not_told_apart": [forecast.mix for forecast in found[1:] if forecast.behind_interval.low <= 0],
        "mixes": {forecast.mix: _as_dict(forecast, rows) for forecast in found},
        "sources": {
            source: {"exponents": "of each mix" if fit.own[source] else "of all mixes", "missed_largest_runs": fit.missed[source]} for source in fit.laws
        },
        "importance": _shares(fit, importance or {}),
    }


def _as_dict(forecast: MixForecast, rows: MixRows) -> dict[str, Any]:
    ends = {source: [interval.low, interval.high] for source, interval in forecast.intervals.items()}
    return {
        "num_runs": rows.mixes.count(forecast.mix),
        "losses": {source: {"loss": loss, "interval": ends[source]} for source, loss in forecast.losses.items()},
        "mean": forecast.mean,
        "interval": [forecast.interval.low, forecast.interval.high],
        "behind_best": forecast.behind,
        "behind_best_interval": [forecast.behind_interval.low, forecast.behind_interval.high],
        "chance_best": forecast.chance_best,
    }


def usual_ratio(rows: MixRows) -> float:
    """Return the tokens per parameter of the runs of the largest compute, their median."""
    largest = rows.flops >= rows.flops.max() / 1.1
    return float(np.median(rows.tokens[largest] / rows.parameters[largest]))


def _require_runs(rows: MixRows, mixes: Sequence[str]) -> None:
    if len(mixes) < 2:
        raise DataError(f"{rows.name}: one mix, {mixes[0]}; to choose needs two or more. For the law of one: herdling fit parametric {rows.name}")
    for mix in mixes:
        flops = rows.flops[[name == mix for name in rows.mixes]]
        if len(flops) < MIN_RUNS or flops.max() < 2 * flops.min():
            raise DataError(
                f"{rows.name}: the mix {mix} has {len(flops)} runs of {flops.min():.3g} to {flops.max():.3g} FLOPs; "
                f"a law needs at least {MIN_RUNS} whose compute differs by more than a factor of 2. Add runs or take the mix out"
            )


def _membership(rows: MixRows, mixes: Sequence[str]) -> Array:
    """Return 1 where a run [n] is of a mix [T], else 0."""
    return np.array([[float(name == mix) for name in rows.mixes] for mix in mixes])


def _laws(rows: MixRows, loss: Array, weights: Array, *, own: bool) -> tuple[SharedLaw, ...]:
    groups = weights[:, None] if own else weights[None]
    return tuple(fit_shared(rows.parameters, rows.tokens, np.broadcast_to(loss, group.shape), group, noise=NOISE, usual=True) for group in groups)


def _missed(rows: MixRows, loss: Array, weights: Array, kept: Array, *, own: bool) -> float | None:
    """Return the mean |relative error| of the largest runs of each mix forecast from the others; None where a mix has too few left."""
    if kept.sum(axis=1).min() < (MIN_LEFT_OF_ITS_OWN if own else MIN_LEFT):
        return None
    laws = _laws(rows, loss, kept, own=own)
    expected = np.concatenate([np.atleast_2d(law.values(rows.parameters, rows.tokens)) for law in laws])
    return float(np.abs(expected / loss - 1)[weights > kept].mean())


def _worlds(fit: MixFit, parameters: float, tokens: float, num_worlds: int, seed: int) -> dict[str, Array]:
    """Return losses [worlds, mixes] at the target for each source: laws refitted to residuals of whole runs drawn anew, so the sources of a run go together."""
    rows, weights = fit.rows, _membership(fit.rows, fit.mixes)
    count = len(rows.mixes)
    generator = np.random.default_rng(seed)
    drawn, luck = generator.integers(count, size=(num_worlds, count)), generator.standard_normal((num_worlds, count))
    found = {}
    for source, loss in rows.losses.items():
        expected = np.concatenate([np.atleast_2d(law.values(rows.parameters, rows.tokens)) for law in fit.laws[source]])
        at_run = (weights * expected).sum(axis=0)
        free = max(1, count - CONSTANTS * len(fit.mixes) - EXPONENTS)
        # Residuals are smaller than the noise, by what the fit took up, and by what few of them do not know of it (Student).
        residual = np.log(loss / at_run) * (count / free) ** 0.5 * student_90(free) / Z_90
        # Few runs may be met exactly; another seed would move them all the same.
        missing = max(0.0, NOISE**2 - float(np.mean(residual**2))) ** 0.5
        made = at_run * np.exp(residual[drawn] + missing * luck)
        found[source] = _refitted(fit, source, weights, made, lambda law: law.values(parameters, tokens))
    return found


def _refitted(fit: MixFit, source: str, weights: Array, made: Array, at: Callable[[SharedLaw], Array]) -> Array:
    rows, groups = fit.rows, weights[:, None] if fit.own[source] else weights[None]
    columns = []
    for law, group in zip(fit.laws[source], groups, strict=True):
        values = np.broadcast_to(made[:, None], (len(made), *group.shape))
        alpha, beta, constants = refit_shared(law, rows.parameters, rows.tokens, values, group, noise=NOISE, usual=True)
        columns.append([at(SharedLaw(alpha=a, beta=b, constants=c, centre=law.centre)) for a, b, c in zip(alpha, beta, constants, strict=True)])
    return np.concatenate([np.array(column) for column in columns], axis=1)


def _shares(fit: MixFit, importance: Mapping[str, float]) -> dict[str, float]:
    for source, weight in importance.items():
        if source not in fit.laws:
            raise SettingsError(f"source {source}: not in the file{did_you_mean(source, fit.laws)}; there are: {', '.join(fit.laws)}")
        if not 0 <= weight < float("inf"):
            raise SettingsError(f"source {source}: found weight {weight:g}, expected 0 or more")
    weights = {source: importance.get(source, 0.0 if importance else 1.0) for source in fit.laws}
    total = sum(weights.values())
    if not total:
        raise SettingsError("the weights of all sources are 0; give one of them more")
    return {source: weight / total for source, weight in weights.items()}


def _interval(values: Array, middle: float) -> Interval:
    """Return what is as near to the forecast as nine worlds of ten: where refits lean to one side, so may the forecast have, to the other."""
    reach = float(np.percentile(np.abs(values - middle), 90))
    return Interval(low=float(middle - reach), high=float(middle + reach))
