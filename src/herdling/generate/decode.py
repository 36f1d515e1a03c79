"""One new token for each row, as fast as a CPU with PyTorch gives it: a small Llama's step, unrolled over prepared weights and fixed buffers.

At 1 to 50 million parameters a decoding step is a few hundred tiny operations, and calling them costs more than computing them. So the weights are copied once
into the form that needs the fewest calls, and each call writes into a buffer that is there already:

- query, key and value matrices stand side by side, gate and up too, each in the layout that is read fastest (`matrices.py`);
- RMSNorm's gain and sqrt(D) are multiplied into the matrix that follows, its epsilon stands as one more column of the residual stream: what is left
  of the norm is a vector norm and a division (2.3 instead of 8.4 microseconds);
- rows of queries and keys are re-ordered so that RoPE's pairs are neighbours: the rotation is one complex product. Scores stay, as both sides move alike;
- all rows write to the same slot of the cache (short prompts stand at the right), so that no row needs an index of its own.

Everything but the products of a bfloat16 model is float32. Costs a second copy of the weights, so it is for models up to `MAX_PARAMETERS`. Equality with
the model's own forward is a test (`tests/invariants/test_cached_decoding.py`). Speeds: `benchmarks/results/decoding.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from herdling.generate.matrices import BFloat16Matrix, Float32Matrix, Matrix, can_pack
from herdling.model.cache import KVCache
from herdling.model.transformer import Block, Llama

MAX_PARAMETERS = 200_000_000
# Below this a second thread saves 0 to 16 % of a step on a quiet machine; where it is busy each step waits (10 times slower at a load of 8 on 2 cores).
ONE_THREAD_PARAMETERS = 3_000_000
# The residual stream is widened by one cache line, so that its rows stay aligned; the first added column holds RMSNorm's epsilon.
_PADDING = 16
_silu = torch.ops.aten.silu_.default


@dataclass(frozen=True, slots=True)
class ReadPrompts:
    """Prompts that were read once, for any number of rows to go on from each. `logits` are those after each prompt, float32 `[N, V]`."""

    cache: KVCache
    logits: Tensor


@torch.inference_mode()
def read_prompts(model: Llama, prompts: Sequence[Sequence[int]]) -> ReadPrompts:
    """Read prompts of any lengths in one forward."""
    weight = model.output_weight
    longest = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=weight.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=weight.device)
    is_text = torch.arange(longest, device=weight.device) < lengths[:, None]
    cache = KVCache(model.config, len(prompts), longest, weight.dtype, weight.device)
    hidden = model(ids, document_ids=torch.where(is_text, 0, -1), cache=cache)
    return ReadPrompts(cache, model.logits(hidden[torch.arange(len(prompts), device=weight.device), lengths - 1]))


class PlainDecoder:
    """Decodes through the model's own forward: on any device, in the model's own type, without a copy of the weights."""

    def __init__(self, model: Llama) -> None:
        self.model = model

    @torch.inference_mode()
    def begin(self, read: ReadPrompts, rows: Sequence[int], capacity: int) -> Tensor:
        """Begin a row behind each of these prompts (one may be named many times), with room for `capacity` tokens; return the logits, float32 `[B, V]`."""
        index = torch.tensor(list(rows), device=read.logits.device)
        lengths = read.cache.lengths[index]
        longest = int(lengths.max())
        self.cache = KVCache(self.model.config, len(rows), capacity, self.model.output_weight.dtype, read.logits.device)
        for layer, (keys, values) in enumerate(zip(read.cache.keys, read.cache.values, strict=True)):
            self.cache.keys[layer][:, :, :longest] = keys[index, :, :longest]
            self.cache.values[layer][:, :, :longest] = values[index, :, :longest]
        self.cache.advance(lengths)
        return read.logits[index]

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to each row (int64 `[B]`); return the logits after it, float32 `[B, V]`."""
        return self.model.logits(self.model(tokens[:, None], cache=self.cache)[:, 0])

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order."""
        self.cache.keep(rows)

    @torch.inference_mode()
    def rest(self, row: int) -> None:
        """Say that nobody reads this row any more; its numbers may be anything until `keep` drops it."""


def make_decoder(model: Llama) -> Decoder | PlainDecoder:
    """Return the faster decoder that fits: prepared weights for a small model on a CPU, else the model's own forward."""
    small = model.output_weight.device.type == "cpu" and model.config.num_parameters() <= MAX_PARAMETERS
    return Decoder(model) if small else PlainDecoder(model)


