"""Make `trl_dpo.json`: what TRL's `DPOTrainer.compute_loss` gives on a stated policy, reference and batch, for `tests/parity/test_trl_dpo.py`.

Runs in an environment of its own, whose versions may clash with ours (they stand in the file):

    python -m venv trl && trl/bin/pip install torch==2.13.0 && trl/bin/pip install trl==1.16.0 transformers==5.23.0 accelerate datasets
    trl/bin/python -m tests.oracles.trl_dpo

Policy and reference are Llamas of two layers whose weights follow from their names, in float32 on one thread; the batch is the five pairs of `trl_reward.py`.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tests.oracles.trl_reward import END, PAD, ROPE_THETA, SEED, SHAPE, pairs, weight_of

LOSSES: dict[str, dict[str, Any]] = {
    "sigmoid": {"beta": 0.1, "loss_type": ["sigmoid"], "loss_weights": [1.0]},
    "sigmoid_sharp": {"beta": 0.7, "loss_type": ["sigmoid"], "loss_weights": [1.0]},
    "sigmoid_sft": {"beta": 0.1, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
}


def reference_weight_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the reference's weight of this name: the policy's, with a third of another drawing added to each matrix."""
    own = weight_of(name, shape)
    return own if len(shape) == 1 else own + weight_of(f"reference {name}", shape) / 3


def rows() -> list[dict[str, list[int]]]:
    """Return the pairs as TRL's collator takes them."""
    return [{"prompt_ids": pair["prompt"], **{side: pair[side][len(pair["prompt"]) :] for side in ("chosen_ids", "rejected_ids")}} for pair in pairs()]


def main() -> None:
    """Build a trainer for each loss, ask it for the loss and its gradient, and write the file."""
    import tempfile

    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(1)
    words = Tokenizer(models.WordLevel({"<pad>": PAD, "<s>": 1, "</s>": END, **{f"t{index}": index for index in range(3, 61)}}, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")
    config = LlamaConfig(**SHAPE, rope_theta=ROPE_THETA, pad_token_id=PAD, tie_word_embeddings=False)

    def model(weights: Any) -> Any:
        made = LlamaForCausalLM(config)
        with torch.no_grad():
            for name, weight in made.named_parameters():
                weight.copy_(torch.from_numpy(weights(name, tuple(weight.shape))))
        return made

    results = {}
    # The trainer wants texts to begin with; the losses below are those of the ids in `rows`.
    texts = Dataset.from_list([{"prompt": "t3 ", "chosen": "t4 </s>", "rejected": "t5 </s>"}])
    for name, loss in LOSSES.items():
        with tempfile.TemporaryDirectory() as folder:
            settings = DPOConfig(output_dir=folder, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, **loss)
            policy = model(weight_of)
            trainer = DPOTrainer(model=policy, ref_model=model(reference_weight_of), args=settings, train_dataset=texts, processing_class=tokenizer)
            batch = trainer.data_collator(rows())
            value = trainer.compute_loss(policy, batch)
            value.backward()
            chosen, rejected = trainer.compute_ref_log_probs(trainer.ref_model, batch)
            results[name] = {
                **loss,
                "loss": value.item(),
                "reference_logprobs": [list(pair) for pair in zip(chosen.tolist(), rejected.tolist(), strict=True)],
                "metrics": {key: found[-1] for key, found in trainer._metrics["train"].items() if key.split("/")[0] in ("rewards", "logps")},
                "gradient_norms": {key: weight.grad.norm().item() for key, weight in policy.named_parameters()},
            }
    packages = ("trl", "transformers", "torch", "accelerate", "datasets", "numpy")
    content = {
        "made_by": "tests/oracles/trl_dpo.py",
        "versions": {package: version(package) for package in packages},
        "seed": SEED,
        "shape": {**SHAPE, "rope_theta": ROPE_THETA},
        "rows": rows(),
        "results": results,
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(path, *(f"{name} {found['loss']:.9f}" for name, found in results.items()))


if __name__ == "__main__":
    main()
