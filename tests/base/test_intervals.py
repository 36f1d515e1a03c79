"""Wilson intervals against published figures."""

from __future__ import annotations

import pytest

from herdling.base.intervals import wilson


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # R. G. Newcombe, Statistics in Medicine 17 (1998), Table I, method 3 (score, without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_newcombe(correct: int, total: int, low: float, high: float) -> None:
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)


def test_the_ends_stay_within_zero_and_one() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)
    assert wilson(10, 10)[0] == pytest.approx(1 - wilson(0, 10)[1])
