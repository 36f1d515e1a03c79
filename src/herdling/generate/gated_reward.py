"""One reward of two models: the safety score where safety is at stake, else the helpfulness score (Llama 2, section 3.2.3).

Rc = Rs if the prompt is tagged "safety" or Rs < 0.15, else Rh; both after a sigmoid. Rewards are told in logits, so that nothing is lost where the sigmoid is
flat: the logit of Rc is the score that the gate lets through. Reads dialogs that end with an answer; costs one forward a reward model, a shared prompt once.
Does not whiten: that is a matter of the batch, and so of PPO.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, log

from herdling.base.errors import DataError, LineageError
from herdling.generate.loaded import LoadedModel
from herdling.tokenizer.chat_format import ChatFormat
from herdling.types import SAFETY_TAG, Dialog

UNSAFE = 0.15
"""Below this probability an answer counts as unsafe whatever the prompt (Llama 2, section 3.2.3: precision 0.89, recall 0.55 on Meta Safety)."""
UNSAFE_LOGIT = log(UNSAFE / (1 - UNSAFE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """The reward of one answer, in logits. A score that no model gave is None."""

    helpfulness: float | None
    safety: float | None
    combined: float
    """The one to learn from: the logit of Rc."""


def gated(helpfulness: float, safety: float | None, tagged: bool) -> Reward:
    """Combine the two scores (logits) of an answer to a prompt that is, or is not, `tagged` as adversarial. Without a safety score helpfulness is all."""
    is_gated = safety is not None and (tagged or safety < UNSAFE_LOGIT)
    return Reward(helpfulness=helpfulness, safety=safety, combined=safety if is_gated and safety is not None else helpfulness)


@dataclass(frozen=True, slots=True)
class RewardModels:
    """The models that judge what a policy says."""

    helpfulness: LoadedModel
    safety: LoadedModel | None = None

    def check(self, policy: LoadedModel) -> None:
        """Check that these judge what the policy writes: the same token ids, in the same chat template.

        Raises:
            LineageError: a reward model was trained with another tokenizer or chat template than the policy's.
            ModelError: one of them has no score head.
        """
        self.check_format(policy.chat_format, policy.name)

    def check_format(self, policy: ChatFormat, name: str) -> None:
        """Check the same of a policy called `name`, of which only the chat format is known: its weights may be elsewhere. Raises what `check` does."""
        for judge, model in self._named():
            check_judge(judge, model, policy, name)

    def score(self, dialogs: Sequence[Dialog]) -> list[Reward]:
        """Return the reward of each dialog's last message, an answer of the assistant; the tag is read from the last user message before it.

        Raises:
            DataError: a score is not a number, or a dialog is longer than a reward model's context, with both numbers.
            FormatError: a dialog that the chat format cannot express, or that ends with somebody else.
        """
        scores = {name: finite_scores(name, model, dialogs) for name, model in self._named()}
        safety: Sequence[float | None] = scores.get("safety", [None] * len(dialogs))
        return [gated(helpful, safe, is_tagged(dialog)) for dialog, helpful, safe in zip(dialogs, scores["helpfulness"], safety, strict=True)]

    @property
    def context(self) -> int:
        """The most tokens that a dialog may have to be judged by all of them."""
        return min(model.config.max_position_embeddings for _, model in self._named())

    def _named(self) -> Iterator[tuple[str, LoadedModel]]:
        yield "helpfulness", self.helpfulness
        if self.safety is not None:
            yield "safety", self.safety


def check_judge(name: str, judge: LoadedModel, policy: ChatFormat, policy_name: str) -> None:
    """Check one reward model, called `name` in the settings. Raises what `RewardModels.check` does."""
    check_texts(name, judge.name, judge.chat_format, policy, policy_name)
    _ = judge.reward_model


def check_texts(name: str, judge_name: str, judge: ChatFormat, policy: ChatFormat, policy_name: str) -> None:
    """Check that a reward model reads what the policy writes, by their chat formats alone. Raises `LineageError`."""
    for what, found, expected in (
        ("tokenizer", judge.tokenizer.fingerprint, policy.tokenizer.fingerprint),
        ("chat template", judge.fingerprint, policy.fingerprint),
    ):
        if found != expected:
            raise LineageError(
                f"rewards.{name}: {judge_name} was trained with the {what} {found[:12]}, the policy {policy_name} writes with {expected[:12]}:"
                " it would judge other texts than those that are said. Train the reward model from a chat model of the same family"
            )


def finite_scores(name: str, judge: LoadedModel, dialogs: Sequence[Dialog]) -> list[float]:
    """Return the scores of a reward model, called `name` in the settings. Raises `DataError` naming the dialog whose score is no number."""
    scores = judge.score_batch(dialogs)
    for dialog, score in zip(dialogs, scores, strict=True):
        if not isfinite(score):
            raise DataError(f"rewards.{name}: {judge.name} scores the dialog {dialog.id} with {score}, which is no reward. Its weights are damaged")
    return scores


def is_tagged(dialog: Dialog) -> bool:
    """Say whether the last user message of a dialog is tagged as adversarial."""
    return next((SAFETY_TAG in message.tags for message in reversed(dialog.messages) if message.role == "user"), False)
