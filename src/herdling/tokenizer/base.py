"""What every tokenizer here can do, and the fingerprint that says when two of them mean the same.

Text goes in as plain text, always: `<|eot_id|>` or `</s>` typed by a user is encoded letter by letter, and only our own code places special tokens.
Round trip: `decode(encode(text)) == text` for every text that UTF-8 can hold (for Meta's own Llama 2 file with one exception, see `sentencepiece.py`).
Bytes that are not UTF-8 may travel as text too, in Python's own way: read them with `errors="surrogateescape"`, each stands as one byte token, and
`decode_bytes` or `decode(..., errors="surrogateescape")` gives them back. Any other lone surrogate is no text and an error.
Reads and writes nothing, imports no torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from herdling.base.errors import TokenizerError

Family = Literal["llama2", "llama3"]
Ids = NDArray[np.uint32]

_RAW_BYTES = re.compile("([\udc80-\udcff]+)")
_SURROGATE = re.compile("[\ud800-\udfff]")


class SavedChat(Protocol):
    """What a saved tokenizer says about chat: the Jinja template, and the token that ends an assistant turn."""

    @property
    def template(self) -> str: ...
    @property
    def end_of_turn_id(self) -> int: ...


class Tokenizer(Protocol):
    """Text to token ids and back. `vocab_size` counts special tokens: it is the number of embedding rows."""

    @property
    def family(self) -> Family: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int:
        """The token that begins a text."""
        ...

    @property
    def eos_id(self) -> int:
        """The token that ends a text. A chat turn ends with `ChatFormat.end_of_turn_id`."""
        ...

    @property
    def pad_id(self) -> int:
        """The padding token, never the one that ends a text; -1 where the family has none (Llama 1 and 2)."""
        ...

    @property
    def special_ids(self) -> Mapping[str, int]: ...
    @property
    def fingerprint(self) -> str:
        """Equal for equal ids of every text, whichever file form it was read from."""
        ...

    def encode(self, text: str, bos: bool = False, eos: bool = False) -> list[int]:
        """Return the ids of plain text, with `bos_id` before and `eos_id` after on demand."""
        ...

    def encode_batch(self, texts: Sequence[str], threads: int | None = None) -> list[Ids]:
        """Return the ids of each text, without bos and eos, as uint32 arrays. `threads` None: as many as help."""
        ...

    def encode_parts(self, parts: Sequence[str]) -> tuple[list[int], list[int]]:
        """Encode the joined parts as one text; return the ids, and for each the part that its last byte comes from."""
        ...

    def encode_rendered(self, text: str) -> list[int]:
        """Encode what a chat template rendered: here, and only here, names of special tokens become special tokens."""
        ...

    def decode(self, ids: Iterable[int], skip_special: bool = True, errors: str = "replace") -> str:
        """Return the text of ids, without special tokens or with their names. `errors` is for bytes that are no UTF-8."""
        ...

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the exact bytes of ids, special tokens left out."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that one token stands for inside a text; none for a special token."""
        ...

    def token_text(self, token_id: int) -> str:
        """Return one token for display: part of a character is written as `\\xe2`, a special token by its name."""
        ...

    def save(self, folder: Path, chat: SavedChat | None = None) -> None:
        """Write the native model file, tokenizer.json and tokenizer_config.json; with `chat`, its template and end of turn."""
        ...


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that decides the ids, in a form that each file of a tokenizer can be reduced to.

    `tokens` in the order of ids: byte tokens in hex for llama3, pieces for llama2. `rule` is how text is cut or normalised before merging.
    `merge_order` lists the ids of merged tokens by priority where that is not the order of the ids.
    """

    family: Family
    rule: str
    tokens: tuple[str, ...]
    special: Mapping[str, int]
    merge_order: tuple[int, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The SHA-256 over everything here."""
        special = sorted(self.special.items(), key=lambda item: item[1])
        return sha256(json.dumps([self.family, self.rule, self.tokens, special, self.merge_order]).encode()).hexdigest()


def order_if_needed(ids: Sequence[int]) -> tuple[int, ...]:
    """Return merge priorities as `Vocabulary` records them: nothing when they are simply the order of the ids."""
    return () if all(a < b for a, b in pairwise(ids)) else tuple(ids)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_ids(ids: Iterable[int]) -> list[int]:
    """Return ids as a list of Python integers, from a list, an array or a tensor."""
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)


def split_raw_bytes(text: str) -> list[str | bytes]:
    """Cut text into proper text (str) and bytes that stand in it as escaped surrogates.

    Raises:
        TokenizerError: another lone surrogate, with its position: it stands for nothing.
    """
    pieces: list[str | bytes] = []
    for index, piece in enumerate(_RAW_BYTES.split(text)):
        if index % 2:
            pieces.append(piece.encode("utf-8", "surrogateescape"))
        elif found := _SURROGATE.search(piece):
            position = sum(map(len, pieces)) + found.start()
            raise TokenizerError(
                f"text: character {position} is the lone surrogate U+{ord(found.group()):04X}, which no UTF-8 text holds. Read bytes with"
                " errors='surrogateescape' to keep them, or with errors='replace'"
            )
        else:
            pieces.append(piece)
    return pieces


def parts_of_tokens(token_lengths: Sequence[int], part_lengths: Sequence[int]) -> list[int]:
    """Say for each token which part its last byte lies in. Both lengths are in bytes of the joined parts."""
    ends = np.cumsum(np.asarray(token_lengths, dtype=np.int64))
    limits = np.fromiter(accumulate(part_lengths), dtype=np.int64)
    parts: list[int] = np.searchsorted(limits, ends, side="left").tolist()
    return parts


def show_bytes(data: bytes) -> str:
    """Return bytes as text for display, with `\\xNN` for what is no whole character."""
    return data.decode("utf-8", "backslashreplace")


def unknown_id(token_id: Any, vocab_size: int) -> TokenizerError:
    """Return the error for an id outside the vocabulary."""
    return TokenizerError(f"token id {token_id}: is outside the vocabulary (0 to {vocab_size - 1:,}). The ids come from another tokenizer")
