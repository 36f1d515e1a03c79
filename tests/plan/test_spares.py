"""Spare servers: Erlang's formula by hand, against played runs, and the fewest that are enough."""

from __future__ import annotations

import numpy as np
import pytest

from herdling.base.errors import SettingsError
from herdling.plan.spares import days_short, share_short, spares_for

DAY = 86400.0


def test_erlang_by_hand() -> None:
    assert share_short(1.0, 0) == pytest.approx(1 / 2)
    # (2^3 / 3!) / (1 + 2 + 2 + 8 / 6)
    assert share_short(2.0, 2) == pytest.approx((8 / 6) / (5 + 8 / 6))
    assert share_short(0.0, 3) == 0.0


def test_played_days_agree_with_erlang() -> None:
    short = days_short(6 / DAY, DAY, 7, 20_000, np.random.default_rng(3))
    assert short / (short + 20_000) == pytest.approx(share_short(6.0, 7), abs=0.003)


def test_the_fewest_spares_are_enough_and_one_less_is_not() -> None:
    def late(count: int) -> float:
        generator = np.random.default_rng(4)
        return float(np.mean([days_short(6 / DAY, DAY, count, 54, generator) > 0.5 for _ in range(200)]))

    count = spares_for(6 / DAY, DAY, 54, most_days=0.5, chance=0.9, generator=np.random.default_rng(2), num_runs=200)
    assert late(count + 1) < 0.1 < late(count - 1)


def test_none_are_needed_where_nothing_fails() -> None:
    assert spares_for(0.0, DAY, 54, most_days=0.5, chance=0.9, generator=np.random.default_rng(2)) == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="chance: found 1"):
        spares_for(1.0, 1.0, 1.0, most_days=1.0, chance=1.0, generator=np.random.default_rng(0))
    with pytest.raises(SettingsError, match="repair_seconds: found -1"):
        spares_for(1.0, -1.0, 1.0, most_days=1.0, chance=0.9, generator=np.random.default_rng(0))
