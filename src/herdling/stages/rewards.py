"""The table `rewards` of a stage: which reward models judge, and how they are loaded beside the policy whose answers they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from herdling.base.decode import settings
from herdling.stages.registry import RewardInput, StageRun

if TYPE_CHECKING:
    from herdling.generate.gated_reward import RewardModels


@settings
class RewardsConfig:
    """The reward models that judge (Llama 2, section 3.2.3)."""

    helpfulness: RewardInput
    """Judges how helpful an answer is: the output of a stage of kind reward."""
    safety: RewardInput | None = None
    """Judges how safe it is: counts instead where the prompt is adversarial or the answer unsafe. Unset: helpfulness is all."""


def load_rewards(config: RewardsConfig, run: StageRun, device: str = "cpu") -> RewardModels:
    """Load the reward models of a stage."""
    from herdling.generate.gated_reward import RewardModels
    from herdling.generate.loaded import load

    helpfulness = load(run.input(config.helpfulness), device=device)
    return RewardModels(helpfulness, None if config.safety is None else load(run.input(config.safety), device=device))
