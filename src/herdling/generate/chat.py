"""A dialog through a model: the assistant's next message, whole or piece by piece.

The prompt is the dialog in the model's own chat format; the answer ends with a token that the format trains. Calls of tools come back as `Message.tool_calls`;
running them is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from herdling.base.errors import DataError
from herdling.generate.engine import Answer, Engine, Request, text_of
from herdling.tokenizer.chat_format import ChatFormat
from herdling.types import Completion, Dialog, Message, Sampling, StopReason

Turns = Dialog | Sequence[Message | Mapping[str, Any]]


def as_dialog(turns: Turns) -> Dialog:
    """Return a dialog, made of messages or of `{"role": ..., "content": ...}` where it is not one yet.

    Raises:
        DataError: an item that is no message, by its place.
    """
    if isinstance(turns, Dialog):
        return turns
    return Dialog(id="chat", messages=tuple(_as_message(turn, index) for index, turn in enumerate(turns)))


def _as_message(turn: Message | Mapping[str, Any], index: int) -> Message:
    if isinstance(turn, Message):
        return turn
    where = f"message {index + 1} of the dialog"
    if not isinstance(turn, Mapping) or set(turn) != {"role", "content"}:
        raise DataError(f'{where}: found {turn!r}, expected {{"role": ..., "content": ...}}. For tool calls give herdling.Message')
    if turn["role"] not in ("system", "user", "assistant", "tool"):
        raise DataError(f"{where}: found the role {turn['role']!r}, expected system, user, assistant or tool")
    if not isinstance(turn["content"], str):
        raise DataError(f"{where}: found content of type {type(turn['content']).__name__}, expected text")
    return Message(role=turn["role"], content=turn["content"])


def chat_stop_ids(chat_format: ChatFormat, also: Sequence[int] = ()) -> dict[int, StopReason]:
    """Return the ids that end an answer, with the reason that each means."""
    eos_id, turn_id = chat_format.tokenizer.eos_id, chat_format.end_of_turn_id
    reasons: dict[int, StopReason] = dict.fromkeys((*also, *chat_format.stop_ids), "end_of_message")
    return {**reasons, eos_id: "end_of_text", turn_id: "end_of_turn"}


def completion_of(answer: Answer, chat_format: ChatFormat, stop_ids: Mapping[int, StopReason], model: str) -> Completion:
    """Read what was generated as the assistant's message."""
    if answer.stop_reason in ("end_of_turn", "end_of_message", "end_of_text"):
        message = chat_format.parse(answer.token_ids)
    else:
        message = Message(role="assistant", content=text_of(answer, chat_format.tokenizer, stop_ids).strip())
    return Completion(
        message=message,
        stop_reason=answer.stop_reason or "cancelled",
        logprob=sum(answer.logprobs),
        model=model,
        sampling=answer.request.sampling,
        token_ids=tuple(answer.token_ids),
        token_logprobs=tuple(answer.logprobs),
    )


class ChatStream:
    """The assistant's next message as it is written: iterate for pieces of text; `completion` is what there is so far, whole at the end."""

    def __init__(self, engine: Engine, chat_format: ChatFormat, dialog: Dialog, sampling: Sampling, model: str) -> None:
        request = Request(chat_format.encode(dialog, generate=True).ids, sampling)
        self.engine, self.chat_format, self.model = engine, chat_format, model
        self.answer = Answer(request)
        self._steps = engine.stream(request, logprobs=True)

    def __iter__(self) -> Iterator[str]:
        started = False
        for piece, answer in self._steps:
            self.answer = answer
            # The framing's space or line break before the first word is no part of the answer.
            text = piece if started else piece.lstrip()
            started = started or bool(text)
            if text:
                yield text

    @property
    def completion(self) -> Completion:
        """The message so far; `stop_reason` is "cancelled" while it is not finished."""
        return completion_of(self.answer, self.chat_format, self.engine.stop_ids, self.model)
