"""Played runs agree with the closed form within 0.002, in every tier and with every cause."""

from __future__ import annotations

import numpy as np
import pytest

from herdling.base.errors import SettingsError
from herdling.base.seeds import stream
from herdling.plan.failures import LLAMA3, Rates
from herdling.plan.goodput import goodput
from herdling.plan.goodput_simulation import simulate
from herdling.plan.saving import Recovery, Saving

DAY = 86400.0
RATES = LLAMA3.rates(16384)
SYNC, ASYNC = Saving(interval_seconds=330, pause_seconds=5), Saving(interval_seconds=330, pause_seconds=1, write_seconds=300)
MEMORY = Saving(interval_seconds=120, pause_seconds=20, write_seconds=600, memory_pause_seconds=1.0, saves_per_write=10)
CASES = {
    "sync": (RATES, SYNC, Recovery(restart_seconds=600)),
    "async": (RATES, ASYNC, Recovery(restart_seconds=600)),
    "memory": (RATES, MEMORY, Recovery(restart_seconds=900, memory_restart_seconds=120)),
    "replicas": (RATES, SYNC, Recovery(restart_seconds=600, replica_groups=8, replica_restart_seconds=900, quorum_seconds=5)),
    "maintenance": (RATES, SYNC, Recovery(restart_seconds=600, maintenance_every_seconds=DAY, maintenance_seconds=1800)),
    "spares": (RATES, SYNC, Recovery(restart_seconds=300, spare_servers=7, repair_seconds=DAY)),
    "stragglers": (Rates(job=1 / DAY, straggler=1 / DAY), SYNC, Recovery(restart_seconds=300, straggler_seconds=0.2 * DAY, straggler_slowdown=0.3)),
    "corruption": (Rates(server=RATES.server, job=RATES.job, corruption=0.1 / DAY), SYNC, Recovery(restart_seconds=300, detection_seconds=7200)),
    "few failures": (Rates(job=0.5 / DAY), Saving(interval_seconds=3000, pause_seconds=60), Recovery(restart_seconds=1200)),
    "many failures": (Rates(job=1 / 1500), Saving(interval_seconds=250, pause_seconds=25), Recovery(restart_seconds=600)),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_closed_form(name: str) -> None:
    case = CASES[name]
    generator = stream(5, "goodput", name)
    days = {"spares": 6000, "stragglers": 6000, "few failures": 6000, "many failures": 500}.get(name, 2000)
    played = simulate(days * DAY, *case, generator)
    assert played.efficiency == pytest.approx(goodput(*case).efficiency, abs=0.002)


def test_without_events_only_the_pauses_before_the_end_are_taken() -> None:
    played = simulate(1000.0, Rates(), Saving(interval_seconds=100, pause_seconds=5), Recovery(restart_seconds=60), np.random.default_rng(0))
    assert played.seconds == pytest.approx(1000 + 9 * 5)  # nothing is saved after the last step
    assert played.num_failures == 0


def test_copies_pause_each_time_and_storage_each_kth() -> None:
    saving = Saving(interval_seconds=100, pause_seconds=7, memory_pause_seconds=1.0, saves_per_write=4)
    assert simulate(1000.0, Rates(), saving, Recovery(restart_seconds=60), np.random.default_rng(0)).seconds == pytest.approx(1000 + 9 * 1 + 2 * 7)


def test_maintenance_without_failures_by_hand() -> None:
    recovery = Recovery(restart_seconds=10, maintenance_every_seconds=400, maintenance_seconds=90)
    played = simulate(1000.0, Rates(), Saving(interval_seconds=1000, pause_seconds=0), recovery, np.random.default_rng(0))
    assert played.seconds == pytest.approx(1000 + 2 * 100)  # after 400 and 800 seconds of training
    assert played.maintenance_seconds == pytest.approx(200)


def test_the_same_stream_gives_the_same_run() -> None:
    runs = [simulate(54 * DAY, RATES, MEMORY, Recovery(restart_seconds=600), stream(1, "again")) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_run_that_does_not_come_forward_is_refused() -> None:
    with pytest.raises(SettingsError, match="does not come forward"):
        simulate(54 * DAY, Rates(job=1.0), Saving(interval_seconds=3600, pause_seconds=5), Recovery(restart_seconds=600), np.random.default_rng(0))
