"""Loaded models as answerers: greedy, in batches, in the chat format where the model has one, else as plain text after a few examples."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from herdling.evals.prompts import STOP, few_shot_prompt
from herdling.generate.loaded import LoadedModel
from herdling.types import Dialog


class ModelAnswerer:
    """Asks a model, and remembers how. A question that does not fit the context is answered by nothing."""

    def __init__(self, model: LoadedModel, examples: Sequence[Dialog], *, max_tokens: int) -> None:
        self.model = model
        self.examples = examples
        self.max_tokens = max_tokens
        self.num_examples: list[int] = []
        """Of each question asked in plain text so far: how many examples fitted before it."""

    def __call__(self, dialogs: Sequence[Dialog]) -> list[str]:
        """Return the answers to dialogs that end with a user message."""
        if self.model.can_chat:
            return self._ask([self.model.chat_format.encode(dialog, generate=True).ids for dialog in dialogs])
        return self._ask([self._fitting_prompt(dialog) for dialog in dialogs], stop=STOP)

    def how(self) -> dict[str, Any]:
        """Return how the model was asked: `prompt` is `chat` or `few_shot`, the latter with the number of examples given and what was left of them."""
        if self.model.can_chat:
            return {"prompt": "chat"}
        kept = self.num_examples
        left = {"mean": round(fmean(kept), 3), "min": min(kept)} if kept else {}
        return {"prompt": "few_shot", "examples": {"given": len(self.examples), **left}}

    def _ask(self, prompts: Sequence[Sequence[int]], stop: str | Sequence[str] = ()) -> list[str]:
        fits = [index for index, ids in enumerate(prompts) if len(ids) < self.model.config.max_position_embeddings]
        said = [""] * len(prompts)
        answers = self.model.generate_batch([prompts[index] for index in fits], max_tokens=self.max_tokens, temperature=0.0, stop=stop)
        for index, text in zip(fits, answers, strict=True):
            said[index] = text.strip()
        return said

    def _fitting_prompt(self, dialog: Dialog) -> list[int]:
        """Return the plain prompt with as many of the examples as leave room for the answer; the question stays, room or not."""
        room = self.model.config.max_position_embeddings - self.max_tokens
        for first in range(len(self.examples) + 1):
            ids = self.model.tokenizer.encode(few_shot_prompt(self.examples[first:], dialog), bos=True)
            if len(ids) <= room:
                break
        self.num_examples.append(len(self.examples) - first)
        return ids
