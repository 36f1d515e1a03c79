"""Dialogs to token ids with a role for every token, and generated ids back to a message (Llama 2, section 3.1; Llama 3, section 4.1.1).

A format turns a dialog into pieces of text, each with its role and the message it belongs to; special tokens are pieces that only this file can make, so
what a user types is text whatever it looks like. Text between two special tokens is encoded as one, and each token takes the role of its last byte. Loss
masks are questions about roles: SFT trains `ASSISTANT` and `END`. A token that ends an assistant's turn is always `END`, so it is always learned.

The ids are those of the Jinja template in the exported folder: `verify` renders it and compares, and stages call it on each shape of dialog they meet.
Formats: `llama2`, `llama3`, and `llama3.1`, which equals `llama3` on dialogs without tools. With tools it opens with the block of environment and dates,
lists custom tools in the first user message, and writes a call as JSON; tools named brave_search, wolfram_alpha or code_interpreter are the built-in ones,
called behind `<|python_tag|>`, and then every call ends with `<|eom_id|>`: the turn goes on with the tool's result.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from herdling.base.artifact import text_fingerprint
from herdling.base.errors import FormatError
from herdling.tokenizer import tool_calls
from herdling.tokenizer.base import Tokenizer, as_ids
from herdling.tokenizer.chat_templates import BUILT_IN_TOOLS, CODE_INTERPRETER, DATES, TEMPLATES, TOOLS_PREAMBLE, render
from herdling.types import Dialog, Message

FormatName = Literal["llama2", "llama3", "llama3.1"]

LLAMA2_TAGS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")
HEADER_START, HEADER_END, END_OF_TURN, END_OF_MESSAGE, PYTHON_TAG = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>"


class TokenRole(IntEnum):
    """What a token is doing in a chat."""

    BEGIN = 0
    """The begin-of-text token."""
    HEADER = 1
    """Framing: headers, tags, and the list of tools."""
    SYSTEM = 2
    USER = 3
    TOOL = 4
    """The result of a tool."""
    ASSISTANT = 5
    """What the assistant says or calls: trained."""
    END = 6
    """The token that ends an assistant's turn or message: trained."""
    END_OTHER = 7
    """The token that ends anyone else's."""


_ROLES = {"system": TokenRole.SYSTEM, "user": TokenRole.USER, "assistant": TokenRole.ASSISTANT, "tool": TokenRole.TOOL}
_FOLLOWS = {"": ("user",), "user": ("assistant",), "assistant": ("user",), "call": ("tool",), "tool": ("assistant",)}


class Piece(NamedTuple):
    """A stretch of text, or one special token, with its role and the index of its message."""

    text: str
    role: TokenRole
    message: int
    special: bool = False


@dataclass(frozen=True, slots=True)
class EncodedDialog:
    """A dialog as tokens; the three are equally long. `message_index[i]` is the message of token i; a header to generate from belongs to the next one."""

    ids: tuple[int, ...]
    roles: tuple[TokenRole, ...]
    message_index: tuple[int, ...]


