"""Dialogs from where the user keeps them, in the forms that people use.

    messages        our own rows (with "supervised", and "tags" of a message), and OpenAI chat: {"messages": [{"role", "content", "tool_calls", ...}], "tools"}
    conversations   ShareGPT: {"conversations": [{"from", "value"}], "system", "tools"}
    instruction     Alpaca: {"instruction", "input", "output", "system", "history"}
    prompt          {"prompt", "completion" or "response"}

A row that is none of these, or whose roles do not alternate, is set aside in the ledger by named reason and place. Does not encode: `dialog_rows` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from herdling.base.errors import DataError
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_from_row, dialog_to_row
from herdling.data.rows import HUB_PREFIX, ROW_ENDINGS, ending, read_hub_rows, read_rows
from herdling.data.sources import find_files, is_unicode
from herdling.types import Dialog, Message, Role, ToolCall

_OPENAI_ROLES = {"developer": "system", "function": "tool"}
SHAREGPT_ROLES: dict[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "function_call"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function_response"), "tool"),
    "system": "system",
}
FORMS = "messages (OpenAI chat), conversations (ShareGPT), instruction and output (Alpaca), prompt and completion"


class RowFault(Exception):
    """A row that is no usable dialog: the reason for the ledger, and what was found."""

    def __init__(self, reason: str, found: str = "") -> None:
        super().__init__(reason, found)
        self.reason, self.found = reason, found


def read_dialogs(spec: str, ledger: Ledger) -> Iterator[Dialog]:
    """Yield the dialogs of a file, folder, glob or `hf:org/name`, counting rows read and set aside. The caller counts what it keeps.

    Raises:
        DataError: nothing to read at `spec`, a damaged file, or a file whose first row has none of the known forms.
    """
    if spec.startswith(HUB_PREFIX):
        sources = [read_hub_rows(spec, ledger)]
    else:
        files = [file for file in find_files(spec, ledger) if ending(file) in ROW_ENDINGS]
        if not files:
            raise DataError(f"{spec}: no file of dialogs there; accepted: {', '.join(ROW_ENDINGS)}, also with .gz or .zst")
        sources = [read_rows(Path(file), ledger) for file in files]
    for rows in sources:
        known = False
        for where, row in rows:
            read = _reader(row)
            if read is None and not known:
                raise DataError(f"{where}: no dialog in the fields {', '.join(row)}; accepted: {FORMS}")
            known = True
            try:
                if read is None:
                    raise RowFault("no known form", f"fields {', '.join(row)}")
                dialog = read(row, where)
                fault = dialog_fault(dialog)
                if fault:
                    raise RowFault(*fault)
            except RowFault as fault_found:
                ledger.drop(fault_found.reason, f"{where}: {fault_found.found}")
                continue
            yield dialog


def dialog_fault(dialog: Dialog) -> tuple[str, str] | None:
    """Return (reason, where in the dialog) when a model cannot be taught by it, else None.

    Accepted: an optional system message, then user and assistant in turn, from a user's question to an assistant's answer; between a call and its answer
    stand one or more tool messages.
    """
    messages = dialog.messages[1:] if dialog.messages and dialog.messages[0].role == "system" else dialog.messages
    before = "system" if len(messages) < len(dialog.messages) else "start"
    called = False
    for number, message in enumerate(messages, start=1 + len(dialog.messages) - len(messages)):
        accepted = {"start": ("user",), "system": ("user",), "user": ("assistant",), "assistant": ("tool",) if called else ("user",)}.get(before)
        if message.role not in (accepted or ("tool", "assistant")):
            return "roles do not alternate", f"message {number} is {message.role} after {before}"
        if not message.content.strip() and not message.tool_calls and message.role in ("user", "assistant"):
            return f"empty {message.role} message", f"message {number}"
        if not is_unicode(message.content):
            return "not valid Unicode", f"message {number}"
        before, called = message.role, bool(message.tool_calls)
    if before == "start" or before == "system":
        return "no messages", f"{len(dialog.messages)} in all"
    return None if before == "assistant" and not called else ("ends without an answer", f"the last message is {before}")


def opening(dialog: Dialog) -> str:
    """Return the first question of a dialog: dialogs that share it belong on one side of a split."""
    return _evened(next((message.content for message in dialog.messages if message.role == "user"), ""))


def last_question(dialog: Dialog) -> str:
    """Return the last thing that the user says, to compare questions by."""
    return _evened(next((message.content for message in reversed(dialog.messages) if message.role == "user"), ""))


def questions_of(dialog: Dialog) -> set[str]:
    """Return all that the user says in a dialog, to compare questions by."""
    return {_evened(message.content) for message in dialog.messages if message.role == "user"}


def dialog_text(dialog: Dialog) -> str:
    """Return all that is said and by whom, as one text: equal for exact duplicates, however their messages are tagged."""
    said = replace(dialog, id="", messages=tuple(replace(message, tags=()) for message in dialog.messages))
    return json.dumps(dialog_to_row(said), sort_keys=True)


def _evened(text: str) -> str:
    """Even out case and white space."""
    return " ".join(text.casefold().split())


def _reader(row: Mapping[str, Any]) -> Callable[[Mapping[str, Any], str], Dialog] | None:
    if isinstance(row.get("messages"), list):
        return _from_messages
    if isinstance(row.get("conversations"), list):
        return from_sharegpt
    if "instruction" in row and ("output" in row or "response" in row):
        return _from_alpaca
    if "prompt" in row and ("completion" in row or "response" in row):
        return _from_prompt
    return None


def _from_messages(row: Mapping[str, Any], where: str) -> Dialog:
    messages = [openai_message(message) for message in row["messages"]]
    tools = tools_of(row)
    try:
        return dialog_from_row({"id": row.get("id") or where, "messages": messages, "tools": tools, "supervised": row.get("supervised") or "all"}, where)
    except DataError as error:
        raise RowFault("not a message", str(error).removeprefix(f"{where}, ")) from None


def openai_message(message: Any) -> dict[str, Any]:
    """Return a message of OpenAI's form in ours: parts joined, calls flattened, arguments decoded. Ours goes through unchanged."""
    if not isinstance(message, Mapping):
        raise RowFault("not a message", f"found {type(message).__name__}")
    content = message.get("content")
    if isinstance(content, list):
        if any(not isinstance(part, Mapping) or part.get("type") != "text" for part in content):
            raise RowFault("not only text", "a part of a message is no text")
        content = "".join(str(part.get("text", "")) for part in content)
    calls = [call_of(call.get("function", call), str(call.get("id") or "")) for call in message.get("tool_calls") or ()]
    result: dict[str, Any] = {"role": _OPENAI_ROLES.get(str(message.get("role")), message.get("role")), "content": content or ("" if calls else content)}
    if calls:
        result["tool_calls"] = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
    if message.get("tool_call_id") is not None:
        result["tool_call_id"] = message["tool_call_id"]
    if message.get("tags"):
        result["tags"] = message["tags"]
    return result


