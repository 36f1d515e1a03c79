"""One contestant of `bench_training.py`: builds a model, then runs training steps on request. A process of its own, so that allocator settings and libraries
of one contestant cannot touch another; runs under any Python that has the contestant's library.

    python training_worker.py '{"who": "herdling", "shape": {...}, "rows": 8, "length": 256, "dtype": "bfloat16", "compile": false, "allocator": true}'

Prints a JSON line when ready (with the seconds of the first step), then reads numbers of steps from standard input and prints the seconds of each step.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

warnings.filterwarnings("ignore")
Step = Callable[[], object]


def herdling_step(setting: dict[str, Any], ids: Tensor, labels: Tensor) -> Step:
    """Ours: weights in the wanted dtype, float32 masters, clipping and all, as the training loop runs it."""
    from herdling.model.config import LlamaConfig
    from herdling.model.heads import token_logprobs
    from herdling.model.transformer import Llama
    from herdling.train.config import OptimizerConfig
    from herdling.train.optim import Optimizer

    model = Llama(LlamaConfig(**setting["shape"]))
    model.init_weights(0)
    optimizer = Optimizer(model, OptimizerConfig(), dtype=getattr(torch, setting["dtype"]))
    mask = torch.ones_like(ids, dtype=torch.bool)
    skip = torch.zeros(())

    def loss() -> Tensor:
        return -token_logprobs(model(ids), model.output_weight, labels, mask).sum() / mask.numel()

    if setting["compile"]:
        model.compile()

    def step() -> float:
        value = loss()
        value.backward()
        optimizer.accumulate()
        optimizer.step(1e-4, optimizer.gradient_norm(), skip)
        return value.item()

    return step


def transformers_step(setting: dict[str, Any], ids: Tensor, labels: Tensor) -> Step:
    """Hugging Face transformers' LlamaForCausalLM with its own loss."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {name: value for name, value in setting["shape"].items() if not name.startswith("rope")}
    config = LlamaConfig(**shape, attn_implementation=setting["who"].split("-")[1], use_cache=False)
    model = LlamaForCausalLM(config).train()
    return _peer_step(model, lambda: model(input_ids=ids, labels=ids).loss, setting)


def litgpt_step(setting: dict[str, Any], ids: Tensor, labels: Tensor) -> Step:
    """LitGPT's model with the chunked cross-entropy of its own training loop."""
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy

    shape = setting["shape"]
    config = Config(
        n_layer=shape["num_hidden_layers"],
        n_head=shape["num_attention_heads"],
        n_query_groups=shape["num_key_value_heads"],
        n_embd=shape["hidden_size"],
        head_size=shape["head_dim"],
        intermediate_size=shape["intermediate_size"],
        vocab_size=shape["vocab_size"],
        padded_vocab_size=shape["vocab_size"],
        block_size=setting["length"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    model = GPT(config)
    if shape["tie_word_embeddings"]:
        model.lm_head.weight = model.transformer.wte.weight
    return _peer_step(model, lambda: chunked_cross_entropy(model(ids), labels), setting)


def _peer_step(model: torch.nn.Module, loss: Callable[[], Tensor], setting: dict[str, Any]) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    bf16 = setting["dtype"] == "bfloat16"
    if setting["compile"]:
        model.compile()

    def step() -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext():
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.item()

    return step


STEPS = {"herdling": herdling_step, "transformers": transformers_step, "litgpt": litgpt_step}


def main() -> None:
    """Build the contestant, report, then run what is asked."""
    setting = json.loads(sys.argv[1])
    if setting["allocator"]:  # glibc: keep freed blocks (model/precision.py gives the reason)
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**31 - 1)
        libc.mallopt(-1, 2**31 - 1)
    torch.set_num_threads(setting["threads"])
    torch.set_float32_matmul_precision(setting.get("matmul_precision", "highest"))
    torch.manual_seed(0)
    ids = torch.randint(0, setting["shape"]["vocab_size"], (setting["rows"], setting["length"]))
    step = STEPS[setting["who"].split("-")[0]](setting, ids, torch.roll(ids, -1, dims=1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    loss = step()
    first = time.perf_counter() - start
    start = time.perf_counter()
    step()
    facts = {
        "first_step_seconds": first,
        "second_step_seconds": time.perf_counter() - start,
        "loss": loss,
        "rss_before_mib": before / 1024,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)


if __name__ == "__main__":
    main()
