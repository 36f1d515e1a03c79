"""The stage ppo: the reward rises, a kill changes no byte, and what does not belong together is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.responses import JSONResponse

import herdling
from herdling.base.artifact import file_digests
from herdling.base.decode import decode
from herdling.base.errors import DataError, LineageError, RemoteError, SettingsError
from herdling.base.records import dialog_to_row, read_jsonl, write_jsonl
from herdling.checkpoint.huggingface import save_model
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.stages.ppo import Ppo
from herdling.tokenizer.chat_format import chat_format
from herdling.types import Dialog, Message
from tests.data.toy_comparisons import toy_format
from tests.generate.toy_policy_server import ToyPolicyServer
from tests.generate.toy_server import served
from tests.killing import run_killed
from tests.stages.toy_training import LOOP, MODEL, stage_run

CONTEXT = 96
SETTINGS: dict[str, Any] = {
    "model": "chat",
    "rewards": {"helpfulness": "reward"},
    "data": "data",
    "max_tokens": 8,
    "batch": 16,
    "mini_batch": 4,
    "iterations": 6,
    "evaluations": 3,
    "held_out_prompts": 8,
    "patience": 0,
    "optimizer": {"lr": 2e-3},
    "loop": {**LOOP, "micro_batch_tokens": 512},
}


def llama(seed: int) -> Llama:
    """Random weights that end a turn now and then."""
    model = Llama(LlamaConfig(**{**MODEL, "max_position_embeddings": CONTEXT}))
    model.init_weights(seed)
    with torch.no_grad():
        model.output_weight[toy_format().end_of_turn_id] *= 20
    return model


def dialogs(first: int, count: int) -> list[Dialog]:
    return [
        Dialog(id=str(number), messages=(Message(role="user", content=f"the item {number}"), Message(role="assistant", content="a key")))
        for number in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model, two reward models, one of another chat format, and dialogs."""
    torch.set_num_threads(1)
    folder, chat = tmp_path_factory.mktemp("inputs"), toy_format()
    save_model(folder / "chat", llama(0), chat.tokenizer, chat)
    for name, seed, template in (("reward", 1, chat), ("safety", 2, chat), ("foreign", 1, chat_format(chat.tokenizer, "llama3.1"))):
        save_model(folder / name, RewardModel.from_llama(llama(seed), seed), chat.tokenizer, template)
    save_model(folder / "foreign_chat", llama(0), chat.tokenizer, chat_format(chat.tokenizer, "llama3.1"))
    write_jsonl(folder / "data" / "dialogs" / "train.jsonl", map(dialog_to_row, dialogs(0, 24)))
    write_jsonl(folder / "data" / "dialogs" / "validation.jsonl", map(dialog_to_row, dialogs(24, 12)))
    tagged = Dialog(id="t", messages=(Message(role="user", content="the list", tags=("safety",)), Message(role="assistant", content="a key")))
    long = Dialog(id="long", messages=(Message(role="user", content="the item " * 60), Message(role="assistant", content="a key")))
    write_jsonl(folder / "mixed" / "dialogs" / "train.jsonl", map(dialog_to_row, [*dialogs(0, 20), tagged, long]))
    write_jsonl(folder / "mixed" / "dialogs" / "validation.jsonl", ())
    return folder


