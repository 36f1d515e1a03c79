"""Anthropic's HH-RLHF transcripts: two conversations as text, `\\n\\nHuman: ...\\n\\nAssistant: ...`, that differ in the last answer.

Texts are kept to the letter. What looks like a turn is a turn: a message that holds such a mark has no transcript.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from herdling.data.dialogs import RowFault
from herdling.data.pair_forms import CANNOT, ends, make_pair, split_conversations
from herdling.types import Comparison, Message, Role

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_NAMES = {role: name for name, role in _ROLES.items()}
START = "\n\nHuman:"


def read_hh(row: Mapping[str, Any], where: str) -> Comparison:
    """HH-RLHF: the transcripts `chosen` and `rejected`."""
    return make_pair(row, *split_conversations(read_transcript(row["chosen"]), read_transcript(row["rejected"])))


def read_transcript(text: str) -> list[Message]:
    """Return the messages of a transcript. One space after the colon belongs to the mark."""
    before, *parts = _TURN.split(text)
    if before:
        raise RowFault("no transcript", f"begins with {before[:40]!r}, expected {START!r}")
    return [Message(role=_ROLES[name], content=said.removeprefix(" ")) for name, said in zip(parts[::2], parts[1::2], strict=True)]


def write_transcript(messages: Sequence[Message]) -> str:
    """Return messages as a transcript. Raises `RowFault` for what it cannot hold: system messages, tools, and marks of a turn within a text."""
    parts = []
    for message in messages:
        if message.role not in _NAMES or message.tool_calls:
            raise RowFault(CANNOT, f"a transcript has turns of Human and Assistant only; found {'tool calls' if message.tool_calls else message.role}")
        parts.append(f"\n\n{_NAMES[message.role]}: {message.content}")
    text = "".join(parts)
    if list(_TURN.findall(text)) != [_NAMES[message.role] for message in messages]:
        raise RowFault(CANNOT, "a message holds what a transcript reads as the mark of a turn")
    return text


def write_hh(comparison: Comparison) -> dict[str, Any]:
    """HH-RLHF: two transcripts."""
    if comparison.dialog.tools:
        raise RowFault(CANNOT, "a transcript has no tools")
    chosen, rejected = (write_transcript([*comparison.dialog.messages, answer]) for answer in ends(comparison))
    return {"chosen": chosen, "rejected": rejected}
