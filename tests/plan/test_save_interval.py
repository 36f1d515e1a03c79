"""Intervals of saves by hand, the optimum against its neighbours, and the longest restart for a target."""

from __future__ import annotations

from dataclasses import replace
from math import exp, sqrt

import pytest

from herdling.base.errors import SettingsError
from herdling.plan.failures import Rates
from herdling.plan.goodput import failure_factor
from herdling.plan.save_interval import best_saving, daly_interval, exact_interval, longest_restart, young_interval
from herdling.plan.saving import Recovery, Saving

MEAN = 11_135.0
RATES = Rates(job=1 / MEAN)


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


def test_the_longest_restart_leaves_just_the_target() -> None:
    saving, recovery = Saving(interval_seconds=330, pause_seconds=5), Recovery(restart_seconds=1)
    longest = longest_restart(0.9, RATES, saving, recovery)
    assert longest is not None
    assert failure_factor(RATES, saving, replace(recovery, restart_seconds=longest)) == pytest.approx(0.9)
    assert longest_restart(0.98, RATES, saving, recovery) is None


def test_daly_is_below_young_and_above_nothing() -> None:
    assert 0 < daly_interval(30, MEAN) < young_interval(30, MEAN) == sqrt(60 * MEAN)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: exact_interval(5, 0), "mean time between failures: found 0"),
        (lambda: young_interval(0, 100), "pause_seconds: found 0"),
        (lambda: best_saving(Rates(), Saving(interval_seconds=10, pause_seconds=1), Recovery(restart_seconds=1)), "the best is never to save"),
        (lambda: longest_restart(1.5, RATES, Saving(interval_seconds=10, pause_seconds=1), Recovery(restart_seconds=1)), "target: found 1.5"),
    ],
)
def test_what_cannot_be_is_refused(make: object, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        make()  # type: ignore[operator]
