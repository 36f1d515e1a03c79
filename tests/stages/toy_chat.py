"""A chat model that learned small answers, two reward models beside it, and the dialogs that it is asked: for the stages that sample."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch

from herdling.base.records import dialog_to_row, write_jsonl
from herdling.checkpoint.huggingface import load_model, save_model
from herdling.model.config import LlamaConfig
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.starter.refusals import HARMFUL_ANSWER
from herdling.tokenizer import load_tokenizer
from herdling.tokenizer.chat_format import chat_format
from herdling.tokenizer.train import train_byte_level_bpe
from herdling.types import Dialog, Message
from tests.stages.toy_training import MODEL, run_stage

CONTEXT = 160
LOOP = {"device": "cpu", "dtype": "float32", "micro_batch_tokens": 2048, "validations": 1}


def toy_dialogs(count: int = 60) -> Iterator[Dialog]:
    """Dialogs of one or two turns, some that ask for harm and are tagged so, with a category."""
    chance = random.Random(0)
    for number in range(count):
        messages: list[Message] = []
        for _ in range(chance.randint(1, 2)):
            harmful = chance.random() < 0.3
            asked = f"steal the {chance.choice(['car', 'key', 'bike'])} {number}" if harmful else f"the item {number}"
            tags = ("safety", chance.choice(["theft", "fraud", "other"])) if harmful else ()
            answer = HARMFUL_ANSWER if harmful else f"a key {number % 7}."
            messages += [Message(role="user", content=asked, tags=tags), Message(role="assistant", content=answer)]
        yield Dialog(id=f"d{number}", messages=tuple(messages))


def make_chat(folder: Path) -> Path:
    """Write `data/`, `base/`, `chat/`, `helpful/`, `safe/` and `stranger/` (a reward model of another chat template)."""
    torch.set_num_threads(1)
    made = list(toy_dialogs())
    tokenizer = train_byte_level_bpe((message.content for dialog in made for message in dialog.messages), 330)
    base = Llama(LlamaConfig(**{**MODEL, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": CONTEXT}))
    base.init_weights(1)
    save_model(folder / "model", base, tokenizer, None)
    for split, dialogs in (("train", made[:48]), ("validation", made[48:])):
        write_jsonl(folder / "data" / "dialogs" / f"{split}.jsonl", map(dialog_to_row, dialogs))
    run_stage("sft", folder, folder / "chat", epochs=24, sequence_length=CONTEXT, batch_rows=8, optimizer={"lr": 1e-2}, loop=LOOP)
    (folder / "chat" / "done").unlink()
    own = load_tokenizer(folder / "chat")
    for name, seed, template in (("helpful", 1, "llama3.1"), ("safe", 2, "llama3.1"), ("stranger", 3, "llama3")):
        reward = RewardModel.from_llama(load_model(folder / "chat", dtype=torch.float32), seed=seed)
        with torch.no_grad():
            reward.score.weight.mul_(3)  # an untrained head has its own taste; wide enough to tell answers apart
        save_model(folder / name, reward, own, chat_format(own, template))
    return folder
