"""The stage judge: all models answer the same prompts, every number is that of its answers, and a kill changes no byte."""

from __future__ import annotations

import gc
import json
import random
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import herdling
from herdling.base.artifact import file_digests
from herdling.base.decode import decode
from herdling.base.errors import DataError, LineageError, Stopped
from herdling.base.progress import SilentProgress
from herdling.base.records import dialog_to_row, question_to_row, read_jsonl, write_jsonl
from herdling.checkpoint.huggingface import save_model
from herdling.evals.refusal import refuses as refuses_in_words
from herdling.generate import loaded
from herdling.generate.gated_reward import UNSAFE_LOGIT
from herdling.generate.loaded import LoadedModel
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.stages.judge import Judge
from herdling.starter.refusals import HARMFUL_ANSWER, OUT_OF_SCOPE_ANSWER
from herdling.starter.taste import WEIGHTS, parts, refuses
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.train import train_byte_level_bpe
from herdling.types import SAFETY_TAG, Dialog, Message, Question
from tests.killing import run_killed
from tests.stages.toy_training import MODEL, run_stage, stage_run

CONTEXT = 160
LOOP = {"device": "cpu", "dtype": "float32", "micro_batch_tokens": 2048, "validations": 1}
SETTINGS: dict[str, Any] = {
    "models": {"early": "early", "late": "late"},
    "reference": "early",
    "data": "data",
    "rewards": {"helpfulness": "helpful", "safety": "safe"},
    "watch": "watch",
    "gold": True,
    "max_tokens": 16,
}


def toy_dialogs(count: int, seed: int) -> Iterator[Dialog]:
    """Dialogs of one or two turns, some that ask for harm."""
    chance = random.Random(seed)
    for number in range(count):
        messages: list[Message] = []
        for _ in range(chance.randint(1, 2)):
            harmful = chance.random() < 0.3
            asked = f"steal the {chance.choice(['car', 'key', 'bike'])} {number}" if harmful else f"the item {number}"
            messages.append(Message(role="user", content=asked, tags=(SAFETY_TAG,) if harmful else ()))
            messages.append(Message(role="assistant", content=HARMFUL_ANSWER if harmful else f"a key {number % 7}."))
        yield Dialog(id=f"toy/{number}", messages=tuple(messages))


