"""A run on a cluster that fails, event by event: the check of the closed form in `goodput`, and the spread that a mean does not show.

Between two events the saves are counted, not played: a run of 54 days with 419 failures takes about 5 ms. Starts without torch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from herdling.base.errors import SettingsError
from herdling.plan.failures import Rates
from herdling.plan.goodput import goodput, split_rates
from herdling.plan.saving import Recovery, Saving

MOST_EVENTS = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Elapsed:
    """How long one run took, and what of it was not training that lasted."""

    seconds: float
    useful_seconds: float
    """What it would have taken without a save, a failure or a straggler."""
    num_failures: int
    waiting_seconds: float
    """For a spare server."""
    maintenance_seconds: float

    @property
    def efficiency(self) -> float:
        """Useful over elapsed time."""
        return self.useful_seconds / self.seconds


def simulate(useful_seconds: float, rates: Rates, saving: Saving, recovery: Recovery, generator: np.random.Generator) -> Elapsed:
    """Play one run until `useful_seconds` of training are done.

    Raises:
        SettingsError: the run does not come forward (the closed form's share is so small that more than 5 million events would be played).
    """
    share = goodput(rates, saving, recovery).efficiency
    events = inf if share <= 0 else useful_seconds / share * (rates.server + rates.job + rates.corruption + rates.straggler)
    if events > MOST_EVENTS:
        raise SettingsError(
            f"reliability: the run does not come forward: {share:.3g} of its time would be useful, after {events:.3g} failures."
            " Save more often, restart faster, or use fewer GPUs"
        )
    run = _Run(rates, saving, recovery, generator)
    run.play(slowed_seconds(useful_seconds, rates, recovery, generator))
    return Elapsed(
        seconds=run.time,
        useful_seconds=useful_seconds,
        num_failures=run.num_failures,
        waiting_seconds=run.waiting,
        maintenance_seconds=run.maintained,
    )


def slowed_seconds(useful_seconds: float, rates: Rates, recovery: Recovery, generator: np.random.Generator) -> float:
    """Return how long `useful_seconds` of training take with stragglers and with replica groups that are out, without whole restarts."""
    groups = recovery.replica_groups
    leaving = rates.server if groups > 1 else 0.0
    total = rates.straggler + leaving
    if total == 0:
        return useful_seconds
    time = done = pauses = slow_until = 0.0
    back: list[float] = [0.0] * groups
    repairs: deque[float] = deque()
    upcoming = generator.standard_exponential() / total
    while True:
        changes = [moment for moment in (slow_until, upcoming, *back) if moment > time]
        until = min(changes)
        speed = sum(moment <= time for moment in back) / groups / (1 + recovery.straggler_slowdown * (slow_until > time))
        if done + speed * (until - time) >= useful_seconds:
            return time + (useful_seconds - done) / speed + pauses
        done, time = done + speed * (until - time), until
        if time < upcoming:
            continue
        if generator.random() * total < rates.straggler:
            slow_until = time + recovery.straggler_seconds
        else:
            wait = _wait_for_spare(repairs, time, recovery)
            number = int(generator.integers(groups))
            back[number] = max(back[number], time + wait + recovery.replica_restart_seconds)
            pauses += 2 * recovery.quorum_seconds
        upcoming = time + generator.standard_exponential() / total


def _wait_for_spare(repairs: deque[float], time: float, recovery: Recovery) -> float:
    """Send a server to repair; return the seconds until another can take its place."""
    if recovery.spare_servers is None or recovery.repair_seconds == 0:
        return 0.0
    while repairs and repairs[0] <= time:
        repairs.popleft()
    repairs.append(time + recovery.repair_seconds)
    return repairs.popleft() - time if len(repairs) > recovery.spare_servers else 0.0


class _Run:
    """Where a run stands. Work is counted in seconds of training from its beginning.

    A cycle of saves began at `origin`, with `copies` of its intervals in the memory of other servers and `into` seconds since the last; `stored` is what
    storage holds, and `writing` a save that gets there later, as (time, work). `clean` is the last work in storage before a corruption that is not found yet.
    """

    def __init__(self, rates: Rates, saving: Saving, recovery: Recovery, generator: np.random.Generator) -> None:
        deep, memory, _ = split_rates(rates, saving, recovery)
        self.rates, self.saving, self.recovery, self.generator = rates, saving, recovery, generator
        self.draw, self.step, self.cycle = generator.standard_exponential, saving.step_seconds, saving.cycle_seconds  # asked for at every event
        self.rate, self.memory_share = deep + memory, memory / (deep + memory) if memory else 0.0
        self.server_share = (rates.server if recovery.replica_groups == 1 else 0.0) / (deep + memory) if deep + memory else 0.0
        self.time = self.origin = self.into = self.stored = self.waiting = self.maintained = 0.0
        self.copies = self.num_failures = 0
        self.writing: tuple[float, float] | None = None
        self.clean: float | None = None
        self.repairs: deque[float] = deque()
        self.detection = inf
        self.strike = self._exponential(rates.corruption)
        self.maintenance = recovery.maintenance_every_seconds or inf

    def play(self, work: float) -> None:
        """Go from event to event until `work` seconds of training are done."""
        while True:
            failure = self.time + self._exponential(self.rate)
            first = min(failure, self.strike, self.detection, self.maintenance)
            moment = max(first, self.time)  # what fell into a restart strikes at its end
            end = self._begun() + self._seconds_for(work - self.origin)
            if end <= moment:
                self.time = end
                return
            self._run_until(moment)
            if first == failure:
                self._fail()
            elif first == self.strike:
                self._corrupt()
            elif first == self.detection:
                self._discover()
            else:
                self._maintain()

    def _exponential(self, rate: float) -> float:
        return self.draw() / rate if rate else inf

    def _begun(self) -> float:
        """Return when this cycle of saves would have begun, had nothing struck since."""
        return self.time - self.copies * self.step - self.into

    def _seconds_for(self, work: float) -> float:
        """Return how long `work` takes from the beginning of a cycle, with the pauses of saving before its end."""
        saving = self.saving
        intervals = max(0, ceil(work / saving.interval_seconds - 1e-9) - 1)
        return work + (intervals * (self.step - saving.interval_seconds) + intervals // saving.saves_per_write * saving.pause_seconds)

    def _run_until(self, moment: float) -> None:
        """Train and save until then."""
        saving, begun = self.saving, self._begun()
        cycles, rest = divmod(moment - begun, self.cycle)
        if cycles:
            work = saving.saves_per_write * saving.interval_seconds
            written = self.origin + cycles * work
            ready = begun + cycles * self.cycle + saving.write_seconds
            # A write ends before the next begins: only the last can be under way.
            self.stored = written if ready <= moment else written - work if cycles > 1 else self._stored_at(moment)
            self.writing = None if ready <= moment else (ready, written)
            self.origin = written
        else:
            self.stored = self._stored_at(moment)
        self.copies = min(int(rest / self.step), saving.saves_per_write - 1)
        self.into = rest - self.copies * self.step
        self.time = moment

    def _stored_at(self, time: float) -> float:
        if self.writing and self.writing[0] <= time:
            self.stored, self.writing = self.writing[1], None
        return self.stored

    def _return_to(self, work: float) -> None:
        """Go on from a save in storage: copies in memory and writes under way are gone."""
        self.origin = self.stored = work
        self.copies, self.into, self.writing = 0, 0.0, None
        if self.clean is not None and work <= self.clean:
            self.clean, self.detection = None, inf
            self.strike = self.time + self._exponential(self.rates.corruption)

    def _fail(self) -> None:
        """Fail and restart, from memory where that is possible; failures during a restart begin it anew."""
        self.into, has_copies = 0.0, True
        while True:
            self.num_failures += 1
            chance = self.generator.random()
            if chance < self.server_share:
                self._wait(_wait_for_spare(self.repairs, self.time, self.recovery))
            if chance >= self.memory_share or not has_copies:
                self._return_to(self._stored_at(self.time))
                has_copies = False
            restart = self.recovery.restart_seconds
            if has_copies and self.recovery.memory_restart_seconds is not None:
                restart = self.recovery.memory_restart_seconds
            again = self._exponential(self.rate)
            self.time += min(again, restart)
            if again >= restart:
                return

    def _wait(self, seconds: float) -> None:
        """Stand still: nothing fails, and maintenance is put off."""
        self.time += seconds
        self.waiting += seconds
        self.strike += seconds
        self.maintenance += seconds

    def _corrupt(self) -> None:
        """Be struck unnoticed: all work from here on is in vain, until discovery or until a failure falls back on an older save."""
        self.clean, self.strike, self.detection = self.stored, inf, self.time + self.recovery.detection_seconds

    def _discover(self) -> None:
        """Go back to the last save before the corruption."""
        self._return_to(self.stored if self.clean is None else self.clean)
        self._restart()

    def _maintain(self) -> None:
        """Save, stand still, start again: no work is lost."""
        begun = self.time
        self.origin += self.copies * self.saving.interval_seconds + min(self.into, self.saving.interval_seconds)
        self.stored, self.copies, self.into, self.writing = self.origin, 0, 0.0, None
        self.time += self.saving.pause_seconds + self.recovery.maintenance_seconds
        self._restart()
        self.maintained += self.time - begun
        self.maintenance = self.time + self.recovery.maintenance_every_seconds

    def _restart(self) -> None:
        """Restart from storage, again and again where that fails."""
        while (again := self._exponential(self.rate)) < self.recovery.restart_seconds:
            self.time += again
            self.num_failures += 1
        self.time += self.recovery.restart_seconds
