"""Responses that share a prompt in one row are as likely, and train, as if each had a row of its own with the prompt repeated."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from herdling.data.comparison_feed import ComparisonFeed
from herdling.data.preference_rows import preference_batch
from herdling.train.config import OptimizerConfig
from herdling.train.dpo_loss import PreferenceLoss
from herdling.train.forward import scorer
from herdling.train.frozen_reference import score_responses
from herdling.train.loop import micro_batches
from herdling.train.optim import Optimizer
from tests.train.toy_preferences import CPU, drawn, toy_llama


def token_logprobs_apart(model, one):
    """log p of each token behind the head of each response, from whole rows without any mask but the causal one."""
    found = []
    for response in one.shared.responses:
        row = torch.from_numpy(np.concatenate([one.shared.prompt, response]).astype(np.int64))[None]
        logprobs = torch.log_softmax(model.logits(model(row))[0], -1)
        first = len(one.shared.prompt)
        found.append(logprobs[range(first, row.shape[1] - 1), row[0, first + 1 :]])
    return found


@pytest.mark.parametrize("scale", [1, 9])  # rows of less and of more than 512 take different paths on a CPU
def test_each_token_of_a_shared_row_is_as_likely_as_in_a_row_of_its_own(scale):
    model, wanted = toy_llama(), drawn(scale)
    every = [replace(one, scored=tuple(np.ones_like(mask) for mask in one.scored)) for one in wanted]
    for one in every:
        batch = preference_batch([one], one.shared.length, pad_id=0)
        with torch.no_grad():
            shared = scorer(model)(batch).logprobs[batch.loss_mask]
            apart = torch.cat(token_logprobs_apart(model, one))
        assert apart.std() > 0.1
        torch.testing.assert_close(shared, apart, rtol=0, atol=1e-5)


@pytest.mark.parametrize("micro_batch_tokens", [1, 100, 10_000])
def test_the_log_probability_of_a_response_is_that_of_its_scored_tokens_whatever_it_is_packed_with(micro_batch_tokens):
    model, wanted = toy_llama(), drawn()
    with torch.no_grad():
        apart = [
            [float(found[torch.from_numpy(mask)].sum()) for found, mask in zip(token_logprobs_apart(model, one), one.scored, strict=True)] for one in wanted
        ]
    found = score_responses(wanted, scorer(model), device=CPU, micro_batch_tokens=micro_batch_tokens)
    assert [len(one) for one in found] == [3, 2, 3, 2]
    for ours, expected in zip(found, apart, strict=True):
        assert ours == pytest.approx(expected, abs=1e-5)


def with_reference(wanted):
    asked = score_responses(wanted, scorer(toy_llama(seed=1)), device=CPU, micro_batch_tokens=10_000)
    return [replace(one, reference=tuple(logprobs)) for one, logprobs in zip(wanted, asked, strict=True)]


def gradient_of(batches, count):
    model, objective = toy_llama(), PreferenceLoss(beta=0.5, nll=0.3)
    optimizer = Optimizer(model, OptimizerConfig())
    for batch in batches:
        loss, _ = objective.loss(scorer(model)(batch), batch)
        (loss / count).backward()
        optimizer.accumulate()
    return torch.cat([gradient.flatten() for gradient in optimizer.gradients])


def nll_apart(found, one, rank, norm, tokens_told, num_pairs):
    told = -found[torch.from_numpy(one.told[rank])]
    return {"sequence": told.mean(), "sum": told.sum(), "batch": told.sum() * num_pairs / tokens_told}[norm]


@pytest.mark.parametrize("norm", ["sequence", "batch", "sum"])
def test_a_step_on_shared_rows_is_the_step_on_repeated_prompts(norm):
    wanted = with_reference(drawn())
    pairs = [(one, i, j) for one in wanted for i, j in combinations(range(len(one.ranks)), 2)]
    tokens_told = sum(int(one.told[i].sum()) for one, i, _ in pairs)
    model, total = toy_llama(), 0.0
    found = {id(one): token_logprobs_apart(model, one) for one in wanted}
    for one, i, j in pairs:
        shifts = [found[id(one)][index][torch.from_numpy(one.scored[index])].sum() - one.reference[index] for index in (i, j)]
        total = total - torch.nn.functional.logsigmoid(0.5 * (shifts[0] - shifts[1]))
        total = total + 0.3 * nll_apart(found[id(one)][i], one, i, norm, tokens_told, len(pairs))
    (total / len(pairs)).backward()
    expected = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    batch = preference_batch(wanted, 80, pad_id=0, nll_norm=norm)
    assert PreferenceLoss().count(batch) == len(pairs) == 8
    ours = gradient_of([batch], len(pairs))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_accumulation_over_micro_batches_is_the_whole_batch_also_where_the_nll_is_per_token_of_the_step():
    wanted = with_reference(drawn())
    feed = ComparisonFeed(wanted * 3, lambda *parts: preference_batch(*parts, nll_norm="batch"), batch_pairs=12, epochs=1, seed=0, hidden_size=32)
    (batch,) = feed.batches(0)
    count = PreferenceLoss().count(batch)
    parts = list(micro_batches(batch, 64))
    assert len(parts) == batch.input_ids.shape[0] > 3
    torch.testing.assert_close(gradient_of(parts, count), gradient_of([batch], count), rtol=1e-5, atol=1e-6)
