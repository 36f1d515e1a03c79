"""The folder a tokenizer is saved as: the family's native file, `tokenizer.json` and `tokenizer_config.json` for the Hugging Face world.

Ids must be the same in both worlds, so `write_folder` encodes a sample with the `tokenizers` library before it writes anything. Merges are listed with
every way to make a token from two others, by priority of the token made: tiktoken and SentencePiece merge any neighbours whose join is a token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tokenizers

from herdling.base.artifact import write_bytes_atomic, write_json_atomic, write_text_atomic
from herdling.base.errors import TokenizerError
from herdling.tokenizer.base import SavedChat, Tokenizer

Token = TypeVar("Token", str, bytes)


def _byte_characters() -> dict[int, str]:
    """Return GPT-2's character for each byte: printable ones stand for themselves, the rest moves above U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return {byte: chr(byte if byte in printable else next(moved)) for byte in range(256)}


CHARACTER_OF_BYTE = _byte_characters()
SPACE = "▁"  # how SentencePiece writes a space inside a piece
BYTE_OF_CHARACTER = {ord(character): byte for byte, character in CHARACTER_OF_BYTE.items()}


def byte_level(token: bytes) -> str:
    """Write bytes in GPT-2's characters, one each."""
    return token.decode("latin-1").translate(CHARACTER_OF_BYTE)


def from_byte_level(text: str) -> bytes:
    """Read bytes written in GPT-2's characters. Raises `ValueError` for other characters."""
    return text.translate(BYTE_OF_CHARACTER).encode("latin-1")


def all_merges(order: Iterable[Token], vocabulary: Mapping[Token, int]) -> list[tuple[Token, Token]]:
    """List every split of each token into two tokens; tokens come by priority, splits of one token by the ids of their halves."""
    merges: list[tuple[Token, Token]] = []
    for token in order:
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        found = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += sorted(found, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    return merges


def byte_level_json(tokens: Sequence[bytes], special: Mapping[str, int], pattern: str, bos_id: int) -> dict[str, Any]:
    """Return `tokenizer.json` of a Llama 3 tokenizer, in the shape of Meta's own."""
    texts = {token: byte_level(token) for token in tokens}
    vocabulary = {token: rank for rank, token in enumerate(tokens)}
    merges = [[texts[left], texts[right]] for left, right in all_merges(tokens, vocabulary)]
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {"dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True}
    return _document(
        special,
        bos_id,
        normalizer=None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]},
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        model={**model, "vocab": {texts[token]: rank for token, rank in vocabulary.items()}, "merges": merges},
    )


