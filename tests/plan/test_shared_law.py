"""Rows of a known law come back, from few runs each, with an outlier, and where rows were measured at different runs."""

from __future__ import annotations

import numpy as np
import pytest

from herdling.plan.scaling_law import Array
from herdling.plan.shared_law import fit_shared

SIZES, RATIOS = np.meshgrid([1e8, 3e8, 1e9], [10.0, 30.0, 100.0])
PARAMETERS, TOKENS = SIZES.ravel(), (SIZES * RATIOS).ravel()
ROWS = ((0.5, 0.2, 0.3), (1.5, 0.4, 0.1), (0.9, 0.1, 0.4))  # E, A at 1e9 parameters, B at 1e11 tokens
ALPHA, BETA = 0.36, 0.3
LARGER = np.array([1e10]), np.array([1e12])


def true_values(parameters: Array, tokens: Array) -> Array:
    return np.array([E + A * (parameters / 1e9) ** -ALPHA + B * (tokens / 1e11) ** -BETA for E, A, B in ROWS])


def test_a_known_law_comes_back_and_forecasts() -> None:
    law = fit_shared(PARAMETERS, TOKENS, true_values(PARAMETERS, TOKENS), np.ones((3, 9)), noise=0.001)
    assert (law.alpha, law.beta) == pytest.approx((ALPHA, BETA), abs=0.01)
    np.testing.assert_allclose(law.values(*LARGER), true_values(*LARGER), rtol=3e-3)
    assert law.values(1e9, 1e11).shape == (3,)


def test_rows_may_be_measured_at_runs_of_their_own() -> None:
    values, weights = true_values(PARAMETERS, TOKENS), np.ones((3, 9))
    weights[0, ::2] = weights[1, 1::4] = 0.0
    values[weights == 0] = 7.0  # what stands where nothing was measured has no say
    law = fit_shared(PARAMETERS, TOKENS, values, weights, noise=0.001)
    np.testing.assert_allclose(law.values(*LARGER), true_values(*LARGER), rtol=3e-3)


def test_one_run_gone_wrong_moves_little() -> None:
    values = true_values(PARAMETERS, TOKENS)
    values[1, 4] *= 1.5
    law = fit_shared(PARAMETERS, TOKENS, values, np.ones((3, 9)), noise=0.003)
    np.testing.assert_allclose(law.values(*LARGER), true_values(*LARGER), rtol=0.02)


def test_one_ratio_of_tokens_to_parameters_draws_the_exponents_together() -> None:
    line = np.geomspace(1e8, 3e9, 6)
    values = true_values(line, 20 * line)
    law = fit_shared(line, 20 * line, values, np.ones((3, 6)), noise=0.003)
    assert law.alpha == pytest.approx(law.beta, abs=0.05)
    np.testing.assert_allclose(law.values(1e10, 2e11), true_values(np.array([1e10]), np.array([2e11]))[:, 0], rtol=0.01)


def test_constants_are_never_below_zero() -> None:
    rising = np.outer(np.ones(2), 1 + (PARAMETERS / 1e9) ** 0.3)
    assert (fit_shared(PARAMETERS, TOKENS, rising, np.ones((2, 9)), noise=0.01).constants >= 0).all()
