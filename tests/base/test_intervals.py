"""Wilson intervals against published figures, and the lead of paired judgements by hand."""

from __future__ import annotations

import pytest

from herdling.base.intervals import paired_lead, wilson


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


def test_a_lead_of_paired_judgements_is_agresti_and_mins() -> None:
    # 10 cases, 3 that only the first got right, 1 only the second. With half a case added to each of four cells: centre 2/12, variance (5/12 - 1/36) / 12.
    lead, low, high = paired_lead(3, 1, 10)
    spread = 1.959964 * ((5 / 12 - 1 / 36) / 12) ** 0.5
    assert lead == pytest.approx(0.2)
    assert (low, high) == pytest.approx((1 / 6 - spread, 1 / 6 + spread), abs=1e-6)


def test_a_lead_has_no_interval_of_width_zero_and_stays_within_its_bounds() -> None:
    assert paired_lead(0, 0, 0) == (0.0, -1.0, 1.0)
    lead, low, high = paired_lead(0, 0, 50)
    assert low < lead == 0.0 < high
    assert paired_lead(3, 0, 3)[2] == 1.0
