"""The stage train_tokenizer: from documents to a tokenizer of either Llama family.

Reads a data artifact (training documents only, never the held-out ones); writes `tokenizer.json` and `tokenizer_config.json` (Hugging Face's), and Meta's own
form as `tokenizer.model` (Llama 3: in `original/`, as in Meta's Hugging Face folders). About 2 s for 10 MB of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from herdling.base.errors import DataError
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_from_row, document_from_row, read_jsonl
from herdling.base.units import format_bytes
from herdling.stages.registry import DocumentsInput, StageRun, stage


@stage("train_tokenizer", output="tokenizer")
class TrainTokenizer:
    """Byte-pair encoding as the papers have it: SentencePiece with single digits and byte fallback (LLaMA, section 2.1), or byte-level with Llama 3's
    pattern (Llama 3, section 3.2).
    """

    data: DocumentsInput
    """The texts to learn from: the output of prepare_data."""
    family: Literal["llama2", "llama3"] = "llama3"
    """`llama2`: SentencePiece, the tokenizer of Llama 1 and 2. `llama3`: byte-level with up to three digits a token."""
    vocab_size: int = 128_256
    """Number of ids, special tokens included: 32,000 in Llama 1 and 2, 128,256 in Llama 3. Small models want 2,000 to 8,000: at 1M parameters a
    vocabulary of 32,000 makes a step four times slower."""
    max_bytes: int = 1_000_000_000
    """Learn from at most this much text, evenly from each source; more changes little and costs memory."""

    def run(self, run: StageRun) -> None:
        """Read, train, save."""
        from herdling.tokenizer.train import train_byte_level_bpe, train_sentencepiece

        texts = Texts(run.input(self.data), self.max_bytes, Ledger(run.name))
        run.progress.note(f"learning {self.vocab_size:,} tokens from {format_bytes(min(texts.num_bytes, self.max_bytes))} of text")
        train = train_byte_level_bpe if self.family == "llama3" else train_sentencepiece
        tokenizer = train(iter(texts), self.vocab_size)
        tokenizer.save(run.folder)
        texts.ledger.write(run.folder / "ledger.json")
        run.record(tokenizer=tokenizer.fingerprint)
        run.summary |= {"family": self.family, "vocab_size": tokenizer.vocab_size}


class Texts:
    """The training documents and dialogs of a data artifact; of each file an even share of `max_bytes`, from its beginning."""

    def __init__(self, folder: Path, max_bytes: int, ledger: Ledger) -> None:
        self.files = sorted((folder / "documents").glob("*.train.jsonl"))
        if (folder / "dialogs" / "train.jsonl").is_file():
            self.files.append(folder / "dialogs" / "train.jsonl")
        if not self.files:
            raise DataError(f"{folder}: holds no training documents. Name some sources in the stage prepare_data")
        self.num_bytes = sum(file.stat().st_size for file in self.files)
        self.share = min(1.0, max_bytes / max(1, self.num_bytes))
        self.ledger = ledger

    def __iter__(self) -> Iterator[str]:
        for file in self.files:
            left = self.share * file.stat().st_size
            for number, row in read_jsonl(file):
                self.ledger.read()
                if left <= 0:
                    self.ledger.drop("beyond max_bytes")
                    continue
                self.ledger.keep()
                for text in _texts_of(row, f"{file}, line {number:,}"):
                    left -= len(text)
                    yield text


def _texts_of(row: dict[str, object], where: str) -> list[str]:
    """Return the text of a document, or those of a dialog's messages."""
    if "messages" in row:
        return [message.content for message in dialog_from_row(row, where).messages]
    return [document_from_row(row, where).text]
