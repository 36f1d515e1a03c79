"""The text of a tool call as Llama 3.1 writes it, and back (its published prompt format).

Custom tools: `{"name": ..., "parameters": {...}}`. Built-in tools, behind the python tag: `brave_search.call(query="...")`, or bare code for the interpreter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from herdling.base.errors import FormatError
from herdling.tokenizer.chat_templates import CODE_INTERPRETER
from herdling.types import Message, ToolCall

_BUILT_IN_CALL = re.compile(r"(brave_search|wolfram_alpha)\.call\((.*)\)\s*", re.DOTALL)
_ARGUMENT = re.compile(r'\s*(\w+)=("(?:[^"\\]|\\.)*"|[^\s,"]+)\s*(?:,|$)', re.DOTALL)


def tool_name(tool: Mapping[str, Any]) -> str:
    """Return the name of a tool's JSON schema, given bare or as `{"type": "function", "function": {...}}`."""
    return str(tool.get("function", tool).get("name", ""))


def write(call: ToolCall, built_in: Iterable[str]) -> str:
    """Return the text of a call, without the special tokens around it."""
    if call.name not in built_in:
        return f'{{"name": {_json(call.name)}, "parameters": {_json(dict(call.arguments))}}}'
    if call.name == CODE_INTERPRETER:
        return str(call.arguments["code"])
    return f"{call.name}.call({', '.join(f'{key}={_json(value)}' for key, value in call.arguments.items())})"


def parse(text: str, tagged: bool) -> ToolCall | None:
    """Read the text of an assistant's message as a call, if it is one. `tagged`: it stood behind the python tag."""
    if tagged:
        if (match := _BUILT_IN_CALL.fullmatch(text)) and (arguments := _arguments(match[2])) is not None:
            return ToolCall(id="call_0", name=match[1], arguments=arguments)
        if call := _json_call(text):
            return call
        return ToolCall(id="call_0", name=CODE_INTERPRETER, arguments={"code": text})
    return _json_call(text)


def check(message: Message, where: str) -> None:
    """Refuse a message with calls that Llama 3.1 cannot write."""
    if message.role != "assistant":
        raise FormatError(f"{where}: only the assistant calls tools")
    if len(message.tool_calls) != 1:
        raise FormatError(f"{where}: makes {len(message.tool_calls)} tool calls, Llama 3.1 makes one a message. Split it into several")
    if message.content.strip():
        raise FormatError(f"{where}: has text beside its tool call, which Llama 3.1 cannot write. Put the text elsewhere or drop it")
    call = message.tool_calls[0]
    if call.name == CODE_INTERPRETER and set(call.arguments) != {"code"}:
        raise FormatError(f"{where}: calls {CODE_INTERPRETER} with {sorted(call.arguments)}; it takes `code`")


def _json_call(text: str) -> ToolCall | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if isinstance(found, dict) and set(found) - {"type"} == {"name", "parameters"} and isinstance(found["name"], str) and isinstance(found["parameters"], dict):
        return ToolCall(id="call_0", name=found["name"], arguments=found["parameters"])
    return None


def _arguments(text: str) -> dict[str, Any] | None:
    """Read `a="x", b=2`. None where it is something else."""
    arguments: dict[str, Any] = {}
    place = 0
    while place < len(text):
        match = _ARGUMENT.match(text, place)
        if match is None:
            return None
        try:
            arguments[match[1]] = json.loads(match[2])
        except ValueError:
            return None
        place = match.end()
    return arguments


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