def byte_fallback_json(
    pieces: Sequence[str],
    merges: Sequence[tuple[str, str]],
    special: Mapping[str, int],
    bos_id: int,
    unknown: str,
    escapes: Sequence[tuple[str, str]],
    trim: bool,
) -> dict[str, Any]:
    """Return `tokenizer.json` of a Llama 1 or 2 tokenizer. `escapes` are (character, what stands for it), applied in this order."""
    before = [_replace(character, stand_in) for character, stand_in in escapes]
    if trim:
        before += [{"type": "Replace", "pattern": {"Regex": regex}, "content": new} for regex, new in ((r"\A +", ""), (" +", " "), (f"[ {SPACE}]+\\z", ""))]
    after = [_replace(stand_in, character) for character, stand_in in reversed(escapes)]
    model = {"dropout": None, "unk_token": unknown, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return _document(
        special,
        bos_id,
        normalizer={"type": "Sequence", "normalizers": [*before, {"type": "Prepend", "prepend": "▁"}, _replace(" ", "▁")]},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": [_replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, strip, *after]},
        model={**model, "vocab": {piece: index for index, piece in enumerate(pieces)}, "merges": [list(pair) for pair in merges]},
    )


def _replace(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def _document(special: Mapping[str, int], bos_id: int, *, model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Return a whole `tokenizer.json`; like Meta's tokenizers it begins each text with `bos` unless told otherwise."""
    names = {index: name for name, index in special.items()}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    begin = {"SpecialToken": {"id": names[bos_id], "type_id": 0}}
    first, second = ({"Sequence": {"id": which, "type_id": kind}} for which, kind in (("A", 0), ("B", 1)))
    begin_second = {"SpecialToken": {"id": names[bos_id], "type_id": 1}}
    template = {"type": "TemplateProcessing", "single": [begin, first], "pair": [begin, first, begin_second, second],
                "special_tokens": {names[bos_id]: {"id": names[bos_id], "ids": [bos_id], "tokens": [names[bos_id]]}}}  # fmt: skip
    added = [{"id": index, "content": names[index], **flags} for index in sorted(names)]
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    return {**head, **parts, "post_processor": template, "model": {"type": "BPE", **model}}


def tokenizer_config(tokenizer: Tokenizer, chat: SavedChat | None) -> dict[str, Any]:
    """Return `tokenizer_config.json`. With a chat, `eos_token` is what ends a turn; padding is never what ends a text."""
    names = {index: name for name, index in tokenizer.special_ids.items()}
    config: dict[str, Any] = {
        # The plain class takes tokenizer.json as it is; the Llama classes rebuild parts of it in their own ways.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": names[tokenizer.bos_id],
        "eos_token": names[chat.end_of_turn_id if chat else tokenizer.eos_id],
        "unk_token": names.get(0) if tokenizer.family == "llama2" else None,
        "pad_token": names.get(tokenizer.pad_id),
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 10**30,
        "herdling": {"family": tokenizer.family, "fingerprint": tokenizer.fingerprint},
    }
    config = {name: value for name, value in config.items() if value is not None}
    return {**config, "chat_template": chat.template} if chat else config


def write_folder(folder: Path, tokenizer: Tokenizer, native_name: str, native: bytes, document: dict[str, Any], chat: SavedChat | None) -> None:
    """Check that `document` gives the tokenizer's ids, then write the three files.

    Raises:
        TokenizerError: a sample text has other ids in the `tokenizers` library; nothing is written.
    """
    text = json.dumps(document, ensure_ascii=False)
    check_same_ids(tokenizer, text, str(folder / "tokenizer.json"))
    native_path = folder / native_name
    native_path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(native_path, native)
    write_text_atomic(folder / "tokenizer.json", text + "\n")
    write_json_atomic(folder / "tokenizer_config.json", tokenizer_config(tokenizer, chat))


def check_same_ids(tokenizer: Tokenizer, document: str, where: str) -> None:
    """Encode a sample with the `tokenizers` library reading `document`. Raises `TokenizerError` at the first difference."""
    theirs = tokenizers.Tokenizer.from_str(document)
    theirs.encode_special_tokens = True
    sample = [*_SAMPLE, *_words_of(tokenizer)]
    for text, encoded in zip(sample, theirs.encode_batch(sample, add_special_tokens=False), strict=True):
        if encoded.ids != tokenizer.encode(text):
            raise TokenizerError(f"{where}: the tokenizers library gives {text!r} the ids {encoded.ids}, we give {tokenizer.encode(text)}")


def _words_of(tokenizer: Tokenizer, count: int = 400) -> list[str]:
    """Return texts made of the tokenizer's own tokens, evenly drawn over the ids."""
    step = max(1, tokenizer.vocab_size // count)
    tokens = [tokenizer.token_bytes(index).decode("utf-8", "replace") for index in range(0, tokenizer.vocab_size, step)]
    lone = [token for token in tokens if not re.search("[\ufffd]", token)]
    return [*lone, *("".join(lone[start : start + 20]) for start in range(0, len(lone), 20))]


_SAMPLE = (
    "", " ", "  ", "\n", "\t", " \n  \n\n\t", "a", " a", "  a", "a ", "Hello, world!", "It's we'll THEY'RE", "0", "12", "2024 1234567.89", "x=3.14e-10;",
    "def f(a: int) -> str:\n    return f'{a!r}'\n", "tab\tand\r\nwindows", "naïve café", "Grüße aus Köln", "Привет, мир", "你好,世界",
    "こんにちは", "مرحبا", "नमस्ते",
    "🦙 llama 👩‍👩‍👧", "<s> </s> <unk> [INST]", "<|begin_of_text|><|eot_id|>", "<0x0A>", "\x00\x01\x7f", "\u00a0nbsp\u3000wide", "e\u0301 combining",
    "!!!???...---", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", " " * 70 + "deep", "ﬁ ligature ½ ² ①", "\ufeffbom", "\U0010ffff\ufdd0\ufffe",
)  # fmt: skip