@dataclass(frozen=True, slots=True)
class _Layer:
    """Prepared weights of one block."""

    qkv: Matrix
    o: Matrix
    gate_up: Matrix
    down: Matrix


class Decoder:
    """Decodes a batch of rows: `begin` behind prompts that were read, `step` with the newest token of each row, `keep` some rows.

    The weights are those of the model at the time of `__init__`: a model that trains on needs a new decoder.
    """

    def __init__(self, model: Llama) -> None:
        self.model = model
        self.config = model.config
        self.is_tiny = model.config.num_parameters() <= ONE_THREAD_PARAMETERS
        self.kind: type[BFloat16Matrix | Float32Matrix] = Float32Matrix
        if model.output_weight.dtype == torch.bfloat16 and can_pack():
            self.kind = BFloat16Matrix
        self.embedding = model.model.embed_tokens.weight.detach().float()
        self.layers = [self._prepare(cast(Block, block)) for block in model.model.layers]
        self.head = self._behind_norm(model.output_weight, model.model.norm.weight)
        cos, sin = model.rope.on(torch.device("cpu"))
        self.turns = torch.complex(cos, sin)[:, None]  # [positions, 1, head_dim / 2]

    def _behind_norm(self, weight: Tensor, gain: Tensor) -> Matrix:
        """Return a matrix that reads a normalised stream: with the gain, and sqrt(D) for the norm that is no mean."""
        factors: Tensor = gain.detach().float() * self.config.hidden_size**0.5
        return self.kind(weight.detach().float() * factors)

    def _prepare(self, block: Block) -> _Layer:
        config, attention, mlp = self.config, block.self_attn, block.mlp
        queries = self._neighbours(attention.q_proj.weight) * config.head_dim**-0.5
        joined = torch.cat((queries, self._neighbours(attention.k_proj.weight), attention.v_proj.weight.detach().float()))
        gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
        return _Layer(
            qkv=self._behind_norm(joined, block.input_layernorm.weight),
            o=self.kind(attention.o_proj.weight.detach()),
            gate_up=self._behind_norm(gate_up, block.post_attention_layernorm.weight),
            down=self.kind(mlp.down_proj.weight.detach()),
        )

    def _neighbours(self, weight: Tensor) -> Tensor:
        """Re-order rows from (i, i + head_dim/2) pairs to (2i, 2i + 1) pairs."""
        width = self.config.head_dim
        return weight.detach().float().view(-1, 2, width // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)

    @torch.inference_mode()
    def begin(self, read: ReadPrompts, rows: Sequence[int], capacity: int) -> Tensor:
        """Begin a row behind each of these prompts (one may be named many times), with room for `capacity` tokens; return the logits, float32 `[B, V]`."""
        index = torch.tensor(list(rows))
        used, places = index.unique(return_inverse=True)  # what several rows go on from is re-ordered once
        self.positions = read.cache.lengths[index]
        config, lengths = self.config, self.positions.tolist()
        self.slot = max(lengths)  # the next one to write, of every row
        shape = (config.num_hidden_layers, len(lengths), config.num_key_value_heads)
        self.keys = torch.zeros(*shape, config.head_dim, capacity)
        self.values = torch.zeros(*shape, capacity, config.head_dim)
        self.bias = torch.zeros(len(lengths), 1, 1, capacity)
        # RoPE's pairs (i, i + head_dim/2) become neighbours, as in the weights.
        keys = torch.stack([one[used] for one in read.cache.keys]).unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2).transpose(-1, -2)
        values = torch.stack([one[used] for one in read.cache.values])
        for row, (place, length) in enumerate(zip(places.tolist(), lengths, strict=True)):
            empty = self.slot - length
            self.keys[:, row, ..., empty : self.slot] = keys[:, place, ..., :length]
            self.values[:, row, :, empty : self.slot] = values[:, place, :, :length]
            self.bias[row, ..., :empty] = float("-inf")
        self._make_buffers()
        return read.logits[index]

    @torch.inference_mode()
    def rest(self, row: int) -> None:
        """Say that nobody reads this row any more; its numbers may be anything until `keep` drops it."""
        self.positions[row] = 0  # else it would walk off the table of angles

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order."""
        index = torch.tensor(rows)
        self.positions, self.bias = self.positions[index], self.bias[index]
        self.keys, self.values = self.keys[:, index], self.values[:, index]
        self._make_buffers()

    def _make_buffers(self) -> None:
        """Make what every step writes to, and the views of it that the layers need."""
        config, rows = self.config, len(self.positions)
        heads, kv_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        stream = torch.zeros(rows, config.hidden_size + _PADDING)
        stream[:, config.hidden_size] = (config.hidden_size * config.rms_norm_eps) ** 0.5
        self.padded_stream, self.stream = stream, stream[:, : config.hidden_size]
        self.norm, self.normed = torch.empty(rows, 1), torch.empty(rows, config.hidden_size)
        self.qkv = torch.empty(rows, (heads + 2 * kv_heads) * width)
        joined = self.qkv.view(rows, heads + 2 * kv_heads, width)
        self.pairs = torch.view_as_complex(joined[:, : heads + kv_heads].unflatten(-1, (-1, 2)))
        self.new_keys, self.new_values = joined[:, heads : heads + kv_heads], joined[:, heads + kv_heads :]
        self.new_queries = joined[:, :heads].unflatten(1, (kv_heads, -1))
        self.queries = torch.empty(rows * kv_heads, heads // kv_heads, width)
        self.mixed = torch.empty(rows * kv_heads, heads // kv_heads, width)
        self.mixed_rows = self.mixed.view(rows, -1)
        self.queries_by_row = self.queries.view_as(self.new_queries)
        self.gate_up = torch.empty(rows, 2 * config.intermediate_size)
        self.gate, self.up = self.gate_up.chunk(2, dim=1)
        self.is_padded = bool((self.bias != 0).any())

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to each row (int64 `[B]`); return the logits after it, float32 `[B, V]`."""
        if not self.is_tiny:
            return self._step(tokens)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._step(tokens)
        finally:
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def _step(self, tokens: Tensor) -> Tensor:
        end = self.slot + 1
        # Views of all layers at once: a view costs as much as a small product.
        keys, values = self.keys[..., :end].flatten(1, 2).unbind(0), self.values[..., :end, :].flatten(1, 2).unbind(0)
        key_slots, value_slots = self.keys[..., self.slot].unbind(0), self.values[..., self.slot, :].unbind(0)
        turns = self.turns[self.positions]
        bias = self.bias[..., :end] if self.is_padded else None
        self.stream.copy_(self.embedding[tokens])
        for layer, k, v, key_slot, value_slot in zip(self.layers, keys, values, key_slots, value_slots, strict=True):
            self._normalise()
            layer.qkv.write(self.normed, self.qkv)
            self.pairs.mul_(turns)
            key_slot.copy_(self.new_keys)
            value_slot.copy_(self.new_values)
            layer.o.add(self._attend(k, v, bias), self.stream)
            self._normalise()
            layer.gate_up.write(self.normed, self.gate_up)
            _silu(self.gate).mul_(self.up)
            layer.down.add(self.gate, self.stream)
        self._normalise()
        self.slot += 1
        self.positions += 1
        logits = torch.empty(len(tokens), self.config.vocab_size)
        self.head.write(self.normed, logits)
        return logits

    def _normalise(self) -> None:
        """Write stream / sqrt(sum(stream^2) + D eps), which is RMSNorm but for the factors inside the next matrix."""
        torch.linalg.vector_norm(self.padded_stream, dim=1, keepdim=True, out=self.norm)
        torch.div(self.stream, self.norm, out=self.normed)

    def _attend(self, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Return the mixed values `[B, H * head_dim]`, for keys `[B * H_kv, head_dim, S]` and values `[B * H_kv, S, head_dim]`."""
        self.queries_by_row.copy_(self.new_queries)
        scores = torch.bmm(self.queries, keys)
        if bias is not None:
            scores.view(len(bias), -1, *scores.shape[1:]).add_(bias)
        torch.bmm(torch.softmax(scores, dim=-1), values, out=self.mixed)
        return self.mixed_rows
