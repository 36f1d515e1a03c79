"""Plain text files as documents: checked first, then read in pieces, so that memory stays bounded whatever the file holds.

A text file is no unit of meaning: one file may be a whole library. A file longer than a piece is cut at the last blank line before the limit, else at the last
line end, else at the last space, else between two characters; nothing of the text is lost. Accepted is UTF-8, with or without a byte-order mark.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from herdling.base.records import open_binary
from herdling.data.rows import reading

TEXT_ENDINGS = (".txt", ".md")
BLOCK_BYTES = 2**20
_OTHER_UNICODE = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16", codecs.BOM_UTF32_BE: "UTF-32"}


def text_fault(path: Path) -> tuple[str, str] | None:
    """Return (reason, where and what) when a file is no UTF-8 text, else None. Reads it once, in blocks.

    Raises:
        DataError: the file is missing, or its compression is damaged.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    for block in _blocks(path):
        if offset == 0 and (other := next((name for mark, name in _OTHER_UNICODE.items() if block.startswith(mark)), None)):
            return "not UTF-8", f"{path}: byte 0: the file is {other}; accepted is UTF-8"
        if b"\0" in block:
            return "binary file", f"{path}: byte {offset + block.index(0):,} is 0, which no text holds"
        waiting = len(decoder.getstate()[0])
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            return _not_utf8(path, offset - waiting + error.start, error)
        offset += len(block)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return _not_utf8(path, offset - len(error.object), error)
    return None


def _not_utf8(path: Path, offset: int, error: UnicodeDecodeError) -> tuple[str, str]:
    return "not UTF-8", f"{path}: byte {offset:,} is {error.object[error.start]:#04x} ({error.reason}); accepted is UTF-8"


def read_pieces(path: Path, piece_chars: int) -> Iterator[str]:
    """Yield the text of a checked file in pieces of at most `piece_chars` characters; joined they are the file, less its byte-order mark."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    text = ""
    for block in _blocks(path):
        text += decoder.decode(block)
        if len(text) > piece_chars:
            *pieces, text = cut_text(text, piece_chars)
            yield from pieces
    text += decoder.decode(b"", final=True)
    yield from cut_text(text, piece_chars)


def cut_text(text: str, limit: int) -> list[str]:
    """Cut a text into pieces of at most `limit` characters, at blank lines where there are any. Joined, the pieces are the text."""
    pieces = []
    start = 0
    while len(text) - start > limit:
        end = _best_cut(text, start, start + limit)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def _best_cut(text: str, start: int, end: int) -> int:
    # A cut in the first half would make slivers: rather cut at a weaker border further on.
    for border in ("\n\n", "\n", " "):
        found = text.rfind(border, start + (end - start) // 2, end)
        if found >= 0:
            return found + len(border)
    return end


def _blocks(path: Path) -> Iterator[bytes]:
    with reading(path), open_binary(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
