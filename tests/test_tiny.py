"""The tour: from two folders of text to a chat, through every stage, by the Python surface that users have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import herdling
from herdling.base.errors import LineageError

SONG = "Ten small llamas walked in a row. One small llama stopped to know.\n"
CODE = "def add(first, second):\n    return first + second\n\n\ndef herd(llamas):\n    return [llama.name for llama in llamas]\n"


def write_texts(folder: Path) -> None:
    for number in range(12):
        path = folder / "songs" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SONG * (10 + number) + f"Song {number} ends here.\n")
    rows = ({"text": CODE * (5 + number) + f"# file {number}\n"} for number in range(12))
    (folder / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = ((f"What is {number} llamas and one more?", f"It is {number + 1} llamas.") for number in range(40))
    chats = ([{"role": "user", "content": ask}, {"role": "assistant", "content": answer}] for ask, answer in pairs)
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))


def recipe(folder: Path) -> dict[str, Any]:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    return {
        "name": "tiny",
        "stages": {
            "prepare_data": {"sources": {"songs": str(folder / "songs"), "code": str(folder / "code.jsonl")}, "dialogs": str(folder / "chats.jsonl")},
            "train_tokenizer": {"data": "@prepare_data", "vocab_size": 384},
            "tokenize": {"data": "@prepare_data", "tokenizer": "@train_tokenizer"},
            "pretrain": {
                "tokens": "@tokenize",
                "tokenizer": "@train_tokenizer",
                "model": {"vocab_size": 384, "max_position_embeddings": 128, "tie_word_embeddings": True, **shape},
                "num_tokens": "20K",
                "batch": "512@128",
                "max_epochs": 50.0,
                "optimizer": {"lr": 1e-2},
            },
            "sft": {"model": "@pretrain", "data": "@prepare_data", "epochs": 8, "batch_rows": 2, "optimizer": {"lr": 1e-2}},
            "evaluate": {"models": {"base": "@pretrain", "sft": "@sft"}, "data": "@prepare_data", "tokens": "@tokenize"},
            "export": {"model": "@sft"},
            "report": {"of": ["@prepare_data", "@pretrain", "@sft", "@evaluate", "@export"]},
        },
    }


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_texts(folder)
    herdling.run(recipe(folder), runs=folder / "runs")
    return folder / "runs" / "tiny"


def test_every_stage_leaves_an_artifact_with_its_time(run_folder: Path) -> None:
    for name in recipe(run_folder)["stages"]:
        manifest = json.loads((run_folder / name / "manifest.json").read_text())
        assert manifest["status"] == "done"
        assert manifest["seconds"] > 0
    assert (run_folder / "report" / "report.html").stat().st_size > 5000


def test_pretraining_learns_the_texts_and_finetuning_ends_its_turns(run_folder: Path) -> None:
    lines = [json.loads(line) for line in (run_folder / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["split"] == "train"]
    assert losses[-1] < 0.5 * losses[0]
    answer = herdling.load(run_folder / "sft").chat([{"role": "user", "content": "What is 7 llamas and one more?"}], temperature=0, max_tokens=40)
    assert answer.stop_reason == "end_of_turn"
    assert "llamas" in answer.message.content


def test_the_export_says_what_the_trained_model_says(run_folder: Path) -> None:
    trained, exported = herdling.load(run_folder / "sft"), herdling.load(run_folder / "export")
    assert trained.generate("Ten small", max_tokens=20, temperature=0) == exported.generate("Ten small", max_tokens=20, temperature=0)
    assert herdling.load_tokenizer(run_folder / "export").fingerprint == trained.tokenizer.fingerprint


def test_a_changed_recipe_is_refused_not_mixed(run_folder: Path) -> None:
    changed = recipe(run_folder.parent.parent)
    changed["stages"]["train_tokenizer"]["vocab_size"] = 380
    with pytest.raises(LineageError, match="vocab_size: was 384, now 380"):
        herdling.run(changed, runs=run_folder.parent)
