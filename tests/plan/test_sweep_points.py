"""Laying out a sweep: sizes around the optimum, batch by compute, learning rate by size."""

import pytest

from herdling.base.errors import SettingsError
from herdling.model.family import family
from herdling.plan.sweep_points import MIN_STEPS, at_sizes, batch_tokens, budgets_between, lay_out, peak_lr

LAYOUT = {"runs_per_budget": 6, "spread": 4.0, "tokens_per_parameter": 40.0, "vocab_size": 1024, "sequence_length": 256, "where": "budgets"}


def test_budgets_stand_in_equal_ratios():
    assert budgets_between(1e12, 1.6e13, 5) == [1e12, 2e12, 4e12, 8e12, 1.6e13]
    assert budgets_between(3e12, 9e12, 1) == [3e12]


def test_each_run_spends_its_budget_and_sizes_enclose_the_expected_optimum():
    for flops in (1e12, 1e14):
        points = lay_out([flops], **LAYOUT)
        expected = (flops / (6 * 40)) ** 0.5
        assert len(points) >= 5
        assert points[0].parameters < expected / 2.5
        assert points[-1].parameters > expected * 2.5
        for point in points:
            assert 6 * point.parameters * point.num_tokens == pytest.approx(flops, rel=1e-5)
            assert point.num_tokens >= MIN_STEPS * point.batch_tokens


def test_sizes_return_at_several_budgets_so_that_curves_of_a_size_can_be_drawn():
    sizes = [{point.parameters for point in lay_out([flops], **LAYOUT)} for flops in (1e12, 2e12)]
    assert len(sizes[0] & sizes[1]) >= 3


def test_batch_is_one_for_all_sizes_of_a_budget_and_grows_with_it():
    # By hand: 1e20^0.3271 = 10^6.542 = 3.483M, of which 0.12 are 418K.
    assert batch_tokens(1e20, 4096) == pytest.approx(418_000, rel=0.01)
    points = lay_out([1e12, 1e13], **LAYOUT)
    assert len({point.batch_tokens for point in points}) == 2
    assert all(point.batch_tokens % 256 == 0 for point in points)


def test_learning_rate_falls_with_size_from_ours_to_the_papers():
    assert peak_lr(1_000_000) == pytest.approx(4e-3)
    assert peak_lr(7_000_000_000) == pytest.approx(3e-4)
    assert peak_lr(10_000) == pytest.approx(6e-3)


def test_exact_flops_hold_attention_too():
    (point,) = (point for point in lay_out([1e14], **LAYOUT) if point.parameters == 1_714_400)
    per_token = point.config.flops_per_token(256)
    assert point.exact_flops == pytest.approx(per_token * point.num_tokens)
    assert 1.05 < point.exact_flops / point.flops < 1.3


def test_named_sizes_stand_at_every_budget():
    points = at_sizes([1e12, 1e13], [6e4, 1.3e5, 2.2e5], vocab_size=1024, sequence_length=256, where="sizes")
    assert [point.parameters for point in points] == [59_552, 132_432, 216_512] * 2
    assert points[0].name == "1e12-59.6K"


@pytest.mark.parametrize(
    ("budgets", "change", "complaint"),
    [
        ([1e6], {}, "1e06 FLOPs have 1 sizes of the family"),
        ([3e10], {"spread": 64.0}, "expected 20 or more"),
        ([1e12], {"spread": 1.01}, "a parabola needs 3"),
    ],
)
def test_a_budget_that_cannot_be_laid_out_is_refused(budgets, change, complaint):
    with pytest.raises(SettingsError, match=complaint):
        lay_out(budgets, **{**LAYOUT, **change})


def test_the_family_grows_evenly():
    sizes = [config.num_parameters() for config in family(1024, 256)]
    assert sizes == sorted(sizes)
    # The nearest to the papers' 7B, by its width.
    (large,) = (config for config in family(32_000, 4096) if config.hidden_size == 4096)
    assert large.head_dim == 128
    assert 30 <= large.num_hidden_layers <= 40