def from_sharegpt(row: Mapping[str, Any], where: str) -> Dialog:
    messages: list[Message] = system_of(row)
    call_id: str | None = None
    for turn in row["conversations"]:
        role = SHAREGPT_ROLES.get(str(turn.get("from"))) if isinstance(turn, Mapping) else None
        if role is None or not isinstance(turn.get("value"), str):
            raise RowFault("not a message", f"found {str(turn)[:80]}")
        if turn["from"] == "function_call":
            call_id = f"call_{len(messages)}"
            messages.append(Message(role="assistant", content="", tool_calls=(call_of(json_of(turn["value"], "a function call"), call_id),)))
        else:
            messages.append(Message(role=role, content=turn["value"], tool_call_id=call_id if role == "tool" else None))
    return Dialog(id=str(row.get("id") or where), messages=tuple(messages), tools=tuple(tools_of(row)))


def _from_alpaca(row: Mapping[str, Any], where: str) -> Dialog:
    given = str(row.get("input") or "").strip()
    question = f"{row['instruction']}\n\n{given}" if given else str(row["instruction"])
    turns = [(str(user), str(assistant)) for user, assistant in row.get("history") or ()]
    return _from_turns(row, where, [*turns, (question, str(row.get("output", row.get("response")) or ""))])


def _from_prompt(row: Mapping[str, Any], where: str) -> Dialog:
    return _from_turns(row, where, [(str(row["prompt"]), str(row.get("completion", row.get("response")) or ""))])


def _from_turns(row: Mapping[str, Any], where: str, turns: Sequence[tuple[str, str]]) -> Dialog:
    messages = system_of(row)
    for user, assistant in turns:
        messages += [Message(role="user", content=user), Message(role="assistant", content=assistant)]
    return Dialog(id=str(row.get("id") or where), messages=tuple(messages))


def system_of(row: Mapping[str, Any]) -> list[Message]:
    return [Message(role="system", content=row["system"])] if isinstance(row.get("system"), str) and row["system"].strip() else []


def tools_of(row: Mapping[str, Any]) -> list[Any]:
    tools = row.get("tools") or []
    found = json_of(tools, "tools") if isinstance(tools, str) else tools
    if not isinstance(found, list) or any(not isinstance(tool, Mapping) for tool in found):
        raise RowFault("tools are no list of objects", str(found)[:80])
    return found


def call_of(call: Any, call_id: str) -> ToolCall:
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise RowFault("a call without a name", str(call)[:80])
    arguments = call.get("arguments") or {}
    decoded = json_of(arguments, "arguments") if isinstance(arguments, str) else arguments
    if not isinstance(decoded, Mapping):
        raise RowFault("arguments are no object", str(decoded)[:80])
    return ToolCall(id=call_id, name=call["name"], arguments=decoded)


def json_of(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RowFault(f"{what} is not JSON", f"{error.msg} in {text[:60]!r}") from None
