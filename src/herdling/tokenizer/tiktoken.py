"""Llama 3's tokenizer: byte-level BPE over bytes, encoded by tiktoken (Llama 3, section 3.2).

Reads Meta's `tokenizer.model` (lines of base64 token and rank) and makes tokenizers from ranks trained here. The first ids are the ranks, special tokens
follow. Loading the 128,256 tokens takes about 0.4 s, encoding runs at tiktoken's speed (`benchmarks/bench_tokenizers.py`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import tiktoken

from herdling.base.errors import TokenizerError
from herdling.tokenizer.base import Ids, SavedChat, Vocabulary, as_ids, num_cores, parts_of_tokens, show_bytes, split_raw_bytes, unknown_id
from herdling.tokenizer.export import byte_level_json, write_folder

# An interop constant: llama.cpp and others recognise a Llama 3 tokenizer by this very text.
LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Meta's encoder guards: a text is cut every 400,000 characters, and runs of more than 25,000 spaces or non-spaces are cut too.
MAX_CHARACTERS = 400_000
MAX_RUN = 25_000

_SPACES = re.compile(r"\s+")
_NON_SPACES = re.compile(r"\S+")
_NO_SPECIAL: frozenset[str] = frozenset()


def llama3_special_tokens(count: int, last_named: Literal["<|image|>", ""] = "") -> list[str]:
    """Return the names of `count` special tokens in the order of Llama 3.1 (its published list): 11 named or early reserved ones, then reserved slots."""
    names = [
        "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|step_id|>",
        "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
    ]  # fmt: skip
    names += [last_named] if last_named else []
    return names + [f"<|reserved_special_token_{index}|>" for index in range(2, 2 + count - len(names))]


def guarded(text: str) -> list[str]:
    """Cut a text as Meta's encoder does, so that no pre-token grows without bound; nearly always into one piece."""
    if len(text) <= MAX_RUN:
        return [text]
    pieces: list[str] = []
    for start in range(0, len(text), MAX_CHARACTERS):
        chunk = text[start : start + MAX_CHARACTERS]  # of a shorter text, the text itself
        if cuts := list(_run_cuts(chunk)):
            pieces += [chunk[a:b] for a, b in pairwise([0, *cuts, len(chunk)])]
        else:
            pieces.append(chunk)
    return pieces


def _run_cuts(chunk: str) -> Iterator[int]:
    """Yield where runs of over MAX_RUN spaces or non-spaces are cut. Such a run covers a multiple of MAX_RUN: only those places are looked at."""
    done = 0
    for probe in range(0, len(chunk), MAX_RUN):
        if probe < done:
            continue
        space = chunk[probe].isspace()
        start = probe
        while start > done and chunk[start - 1].isspace() == space:
            start -= 1
        match = (_SPACES if space else _NON_SPACES).match(chunk, probe)
        done = match.end() if match else probe + 1
        yield from range(start + MAX_RUN, done, MAX_RUN)


class _Bpe(Protocol):
    """What we use of tiktoken's compiled part."""

    def encode_ordinary(self, text: str) -> list[int]: ...
    def encode_to_tiktoken_buffer(self, text: str, allowed_special: frozenset[str]) -> bytes: ...
    def decode_bytes(self, ids: list[int]) -> bytes: ...


