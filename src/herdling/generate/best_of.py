"""K samples of a prompt, judged by reward models: the best becomes a target, the best and a worse one a pair (Llama 2, section 3.2.3; Llama 3, section 4.2.2).

What cannot be used has a named fault and no reward: a sample that never ended is not trained on as if it had ended. Samples that say the same are judged once.
Reads prompts that end with a user message; any `Generator` can be the sampler, in this process or on a server. Memory: the samples of the prompts that are
given together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from herdling.base.comparison_records import REWARD_MODEL
from herdling.base.errors import FormatError, LineageError
from herdling.generate.gated_reward import Reward
from herdling.generate.generator import Generator
from herdling.tokenizer.chat_format import ChatFormat
from herdling.types import Comparison, Completion, Dialog, Sampling, StopReason

NEVER_ENDED: dict[StopReason, str] = {
    "context_full": "cut by the context limit",
    "max_tokens": "cut by max_tokens",
    "cancelled": "cancelled",
}
EMPTY = "empty answer"
CALLS_A_TOOL = "calls a tool"
TOO_LONG = "longer than the reward model's context"
NOT_IN_FORMAT = "the chat format cannot express it"

Score = Callable[[Sequence[Dialog]], Sequence[Reward]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One answer with its reward, or with the fault that keeps it from being used."""

    completion: Completion
    reward: Reward | None = None
    fault: str = ""


def sample(generator: Generator, prompts: Sequence[Dialog], samplings: Sequence[Sequence[Sampling]], *, expected: str | None) -> list[list[Completion]]:
    """Answer each prompt once for each of its samplings; a prompt is read once for all of them. Token ids are left out: half of a file, and nobody reads them.

    `expected` None: whatever weights the first answer came from.

    Raises:
        LineageError: an answer came from other weights than those of the `expected` fingerprint.
    """
    asked = [prompt for prompt, own in zip(prompts, samplings, strict=True) for _ in own]
    said = generator.chat_batch(asked, [sampling for own in samplings for sampling in own])
    for completion in said:
        expected = expected or completion.model_fingerprint
        if completion.model_fingerprint != expected:
            raise LineageError(
                f"{generator.name}: an answer came from the weights {completion.model_fingerprint[:12] or '(unknown)'}, expected {expected[:12]}:"
                " the sampler changed on the way. Serve the weights that this stage began with, or make it again from the start with --force"
            )
    rest: Iterator[Completion] = (replace(one, token_ids=(), token_logprobs=(), model=generator.name) for one in said)
    return [[next(rest) for _ in own] for own in samplings]


def judge(score: Score, chat_format: ChatFormat, context: int, prompts: Sequence[Dialog], answers: Sequence[Sequence[Completion]]) -> list[list[Judged]]:
    """Judge the answers to each prompt. `context` is the most tokens that the reward models read.

    Raises:
        DataError: a reward is not a number.
    """
    distinct: dict[tuple[int, Any], Dialog] = {}
    faults: dict[tuple[int, Any], str] = {}
    for number, (prompt, own) in enumerate(zip(prompts, answers, strict=True)):
        for completion in own:
            key = (number, said_by(completion))
            if key not in distinct and key not in faults:
                dialog = replace(prompt, messages=(*prompt.messages, completion.message))
                fault = _fault(completion) or _fault_in_format(dialog, chat_format, context)
                if fault:
                    faults[key] = fault
                else:
                    distinct[key] = dialog
    rewards = dict(zip(distinct, score(list(distinct.values())), strict=True))

    def judged(number: int, completion: Completion) -> Judged:
        key = (number, said_by(completion))
        return Judged(completion=completion, reward=rewards.get(key), fault=faults.get(key, ""))

    return [[judged(number, completion) for completion in own] for number, own in enumerate(answers)]


def said_by(completion: Completion) -> tuple[Any, ...]:
    """Return what makes two answers the same: the text, the calls, and whether it came to its end."""
    message = completion.message
    return message.content.strip(), repr(message.tool_calls), NEVER_ENDED.get(completion.stop_reason, "")


def _fault(completion: Completion) -> str:
    if completion.stop_reason in NEVER_ENDED:
        return NEVER_ENDED[completion.stop_reason]
    if completion.message.tool_calls:
        return CALLS_A_TOOL  # whose result nobody here can give (Llama 3, section 4.3.5: no rejection sampling for tools)
    return "" if completion.message.content.strip() else EMPTY


def _fault_in_format(dialog: Dialog, chat_format: ChatFormat, context: int) -> str:
    try:
        return TOO_LONG if len(chat_format.encode(dialog).ids) > context else ""
    except FormatError:
        return NOT_IN_FORMAT


def best(answers: Sequence[Judged]) -> Judged | None:
    """Return the answer with the highest reward, the first of equals; None when none has a reward."""
    usable = [one for one in answers if one.reward is not None]
    return max(usable, key=combined) if usable else None


def combined(judged: Judged) -> float:
    """Return the reward of an answer that has one."""
    assert judged.reward is not None
    return judged.reward.combined


def target(prompt: Dialog, chosen: Judged) -> Dialog:
    """Return a prompt with its best answer, to fine-tune on: only that answer is learned."""
    return replace(prompt, messages=(*prompt.messages, chosen.completion.message), supervised="last")


def pair(prompt: Dialog, chosen: Judged, rejected: Judged, *, round: str, metadata: dict[str, Any]) -> Comparison:
    """Return the best and a worse answer as a comparison that a reward model judged. It has no rating: how a gap of scores would be felt is not known."""
    rewards = {name: [getattr(one.reward, name) for one in (chosen, rejected)] for name in ("combined", "helpfulness", "safety")}
    return Comparison(
        id=prompt.id,
        dialog=prompt,
        responses=(chosen.completion, rejected.completion),
        ranking=(0, 1),
        annotator=REWARD_MODEL,
        simulated=True,
        round=round,
        metadata={"rewards": rewards, "sides_known": False, **metadata},
    )


def prompt_fault(prompt: Dialog, chat_format: ChatFormat, context: int) -> tuple[str, str] | None:
    """Return (reason, what was found) when a model with this context cannot be asked, else None."""
    try:
        length = len(chat_format.encode(prompt, generate=True).ids)
    except FormatError as error:
        return NOT_IN_FORMAT, f"{prompt.id}: {error}"
    return None if length < context else ("prompt longer than the context", f"{prompt.id}: {length:,} tokens, the model reads {context:,}")


def prompt_key(dialog: Dialog) -> str:
    """Return what makes two prompts the same: who says what, and which tools there are."""
    said = [(message.role, message.content, repr(message.tool_calls)) for message in dialog.messages]
    return repr((said, dialog.tools))
