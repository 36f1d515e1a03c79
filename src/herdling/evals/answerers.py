"""Loaded models as answerers: greedy, in batches, in the chat format where the model has one, else as plain text after a few examples."""

from __future__ import annotations

from collections.abc import Sequence

from herdling.evals.prompts import STOP, few_shot_prompt
from herdling.evals.runner import Answerer
from herdling.generate.loaded import LoadedModel
from herdling.types import Dialog


def answerer(model: LoadedModel, examples: Sequence[Dialog], *, max_tokens: int) -> tuple[str, Answerer]:
    """Return how a model is asked (`chat` or `few_shot`), and the function that asks it. A question that does not fit the context is answered by nothing."""

    def chat(dialogs: Sequence[Dialog]) -> list[str]:
        return _ask(model, [model.chat_format.encode(dialog, generate=True).ids for dialog in dialogs], max_tokens)

    def few_shot(dialogs: Sequence[Dialog]) -> list[str]:
        return _ask(model, [_fitting_prompt(model, examples, dialog, max_tokens) for dialog in dialogs], max_tokens, stop=STOP)

    return ("chat", chat) if model.can_chat else ("few_shot", few_shot)


def _ask(model: LoadedModel, prompts: Sequence[Sequence[int]], max_tokens: int, stop: str | Sequence[str] = ()) -> list[str]:
    fits = [index for index, ids in enumerate(prompts) if len(ids) < model.config.max_position_embeddings]
    said = [""] * len(prompts)
    answers = model.generate_batch([prompts[index] for index in fits], max_tokens=max_tokens, temperature=0.0, stop=stop)
    for index, text in zip(fits, answers, strict=True):
        said[index] = text.strip()
    return said


def _fitting_prompt(model: LoadedModel, examples: Sequence[Dialog], dialog: Dialog, max_tokens: int) -> list[int]:
    """Return the plain prompt with as many of the examples as leave room for the answer."""
    room = model.config.max_position_embeddings - max_tokens
    for first in range(len(examples)):
        ids = model.tokenizer.encode(few_shot_prompt(examples[first:], dialog), bos=True)
        if len(ids) <= room:
            return ids
    return model.tokenizer.encode(few_shot_prompt((), dialog), bos=True)
