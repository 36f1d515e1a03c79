"""The closed form against values by hand, the reference's table at M = 11,135 s, and limits in which one tier becomes another."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import exp, sqrt

import pytest

from herdling.base.errors import SettingsError
from herdling.plan.failures import Rates
from herdling.plan.goodput import Recovery, Saving, best_saving, daly_interval, exact_interval, failure_factor, goodput, longest_restart, young_interval

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


def test_young_and_daly_by_hand() -> None:
    assert young_interval(5, 1000) == 100.0
    # sqrt(5 / 2000) = 0.05: 100 (1 + 0.05 / 3 + 0.0025 / 9) - 5
    assert daly_interval(5, 1000) == pytest.approx(100 * (1 + 0.05 / 3 + 0.0025 / 9) - 5)
    assert daly_interval(3000, 1000) == 1000


@pytest.mark.parametrize("pause", [0.1, 1, 30, 600])
def test_the_exact_interval_is_better_than_its_neighbours_and_than_both_approximations(pause: float) -> None:
    def share(interval: float) -> float:
        return failure_factor(RATES, Saving(interval_seconds=interval, pause_seconds=pause), Recovery(restart_seconds=300))

    best = exact_interval(pause, MEAN)
    assert all(share(best) >= share(other) - 1e-12 for other in (0.99 * best, 1.01 * best, young_interval(pause, MEAN), daly_interval(pause, MEAN)))


def test_the_search_over_any_tier_finds_the_exact_interval_of_one() -> None:
    found = best_saving(RATES, Saving(interval_seconds=1.0, pause_seconds=5), Recovery(restart_seconds=600)).interval_seconds
    assert found == pytest.approx(exact_interval(5, MEAN), rel=1e-4)


def test_a_write_behind_training_bounds_the_interval_and_costs_its_rework() -> None:
    saving = best_saving(RATES, Saving(interval_seconds=900.0, pause_seconds=1, write_seconds=600), Recovery(restart_seconds=300))
    assert saving.interval_seconds == pytest.approx(599, abs=0.1)
    alone = replace(saving, write_seconds=0.0)
    shares = [failure_factor(RATES, one, Recovery(restart_seconds=300)) for one in (saving, alone)]
    assert shares[0] / shares[1] == pytest.approx(exp(-600 / MEAN))


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


def test_the_longest_restart_leaves_just_the_target() -> None:
    saving, recovery = Saving(interval_seconds=330, pause_seconds=5), Recovery(restart_seconds=1)
    longest = longest_restart(0.9, RATES, saving, recovery)
    assert longest is not None
    assert failure_factor(RATES, saving, replace(recovery, restart_seconds=longest)) == pytest.approx(0.9)
    assert longest_restart(0.98, RATES, saving, recovery) is None


def test_a_hopeless_run_has_a_share_of_zero_and_no_traceback() -> None:
    assert failure_factor(Rates(job=1.0), Saving(interval_seconds=3600, pause_seconds=1), Recovery(restart_seconds=600)) == 0.0


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
        (lambda: Recovery(restart_seconds=5, spare_servers=-2), "recovery.spare_servers: found -2"),
        (lambda: exact_interval(5, 0), "mean time between failures: found 0"),
        (lambda: young_interval(0, 100), "pause_seconds: found 0"),
        (lambda: best_saving(Rates(), Saving(interval_seconds=10, pause_seconds=1), Recovery(restart_seconds=1)), "the best is never to save"),
        (lambda: longest_restart(1.5, RATES, Saving(interval_seconds=10, pause_seconds=1), Recovery(restart_seconds=1)), "target: found 1.5"),
    ],
)
def test_what_cannot_be_is_refused(make: object, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        make()  # type: ignore[operator]


def test_daly_is_below_young_and_above_nothing() -> None:
    assert 0 < daly_interval(30, MEAN) < young_interval(30, MEAN) == sqrt(60 * MEAN)


def test_starts_without_torch() -> None:
    code = "import sys, herdling.plan.goodput_forecast; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
