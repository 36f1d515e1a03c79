"""The share of a run's time that is useful, in closed form: saves, failures, restarts, maintenance, spares, stragglers (Llama 3, section 3.3.4).

`goodput_simulation` plays the same events one by one. Both stand on: failures are Poisson and strike during saves and restarts too; planned maintenance saves
first; the effects of different causes multiply. Young (1974) and Daly (2006) are approximations of the best interval, `exact_interval` is the optimum itself.
Starts without torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, expm1, inf, log, log1p, sqrt

from herdling.base.decode import settings
from herdling.base.errors import SettingsError
from herdling.plan.failures import Rates, check_amount
from herdling.plan.spares import share_short

SEARCH_STEPS = 80


@settings
class Saving:
    """How the training state is saved. The tiers are values of it: `sync`, `async` (`write_seconds`), in-memory (`memory_pause_seconds`, `saves_per_write`)."""

    interval_seconds: float
    """Training between two saves of the nearest tier."""
    pause_seconds: float
    """Training stands still for a save to storage: the whole write where it is synchronous, the copy to host memory where it goes on behind training."""
    write_seconds: float = 0.0
    """How long the write goes on behind training; before its end a failure falls back on the save before."""
    memory_pause_seconds: float | None = None
    """Training stands still for a copy to the memory of other servers; unset: there are no such copies."""
    saves_per_write: int = 1
    """Each of these many copies in memory one goes to storage too."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        check_amount("saving.interval_seconds", self.interval_seconds, zero=False)
        check_amount("saving.pause_seconds", self.pause_seconds)
        check_amount("saving.write_seconds", self.write_seconds)
        check_amount("saving.memory_pause_seconds", self.memory_pause_seconds or 0.0)
        if self.saves_per_write < 1 or (self.saves_per_write > 1 and self.memory_pause_seconds is None):
            raise SettingsError(f"saving.saves_per_write: found {self.saves_per_write}, expected 1, or with memory_pause_seconds any whole number above")
        if self.write_seconds > self.cycle_seconds * (1 + 1e-9):
            raise SettingsError(
                f"saving.write_seconds: a write of {self.write_seconds:g} s does not end before the next begins, {self.cycle_seconds:g} s later."
                " Save to storage less often, or write faster"
            )

    @property
    def step_seconds(self) -> float:
        """One interval with the pause of its copy in memory."""
        return self.interval_seconds + (self.memory_pause_seconds or 0.0)

    @property
    def cycle_seconds(self) -> float:
        """From one save to storage to the next."""
        return self.saves_per_write * self.step_seconds + self.pause_seconds


