"""Responses that share a prompt in one row score, and train, as if each had a row of its own with the prompt repeated."""

import numpy as np
import pytest
import torch

from herdling.base.seeds import stream
from herdling.data.comparison_feed import ComparisonFeed
from herdling.data.comparison_rows import RankedResponses, reward_batch
from herdling.data.shared_rows import SharedPrompt, lay_out
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.train.config import OptimizerConfig
from herdling.train.forward import scorer
from herdling.train.loop import micro_batches
from herdling.train.optim import Optimizer
from herdling.train.preference_losses import PairwiseReward
from herdling.types import RewardBatch


def toy_reward():
    config = LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=1024,
    )  # fmt: skip
    llama = Llama(config)
    llama.init_weights(0)
    return RewardModel.from_llama(llama, seed=0)


def documents(scale=1, sizes=((20, 5, 9, 3), (7, 11, 2), (30, 1, 1, 6), (1, 8, 4))):
    chance = stream(0, "shared")
    drawn = [[chance.integers(1, 61, size * scale).astype(np.int32) for size in one] for one in sizes]
    return [SharedPrompt(prompt=prompt, responses=tuple(responses)) for prompt, *responses in drawn]


def scores_of(model, wanted, length):
    batch, ends = lay_out(wanted, length, pad_id=0)
    with torch.no_grad():
        values = scorer(model)(batch).values
    return values[torch.from_numpy(ends[:, 0]), torch.from_numpy(ends[:, 1])]


def separately(model, wanted):
    """The scores by whole rows without any mask but the causal one: prompt and response, the value at the last token."""
    with torch.no_grad():
        rows = [torch.from_numpy(np.concatenate([one.prompt, response]).astype(np.int64))[None] for one in wanted for response in one.responses]
        return torch.stack([model(row)[0, -1] for row in rows])


@pytest.mark.parametrize("scale", [1, 9])  # rows of less and of more than 512 take different paths on a CPU
def test_one_row_of_several_responses_scores_as_separate_rows(scale):
    model, wanted = toy_reward(), documents(scale)
    longest = max(one.length for one in wanted)
    expected = separately(model, wanted)
    assert expected.std() > 0.1
    torch.testing.assert_close(scores_of(model, wanted, longest), expected, rtol=0, atol=1e-5)


def test_the_value_one_token_early_is_another_one():
    model, wanted = toy_reward(), documents()
    batch, ends = lay_out(wanted, 64, pad_id=0)
    with torch.no_grad():
        values = scorer(model)(batch).values
    early = values[torch.from_numpy(ends[:, 0]), torch.from_numpy(ends[:, 1]) - 1]
    assert ((early - separately(model, wanted)).abs() > 1e-2).all()


@pytest.mark.parametrize("length", [37, 64, 200, 600])
def test_scores_do_not_change_with_padding_or_packing(length):
    model, wanted = toy_reward(), documents(sizes=((10, 5, 9, 3), (7, 11, 2), (20, 1, 1, 6), (1, 8, 4)))
    torch.testing.assert_close(scores_of(model, wanted, length), separately(model, wanted), rtol=0, atol=1e-5)


def test_scores_do_not_change_with_the_order_of_the_batch_or_of_the_responses():
    model, wanted = toy_reward(), documents()
    forward = scores_of(model, wanted, 80)
    backward = scores_of(model, [SharedPrompt(prompt=one.prompt, responses=one.responses[::-1]) for one in wanted[::-1]], 80)
    torch.testing.assert_close(backward.flip(0), forward, rtol=0, atol=1e-5)


def ranked(wanted):
    sizes = [range(len(one.responses)) for one in wanted]
    labels = [(tuple(index + 1 for index in size), tuple(index % 2 for index in size)) for size in sizes]
    return [
        RankedResponses(shared=one, ranks=ranks, margin=0.3 * number, safe=safe) for number, (one, (ranks, safe)) in enumerate(zip(wanted, labels, strict=True))
    ]


def gradient_of(batches, count):
    model, objective = toy_reward(), PairwiseReward(safety_weight=0.2)
    optimizer = Optimizer(model, OptimizerConfig())
    for batch in batches:
        loss, _ = objective.loss(scorer(model)(batch), batch)
        (loss / count).backward()
        optimizer.accumulate()
    return torch.cat([gradient.flatten() for gradient in optimizer.gradients])


def test_a_step_on_shared_rows_is_the_step_on_repeated_prompts():
    wanted = ranked(documents())
    shared = reward_batch(wanted, 80, pad_id=0)
    repeated, objective = toy_reward(), PairwiseReward(safety_weight=0.2)
    total = 0.0
    for one in wanted:
        rows = [torch.from_numpy(np.concatenate([one.shared.prompt, response]).astype(np.int64))[None] for response in one.shared.responses]
        found = [repeated(row)[0, -1] for row in rows]
        for better in range(len(found)):
            for worse in range(better + 1, len(found)):
                total = total - torch.nn.functional.logsigmoid(found[better] - found[worse] - one.margin)
                for index in (better, worse):
                    total = total + 0.1 * torch.nn.functional.binary_cross_entropy_with_logits(found[index], torch.tensor(float(one.safe[index])))
    count = objective.count(shared)
    (total / count).backward()
    expected = torch.cat([weight.grad.flatten() for weight in repeated.parameters()])
    torch.testing.assert_close(gradient_of([shared], count), expected, rtol=0, atol=1e-5)


def test_accumulation_over_micro_batches_is_the_whole_batch():
    wanted = ranked(documents() * 3)
    feed = ComparisonFeed(wanted, reward_batch, batch_pairs=12, epochs=1, seed=0, hidden_size=32)
    (batch,) = feed.batches(0)
    count = PairwiseReward().count(batch)
    parts = list(micro_batches(batch, 64))
    assert len(parts) == batch.input_ids.shape[0] > 3
    assert all(isinstance(part, RewardBatch) for part in parts)
    torch.testing.assert_close(gradient_of(parts, count), gradient_of([batch], count), rtol=1e-6, atol=1e-6)  # some gradients are as large as 7
