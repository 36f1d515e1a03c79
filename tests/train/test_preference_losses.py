from math import log

import pytest
import torch

from herdling.train.preference_losses import PairwiseReward
from herdling.types import RewardBatch, Scores


def softplus(x):
    return log(1 + 2.718281828459045**x)


def batch_of(documents, ranks, margins=None, safe=None):
    """A batch with responses at given positions; `documents` and `ranks` are lists of rows."""
    ids = torch.tensor(documents)
    zeros = torch.zeros_like(ids)
    return RewardBatch(
        input_ids=zeros,
        labels=zeros,
        loss_mask=zeros.bool(),
        position_ids=zeros,
        document_ids=ids,
        response_ids=zeros,
        ranks=torch.tensor(ranks),
        margins=torch.tensor(margins) if margins else torch.zeros(ids.shape),
        safe=torch.tensor(safe) if safe else torch.full_like(ids, -1),
    )


def loss_of(batch, values, **settings):
    objective = PairwiseReward(**settings)
    values = torch.tensor(values, requires_grad=True)
    loss, metrics = objective.loss(Scores(logprobs=torch.zeros_like(values), values=values), batch)
    loss.backward()
    return loss.item(), {name: value.item() for name, value in metrics.items()}, values.grad


def test_a_pair_costs_minus_log_sigmoid_of_the_difference_less_the_margin():
    batch = batch_of([[0, 0, 0, -1]], [[0, 2, 1, 0]], [[0.0, 0.5, 0.5, 0.0]])
    loss, metrics, grad = loss_of(batch, [[9.0, 1.0, 2.0, 9.0]])
    assert loss == pytest.approx(softplus(-(2.0 - 1.0 - 0.5)))
    assert metrics == {"accuracy": 1.0, "margin": 1.0}
    slope = 1 / (1 + 2.718281828459045**0.5)
    assert grad[0].tolist() == pytest.approx([0, slope, -slope, 0])


def test_only_the_value_at_the_end_of_turn_counts_and_not_the_one_before_it():
    batch = batch_of([[0] * 6], [[0, 0, 1, 0, 0, 2]])
    _, _, grad = loss_of(batch, [[0.0] * 6])
    assert (grad[0] != 0).tolist() == [False, False, True, False, False, True]


def test_three_responses_make_three_pairs():
    batch = batch_of([[0, 0, 0]], [[3, 1, 2]])
    assert PairwiseReward().count(batch) == 3
    loss, metrics, _ = loss_of(batch, [[0.5, 1.0, 3.0]])
    assert loss == pytest.approx(softplus(-(1.0 - 3.0)) + softplus(-(1.0 - 0.5)) + softplus(-(3.0 - 0.5)))
    assert metrics == {"accuracy": 2.0, "margin": 1.0}


def test_responses_of_other_documents_and_rows_make_no_pairs():
    batch = batch_of([[0, 0, 1, 1], [0, 0, 1, 1]], [[1, 2, 1, 2], [1, 2, 0, 2]])
    assert PairwiseReward().count(batch) == 3


def test_equal_scores_are_no_success():
    _, metrics, _ = loss_of(batch_of([[0, 0]], [[1, 2]]), [[1.0, 1.0]])
    assert metrics["accuracy"] == 0


def test_the_safety_loss_is_the_mean_cross_entropy_of_the_two_labels_and_leaves_out_the_unknown():
    values = [[2.0, -1.0]]
    pair = softplus(-3.0)
    both = batch_of([[0, 0]], [[1, 2]], safe=[[1, 0]])
    assert loss_of(both, values, safety_weight=0.5)[0] == pytest.approx(pair + 0.5 * (softplus(-2.0) + softplus(-1.0)) / 2)
    one = batch_of([[0, 0]], [[1, 2]], safe=[[-1, 1]])
    loss, metrics, _ = loss_of(one, values, safety_weight=0.5)
    assert loss == pytest.approx(pair + 0.5 * softplus(1.0) / 2)
    assert metrics["safety_loss"] == pytest.approx(softplus(1.0) / 2)
    assert loss_of(both, values)[0] == pytest.approx(pair)


def test_a_micro_batch_without_comparisons_adds_nothing():
    batch = batch_of([[-1, -1]], [[0, 0]])
    assert PairwiseReward().count(batch) == 0
    loss, _, grad = loss_of(batch, [[1.0, 2.0]], safety_weight=1.0)
    assert loss == 0
    assert not grad.any()
