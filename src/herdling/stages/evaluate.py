"""The stage evaluate: what models know, side by side, on text and questions that no training saw.

Reads model folders, the held-out tokens and texts, and the questions of a data artifact; writes `results.json` (scores with intervals) and `answers.jsonl`
(every answer, so that a score can be looked into). Interrupted, it goes on with the model at which it was: the results of finished ones stay in its folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from herdling.base.artifact import remove, write_json_atomic
from herdling.base.decode import Volatile
from herdling.base.errors import DataError, Stopped
from herdling.base.records import dialog_from_row, document_from_row, question_from_row, read_jsonl, write_jsonl
from herdling.stages.registry import DataInput, ModelInput, StageRun, TokensInput, stage
from herdling.types import Dialog, Question

if TYPE_CHECKING:
    from herdling.data.token_shards import TokenShards
    from herdling.generate.loaded import LoadedModel

DEFAULT_WINDOW = 1024
FINISHED = "finished"  # one file a model, kept until the stage is done


@stage("evaluate", output="evaluation")
class Evaluate:
    """Bits per byte of held-out text for each source, with `xz -9 -e` of the same text beside; greedy answers to held-out questions, graded by program, with
    95 % Wilson intervals. A chat model is asked in its chat format, a base model in plain text after a few training dialogs (Llama 3, section 5.1.1: few-shot).
    """

    models: dict[str, ModelInput]
    """Label -> the model: the output of a stage, or a model folder. Labels become columns, in this order."""
    data: DataInput
    """Where the questions and the held-out texts are: the output of prepare_data."""
    tokens: TokensInput
    """The held-out texts as tokens: the output of tokenize, by the models' own tokenizer."""
    max_questions: Annotated[int, Field(ge=1)] | None = None
    """Ask at most this many questions of each group. Unset: all."""
    max_answer_tokens: Annotated[int, Field(ge=1)] = 64
    """An answer that is longer is cut, and so most likely wrong."""
    num_examples: Annotated[int, Field(ge=0)] = 4
    """How many training dialogs a base model is shown before each question."""
    max_validation_tokens: Annotated[int, Field(ge=1)] | None = None
    """Score at most this many tokens of each source, whole documents. Unset: all."""
    window: Annotated[int, Field(ge=2)] | None = None
    """Tokens that a model sees at once of a held-out text, at most its context. Unset: 1,024."""
    batch_size: Annotated[int, Volatile(), Field(ge=1)] = 64
    """How many questions are asked at a time."""

    def run(self, run: StageRun) -> None:
        """Score every model on texts and questions."""
        from herdling.evals.runner import first_of_each_group
        from herdling.generate.loaded import load
        from herdling.model.precision import prepare_device

        run.check_tokenizers()
        prepare_device()
        questions = first_of_each_group(_questions(run.input(self.data)), self.max_questions)
        results: dict[str, Any] = {}
        answers: list[dict[str, Any]] = []
        compressed: dict[str, float] = {}
        finished = run.folder / FINISHED
        finished.mkdir(exist_ok=True)
        for number, (label, reference) in enumerate(self.models.items()):
            record = finished / f"{number}.json"
            if not record.is_file():
                write_json_atomic(record, self._score(run, load(run.input(reference)), label, questions, compressed))
            scored = json.loads(record.read_text(encoding="utf-8"))
            run.record(tokenizer=scored["tokenizer"])
            results[label] = scored["results"]
            answers += scored["answers"]
            compressed |= {source: bits["xz"] for source, bits in results[label]["bits_per_byte"].items()}
            run.summary |= {f"{label}_{group}": round(score["accuracy"], 4) for group, score in results[label]["questions"].items()}
        write_jsonl(run.folder / "answers.jsonl", answers)
        write_json_atomic(run.folder / "results.json", {"models": results})
        remove(finished)

    def _score(self, run: StageRun, model: LoadedModel, label: str, questions: list[Question], compressed: dict[str, float]) -> dict[str, Any]:
        """Return all that is measured of one model, as plain data."""
        from herdling.evals.runner import tally

        bits = self._bits(run, model, label, compressed)
        asked, rows = self._ask(run, model, label, questions)
        if not rows and not bits:
            data, tokens = run.input(self.data), run.input(self.tokens)
            raise DataError(f"{run.name}: there is nothing to evaluate: {data} holds no questions, and {tokens} no held-out tokens")
        results = {**asked, "bits_per_byte": bits, "questions": tally(rows)}
        return {"tokenizer": model.tokenizer.fingerprint, "results": results, "answers": rows}

    def _bits(self, run: StageRun, model: LoadedModel, label: str, compressed: dict[str, float]) -> dict[str, dict[str, Any]]:
        """Return source -> bits per byte with what it is made of. `compressed` keeps the figures of xz, which no model changes."""
        from herdling.evals.likelihood import likelihood, num_documents_within, xz_bits_per_byte

        window = min(self.window or DEFAULT_WINDOW, model.config.max_position_embeddings)
        shards = _held_out(run.input(self.tokens), model.tokenizer.fingerprint)
        run.progress.begin(len(shards), "sources")
        bits = {}
        for number, (source, shard) in enumerate(shards.items(), start=1):
            _go_on(run)
            count = num_documents_within(shard, self.max_validation_tokens)
            if source not in compressed:
                compressed[source] = xz_bits_per_byte(_texts(run.input(self.data), source, count))
            scored = likelihood(model.model, shard, window=window, max_tokens=self.max_validation_tokens)
            bits[source] = {
                "bits_per_byte": scored.bits_per_byte,
                "xz": compressed[source],
                "perplexity_per_token": scored.perplexity_per_token,
                "num_tokens": scored.num_tokens,
                "num_bytes": scored.num_bytes,
                "num_documents": count,
                "window": window,
            }
            run.progress.update(number, model=label, source=source)
        return bits

    def _ask(self, run: StageRun, model: LoadedModel, label: str, questions: list[Question]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return how the model was asked, and one row an answer."""
        from herdling.evals.answerers import ModelAnswerer
        from herdling.evals.prompts import choose_examples
        from herdling.evals.runner import ask

        examples = choose_examples(_train_dialogs(run.input(self.data)), self.num_examples)
        answer = ModelAnswerer(model, examples, max_tokens=self.max_answer_tokens)
        run.progress.begin(len(questions), "questions")
        rows = []
        for row in ask(label, questions, answer, batch_size=self.batch_size):
            _go_on(run)
            rows.append(row)
            run.progress.update(len(rows), model=label)
        return answer.how(), rows


def _go_on(run: StageRun) -> None:
    if run.stop_requested():
        raise Stopped(f"{run.name}: stopped; models before this one are finished, the same command goes on with it")


def _questions(folder: Path) -> Iterator[Question]:
    path = folder / "questions.jsonl"
    if path.is_file():
        for number, row in read_jsonl(path):
            yield question_from_row(row, f"{path}, line {number:,}")


def _train_dialogs(folder: Path) -> Iterator[Dialog]:
    path = folder / "dialogs" / "train.jsonl"
    if path.is_file():
        for number, row in read_jsonl(path):
            yield dialog_from_row(row, f"{path}, line {number:,}")


def _held_out(folder: Path, tokenizer: str) -> dict[str, TokenShards]:
    """Open the held-out shards; none when no source has any."""
    from herdling.data.token_shards import RECORD, VALIDATION, TokenShards, open_shards

    filled = any(TokenShards(path.parent).num_tokens for path in folder.glob(f"*.{VALIDATION}/{RECORD}"))
    return open_shards(folder, VALIDATION, tokenizer=tokenizer) if filled else {}


def _texts(folder: Path, source: str, count: int) -> Iterator[str]:
    """Yield the held-out texts of a source, in the order of its shard."""
    path = folder / "documents" / f"{source}.validation.jsonl"
    for number, (line, row) in enumerate(read_jsonl(path)):
        if number == count:
            return
        yield document_from_row(row, f"{path}, line {line:,}").text
