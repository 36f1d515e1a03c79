"""Token shards: the documents of one source as one memory-mapped array of token ids, with the borders of the documents.

A folder holds `tokens.bin` (little-endian, 16 bits a token while the vocabulary allows it, else 32), `ends.npy` (int64, where each document ends),
`text_bytes.npy` (int64, UTF-8 bytes of each document's text, for bits per byte) and `shard.json` (counts, digest, the tokenizer's fingerprint). Every document
is BOS + its text + EOS: [code] Llama begins each text with BOS, and the EOS is what teaches a base model to end. Written beside, then renamed. Reading costs
no memory but the borders: 16 bytes a document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from herdling.base.artifact import beside, remove, write_json_atomic
from herdling.base.errors import DataError, LineageError
from herdling.types import Document

if TYPE_CHECKING:
    from herdling.tokenizer.base import Tokenizer

SHARD_FORMAT = 1
TOKENS, ENDS, TEXT_BYTES, RECORD = "tokens.bin", "ends.npy", "text_bytes.npy", "shard.json"
# Documents are handed to the tokenizer in portions of about this many characters: enough for its threads, little memory.
PORTION_CHARS = 4 * 2**20
TRAIN, VALIDATION = "train", "validation"


class TokenShards:
    """The documents of one source and one split, as token ids. Opening checks sizes; `tokens` stays on disk.

    Raises:
        DataError: the folder is no finished shard, or its sizes do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{folder}: is no token shard (it has no {RECORD}). Make it with the stage tokenize") from None
        except json.JSONDecodeError as error:
            raise DataError(f"{folder / RECORD}: is damaged ({error}). Make it again with the stage tokenize") from None
        if self.record.get("format") != SHARD_FORMAT:
            raise DataError(f"{folder}: has shard format {self.record.get('format')!r}, this version of herdling reads {SHARD_FORMAT}")
        self.source = str(self.record["source"])
        self.num_tokens = int(self.record["num_tokens"])
        self.num_documents = int(self.record["num_documents"])
        self.num_bytes = int(self.record["num_bytes"])
        self.tokenizer = str(self.record["tokenizer"])
        self.fingerprint = str(self.record["fingerprint"])
        dtype = np.dtype(self.record["dtype"])
        path = folder / TOKENS
        if not path.is_file() or path.stat().st_size != self.num_tokens * dtype.itemsize:
            raise DataError(f"{path}: is missing or cut short, expected {self.num_tokens * dtype.itemsize:,} bytes. Make it again with the stage tokenize")
        self.tokens: NDArray[Any] = np.memmap(path, dtype=dtype, mode="r") if self.num_tokens else np.empty(0, dtype)
        self.ends: NDArray[np.int64] = np.load(folder / ENDS)
        if len(self.ends) != self.num_documents or (self.num_documents and self.ends[-1] != self.num_tokens):
            raise DataError(f"{folder / ENDS}: does not fit {TOKENS}. Make it again with the stage tokenize")

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each document begins, `[num_documents]`."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]]) if self.num_documents else self.ends

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, BOS and EOS included, `[num_documents]`."""
        return self.ends - self.starts

    @cached_property
    def text_bytes(self) -> NDArray[np.int64]:
        """UTF-8 bytes of each document's text, `[num_documents]`."""
        loaded: NDArray[np.int64] = np.load(self.folder / TEXT_BYTES)
        return loaded

    def document(self, index: int) -> NDArray[Any]:
        """Return the ids of one document, BOS and EOS included."""
        return self.tokens[self.starts[index] : self.ends[index]]

    def check_tokenizer(self, fingerprint: str) -> None:
        """Raise `LineageError` unless these tokens were made by the tokenizer with this fingerprint."""
        if self.tokenizer != fingerprint:
            raise LineageError(
                f"{self.folder}: its tokens were made by the tokenizer {self.tokenizer[:12]}, the model's is {fingerprint[:12]}."
                " The same ids mean other texts: run the stage tokenize again with the model's tokenizer"
            )


