"""Dialogs to scores of a reward model: each prompt is computed once for all of its responses, whatever the order in which they come.

A score is the value at the token that ends the dialog's last answer (Llama 2, section 3.2.2); a difference of scores is what was learned, so a score of 0 means
nothing by itself, except where the safety loss gave it a meaning. Scores do not depend on which dialogs are scored together, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from herdling.base.errors import DataError
from herdling.data.comparison_rows import encode_answers
from herdling.data.shared_rows import SharedPrompt, lay_out
from herdling.model.reward import RewardModel
from herdling.tokenizer.chat_format import ChatFormat
from herdling.types import Dialog

FORWARD_TOKENS = 8192
"""Tokens in one forward, or one prompt with its responses where that is more: enough to keep the cores busy."""


@torch.inference_mode()
def score_dialogs(model: RewardModel, chat_format: ChatFormat, dialogs: Sequence[Dialog]) -> list[float]:
    """Return the score of each dialog; each ends with a message of the assistant.

    Raises:
        FormatError: a dialog that the chat format cannot express, or that ends with somebody else.
        DataError: a dialog longer than the model's context, with both numbers: a score of a part would be the score of something else.
    """
    encoded = [encode_answers([dialog], chat_format) for dialog in dialogs]
    for dialog, one in zip(dialogs, encoded, strict=True):
        if one.longest > (context := model.config.max_position_embeddings):
            raise DataError(f"dialog {dialog.id}: has {one.longest:,} tokens, the reward model reads {context:,}. Shorten it")
    groups: dict[bytes, list[int]] = {}
    for number, one in enumerate(encoded):
        groups.setdefault(one.prompt.tobytes(), []).append(number)
    scores = [0.0] * len(dialogs)
    device = model.score.weight.device
    for members in _forwards(encoded, list(groups.values())):
        documents = [_shared([encoded[number] for number in group]) for group in members]
        batch, ends = lay_out(documents, max(document.length for document in documents), chat_format.tokenizer.pad_id)
        parts = (batch.position_ids, batch.document_ids, batch.response_ids)
        positions, numbers, responses = (None if part is None else part.to(device) for part in parts)
        values = model(batch.input_ids.to(device), position_ids=positions, document_ids=numbers, response_ids=responses)
        rows, columns = torch.from_numpy(ends).to(device).unbind(1)
        for number, score in zip((number for group in members for number in group), values[rows, columns].tolist(), strict=True):
            scores[number] = score
    return scores


def _shared(members: Sequence[SharedPrompt]) -> SharedPrompt:
    """Return dialogs of one prompt as that prompt with several responses."""
    return replace(members[0], responses=tuple(member.responses[0] for member in members))


def _forwards(encoded: Sequence[SharedPrompt], groups: list[list[int]]) -> Iterator[list[list[int]]]:
    """Yield groups of about one length, so that little is padded, as many as a forward takes."""

    def length(group: list[int]) -> int:
        return len(encoded[group[0]].prompt) + sum(len(encoded[number].responses[0]) for number in group)

    taken: list[list[int]] = []
    for group in sorted(groups, key=length, reverse=True):
        if taken and (len(taken) + 1) * length(taken[0]) > FORWARD_TOKENS:
            yield taken
            taken = []
        taken.append(group)
    if taken:
        yield taken
