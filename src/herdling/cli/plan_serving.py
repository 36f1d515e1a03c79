"""What `herdling plan --for serve` says: how GPUs hold a model and its cache, and how fast they write."""

from __future__ import annotations

import json

from rich.console import Console

from herdling.base.errors import SettingsError
from herdling.cli.plan_table import memory_bar
from herdling.cli.plan_training import in_gib
from herdling.model.config import LlamaConfig
from herdling.plan.hardware import Gpu
from herdling.plan.memory import inference_memory
from herdling.plan.throughput import decoding


def plan_serving(model: LlamaConfig, name: str, gpus: int, gpu: Gpu, seq_len: int, *, sequences: int, as_json: bool) -> None:
    """Print how the GPUs serve: tensor parallel inside a server, pipeline across (Llama 3, section 6.1)."""
    tp = max(size for size in (1, 2, 4, 8, 16, 32, 64) if size <= min(gpus, gpu.domain_size) and gpus % size == 0 and model.num_attention_heads % size == 0)
    pp = gpus // tp
    memory = inference_memory(model, tp=tp, pp=pp, sequences=sequences, seq_len=seq_len)
    if memory.total > gpu.memory_gib * 2**30:
        weights = model.num_parameters() * 2 / 2**30
        raise SettingsError(
            f"{name} on {gpus} x {gpu.name}: serving needs {memory.total / 2**30:,.0f} GiB a GPU, there are {gpu.memory_gib:.0f} "
            f"(weights of {weights:.0f} GiB over {gpus}, cache of {sequences:,} x {seq_len:,} tokens). Change --gpus, --batch or --seq-len"
        )
    per_token, prompts = decoding(model, gpu, tp=tp, pp=pp, sequences=sequences, seq_len=seq_len)
    answer = {"tp": tp, "pp": pp, "memory_gib": in_gib(memory), "seconds_per_token": per_token, "prompt_seconds": prompts}
    answer |= {"tokens_per_s": sequences / per_token, "sequences": sequences, "seq_len": seq_len}
    if as_json:
        print(json.dumps({"model": name, "gpus": gpus, "gpu": gpu.name, **answer}, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{name} on {gpus} x {gpu.name}, TP {tp} x PP {pp}: {sequences} sequences of {seq_len:,} tokens")
    console.print(f"memory, GiB a GPU (of {gpu.memory_gib:.0f}): " + memory_bar(in_gib(memory), gpu.memory_gib))
    console.print(f"{per_token * 1000:.1f} ms a token, {sequences / per_token:,.0f} tokens/s together; reading the prompts {prompts:.2f}s")
