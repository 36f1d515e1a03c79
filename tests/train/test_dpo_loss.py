from math import log

import pytest
import torch

from herdling.train.dpo_loss import PreferenceLoss, response_logprobs
from herdling.types import PreferenceBatch, Scores


def softplus(x):
    return log(1 + 2.718281828459045**x)


def batch_of(documents, ranks, scored, reference, nll_weights=None):
    """A batch with responses that end at given positions; all arguments are lists of rows."""
    ids = torch.tensor(documents)
    zeros = torch.zeros_like(ids)
    weights = torch.tensor(nll_weights) if nll_weights else torch.zeros(ids.shape)
    return PreferenceBatch(
        input_ids=zeros,
        labels=zeros,
        loss_mask=torch.tensor(scored).bool() | (weights > 0),
        position_ids=zeros,
        document_ids=ids,
        response_ids=zeros,
        ranks=torch.tensor(ranks),
        scored=torch.tensor(scored).bool(),
        nll_weights=weights,
        reference=torch.tensor(reference),
    )


# One prompt of one position, then a chosen response of a head and two tokens, and a rejected one of a head and one.
PAIR = batch_of(
    [[0, 0, 0, 0, 0, 0, -1]],
    [[0, 0, 0, 1, 0, 2, 0]],
    [[0, 1, 1, 0, 1, 0, 0]],
    [[0.0, 0.0, 0.0, -3.0, 0.0, -2.5, 0.0]],
    [[0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]],
)
LOGPROBS = [[0.0, -1.0, -1.5, 0.0, -4.0, 0.0, 0.0]]


def loss_of(batch, logprobs, **settings):
    objective = PreferenceLoss(**settings)
    logprobs = torch.tensor(logprobs, requires_grad=True)
    loss, metrics = objective.loss(Scores(logprobs=logprobs), batch)
    loss.backward()
    return loss.item(), {name: value.item() for name, value in metrics.items()}, logprobs.grad


def test_a_pair_costs_minus_log_sigmoid_of_beta_times_the_difference_of_shifts():
    loss, metrics, grad = loss_of(PAIR, LOGPROBS, beta=0.1, nll=0.0)
    # log p - log ref: -2.5 + 3 = 0.5 for the chosen, -4 + 2.5 = -1.5 for the rejected response.
    assert loss == pytest.approx(softplus(-0.1 * 2.0))
    assert metrics == pytest.approx({"accuracy": 1.0, "margin": 0.2, "chosen_shift": 0.5, "rejected_shift": -1.5, "nll": 1.25})
    slope = 0.1 / (1 + 2.718281828459045**0.2)
    assert grad[0].tolist() == pytest.approx([0, -slope, -slope, 0, slope, 0, 0])


def test_the_nll_of_the_chosen_response_is_added_with_its_weight():
    loss, _, grad = loss_of(PAIR, LOGPROBS, beta=0.1, nll=0.2)
    assert loss == pytest.approx(softplus(-0.2) + 0.2 * (1.0 + 1.5) / 2)
    slope = 0.1 / (1 + 2.718281828459045**0.2)
    assert grad[0].tolist() == pytest.approx([0, -slope - 0.1, -slope - 0.1, 0, slope, 0, 0])


def test_a_policy_that_is_its_reference_costs_log_2_and_is_right_about_nothing():
    batch = batch_of([[0, 0, 0, 0]], [[0, 1, 0, 2]], [[1, 0, 1, 0]], [[0.0, -1.0, 0.0, -4.0]])
    loss, metrics, _ = loss_of(batch, [[-1.0, 0.0, -4.0, 0.0]], nll=0.0)
    assert loss == pytest.approx(log(2))
    assert (metrics["accuracy"], metrics["margin"]) == (0, 0)


def test_tokens_that_are_told_but_not_scored_stay_out_of_the_preference():
    batch = batch_of([[0, 0, 0, 0]], [[0, 0, 1, 2]], [[1, 0, 0, 0]], [[0.0, 0.0, -1.0, 0.0]], [[0.5, 0.5, 0.0, 0.0]])
    loss, metrics, _ = loss_of(batch, [[-2.0, -7.0, 0.0, 0.0]], beta=1.0, nll=1.0)
    assert metrics["chosen_shift"] == pytest.approx(-1.0)
    assert loss == pytest.approx(softplus(1.0) + (2.0 + 7.0) / 2)


def test_edited_over_chosen_over_rejected_makes_three_pairs():
    batch = batch_of([[0, 0, 0, 0, 0, 0]], [[0, 3, 0, 1, 0, 2]], [[1, 0, 1, 0, 1, 0]], [[0.0, -1.0, 0.0, -1.0, 0.0, -1.0]])
    assert PreferenceLoss().count(batch) == 3
    loss, metrics, _ = loss_of(batch, [[-3.0, 0.0, -0.5, 0.0, -1.5, 0.0]], beta=1.0, nll=0.0)
    assert loss == pytest.approx(softplus(-1.0) + softplus(-2.5) + softplus(-1.5))
    assert metrics["margin"] == pytest.approx(1.0 + 2.5 + 1.5)


def test_log_probabilities_are_summed_within_rows_and_responses():
    batch = batch_of(
        [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, -1, -1]],
        [[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 0, 0]],
        [[1, 0, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0]],
        [[0.0] * 6] * 2,
    )
    assert PreferenceLoss().count(batch) == 2
    found = response_logprobs(torch.tensor([[-1.0, 0, 0, -2, 0, 0], [-4.0, -8, -16, 0, -99, -99]]), batch)
    assert found.tolist() == [-1, 0, -2, 0, -28]


def test_a_micro_batch_without_comparisons_adds_nothing():
    batch = batch_of([[-1, -1]], [[0, 0]], [[0, 0]], [[0.0, 0.0]])
    assert PreferenceLoss().count(batch) == 0
    loss, _, grad = loss_of(batch, [[-1.0, -2.0]])
    assert loss == 0
    assert not grad.any()


class Parrot:
    """A changing reference that says what it is told."""

    def __init__(self, says):
        self.says = torch.tensor(says)

    def logprobs(self, batch):
        return self.says

    def state(self):
        return {"reference.says": self.says}


def test_a_changing_reference_is_asked_for_every_batch_and_is_part_of_the_state():
    reference = Parrot([[0.0, 0.0, 0.0, -2.5, 0.0, -4.0, 0.0]])
    objective = PreferenceLoss(nll=0.0, reference=reference)
    loss, _ = objective.loss(Scores(logprobs=torch.tensor(LOGPROBS)), objective.prepare(PAIR))
    assert loss.item() == pytest.approx(log(2))
    assert objective.state() == {"reference.says": reference.says}
    assert PreferenceLoss().state() == {}
    assert PreferenceLoss().prepare(PAIR) is PAIR
