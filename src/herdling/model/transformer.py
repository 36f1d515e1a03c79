"""The Llama: embedding, blocks, final norm, output matrix, under Hugging Face's weight names (LLaMA, section 2.2).

One file for Llama 1, 2, 3 and 3.1: they differ by numbers in the config. `forward` ends at the final hidden states, because no caller wants all logits:
training takes log-probabilities of the labels (`model/heads.py`), decoding the logits of last positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herdling.model.attention import Attend, Attention, self_attention
from herdling.model.cache import KVCache
from herdling.model.config import LlamaConfig
from herdling.model.layers import RMSNorm, SwiGLU
from herdling.model.rope import Angles, RopeTable


class Block(nn.Module):
    """h = x + attention(norm(x)); h + swiglu(norm(h))."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, angles: Angles, attend: Attend) -> Tensor:
        """Return the residual stream `[B, T, D]` after this block."""
        h: Tensor = x + self.self_attn(self.input_layernorm(x), angles, attend)
        y: Tensor = h + self.mlp(self.post_attention_layernorm(h))
        return y


class Stack(nn.Module):
    """Embedding, blocks and final norm: what Hugging Face names `model`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, input_ids: Tensor, angles: Angles, attend: Attend) -> Tensor:
        """Return the final hidden states `[B, T, D]`."""
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x, angles, attend)
        normed: Tensor = self.norm(x)
        return normed


class Llama(nn.Module):
    """A Llama of any version and size.

    Weights are as PyTorch leaves them until `init_weights` or `load_state_dict`. When the config ties the output to the embedding there is no `lm_head`.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Stack(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.rope = RopeTable(config)

    @property
    def output_weight(self) -> Tensor:
        """The output matrix `[V, D]`: the embedding itself when tied."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        response_ids: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Return the hidden states after the final norm, `[B, T, D]`, for ids `[B, T]`.

        `position_ids` default to 0 .. T - 1, `document_ids` to one document a row; -1 is padding, which attends to itself only. `response_ids` tell the
        prompt of a document (0) from the responses to it (1, 2, ...), which do not read each other. With a cache the new positions follow those it holds, keys
        and values are appended, and `document_ids` only say which tokens are padding (at the right end of a row).
        """
        if cache is not None:
            return self._forward_cached(input_ids, document_ids, cache)
        length = input_ids.shape[1]
        angles = self.rope.angles(position_ids, length, self.output_weight)
        hidden: Tensor = self.model(input_ids, angles, self_attention(document_ids, length, input_ids.device, response_ids))
        return hidden

    def _forward_cached(self, input_ids: Tensor, document_ids: Tensor | None, cache: KVCache) -> Tensor:
        positions = cache.positions(input_ids.shape[1])
        angles = self.rope.angles(positions.clamp(max=self.config.max_position_embeddings - 1), input_ids.shape[1], self.output_weight)
        hidden: Tensor = self.model(input_ids, angles, cache.attention(positions))
        cache.advance(input_ids.shape[1] if document_ids is None else (document_ids >= 0).sum(dim=1))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of these hidden states `[..., D]`, float32 `[..., V]`. For a few positions: V is large."""
        return F.linear(hidden, self.output_weight).float()

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw all weights, the same for the same seed on every device.

        The papers leave this open. Ours is GPT-2's: matrices normal with 0.02, those that write to the residual stream divided by sqrt(2 * layers), so that
        depth does not make it grow; gains 1. The first loss is ln(vocabulary). Variance 1 / inputs learned more slowly at 1.3M parameters (docs/log.md).
        """
        generator = torch.Generator().manual_seed(seed)
        residual = (2 * self.config.num_hidden_layers) ** -0.5
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
                continue
            std = 0.02 * residual if "o_proj" in name or "down_proj" in name else 0.02
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)
