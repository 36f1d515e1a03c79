"""The stage evaluate: what it writes is what the models do, and nothing to ask is said aloud."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.decode import decode
from herdling.base.errors import DataError, SettingsError, Stopped
from herdling.base.progress import Shown, SilentProgress
from herdling.base.records import dialog_from_row, document_to_row, question_from_row, question_to_row, read_jsonl, write_jsonl
from herdling.checkpoint.huggingface import save_model
from herdling.data.token_shards import TokenShards
from herdling.evals.likelihood import likelihood, xz_bits_per_byte
from herdling.evals.prompts import choose_examples, few_shot_prompt
from herdling.generate.loaded import load
from herdling.model.config import LlamaConfig
from herdling.model.transformer import Llama
from herdling.stages.evaluate import Evaluate
from herdling.tokenizer import load_tokenizer
from herdling.tokenizer.chat_format import chat_format
from herdling.types import Dialog, Document, Message, Question
from tests.killing import run_killed
from tests.stages.toy_training import MODEL, make_inputs, stage_run

SETTINGS = {"models": {"base": "base", "chat": "chat"}, "data": "data", "tokens": "tokens", "max_answer_tokens": 8, "num_examples": 1}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    folder = make_inputs(tmp_path / "inputs")
    tokenizer = load_tokenizer(folder / "tokenizer")
    for seed, (name, template) in enumerate({"base": None, "chat": chat_format(tokenizer)}.items()):
        model = Llama(LlamaConfig(**{**MODEL, "vocab_size": tokenizer.vocab_size}))
        model.init_weights(seed)
        save_model(folder / name, model, tokenizer, template)
    questions = []
    for number, text in enumerate(("the item 1", "a key", "the item 2 " * 60)):
        dialog = Dialog(id=str(number), messages=(Message(role="user", content=text),))
        questions.append(Question(id=str(number), group=("short", "short", "long")[number], dialog=dialog, accepted=("nothing",)))
    write_jsonl(folder / "data" / "questions.jsonl", map(question_to_row, questions))
    for source in ("code", "books"):
        shards = TokenShards(folder / "tokens" / f"{source}.validation")
        texts = [tokenizer.decode(shards.document(index)) for index in range(shards.num_documents)]
        rows = (document_to_row(Document(text=text, id=text, source=source)) for text in texts)
        write_jsonl(folder / "data" / "documents" / f"{source}.validation.jsonl", rows)
    return folder


def evaluate(inputs: Path, folder: Path, **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Run the stage; return results, answers and the summary."""
    made = decode(Evaluate, {**SETTINGS, **settings}, "stages.evaluate")
    run = stage_run("evaluate", inputs, folder)
    made.run(run)
    results = json.loads((folder / "results.json").read_text())["models"]
    return results, [row for _, row in read_jsonl(folder / "answers.jsonl")], run.summary


def test_scores_of_all_models_stand_side_by_side(tmp_path: Path, inputs: Path) -> None:
    results, answers, summary = evaluate(inputs, tmp_path / "out")
    assert {label: scores["prompt"] for label, scores in results.items()} == {"base": "few_shot", "chat": "chat"}
    assert [(row["model"], row["id"]) for row in answers] == [(label, str(number)) for label in ("base", "chat") for number in range(3)]
    assert results["chat"]["questions"]["short"] == {"correct": 0, "total": 2, "accuracy": 0.0, "low": 0.0, "high": pytest.approx(0.6576, abs=1e-4)}
    assert summary["chat_short"] == 0
    for source in ("code", "books"):
        shards = TokenShards(inputs / "tokens" / f"{source}.validation")
        scored = results["chat"]["bits_per_byte"][source]
        assert scored["bits_per_byte"] == pytest.approx(likelihood(load(inputs / "chat").model, shards, window=64).bits_per_byte)
        texts = [row["text"] for _, row in read_jsonl(inputs / "data" / "documents" / f"{source}.validation.jsonl")]
        assert scored["xz"] == xz_bits_per_byte(texts)
        assert (scored["num_bytes"], scored["num_documents"]) == (len("".join(texts).encode()), len(texts))