def run_ppo(inputs: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    run = stage_run("ppo", inputs, folder)
    decode(Ppo, {**SETTINGS, **settings}, "stages.ppo").run(run)
    (folder / "done").touch()
    return run.summary


def run_in_worker(inputs: Path, folder: Path, settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    run_ppo(inputs, folder, **settings)


def digests(folder: Path) -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in file_digests(folder).items()}


def test_the_reward_of_held_out_prompts_rises_and_the_best_policy_comes_out(tmp_path: Path, inputs: Path) -> None:
    summary = run_ppo(inputs, tmp_path / "ppo", iterations=8)
    assert summary["held_out_reward"] > summary["held_out_reward_before"]
    curve = json.loads((tmp_path / "ppo" / "curve.json").read_text())
    assert [row["iteration"] for row in curve["iterations"]] == list(range(8))
    assert [row["iteration"] for row in curve["held_out"]] == [0, 2, 4, 6, 8]
    assert summary["held_out_reward"] == max(row["reward"] for row in curve["held_out"])
    assert curve["iterations"][0]["kl"] == pytest.approx(0, abs=1e-4) != curve["iterations"][-1]["kl"]
    assert max(row["drift"] for row in curve["iterations"]) < 1e-3
    steps = [line for _, line in read_jsonl(tmp_path / "ppo" / "metrics.jsonl")]
    assert len(steps) == 32
    assert steps[0]["ratio"] == pytest.approx(1, abs=1e-6)
    assert {line["lr"] for line in steps} == {2e-3}
    model = herdling.load(tmp_path / "ppo")
    assert model.can_chat
    assert not (tmp_path / "ppo" / "ppo").exists()
    assert len(list(read_jsonl(tmp_path / "ppo" / "samples.jsonl"))) == 4


def test_a_server_samples_by_the_weights_of_each_iteration_and_one_that_died_is_come_back_to(tmp_path: Path, inputs: Path) -> None:
    toy = ToyPolicyServer()
    with served(toy.app) as address:
        sampler = {"server": {"url": address}, "weights": str(tmp_path / "weights")}
        summary = run_ppo(inputs, tmp_path / "straight", iterations=4, sampler=sampler)
        looks = json.loads((tmp_path / "straight" / "curve.json").read_text())
        assert max(row["drift"] for row in looks["iterations"]) < 1e-5  # of other weights it would be far off
        assert len(set(toy.loaded)) == len(toy.loaded) == 5  # each iteration's, and the last look's
        assert summary["iterations"] == 4
        toy.failures = [JSONResponse([{}] * 8), JSONResponse([{}] * 16)]
        with pytest.raises(RemoteError, match="which PPO needs"):
            run_ppo(inputs, tmp_path / "died", iterations=4, sampler=sampler)
        toy.failures = []
        run_ppo(inputs, tmp_path / "died", iterations=4, sampler=sampler)
    assert digests(tmp_path / "died") == digests(tmp_path / "straight")
    assert list((tmp_path / "weights").iterdir()) == []


def test_killed_at_random_points_it_leaves_the_same_files_bit_by_bit(tmp_path: Path, inputs: Path) -> None:
    settings = {"iterations": 4, "kl_target": 0.5, "rewards": {"helpfulness": "reward", "safety": "safety"}}
    run_ppo(inputs, tmp_path / "straight", **settings)
    (tmp_path / "killed").mkdir()
    killed = run_killed(run_in_worker, (inputs, tmp_path / "killed", settings), tmp_path / "killed" / "done", kills=3)
    assert killed >= 2
    assert digests(tmp_path / "killed") == digests(tmp_path / "straight")


def test_answers_without_an_end_and_prompts_without_room_are_counted_and_no_end_is_added(tmp_path: Path, inputs: Path) -> None:
    summary = run_ppo(inputs, tmp_path / "ppo", data="mixed", evaluations=0, iterations=2)
    ledger = json.loads((tmp_path / "ppo" / "ledger.json").read_text())
    assert (ledger["rows_in"], ledger["kept"], ledger["counts"]["answers"]) == (22, 21, 32)
    assert {reason: entry["count"] for reason, entry in ledger["dropped"].items()} == {"leaves no room for an answer": 1}
    assert 0 < ledger["counts"]["answers that did not end"] < 32
    assert "held_out_reward" not in summary
    rows = json.loads((tmp_path / "ppo" / "first_rows.json").read_text())
    stops = herdling.load(tmp_path / "ppo").engine.stop_ids
    learned = [label for labels, mask in zip(rows["labels"], rows["loss_mask"], strict=True) for label, wanted in zip(labels, mask, strict=True) if wanted]
    first = json.loads((tmp_path / "ppo" / "curve.json").read_text())["iterations"][0]
    assert sum(label in stops for label in learned) <= 16 - first["without_end"]


def test_a_small_batch_ends_early_where_nothing_is_gained(tmp_path: Path, inputs: Path) -> None:
    summary = run_ppo(inputs, tmp_path / "ppo", iterations=6, evaluations=6, patience=2, optimizer={"lr": 1e-12})
    assert summary["iterations"] == 2  # the looks before iterations 1 and 2 found nothing better
    assert summary["best_iteration"] == 0
    assert digests(tmp_path / "ppo")["model.safetensors"] == digests(inputs / "chat")["model.safetensors"]


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(LineageError, match=r"rewards\.helpfulness: .* was trained with the chat template"):
        run_ppo(inputs, tmp_path / "a", rewards={"helpfulness": "foreign"})
    with pytest.raises(LineageError, match=r"reference: .* was trained with the chat template"):
        run_ppo(inputs, tmp_path / "b", reference="foreign_chat")


def test_settings_and_data_that_cannot_work_are_errors(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(SettingsError, match="does not divide the batch of 16"):
        run_ppo(inputs, tmp_path / "a", mini_batch=5)
    with pytest.raises(DataError, match="has no held-out prompts"):
        run_ppo(inputs, tmp_path / "b", data="mixed")
    with pytest.raises(DataError, match="no row is left"):
        run_ppo(inputs, tmp_path / "c", max_tokens=90)
