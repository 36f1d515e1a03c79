"""One contestant of `bench_dpo.py`: builds a policy and its reference, then takes training steps on request. A process of its own, under a Python that has its
library.

    python dpo_worker.py '{"who": "herdling-shared", "shape": {...}, "pairs": [[[1, 5], [7, 2], [8, 2]], ...], "dtype": "bfloat16", "threads": 2, ...}'

`herdling-shared` is our step as the loop takes it (rows made by the feed, prompts once); `herdling-separate` the same with each response behind a prompt of
its own; `trl` and `trl-precomputed` are `DPOTrainer.train()` with a callback that measures.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from worker import peer_tokenizer, rounds, set_up, take_steps, trainer_settings, word

BETA, NLL = 0.1, 0.2


def run_herdling(setting: dict[str, Any]) -> None:
    """Ours: the reference asked once, then rows made anew for each step, one forward and backward, float32 masters, clipping and all."""
    from herdling.model.config import LlamaConfig
    from herdling.model.transformer import Llama
    from herdling.train.config import OptimizerConfig
    from herdling.train.dpo_loss import PreferenceLoss
    from herdling.train.forward import scorer
    from herdling.train.frozen_reference import score_responses
    from herdling.train.optim import Optimizer

    model = Llama(LlamaConfig(**setting["shape"]))
    model.init_weights(0)
    optimizer, skip = Optimizer(model, OptimizerConfig(), dtype=getattr(torch, setting["dtype"])), torch.zeros(())
    score, objective = scorer(model), PreferenceLoss(beta=BETA, nll=NLL)
    pairs = encoded_pairs(setting["pairs"])

    def ask() -> list[list[float]]:
        return score_responses(pairs, score, device=torch.device("cpu"), micro_batch_tokens=1 << 62)

    ask()
    start = time.perf_counter()
    asked = ask()
    facts = {"reference_seconds": time.perf_counter() - start}
    pairs = [replace(one, reference=tuple(logprobs)) for one, logprobs in zip(pairs, asked, strict=True)]
    batches = (shared_batches if setting["who"] == "herdling-shared" else separate_batches)(pairs, model.config.hidden_size)

    def step() -> float:
        batch = next(batches)
        loss, _ = objective.loss(score(batch), batch)
        (loss / len(pairs)).backward()
        optimizer.accumulate()
        optimizer.step(1e-5, optimizer.gradient_norm(), skip)
        return loss.item() / len(pairs)

    take_steps(step, **facts)


def encoded_pairs(pairs: Sequence[Sequence[Sequence[int]]]) -> list[Any]:
    """Return pairs whose every response token is in the loss."""
    from herdling.data.preference_rows import PreferredResponses, head_each
    from herdling.data.shared_rows import SharedPrompt

    found = []
    for prompt, *responses in pairs:
        ids = tuple(np.array(response, np.int32) for response in responses)
        every = tuple(np.ones(len(response), bool) for response in responses)
        shared = head_each(SharedPrompt(prompt=np.array(prompt, np.int32), responses=ids))
        found.append(PreferredResponses(shared=shared, ranks=(1, 2), scored=every, told=every, reference=(0.0, 0.0)))
    return found


def shared_batches(pairs: Sequence[Any], hidden_size: int) -> Iterator[Any]:
    """Yield the pairs as the stage dpo has them: rows of the feed, each prompt once."""
    from herdling.data.comparison_feed import ComparisonFeed
    from herdling.data.preference_rows import preference_batch

    lay_out = partial(preference_batch, nll_norm="batch")
    yield from ComparisonFeed(pairs, lay_out, batch_pairs=len(pairs), epochs=1 << 20, seed=0, hidden_size=hidden_size).batches(0)


def separate_batches(pairs: Sequence[Any], hidden_size: int) -> Iterator[Any]:
    """Yield the same pairs with each response behind a prompt of its own: all of a prompt in its response, nothing shared.

    A document still holds both, for the loss finds its pairs by document; each reads itself alone.
    """
    from herdling.data.comparison_feed import ComparisonFeed
    from herdling.data.preference_rows import preference_batch
    from herdling.data.shared_rows import SharedPrompt

    repeated = []
    for one in pairs:
        prompt = one.shared.prompt
        before = np.zeros(len(prompt), bool)
        repeated.append(
            replace(
                one,
                shared=SharedPrompt(prompt=prompt[:0], responses=tuple(np.concatenate([prompt, response]) for response in one.shared.responses)),
                scored=tuple(np.concatenate([before, mask]) for mask in one.scored),
                told=tuple(np.concatenate([before, mask]) for mask in one.told),
            )
        )
    lay_out = partial(preference_batch, nll_norm="batch")
    yield from ComparisonFeed(repeated, lay_out, batch_pairs=len(pairs), epochs=1 << 20, seed=0, hidden_size=hidden_size).batches(0)


def run_trl(setting: dict[str, Any]) -> None:
    """Let TRL's trainer run, and hold it between rounds."""
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    shape = {name: value for name, value in setting["shape"].items() if not name.startswith("rope")}
    model = LlamaForCausalLM(LlamaConfig(**shape, pad_token_id=0, use_cache=False))
    words = [[" ".join(map(word, part)) for part in pair] for pair in setting["pairs"]]
    rows = [{"prompt": prompt + " ", "chosen": chosen, "rejected": rejected} for prompt, chosen, rejected in words]
    before = setting["who"] == "trl-precomputed"
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            **trainer_settings(setting, folder), beta=BETA, loss_type=["sigmoid", "sft"], loss_weights=[1.0, NLL], precompute_ref_log_probs=before
        )
        tokenizer = peer_tokenizer(model.config.vocab_size)
        second = None if before else deepcopy(model)
        trainer = DPOTrainer(model=model, ref_model=second, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        found = [[row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")] for row in trainer.train_dataset]
        assert found == setting["pairs"], "TRL read other tokens than it was given"
        facts = {}
        if before:
            batch = trainer.data_collator(list(trainer.train_dataset))
            start = time.perf_counter()
            trainer.compute_ref_log_probs(trainer.model, batch)
            facts = {"reference_seconds": time.perf_counter() - start}
        trainer.add_callback(rounds(**facts))
        trainer.train()


if __name__ == "__main__":
    chosen_setting = set_up()
    (run_trl if chosen_setting["who"].startswith("trl") else run_herdling)(chosen_setting)