class TiktokenTokenizer:
    """A Llama 3 tokenizer."""

    family: Literal["llama3"] = "llama3"

    def __init__(self, ranks: Mapping[bytes, int], special_names: Sequence[str], pattern: str = LLAMA3_PATTERN) -> None:
        self.pattern = pattern
        self.special_ids: Mapping[str, int] = {name: len(ranks) + index for index, name in enumerate(special_names)}
        self.vocab_size = len(ranks) + len(special_names)
        self._tokens: list[bytes] = sorted(ranks, key=ranks.__getitem__)
        self._check(ranks)
        self.bos_id = self.special_ids["<|begin_of_text|>"]
        self.eos_id = self.special_ids["<|end_of_text|>"]
        # Llama 3.0 named no padding token; its fifth slot became one in 3.1, and its end of text never serves as padding.
        self.pad_id = self.special_ids.get("<|finetune_right_pad_id|>", self.special_ids.get("<|reserved_special_token_2|>", -1))
        encoding = tiktoken.Encoding("herdling", pat_str=pattern, mergeable_ranks=dict(ranks), special_tokens=dict(self.special_ids))
        self._encoding = encoding
        self._bpe: _Bpe = encoding._core_bpe  # its calls take the same time without Encoding's checks around them
        self._byte_ids = [ranks[bytes([byte])] for byte in range(256)]

    def _check(self, ranks: Mapping[bytes, int]) -> None:
        if [ranks[token] for token in self._tokens] != list(range(len(ranks))):
            raise TokenizerError("tokenizer: ranks are not 0, 1, 2, ... without a gap")
        if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
            raise TokenizerError(f"tokenizer: {len(missing)} of the 256 single bytes are no token, the first is 0x{missing[0]:02X}")
        for name in ("<|begin_of_text|>", "<|end_of_text|>"):
            if name not in self.special_ids:
                raise TokenizerError(f"tokenizer: has no special token {name}, which Llama 3 needs")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Its canonical form."""
        return Vocabulary("llama3", self.pattern, tuple(token.hex() for token in self._tokens), self.special_ids)

    @cached_property
    def fingerprint(self) -> str:
        """The digest of its canonical form."""
        return self.vocabulary.fingerprint

    def encode(self, text: str, bos: bool = False, eos: bool = False) -> list[int]:
        try:
            ids = self._bpe.encode_ordinary(text) if len(text) <= MAX_RUN else self._encode_pieces(guarded(text))
        except UnicodeEncodeError:
            parts = split_raw_bytes(text)
            ids = self._encode_pieces([piece for part in parts for piece in (guarded(part) if isinstance(part, str) else [part])])
        return [self.bos_id] * bos + ids + [self.eos_id] * eos if bos or eos else ids

    def _encode_pieces(self, pieces: Sequence[str | bytes]) -> list[int]:
        ids: list[int] = []
        for piece in pieces:
            ids += self._bpe.encode_ordinary(piece) if isinstance(piece, str) else [self._byte_ids[byte] for byte in piece]
        return ids

    def _encode_array(self, text: str) -> Ids:
        try:
            if len(text) <= MAX_RUN:
                return np.frombuffer(self._bpe.encode_to_tiktoken_buffer(text, _NO_SPECIAL), dtype=np.uint32)
            buffers = [self._bpe.encode_to_tiktoken_buffer(piece, _NO_SPECIAL) for piece in guarded(text)]
            return np.frombuffer(b"".join(buffers), dtype=np.uint32)
        except UnicodeEncodeError:
            return np.array(self.encode(text), dtype=np.uint32)

    def encode_batch(self, texts: Sequence[str], threads: int | None = None) -> list[Ids]:
        threads = threads or num_cores()
        if threads == 1 or len(texts) == 1:
            return list(map(self._encode_array, texts))
        # One task for many texts: a task each costs more than a short text's encoding.
        size = max(1, len(texts) // (threads * 8))
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
        with ThreadPoolExecutor(threads) as pool:
            return [ids for group in pool.map(lambda group: list(map(self._encode_array, group)), groups) for ids in group]

    def encode_parts(self, parts: Sequence[str]) -> tuple[list[int], list[int]]:
        ids = self.encode("".join(parts))
        lengths = [len(self._tokens[token]) for token in ids]
        return ids, parts_of_tokens(lengths, [len(part.encode("utf-8", "surrogateescape")) for part in parts])

    def encode_rendered(self, text: str) -> list[int]:
        return self._encoding.encode(text, allowed_special="all")

    def decode(self, ids: Iterable[int], skip_special: bool = True, errors: str = "replace") -> str:
        data = self.decode_bytes(ids) if skip_special else self._join(as_ids(ids))
        return data.decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        first_special = len(self._tokens)
        return self._join([token for token in as_ids(ids) if not first_special <= token < self.vocab_size])

    def _join(self, ids: list[int]) -> bytes:
        try:
            return self._bpe.decode_bytes(ids)
        except (KeyError, OverflowError):
            raise unknown_id(next(token for token in ids if not 0 <= token < self.vocab_size), self.vocab_size) from None

    def token_bytes(self, token_id: int) -> bytes:
        return self.decode_bytes([token_id])

    def token_text(self, token_id: int) -> str:
        return show_bytes(self._join([token_id]))

    def save(self, folder: Path, chat: SavedChat | None = None) -> None:
        lines = [b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(self._tokens)]
        document = byte_level_json(self._tokens, self.special_ids, self.pattern, self.bos_id)
        # Below original/, where Meta's Hugging Face folders have it: llama.cpp's converter takes a tokenizer.model at the top for SentencePiece.
        write_folder(folder, self, "original/tokenizer.model", b"".join(lines), document, chat)


def read_ranks(data: bytes, where: str) -> dict[bytes, int]:
    """Read the lines of a tiktoken model file.

    Raises:
        TokenizerError: a line that is not base64, space, rank.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise TokenizerError(f"{where}: line {number} is not a base64 token and its rank: {line[:60]!r}") from None
    if not ranks:
        raise TokenizerError(f"{where}: is empty")
    return ranks


def tiktoken_from_bytes(data: bytes, where: str, special_names: Sequence[str] | None = None) -> TiktokenTokenizer:
    """Make a tokenizer from the bytes of a tiktoken model file. It does not name its special tokens: without `special_names` they are Meta's 256."""
    return TiktokenTokenizer(read_ranks(data, where), special_names or llama3_special_tokens(256, "<|image|>"))
