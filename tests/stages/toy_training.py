"""Toy inputs for the stages that train: a tokenizer, token shards and dialogs, and runs of the stages in processes that can be killed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from herdling.base.decode import decode
from herdling.base.records import dialog_to_row, write_jsonl
from herdling.data.token_shards import write_shards
from herdling.stages.pretrain import Pretrain
from herdling.stages.registry import StageRun
from herdling.stages.sft import Sft
from herdling.tokenizer.train import train_byte_level_bpe
from herdling.types import Dialog, Document, Message
from tests.killing import run_killed

MODEL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
# As often as the disk allows: a kill then meets every part of saving.
LOOP = {"device": "cpu", "dtype": "float32", "micro_batch_tokens": 256, "validations": 3, "checkpoint": {"every_seconds": 0.0}}
PRETRAIN = {"tokens": "tokens", "tokenizer": "tokenizer", "model": MODEL, "num_tokens": "15K", "batch": "512@64", "max_epochs": 100.0}
SFT = {"model": "model", "data": "data", "sequence_length": 64, "batch_rows": 8}


def make_inputs(folder: Path) -> Path:
    """Write `tokenizer/`, `tokens/` of two sources and `data/` with dialogs."""
    chance = random.Random(0)
    words = ["list", "dict", "tuple", "string", "number", "returns", "the", "a", "of", "an", "item", "key", "value", "for", "each"]
    texts = [" ".join(chance.choices(words, k=chance.randint(5, 60))) for _ in range(80)]
    tokenizer = train_byte_level_bpe(iter(texts), 300)
    tokenizer.save(folder / "tokenizer")
    for number, name in enumerate(("code.train", "code.validation", "books.train", "books.validation")):
        documents = (Document(text=text, id=text, source=name.split(".")[0]) for text in texts[number::4])
        write_shards(folder / "tokens" / name, name.split(".")[0], documents, tokenizer)
    for split, count in (("train", 60), ("validation", 6)):
        write_jsonl(folder / "data" / "dialogs" / f"{split}.jsonl", (dialog_to_row(_dialog(index)) for index in range(count)))
    return folder


def _dialog(index: int) -> Dialog:
    system = (Message(role="system", content="Be short."),) if index % 2 else ()
    question, answer = Message(role="user", content=f"the item {index}"), Message(role="assistant", content=f"a key {index % 7}")
    return Dialog(id=str(index), messages=(*system, question, answer))


def stage_run(stage: str, inputs: Path, folder: Path, **options: Any) -> StageRun:
    """Return the run of a stage into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun(name=stage, folder=folder, seed=1, inputs={path.name: path for path in inputs.iterdir()}, **options)


def run_stage(stage: str, inputs: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    """Run a stage to its end in this process, on one thread; return its summary."""
    made: Any = decode(Pretrain, {**PRETRAIN, "loop": LOOP, **settings}, "stages.pretrain") if stage == "pretrain" else None
    made = made or decode(Sft, {**SFT, "loop": LOOP, **settings}, "stages.sft")
    run = stage_run(stage, inputs, folder)
    made.run(run)
    (folder / "done").touch()
    return run.summary


def _worker(stage: str, inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    run_stage(stage, inputs, folder)


def run_stage_killed(stage: str, inputs: Path, folder: Path, **options: Any) -> int:
    """Run a stage that is killed at random times until it is through."""
    folder.mkdir()
    return run_killed(_worker, (stage, inputs, folder), folder / "done", **options)
