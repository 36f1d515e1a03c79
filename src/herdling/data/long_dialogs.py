"""Dialogs of many turns: as they come, or joined from shorter ones until they have as many as asked for.

For what must hold over a whole conversation (Llama 2, section 3.3). Dialogs with a system message or tools are left out, for those bring instructions of their
own, and dialogs with an adversarial prompt: choosing answers by their form would choose those that do not refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from herdling.base.errors import SettingsError
from herdling.base.ledger import Ledger
from herdling.base.seeds import stream
from herdling.types import SAFETY_TAG, Dialog

OWN_INSTRUCTION = "has an instruction of its own"
ADVERSARIAL = "has an adversarial prompt"


def plain_dialogs(dialogs: Iterable[Dialog], ledger: Ledger, *, without: str | None) -> list[Dialog]:
    """Return the dialogs of plain turns, dropping by name those with a system message, tools, an adversarial prompt, or words that match `without`.

    Raises:
        SettingsError: `without` is no regular expression.
    """
    try:
        pattern = re.compile(without) if without else None
    except re.error as error:
        raise SettingsError(f"without: {without!r} is no regular expression ({error})") from None
    kept = []
    for dialog in dialogs:
        ledger.read()
        users = [message.content for message in dialog.messages if message.role == "user"]
        if dialog.tools or any(message.role in ("system", "tool") for message in dialog.messages):
            ledger.drop("has a system message or tools", dialog.id)
        elif any(SAFETY_TAG in message.tags for message in dialog.messages):
            ledger.drop(ADVERSARIAL, dialog.id)
        elif pattern and any(pattern.search(text) for text in users):
            ledger.drop(OWN_INSTRUCTION, dialog.id)
        else:
            kept.append(dialog)
    return kept


def several_turns(dialogs: Iterable[Dialog]) -> Iterator[Dialog]:
    """Yield the dialogs that have two turns or more, as they are."""
    return (dialog for dialog in dialogs if num_turns(dialog) > 1)


def joined(dialogs: Sequence[Dialog], turns: tuple[int, int], seed: int) -> Iterator[Dialog]:
    """Yield dialogs without end whose number of turns is drawn evenly from `turns`, both ends included; `dialogs` are dealt like cards and cut at the end.

    Whole dialogs stand behind each other, so that a question that leans on the one before still has it.
    """
    rng = stream(seed, "joined dialogs")
    left: list[int] = []
    while True:
        wanted = int(rng.integers(turns[0], turns[1] + 1))
        parts: list[Dialog] = []
        while sum(map(num_turns, parts)) < wanted:
            left = left or rng.permutation(len(dialogs)).tolist()
            parts.append(dialogs[left.pop()])
        messages = [message for part in parts for message in part.messages][: 2 * wanted]
        yield Dialog(id=" + ".join(part.id for part in parts), messages=tuple(messages))


def num_turns(dialog: Dialog) -> int:
    """Return how often the user speaks."""
    return sum(message.role == "user" for message in dialog.messages)
