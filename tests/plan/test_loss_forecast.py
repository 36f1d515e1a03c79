"""The loss of one larger training: exact where the runs follow a law, and an interval that holds what it claims."""

import numpy as np
import pytest

from herdling.base.errors import DataError
from herdling.plan.compute_optimal import by_exact_flops, optimal_point
from herdling.plan.isoflop import Valley, fit_isoflop
from herdling.plan.loss_forecast import forecast_loss
from herdling.plan.lowest_curve import curve_of, lowest_curve
from herdling.plan.measurements import LossRows
from herdling.plan.scaling_law import ParametricLaw

LAW = ParametricLaw(E=1.6, A=30.0, B=45.0, alpha=0.28, beta=0.22)


def sweep(noise=0.0, seed=0, num_budgets=5):
    flops = np.repeat(np.geomspace(1.5e12, 2.4e13, num_budgets), 6)
    parameters = np.sqrt(flops / 120) * np.tile(np.geomspace(1 / 3.5, 3.5, 6), num_budgets)
    tokens = flops / 6 / parameters
    loss = LAW.loss(parameters, tokens) * np.exp(np.random.default_rng(seed).normal(0, noise, len(flops)))
    return LossRows(name="made", flops=flops, parameters=parameters, tokens=tokens, loss=loss, lines=tuple(range(2, 2 + len(flops))), convention="N")


def test_runs_that_follow_a_law_forecast_it_exactly():
    found = forecast_loss(sweep(), 1e6, 3e7)
    assert found.law == pytest.approx(float(LAW.loss(1e6, 3e7)), rel=1e-4)
    assert found.loss == found.curve == pytest.approx(found.law, rel=0.005)
    assert found.high / found.low < 1.03  # the two forms differ a little even here
    assert found.from_flops == pytest.approx(2.4e13)
    assert found.flops == pytest.approx(1.8e14)


def test_the_curve_of_lowest_losses_says_about_the_same():
    best = LAW.allocate(1.92e14)
    assert lowest_curve(sweep()).loss(1.92e14) == pytest.approx(best.loss, rel=0.01)
    assert lowest_curve(sweep(num_budgets=3)) is None


def test_points_of_a_curve_with_a_floor_give_its_constants_back():
    compute = (1e12, 3e12, 8e12, 2e13)
    curve = curve_of([Valley(flops=flops, tokens=1e7, loss=0.6 + 900.0 * flops**-0.2, num_points=5, inside=True) for flops in compute])
    assert (curve.E, curve.gamma) == pytest.approx((0.6, 0.2), rel=1e-6)
    assert curve.loss(1e16) == pytest.approx(0.6 + 900.0 * 1e16**-0.2)
    # Losses that fall faster the more is computed would want a floor below 0.
    assert curve_of([Valley(flops=flops, tokens=1e7, loss=3.0 - flops / 1e13, num_points=5, inside=True) for flops in compute]).E == 0


def test_a_size_beside_the_optimum_is_forecast_as_far_above_the_curve_as_the_law_says():
    for size in (2e5, 5e6):
        found = forecast_loss(sweep(), size, 1.92e14 / 6 / size)
        assert found.loss == pytest.approx(float(LAW.loss(size, 1.92e14 / 6 / size)), rel=0.005)
        assert found.loss > 1.02 * lowest_curve(sweep()).loss(1.92e14)


def test_with_too_few_budgets_for_a_curve_the_law_stands_in():
    found = forecast_loss(sweep(num_budgets=3), 1e6, 3e7)
    assert found.curve is None
    assert found.loss == found.law == pytest.approx(float(LAW.loss(1e6, 3e7)), rel=1e-3)


@pytest.mark.slow
def test_the_interval_holds_nine_truths_of_ten_or_a_few_more():
    held = 0
    generator = np.random.default_rng(0)
    for seed in range(100):
        size = np.sqrt(1.92e14 / 120)
        truth = float(LAW.loss(size, 1.92e14 / 6 / size)) * np.exp(generator.normal(0, 0.004))
        found = forecast_loss(sweep(0.004, seed), size, 1.92e14 / 6 / size)
        held += found.low <= truth <= found.high
        assert found.high / found.low < 1.25
    assert 88 <= held <= 98


def test_losses_that_rise_with_compute_have_no_curve():
    rows = sweep()
    rising = LossRows(
        name="made", flops=rows.flops, parameters=rows.parameters, tokens=rows.tokens, loss=rows.loss * rows.flops**0.2, lines=rows.lines, convention="N"
    )
    assert lowest_curve(rising) is None


def test_an_interval_is_neither_nothing_nor_everything():
    found = forecast_loss(sweep(0.004), 1.26e6, 2.5e7)
    truth = float(LAW.loss(1.26e6, 2.5e7))
    assert found.low < truth < found.high
    assert 1.004 < found.high / found.low < 1.1


def test_more_compute_ahead_makes_it_less_sure():
    rows = sweep(0.004)
    near, far = (forecast_loss(rows, size, 40 * size) for size in (5e5, 5e7))
    assert far.high / far.low > near.high / near.low


def test_too_few_runs_are_refused():
    with pytest.raises(DataError, match="needs at least 6"):
        forecast_loss(sweep().take(np.arange(5)), 1e6, 3e7)


def test_the_chosen_training_spends_the_budget_near_the_optimum():
    line = fit_isoflop(sweep())
    point = optimal_point(line, 1.92e14, vocab_size=1024, sequence_length=256)
    assert 6 * point.parameters * point.num_tokens == pytest.approx(1.92e14, rel=1e-5)
    assert abs(np.log(point.num_tokens / line.tokens(1.92e14))) < 0.3


def test_paid_by_exact_flops_a_law_chooses_what_is_best_for_these():
    point = by_exact_flops(LAW, 1e14, vocab_size=1024, sequence_length=256)
    assert point.exact_flops == pytest.approx(1e14, rel=1e-5)
    losses = []
    for factor in (0.6, 1.0, 1.6):
        from herdling.model.family import member

        other = member(point.parameters * factor, vocab_size=1024, sequence_length=256)
        losses.append(float(LAW.loss(other.num_parameters(), 1e14 / other.flops_per_token(256))))
    assert losses[1] == min(losses)
