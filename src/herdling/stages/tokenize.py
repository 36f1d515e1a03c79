"""The stage tokenize: from documents to memory-mapped token ids, source by source.

Reads a data artifact and a tokenizer; writes `<source>.train/` and `<source>.validation/` (see `data.token_shards`) and `ledger.json`. A source that is
finished is not done again after an interruption. Disk: two bytes a token up to 65,536 ids, else four.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from herdling.base.artifact import file_fingerprint
from herdling.base.errors import DataError, Stopped
from herdling.base.ledger import Ledger
from herdling.base.records import document_from_row, read_jsonl
from herdling.data.token_shards import TokenShards, finished_shards, write_shards
from herdling.stages.registry import DocumentsInput, StageRun, TokenizerInput, stage
from herdling.types import Document


@stage("tokenize", output="tokens")
class Tokenize:
    """Encode every document as BOS + text + EOS, each source and split on its own, with the bytes of each text beside its tokens.

    Text is always plain text: what looks like a special token in a document is encoded as characters. The fingerprint of the tokenizer is recorded, and later
    stages refuse tokens that another tokenizer made.
    """

    data: DocumentsInput
    """The documents: the output of prepare_data."""
    tokenizer: TokenizerInput
    """The tokenizer to encode them with: the output of train_tokenizer, or the path of one."""

    def run(self, run: StageRun) -> None:
        """Encode source after source."""
        from herdling.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(run.input(self.tokenizer))
        run.record(tokenizer=tokenizer.fingerprint)
        files = sorted((run.input(self.data) / "documents").glob("*.jsonl"))
        if not any(file.name.endswith(".train.jsonl") for file in files):
            raise DataError(f"{run.input(self.data)}: holds no documents to tokenize. Name some sources in the stage prepare_data")
        ledger = Ledger(run.name)
        done = Done(sum(file.stat().st_size for file in files), run)
        for file in files:
            name, split, _ = file.name.rsplit(".", 2)
            folder = run.folder / f"{name}.{split}"
            made_from = file_fingerprint(file)
            shards = finished_shards(folder, tokenizer=tokenizer.fingerprint, made_from=made_from)
            if shards is None:
                shards = write_shards(folder, name, done.watch(_documents(file), name), tokenizer, made_from=made_from)
            done.finish(file)
            _count(ledger, shards, split)
            if split == "train" or shards.num_tokens:
                run.summary[f"{name}_{split}_tokens"] = shards.num_tokens
        run.summary["bytes_per_token"] = round(ledger.counts["text bytes"] / ledger.counts["tokens"], 3)
        ledger.write(run.folder / "ledger.json")


class Done:
    """How far the stage is, in bytes of the files that it reads; says so, and stops when asked to."""

    def __init__(self, total: int, run: StageRun) -> None:
        self.run = run
        self.before = 0
        run.progress.begin(total, "bytes")

    def watch(self, documents: Iterator[Document], name: str) -> Iterator[Document]:
        """Pass documents on. The size of a text stands for that of its line: exact enough for a bar."""
        read = 0
        for document in documents:
            if self.run.stop_requested():
                raise Stopped(f"{self.run.name}: stopped in {name}; the sources before it are finished, the same command goes on")
            read += len(document.text)
            self.run.progress.update(self.before + read, source=name)
            yield document

    def finish(self, file: Path) -> None:
        """Count a whole file."""
        self.before += file.stat().st_size
        self.run.progress.update(self.before)


def _documents(file: Path) -> Iterator[Document]:
    for number, row in read_jsonl(file):
        yield document_from_row(row, f"{file}, line {number:,}")


def _count(ledger: Ledger, shards: TokenShards, split: str) -> None:
    ledger.read(shards.num_documents)
    ledger.keep(shards.num_documents)
    for name, amount in (("documents", shards.num_documents), ("tokens", shards.num_tokens), ("text bytes", shards.num_bytes)):
        ledger.count(f"{shards.source}.{split} {name}", amount)
        ledger.count(name, amount)
