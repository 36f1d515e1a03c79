"""Answers of a policy that is being trained, each with its reward: what PPO begins an iteration with (Llama 2, section 3.2.3).

Answers are drawn from the policy itself: temperature 1, nothing cut off, so that a token has the chance that is its probability. The decoder copies the weights
as they are at the call (a small model on a CPU) or reads them (any other). Reward models read the text, as people would; an answer that cannot be written as
a dialog is not judged. Costs one decoding a prompt and one forward a reward model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from herdling.base.errors import FormatError
from herdling.generate.chat import completion_of
from herdling.generate.engine import Answer, Engine, Request
from herdling.generate.gated_reward import RewardModels
from herdling.generate.loaded import LoadedModel
from herdling.types import Completion, Dialog, Rollout, Sampling

MAX_ROWS = 64
"""Answers decoded side by side: all prompts are there at once, so more than a server would take."""
Generate = Callable[[Sequence[Request]], list[Answer]]
"""Answers with log-probabilities, by the weights of this moment."""
ENDS = ("end_of_turn", "end_of_message", "end_of_text")


class Sampler:
    """Samples answers of `policy`, whose weights may move between calls, and has them judged. `generate` samples elsewhere; unset: in this process."""

    def __init__(self, policy: LoadedModel, rewards: RewardModels, *, max_tokens: int, generate: Generate | None = None) -> None:
        self.policy = policy
        self.rewards = rewards
        self.max_tokens = max_tokens
        self._generate = generate or self._here
        self.stop_ids = policy.engine.stop_ids
        del policy.engine  # it holds the weights of this moment

    def sample(self, prompts: Sequence[Dialog], seeds: Sequence[int]) -> list[Rollout]:
        """Return one answer to each prompt; an answer is a function of the weights, its prompt and its seed.

        Raises:
            DataError: a reward is not a number, naming the prompt; or a prompt leaves no room in the context.
        """
        chat = self.policy.chat_format
        asked = [
            Request(chat.encode(prompt, generate=True).ids, Sampling(temperature=1.0, top_p=1.0, max_tokens=self.max_tokens, seed=seed))
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        answers = self._generate(asked)
        completions = [completion_of(answer, chat, self.stop_ids, self.policy.name) for answer in answers]
        return self._judged(prompts, answers, completions)

    def _here(self, asked: Sequence[Request]) -> list[Answer]:
        """Answer in this process, with the weights of this moment."""
        return Engine(self.policy.model, self.policy.tokenizer, self.stop_ids, max_rows=MAX_ROWS).generate(asked, logprobs=True)

    def _judged(self, prompts: Sequence[Dialog], answers: Sequence[Answer], completions: Sequence[Completion]) -> list[Rollout]:
        dialogs = [replace(prompt, messages=(*prompt.messages, one.message)) for prompt, one in zip(prompts, completions, strict=True)]
        sayable = [self._is_sayable(dialog) for dialog in dialogs]
        rewards = iter(self.rewards.score([dialog for dialog, sound in zip(dialogs, sayable, strict=True) if sound]))
        made = []
        for answer, completion, sound in zip(answers, completions, sayable, strict=True):
            reward = next(rewards) if sound else None
            made.append(
                Rollout(
                    prompt_ids=tuple(answer.request.prompt_ids),
                    response_ids=tuple(answer.token_ids),
                    logprobs=tuple(answer.logprobs),
                    text=completion.message.content,
                    ended=completion.stop_reason in ENDS,
                    reward=None if reward is None else reward.combined,
                    helpfulness=None if reward is None else reward.helpfulness,
                    safety=None if reward is None else reward.safety,
                )
            )
        return made

    def _is_sayable(self, dialog: Dialog) -> bool:
        """Say whether the chat format can write this dialog, and the reward models can read it."""
        try:
            return len(self.policy.chat_format.encode(dialog).ids) <= self.rewards.context
        except FormatError:
            return False
