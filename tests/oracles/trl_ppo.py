"""Make `trl_ppo.json`: one whole iteration of TRL's `PPOTrainer` on stated models and prompts, for `tests/parity/test_trl_ppo.py`.

Runs in an environment of its own, whose versions may clash with ours (they stand in the file); 1.12 is the last release of TRL that has PPO:

    python -m venv trl && trl/bin/pip install torch==2.13.0 && trl/bin/pip install trl==1.12.0 transformers accelerate datasets pandas
    trl/bin/python tests/oracles/trl_ppo.py

Policy, reference, critic and reward model are Llamas of two layers whose weights follow from their names (`weight_of`), in float32 on one thread. TRL samples
the answers; a callback reads what `train` computed, at the end of its iteration, and the seed of the sampling is the first that gives answers of every kind.
Its gradient accumulation is off, so that each of four mini-batches is a step.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20261125
PAD, END = 0, 2
SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
ROPE_THETA = 10_000.0
SETTINGS = {
    "response_length": 12,
    "kl_coef": 0.05,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "vf_coef": 0.1,
    "gamma": 1.0,
    "lam": 0.95,
    "missing_eos_penalty": 0.5,
    "learning_rate": 3e-3,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "adam_epsilon": 1e-5,
    "weight_decay": 0.1,
}
BATCH, MINI_BATCHES = 16, 4
ESTIMATORS = ("k1", "k3")


def weight_of(model: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the weight of this name in this model: uniform from its own stream; norms near 1; ends of turns likelier than other tokens."""
    drawn = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(f"{model} {name}".encode())])).random(shape) * 2 - 1
    weight = (1 + 0.1 * drawn if len(shape) == 1 else 0.3 * drawn).astype(np.float32)
    if name == "lm_head.weight":
        weight[END] *= 4
    return weight


def fill(module: Any, model: str) -> Any:
    """Give every parameter its weight."""
    import torch

    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.from_numpy(weight_of(model, name, tuple(weight.shape))))
    return module


def prompts() -> list[list[int]]:
    """Return prompts of 3 to 10 tokens, none of them special."""
    chance = np.random.Generator(np.random.PCG64(SEED))
    return [chance.integers(3, 61, int(chance.integers(3, 11))).tolist() for _ in range(BATCH)]


def iteration(seed: int, estimator: str) -> dict[str, Any] | None:
    """Run one iteration and return what TRL computed, or None where the answers are not of every kind."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    found: dict[str, Any] = {}

    class Reads(TrainerCallback):
        """Takes the local values of `train` at the end of its iteration."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            frame = sys._getframe()
            while frame is not None and not (frame.f_code.co_name == "train" and "advantages" in frame.f_locals):
                frame = frame.f_back
            found.update(frame.f_locals)

    vocabulary = {"<pad>": PAD, "<s>": 1, "</s>": END, **{f"t{index}": index for index in range(3, 61)}}
    words = Tokenizer(models.WordLevel(vocabulary, "<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", padding_side="left")
    config = LlamaConfig(**SHAPE, rope_theta=ROPE_THETA, num_labels=1, pad_token_id=PAD, eos_token_id=END, bos_token_id=1, tie_word_embeddings=False)
    policy, reference = fill(LlamaForCausalLM(config), "policy"), fill(LlamaForCausalLM(config), "reference")
    critic, judge = fill(LlamaForSequenceClassification(config), "critic"), fill(LlamaForSequenceClassification(config), "judge")
    with tempfile.TemporaryDirectory() as folder:
        settings = PPOConfig(
            **SETTINGS,
            kl_estimator=estimator,
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=1,
            num_mini_batches=MINI_BATCHES,
            num_ppo_epochs=1,
            total_episodes=BATCH,
            local_rollout_forward_batch_size=BATCH,
            temperature=1.0,
            whiten_rewards=False,
            stop_token="eos",
            lr_scheduler_type="constant",
            num_sample_generations=0,
            gradient_checkpointing=False,
            report_to=[],
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            seed=seed,
        )
        data = Dataset.from_list([{"input_ids": ids} for ids in prompts()])
        trainer = PPOTrainer(
            args=settings,
            processing_class=tokenizer,
            model=policy,
            ref_model=reference,
            reward_model=judge,
            value_model=critic,
            train_dataset=data,
            eval_dataset=data,
            callbacks=[Reads()],
        )
        np.random.seed(seed)  # mini-batches are drawn from numpy's global state
        trainer.train()
    return told(found, policy, critic)


def told(found: dict[str, Any], policy: Any, critic: Any) -> dict[str, Any] | None:
    """Return the numbers of an iteration as plain data."""
    answers = found["responses"].tolist()
    ends = [answer.index(END) if END in answer else None for answer in answers]
    if any(PAD in answer[: len(answer) if end is None else end] for answer, end in zip(answers, ends, strict=True)):
        return None  # padding that was sampled as a token: TRL takes it for the end of the row
    kinds = [sum(end is None for end in ends), sum(end is not None and end < len(answers[0]) - 1 for end in ends)]
    if min(kinds) < 3:
        return None
    queries = [[token for token in query if token != PAD] for query in found["queries"].tolist()]
    names = ("logprobs", "ref_logprobs", "values", "rewards", "advantages", "returns", "scores")
    changes = {}
    for model, module in (("policy", policy), ("critic", critic)):
        for name, weight in module.named_parameters():
            moved = weight.detach().numpy().astype(np.float64) - weight_of(model, name, tuple(weight.shape))
            changes[f"{model}.{name}"] = [float(np.linalg.norm(moved)), float((moved * weight_of("probe", name, tuple(weight.shape))).sum())]
    return {
        "prompts": queries,
        "answers": [answer if end is None else answer[: end + 1] for answer, end in zip(answers, ends, strict=True)],
        "order": [int(index) for index in found["b_inds"]],
        **{name: found[name].tolist() for name in names},
        "policy_losses": found["pg_loss_stats"].flatten().tolist(),
        "value_losses": found["vf_loss_stats"].flatten().tolist(),
        "changes": changes,
    }


def main() -> None:
    """Run an iteration with each estimator of the KL, and write the file."""
    import torch

    torch.set_num_threads(1)
    results = {}
    for estimator in ESTIMATORS:
        made = ((seed, iteration(seed, estimator)) for seed in range(1, 200))
        seed, result = next((seed, result) for seed, result in made if result is not None)
        results[estimator] = {"seed": seed, **result}
    packages = ("trl", "transformers", "torch", "accelerate", "datasets", "numpy")
    content = {
        "made_by": "tests/oracles/trl_ppo.py",
        "versions": {name: version(name) for name in packages},
        "seed": SEED,
        "shape": {**SHAPE, "rope_theta": ROPE_THETA},
        "settings": SETTINGS,
        "results": results,
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    print(f"{path}: " + ", ".join(f"{name} with seed {result['seed']}: losses {result['policy_losses']}" for name, result in results.items()))


if __name__ == "__main__":
    main()
