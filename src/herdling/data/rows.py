"""Rows of `.jsonl`, `.json` and `.parquet` files and of Hugging Face datasets, each with the place where it stands.

One bad line does not cost the file: it is set aside in the ledger by named reason with file and line. A file that is damaged as a whole (cut short, not what
its ending says) is a `DataError` naming it. Reads one row at a time: memory is bounded by `MAX_LINE_BYTES`, whatever the size of the file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from herdling.base.errors import DataError, MissingExtraError
from herdling.base.ledger import Ledger
from herdling.base.records import open_binary

ROW_ENDINGS = (".jsonl", ".json", ".parquet")
COMPRESSED_ENDINGS = (".gz", ".zst")
# A line is parsed as a whole, so it must fit in memory a few times over.
MAX_LINE_BYTES = 256 * 2**20
HUB_PREFIX = "hf:"

Row = tuple[str, Mapping[str, Any]]


def ending(path: Path) -> str:
    """Return the ending that tells what a file holds, without `.gz` or `.zst`: `a.jsonl.gz` -> `.jsonl`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED_ENDINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_rows(path: Path, ledger: Ledger, columns: tuple[str, ...] = ()) -> Iterator[Row]:
    """Yield (place, row) of one file, counting each row as read. `columns` limits what a parquet file decodes; empty = all.

    Raises:
        DataError: the file is missing, damaged or cut short, has a line over `MAX_LINE_BYTES`, or lacks a column (parquet).
    """
    read = {".jsonl": _read_json_lines, ".json": _read_json_array}.get(ending(path))
    return read(path, ledger) if read else _read_parquet(path, ledger, columns)


@contextmanager
def reading(path: Path, place: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn what a missing or damaged file raises into a `DataError` that names it, and how far reading had come (`place()`)."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and path.suffix not in COMPRESSED_ENDINGS:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        raise damaged(path, place(), error) from None


def damaged(path: Path, place: str, error: object) -> DataError:
    """Return the error for a file that ends early or is not what its ending says."""
    return DataError(f"{path}{place}: the file is damaged or cut short ({error}). Fetch or make it again")


def _read_json_lines(path: Path, ledger: Ledger) -> Iterator[Row]:
    number = 0
    with reading(path, lambda: f", after line {number:,}"), open_binary(path, "rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DataError(f"{path}, line {number:,}: longer than {MAX_LINE_BYTES // 2**20} MiB. Split it into several rows, or name it as .txt")
            if line.strip():
                ledger.read()
                row = _json_object(line, f"{path}, line {number:,}", ledger)
                if row is not None:
                    yield f"{path}, line {number:,}", row


def _json_object(line: bytes, where: str, ledger: Ledger) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        ledger.drop("not UTF-8", f"{where}: byte {error.start:,} of the line is {line[error.start]:#04x}; accepted is UTF-8")
    except json.JSONDecodeError as error:
        ledger.drop("not JSON", f"{where}: {error.msg} at column {error.colno:,}")
    except RecursionError:
        ledger.drop("not JSON", f"{where}: nested too deep")
    else:
        if isinstance(row, dict):
            return row
        ledger.drop("not a JSON object", f"{where}: found {type(row).__name__}")
    return None


def _read_json_array(path: Path, ledger: Ledger) -> Iterator[Row]:
    """Read a `.json` file that holds one array of objects; it is parsed as a whole, so the same bound holds."""
    with reading(path), open_binary(path, "rb") as file:
        data = file.read(MAX_LINE_BYTES + 1)
    if len(data) > MAX_LINE_BYTES:
        raise DataError(f"{path}: larger than {MAX_LINE_BYTES // 2**20} MiB. Write it as .jsonl, one row a line")
    try:
        rows = json.loads(data)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start:,}; accepted is UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno:,}, column {error.colno:,}: not JSON ({error.msg})") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: found a JSON {type(rows).__name__}, expected an array of objects (or name it .jsonl, one object a line)")
    for number, row in enumerate(rows, start=1):
        ledger.read()
        if isinstance(row, dict):
            yield f"{path}, row {number:,}", row
        else:
            ledger.drop("not a JSON object", f"{path}, row {number:,}: found {type(row).__name__}")


def _read_parquet(path: Path, ledger: Ledger, columns: tuple[str, ...]) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "data", f"Reading {path}") from None
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            found = file.schema_arrow.names
            missing = [name for name in columns if name not in found]
            if missing:
                raise DataError(f"{path}: no column {missing[0]!r}; found: {', '.join(found)}. Name the one that holds the text with text_column")
            for table in file.iter_batches(batch_size=256, columns=list(columns) or None):
                for row in table.to_pylist():
                    number += 1
                    ledger.read()
                    yield f"{path}, row {number:,}", row
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise damaged(path, f", after row {number:,}" if number else "", str(error).splitlines()[0]) from None


def read_hub_rows(spec: str, ledger: Ledger, load: Callable[..., Iterable[Mapping[str, Any]]] | None = None) -> Iterator[Row]:
    """Yield (place, row) of `hf:org/name` or `hf:org/name:subset`, its split `train`, streamed. `load` is `datasets.load_dataset`, given in tests.

    Raises:
        MissingExtraError: the library `datasets` is not installed.
        DataError: the dataset cannot be opened; the message carries the library's own reason.
    """
    if load is None:
        try:
            from datasets import load_dataset
        except ImportError:
            raise MissingExtraError("datasets", "hub", f"Reading {spec}") from None
        load = load_dataset
    name, _, subset = spec.removeprefix(HUB_PREFIX).partition(":")
    number = 0
    try:
        for number, row in enumerate(load(name, subset or None, split="train", streaming=True), start=1):
            ledger.read()
            yield f"{spec}, row {number:,}", row
    except Exception as error:  # no tree holds them: a dataset that is a script is a RuntimeError, a lost connection httpx's or aiohttp's own
        reason = next(iter(str(error).splitlines()), "no reason given")
        raise DataError(f"{spec}: cannot be read{f' after row {number:,}' if number else ''} ({type(error).__name__}: {reason})") from error
