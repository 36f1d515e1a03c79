"""Settings that cannot be are refused, with the value and what is accepted."""

from __future__ import annotations

import pytest

from herdling.base.errors import SettingsError
from herdling.plan.saving import Recovery, Saving


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Saving(interval_seconds=0, pause_seconds=1), "saving.interval_seconds: found 0, expected seconds, more than 0"),
        (lambda: Saving(interval_seconds=10, pause_seconds=-1), "saving.pause_seconds: found -1"),
        (lambda: Saving(interval_seconds=float("nan"), pause_seconds=1), "found nan"),
        (lambda: Saving(interval_seconds=10, pause_seconds=1, write_seconds=12), "does not end before the next begins, 11 s later"),
        (lambda: Saving(interval_seconds=10, pause_seconds=1, saves_per_write=2), "with memory_pause_seconds"),
        (lambda: Recovery(restart_seconds=-5), "recovery.restart_seconds: found -5"),
        (lambda: Recovery(restart_seconds=5, replica_groups=0), "recovery.replica_groups: found 0"),
        (lambda: Recovery(restart_seconds=5, replica_groups=8), "replica_restart_seconds, needed where there are replica groups: found 0"),
        (lambda: Recovery(restart_seconds=5, spare_servers=4), "repair_seconds, needed where spares are counted: found 0"),
        (lambda: Recovery(restart_seconds=5, spare_servers=-2), "recovery.spare_servers: found -2"),
    ],
)
def test_what_cannot_be_is_refused(make: object, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        make()  # type: ignore[operator]


def test_a_cycle_holds_its_intervals_and_pauses() -> None:
    saving = Saving(interval_seconds=100, pause_seconds=7, memory_pause_seconds=1.0, saves_per_write=4)
    assert (saving.step_seconds, saving.cycle_seconds) == (101.0, 411.0)
