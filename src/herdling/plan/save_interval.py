"""How often to save: Young's and Daly's rules, the optimum itself, the best interval of any tier, and the longest restart that a target leaves room for.

Young (1974) and Daly (2006) are approximations of the optimum, which is one root. Starts without torch.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, expm1, log, sqrt

from herdling.base.errors import SettingsError
from herdling.plan.failures import Rates, check_amount
from herdling.plan.goodput import failure_factor, goodput, split_rates
from herdling.plan.saving import Recovery, Saving

BISECTIONS, SECTIONS = 80, 40


def young_interval(pause_seconds: float, mean_time: float) -> float:
    """Return sqrt(2 pause M): first order, for pauses far below the mean time between failures (Young, 1974)."""
    _check_interval_inputs(pause_seconds, mean_time)
    return sqrt(2 * pause_seconds * mean_time)


def daly_interval(pause_seconds: float, mean_time: float) -> float:
    """Return Daly's higher order (2006, equation 37); M itself once the pause reaches 2 M."""
    _check_interval_inputs(pause_seconds, mean_time)
    ratio = pause_seconds / (2 * mean_time)
    return mean_time if ratio >= 1 else young_interval(pause_seconds, mean_time) * (1 + sqrt(ratio) / 3 + ratio / 9) - pause_seconds


def exact_interval(pause_seconds: float, mean_time: float) -> float:
    """Return the interval of highest efficiency where failures strike at any time: the root of 1 - exp(-(t + pause) / M) = t / M.

    It depends neither on the time of a restart nor on that of a write behind training, which take the same share at every interval.
    """
    _check_interval_inputs(pause_seconds, mean_time)
    low, high = 0.0, mean_time
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if -expm1(-(middle + pause_seconds) / mean_time) > middle / mean_time else (low, middle)
    return (low + high) / 2


def best_saving(rates: Rates, saving: Saving, recovery: Recovery) -> Saving:
    """Return the same tier at its best interval: by golden section over its logarithm; a write behind training must end before the next begins."""
    count, memory_pause = saving.saves_per_write, saving.memory_pause_seconds or 0.0
    least = max(1e-3, (saving.write_seconds - saving.pause_seconds) / count - memory_pause)
    rate = rates.server + rates.job + rates.corruption
    if rate == 0:
        raise SettingsError("saving.interval_seconds: with no failure at all the best is never to save. Give a rate of failures, or an interval")
    low, high = log(least), log(max(4 / rate, 2 * least))
    golden = (sqrt(5) - 1) / 2

    def loss(at: float) -> float:
        return -failure_factor(rates, replace(saving, interval_seconds=exp(at)), recovery)

    for _ in range(SECTIONS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return replace(saving, interval_seconds=max(least, exp((low + high) / 2)))


def longest_restart(target: float, rates: Rates, saving: Saving, recovery: Recovery) -> float | None:
    """Return the longest restart from storage, in seconds, at which the share `target` of the time is useful; None where even one at once is too long.

    Raises:
        SettingsError: a target outside (0, 1), or no failure that a restart from storage mends.
    """
    if not 0 < target < 1:
        raise SettingsError(f"target: found {target:g}, expected a share between 0 and 1")
    deep = split_rates(rates, saving, recovery)[0]
    if deep == 0:
        raise SettingsError("target: no failure needs a restart from storage, so any restart will do")
    low, high = 0.0, -log(target) / deep
    if _with_restart(low, rates, saving, recovery) < target:
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _with_restart(middle, rates, saving, recovery) >= target else (low, middle)
    return low


def _with_restart(seconds: float, rates: Rates, saving: Saving, recovery: Recovery) -> float:
    return goodput(rates, saving, replace(recovery, restart_seconds=seconds)).efficiency


def _check_interval_inputs(pause_seconds: float, mean_time: float) -> None:
    check_amount("pause_seconds", pause_seconds, zero=False)
    check_amount("mean time between failures", mean_time, zero=False)
