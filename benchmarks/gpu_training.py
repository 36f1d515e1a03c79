"""Training steps on one GPU: tokens a second, MFU and memory, ours and transformers'; whole rows, and rows of packed documents. Prints one JSON line.

    python benchmarks/gpu_training.py [--device cuda] [--quick] [--shapes 125M,1.1B] [--lengths 2048,4096] [--tokens 8192] [--write FILE]

Correctness first, and nothing is timed if it fails: (1) a small model's log-probabilities on the device, in float32, are the CPU's within 1e-3 nats; (2)
attention within documents on the device equals a dense mask's, in float32, values and gradients, within 1e-3 of their norm; (3) transformers with our
weights has our loss, within 1e-3 nats. Then steps, one contestant after the other: ours (bfloat16 weights, float32 masters, clipping, as the loop runs it)
and transformers with sdpa, once under autocast over float32 weights and once with bfloat16 weights alone (less exact: no masters), all with fused AdamW,
eager and compiled. Packed rows: ours skips what the documents hide (flex attention on CUDA), transformers gets the same rows with a dense mask and
restarted positions. MFU counts what a position may read, so a packed row counts fewer FLOPs. `attention_ms` is one layer's forward and backward, three
ways. A contestant that runs out of memory is reported as such. `--device cpu --quick` runs all of it but CUDA itself, on a miniature. Without a CUDA device
it ends with code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from device import forget, peak_mib, seconds_of, wanted_device
from machine import machine_facts
from result import give_result
from torch import Tensor
from transformers import LlamaConfig as PeerConfig
from transformers import LlamaForCausalLM

from herdling.base.decode import encode
from herdling.model.attention import self_attention
from herdling.model.config import LlamaConfig
from herdling.model.masks import document_mask, first_readable
from herdling.model.precision import matrix_peak
from herdling.model.transformer import Llama
from herdling.train.config import OptimizerConfig
from herdling.train.forward import scorer
from herdling.train.metrics import peak_flops
from herdling.train.optim import Optimizer
from herdling.types import Batch

TOLERANCE = 1e-3
SHAPES = {
    # hidden_size, intermediate_size, layers, heads, key heads, vocabulary
    "tiny": (64, 176, 2, 4, 2, 512),
    "125M": (768, 2048, 12, 12, 12, 32_000),  # 134M with its own output matrix
    "1.1B": (2048, 5632, 22, 32, 4, 32_000),
}
WAYS = ("herdling", "transformers-autocast", "transformers-bfloat16")
Step = Callable[[], Any]


def shape(name: str, length: int) -> LlamaConfig:
    """Return one of the shapes, for rows of this length."""
    hidden, inner, layers, heads, key_heads, vocabulary = SHAPES[name]
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=hidden // heads,
        max_position_embeddings=length,
    )


def rows_of(config: LlamaConfig, rows: int, length: int, device: torch.device, *, packed: bool) -> Batch:
    """Draw rows of random ids: one document each, or documents that begin at random places, eight a row on average. The last position is not supervised."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (rows, length), generator=generator)
    begins = torch.rand(rows, length, generator=generator) < (8 / length if packed else 0.0)
    begins[:, 0] = True
    positions = torch.arange(length)
    wanted = torch.ones(rows, length, dtype=torch.bool)
    wanted[:, -1] = False
    batch = Batch(
        input_ids=ids,
        labels=torch.roll(ids, -1, dims=1),
        loss_mask=wanted,
        position_ids=positions - torch.where(begins, positions, 0).cummax(dim=1).values,
        document_ids=begins.long().cumsum(dim=1) - 1,
    )
    return Batch(**{name: getattr(batch, name).to(device) for name in ("input_ids", "labels", "loss_mask", "position_ids", "document_ids")})


def our_model(config: LlamaConfig, device: torch.device) -> Llama:
    """Return our model with the weights of seed 0."""
    model = Llama(config)
    model.init_weights(0)
    return model.to(device)


def peer_model(config: LlamaConfig, device: torch.device) -> LlamaForCausalLM:
    """Return transformers' model with the same weights."""
    fields = {name: value for name, value in encode(config).items() if name != "rope_scaling"}
    peer = LlamaForCausalLM(PeerConfig(**fields, attn_implementation="sdpa", use_cache=False, pad_token_id=0))
    peer.load_state_dict(our_model(config, torch.device("cpu")).state_dict())
    return peer.to(device).train()