def finished_shards(folder: Path, *, tokenizer: str, made_from: str) -> TokenShards | None:
    """Return the shards in a folder if they are whole and were made by this tokenizer from a file of this digest, else None."""
    try:
        shards = TokenShards(folder)
    except DataError:
        return None
    return shards if shards.tokenizer == tokenizer and shards.record["made_from"] == made_from else None


def write_shards(folder: Path, source: str, documents: Iterable[Document], tokenizer: Tokenizer, *, made_from: str = "") -> TokenShards:
    """Encode documents as BOS + text + EOS and write one shard folder, atomically. Documents keep their order; `made_from` is recorded.

    A tokenizer that has no BOS or EOS (id -1) adds none. Memory is one portion of documents and 16 bytes a document.
    """
    dtype = np.dtype("<u2") if tokenizer.vocab_size <= 2**16 else np.dtype("<u4")
    lengths: list[int] = []
    text_bytes: list[int] = []
    folder.parent.mkdir(parents=True, exist_ok=True)
    with beside(folder) as partial:
        remove(partial)
        partial.mkdir()
        with (partial / TOKENS).open("wb") as file:
            digest = hashlib.sha256(tokenizer.fingerprint.encode())
            for portion in _portions(documents):
                lengths += _write_portion(file, digest, portion, tokenizer, dtype)
                text_bytes += [len(document.text.encode()) for document in portion]
        ends = np.cumsum(np.array(lengths, np.int64))
        np.save(partial / ENDS, ends)
        np.save(partial / TEXT_BYTES, np.array(text_bytes, np.int64))
        digest.update(ends.tobytes())
        record = {
            "format": SHARD_FORMAT,
            "source": source,
            "dtype": dtype.str,
            "num_tokens": int(ends[-1]) if len(ends) else 0,
            "num_documents": len(ends),
            "num_bytes": sum(text_bytes),
            "tokenizer": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "made_from": made_from,
            "fingerprint": digest.hexdigest(),
        }
        write_json_atomic(partial / RECORD, record)
        remove(folder)
    return TokenShards(folder)


def _write_portion(file: IO[bytes], digest: Any, portion: list[Document], tokenizer: Tokenizer, dtype: np.dtype[Any]) -> list[int]:
    """Encode and append one portion; return the token counts of its documents."""
    begin, end = ([token] if token >= 0 else [] for token in (tokenizer.bos_id, tokenizer.eos_id))
    encoded = [np.asarray(ids, np.int64) for ids in tokenizer.encode_batch([document.text for document in portion])]
    flat = np.concatenate([part for ids in encoded for part in (begin, ids, end)]).astype(np.int64)
    assert flat.max(initial=0) < tokenizer.vocab_size, "the tokenizer made an id beyond its own vocabulary"
    data = flat.astype(dtype).tobytes()
    file.write(data)
    digest.update(data)
    return [len(begin) + len(ids) + len(end) for ids in encoded]


def _portions(documents: Iterable[Document]) -> Iterator[list[Document]]:
    portion: list[Document] = []
    size = 0
    for document in documents:
        portion.append(document)
        size += len(document.text)
        if size >= PORTION_CHARS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def open_shards(folder: Path, split: str, *, tokenizer: str) -> dict[str, TokenShards]:
    """Open every source of a tokens artifact: source -> its shard of this split, sources sorted by name; empty ones are left out.

    Raises:
        DataError: there is no shard of this split.
        LineageError: a shard was made by another tokenizer than the one with the fingerprint `tokenizer`.
    """
    found = sorted(path.parent for path in folder.glob(f"*.{split}/{RECORD}"))
    shards = [TokenShards(path) for path in found]
    for shard in shards:
        shard.check_tokenizer(tokenizer)
    filled = {shard.source: shard for shard in shards if shard.num_tokens}
    if not filled:
        raise DataError(f"{folder}: holds no tokens of the split {split!r}. Run the stage tokenize on data that has some")
    return filled


def has_tokens(folder: Path, split: str) -> bool:
    """Say whether a tokens artifact has any token of this split: data prepared with `validation_share = 0` holds nothing out."""
    return any(path.stat().st_size for path in folder.glob(f"*.{split}/{TOKENS}"))
