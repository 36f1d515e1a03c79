"""PPO's feed: batches that are sampled from the model that is trained, the same after any interruption, and what it refuses to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.errors import CheckpointError, TrainingError
from herdling.train.ppo_feed import KlControl
from herdling.train.ppo_loss import PpoObjective
from tests.train.toy_ppo import answers_of, feed_of, move, prompts, same, take


def test_the_first_mini_batch_of_an_iteration_has_ratios_of_exactly_one_and_no_kl(tmp_path: Path) -> None:
    feed = feed_of(tmp_path)
    first, second = take(feed, 0, 2)
    assert (first.untouched, second.untouched) == (True, False)
    loss, metrics = PpoObjective().loss(feed.forward.score(first), first)
    assert loss.requires_grad
    assert metrics["ratio"].item() == PpoObjective().count(first)
    assert metrics["approximate_kl"].item() == metrics["clip_fraction"].item() == 0
    facts = feed.rows()[0]
    assert facts["kl"] == 0
    assert facts["drift"] < 1e-5
    total = sum(float(batch.advantages.sum()) for batch in (first, second))
    assert total == pytest.approx(0, abs=1e-4)


def test_every_prompt_is_asked_once_before_any_is_asked_again(tmp_path: Path) -> None:
    asked: list[str] = []
    feed = feed_of(tmp_path, iterations=3)
    plain = feed.sample
    feed.sample = lambda given, seeds: [asked.extend(prompt.id for prompt in given), plain(given, seeds)][1]  # type: ignore[func-returns-value]
    list(feed.batches(0))
    assert len(asked) == 24
    assert sorted(asked[:12]) == sorted(asked[12:]) == sorted(str(number) for number in range(12))
    assert asked[:12] != asked[12:]


def test_an_interrupted_iteration_goes_on_with_its_answers_though_the_weights_have_moved(tmp_path: Path) -> None:
    _, second, third = take(feed_of(tmp_path / "straight"), 0, 3)
    interrupted = feed_of(tmp_path / "other")
    take(interrupted, 0, 1)
    again = feed_of(tmp_path / "other")
    move(again)  # as the step between the two mini-batches would
    assert same(take(again, 1, 1)[0], second)
    assert not same(take(again, 1, 2)[1], third)  # the next iteration asks the weights as they are now
    (tmp_path / "other" / "ppo" / "rollouts" / "00000.npz").unlink()
    with pytest.raises(CheckpointError, match="is gone"):
        take(again, 1, 1)


def test_answers_on_disk_are_taken_for_the_weights_that_gave_them_and_for_no_others(tmp_path: Path) -> None:
    first = take(feed_of(tmp_path), 0, 1)[0]
    refuse: Any = lambda given, seeds: pytest.fail("asked again")  # noqa: E731
    assert same(take(feed_of(tmp_path, sample=refuse), 0, 1)[0], first)
    other = feed_of(tmp_path, starts_at_reference=False)
    move(other)
    assert not same(take(other, 0, 1)[0], first)


def test_a_generator_that_is_not_the_trainers_model_is_an_error_with_the_number(tmp_path: Path) -> None:
    feed = feed_of(tmp_path)
    feed.sample = answers_of(feed.forward.model.policy, drift=0.01)
    with pytest.raises(TrainingError, match=r"lie 0\.01 nats a token from the trainer's, accepted are 0\.001"):
        take(feed, 0, 1)


def test_a_reference_that_should_be_the_policy_and_is_not_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="expected 0"):
        take(feed_of(tmp_path, reference=5), 0, 1)
    take(feed_of(tmp_path, reference=5, starts_at_reference=False), 0, 1)


def test_an_adaptive_beta_follows_the_kl_of_the_iteration_before(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, kl=KlControl(beta=0.1, target=1.0, horizon=80))
    list(feed.batches(0))
    assert [row["beta"] for row in feed.rows()] == pytest.approx([0.1 * (1 - 0.2 * 0.1) ** number for number in range(4)])  # the KL stays 0


def test_answers_that_no_checkpoint_can_need_are_removed(tmp_path: Path) -> None:
    feed = feed_of(tmp_path)
    batches = feed.batches(0)
    for _ in range(4):
        next(batches)
    assert len(list((tmp_path / "ppo" / "rollouts").glob("*.npz"))) == 2
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    next(batches)
    assert [path.stem for path in sorted((tmp_path / "ppo" / "rollouts").glob("*.npz"))] == ["00001", "00002"]
    assert len(feed.rows()) == 3


def test_the_kl_of_answers_is_what_a_moved_policy_says_of_its_reference(tmp_path: Path) -> None:
    feed = feed_of(tmp_path)
    made = feed.sample(prompts(6), range(6))
    assert feed.kl_of(made) == 0
    with torch.no_grad():
        feed.forward.model.policy.output_weight.mul_(1.01)
    alone = [feed.kl_of([one]) for one in made]
    assert feed.kl_of(made) == pytest.approx(sum(alone) / 6, abs=1e-4)
    assert any(alone)