class ChatFormat:
    """One chat format with one tokenizer. Make it with `chat_format`."""

    def __init__(self, tokenizer: Tokenizer, name: FormatName) -> None:
        self.name: FormatName = name
        self.tokenizer = tokenizer
        self.template = TEMPLATES[name]
        self.fingerprint = text_fingerprint(self.template)
        self._names = {index: text for text, index in tokenizer.special_ids.items()}
        self._ids = dict(tokenizer.special_ids)
        self.end_of_turn_id: int = tokenizer.eos_id if name == "llama2" else self._ids[END_OF_TURN]
        stops = {"llama2": [], "llama3": [END_OF_TURN], "llama3.1": [END_OF_MESSAGE, END_OF_TURN]}[name]
        self.stop_ids: tuple[int, ...] = (tokenizer.eos_id, *(self._ids[stop] for stop in stops))

    def encode(self, dialog: Dialog, generate: bool = False) -> EncodedDialog:
        """Return the dialog's tokens; with `generate`, up to where the assistant's next message begins.

        Raises:
            FormatError: roles that do not alternate, an empty message, tools where the format has none, tags inside a Llama 2 text.
        """
        ids: list[int] = []
        roles: list[TokenRole] = []
        messages: list[int] = []
        run: list[Piece] = []
        for piece in (*self._pieces(dialog, generate), None):
            if piece is not None and not piece.special:
                run.append(piece)
                continue
            if run:
                tokens, parts = self.tokenizer.encode_parts([part.text for part in run])
                ids += tokens
                roles += [run[part].role for part in parts]
                messages += [run[part].message for part in parts]
                run = []
            if piece is not None:
                ids.append(self._ids[piece.text])
                roles.append(piece.role)
                messages.append(piece.message)
        return EncodedDialog(tuple(ids), tuple(roles), tuple(messages))

    def verify(self, dialog: Dialog, generate: bool = False) -> None:
        """Check that the exported Jinja template writes this dialog as `encode` does: the same text, and the same ids where a text names no special token.

        Costs a few encodings; meant for one dialog of each shape (`shape_of`).

        Raises:
            FormatError: they differ.
        """
        pieces = list(self._pieces(dialog, generate))
        ours = "".join(piece.text for piece in pieces)
        bos, eos = self._names[self.tokenizer.bos_id], self._names[self.end_of_turn_id]
        theirs = render(self.template, dialog, bos=bos, eos=eos, generate=generate)
        if ours != theirs:
            raise FormatError(f"dialog {dialog.id}: the chat template writes {theirs!r}, we write {ours!r}")
        typed = any(name in piece.text for piece in pieces if not piece.special for name in self._ids)
        if not typed and tuple(self.tokenizer.encode_rendered(theirs)) != self.encode(dialog, generate).ids:
            raise FormatError(f"dialog {dialog.id}: the chat template's text has other token ids than ours: {theirs!r}")

    def parse(self, ids: Iterable[int]) -> Message:
        """Read generated ids, up to the first stop token, as the assistant's message; a call that the format writes comes back as a tool call."""
        found = as_ids(ids)
        end = next((place for place, token in enumerate(found) if token in self.stop_ids), len(found))
        text = self.tokenizer.decode(found[:end]).strip()
        if self.name == "llama3.1":
            tagged = found[:1] == [self._ids[PYTHON_TAG]]
            if call := tool_calls.parse(text, tagged):
                return Message(role="assistant", content="", tool_calls=(call,))
        return Message(role="assistant", content=text)

    def _pieces(self, dialog: Dialog, generate: bool) -> Iterator[Piece]:
        _check(dialog, self.name, generate)
        return self._llama2(dialog) if self.name == "llama2" else self._llama3(dialog, generate)

    def _llama2(self, dialog: Dialog) -> Iterator[Piece]:
        bos, eos = self._names[self.tokenizer.bos_id], self._names[self.tokenizer.eos_id]
        for index, message in enumerate(dialog.messages):
            if message.role == "user":
                yield Piece(bos, TokenRole.BEGIN, index, special=True)
                yield Piece("[INST] ", TokenRole.HEADER, index)
                text = message.content.strip()
                if index and dialog.messages[index - 1].role == "system":
                    yield Piece("<<SYS>>\n", TokenRole.HEADER, index - 1)
                    yield Piece(dialog.messages[index - 1].content, TokenRole.SYSTEM, index - 1)
                    yield Piece("\n<</SYS>>\n\n", TokenRole.HEADER, index - 1)
                    text = message.content.rstrip()  # Meta strips the two together
                yield Piece(text, TokenRole.USER, index)
                yield Piece(" [/INST]", TokenRole.HEADER, index)
            elif message.role == "assistant":
                # Both spaces are the assistant's: after `[/INST]` and before the end it must write them itself.
                yield Piece(f" {message.content.strip()} ", TokenRole.ASSISTANT, index)
                yield Piece(eos, TokenRole.END, index, special=True)

    def _llama3(self, dialog: Dialog, generate: bool) -> Iterator[Piece]:
        yield Piece(self._names[self.tokenizer.bos_id], TokenRole.BEGIN, 0, special=True)
        built_in = [name for tool in dialog.tools if (name := tool_calls.tool_name(tool)) in BUILT_IN_TOOLS]
        custom = [tool for tool in dialog.tools if tool_calls.tool_name(tool) not in BUILT_IN_TOOLS]
        has_system = dialog.messages[0].role == "system"
        if dialog.tools and not has_system:
            yield from self._header("system", 0)
            yield Piece(_environment(built_in), TokenRole.HEADER, 0)
            yield Piece(END_OF_TURN, TokenRole.END_OTHER, 0, special=True)
        for index, message in enumerate(dialog.messages):
            yield from self._header("ipython" if message.role == "tool" else message.role, index)
            if dialog.tools and message.role == "system":
                yield Piece(_environment(built_in), TokenRole.HEADER, index)
            if custom and index == has_system:
                listed = "".join(json.dumps(tool, ensure_ascii=False, indent=4) + "\n\n" for tool in custom)
                yield Piece(TOOLS_PREAMBLE + listed, TokenRole.HEADER, index)
            if message.tool_calls:
                yield from self._call(message, built_in, index)
                continue
            yield Piece(message.content.strip(), _ROLES[message.role], index)
            yield Piece(END_OF_TURN, TokenRole.END if message.role == "assistant" else TokenRole.END_OTHER, index, special=True)
        if generate:
            yield from self._header("assistant", len(dialog.messages))

    def _header(self, role: str, index: int) -> Iterator[Piece]:
        yield Piece(HEADER_START, TokenRole.HEADER, index, special=True)
        yield Piece(role, TokenRole.HEADER, index)
        yield Piece(HEADER_END, TokenRole.HEADER, index, special=True)
        yield Piece("\n\n", TokenRole.HEADER, index)

    def _call(self, message: Message, built_in: list[str], index: int) -> Iterator[Piece]:
        call = message.tool_calls[0]
        if call.name in built_in:
            yield Piece(PYTHON_TAG, TokenRole.ASSISTANT, index, special=True)
        yield Piece(tool_calls.write(call, built_in), TokenRole.ASSISTANT, index)
        yield Piece(END_OF_MESSAGE if built_in else END_OF_TURN, TokenRole.END, index, special=True)


