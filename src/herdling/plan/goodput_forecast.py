"""How long T tokens take on a cluster that fails: wall-clock and GPU-hours with intervals, and what would change them.

The mean is the closed form of `goodput`. The interval is of played runs, each with its own luck and, where the rates were counted, with rates as uncertain as
the count is. Starts without torch; 100 runs like Llama 3's take 0.7 s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from herdling.base.errors import SettingsError
from herdling.base.seeds import stream
from herdling.plan.failures import LLAMA3, LLAMA3_PLANNED, Rates, check_amount
from herdling.plan.goodput import Goodput, goodput
from herdling.plan.goodput_simulation import simulate
from herdling.plan.save_interval import best_saving
from herdling.plan.saving import Recovery, Saving

NUM_RUNS = 100
COVERAGE = 0.9
COPIES = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run to be forecast."""

    num_gpus: int
    tokens: float
    tokens_per_second: float
    """Of the whole cluster, while nothing is wrong."""
    rates: Rates
    saving: Saving
    recovery: Recovery
    num_counted: int | None = None
    """Failures that the rates were counted from; unset: the rates are taken as known."""

    def __post_init__(self) -> None:
        """Refuse a run that is none, or that would end before its first save."""
        check_amount("run.num_gpus", self.num_gpus, zero=False, unit="GPUs")
        check_amount("run.tokens", self.tokens, zero=False, unit="tokens")
        check_amount("run.tokens_per_second", self.tokens_per_second, zero=False, unit="tokens a second")
        written_every = self.saving.saves_per_write * self.saving.interval_seconds
        if written_every > self.useful_seconds:
            raise SettingsError(
                f"saving.interval_seconds: storage gets a save every {written_every:,.0f} s of training, and the whole run takes {self.useful_seconds:,.0f} s:"
                " nothing would ever be saved. Give a shorter interval"
            )

    @property
    def useful_seconds(self) -> float:
        """The run without a save or a failure."""
        return self.tokens / self.tokens_per_second

    @property
    def goodput(self) -> Goodput:
        """The expected share of time that is useful."""
        return goodput(self.rates, self.saving, self.recovery)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Wall-clock of a run: the mean of the closed form, and the interval of played runs."""

    goodput: Goodput
    seconds: float
    low_seconds: float
    high_seconds: float
    gpu_hours: float
    num_failures: float
    """Failures per run, mean of the played runs."""
    simulated_efficiency: float
    """The same share as `goodput.efficiency`, from the played runs."""

    @property
    def interval_days(self) -> tuple[float, float]:
        """The interval, in days."""
        return self.low_seconds / 86400, self.high_seconds / 86400


def forecast(run: Run, *, seed: int = 0, num_runs: int = NUM_RUNS, coverage: float = COVERAGE) -> Forecast:
    """Forecast a run.

    Raises:
        SettingsError: the run would not come forward, or the interval is asked of too few runs.
    """
    if not 0 < coverage < 1 or num_runs * (1 - coverage) < 2 - 1e-9:
        raise SettingsError(f"forecast: an interval of {coverage:.0%} needs a coverage between 0 and 1 and at least 2 / (1 - coverage) runs; found {num_runs}")
    generator = stream(seed, "goodput", "forecast")
    seconds, shares, failures = [], [], []
    for _ in range(num_runs):
        factor = generator.gamma(run.num_counted + 0.5) / run.num_counted if run.num_counted else 1.0
        played = simulate(run.useful_seconds, run.rates.scaled(factor), run.saving, run.recovery, generator)
        seconds.append(played.seconds)
        shares.append(1 / played.efficiency)
        failures.append(played.num_failures)
    low, high = np.quantile(seconds, [(1 - coverage) / 2, (1 + coverage) / 2])
    expected = run.goodput
    mean = run.useful_seconds / expected.efficiency
    return Forecast(
        goodput=expected,
        seconds=mean,
        low_seconds=float(low),
        high_seconds=float(high),
        gpu_hours=mean / 3600 * run.num_gpus,
        num_failures=float(np.mean(failures)),
        simulated_efficiency=float(1 / np.mean(shares)),
    )


def what_if(run: Run) -> list[tuple[str, Run]]:
    """Return (what is changed, the run so changed), each at its own best interval. First the run as it is, and then at its best interval, if that differs."""
    saving, recovery, rates = run.saving, run.recovery, run.rates
    changed: list[tuple[str, Run]] = [
        ("at the best interval", run),
        ("restart in half the time", replace(run, recovery=_scaled_restart(recovery, 0.5))),
        ("half the pause of a save", replace(run, saving=replace(saving, pause_seconds=saving.pause_seconds / 2))),
        ("half the failures", replace(run, rates=rates.scaled(0.5))),
        ("twice the GPUs, twice the speed", replace(run, num_gpus=2 * run.num_gpus, tokens_per_second=2 * run.tokens_per_second, rates=rates.scaled(2))),
    ]
    if saving.write_seconds == 0:
        behind = replace(saving, pause_seconds=saving.pause_seconds / 10, write_seconds=min(saving.pause_seconds * 0.9, saving.interval_seconds))
        changed.append(("nine tenths of each save behind training", replace(run, saving=behind)))
    if saving.memory_pause_seconds is None and recovery.replica_groups == 1:
        copied = [replace(run, saving=replace(saving, memory_pause_seconds=1.0, saves_per_write=count)) for count in COPIES]
        best = max((_at_best(one) for one in copied), key=lambda one: one.goodput.efficiency)
        changed.append((f"copies in the memory of other servers (1 s), 1 of {best.saving.saves_per_write} to storage too", best))
    if recovery.replica_groups == 1:
        groups = replace(recovery, replica_groups=8, replica_restart_seconds=recovery.restart_seconds or 1.0, quorum_seconds=5.0)
        changed.append(
            (
                "8 replica groups, of which the others train on",
                replace(run, recovery=groups, saving=replace(saving, memory_pause_seconds=None, saves_per_write=1)),
            )
        )
    if recovery.maintenance_every_seconds:
        changed.append(("no planned maintenance", replace(run, recovery=replace(recovery, maintenance_every_seconds=0.0))))
    if recovery.spare_servers is not None:
        changed.append(("twice the spares", replace(run, recovery=replace(recovery, spare_servers=2 * recovery.spare_servers or 1))))
    rows = [("as planned", run), *((what, _at_best(one)) for what, one in changed)]
    is_best = abs(rows[1][1].saving.interval_seconds / saving.interval_seconds - 1) < 0.01
    return [rows[0], *rows[2:]] if is_best else rows


def seconds_of(run: Run) -> float:
    """Return the expected wall-clock of a run. Raises `SettingsError` where it would not come forward."""
    share = run.goodput.efficiency
    if share <= 0 or not isfinite(run.useful_seconds / share):
        raise SettingsError(
            "reliability: the run does not come forward: next to none of its time is useful. Save more often, restart faster, or use fewer GPUs"
        )
    return run.useful_seconds / share


def llama3_run(*, pause_seconds: float = 5.0, restart_seconds: float = 300.0, maintenance_seconds: float = 600.0) -> Run:
    """Return the pre-training of Llama 3 405B on 16,384 GPUs: rates of table 5, speed of table 4 (400 TFLOPs/GPU).

    A token costs 2.524e12 FLOPs (6 per weight used, and causal attention over 8,192 positions). The paper states neither the pause of a save nor the time of a
    restart: those here are ours, and are what makes more than 90 % come true. 47 planned interruptions in 54 days are its own.
    """
    every = LLAMA3.days * 86400 / LLAMA3_PLANNED
    rates = LLAMA3.rates(LLAMA3.num_gpus)
    recovery = Recovery(restart_seconds=restart_seconds, maintenance_every_seconds=every, maintenance_seconds=maintenance_seconds)
    saving = best_saving(rates, Saving(interval_seconds=300.0, pause_seconds=pause_seconds), recovery)
    return Run(
        num_gpus=LLAMA3.num_gpus,
        tokens=15.6e12,
        tokens_per_second=LLAMA3.num_gpus * 400e12 / 2.524e12,
        rates=rates,
        saving=saving,
        recovery=recovery,
        num_counted=LLAMA3.count(),
    )


def _scaled_restart(recovery: Recovery, factor: float) -> Recovery:
    memory = recovery.memory_restart_seconds
    return replace(
        recovery,
        restart_seconds=recovery.restart_seconds * factor,
        memory_restart_seconds=None if memory is None else memory * factor,
        replica_restart_seconds=recovery.replica_restart_seconds * factor,
    )


def _at_best(run: Run) -> Run:
    """Return the run at its best interval, but never so long that nothing would be saved."""
    best = best_saving(run.rates, run.saving, run.recovery)
    longest = run.useful_seconds / best.saves_per_write
    return replace(run, saving=replace(best, interval_seconds=min(best.interval_seconds, longest)))
