"""How a question becomes a prompt: in the chat format, or for a base model as plain text after a few examples.

A base model was never shown the chat format, so asking it that way measures mostly the missing habit. With a few examples in plain text it can show what it
knows; results say which way each model was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from herdling.types import Dialog

ASKED, ANSWERED = "Question: ", "Answer:"
STOP = "\n"
"""Ends an answer in the plain form."""


def choose_examples(dialogs: Iterable[Dialog], count: int) -> tuple[Dialog, ...]:
    """Return the first training dialogs of one question each, no two with the same answer."""
    chosen: dict[str, Dialog] = {}
    for dialog in dialogs:
        if len(chosen) == count:
            break
        if len(dialog.messages) == 2 and STOP not in dialog.messages[0].content + dialog.messages[1].content:
            chosen.setdefault(dialog.messages[1].content, dialog)
    return tuple(chosen.values())


def few_shot_prompt(examples: Sequence[Dialog], dialog: Dialog) -> str:
    """Return a question as plain text, the examples and the dialog's earlier turns before it; the answer follows up to `STOP`."""
    messages = [message for example in (*examples, dialog) for message in example.messages]
    lines = [f"{ASKED if message.role == 'user' else ANSWERED + ' '}{' '.join(message.content.split())}" for message in messages]
    return "\n".join([*lines, ANSWERED])
