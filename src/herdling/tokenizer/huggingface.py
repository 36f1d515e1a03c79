"""Read a Hugging Face `tokenizer.json` of a Llama tokenizer, as the native tokenizer that gives the same ids.

Meta's and our own files hold all that tiktoken and SentencePiece need, so a tokenizer read from JSON is as fast as one read from a model file, saves to every
form and has the same fingerprint. That the ids are the same is checked on a sample with the `tokenizers` library itself, which costs about a second for
128,256 tokens. A file of another kind (another normaliser, Unigram, WordPiece) is refused: it is no Llama's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from herdling.base.errors import TokenizerError
from herdling.tokenizer.base import Vocabulary, order_if_needed
from herdling.tokenizer.export import byte_level, check_same_ids, from_byte_level
from herdling.tokenizer.protobuf import write_message
from herdling.tokenizer.sentencepiece import (
    BPE,
    DUMMY_PREFIX,
    ESCAPES,
    EXTRA_SPACES,
    MODEL_TYPE,
    NORMALIZER,
    PIECES,
    TRAINER,
    SentencePieceTokenizer,
)  # fmt: skip
from herdling.tokenizer.tiktoken import TiktokenTokenizer
from herdling.tokenizer.train import escape_rules

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # kinds of a piece in sentencepiece_model.proto
_BYTE_PIECES = {f"<0x{byte:02X}>" for byte in range(256)}


def read_document(path: Path) -> dict[str, Any]:
    """Read `tokenizer.json` as plain data. Raises `TokenizerError` when it is missing or no BPE tokenizer."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["model"]["type"] != "BPE":
            raise TokenizerError(f"{path}: is a {document['model']['type']} tokenizer; Llama's are BPE")
    except FileNotFoundError:
        raise TokenizerError(f"{path}: is not there") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TokenizerError(f"{path}: is no tokenizer.json") from None
    return dict(document)


def load_json(path: Path) -> TiktokenTokenizer | SentencePieceTokenizer:
    """Read `tokenizer.json` and check on a sample that our ids are those of the `tokenizers` library.

    Raises:
        TokenizerError: not there, not of a Llama, or other ids.
    """
    document = read_document(path)
    try:
        tokenizer = _read_byte_level(document) if vocabulary_of(document, str(path)).family == "llama3" else _read_byte_fallback(document, str(path))
    except (KeyError, ValueError, TypeError) as error:
        raise TokenizerError(f"{path}: cannot be read as a Llama tokenizer ({type(error).__name__}: {error})") from None
    check_same_ids(tokenizer, json.dumps(document), str(path))
    return tokenizer


def vocabulary_of(document: Mapping[str, Any], where: str) -> Vocabulary:
    """Reduce `tokenizer.json` to what decides its ids, without building a tokenizer.

    Raises:
        TokenizerError: neither the shape of Llama 3 nor of Llama 1 and 2.
    """
    try:
        special, ids = special_tokens(document), document["model"]["vocab"]
        products = list(dict.fromkeys(ids[left + right] for left, right in _merges(document)))
        if document["model"].get("byte_fallback"):
            return Vocabulary("llama2", _rule(document), tuple(_in_order(ids)), special, order_if_needed(products))
        ranks = {text: index for text, index in ids.items() if text not in special}
        tokens = tuple(from_byte_level(text).hex() for text in _in_order(ranks))
        return Vocabulary("llama3", _pattern(document), tokens, special, order_if_needed(products))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise TokenizerError(f"{where}: is not of the shape of a Llama tokenizer ({type(error).__name__}: {error})") from None


def special_tokens(document: Mapping[str, Any]) -> dict[str, int]:
    """Return the special tokens of `tokenizer.json` in the order of their ids."""
    added = sorted((token["id"], token["content"]) for token in document["added_tokens"] if token["special"])
    return {name: index for index, name in added}


def _merges(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the merges, which older files write as `left right` and newer ones as pairs."""
    for merge in document["model"]["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _in_order(ids: Mapping[str, int]) -> list[str]:
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise ValueError("ids have gaps")
    return tokens


def _pattern(document: Mapping[str, Any]) -> str:
    """Return the regular expression that cuts text, of the only shape that Llama 3's files have."""
    split, level = document["pre_tokenizer"]["pretokenizers"]
    if document.get("normalizer") or level["type"] != "ByteLevel" or level["add_prefix_space"] or level.get("use_regex", True):
        raise ValueError("it changes text before cutting it")
    return str(split["pattern"]["Regex"])


def _rule(document: Mapping[str, Any]) -> str:
    """Return the rule that `sentencepiece.py` names for what is done to text first."""
    text = json.dumps(document.get("normalizer"), ensure_ascii=False)
    if all(stand_in in text for _, stand_in in ESCAPES):
        return "escaped"
    return "trimmed" if "Regex" in text else "identity"


def _read_byte_level(document: Mapping[str, Any]) -> TiktokenTokenizer:
    special, ids = special_tokens(document), document["model"]["vocab"]
    ranks = {from_byte_level(text): index for text, index in ids.items() if text not in special}
    if list(special.values()) != list(range(len(ranks), len(ranks) + len(special))):
        raise ValueError("special tokens do not follow the others")
    return TiktokenTokenizer(ranks, list(special), _pattern(document))


def _read_byte_fallback(document: Mapping[str, Any], where: str) -> SentencePieceTokenizer:
    """Write the SentencePiece model that the file was once made from: scores fall with the priority of merges."""
    rule = _rule(document)
    special, ids = special_tokens(document), document["model"]["vocab"]
    scores: dict[str, float] = {}
    for left, right in _merges(document):
        scores.setdefault(left + right, -float(len(scores)))
    unknown = document["model"]["unk_token"]
    fields: list[tuple[int, int | bytes | float]] = []
    for piece in _in_order(ids):
        kind = UNKNOWN if piece == unknown else CONTROL if piece in special else BYTE if piece in _BYTE_PIECES else NORMAL
        score = scores.get(piece, -float(len(scores)) if kind == NORMAL else 0.0)
        fields.append((PIECES, write_message([(1, piece.encode()), (2, score), (3, kind)])))
    # Fields 40 to 42 of the trainer's specification: the ids of unknown, begin and end; 35: byte fallback.
    unknown_id, begin, end = special[unknown], special["<s>"], special["</s>"]
    fields.append((TRAINER, write_message([(MODEL_TYPE, BPE), (4, len(ids)), (35, 1), (40, unknown_id), (41, begin), (42, end), (43, -1)])))
    if rule == "escaped":
        fields += escape_rules().items()
    else:
        fields.append((NORMALIZER, write_message([(1, b"identity"), (DUMMY_PREFIX, 1), (EXTRA_SPACES, int(rule == "trimmed"))])))
    return SentencePieceTokenizer(write_message(fields), where)


__all__ = ["byte_level", "load_json", "read_document", "special_tokens", "vocabulary_of"]
