"""Intervals hold the truth about nine times in ten, where the truth is known; left-out budgets are scored on nothing that was fitted."""

from __future__ import annotations

import numpy as np
import pytest

from herdling.base.errors import DataError
from herdling.plan.coverage import coverage_of_law, coverage_of_line, score_largest_budgets
from herdling.plan.isoflop import fit_isoflop
from herdling.plan.parametric import fit_parametric
from herdling.plan.resampling import line_intervals, parametric_intervals, student_90, tokens_key
from tests.plan.made_sweep import TRUTH, made_sweep


def test_intervals_of_the_line_cover() -> None:
    found = coverage_of_line(made_sweep(noise=1e-3, num_budgets=8), [1e23], num_worlds=300)
    assert 0.83 <= found["alpha"] <= 0.97
    assert 0.83 <= found[tokens_key(1e23)] <= 0.97


def test_intervals_of_the_law_cover() -> None:
    rows = made_sweep(noise=3e-3, num_budgets=8)
    found = coverage_of_law(rows, fit_parametric(rows), [1e23], num_worlds=40, num_bootstraps=60)
    for method in ("bootstrap", "jackknife"):
        assert found[method]["parameter_exponent"] >= 0.75, method  # 40 worlds of a 90 % interval are below 30 once in 500
        assert found[method][tokens_key(1e23)] >= 0.75, method


def test_intervals_shrink_with_the_noise_and_are_repeatable() -> None:
    loud, quiet = made_sweep(noise=1e-2), made_sweep(noise=1e-3)
    widths = []
    for rows in (loud, quiet):
        fit = fit_parametric(rows)
        found = parametric_intervals(rows, fit, [1e22], num_bootstraps=60)
        assert found == parametric_intervals(rows, fit, [1e22], num_bootstraps=60)
        widths.append(found["bootstrap"]["parameter_exponent"].high - found["bootstrap"]["parameter_exponent"].low)
    assert widths[0] > 3 * widths[1]


def test_two_budgets_have_no_interval() -> None:
    with pytest.raises(DataError, match="two budgets"):
        line_intervals(fit_isoflop(made_sweep(num_budgets=2)), [1e22])


def test_left_out_budgets_are_predicted() -> None:
    assert score_largest_budgets(made_sweep(), num_budgets=2).mean_relative_error < 1e-5
    held = score_largest_budgets(made_sweep(noise=5e-3))
    assert held.num_rows == 9
    assert 0 < held.mean_relative_error < 0.02
    with pytest.raises(DataError, match="none is left to fit"):
        score_largest_budgets(made_sweep(num_budgets=1))


def test_student_quantile_joins_its_table() -> None:
    assert student_90(30) == 1.697
    assert student_90(31) == pytest.approx(1.6955, abs=1e-3)
    assert student_90(10**6) == pytest.approx(1.6449, abs=1e-4)
    assert np.all(np.diff([student_90(count) for count in range(1, 60)]) < 0)


def test_truth_stands_in_the_intervals_of_a_quiet_sweep() -> None:
    rows = made_sweep(noise=1e-3, num_budgets=8, seed=3)
    found = parametric_intervals(rows, fit_parametric(rows), [1e23])["jackknife"]
    assert found[tokens_key(1e23)].low < TRUTH.allocate(1e23).tokens < found[tokens_key(1e23)].high
