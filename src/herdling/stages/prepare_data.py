"""The stage prepare_data: from texts and dialogs where they lie to named sources with a validation split, in one form.

Reads files, folders, globs, `hf:` datasets or the embedded starter; writes `documents/<source>.train.jsonl`, `documents/<source>.validation.jsonl`,
`dialogs/train.jsonl`, `dialogs/validation.jsonl`, `questions.jsonl` and `ledger.json`. One pass, memory bounded but for about 100 bytes a document, and as
much a line where repeated lines are left out. Does not filter for quality, and does not tokenize.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from herdling import starter
from herdling.base.artifact import text_fingerprint
from herdling.base.errors import DataError, SettingsError, Stopped, did_you_mean
from herdling.base.ledger import Ledger
from herdling.base.records import dialog_to_row, document_to_row, question_to_row, write_jsonl
from herdling.data.dialogs import dialog_text, last_question, opening, questions_of, read_dialogs
from herdling.data.holdout import DUPLICATE, Seen, Split, hold_out, without_duplicates, write_splits
from herdling.data.repeated_lines import ONLY_REPEATED, RepeatedLines, without_repeated_lines
from herdling.data.sources import SourceConfig, files_fingerprint, read_documents
from herdling.stages.registry import StageRun, stage
from herdling.types import Dialog, Document, Question

STARTER_PREFIX = "starter:"
STARTER_DIALOGS = "starter:dialogs"
STARTER_DEMONSTRATIONS = "starter:demonstrations"
ASKED = "asks a held-out question"
# Reasons that say nothing bad about the data: they do not count towards `max_dropped_share`.
NOT_ASKED_FOR = "more than max_dialogs"
HARMLESS = (DUPLICATE, ONLY_REPEATED, "empty", "nearly empty", ASKED, NOT_ASKED_FOR)


@stage("prepare_data", output="data")
class PrepareData:
    """Read each source, set aside what is no text, remove exact duplicates, and hold out a validation split by the digest of each document.

    The papers name no held-out share; bits per byte on held-out documents of each source is how a run of any size can be compared. Dialogs must alternate
    between user and assistant; none that asks a held-out question is left in training.
    """

    sources: dict[str, str | SourceConfig]
    """Name of a source -> where its documents are: a file, a folder, a glob, `hf:org/name`, `starter:NAME`, or a table of `SourceConfig`."""
    dialogs: str | None = None
    """Where the dialogs for fine-tuning are: `starter:dialogs`, `starter:demonstrations` (the same, written by many hands of differing quality), or a file,
    folder, glob or `hf:org/name` in one of the forms of `data.dialogs`."""
    max_dialogs: Annotated[int, Field(ge=1)] | None = None
    """Keep at most this many training dialogs, the same first ones for every number: few demonstrations beside many prompts, as in Llama 2, section 3.1 (27,540
    were enough). Unset: all."""
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of the documents (and of the dialogs, by opening question) that is kept out of training; 0 holds out none. The starter brings its own split."""
    min_validation_documents: Annotated[int, Field(ge=0)] = 8
    """Hold out at least this many documents of a source, but no more than a tenth of them for it (one of two to ten)."""
    max_line_copies: Annotated[int, Field(ge=1)] | None = None
    """Leave out a line of the sources from its next copy on, whichever document it stands in; lines of fewer than 12 characters stay. Llama 3 (section 3.1.1)
    drops lines met more than 6 times in 30M documents. 1: no long line twice, nor in held-out text and training both. Unset: all lines stay."""
    max_dropped_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Fail when more than this share of a source's rows must be set aside (binary files, broken rows, ...); duplicates do not count."""

    def outside_inputs(self) -> dict[str, str]:
        """Return path -> fingerprint of all that lies outside: when a text changes after this stage was made, the next run says so instead of going on."""
        specs = [source if isinstance(source, str) else source.path for source in self.sources.values()] + ([self.dialogs] if self.dialogs else [])
        return {
            spec: text_fingerprint(starter.made_from(spec.removeprefix(STARTER_PREFIX))) if spec.startswith(STARTER_PREFIX) else files_fingerprint(spec)
            for spec in specs
        }

    def run(self, run: StageRun) -> None:
        """Prepare every source, then the dialogs; nothing is left out of the ledger."""
        _check_names(self.sources)
        total = Ledger(run.name)
        seen = Seen()
        lines = RepeatedLines(self.max_line_copies) if self.max_line_copies else None
        run.progress.begin(None, "documents")
        for name, source in self.sources.items():
            ledger = Ledger(f"{run.name}.sources.{name}")
            documents = _watched(_documents(name, source, ledger), run, name, total.kept)
            fresh = without_duplicates(documents, text=lambda document: document.text, name=lambda document: document.id, seen=seen, ledger=ledger)
            split = hold_out(fresh, group=lambda document: document.text, decided=_decided, share=self.validation_share, minimum=self.min_validation_documents)
            if lines:
                split = without_repeated_lines(split, lines, ledger)
            sizes = write_splits(name, _paths(run.folder / "documents", f"{name}."), split, to_row=document_to_row, size=_text_bytes, ledger=ledger)
            ledger.check(self.max_dropped_share, harmless=HARMLESS)
            if not sizes["train"]:
                raise DataError(f"{ledger.stage}: no document is left to train on")
            run.summary[f"{name}_bytes"] = sizes["train"]
            total.add(ledger)

        ledger, num_questions = self._prepare_dialogs(run)
        total.add(ledger)
        run.summary |= {"documents": total.kept - ledger.kept, "dialogs": ledger.kept, "questions": num_questions}
        total.write(run.folder / "ledger.json")

    def _prepare_dialogs(self, run: StageRun) -> tuple[Ledger, int]:
        """Write the dialogs of both splits and the questions. Without dialogs the files are empty."""
        ledger = Ledger(f"{run.name}.dialogs")
        split, questions = self._dialogs(run.seed, ledger)
        reserved = {last_question(question.dialog) for question in questions}
        clean = _first(_without_reserved(split, reserved, ledger), self.max_dialogs, ledger)
        write_splits("dialogs", _paths(run.folder / "dialogs"), clean, to_row=dialog_to_row, size=lambda dialog: 1, ledger=ledger)
        write_jsonl(run.folder / "questions.jsonl", map(question_to_row, questions))
        if self.dialogs is not None:
            ledger.check(self.max_dropped_share, harmless=HARMLESS)
        return ledger, len(questions)

    def _dialogs(self, seed: int, ledger: Ledger) -> tuple[Iterable[tuple[Split, Dialog]], tuple[Question, ...]]:
        """Return the dialogs with their splits, and the questions that are asked afterwards."""
        if self.dialogs is None:
            return (), ()
        if self.dialogs in (STARTER_DIALOGS, STARTER_DEMONSTRATIONS):
            world = starter.dialogs(seed)
            train = world.train if self.dialogs == STARTER_DIALOGS else starter.demonstrations(world.train, seed)
            ledger.read(len(world.train) + len(world.validation))
            return [*(("train", dialog) for dialog in train), *(("validation", dialog) for dialog in world.validation)], world.questions
        if self.dialogs.startswith(STARTER_PREFIX):
            raise SettingsError(f"dialogs: found {self.dialogs!r}, the embedded dialogs are called {STARTER_DIALOGS!r} and {STARTER_DEMONSTRATIONS!r}")
        fresh = without_duplicates(read_dialogs(self.dialogs, ledger), text=dialog_text, name=lambda dialog: dialog.id, seen=Seen(), ledger=ledger)
        return hold_out(fresh, group=opening, share=self.validation_share, minimum=self.min_validation_documents), ()


