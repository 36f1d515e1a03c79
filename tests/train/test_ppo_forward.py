"""The forward outside of the loop is the loop's, and knows when weights have moved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from herdling.base.errors import TrainingError
from herdling.train.ppo_forward import PpoChecks
from herdling.train.rollouts import pack_rollouts
from tests.train.toy_ppo import feed_of, move, prompts


def test_it_says_what_the_trainers_forward_says_in_whatever_pieces(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, reference=5)
    batch = pack_rollouts(feed.sample(prompts(9), range(9)), 16, 0).batch
    assert len(batch.input_ids) > 2  # more rows than a piece of 32 tokens holds
    said = feed.forward.of(batch)
    with torch.no_grad():
        whole, reference = feed.forward.score(batch), feed.forward.reference(batch)
    assert whole.values is not None
    for found, wanted in ((said.logprobs, whole.logprobs), (said.values, whole.values), (said.reference, reference.logprobs)):
        assert torch.allclose(found, wanted, atol=1e-5)
    assert not said.logprobs.requires_grad


def test_any_step_gives_the_weights_another_name(tmp_path: Path) -> None:
    feed = feed_of(tmp_path)
    before = feed.forward.weights()
    assert feed_of(tmp_path).forward.weights() == before
    move(feed, 1e-6)
    assert feed.forward.weights() != before


def test_numbers_that_are_none_never_pass() -> None:
    checks = PpoChecks(max_drift=0.1, tolerance=0.1, starts_at_reference=True)
    sound = {"drift": 0.0, "kl": 0.0, "length": 3.0, "advantage_mean": 0.0}
    checks.check(0, sound)
    for name in ("drift", "kl", "advantage_mean"):
        with pytest.raises(TrainingError, match="nan"):
            checks.check(0, {**sound, name: float("nan")})