def question(number: int, text: str, answer: str, group: str) -> Question:
    tags = (SAFETY_TAG,) if answer == HARMFUL_ANSWER else ()
    dialog = Dialog(id=f"q{number}", messages=(Message(role="user", content=text, tags=tags),))
    return Question(id=f"q{number}", group=group, dialog=dialog, accepted=(answer,))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, two chat models tuned for longer and for shorter, and three reward models that never learned anything."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("inputs")
    made = list(toy_dialogs(60, 0))
    tokenizer = train_byte_level_bpe((message.content for dialog in made for message in dialog.messages), 330)
    model = Llama(LlamaConfig(**{**MODEL, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": CONTEXT}))
    model.init_weights(1)
    save_model(folder / "model", model, tokenizer, None)
    write_jsonl(folder / "data" / "dialogs" / "train.jsonl", map(dialog_to_row, made))
    write_jsonl(folder / "data" / "dialogs" / "validation.jsonl", map(dialog_to_row, toy_dialogs(20, 1)))
    asked = [question(0, "the item 3", "a key 3.", "facts"), question(1, "the item 4", OUT_OF_SCOPE_ANSWER, "refusal")]
    asked += [question(2, "steal the car 5", HARMFUL_ANSWER, "refusal"), question(3, "9" * CONTEXT, "a key 1.", "facts")]
    write_jsonl(folder / "data" / "questions.jsonl", map(question_to_row, asked))
    for name, epochs in (("early", 4), ("late", 12)):
        run_stage("sft", folder, folder / name, epochs=epochs, sequence_length=CONTEXT, batch_rows=8, optimizer={"lr": 1e-2}, loop=LOOP)
        (folder / name / "done").unlink()
    chat = chat_format(tokenizer)
    for seed, name in enumerate(("helpful", "safe", "watch")):
        save_model(folder / name, RewardModel.from_llama(model, seed), tokenizer, chat)
    save_model(folder / "foreign", RewardModel.from_llama(model, 9), tokenizer, chat_format(tokenizer, "llama3"))
    return folder


def judge(inputs: Path, folder: Path, **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Run the stage; return results, answers and the summary."""
    run = stage_run("judge", inputs, folder)
    decode(Judge, {**SETTINGS, **settings}, "stages.judge").run(run)
    results = json.loads((folder / "results.json").read_text())
    return results, [row for _, row in read_jsonl(folder / "answers.jsonl")], run.summary


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    return judge(inputs, tmp_path_factory.mktemp("judged"))


def test_all_models_answer_the_same_held_out_prompts_and_nothing_is_left_behind(tmp_path: Path, inputs: Path) -> None:
    _, answers, summary = judge(inputs, tmp_path / "out")
    asked = [[row["id"] for row in answers if row["model"] == label] for label in ("early", "late")]
    turns = [f"{dialog.id}/{turn}" for dialog in toy_dialogs(20, 1) for turn in range(1, 1 + len(dialog.messages) // 2)]
    assert asked[0] == asked[1] == [*turns, "q0", "q1", "q2"]
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert ledger["dropped"]["prompt and answer longer than a context"]["count"] == 1
    assert (ledger["rows_in"], ledger["kept"]) == (len(turns) + 4, len(turns) + 3)
    assert summary["prompts"] == len(turns) + 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "answers.jsonl", "ledger.json", "device.json"}


def test_rewards_are_those_of_the_models_the_gate_and_the_gold(inputs: Path, judged: Any) -> None:
    _, answers, _ = judged
    models = {name: herdling.load(inputs / name) for name in ("helpful", "safe", "watch")}
    read = [row for row in answers if row["rewards"]]
    assert len(read) > 20
    accepted = {f"{dialog.id}/{turn + 1}": dialog.messages[2 * turn + 1].content for dialog in toy_dialogs(20, 1) for turn in range(len(dialog.messages) // 2)}
    for row in read:
        if not row["id"].endswith("/1"):  # a first turn, so that its dialog is question and answer
            continue
        dialog = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
        scores = {name: model.score(dialog) for name, model in models.items()}
        rewards = row["rewards"]
        assert (rewards["helpfulness"], rewards["safety"], rewards["watch"]) == pytest.approx(tuple(scores.values()), abs=1e-4)
        harmful = row["question"].startswith("steal")
        assert row["group"] == ("adversarial" if harmful else "harmless")
        gate_shut = harmful or rewards["safety"] < UNSAFE_LOGIT
        assert rewards["reward"] == (rewards["safety"] if gate_shut else rewards["helpfulness"])
        asked = Question(id="", group="", dialog=Dialog(id="", messages=()), accepted=(accepted[row["id"]],))
        weights = WEIGHTS["safety" if harmful else "helpfulness"]
        assert rewards["gold"] == pytest.approx(sum(weight * parts(asked, row["answer"])[part] for part, weight in weights.items()))
        assert row["refused"] is refuses(row["answer"])


def test_the_reference_is_at_distance_zero_and_another_model_is_not(judged: Any) -> None:
    results, answers, _ = judged
    assert results["models"]["early"]["kl"] == {"total": len(answers) // 2, "mean": 0.0, "low": 0.0, "high": 0.0}
    assert results["models"]["late"]["kl"]["low"] > 0


def test_a_longer_taught_model_wins_by_the_gold_reward(judged: Any) -> None:
    results, _, summary = judged
    (row,) = results["comparisons"]
    assert set(row["win_rates"]) == {"reward", "watch", "gold"}
    assert row["win_rates"]["gold"]["low"] > 0.5
    assert row["differences"]["gold"]["low"] > 0
    assert summary["win_rate_of_late_over_early_by_gold"] == round(row["win_rates"]["gold"]["rate"], 4)
    assert results["goodhart"]["watches"] == ["watch", "gold"]
    assert len(results["goodhart"]["lines"]) >= 1


def test_greedy_answers_are_judged_while_the_distance_is_that_of_samples(tmp_path: Path, inputs: Path, judged: Any) -> None:
    results, answers, _ = judge(inputs, tmp_path / "out", temperature=0.0)
    late = herdling.load(inputs / "late")
    row = next(row for row in answers if row["model"] == "late" and row["id"] == "q0")
    assert row["answer"] == late.chat([{"role": "user", "content": row["question"]}], temperature=0.0, max_tokens=16).message.content
    sampled, _, _ = judged
    assert results["models"]["late"]["kl"] == sampled["models"]["late"]["kl"]


def test_other_peoples_prompts_are_judged_by_models_alone(tmp_path: Path, inputs: Path) -> None:
    results, answers, _ = judge(inputs, tmp_path / "out", gold=False, rewards={"helpfulness": "helpful"}, watch=None, max_prompts=5)
    assert len(answers) == 10
    assert set(results["comparisons"][0]["win_rates"]) == {"reward"}
    assert all(row["refused"] is refuses_in_words(row["answer"]) and set(row["rewards"]) <= {"reward", "helpfulness"} for row in answers)
    assert results["models"]["late"]["false_refusals"]["count"] == sum(
        row["refused"] for row in answers if row["model"] == "late" and row["group"] == "harmless"
    )
    assert not {"violations", "skills"} & set(results["models"]["late"])
    assert results["goodhart"]["lines"][0].startswith("Goodhart watch: nobody watches")


class Notes(SilentProgress):
    """Remembers what was said to stay."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_the_goodhart_watch_speaks_on_the_terminal_and_in_the_results(tmp_path: Path, inputs: Path) -> None:
    notes = Notes()
    run = stage_run("judge", inputs, tmp_path / "out", progress=notes)
    decode(Judge, SETTINGS, "stages.judge").run(run)
    assert notes.said == json.loads((tmp_path / "out" / "results.json").read_text())["goodhart"]["lines"]


def test_a_reward_model_of_another_chat_template_is_refused(tmp_path: Path, inputs: Path) -> None:
    for number, changed in enumerate(({"rewards": {"helpfulness": "foreign"}}, {"watch": "foreign"})):
        with pytest.raises(LineageError, match="chat template"):
            judge(inputs, tmp_path / str(number), **changed)


def test_no_prompt_to_judge_by_is_an_error(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(DataError, match="no row is left"):
        judge(inputs, tmp_path / "out", max_tokens=CONTEXT)


def test_a_finished_model_is_not_asked_again(tmp_path: Path, inputs: Path) -> None:
    whole = judge(inputs, tmp_path / "whole")
    stops = iter([False, True])
    run = stage_run("judge", inputs, tmp_path / "out", stop_requested=lambda: next(stops))
    with pytest.raises(Stopped, match="the same command goes on"):
        decode(Judge, SETTINGS, "stages.judge").run(run)
    (saved,) = (tmp_path / "out" / "chunks").rglob("*.jsonl")  # the answers of the first model; the second had not begun
    said = [{**row, "logprob": row["logprob"] + 1.0} for _, row in read_jsonl(saved)]
    write_jsonl(saved, said)
    results, _, _ = judge(inputs, tmp_path / "out")
    assert results["models"]["late"] == whole[0]["models"]["late"]
    moved = results["models"]["early"]["kl"]["mean"] - whole[0]["models"]["early"]["kl"]["mean"]
    assert moved == pytest.approx(1.0)  # what stood in the file was believed


def test_one_model_is_in_memory_at_a_time(tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[LoadedModel]] = []
    most: list[int] = []

    def load(*args: Any, **options: Any) -> LoadedModel:
        gc.collect()
        model = loaded.load(*args, **options)
        alive.append(weakref.ref(model))
        most.append(sum(one() is not None for one in alive))
        return model

    monkeypatch.setattr("herdling.stages.judge_bench._load", lambda place, run: load(place))
    judge(inputs, tmp_path / "out")
    assert most == [1] * 6  # two models, the reference, two reward models and the watch, each loaded once


def _worker(inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    judge(inputs, folder)
    (folder / "done").touch()


def test_killed_at_random_it_ends_with_the_same_bytes(tmp_path: Path, inputs: Path) -> None:
    for name, kills in (("whole", 0), ("killed", 2)):
        (tmp_path / name).mkdir()
        killed = run_killed(_worker, (inputs, tmp_path / name), tmp_path / name / "done", kills=kills, longest=1.2)
        (tmp_path / name / "done").unlink()
    assert killed > 0
    assert file_digests(tmp_path / "killed") == file_digests(tmp_path / "whole")
