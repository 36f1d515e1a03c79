"""Policy and critic as one module: two models that share nothing, read by one forward."""

from __future__ import annotations

import torch

from herdling.model.actor_critic import ActorCritic, forget_scores
from herdling.model.reward import RewardModel
from herdling.train.config import OptimizerConfig
from herdling.train.forward import scorer
from herdling.train.optim import Optimizer
from herdling.train.rollouts import pack_rollouts
from herdling.types import Rollout
from tests.generate.toy_model import toy_config, toy_model


def rows() -> list[Rollout]:
    return [Rollout(prompt_ids=(1, 30 + n), response_ids=(40 + n, 50, 60 + n), logprobs=(), text="", ended=False, reward=0.0) for n in range(5)]


def test_one_forward_gives_what_each_of_the_two_gives_alone() -> None:
    policy, critic = toy_model(1), RewardModel.from_llama(toy_model(2), 3)
    batch = pack_rollouts(rows(), 12, 0).batch
    both = scorer(ActorCritic(policy, critic))(batch)
    assert torch.equal(both.logprobs, scorer(policy)(batch).logprobs)
    assert both.values is not None
    assert torch.equal(both.values, scorer(critic)(batch).values)


def test_a_critic_that_forgot_its_scores_expects_nothing_anywhere() -> None:
    critic = RewardModel.from_llama(toy_model(2), 3)
    before = critic.model.embed_tokens.weight.clone()
    assert not scorer(forget_scores(critic))(pack_rollouts(rows(), 12, 0).batch).values.any()  # type: ignore[union-attr]
    assert torch.equal(critic.model.embed_tokens.weight, before)


def test_the_losses_of_one_do_not_move_the_other_and_the_critic_may_learn_faster() -> None:
    model = ActorCritic(toy_model(1), RewardModel.from_llama(toy_model(2), 3))
    optimizer = Optimizer(model, OptimizerConfig(weight_decay=0.1, clip_norm=1e9), lr_shares={"critic.": 10.0})
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    scores = scorer(model)(pack_rollouts(rows(), 12, 0).batch)
    assert scores.values is not None
    scores.values.sum().backward()
    assert all((weight.grad is not None) == name.startswith("critic.") for name, weight in model.named_parameters())
    for weight in model.parameters():  # Adam's first step is the learning rate for every weight whose gradient is far above its epsilon
        weight.grad = torch.ones_like(weight)
    optimizer.step(1e-3, torch.tensor(1.0), torch.tensor(0.0))
    for name, weight in model.named_parameters():
        if weight.ndim == 1:  # gains do not decay
            moved = (before[name] - weight.detach()).mean()
            assert torch.isclose(moved, torch.tensor(1e-2 if name.startswith("critic.") else 1e-3), rtol=1e-3)


def test_the_shape_that_it_tells_is_that_of_the_policy() -> None:
    assert ActorCritic(toy_model(1), RewardModel(toy_config(hidden_size=24, num_attention_heads=2))).config == toy_config()
