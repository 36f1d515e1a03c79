"""How a run is saved, and what happens after a failure: the settings of `goodput`, `goodput_simulation` and `save_interval`. Starts without torch."""

from __future__ import annotations

from herdling.base.decode import settings
from herdling.base.errors import SettingsError
from herdling.plan.failures import check_amount


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
        if self.replica_groups > 1:
            check_amount("recovery.replica_restart_seconds, needed where there are replica groups", self.replica_restart_seconds, zero=False)
        if self.spare_servers is not None:
            check_amount("recovery.repair_seconds, needed where spares are counted", self.repair_seconds, zero=False)
