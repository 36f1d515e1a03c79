"""Documents from where the user keeps them: files, folders, globs, and `hf:org/name`.

Reads `.txt` and `.md` (a file is a document, long ones are cut), `.jsonl`, `.json` and `.parquet` (a row is a document), all but parquet also as `.gz` and
`.zst`. What is no text is set aside in the ledger with its place; what names nothing at all is an error. Does no cleaning, splitting or deduplication.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from herdling.base.artifact import file_fingerprint, value_fingerprint
from herdling.base.decode import settings
from herdling.base.errors import DataError, did_you_mean
from herdling.base.ledger import Ledger
from herdling.data.rows import HUB_PREFIX, ROW_ENDINGS, Row, ending, read_hub_rows, read_rows
from herdling.data.text_files import TEXT_ENDINGS, cut_text, read_pieces, text_fault
from herdling.types import Document

ACCEPTED_ENDINGS = (*TEXT_ENDINGS, *ROW_ENDINGS)
# A row's text is one document up to here; beyond, it is cut like a text file. Tokenizers slow down on single texts of many megabytes.
MAX_DOCUMENT_CHARS = 4 * 2**20

# A second run must say within a second or two that all is done, so large corpora are told by sizes and times.
MAX_HASHED_BYTES = 2**30


@settings
class SourceConfig:
    """One source of documents."""

    path: str
    """A file, a folder (read with its subfolders), a glob such as `corpus/**/*.md`, `hf:org/name` (or `hf:org/name:subset`), or `starter:NAME`."""
    text_column: str = "text"
    """The field of a `.jsonl`, `.json` or `.parquet` row that holds the text."""
    piece_chars: int = 65_536
    """Plain text files longer than this many characters are cut, at blank lines where there are any, into documents of at most this length."""


def find_files(spec: str, ledger: Ledger) -> list[Path]:
    """Return the readable files that a path, folder or glob names, sorted. Other files of a folder are counted as `files passed over`.

    Raises:
        DataError: nothing is there, or a single file has an ending that we do not read.
    """
    path = Path(spec).expanduser()
    if path.is_file():
        if ending(path) not in ACCEPTED_ENDINGS:
            raise DataError(f"{path}: the ending {path.suffix!r} is not one that we read; accepted: {', '.join(ACCEPTED_ENDINGS)}, also with .gz or .zst")
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)]
    elif any(mark in spec for mark in "*?["):
        found = [file for file in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))) if file.is_file()]
    else:
        nearest = did_you_mean(path.name, [item.name for item in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"{path}: no such file or folder{nearest}")
    files = sorted(file for file in found if ending(file) in ACCEPTED_ENDINGS)
    if not files:
        raise DataError(f"{spec}: none of its {len(found):,} files has an ending that we read ({', '.join(ACCEPTED_ENDINGS)}, also with .gz or .zst)")
    if len(found) > len(files):
        ledger.count("files passed over", len(found) - len(files))
    return files


def read_documents(spec: str, source: str, ledger: Ledger, *, text_column: str = "text", piece_chars: int = 65_536) -> Iterator[Document]:
    """Yield the documents of one source in a fixed order, counting rows (or text files) read and set aside. The caller counts what it keeps.

    Raises:
        DataError: nothing to read at `spec`, a damaged file, or a file whose first row lacks the text column.
    """
    if spec.startswith(HUB_PREFIX):
        yield from _documents_of_rows(read_hub_rows(spec, ledger), source, ledger, text_column, spec)
        return
    files = find_files(spec, ledger)
    root = files[0].parent if len(files) == 1 else Path(spec).expanduser()
    for file in files:
        name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()
        if ending(file) in TEXT_ENDINGS:
            yield from _documents_of_text(file, name, source, ledger, piece_chars)
        else:
            yield from _documents_of_rows(read_rows(file, ledger, (text_column,)), source, ledger, text_column, name)


def _documents_of_text(path: Path, name: str, source: str, ledger: Ledger, piece_chars: int) -> Iterator[Document]:
    fault = text_fault(path)
    if fault is not None:
        ledger.read()
        ledger.drop(*fault)
        return
    index = 0
    for index, piece in enumerate(read_pieces(path, piece_chars)):
        ledger.read()
        if piece.strip():
            yield Document(text=piece, id=f"{name}#{index}", source=source)
        else:
            ledger.drop("empty", f"{path}, piece {index}: nothing but white space")
    ledger.count("text files")
    if index:
        ledger.count("text files cut into pieces")


def _documents_of_rows(rows: Iterator[Row], source: str, ledger: Ledger, text_column: str, name: str) -> Iterator[Document]:
    seen = False
    for index, (where, row) in enumerate(rows):
        text = row.get(text_column)
        if text_column not in row and not seen:  # the first row tells whether the setting fits; later ones may just be bad
            raise DataError(f"{where}: no column {text_column!r}; found: {', '.join(row)}. Name the one that holds the text with text_column")
        seen = True
        fault = _row_fault(text, row, text_column)
        if fault:
            ledger.drop(fault, f"{where}: found the fields {', '.join(row)}" if text_column not in row else f"{where}: {str(text)[:40]!r}")
            continue
        document_id = str(row["id"]) if isinstance(row.get("id"), str | int) else f"{name}:{index}"
        pieces = cut_text(str(text), MAX_DOCUMENT_CHARS)
        if len(pieces) > 1:
            ledger.count("rows cut into pieces")
            ledger.read(len(pieces) - 1)
        for number, piece in enumerate(pieces):
            yield Document(text=piece, id=document_id if len(pieces) == 1 else f"{document_id}#{number}", source=source)


def _row_fault(text: Any, row: Mapping[str, Any], text_column: str) -> str:
    if text_column not in row:
        return f"no column {text_column!r}"
    if not isinstance(text, str):
        return f"column {text_column!r} is not text"
    if not text.strip():
        return "empty"
    return "" if is_unicode(text) else "not valid Unicode"


def is_unicode(text: str) -> bool:
    """Say whether a text can be encoded: JSON may spell half of a surrogate pair, which no encoding of text can hold."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def files_fingerprint(spec: str) -> str:
    """Return the digest of all that a path, folder or glob names: by contents up to `MAX_HASHED_BYTES` in all, by sizes and times beyond.

    A hub dataset is told by its name alone. Raises `DataError` when nothing is there.
    """
    if spec.startswith(HUB_PREFIX):
        return value_fingerprint(spec)
    files = [(file, file.stat()) for file in find_files(spec, Ledger("fingerprint"))]
    if sum(stat.st_size for _, stat in files) <= MAX_HASHED_BYTES:
        return value_fingerprint([[file.as_posix(), file_fingerprint(file)] for file, _ in files])
    return value_fingerprint([[file.as_posix(), stat.st_size, stat.st_mtime_ns] for file, stat in files])
