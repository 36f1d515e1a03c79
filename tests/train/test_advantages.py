"""The formulas of PPO against values worked by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from herdling.train.advantages import explained_variance, gae, kl_estimate, next_beta, token_mask, token_rewards, whiten


def test_the_three_estimators_of_the_kl_of_one_token() -> None:
    logprobs, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.0])  # d = 0.5 and -1
    assert kl_estimate(logprobs, reference, "k1").tolist() == pytest.approx([0.5, -1.0])
    assert kl_estimate(logprobs, reference, "k2").tolist() == pytest.approx([0.125, 0.5])
    assert kl_estimate(logprobs, reference, "k3").tolist() == pytest.approx([exp(-0.5) - 0.5, exp(1) - 2])


def test_k1_and_k3_are_right_on_average_and_k3_and_k2_are_never_negative() -> None:
    policy, reference = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])
    exact = 0.5 * log(2) + 0.25 * log(0.5)
    for estimator in ("k1", "k3"):
        assert float((policy * kl_estimate(policy.log(), reference.log(), estimator)).sum()) == pytest.approx(exact)
    assert min(kl_estimate(policy.log(), reference.log(), "k3").min(), kl_estimate(policy.log(), reference.log(), "k2").min()) >= 0


def test_whitening_really_removes_the_mean_and_looks_at_the_mask_alone() -> None:
    values, mask = torch.tensor([[6.0, 7.0, 8.0, 900.0]]), torch.tensor([[True, True, True, False]])
    assert whiten(values, mask)[0].tolist() == pytest.approx([-(1.5**0.5), 0, 1.5**0.5, 0], abs=1e-6)  # variance 2 / 3
    assert whiten(values, mask, unbiased=True)[0].tolist() == pytest.approx([-1, 0, 1, 0], abs=1e-6)  # variance 2 / 2
    assert whiten(torch.tensor([4.0, 4.0])).tolist() == [0, 0]
    assert whiten(torch.tensor([4.0]), unbiased=True).tolist() == [0]


def test_the_rewards_of_an_answer_add_up_to_its_score_less_beta_times_its_kl() -> None:
    kl = torch.tensor([[0.1, 0.2, 9.0], [0.3, 0.3, 0.3]])
    rewards = token_rewards(kl, torch.tensor([2, 3]), torch.tensor([1.0, -2.0]), 0.5, torch.tensor([1, 2]))
    assert rewards.flatten().tolist() == pytest.approx([-0.05, 0.9, 0, -0.15, -0.15, -2.15])
    assert rewards.sum(dim=1).tolist() == pytest.approx([1.0 - 0.5 * 0.3, -2.0 - 0.5 * 0.9])


def test_the_score_may_stand_one_step_behind_the_end() -> None:
    rewards = token_rewards(torch.tensor([[0.1, 9.0]]), torch.tensor([1]), torch.tensor([1.0]), 1.0, torch.tensor([1]))
    assert rewards[0].tolist() == pytest.approx([-0.1, 1.0])


@pytest.mark.parametrize(
    ("gamma", "lam", "expected"),
    [
        (1.0, 0.95, [-0.25 + 0.95 * 0.75, 0.75]),
        (1.0, 1.0, [1.0 - 0.5, 0.75]),  # what came after, less what was expected
        (1.0, 0.0, [-0.25, 0.75]),  # one step of temporal difference
        (0.5, 0.95, [-0.375 + 0.5 * 0.95 * 0.75, 0.75]),
    ],
)
def test_advantages_of_two_steps_worked_by_hand(gamma: float, lam: float, expected: list[float]) -> None:
    rewards, values = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.25, 0.0]])
    assert gae(rewards, values, gamma, lam)[0].tolist() == pytest.approx([*expected, 0.0])


def test_what_stands_behind_the_end_of_a_row_changes_no_advantage() -> None:
    alone = gae(torch.tensor([[0.2, 1.0]]), torch.tensor([[0.5, 0.25]]), 1.0, 0.95)
    padded = gae(torch.tensor([[0.2, 1.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.25, 0.0, 0.0]]), 1.0, 0.95)
    assert padded[0].tolist() == [*alone[0].tolist(), 0.0, 0.0]


def test_explained_variance_is_one_for_all_zero_for_a_constant_and_less_for_worse() -> None:
    returns, mask = torch.tensor([1.0, 3.0, 99.0]), torch.tensor([True, True, False])
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(torch.zeros(3), returns, mask) == 0
    assert explained_variance(torch.tensor([2.0, 2.5, 0.0]), returns, mask) == pytest.approx(1 - 0.5625)  # errors -1 and 0.5: variance 0.5625
    assert explained_variance(torch.tensor([3.0, 1.0, 0.0]), returns, mask) == pytest.approx(1 - 4)
    assert explained_variance(torch.zeros(3), torch.zeros(3), mask) == 0


def test_an_adaptive_beta_grows_where_the_kl_is_too_large_by_a_fifth_at_most() -> None:
    assert next_beta(0.1, 12.0, target=6.0, horizon=10_000, samples=500) == pytest.approx(0.1 * (1 + 0.2 * 0.05))
    assert next_beta(0.1, 5.4, target=6.0, horizon=10_000, samples=500) == pytest.approx(0.1 * (1 - 0.1 * 0.05))
    assert next_beta(0.1, 0.0, target=6.0, horizon=10_000, samples=500) == pytest.approx(0.1 * (1 - 0.2 * 0.05))


def test_a_mask_has_as_many_tokens_as_the_answer() -> None:
    assert token_mask(torch.tensor([0, 2]), 3).tolist() == [[False] * 3, [True, True, False]]