def chat_format(tokenizer: Tokenizer, name: FormatName | None = None) -> ChatFormat:
    """Return a chat format for this tokenizer; without a name, that of its family: `llama2` or `llama3.1`.

    Raises:
        FormatError: an unknown name, or a tokenizer without the special tokens of the format.
    """
    chosen = name or ("llama2" if tokenizer.family == "llama2" else "llama3.1")
    if chosen not in TEMPLATES:
        raise FormatError(f"chat format {chosen!r}: is unknown; accepted: {', '.join(TEMPLATES)}")
    needed = {"llama2": ["<s>", "</s>"], "llama3": [HEADER_START, HEADER_END, END_OF_TURN]}
    needed["llama3.1"] = [*needed["llama3"], END_OF_MESSAGE, PYTHON_TAG]
    if missing := [token for token in needed[chosen] if token not in tokenizer.special_ids]:
        raise FormatError(f"chat format {chosen!r}: needs the special token {missing[0]}, which this {tokenizer.family} tokenizer has not")
    return ChatFormat(tokenizer, chosen)


def format_named_by(template: str) -> FormatName | None:
    """Return the name of the format whose template this is, if it is one of ours."""
    names: dict[str, FormatName] = {TEMPLATES["llama2"]: "llama2", TEMPLATES["llama3"]: "llama3", TEMPLATES["llama3.1"]: "llama3.1"}
    return names.get(template)


def shape_of(dialog: Dialog) -> tuple[Any, ...]:
    """Return what decides how a dialog is framed: dialogs of one shape need `verify` once."""
    tools = Counter(name if (name := tool_calls.tool_name(tool)) in BUILT_IN_TOOLS else "custom" for tool in dialog.tools)
    turns = tuple((message.role, tuple(call.name in BUILT_IN_TOOLS for call in message.tool_calls)) for message in dialog.messages)
    return turns, tuple(sorted(tools.items()))


def _environment(built_in: list[str]) -> str:
    listed = [name for name in built_in if name != CODE_INTERPRETER]
    return "Environment: ipython\n" + (f"Tools: {', '.join(listed)}\n" if listed else "") + DATES


def _check(dialog: Dialog, name: FormatName, generate: bool) -> None:
    """Refuse what a format cannot say, with the place."""
    turns = dialog.messages[1:] if dialog.messages and dialog.messages[0].role == "system" else dialog.messages
    if not turns:
        raise FormatError(f"dialog {dialog.id}: has no user message")
    previous = ""
    for index, message in enumerate(dialog.messages):
        where = f"dialog {dialog.id}, message {index + 1} ({message.role})"
        if index or message.role != "system":
            if message.role not in _FOLLOWS[previous]:
                after = f"after {'a tool call' if previous == 'call' else previous}" if previous else "first"
                raise FormatError(f"{where}: expected {_FOLLOWS[previous][0]} {after}; a system message stands first, then user and assistant alternate")
            previous = "call" if message.tool_calls else message.role
        _check_message(message, name, where, generate)
    if name != "llama3.1" and dialog.tools:
        raise FormatError(f"dialog {dialog.id}: has tools, which the format {name} does not know. Use llama3.1")
    if generate and previous not in ("user", "tool"):
        raise FormatError(f"dialog {dialog.id}: ends with {'a tool call' if previous == 'call' else 'the assistant'}, so there is nothing to answer")


def _check_message(message: Message, name: FormatName, where: str, generate: bool) -> None:
    if name != "llama3.1" and (message.role == "tool" or message.tool_calls):
        raise FormatError(f"{where}: the format {name} has no tools. Use llama3.1")
    if message.tool_calls:
        tool_calls.check(message, where)
    # A model that answered nothing must not end the chat, but is nothing to learn from; a tool may well return nothing.
    elif not message.content.strip() and not (message.role == "tool" or (generate and message.role == "assistant")):
        raise FormatError(f"{where}: is empty")
    if name == "llama2" and (tag := next((tag for tag in LLAMA2_TAGS if tag in message.content), None)):
        raise FormatError(f"{where}: contains {tag}, which frames a Llama 2 chat and could forge a turn")


__all__ = ["ChatFormat", "EncodedDialog", "FormatName", "TokenRole", "chat_format", "format_named_by", "shape_of"]
