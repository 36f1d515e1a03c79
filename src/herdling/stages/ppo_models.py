"""The models that PPO holds side by side: the policy with its critic, the reference that it is held near to, and the reward models that judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from herdling.base.errors import LineageError
from herdling.checkpoint.huggingface import load_reward_model, save_model
from herdling.generate.gated_reward import RewardModels
from herdling.generate.loaded import LoadedModel, load
from herdling.model.actor_critic import ActorCritic, forget_scores
from herdling.model.reward import RewardModel
from herdling.stages.rewards import load_rewards
from herdling.train.forward import scorer
from herdling.train.ppo_forward import PpoForward

if TYPE_CHECKING:
    from herdling.model.precision import Device
    from herdling.stages.ppo import Ppo
    from herdling.stages.registry import StageRun
    from herdling.train.config import LoopConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoModels:
    """All models of one run; `trained` holds the Llama of `policy`."""

    policy: LoadedModel
    trained: ActorCritic
    reference: LoadedModel
    rewards: RewardModels

    @property
    def context(self) -> int:
        """The most tokens that all of them read."""
        configs = (self.policy.config, self.reference.config, self.trained.critic.config)
        return min(self.rewards.context, *(config.max_position_embeddings for config in configs))

    def forward(self, loop: LoopConfig, device: Device) -> PpoForward:
        """Return the trainer's forward of policy, critic and reference, as the loop runs it."""
        return PpoForward(
            model=self.trained,
            score=scorer(self.trained, compiled=loop.compile),
            reference=scorer(self.reference.model, compiled=loop.compile),
            device=device.device,
            micro_batch_tokens=loop.micro_batch_tokens,
        )

    def save(self, folder: Path) -> None:
        """Write the policy as it is now into a folder."""
        save_model(folder, self.policy.model, self.policy.tokenizer, self.policy.chat_format)


def load_models(settings: Ppo, run: StageRun, device: Device) -> PpoModels:
    """Load them all on the device, and check that they speak of the same tokens.

    Raises:
        LineageError: another tokenizer or chat template, by which model.
    """
    place, dtype = str(device.device), _name(device)
    policy = load(run.input(settings.model), device=place, dtype="float32")
    # The type of the trainer: a rounded reference would lie some nats off the policy that it equals.
    reference = load(run.input(settings.reference or settings.model), device=place, dtype=dtype)
    check_reference(reference, policy)
    rewards = load_rewards(settings.rewards, run, place)
    rewards.check(policy)
    critic = _critic(settings.critic, run.input(settings.rewards.helpfulness if settings.critic == "reward" else settings.model), place)
    return PpoModels(policy=policy, trained=ActorCritic(policy.model, critic), reference=reference, rewards=rewards)


def check_reference(reference: LoadedModel, policy: LoadedModel) -> None:
    """Raise `LineageError` where the reference has another tokenizer or chat template than the policy: its probabilities would be of other texts."""
    for what, found, expected in (
        ("tokenizer", reference.tokenizer.fingerprint, policy.tokenizer.fingerprint),
        ("chat template", reference.chat_format.fingerprint, policy.chat_format.fingerprint),
    ):
        if found != expected:
            raise LineageError(
                f"reference: {reference.name} was trained with the {what} {found[:12]}, the policy {policy.name} with {expected[:12]}: its probabilities are"
                " of other texts. Name the model that the policy comes from, or leave it out"
            )


def _critic(start: Literal["reward", "policy"], folder: Path, device: str) -> RewardModel:
    """Return a critic with the body of a model, that expects nothing yet."""
    if start == "reward":
        return forget_scores(load_reward_model(folder, device=device))
    return forget_scores(RewardModel.from_llama(load(folder, device=device, dtype="float32").model, seed=0))


def _name(device: Device) -> Any:
    return str(device.dtype).removeprefix("torch.")
