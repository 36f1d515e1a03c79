"""The clipped losses of PPO against values worked by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from herdling.base.errors import TrainingError
from herdling.train.ppo_loss import PpoBatch, PpoObjective
from herdling.types import Scores


def batch_of(old: list[float], advantages: list[float], *, untouched: bool = False, value_weights: list[float] | None = None) -> PpoBatch:
    """One row: a prompt token, then these probabilities of labels; old values 0, returns 1."""
    length = len(old) + 1
    ids = torch.zeros(1, length, dtype=torch.int64)
    mask = torch.tensor([[False, *[True] * len(old)]])
    weights = torch.tensor([[0.0, *(value_weights or [1.0] * len(old))]])
    return PpoBatch(
        input_ids=ids,
        labels=ids,
        loss_mask=mask,
        position_ids=ids,
        document_ids=ids,
        old_logprobs=torch.tensor([[0.0, *map(log, old)]]),
        advantages=torch.tensor([[0.0, *advantages]]),
        old_values=torch.zeros(1, length),
        returns=torch.where(weights > 0, 1.0, 0.0),
        value_weights=weights,
        untouched=untouched,
    )


def scores_of(new: list[float], values: list[float]) -> Scores:
    logprobs = torch.tensor([[0.0, *map(log, new)]], requires_grad=True)
    return Scores(logprobs=logprobs, values=torch.tensor([[7.0, *values]], requires_grad=True))


def test_the_policy_loss_is_clipped_on_the_side_that_the_advantage_pushes_to() -> None:
    batch = batch_of([0.5, 0.5, 0.5, 0.5], [1.0, 1.0, -1.0, -1.0])
    scores = scores_of([0.7, 0.3, 0.7, 0.3], [1.0] * 4)  # ratios 1.4 and 0.6
    loss, metrics = PpoObjective(clip=0.2, value_clip=10.0).loss(scores, batch)
    assert loss.item() == pytest.approx(-1.2 - 0.6 + 1.4 + 0.8)
    assert metrics["ratio"].item() == pytest.approx(4.0)
    assert metrics["clip_fraction"].item() == 2
    assert metrics["approximate_kl"].item() == pytest.approx(2 * (0.4 - log(1.4)) + 2 * (-0.4 - log(0.6)))
    loss.backward()
    assert scores.logprobs.grad is not None
    assert scores.logprobs.grad[0].tolist() == pytest.approx([0, 0, -0.6, 1.4, 0])  # where the clip holds, nothing pulls


def test_the_value_loss_takes_the_worse_of_the_value_and_the_clipped_one_and_weighs_positions() -> None:
    batch = batch_of([0.5, 0.5], [0.0, 0.0], value_weights=[1.0, 0.5])
    loss, metrics = PpoObjective(value_clip=0.2, value_coef=0.1).loss(scores_of([0.5, 0.5], [0.5, 0.1]), batch)
    # 0.5 is clipped to 0.2: (0.2 - 1)^2 > (0.5 - 1)^2; 0.1 is not.
    assert metrics["value_loss"].item() == pytest.approx((0.64 + 0.5 * 0.81) / 2)
    assert loss.item() == pytest.approx(0.1 * (0.64 + 0.5 * 0.81) / 2)
    assert metrics["value_clip_fraction"].item() == 1


def test_positions_without_an_answer_cost_nothing_whatever_stands_there() -> None:
    batch, scores = batch_of([0.5], [1.0]), scores_of([0.5], [1.0])
    loss, _ = PpoObjective().loss(scores, batch)
    loss.backward()
    assert scores.values is not None
    assert scores.values.grad is not None
    assert scores.values.grad[0, 0] == 0
    assert PpoObjective().count(batch) == 1


def test_a_ratio_other_than_one_before_the_first_step_is_an_error() -> None:
    objective = PpoObjective(ratio_tolerance=1e-3)
    objective.loss(scores_of([0.50001], [0.0]), batch_of([0.5], [1.0], untouched=True))
    with pytest.raises(TrainingError, match=r"off 1 by 0\.2"):
        objective.loss(scores_of([0.6], [0.0]), batch_of([0.5], [1.0], untouched=True))
    with pytest.raises(TrainingError, match="off 1 by nan"):
        objective.loss(scores_of([float("nan")], [0.0]), batch_of([0.5], [1.0], untouched=True))
    objective.loss(scores_of([0.6], [0.0]), batch_of([0.5], [1.0]))
