"""The share of a run's time that is useful, in closed form: saves, failures, restarts, maintenance, spares, stragglers (Llama 3, section 3.3.4).

`goodput_simulation` plays the same events one by one. Both stand on: failures are Poisson and strike during saves and restarts too; planned maintenance saves
first; the effects of different causes multiply. Starts without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, log1p

from herdling.plan.failures import Rates
from herdling.plan.saving import Recovery, Saving
from herdling.plan.spares import share_short


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