@settings
class Recovery:
    """What happens after a failure, and what else stops or slows a run. A time of 0 leaves its cause out."""

    restart_seconds: float
    """From a failure to training again from storage: notice, replace, start, load, warm up."""
    memory_restart_seconds: float | None = None
    """The same from the memory of other servers; unset: as long as from storage."""
    replica_groups: int = 1
    """Above 1, a server that fails takes only its group out, and the others train on (recovery at the level of replicas)."""
    replica_restart_seconds: float = 0.0
    """Until a lost group trains again; it copies its state from its peers."""
    quorum_seconds: float = 0.0
    """All groups stand still when one leaves, and again when it returns."""
    detection_seconds: float = 0.0
    """From a silent corruption to its discovery; all work since is lost."""
    straggler_seconds: float = 0.0
    """From the day a part turns slow to its replacement."""
    straggler_slowdown: float = 0.0
    """0.1: a step takes a tenth longer while there is a straggler."""
    maintenance_every_seconds: float = 0.0
    """From the end of one planned maintenance to the next."""
    maintenance_seconds: float = 0.0
    """Planned: the run is saved, stands still so long, and is started again."""
    spare_servers: int | None = None
    """Ready to take the place of servers under repair; unset: always enough."""
    repair_seconds: float = 0.0
    """From the failure of a server to the day it is a spare again."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check_amount("recovery.restart_seconds", self.restart_seconds)
        check_amount("recovery.memory_restart_seconds", self.memory_restart_seconds or 0.0)
        for name in ("replica_restart_seconds", "quorum_seconds", "detection_seconds", "straggler_seconds", "straggler_slowdown"):
            check_amount(f"recovery.{name}", getattr(self, name), unit="a share" if name == "straggler_slowdown" else "seconds")
        for name in ("maintenance_every_seconds", "maintenance_seconds", "repair_seconds"):
            check_amount(f"recovery.{name}", getattr(self, name))
        check_amount("recovery.spare_servers", self.spare_servers or 0, unit="servers")
        check_amount("recovery.replica_groups", self.replica_groups, zero=False, unit="groups")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """Useful time over elapsed time, as a product of causes, each the share that it leaves."""

    failures: float
    """After the pauses of saving, lost work and restarts."""
    maintenance: float
    spares: float
    slow: float
    """After stragglers, and replica groups that are out."""
    pauses: float
    """After the pauses of saving alone: no factor, a part of `failures`."""

    @property
    def efficiency(self) -> float:
        """The whole product."""
        return self.failures * self.maintenance * self.spares * self.slow

    def shares(self) -> dict[str, float]:
        """Return where the time goes, as shares of elapsed time that add up to 1."""
        after_maintenance = self.failures * self.maintenance
        after_spares = after_maintenance * self.spares
        return {
            "useful": self.efficiency,
            "pauses of saves": 1 - self.pauses,
            "lost work and restarts": self.pauses - self.failures,
            "planned maintenance": self.failures - after_maintenance,
            "waiting for spares": after_maintenance - after_spares,
            "stragglers, and groups that are out": after_spares - self.efficiency,
        }


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
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if -expm1(-(middle + pause_seconds) / mean_time) > middle / mean_time else (low, middle)
    return (low + high) / 2


def best_saving(rates: Rates, saving: Saving, recovery: Recovery) -> Saving:
    """Return the same tier at its best interval: by golden section over its logarithm; a write behind training must end before the next begins."""
    count, memory_pause = saving.saves_per_write, saving.memory_pause_seconds or 0.0
    least = max(1e-3, (saving.write_seconds - saving.pause_seconds) / count - memory_pause)
    mean_time = 1 / (rates.server + rates.job + rates.corruption) if rates.server + rates.job + rates.corruption else inf
    if mean_time == inf:
        raise SettingsError("saving.interval_seconds: with no failure at all the best is never to save. Give a rate of failures, or an interval")
    low, high = log(least), log(max(4 * mean_time, 2 * least))
    golden = (sqrt(5) - 1) / 2

    def loss(at: float) -> float:
        return -failure_factor(rates, replace(saving, interval_seconds=exp(at)), recovery)

    for _ in range(SEARCH_STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return replace(saving, interval_seconds=max(least, exp((low + high) / 2)))


def goodput(rates: Rates, saving: Saving, recovery: Recovery) -> Goodput:
    """Return the expected share of time that is useful, in the long run."""
    stopped = 1.0 if recovery.replica_groups == 1 else 1 / recovery.replica_groups
    short = 0.0 if recovery.spare_servers is None else share_short(rates.server * recovery.repair_seconds, recovery.spare_servers)
    return Goodput(
        failures=failure_factor(rates, saving, recovery),
        maintenance=_maintenance_factor(rates, saving, recovery),
        spares=1 - short * stopped,
        slow=_slow_factor(rates, recovery),
        pauses=saving.saves_per_write * saving.interval_seconds / saving.cycle_seconds,
    )


def split_rates(rates: Rates, saving: Saving, recovery: Recovery) -> tuple[float, float, float]:
    """Return failures a second by what mends them: (storage, memory of others, replicas that go on)."""
    if recovery.replica_groups > 1:
        return rates.job, 0.0, rates.server
    if saving.memory_pause_seconds is not None:
        return rates.job, rates.server, 0.0
    return rates.job + rates.server, 0.0, 0.0


def failure_factor(rates: Rates, saving: Saving, recovery: Recovery) -> float:
    """Return useful over elapsed time between the saves, lost work and restarts; exact but for failures while a corruption is yet unnoticed.

    Failures that storage mends, and corruptions, come at rate d and cut time into epochs. In one epoch n saves reach storage:
    E[n] = psi exp(-d w) phi / (1 - phi), with phi = E[exp(-d S)] for the time S of a cycle and psi the same for the restart. Both may be struck by failures
    that memory mends, at rate m. The share is E[n] k interval / E[epoch]. For one tier: interval d exp(-d (R + w)) / (exp(d (interval + pause)) - 1).
    """
    deep, memory, _ = split_rates(rates, saving, recovery)
    deep += rates.corruption
    useful = saving.saves_per_write * saving.interval_seconds
    restart = recovery.restart_seconds if recovery.memory_restart_seconds is None else recovery.memory_restart_seconds
    if deep == 0:
        lengths = [saving.step_seconds] * (saving.saves_per_write - 1) + [saving.step_seconds + saving.pause_seconds]
        return useful / (sum(expm1(memory * length) for length in lengths) * exp(memory * restart) / memory if memory else saving.cycle_seconds)
    log_phi = (saving.saves_per_write - 1) * _log_transform(saving.step_seconds, deep, memory, restart)
    log_phi += _log_transform(saving.step_seconds + saving.pause_seconds, deep, memory, restart)
    log_psi = _log_transform(recovery.restart_seconds, deep, memory, 0.0)
    if -log_phi > 700:
        return 0.0
    saves = exp(log_psi - deep * saving.write_seconds) / expm1(-log_phi)
    return saves * useful / (1 / deep + rates.corruption / deep * recovery.detection_seconds)


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
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _with_restart(middle, rates, saving, recovery) >= target else (low, middle)
    return low


def _with_restart(seconds: float, rates: Rates, saving: Saving, recovery: Recovery) -> float:
    return goodput(rates, saving, replace(recovery, restart_seconds=seconds)).efficiency


def _log_transform(length: float, deep: float, memory: float, restart: float) -> float:
    """Return log E[exp(-deep T)] of the time T of `length` seconds without a failure that memory mends; each costs a restart, itself without one."""
    total = deep + memory
    if memory == 0:
        return -deep * length
    again = memory / total * -expm1(-total * restart)
    mended = exp(-total * restart) / (1 - again)
    return -total * length - log1p(-mended * memory / total * -expm1(-total * length))


def _restart_in_full(rates: Rates, saving: Saving, recovery: Recovery) -> float:
    """Return the expected seconds of a restart from storage, with those that fail and begin again."""
    rate = sum(split_rates(rates, saving, recovery)[:2])
    return expm1(rate * recovery.restart_seconds) / rate if rate else recovery.restart_seconds


def _maintenance_factor(rates: Rates, saving: Saving, recovery: Recovery) -> float:
    if recovery.maintenance_every_seconds == 0:
        return 1.0
    cost = saving.pause_seconds + recovery.maintenance_seconds + _restart_in_full(rates, saving, recovery)
    return recovery.maintenance_every_seconds / (recovery.maintenance_every_seconds + cost)


def _slow_factor(rates: Rates, recovery: Recovery) -> float:
    """Return the mean speed: stragglers are there with chance 1 - exp(-rate x time); a group is out for its restart, and all wait for two quorums."""
    healthy = exp(-rates.straggler * recovery.straggler_seconds)
    speed = healthy + (1 - healthy) / (1 + recovery.straggler_slowdown)
    if recovery.replica_groups == 1:
        return speed
    out = -expm1(-rates.server / recovery.replica_groups * recovery.replica_restart_seconds)
    return speed * (1 - out) / (1 + 2 * rates.server * recovery.quorum_seconds)


def _check_interval_inputs(pause_seconds: float, mean_time: float) -> None:
    check_amount("pause_seconds", pause_seconds, zero=False)
    check_amount("mean time between failures", mean_time, zero=False)