def _check_names(sources: Iterable[str]) -> None:
    for name in sources:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise SettingsError(f"sources.{name}: names become file names; accepted are letters, digits, '_' and '-'")


def _documents(name: str, source: str | SourceConfig, ledger: Ledger) -> Iterator[Document]:
    """Yield the documents of one source, from the embedded starter or from files."""
    config = SourceConfig(path=source) if isinstance(source, str) else source
    if not config.path.startswith(STARTER_PREFIX):
        yield from read_documents(config.path, name, ledger, text_column=config.text_column, piece_chars=config.piece_chars)
        return
    wanted = config.path.removeprefix(STARTER_PREFIX)
    if wanted not in starter.SOURCES:
        raise SettingsError(
            f"sources.{name}: no text {wanted!r} in the starter{did_you_mean(wanted, starter.SOURCES)}; there are: {', '.join(starter.SOURCES)}"
        )
    book = Ledger(wanted)
    for document in starter.documents(wanted, book):
        yield Document(text=document.text, id=document.id, source=name, metadata=document.metadata)
    book.kept = 0  # kept is what this stage writes
    ledger.add(book)


def _watched(documents: Iterator[Document], run: StageRun, name: str, done: int) -> Iterator[Document]:
    """Tell how far reading is, and stop when asked to."""
    for number, document in enumerate(documents, start=done + 1):
        if run.stop_requested():
            raise Stopped(f"{run.name}: stopped while reading {name}; the same command starts this stage again")
        run.progress.update(number, source=name)
        yield document


def _paths(folder: Path, prefix: str = "") -> Callable[[Split], Path]:
    return lambda split: folder / f"{prefix}{split}.jsonl"


def _text_bytes(document: Document) -> int:
    return len(document.text.encode())


def _decided(document: Document) -> Split | None:
    """Return the split that a document brings along, as the starter's do."""
    split = document.metadata.get("split")
    return "validation" if split == "validation" else "train" if split == "train" else None


def _without_reserved(split: Iterable[tuple[Split, Dialog]], reserved: set[str], ledger: Ledger) -> Iterator[tuple[Split, Dialog]]:
    """Leave out of training every dialog in which a user says what a held-out question asks."""
    for side, dialog in split:
        if side == "train" and reserved & questions_of(dialog):
            ledger.drop(ASKED, dialog.id)
        else:
            yield side, dialog


def _first(split: Iterable[tuple[Split, Dialog]], most: int | None, ledger: Ledger) -> Iterator[tuple[Split, Dialog]]:
    """Keep the first `most` training dialogs, and all that are held out."""
    kept = 0
    for side, dialog in split:
        kept += side == "train"
        if side == "train" and most is not None and kept > most:
            ledger.drop(NOT_ASKED_FOR, dialog.id)
        else:
            yield side, dialog
