"""The prompts of dialogs: each turn of the user that was answered, with all that was said before it, for a model to answer anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from herdling.types import SAFETY_TAG, Dialog


def prompts_of(dialogs: Iterable[Dialog]) -> Iterator[Dialog]:
    """Yield each message of a user that is followed by an answer as a dialog ending with it, called `dialog/turn` with turns counted from 1.

    A turn whose answer calls tools is one prompt: what follows the result of a call is no new turn.
    """
    for dialog in dialogs:
        turn = 0
        for index, message in enumerate(dialog.messages):
            turn += message.role == "user"
            if message.role == "user" and index + 1 < len(dialog.messages) and dialog.messages[index + 1].role == "assistant":
                yield Dialog(id=f"{dialog.id}/{turn}", messages=dialog.messages[: index + 1], tools=dialog.tools)


def is_safety(prompt: Dialog) -> bool:
    """Say whether the last message is tagged as an adversarial prompt (Llama 2, section 3.2.3)."""
    return bool(prompt.messages) and SAFETY_TAG in prompt.messages[-1].tags
