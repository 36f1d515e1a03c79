"""Rotary positions (RoPE): the angles of every position, with the stretch of Llama 3.1, in Hugging Face's half-split layout (papers.md 5.3).

Channel i of a head turns together with channel i + head_dim/2 by position * f_i, f_i = theta^(-2i / head_dim). Tables are float32 always, also in a bfloat16
model: position 8,191 has no bfloat16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from herdling.model.config import LlamaConfig, RopeScalingConfig


def rope_frequencies(config: LlamaConfig) -> Tensor:
    """Return f_i in radians per position, float32 `[head_dim / 2]`."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    return frequencies if config.rope_scaling is None else _stretch(frequencies, config.rope_scaling)


def _stretch(frequencies: Tensor, scaling: RopeScalingConfig) -> Tensor:
    """Slow the waves that the original context did not hold whole; keep the short ones; blend between (papers.md 5.3)."""
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)  # = L0 / wavelength
    kept = ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0.0, 1.0)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


class RopeTable:
    """Cosines and sines of all positions up to the model's context, made at first use on each device.

    No module and no buffer: a model that is cast to bfloat16, or built on the meta device and filled later, must not touch them.
    """

    def __init__(self, config: LlamaConfig) -> None:
        self.config = config
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each float32 `[max_position_embeddings, head_dim / 2]`."""
        if device not in self._tables:
            positions = torch.arange(self.config.max_position_embeddings, dtype=torch.float32)
            angles = torch.outer(positions, rope_frequencies(self.config))
            self._tables[device] = (angles.cos().to(device), angles.sin().to(device))
        return self._tables[device]

    def angles(self, position_ids: Tensor | None, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of these positions, `[B, T, 1, head_dim / 2]`, or `[1, T, 1, head_dim / 2]` for positions 0 .. T - 1."""
        cos, sin = self.on(device)
        if position_ids is None:
            return cos[None, :length, None], sin[None, :length, None]
        return cos[position_ids].unsqueeze(2), sin[position_ids].unsqueeze(2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the heads of x `[B, T, H, head_dim]` by the angles of their positions; computed in float32, returned in x's dtype."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
