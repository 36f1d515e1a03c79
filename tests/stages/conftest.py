"""Chat models that are trained once for all tests that need one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from herdling.base.records import dialog_to_row, write_jsonl
from herdling.checkpoint.huggingface import save_model
from herdling.generate.loaded import load
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.tokenizer.train import train_byte_level_bpe
from herdling.types import Dialog, Message
from tests.stages.toy_chat import make_chat
from tests.stages.toy_training import LOOP, MODEL, run_stage

CONTEXT = 192
ENDINGS = {"": ".", "Be loud. ": "!", "Loud. ": "!", "Be shiny. ": "*", "Shiny. ": "*", "Be shy. ": "?"}


def obedient_dialogs() -> Iterator[Dialog]:
    """Dialogs of one to three turns, in which an answer ends as its own message asks, and in no other way."""
    chance = random.Random(0)
    for number in range(160):
        messages: list[Message] = []
        for _ in range(chance.randint(1, 3)):
            asked, key = chance.choice(list(ENDINGS)), chance.randint(0, 6)
            messages += [Message(role="user", content=f"{asked}item {key}"), Message(role="assistant", content=f"key {key}{ENDINGS[asked]}")]
        yield Dialog(id=str(number), messages=tuple(messages))


@pytest.fixture(scope="session")
def obedient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `chat` (fine-tuned from it), `reward` (its body under a random head) and `data`, whose validation has plain dialogs too."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("obedient")
    made = list(obedient_dialogs())
    tokenizer = train_byte_level_bpe((message.content for dialog in made for message in dialog.messages), 290)
    model = Llama(LlamaConfig(**{**MODEL, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": CONTEXT}))
    model.init_weights(1)
    save_model(folder / "model", model, tokenizer, None)
    write_jsonl(folder / "data" / "dialogs" / "train.jsonl", map(dialog_to_row, made))
    plain = [one for one in made if not any("." in message.content for message in one.messages if message.role == "user")]
    write_jsonl(folder / "data" / "dialogs" / "validation.jsonl", map(dialog_to_row, plain))
    loop = {**LOOP, "validations": 1, "micro_batch_tokens": 2048, "checkpoint": {"every_seconds": 60.0}}
    run_stage("sft", folder, folder / "chat", epochs=25, sequence_length=CONTEXT, batch_rows=8, optimizer={"lr": 1e-2}, loop=loop)
    (folder / "chat" / "done").unlink()
    chat = load(folder / "chat")
    save_model(folder / "reward", RewardModel.from_llama(chat.model, 1), chat.tokenizer, chat.chat_format)
    return folder


@pytest.fixture(scope="session")
def chat_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a chat model, reward models and dialogs, in which nobody writes."""
    return make_chat(tmp_path_factory.mktemp("chat"))
