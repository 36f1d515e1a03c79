"""Llama 1 and 2's tokenizer: SentencePiece BPE, digits one by one, bytes for what has no piece (LLaMA, section 2.1).

Reads a SentencePiece `.model` file that does not rewrite text, as Meta's does not. A space is written as the piece character U+2581, and one space is put
before each text and taken away when decoding. In Meta's file a U+2581 typed by a user therefore comes back as a space, and its ids must stay so; files
trained here carry a rule that keeps it apart (see `ESCAPES`), and every text comes back as it was.

Speed: no piece reaches from a non-space into a following space, so words are encoded one by one, exactly, and remembered; the library's own threads meet the
new ones (`benchmarks/bench_tokenizers.py`). A file with other pieces is encoded by the library alone, and so is a text with a U+2581 where that is a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sentencepiece

from herdling.base.errors import TokenizerError
from herdling.tokenizer.base import Ids, SavedChat, Vocabulary, as_ids, num_cores, order_if_needed, parts_of_tokens, show_bytes, split_raw_bytes, unknown_id
from herdling.tokenizer.export import SPACE, all_merges, byte_fallback_json, write_folder
from herdling.tokenizer.protobuf import read_message

# What stands for U+2581 in a text: U+FDD0 (a noncharacter) opens a pair, and opens one for itself too, so that nothing is lost.
# Order matters: first U+FDD0, then U+2581; back in reverse.
ESCAPES = (("\ufdd0", "\ufdd0\ufdd2"), (SPACE, "\ufdd0\ufdd1"))

# Field numbers of sentencepiece_model.proto.
PIECES, TRAINER, NORMALIZER, DENORMALIZER = 1, 2, 3, 5
MODEL_TYPE, BPE = 3, 2
CHARSMAP, DUMMY_PREFIX, EXTRA_SPACES, RULE_FILE = 2, 3, 4, 6
# Protocol buffers merge a message that appears twice, the later field wins: this turns the added space off.
_NO_DUMMY_PREFIX = bytes([NORMALIZER << 3 | 2, 2, DUMMY_PREFIX << 3, 0])

_WORDS = re.compile(" *[^ ]+| +")
_CROSSING = re.compile(f"[^{SPACE}]{SPACE}", re.DOTALL)
_MAX_SIZE = 64 << 20
_ENTRY = 200  # bytes that a remembered word takes beside its characters, about
_WORDS_A_CALL = 32
_CALLS_FOR_THREADS = 32
_CHARACTERS_A_TURN = 400_000


class _Words:
    """Encodes words and remembers them, up to some 60 MB; then it starts anew, and real text refills it in a moment.

    A word's ids are kept as the bytes of uint32, so that a text is one join of bytes and no id becomes a Python number.
    """

    def __init__(self, library: Any, pieces: Sequence[str]) -> None:
        self._library = library
        self._begins_with_space = np.array([piece.startswith(SPACE) for piece in pieces])
        self._ends_with_space = np.array([piece.endswith(SPACE) for piece in pieces])
        self.forget()

    def forget(self) -> None:
        """Start anew. With another dictionary, because a thread in the middle of a text holds the old one."""
        self.known: dict[str, bytes] = {}
        self._size = 0

    def encode(self, texts: Sequence[Sequence[str]], threads: int) -> list[Ids]:
        """Return the ids of texts, each given as its words. Raises `UnicodeEncodeError` for a lone surrogate."""
        known = self.known
        if new := set().union(*texts).difference(known):
            known.update(self._meet(new, threads))
            self._size += sum(map(len, new)) + _ENTRY * len(new)
            if self._size > _MAX_SIZE:
                self.forget()
        return [np.frombuffer(bytearray().join(map(known.__getitem__, words)), dtype=np.uint32) for words in texts]

    def _meet(self, words: set[str], threads: int) -> dict[str, bytes]:
        """Encode words. Many share a call, joined as a text that is cut again where a space follows a non-space."""
        joined = [word for word in words if word[0] == " " != word[-1]]
        met = {word: self._library.encode_as_numpy(word.encode()).tobytes() for word in words if not word[0] == " " != word[-1]}
        parts = [joined[start : start + _WORDS_A_CALL] for start in range(0, len(joined), _WORDS_A_CALL)]
        calls = ["".join(part).encode() for part in parts]
        many = threads > 1 and len(calls) >= _CALLS_FOR_THREADS  # waking threads costs more than a few calls
        found = self._library.encode_as_numpy(calls, num_threads=threads) if many else map(self._library.encode_as_numpy, calls)
        for part, ids in zip(parts, found, strict=True):
            data = ids.tobytes()
            cuts = np.flatnonzero(self._begins_with_space[ids[1:]] & ~self._ends_with_space[ids[:-1]]) + 1
            start = 0
            for word, end in zip(part, [*(ids.itemsize * cuts).tolist(), len(data)], strict=True):
                met[word] = data[start:end]
                start = end
        return met


class SentencePieceTokenizer:
    """A Llama 1 or 2 tokenizer, from the bytes of a `.model` file. `where` names it in errors."""

    family: Literal["llama2"] = "llama2"

    def __init__(self, model: bytes, where: str = "tokenizer") -> None:
        self.model = model
        self._library = sentencepiece.SentencePieceProcessor()
        self._inner = sentencepiece.SentencePieceProcessor()
        try:
            self.rule, specification = _normalization(model)
            self._library.load_from_serialized_proto(model)
            self._inner.load_from_serialized_proto(model + _NO_DUMMY_PREFIX)
        except (ValueError, RuntimeError) as error:
            raise TokenizerError(f"{where}: is no SentencePiece model ({' '.join(str(error).split())})") from None
        library = self._library
        self.vocab_size: int = library.vocab_size()
        self.bos_id, self.eos_id, self.pad_id = library.bos_id(), library.eos_id(), -1
        self._pieces: list[str] = library.id_to_piece(list(range(self.vocab_size)))
        special = [index for index in range(self.vocab_size) if library.is_control(index) or library.is_unknown(index)]
        self.special_ids: Mapping[str, int] = {self._pieces[index]: index for index in special}
        self._bytes = [self._bytes_of(index) for index in range(self.vocab_size)]
        self._byte_ids = [library.piece_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        self._check(specification, where)
        by_words = self.rule != "trimmed" and not any(map(_CROSSING.search, self._pieces))
        self._words = _Words(self._inner, self._pieces) if by_words else None

    def _check(self, specification: Mapping[int, Any], where: str) -> None:
        if not all(self._library.is_byte(index) for index in self._byte_ids):
            raise TokenizerError(f"{where}: has no byte tokens, so not every text can be written. Llama tokenizers are trained with byte fallback")
        if min(self.bos_id, self.eos_id) < 0:
            raise TokenizerError(f"{where}: has no token to begin or to end a text, which Llama needs")
        if not specification.get(DUMMY_PREFIX, 1):
            raise TokenizerError(f"{where}: adds no space before a text, as Llama's tokenizers do")

    def _bytes_of(self, index: int) -> bytes:
        if self._library.is_control(index) or self._library.is_unknown(index):
            return b""
        if self._library.is_byte(index):
            return bytes([int(self._pieces[index][3:-1], 16)])
        return self._pieces[index].replace(SPACE, " ").encode()

    @cached_property
    def _merges(self) -> list[tuple[str, str]]:
        """Every pair of pieces that merges, by priority."""
        plain = [index for index in range(self.vocab_size) if len(self._pieces[index]) > 1 and self._is_plain(index)]
        order = sorted(plain, key=lambda index: (-self._library.get_score(index), index))
        known = {self._pieces[index]: index for index in range(self.vocab_size) if self._is_plain(index)}
        return all_merges([self._pieces[index] for index in order], known)

    def _is_plain(self, index: int) -> bool:
        return not (self._library.is_control(index) or self._library.is_unknown(index) or self._library.is_byte(index))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Its canonical form."""
        ids = {piece: index for index, piece in enumerate(self._pieces)}
        order = list(dict.fromkeys(ids[left + right] for left, right in self._merges))
        return Vocabulary("llama2", self.rule, tuple(self._pieces), self.special_ids, order_if_needed(order))

    @cached_property
    def fingerprint(self) -> str:
        """The digest of its canonical form."""
        return self.vocabulary.fingerprint

    def encode(self, text: str, bos: bool = False, eos: bool = False) -> list[int]:
        ids = self._encode_ids(text) if text else []
        return [self.bos_id] * bos + ids + [self.eos_id] * eos if bos or eos else ids

    def _encode_ids(self, text: str) -> list[int]:
        try:
            return self._encode_inner(" " + text)
        except UnicodeEncodeError:
            first, *others = split_raw_bytes(text)
            ids = self._encode_inner(f" {first!s}")  # the first piece is text, if an empty one
            for piece in others:
                ids += [self._byte_ids[byte] for byte in piece] if isinstance(piece, bytes) else self._encode_inner(piece)
            return ids

    def _encode_inner(self, text: str) -> list[int]:
        """Encode text as it stands, without a space before it."""
        if self._words is None or self._spaces_typed(text):
            library = self._library if self.rule == "trimmed" else self._inner  # trimming would take our own space away
            return list(library.encode_as_ids(text.encode()))
        ids: list[int] = self._words.encode([_WORDS.findall(text)], num_cores())[0].tolist()
        return ids

    def _spaces_typed(self, text: str) -> bool:
        """True if text holds a U+2581 that is no other than a space to this file, and would make words of other lengths."""
        return self.rule == "identity" and SPACE in text

    def forget(self) -> None:
        """Drop the words remembered so far; encoding meets them anew."""
        if self._words is not None:
            self._words.forget()

    def encode_batch(self, texts: Sequence[str], threads: int | None = None) -> list[Ids]:
        arrays: list[Ids] = []
        turn: list[str] = []
        size = 0
        for index, text in enumerate(texts):
            turn.append(text)
            size += len(text)
            if size > _CHARACTERS_A_TURN or index == len(texts) - 1:
                arrays += self._encode_turn(turn, threads or num_cores())
                turn, size = [], 0
        return arrays

    def _encode_turn(self, texts: Sequence[str], threads: int) -> list[Ids]:
        """Encode some texts together, so that their new words are met by the library's threads, all at once."""
        if self._words is not None and not any(map(self._spaces_typed, texts)):
            try:
                return self._words.encode([_WORDS.findall(f" {text}") if text else [] for text in texts], threads)
            except UnicodeEncodeError:
                pass  # one by one, to name the place or to cut raw bytes out
        return [np.array(self.encode(text), dtype=np.uint32) for text in texts]

    def encode_parts(self, parts: Sequence[str]) -> tuple[list[int], list[int]]:
        if self.rule == "trimmed":
            raise TokenizerError("chat: this SentencePiece model removes extra spaces, so a token cannot be traced to its message. Train one with herdling")
        ids = self.encode("".join(parts))
        token_lengths = [len(self._bytes[token]) for token in ids]
        lengths = [len(self._normalize(part).encode("utf-8", "surrogateescape")) for part in parts]
        first = next((index for index, length in enumerate(lengths) if length), 0)
        if lengths:
            lengths[first] += 1  # the space put before the text
        return ids, parts_of_tokens(token_lengths, lengths)

    def _normalize(self, text: str) -> str:
        """Return text as the library sees it before merging, with spaces for U+2581."""
        if self.rule == "identity":
            return text.replace(SPACE, " ")
        for character, stand_in in ESCAPES:
            text = text.replace(character, stand_in)
        return text

    def encode_rendered(self, text: str) -> list[int]:
        names = "|".join(map(re.escape, self.special_ids))
        ids: list[int] = []
        for piece in re.split(f"({names})", text):
            ids += [self.special_ids[piece]] if piece in self.special_ids else self.encode(piece)
        return ids

    def decode(self, ids: Iterable[int], skip_special: bool = True, errors: str = "replace") -> str:
        found = self._known(as_ids(ids))
        if errors != "replace":
            return self.decode_bytes(found).decode("utf-8", errors)
        special = {index: name for name, index in self.special_ids.items()}
        if skip_special:
            return str(self._library.decode([token for token in found if token not in special]))
        parts: list[str] = []
        start = 0
        for place, token in enumerate([*found, self.bos_id]):  # each text between special tokens has its own added space
            if token in special:
                parts += [self._library.decode(found[start:place]) if place > start else "", special[token]]
                start = place + 1
        return "".join(parts[:-1])

    def _known(self, ids: list[int]) -> list[int]:
        if ids and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            raise unknown_id(next(token for token in ids if not 0 <= token < self.vocab_size), self.vocab_size)
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        plain = [token for token in self._known(as_ids(ids)) if self._pieces[token] not in self.special_ids]
        data = b"".join([self._bytes[token] for token in plain])
        if plain and self._pieces[plain[0]].startswith(SPACE):
            data = data[1:]
        for character, stand_in in reversed(ESCAPES) if self.rule == "escaped" else ():
            data = data.replace(stand_in.encode(), character.encode())
        return data

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[self._known([token_id])[0]]

    def token_text(self, token_id: int) -> str:
        piece = self._pieces[self._known([token_id])[0]]
        return piece if piece in self.special_ids else show_bytes(self._bytes[token_id])

    def save(self, folder: Path, chat: SavedChat | None = None) -> None:
        unknown = self._pieces[self._library.unk_id()]
        escapes = ESCAPES if self.rule == "escaped" else ()
        document = byte_fallback_json(self._pieces, self._merges, self.special_ids, self.bos_id, unknown, escapes, trim=self.rule == "trimmed")
        write_folder(folder, self, "tokenizer.model", self.model, document, chat)


def _normalization(model: bytes) -> tuple[str, dict[int, Any]]:
    """Return the rule of a model file and its normaliser's fields. Raises `ValueError` for a model of another kind.

    Rules: `identity` is Meta's, `escaped` keeps U+2581 apart from a space (ours), `trimmed` is identity with extra spaces removed (SentencePiece's default).
    """
    fields = dict(read_message(model))  # pieces repeat, the two specifications do not
    trainer, normalizer = (dict(read_message(value)) if isinstance(value := fields.get(number), bytes) else {} for number in (TRAINER, NORMALIZER))
    if trainer.get(MODEL_TYPE, 1) != BPE:
        raise ValueError("it is not a BPE model, which Llama's tokenizers are")
    charsmap = normalizer.get(CHARSMAP, b"")
    if not charsmap:
        return ("trimmed" if normalizer.get(EXTRA_SPACES, 1) else "identity"), normalizer
    if DENORMALIZER not in fields:
        raise ValueError("it rewrites text before encoding it, which Llama's tokenizers do not")
    return "escaped", normalizer
