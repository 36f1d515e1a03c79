"""Train a tokenizer of either family on texts; the same texts in the same order give the same tokenizer.

`train_sentencepiece` is Llama 1 and 2's (LLaMA, section 2.1): the SentencePiece library, BPE, single digits, byte fallback. `train_byte_level_bpe` is
Llama 3's (section 3.2): byte-level BPE cut by Llama 3's pattern, trained in Rust. `vocab_size` counts special tokens. About 2 s and 1 s for 10 MB.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import rustbpe
import sentencepiece

from herdling.base.errors import TokenizerError
from herdling.tokenizer.protobuf import read_message, write_message
from herdling.tokenizer.sentencepiece import DENORMALIZER, ESCAPES, NORMALIZER, RULE_FILE, SentencePieceTokenizer
from herdling.tokenizer.tiktoken import LLAMA3_PATTERN, TiktokenTokenizer, guarded, llama3_special_tokens

# 11 tokens of Llama 3.1's list and five reserved ones: 256 as in Meta's would be a sixteenth of a small vocabulary.
SMALL_SPECIAL_COUNT = 16
# SentencePiece learns from lines; these characters end one, and it keeps some of them for itself and would drop the line without a word.
_LINE_ENDS = re.compile("[\x00\t\r\n\u2581\u2585]+")
_MAX_LINE_BYTES = 4192


def train_byte_level_bpe(texts: Iterable[str], vocab_size: int, special_count: int = SMALL_SPECIAL_COUNT, pattern: str = LLAMA3_PATTERN) -> TiktokenTokenizer:
    """Train a Llama 3 tokenizer.

    Raises:
        TokenizerError: no text, or too little for so many merges; a text with lone surrogates.
    """
    special = llama3_special_tokens(special_count)
    smallest = 256 + len(special)
    if vocab_size < smallest:
        raise TokenizerError(f"vocab_size = {vocab_size}: too small. 256 bytes and {len(special)} special tokens need at least {smallest}")
    trainer = rustbpe.Tokenizer()
    counted = _Counted(texts)
    trainer.train_from_iterator((chunk for text in counted for chunk in guarded(text)), vocab_size - len(special), pattern=pattern)
    counted.check_not_empty()
    ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
    if len(ranks) + len(special) < vocab_size:
        found = len(ranks) + len(special)
        raise TokenizerError(
            f"vocab_size = {vocab_size:,}: the texts ({counted.characters:,} characters) give only {found:,} tokens."
            f" Set vocab_size to {found} or less, or give more text"
        )
    return TiktokenTokenizer(ranks, special, pattern)


def train_sentencepiece(texts: Iterable[str], vocab_size: int, character_coverage: float = 0.99995) -> SentencePieceTokenizer:
    """Train a Llama 1 or 2 tokenizer, with the settings that stand in Meta's own file: identity normalisation, all spaces kept, pieces of at most 16
    characters that never cross a space or a script, coverage 0.99995, `<unk> <s> </s>` as 0, 1, 2 and no padding.

    Ours is a rule that keeps U+2581, SentencePiece's sign for a space, apart from a space.

    Raises:
        TokenizerError: no text, or too little for so many pieces; a text with lone surrogates.
    """
    counted = _Counted(texts)
    writer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        forward, back = Path(folder, "forward.tsv"), Path(folder, "back.tsv")
        forward.write_text("".join(f"{_code_points(a)}\t{_code_points(b)}\n" for a, b in ESCAPES), encoding="utf-8")
        back.write_text("".join(f"{_code_points(b)}\t{_code_points(a)}\n" for a, b in ESCAPES), encoding="utf-8")
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_lines(counted), model_writer=writer, model_type="bpe", vocab_size=vocab_size,
                normalization_rule_tsv=str(forward), denormalization_rule_tsv=str(back), remove_extra_whitespaces=False,
                add_dummy_prefix=True, allow_whitespace_only_pieces=True, split_digits=True, byte_fallback=True,
                character_coverage=character_coverage, max_sentencepiece_length=16, max_sentence_length=_MAX_LINE_BYTES,
                unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1, minloglevel=2,
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            counted.check_not_empty()
            raise _training_error(vocab_size, counted.characters, str(error)) from None
    return SentencePieceTokenizer(_without_paths(writer.getvalue()))


class _Counted:
    """Iterates over texts, counts their characters, and refuses what is no text."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for number, text in enumerate(self._texts, start=1):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise TokenizerError(f"text {number}: cannot be trained on, {error.reason} at character {error.start}. Read files as UTF-8") from None
            self.characters += len(text)
            yield text

    def check_not_empty(self) -> None:
        if not self.characters:
            raise TokenizerError("texts: are empty; a tokenizer needs text to learn from")


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Yield lines of at most _MAX_LINE_BYTES bytes: SentencePiece drops longer ones."""
    for text in texts:
        for line in _LINE_ENDS.split(text):
            data = line.encode()
            for start in range(0, len(data), _MAX_LINE_BYTES):
                yield data[start : start + _MAX_LINE_BYTES].decode("utf-8", "ignore")


def _code_points(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)


def _training_error(vocab_size: int, characters: int, message: str) -> TokenizerError:
    """Turn SentencePiece's complaint about sizes into ours."""
    if most := re.search(r"<= (\d+)", message):
        hint = f"the texts ({characters:,} characters) give only {int(most[1]):,} pieces. Set vocab_size to {most[1]} or less, or give more text"
    elif least := re.search(r"smaller than required_chars.* vs (\d+)", message):
        hint = f"too small. Bytes, special tokens and the characters of the texts need at least {least[1]}"
    else:
        hint = f"SentencePiece refuses: {' '.join(message.split())}"
    return TokenizerError(f"vocab_size = {vocab_size:,}: {hint}")


def escape_rules() -> dict[int, bytes]:
    """Return the fields of a model file that hold our rule for U+2581, as SentencePiece compiles them."""
    fields = read_message(train_sentencepiece(["ab"], 262).model)  # the smallest there is
    return {number: value for number, value in fields if number in (NORMALIZER, DENORMALIZER) and isinstance(value, bytes)}


def _without_paths(model: bytes) -> bytes:
    """Remove the paths of the rule files from a model file: the rules are inside, and the bytes must not depend on where they were trained."""
    fields = [
        (number, write_message(field for field in read_message(value) if field[0] != RULE_FILE) if number in (NORMALIZER, DENORMALIZER) else value)
        for number, value in read_message(model)
        if isinstance(value, bytes)
    ]
    return write_message(fields)
