"""The closed form against values by hand, the reference's table at M = 11,135 s, and limits in which one tier becomes another."""

from __future__ import annotations

import subprocess
import sys
from math import exp

import pytest

from herdling.plan.failures import Rates
from herdling.plan.goodput import failure_factor, goodput
from herdling.plan.save_interval import exact_interval
from herdling.plan.saving import Recovery, Saving

MEAN = 11_135.0
RATES = Rates(job=1 / MEAN)
RESTARTS = (120, 300, 600, 1200)
# Pause, best interval, share at each restart: an independent Monte Carlo and formula, at M = 11,135 s.
TABLE = [
    (1, 149, (0.976, 0.960, 0.935, 0.886)),
    (5, 330, (0.960, 0.945, 0.919, 0.871)),
    (30, 798, (0.918, 0.904, 0.880, 0.834)),
    (120, 1555, (0.851, 0.837, 0.815, 0.772)),
]
DAY = 86400.0


@pytest.mark.parametrize(("pause", "interval", "shares"), TABLE)
def test_the_table_of_pauses_and_restarts(pause: float, interval: float, shares: tuple[float, ...]) -> None:
    best = exact_interval(pause, MEAN)
    assert best == pytest.approx(interval, abs=1.0)
    found = [failure_factor(RATES, Saving(interval_seconds=best, pause_seconds=pause), Recovery(restart_seconds=restart)) for restart in RESTARTS]
    assert found == pytest.approx(shares, abs=6e-4)


def test_by_hand_one_tier() -> None:
    # M = 100, interval 10, pause 0, restart 0: 0.1 / (e^0.1 - 1).
    assert failure_factor(Rates(job=0.01), Saving(interval_seconds=10, pause_seconds=0), Recovery(restart_seconds=0)) == pytest.approx(0.1 / (exp(0.1) - 1))


def test_copies_in_memory_of_which_each_is_stored_are_one_tier() -> None:
    one = failure_factor(Rates(job=1e-4, server=2e-4), Saving(interval_seconds=300, pause_seconds=7), Recovery(restart_seconds=200))
    two = Saving(interval_seconds=300, pause_seconds=5, memory_pause_seconds=2.0, saves_per_write=1)
    assert failure_factor(Rates(job=1e-4, server=2e-4), two, Recovery(restart_seconds=200)) == pytest.approx(one, rel=1e-12)


def test_failures_that_memory_mends_need_no_save_in_storage() -> None:
    # With server failures only, storage saved next to never: the limit of one tier with the pause and the restart of memory.
    rates = Rates(server=1e-4)
    memory = Saving(interval_seconds=200, pause_seconds=0, memory_pause_seconds=3.0, saves_per_write=1000)
    one = failure_factor(rates, Saving(interval_seconds=200, pause_seconds=3), Recovery(restart_seconds=60))
    assert failure_factor(rates, memory, Recovery(restart_seconds=3600, memory_restart_seconds=60)) == pytest.approx(one, rel=1e-12)
    almost = failure_factor(Rates(server=1e-4, job=1e-12), memory, Recovery(restart_seconds=3600, memory_restart_seconds=60))
    assert almost == pytest.approx(one, rel=1e-5)


def test_without_failures_only_the_pauses_cost() -> None:
    assert failure_factor(Rates(), Saving(interval_seconds=95, pause_seconds=5), Recovery(restart_seconds=300)) == pytest.approx(0.95)


def test_replicas_lose_their_group_and_not_the_job() -> None:
    recovery = Recovery(restart_seconds=600, replica_groups=10, replica_restart_seconds=500)
    found = goodput(Rates(server=1e-4), Saving(interval_seconds=95, pause_seconds=5), recovery)
    # A group fails each 1e5 s and is out for 500 s: out at a moment if struck in the 500 s before it.
    assert found.slow == pytest.approx(exp(-500 / 1e5))
    assert found.failures == pytest.approx(0.95)


def test_maintenance_stragglers_and_spares_by_hand() -> None:
    recovery = Recovery(restart_seconds=95, maintenance_every_seconds=9000, maintenance_seconds=900, straggler_seconds=1000, straggler_slowdown=0.25)
    found = goodput(Rates(straggler=1e-3), Saving(interval_seconds=95, pause_seconds=5), recovery)
    assert found.maintenance == pytest.approx(0.9)
    assert found.slow == pytest.approx(exp(-1) + (1 - exp(-1)) / 1.25)
    # One failure a repair and no spare: down half of the time.
    short = Recovery(restart_seconds=0, spare_servers=0, repair_seconds=1000)
    assert goodput(Rates(server=1e-3), Saving(interval_seconds=95, pause_seconds=5), short).spares == pytest.approx(0.5)


def test_shares_of_time_add_up() -> None:
    recovery = Recovery(restart_seconds=95, maintenance_every_seconds=9000, maintenance_seconds=900, spare_servers=1, repair_seconds=DAY)
    shares = goodput(Rates(server=1e-5, job=1e-5, straggler=1e-5), Saving(interval_seconds=95, pause_seconds=5), recovery).shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert min(shares.values()) >= 0
    assert shares["pauses of saves"] == pytest.approx(0.05)


def test_unnoticed_corruption_costs_its_discovery() -> None:
    plain = failure_factor(Rates(job=1e-5), Saving(interval_seconds=100, pause_seconds=1), Recovery(restart_seconds=0))
    struck = failure_factor(Rates(corruption=1e-5), Saving(interval_seconds=100, pause_seconds=1), Recovery(restart_seconds=0, detection_seconds=20_000))
    assert struck == pytest.approx(plain / 1.2)


def test_a_hopeless_run_has_a_share_of_zero_and_no_traceback() -> None:
    assert failure_factor(Rates(job=1.0), Saving(interval_seconds=3600, pause_seconds=1), Recovery(restart_seconds=600)) == 0.0


def test_starts_without_torch() -> None:
    code = "import sys, herdling.plan.goodput_forecast; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