def our_loss(model: Llama, batch: Batch, *, packed: bool, compiled: bool = False) -> Callable[[], Tensor]:
    """Return the mean loss of the supervised tokens, by our forward of training."""
    score, num_tokens = scorer(model, compiled=compiled), int(batch.loss_mask.sum())
    if not packed:
        batch = Batch(**{name: getattr(batch, name) for name in ("input_ids", "labels", "loss_mask")}, position_ids=None, document_ids=None)  # type: ignore[arg-type]
    return lambda: -score(batch).logprobs.sum() / num_tokens


def peer_loss(peer: torch.nn.Module, batch: Batch, *, packed: bool) -> Callable[[], Tensor]:
    """Return the same by transformers' own loss, which shifts the labels itself."""
    kept = {"attention_mask": document_mask(batch.document_ids), "position_ids": batch.position_ids} if packed else {}
    return lambda: peer(input_ids=batch.input_ids, labels=batch.input_ids, **kept).loss


def check(device: torch.device) -> dict[str, float]:
    """Return the three differences that the first lines speak of; ends the process with code 1 where one is too large."""
    torch.set_float32_matmul_precision("highest")
    config = shape("tiny", 300)
    here, there = (rows_of(config, 2, 300, where, packed=True) for where in (torch.device("cpu"), device))
    with torch.no_grad():
        ours = scorer(our_model(config, here.input_ids.device))(here).logprobs
        theirs = scorer(our_model(config, device))(there).logprobs.cpu()
    found = {"device_against_cpu_nats": float((ours - theirs).abs().max()), **_attention_differences(device)}
    for packed in (False, True):
        with torch.no_grad():
            mine, peers = (
                float(loss())
                for loss in (our_loss(our_model(config, device), there, packed=packed), peer_loss(peer_model(config, device), there, packed=packed))
            )
        found[f"transformers_{'packed' if packed else 'whole'}_nats"] = abs(mine - peers)
    wrong = {name: value for name, value in found.items() if not value <= TOLERANCE}
    if wrong:
        print(f"gpu_training: not the same: {wrong}; accepted: {TOLERANCE}. Nothing was timed", file=sys.stderr)
        sys.exit(1)
    return found


