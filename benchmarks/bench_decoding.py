"""Greedy decoding, tokens a second, against transformers' `generate` with the same weights. Prints one JSON line.

    python benchmarks/bench_decoding.py [--rounds 5] [--sizes 1M,5M,15M] [--batches 1,8] [--threads 1,2] [--write benchmarks/results/decoding.json]

Models: the dial's shapes with random weights and 4,096 ids; prompts of 16 tokens, 128 new ones, nothing stops early. A run is a whole answer: reading the
prompt, decoding, choosing tokens. Ways: ours (`Engine.generate`) and transformers (sdpa, default cache), each in float32 and bfloat16, on each number of
threads. In a round each way goes once, in turn, so that all meet the same disturbances; the ratio is the median over rounds of our best way by the peer's
best, best by the median. The tokens of the float32 ways are compared first. `prepare_seconds`: making our decoder, once for a model. On a machine that others
use too, more than one thread measures mostly the waiting: give --threads 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from machine import machine_facts
from result import give_result
from transformers import LlamaConfig as PeerConfig
from transformers import LlamaForCausalLM
from transformers.utils import logging

from herdling.base.decode import encode
from herdling.generate.engine import Engine, Request
from herdling.model.config import LlamaConfig
from herdling.model.dial import dial
from herdling.model.transformer import Llama
from herdling.types import Sampling

PROMPT, NEW = 16, 128
Way = Callable[[torch.Tensor], list[list[int]]]


def our_way(engine: Engine) -> Way:
    sampling = Sampling(temperature=0, max_tokens=NEW)

    def answer(prompts: torch.Tensor) -> list[list[int]]:
        return [one.token_ids for one in engine.generate([Request(prompt, sampling) for prompt in prompts.tolist()])]

    return answer


def peer_way(model: Llama, config: LlamaConfig, dtype: torch.dtype) -> Way:
    fields = {name: value for name, value in encode(config).items() if name != "rope_scaling"}
    peer = LlamaForCausalLM(PeerConfig(**fields, attn_implementation="sdpa", bos_token_id=1, eos_token_id=None, pad_token_id=0))
    peer.load_state_dict(model.state_dict(), strict=not config.tie_word_embeddings)
    peer = peer.to(dtype).eval()

    def answer(prompts: torch.Tensor) -> list[list[int]]:
        mask = torch.ones_like(prompts)
        with torch.inference_mode():
            ids = peer.generate(prompts, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
        return ids[:, PROMPT:].tolist()

    return answer


def measure(size: str, batch: int, rounds: int, thread_counts: list[int]) -> dict[str, Any]:
    """Return tokens a second of each way, and our ratio."""
    config = dial({"1M": 1.3e6, "5M": 5.1e6, "15M": 16e6}[size], vocab_size=4096, sequence_length=1024).config
    model = Llama(config)
    model.init_weights(1)
    started = time.perf_counter()
    engine = Engine(model.eval(), None)
    prepare_seconds = time.perf_counter() - started
    ways = {"ours float32": our_way(engine), "ours bfloat16": our_way(Engine(deepcopy(model).to(torch.bfloat16), None))}
    ways |= {f"transformers {name}": peer_way(model, config, dtype) for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))}
    prompts = torch.randint(0, 4096, (batch, PROMPT), generator=torch.Generator().manual_seed(0))
    same = ways["ours float32"](prompts) == ways["transformers float32"](prompts)
    cores = torch.get_num_threads()
    speeds: dict[str, list[float]] = {f"{name}, {threads} threads": [] for name in ways for threads in thread_counts}
    for _ in range(rounds):
        for label, found in speeds.items():
            name, threads = label.removesuffix(" threads").rsplit(", ", 1)
            torch.set_num_threads(int(threads))
            started = time.perf_counter()
            ways[name](prompts)
            found.append(batch * NEW / (time.perf_counter() - started))
    torch.set_num_threads(cores)
    medians = {label: round(statistics.median(found), 1) for label, found in speeds.items()}
    ours = max((label for label in medians if label.startswith("ours")), key=medians.__getitem__)
    peer = max((label for label in medians if not label.startswith("ours")), key=medians.__getitem__)
    ratios = sorted(a / b for a, b in zip(speeds[ours], speeds[peer], strict=True))
    return {
        "size": size,
        "parameters": config.num_parameters(),
        "batch": batch,
        "same_tokens": same,
        "prepare_seconds": round(prepare_seconds, 4),
        "tokens_per_second": medians,
        "best_peer": peer,
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Greedy decoding against transformers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="1M,5M,15M")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--threads", default=",".join(map(str, sorted({1, torch.get_num_threads()}))))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    facts = machine_facts("torch", "transformers")
    batches = [int(batch) for batch in options.batches.split(",")]
    threads = [int(number) for number in options.threads.split(",")]
    results = [measure(size, batch, options.rounds, threads) for size in options.sizes.split(",") for batch in batches]
    line = {"benchmark": "decoding", "prompt": PROMPT, "new_tokens": NEW, "rounds": options.rounds, "results": results, "machine": facts}
    give_result(line, options.write)


if __name__ == "__main__":
    main()
