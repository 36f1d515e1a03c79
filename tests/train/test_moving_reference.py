from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from herdling.data.comparison_feed import ComparisonFeed
from herdling.data.preference_rows import preference_batch
from herdling.train.config import MovingReferenceConfig
from herdling.train.forward import scorer
from herdling.train.frozen_reference import score_responses
from herdling.train.moving_reference import FollowedFeed, MovingReference
from tests.train.toy_preferences import CPU, drawn, toy_llama


def moving(every_steps=2, decay=0.75, seed=0):
    policy, reference = toy_llama(seed), toy_llama(seed=1)
    config = MovingReferenceConfig(every_steps=every_steps, decay=decay)
    return MovingReference(reference, policy, config), reference, policy


def test_it_moves_by_a_share_of_the_way_to_the_policy():
    made, reference, policy = moving()
    before = [weight.clone() for weight in reference.parameters()]
    made.follow()
    for old, new, target in zip(before, reference.parameters(), policy.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * target)


def test_a_policy_in_bfloat16_moves_it_in_float32():
    made, reference, policy = moving(decay=0.999)
    policy.to(torch.bfloat16)
    weight = reference.model.norm.weight
    before = weight.clone()
    policy.model.norm.weight.data.fill_(2.0)
    made.follow()
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, before + 0.001 * (2 - before))


def test_what_it_says_of_a_response_stands_where_that_ends():
    made, reference, _ = moving()
    wanted = drawn()
    batch = preference_batch(wanted, 80, pad_id=0)
    said = made.logprobs(batch)
    expected = preference_batch(
        [
            replace(one, reference=tuple(logprobs))
            for one, logprobs in zip(wanted, score_responses(wanted, scorer(reference), device=CPU, micro_batch_tokens=10_000), strict=True)
        ],
        80,
        pad_id=0,
    ).reference
    torch.testing.assert_close(said, expected)
    assert not said.requires_grad


def weights_at_each_step(made, feed, first, num_steps):
    """The state when each batch is handed out, as the training step will use it; the policy moves after each step."""
    seen = []
    batches = feed.batches(first)
    for _ in range(num_steps):
        next(batches)
        seen.append({name: weight.clone() for name, weight in made.state().items()})
        for weight in made._policy.parameters():
            weight.data.mul_(1.1)
    return seen


def feed_of(made):
    return FollowedFeed(ComparisonFeed(drawn() * 8, preference_batch, batch_pairs=4, epochs=1, seed=0, hidden_size=32), made)


def test_it_moves_before_every_kth_step_and_never_before_the_first():
    made, _, _ = moving(every_steps=3)
    seen = weights_at_each_step(made, feed_of(made), 0, 8)
    changed = [any(not torch.equal(one[name], other[name]) for name in one) for one, other in pairwise(seen)]
    assert changed == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 6])
def test_a_run_that_goes_on_from_a_saved_state_sees_the_same_reference(stop):
    made, _, _ = moving(every_steps=2)
    straight = weights_at_each_step(made, feed_of(made), 0, 8)
    first, _, policy = moving(every_steps=2)
    weights_at_each_step(first, feed_of(first), 0, stop)
    second, _, other = moving(every_steps=2, seed=5)
    for saved, live in ((first.state(), second.state()), (dict(policy.named_parameters()), dict(other.named_parameters()))):
        for name, tensor in live.items():
            tensor.data.copy_(saved[name])
    again = weights_at_each_step(second, feed_of(second), stop, 8 - stop)
    for one, expected in zip(again, straight[stop:], strict=True):
        assert all(torch.equal(one[name], expected[name]) for name in expected)


def test_the_fingerprint_of_the_order_knows_how_the_reference_moves():
    plain = feed_of(moving()[0]).feed.fingerprint
    others = {feed_of(moving(every_steps=k, decay=d)[0]).fingerprint for k, d in ((1, 0.5), (2, 0.5), (1, 0.9))}
    assert len(others | {plain}) == 4