def _attention_differences(device: torch.device) -> dict[str, float]:
    """Return how far attention within documents is from a dense mask's, values and gradients, relative to the norm; the worst of some rows and heads."""
    worst = {"attention": 0.0, "attention_gradients": 0.0}
    for heads, key_heads in ((4, 4), (4, 2)):
        ids = rows_of(shape("tiny", 300), 2, 300, device, packed=True).document_ids
        generator = torch.Generator().manual_seed(heads + key_heads)
        drawn = [torch.randn(2, count, 300, 64, generator=generator).to(device) for count in (heads, key_heads, key_heads, heads)]
        found = _read_and_gradients(self_attention(ids, 300, device), drawn)
        exact = _read_and_gradients(_dense(document_mask(ids)), drawn)
        differences = [float((one - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]
        worst = {"attention": max(worst["attention"], differences[0]), "attention_gradients": max(worst["attention_gradients"], *differences[1:])}
    return worst


def _dense(mask: Tensor | None) -> Callable[[int, Tensor, Tensor, Tensor], Tensor]:
    return lambda layer, queries, keys, values: F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=mask is None, enable_gqa=True)


def _read_and_gradients(attend: Callable[[int, Tensor, Tensor, Tensor], Tensor], drawn: list[Tensor]) -> list[Tensor]:
    inputs = [tensor.detach().clone().requires_grad_() for tensor in drawn[:3]]
    read = attend(0, *inputs)
    read.backward(drawn[3])
    return [read.detach(), *(one.grad for one in inputs)]  # type: ignore[list-item]


def make_step(way: str, config: LlamaConfig, batch: Batch, *, packed: bool, compiled: bool) -> Step:
    """Return a training step of this contestant."""
    device = batch.input_ids.device
    if way == "herdling":
        model = our_model(config, device)
        optimizer, skip = Optimizer(model, OptimizerConfig(), dtype=torch.bfloat16), torch.zeros((), device=device)
        loss = our_loss(model, batch, packed=packed, compiled=compiled)

        def our_step() -> None:
            loss().backward()
            optimizer.accumulate()
            optimizer.step(1e-4, optimizer.gradient_norm(), skip)

        return our_step
    peer = peer_model(config, device)
    autocast = way.endswith("autocast")
    if not autocast:
        peer = peer.to(torch.bfloat16)
    adamw = torch.optim.AdamW(peer.parameters(), lr=1e-4, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    if compiled:
        peer.compile()
    their_loss = peer_loss(peer, batch, packed=packed)

    def peer_step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
            value = their_loss()
        value.backward()
        adamw.step()
        adamw.zero_grad(set_to_none=True)

    return peer_step


def measure(config: LlamaConfig, batch: Batch, *, packed: bool, compiled: bool, steps: int, peak: float | None) -> dict[str, Any]:
    """Time the contestants one after the other on these rows."""
    device, found = batch.input_ids.device, {}
    readable = torch.arange(batch.input_ids.shape[1], device=device) - first_readable(batch.document_ids) + 1
    flops = config.flops_per_token(round(2 * readable.double().mean().item() - 1))  # causal: a row of this length reads as much on average
    for way in WAYS:
        forget(device)
        name = f"{way} compiled" if compiled else way
        try:
            step = make_step(way, config, batch, packed=packed, compiled=compiled)
            speed = batch.input_ids.numel() / seconds_of(step, device, steps)
        except torch.OutOfMemoryError:
            found[name] = {"out_of_memory": True}
            continue
        found[name] = {"tokens_per_second": round(speed), "mfu": round(speed * flops / peak, 3) if peak else "n/a", "peak_memory_mib": peak_mib(device)}
        del step
    return found


def attention_ms(config: LlamaConfig, batch: Batch, repeats: int) -> dict[str, float]:
    """Time one layer's attention, forward and backward, in bfloat16: within documents, by a dense mask of them, and causal without documents."""
    device, (rows, length) = batch.input_ids.device, batch.input_ids.shape
    counts = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads, config.num_attention_heads)
    drawn = [torch.randn(rows, count, length, config.head_dim, device=device, dtype=torch.bfloat16) for count in counts]
    ways = {"documents": self_attention(batch.document_ids, length, device), "dense mask": _dense(document_mask(batch.document_ids)), "causal": _dense(None)}
    return {name: round(1e3 * seconds_of(lambda attend=attend: _read_and_gradients(attend, drawn), device, repeats), 2) for name, attend in ways.items()}  # type: ignore[misc]


def compare(name: str, length: int, options: argparse.Namespace, device: torch.device, peak: float | None) -> dict[str, Any]:
    """Time all on one shape and row length."""
    config, steps = shape(name, length), 2 if options.quick else options.steps
    found: dict[str, Any] = {"shape": name, "parameters": config.num_parameters(), "length": length, "tokens_per_step": options.tokens}
    for packed in (False, True):
        batch = rows_of(config, max(1, options.tokens // length), length, device, packed=packed)
        kind = "packed" if packed else "whole"
        found[kind] = {}
        for compiled in (False, True):
            found[kind] |= measure(config, batch, packed=packed, compiled=compiled, steps=steps, peak=peak)
    forget(device)
    found["attention_ms"] = attention_ms(config, batch, steps)
    return found


def main() -> None:
    """Check, time, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a miniature, two steps each")
    parser.add_argument("--shapes", default="125M,1.1B")
    parser.add_argument("--lengths", default="2048,4096")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens a step, in whole rows")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    device = wanted_device(options.device)
    if options.quick:
        options.shapes, options.lengths, options.tokens = "tiny", "256", 512
    checks = check(device)
    peak = matrix_peak(torch.bfloat16) if device.type == "cpu" else peak_flops(device)
    results = [compare(name, int(length), options, device, peak) for name in options.shapes.split(",") for length in options.lengths.split(",")]
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    facts = machine_facts("torch", "transformers", "herdling")
    found = {"benchmark": "gpu_training", "command": " ".join(sys.argv), "gpu": gpu, **facts, "checks": checks, "results": results}
    give_result(found, options.write)


if __name__ == "__main__":
    main()
