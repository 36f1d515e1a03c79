"""Make `trl_reward.json`: what TRL's `RewardTrainer.compute_loss` gives on a stated model and batch, for `tests/parity/test_trl_reward.py`.

Runs in an environment of its own, whose versions may clash with ours (they stand in the file):

    python -m venv trl && trl/bin/pip install torch==2.13.0 && trl/bin/pip install trl==1.16.0 transformers==5.23.0 accelerate datasets
    trl/bin/python tests/oracles/trl_reward.py

The model is a Llama of two layers whose weights follow from their names (`weight_of`), in float32 on one thread; the batch is five pairs of unlike lengths.
"""

from __future__ import annotations

import json
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
MARGINS = [3.0, 2.0, 1.0, 0.0, 2 / 3]


def weight_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the weight of this name: uniform from its own stream, wide enough that scores differ; norms near 1."""
    drawn = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(name.encode())])).random(shape) * 2 - 1
    return (1 + 0.1 * drawn if len(shape) == 1 else 0.3 * drawn).astype(np.float32)


def pairs() -> list[dict[str, Any]]:
    """Return five prompts with a chosen and a rejected response, each ending with the end-of-turn id."""
    chance = np.random.Generator(np.random.PCG64(SEED))
    sizes = [(12, 3, 9), (5, 14, 2), (20, 1, 1), (1, 6, 7), (8, 4, 4)]
    drawn = [[chance.integers(3, 61, size).tolist() for size in one] for one in sizes]
    return [
        {"prompt": prompt, "chosen_ids": [*prompt, *chosen, END], "rejected_ids": [*prompt, *rejected, END], "margin": margin}
        for (prompt, chosen, rejected), margin in zip(drawn, MARGINS, strict=True)
    ]


def main() -> None:
    """Build the trainer, ask it for the losses with and without margins, and write the file."""
    import tempfile

    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast
    from trl import RewardConfig, RewardTrainer

    torch.set_num_threads(1)
    vocabulary = {"<pad>": PAD, "<s>": 1, "</s>": END, **{f"t{index}": index for index in range(3, 61)}}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "<pad>")), pad_token="<pad>", eos_token="</s>")
    config = LlamaConfig(**SHAPE, rope_theta=ROPE_THETA, num_labels=1, pad_token_id=PAD, tie_word_embeddings=False)
    model = LlamaForSequenceClassification(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(weight_of(name, tuple(weight.shape))))
    rows = [{name: value for name, value in pair.items() if name != "prompt"} for pair in pairs()]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = RewardConfig(output_dir=folder, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False)
        trainer = RewardTrainer(model=model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        for name in ("margin", "no_margin"):
            used = rows if name == "margin" else [{key: value for key, value in row.items() if key != "margin"} for row in rows]
            model.zero_grad()
            loss, outputs = trainer.compute_loss(model, trainer.data_collator(used), return_outputs=True)
            loss.backward()
            results[name] = {
                "loss": loss.item(),
                "scores": [list(pair) for pair in zip(*(part.tolist() for part in outputs.logits[:, 0].detach().chunk(2)), strict=True)],
                "accuracy": trainer._metrics["train"]["accuracy"][-1],
                "mean_margin": trainer._metrics["train"]["margin"][-1],
                "gradient_of_score": model.score.weight.grad[0].tolist(),
                "gradient_norms": {name: weight.grad.norm().item() for name, weight in model.named_parameters()},
            }
    packages = ("trl", "transformers", "torch", "accelerate", "datasets", "numpy")
    content = {
        "made_by": "tests/oracles/trl_reward.py",
        "versions": {name: version(name) for name in packages},
        "seed": SEED,
        "shape": {**SHAPE, "rope_theta": ROPE_THETA},
        "pairs": pairs(),
        "results": results,
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: loss with margins {results['margin']['loss']:.9f}, without {results['no_margin']['loss']:.9f}")


if __name__ == "__main__":
    main()
