"""Load a tokenizer from whatever form it comes in: a model file, a `tokenizer.json`, or a folder that holds them."""

from __future__ import annotations

import json
from pathlib import Path

from herdling.base.errors import TokenizerError
from herdling.tokenizer.huggingface import load_json, read_document, special_tokens, vocabulary_of
from herdling.tokenizer.sentencepiece import SentencePieceTokenizer
from herdling.tokenizer.tiktoken import TiktokenTokenizer, tiktoken_from_bytes

NATIVE_NAMES = ("tokenizer.model", "original/tokenizer.model")


def load_tokenizer(path: str | Path) -> TiktokenTokenizer | SentencePieceTokenizer:
    """Load a Llama tokenizer from a `.model` file of either kind, a `tokenizer.json`, or a folder.

    A tiktoken file does not name its special tokens: they are read from the folder's `tokenizer.json`, and are Meta's 256 where there is none. In a folder
    the native file is used, and checked against `tokenizer.json`.

    Raises:
        TokenizerError: nothing there, no tokenizer, or files of a folder that do not belong together.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    if not path.is_file():
        raise TokenizerError(f"{path}: is not there. A tokenizer is a .model file, a tokenizer.json, or a folder that holds one")
    if path.suffix == ".json":
        return load_json(path)
    home = path.parent.parent if path.parent.name == "original" else path.parent
    if any(path == home / name for name in NATIVE_NAMES) and (home / "tokenizer.json").is_file():
        return _load_folder(home)
    return _load_native(path, None)


def _load_folder(folder: Path) -> TiktokenTokenizer | SentencePieceTokenizer:
    native = next((folder / name for name in NATIVE_NAMES if (folder / name).is_file()), None)
    beside = folder / "tokenizer.json"
    if native is None:
        if not beside.is_file():
            raise TokenizerError(f"{folder}: holds no tokenizer ({', '.join(NATIVE_NAMES)} or tokenizer.json)")
        tokenizer = load_json(beside)
    elif beside.is_file():
        document = read_document(beside)
        tokenizer = _load_native(native, list(special_tokens(document)))
        if vocabulary_of(document, str(beside)).fingerprint != tokenizer.fingerprint:
            raise TokenizerError(f"{folder}: {native.name} and tokenizer.json are two different tokenizers. Keep the one that the model was trained with")
    else:
        tokenizer = _load_native(native, None)
    _check_recorded(folder / "tokenizer_config.json", tokenizer.fingerprint)
    return tokenizer


def _load_native(path: Path, special_names: list[str] | None) -> TiktokenTokenizer | SentencePieceTokenizer:
    data = path.read_bytes()
    # A SentencePiece file begins with its first piece, which is field 1 of a message; a tiktoken file is ASCII lines.
    if data[:1] == b"\n" and not data[:64].isspace():
        return SentencePieceTokenizer(data, str(path))
    return tiktoken_from_bytes(data, str(path), special_names)


def _check_recorded(path: Path, fingerprint: str) -> None:
    """Compare with the fingerprint that we wrote into the folder's settings, if we did."""
    try:
        recorded = json.loads(path.read_text(encoding="utf-8")).get("herdling", {}).get("fingerprint", fingerprint)
    except FileNotFoundError:
        return
    except (ValueError, AttributeError):
        raise TokenizerError(f"{path}: is damaged, it is no JSON table") from None
    if recorded != fingerprint:
        raise TokenizerError(f"{path}: was written for the tokenizer {recorded[:12]}, the files beside it are {fingerprint[:12]}")
