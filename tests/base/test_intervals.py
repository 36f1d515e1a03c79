"""Wilson intervals against published figures, Student's against its density, and the lead of paired judgements by hand."""

from __future__ import annotations

from math import gamma, inf, pi, sqrt

import pytest

from herdling.base.intervals import T_95, mean_interval, paired_lead, wilson


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


def test_the_interval_of_a_mean_is_students() -> None:
    # 1, 2, 3, 4: mean 2.5, deviation sqrt(5/3), 3 degrees of freedom: 3.182 in every table.
    mean, low, high = mean_interval([1.0, 2.0, 3.0, 4.0])
    spread = 3.182 * sqrt(5 / 3) / 2
    assert (mean, low, high) == pytest.approx((2.5, 2.5 - spread, 2.5 + spread))
    assert mean_interval([7.0]) == (7.0, -inf, inf)
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 20, 30, 31, 60, 400])
def test_between_the_quantiles_lie_95_percent_of_students_density(freedom: int) -> None:
    values = [1.0] * freedom + [0.0]
    mean, low, high = mean_interval(values)
    deviation = sqrt(sum((value - mean) ** 2 for value in values) / freedom)
    quantile = (high - low) / 2 / (deviation / sqrt(freedom + 1))
    assert freedom > len(T_95) or quantile == pytest.approx(T_95[freedom - 1])
    # (1 + t^2 / n)^(-(n + 1) / 2), by Simpson's rule; its constant by a ratio of gammas, from n = 1 or 2 upwards so that none overflows.
    constant = gamma(1) / sqrt(pi) if freedom % 2 else gamma(1.5)
    for n in range(2 - freedom % 2, freedom, 2):
        constant *= (n + 1) / n
    constant /= sqrt(freedom * pi)
    steps = 20_000
    width = quantile / steps
    heights = [(1 + (index * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for index in range(steps + 1)]
    area = width / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))
    assert 2 * constant * area == pytest.approx(0.95, abs=1e-4)
