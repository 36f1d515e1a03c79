"""Typed values to lines of JSON and back; `.jsonl`, `.jsonl.gz` and `.jsonl.zst` by the file's ending.

Files are written beside and renamed, so a reader never meets half a file. Reading names the file and line of any fault.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast, get_args

from herdling.base.artifact import beside
from herdling.base.errors import DataError, MissingExtraError
from herdling.types import Dialog, Document, Message, Question, Supervised, ToolCall

ROLES = ("system", "user", "assistant", "tool")
SUPERVISED = get_args(Supervised)


def open_binary(path: Path, mode: str) -> IO[bytes]:
    """Open a file for bytes ("rb" or "wb"), unpacking or packing `.gz` and `.zst` on the way."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(path, mode, mtime=0) if mode == "wb" else gzip.open(path, mode))
    if path.suffix == ".zst":
        try:
            import pyarrow
        except ImportError:
            raise MissingExtraError("pyarrow", "data", f"Opening {path}") from None
        if mode == "wb":
            return cast(IO[bytes], io.BufferedWriter(pyarrow.CompressedOutputStream(str(path), "zstd")))
        return io.BufferedReader(pyarrow.CompressedInputStream(str(path), "zstd"))
    return path.open(mode)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as lines of JSON, atomically. Returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    # The compression is told by the ending, which the name beside carries too.
    with beside(path) as partial, io.TextIOWrapper(open_binary(partial, "wb"), encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, row). Blank lines are skipped.

    Raises:
        DataError: the file is missing or cut short, a line is no JSON object, or is not UTF-8.
    """
    number = 0
    try:
        with open_binary(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _json_row(line, path, number)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (EOFError, zlib.error, OSError) as error:
        if path.suffix not in (".gz", ".zst"):
            raise
        raise DataError(f"{path}: the compressed file is damaged or cut short after line {number:,} ({error}). Fetch or make it again") from None


def _json_row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number:,}: not UTF-8 at byte {error.start} of the line") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number:,}: not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number:,}: found {type(row).__name__}, expected a JSON object")
    return row


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row in a single write, so that a kill leaves whole lines or none."""
    data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def document_to_row(document: Document) -> dict[str, Any]:
    """Return a document as plain data."""
    return {"text": document.text, "id": document.id, "source": document.source, "metadata": dict(document.metadata)}


def document_from_row(row: Mapping[str, Any], where: str) -> Document:
    """Read a document. Raises `DataError` naming `where` when a field is missing."""
    try:
        return Document(text=row["text"], id=row["id"], source=row["source"], metadata=row.get("metadata", {}))
    except KeyError as error:
        raise DataError(f"{where}: no field {error}; found {', '.join(row)}") from None


def message_to_row(message: Message) -> dict[str, Any]:
    """Return a message as plain data, in OpenAI's field names; empty fields are left out."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        row["tool_calls"] = [{"id": call.id, "name": call.name, "arguments": dict(call.arguments)} for call in message.tool_calls]
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    if message.tags:
        row["tags"] = list(message.tags)
    return row


def message_from_row(row: Mapping[str, Any], where: str) -> Message:
    """Read a message. Raises `DataError` naming `where` when its role, content or tags are none of ours."""
    role, content = row.get("role"), row.get("content")
    if role not in ROLES:
        raise DataError(f"{where}: role is {role!r}, accepted: {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise DataError(f"{where}: content is {type(content).__name__}, expected text")
    tags = row.get("tags") or ()
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise DataError(f"{where}: tags are {tags!r}, expected a list of texts")
    calls = tuple(ToolCall(id=call.get("id", ""), name=call["name"], arguments=call.get("arguments", {})) for call in row.get("tool_calls", ()))
    return Message(role=role, content=content, tool_calls=calls, tool_call_id=row.get("tool_call_id"), tags=tuple(tags))


def dialog_to_row(dialog: Dialog) -> dict[str, Any]:
    """Return a dialog as plain data."""
    row: dict[str, Any] = {"id": dialog.id, "messages": [message_to_row(message) for message in dialog.messages]}
    if dialog.tools:
        row["tools"] = [dict(tool) for tool in dialog.tools]
    if dialog.supervised != "all":
        row["supervised"] = dialog.supervised
    return row


def dialog_from_row(row: Mapping[str, Any], where: str) -> Dialog:
    """Read a dialog in our own form. Raises `DataError` naming `where`."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: no messages; found the fields {', '.join(row)}")
    read = tuple(message_from_row(message, f"{where}, message {index}") for index, message in enumerate(messages, start=1))
    supervised = row.get("supervised", "all")
    if supervised not in SUPERVISED:
        raise DataError(f"{where}: supervised is {supervised!r}, accepted: {', '.join(SUPERVISED)}")
    return Dialog(id=str(row.get("id", where)), messages=read, tools=tuple(row.get("tools", ())), supervised=supervised)


def question_to_row(question: Question) -> dict[str, Any]:
    """Return a checkable question as plain data."""
    accepted = list(question.accepted)
    return {"id": question.id, "group": question.group, "rule": question.rule, "accepted": accepted, "dialog": dialog_to_row(question.dialog)}


def question_from_row(row: Mapping[str, Any], where: str) -> Question:
    """Read a checkable question. Raises `DataError` naming `where`."""
    try:
        dialog = dialog_from_row(row["dialog"], where)
        return Question(id=row["id"], group=row["group"], dialog=dialog, accepted=tuple(row["accepted"]), rule=row["rule"])
    except KeyError as error:
        raise DataError(f"{where}: no field {error}; found {', '.join(row)}") from None