def test_answers_are_the_greedy_ones_and_a_question_beyond_the_context_is_answered_by_nothing(tmp_path: Path, inputs: Path) -> None:
    _, answers, _ = evaluate(inputs, tmp_path / "out", batch_size=2)
    chat = load(inputs / "chat")
    said = {row["id"]: row["answer"] for row in answers if row["model"] == "chat"}
    alone = chat.generate(
        chat.chat_format.encode(Dialog(id="", messages=(Message(role="user", content="a key"),)), generate=True).ids, temperature=0, max_tokens=8
    )
    assert said["1"] == alone.strip()
    assert said["2"] == ""


def test_limits_take_fewer_questions_and_fewer_documents(tmp_path: Path, inputs: Path) -> None:
    results, answers, _ = evaluate(inputs, tmp_path / "out", max_questions=1, max_validation_tokens=1)
    assert [row["id"] for row in answers if row["model"] == "base"] == ["0", "2"]
    assert results["base"]["bits_per_byte"]["code"]["num_documents"] == 1


def test_running_twice_writes_the_same(tmp_path: Path, inputs: Path) -> None:
    assert evaluate(inputs, tmp_path / "one") == evaluate(inputs, tmp_path / "two")


def test_nothing_to_evaluate_is_an_error(tmp_path: Path, inputs: Path) -> None:
    (inputs / "data" / "questions.jsonl").write_text("")
    (inputs / "empty").mkdir()
    with pytest.raises(DataError, match=r"nothing to evaluate: .*data holds no questions, and .*empty no held-out tokens"):
        evaluate(inputs, tmp_path / "out", tokens="empty")


def test_it_stops_when_asked_to(tmp_path: Path, inputs: Path) -> None:
    run = stage_run("evaluate", inputs, tmp_path / "out", stop_requested=lambda: True)
    with pytest.raises(Stopped, match="the same command goes on with it"):
        decode(Evaluate, SETTINGS, "stages.evaluate").run(run)


class SeenModels(SilentProgress):
    """Remembers the labels of the models that were worked on."""

    def __init__(self) -> None:
        self.labels: set[Shown] = set()

    def update(self, done: int, **shown: Shown) -> None:
        self.labels.add(shown["model"])


def test_a_finished_model_is_not_asked_again(tmp_path: Path, inputs: Path) -> None:
    whole = evaluate(inputs, tmp_path / "whole")
    seen = SeenModels()
    run = stage_run("evaluate", inputs, tmp_path / "out", progress=seen, stop_requested=lambda: "chat" in seen.labels)
    with pytest.raises(Stopped):
        decode(Evaluate, SETTINGS, "stages.evaluate").run(run)
    shutil.rmtree(inputs / "base")
    (inputs / "base").mkdir()
    assert evaluate(inputs, tmp_path / "out") == whole
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["answers.jsonl", "results.json"]


def _worker(inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    evaluate(inputs, folder)
    (folder / "done").touch()


def test_killed_at_random_it_ends_with_the_same_results(tmp_path: Path, inputs: Path) -> None:
    whole = evaluate(inputs, tmp_path / "whole")
    killed = run_killed(_worker, (inputs, tmp_path / "out"), tmp_path / "out" / "done", kills=4, longest=0.6)
    assert killed == 4
    for name in ("results.json", "answers.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert whole[0]


def test_results_say_how_many_examples_the_context_of_a_base_model_held(tmp_path: Path, inputs: Path) -> None:
    results, _, _ = evaluate(inputs, tmp_path / "out", num_examples=2)
    base = load(inputs / "base")
    examples = choose_examples((dialog_from_row(row, "") for _, row in read_jsonl(inputs / "data" / "dialogs" / "train.jsonl")), 2)
    kept = []
    for _, row in read_jsonl(inputs / "data" / "questions.jsonl"):
        dialog = question_from_row(row, "").dialog
        lengths = [len(base.tokenizer.encode(few_shot_prompt(examples[2 - count :], dialog), bos=True)) for count in range(3)]
        kept.append(max((count for count, length in enumerate(lengths) if length + 8 <= 64), default=0))
    assert len(set(kept)) > 1
    assert results["base"]["examples"] == {"given": 2, "mean": round(sum(kept) / 3, 3), "min": min(kept)}
    assert "examples" not in results["chat"]


def test_a_limit_of_nothing_is_no_limit_anybody_means() -> None:
    with pytest.raises(SettingsError, match="max_questions"):
        decode(Evaluate, {**SETTINGS, "max_questions": 0}, "stages.evaluate")
