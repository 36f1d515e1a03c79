"""Rotary positions (RoPE): the angles of every position, with the stretch of Llama 3.1, in Hugging Face's half-split layout (LLaMA, section 2.2).

Channel i of a head turns together with channel i + head_dim/2 by position * f_i, f_i = theta^(-2i / head_dim). Angles, cosines and sines are
computed in float32 always (bfloat16 has no position 8,191) and rounded to the model's type at the end.
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
    """Slow the waves that the original context did not hold whole; keep the short ones; blend between (Meta's code; the paper is silent)."""
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)  # = L0 / wavelength
    kept = ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0.0, 1.0)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


Angles = tuple[Tensor, Tensor]
"""Cosines twice, and sines as (-sin, sin): both `[B or 1, 1, T, head_dim]`, so that turning is x * cos + (x with its halves swapped) * sin."""


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

    def angles(self, position_ids: Tensor | None, length: int, like: Tensor) -> Angles:
        """Return the angles of these positions `[B, T]` (unset: 0 .. T - 1) on the device and in the dtype of `like`."""
        if torch.compiler.is_compiling():
            # A table made while a graph is traced is not there for the graph's guards: the second step would be compiled anew. These few angles cost nothing.
            positions = torch.arange(length, device=like.device) if position_ids is None else position_ids
            angles = positions.float().unsqueeze(-1) * rope_frequencies(self.config).to(like.device)
            cos, sin = angles.cos(), angles.sin()
        else:
            chosen = slice(length) if position_ids is None else position_ids
            cos, sin = (table[chosen] for table in self.on(like.device))
        cos, sin = cos.to(like.dtype), sin.to(like.dtype)
        cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        return (cos[None, None], sin[None, None]) if position_ids is None else (cos[:, None], sin[:, None])


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turn the heads of x `[B, H, T, head_dim]`: (a, b) becomes (a cos - b sin, b cos + a sin), a and b the halves of a head."""
    cos, sin = angles
    half = x.shape[-1] // 2
    if torch.compiler.is_compiling():  # the compiler fuses halves into one loop; called one by one, whole heads need half the calls
        (a, b), cos, sin = x.split(half, dim=-1), cos[..., half:], sin[..., half:]
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    return torch.addcmul(x * cos, torch.roll(x, half, dims=-1), sin)
