"""One contestant of `bench_reward.py`: builds a reward model, then takes training steps on request. A process of its own, under a Python that has its library.

    python reward_worker.py '{"who": "herdling-shared", "shape": {...}, "pairs": [[[1, 5], [7, 2], [8, 2]], ...], "dtype": "bfloat16", "threads": 2, ...}'

`herdling-shared` is our step as the loop takes it (rows made by the feed, prompts once); `herdling-separate` the same with each response behind a prompt of
its own; `trl` is `RewardTrainer.train()` with a callback that measures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from worker import peer_tokenizer, rounds, set_up, take_steps, trainer_settings


def herdling_step(setting: dict[str, Any]) -> Callable[[], float]:
    """Ours: rows made anew for each step, one forward and backward, float32 masters, clipping and all."""
    from herdling.model.config import LlamaConfig
    from herdling.model.reward import RewardModel
    from herdling.model.transformer import Llama
    from herdling.train.config import OptimizerConfig
    from herdling.train.forward import scorer
    from herdling.train.optim import Optimizer

    llama = Llama(LlamaConfig(**setting["shape"]))
    llama.init_weights(0)
    model = RewardModel.from_llama(llama, seed=0)
    optimizer, skip = Optimizer(model, OptimizerConfig(), dtype=getattr(torch, setting["dtype"])), torch.zeros(())
    ids = [[np.array(part, np.int32) for part in pair] for pair in setting["pairs"]]
    losses = {"herdling-shared": shared_losses, "herdling-separate": separate_losses}[setting["who"]](ids, scorer(model), llama.config.hidden_size)

    def step() -> float:
        loss = next(losses)
        (loss / len(ids)).backward()
        optimizer.accumulate()
        optimizer.step(1e-5, optimizer.gradient_norm(), skip)
        return loss.item() / len(ids)

    return step


def shared_losses(ids: list[list[Any]], score: Any, hidden_size: int) -> Iterator[Tensor]:
    """Yield the summed loss of the pairs, as the stage reward takes it: rows of the feed, each prompt once."""
    from herdling.data.comparison_feed import ComparisonFeed
    from herdling.data.comparison_rows import RankedResponses, reward_batch
    from herdling.data.shared_rows import SharedPrompt
    from herdling.train.preference_losses import PairwiseReward

    shared = [SharedPrompt(prompt=prompt, responses=(chosen, rejected)) for prompt, chosen, rejected in ids]
    ranked = [RankedResponses(shared=one, ranks=(1, 2), margin=1.0, safe=(-1, -1)) for one in shared]
    for batch in ComparisonFeed(ranked, reward_batch, batch_pairs=len(ranked), epochs=1 << 20, seed=0, hidden_size=hidden_size).batches(0):
        yield PairwiseReward().loss(score(batch), batch)[0]


def separate_losses(ids: list[list[Any]], score: Any, hidden_size: int) -> Iterator[Tensor]:
    """Yield the same loss with each response behind a prompt of its own, packed as shared prompts are."""
    from herdling.data.shared_rows import SharedPrompt, lay_out, row_length_for

    documents = [SharedPrompt(prompt=prompt, responses=(response,)) for prompt, *responses in ids for response in responses]
    length = row_length_for([document.length for document in documents], len(documents), hidden_size)
    while True:
        batch, ends = lay_out(documents, length, 0)
        values = score(batch).values[torch.from_numpy(ends[:, 0]), torch.from_numpy(ends[:, 1])]
        yield -torch.nn.functional.logsigmoid(values[::2] - values[1::2] - 1.0).sum()


def run_trl(setting: dict[str, Any]) -> None:
    """Let TRL's trainer run, and hold it between rounds."""
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    shape = {name: value for name, value in setting["shape"].items() if not name.startswith("rope")}
    config = LlamaConfig(**shape, num_labels=1, pad_token_id=0, use_cache=False)
    rows = [{"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected, "margin": 1.0} for prompt, chosen, rejected in setting["pairs"]]
    with tempfile.TemporaryDirectory() as folder:
        RewardTrainer(
            model=LlamaForSequenceClassification(config),
            args=RewardConfig(**trainer_settings(setting, folder)),
            train_dataset=Dataset.from_list(rows),
            processing_class=peer_tokenizer(config.vocab_size),
            callbacks=[rounds()],
        ).train()


if __name__ == "__main__":
    chosen_setting = set_up()
    if chosen_setting["who"] == "trl":
        run_trl(chosen_setting)
    else:
        take_steps(herdling_step(chosen_setting))
