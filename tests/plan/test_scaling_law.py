"""What a law says to buy: closed forms against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from herdling.base.errors import SettingsError
from herdling.plan.scaling_law import ParametricLaw
from tests.plan.made_sweep import TRUTH


def test_closed_form_is_the_least_loss_of_all_splits() -> None:
    optimum = TRUTH.allocate(1e21)
    sizes = optimum.parameters * np.exp(np.linspace(-2, 2, 4001))
    losses = TRUTH.loss(sizes, 1e21 / 6 / sizes)
    assert sizes[losses.argmin()] == pytest.approx(optimum.parameters, rel=2e-3)
    assert 6 * optimum.parameters * optimum.tokens == pytest.approx(1e21)


def test_scarce_data_leaves_the_rest_to_parameters() -> None:
    free = TRUTH.allocate(1e21)
    scarce = TRUTH.allocate(1e21, max_tokens=free.tokens / 4)
    assert scarce.tokens == free.tokens / 4
    assert scarce.parameters == pytest.approx(4 * free.parameters)
    assert scarce.loss > free.loss
    assert TRUTH.allocate(1e21, max_tokens=free.tokens * 4) == free


def test_over_trained_model_has_the_ratio_that_was_asked_for() -> None:
    small = TRUTH.over_train(1e21, 400.0)
    assert small.tokens_per_parameter == pytest.approx(400.0)
    assert small.training_flops == pytest.approx(1e21)


def test_nothing_served_is_training_alone_and_more_served_is_a_smaller_model() -> None:
    optimum = TRUTH.allocate(1e21)
    alone = TRUTH.allocate_with_serving(optimum.loss, 0.0)
    assert alone.parameters == pytest.approx(optimum.parameters, rel=1e-4)
    served = [TRUTH.allocate_with_serving(optimum.loss, amount) for amount in (1e10, 1e12, 1e14)]
    sizes = [alone.parameters, *(plan.parameters for plan in served)]
    assert sizes == sorted(sizes, reverse=True)
    for plan in served:
        assert plan.loss == pytest.approx(optimum.loss)


def test_serving_plan_is_the_cheapest_of_all_sizes() -> None:
    loss, amount = 2.5, 5e12
    plan = TRUTH.allocate_with_serving(loss, amount)
    sizes = plan.parameters * np.exp(np.linspace(-0.1, 0.5, 2001))
    tokens = (TRUTH.B / (loss - TRUTH.E - TRUTH.A * sizes**-TRUTH.alpha)) ** (1 / TRUTH.beta)
    assert plan.training_flops + plan.serving_flops <= (6 * sizes * tokens + 2 * sizes * amount).min() * (1 + 1e-6)


def test_equivalent_compute_of_the_optimal_loss_is_the_compute() -> None:
    assert TRUTH.equivalent_flops(TRUTH.allocate(3e22).loss) == pytest.approx(3e22)
    assert TRUTH.equivalent_flops(TRUTH.E) == np.inf


@pytest.mark.parametrize("flops", [0.0, -1.0, float("nan"), float("inf")])
def test_no_compute_is_refused(flops: float) -> None:
    with pytest.raises(SettingsError, match="flops"):
        TRUTH.allocate(flops)


def test_a_loss_below_the_floor_is_refused() -> None:
    with pytest.raises(SettingsError, match="the least that this law reaches"):
        TRUTH.allocate_with_serving(1.6, 1e12)


def test_chinchilla_70b_is_near_the_published_fit() -> None:
    besiroglu = ParametricLaw(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)  # Besiroglu et al., 2024, table 2
    assert besiroglu.allocate(5.76e23).tokens_per_parameter == pytest.approx(20, rel=0.25)
