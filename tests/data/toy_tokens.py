"""Small real things for the tests of data: a tokenizer of bytes, its chat format, shards of random documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from herdling.data.token_shards import TokenShards, write_shards
from herdling.types import Dialog, Document, Message


@dataclass
class ByteTokenizer:
    """Bytes are tokens 0 to 255; 256 begins, 257 ends, 258 ends a turn, 259 is a header."""

    vocab_size: int = 260
    bos_id: int = 256
    eos_id: int = 257
    pad_id: int = -1
    fingerprint: str = "bytes"
    family: str = "llama3"
    special_ids: Mapping[str, int] = field(default_factory=dict)

    def encode(self, text: str, bos: bool = False, eos: bool = False) -> list[int]:
        return [self.bos_id] * bos + list(text.encode()) + [self.eos_id] * eos

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        return bytes(int(token) for token in ids if token < 256).decode()


@dataclass
class Encoded:
    ids: tuple[int, ...]
    roles: tuple[object, ...]
    message_index: tuple[int, ...]


class ToyChatFormat:
    """A header token, then the words of a message, then an end of turn; answers end with a trained one."""

    fingerprint = "toy"

    def verify(self, dialog: Dialog, generate: bool = False) -> None:
        """There is no template to differ from."""

    def encode(self, dialog: Dialog, generate: bool = False) -> Encoded:
        from herdling.tokenizer.chat_format import TokenRole

        pieces: list[tuple[int, object, int]] = [(256, TokenRole.BEGIN, 0)]
        for index, message in enumerate(dialog.messages):
            answer = message.role == "assistant"
            pieces.append((259, TokenRole.HEADER, index))
            pieces += [(token, TokenRole.ASSISTANT if answer else TokenRole.USER, index) for token in message.content.encode()]
            pieces.append((258, TokenRole.END if answer else TokenRole.END_OTHER, index))
        return Encoded(*(tuple(part) for part in zip(*pieces, strict=True)))  # type: ignore[arg-type]


def dialog(*turns: str, name: str = "d") -> Dialog:
    """A dialog of user and assistant in turn."""
    roles = ("user", "assistant")
    return Dialog(id=name, messages=tuple(Message(role=roles[index % 2], content=text) for index, text in enumerate(turns)))  # type: ignore[arg-type]


def random_texts(count: int, seed: int = 0, longest: int = 200) -> list[str]:
    generator = np.random.Generator(np.random.PCG64(seed))
    return ["".join(chr(97 + letter) for letter in generator.integers(0, 26, generator.integers(1, longest))) for _ in range(count)]


def make_shards(folder: Path, source: str = "books", count: int = 40, seed: int = 0, longest: int = 200, tokenizer: ByteTokenizer | None = None) -> TokenShards:
    documents = (Document(text=text, id=str(index), source=source) for index, text in enumerate(random_texts(count, seed, longest)))
    return write_shards(folder / f"{source}.train", source, documents, tokenizer or ByteTokenizer())
