"""A feed of PPO over a toy policy, whose answers are drawn by their seeds alone and are the better the longer they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from herdling.base.seeds import stream
from herdling.model.actor_critic import ActorCritic, forget_scores
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.train.config import AdvantageConfig
from herdling.train.forward import scorer
from herdling.train.held_out import HeldOut
from herdling.train.ppo_feed import KlControl, PpoFeed
from herdling.train.ppo_forward import PpoChecks, PpoForward
from herdling.train.ppo_loss import PpoBatch
from herdling.train.rollouts import pack_rollouts
from herdling.types import Dialog, Message, Rollout
from tests.generate.toy_model import toy_model


def prompts(count: int) -> list[Dialog]:
    return [Dialog(id=str(number), messages=(Message(role="user", content=str(number)),)) for number in range(count)]


def answers_of(model: Llama, drift: float = 0.0) -> Callable[[Sequence[Dialog], Sequence[int]], list[Rollout]]:
    """Answers drawn by the seed alone, with the model's log-probabilities (plus `drift`); longer answers are better."""

    def sample(asked: Sequence[Dialog], seeds: Sequence[int]) -> list[Rollout]:
        made = []
        for prompt, seed in zip(asked, seeds, strict=True):
            chance = stream(seed, "toy")
            length = int(chance.integers(1, 6))
            answer = tuple(int(token) for token in chance.integers(20, 300, length))
            made.append(
                Rollout(prompt_ids=(1, 20 + int(prompt.id)), response_ids=answer, logprobs=(0.0,) * length, text="x", ended=length < 5, reward=float(length))
            )
        packed = pack_rollouts(made, 16, 0)
        with torch.no_grad():
            found = packed.gather(scorer(model)(packed.batch).logprobs, 5)
        return [replace(one, logprobs=tuple(value + drift for value in row[: len(one.logprobs)])) for one, row in zip(made, found.tolist(), strict=True)]

    return sample


def feed_of(folder: Path, *, reference: int = 1, starts_at_reference: bool = True, **changes: Any) -> PpoFeed:
    """Four iterations of eight answers in two mini-batches."""
    policy = toy_model(1)
    model = ActorCritic(policy, forget_scores(RewardModel.from_llama(toy_model(2), 0)))
    forward = PpoForward(model=model, score=scorer(model), reference=scorer(toy_model(reference)), device=torch.device("cpu"), micro_batch_tokens=32)
    parts: dict[str, Any] = {
        "forward": forward,
        "checks": PpoChecks(max_drift=1e-3, tolerance=1e-4, starts_at_reference=starts_at_reference),
        "sample": answers_of(policy),
        "prompts": prompts(12),
        "held_out": None,
        "folder": folder,
        "seed": 3,
        "batch": 8,
        "mini_batch": 4,
        "iterations": 4,
        "row_length": 16,
        "pad_id": 0,
        "advantages": AdvantageConfig(),
        "kl": KlControl(beta=0.1),
    }
    return PpoFeed(**{**parts, **changes})


def take(feed: PpoFeed, step: int, count: int) -> list[PpoBatch]:
    batches = feed.batches(step)
    return [next(batches) for _ in range(count)]


def move(feed: PpoFeed, by: float = 1e-3) -> None:
    with torch.no_grad():
        for weight in feed.forward.model.parameters():
            weight.add_(by)


def same(one: PpoBatch, other: PpoBatch) -> bool:
    names = ("input_ids", "labels", "loss_mask", "old_logprobs", "advantages", "old_values", "returns")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def watch(feed: PpoFeed, rewards: list[float], patience: int, saved: list[str]) -> HeldOut:
    """Held-out prompts whose reward is the next of these at each look."""
    told = iter(rewards)

    def sample(asked: Sequence[Dialog], seeds: Sequence[int]) -> list[Rollout]:
        reward = next(told)
        return [replace(one, reward=reward) for one in answers_of(feed.forward.model.policy)(asked, seeds)]

    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        saved.append(folder.name)

    return HeldOut(prompts=prompts(3), sample=sample, save=save, folder=feed.folder / "ppo", every=1, patience=patience, seed=0)
