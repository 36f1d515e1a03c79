"""The two layers between attentions: RMSNorm and SwiGLU, without biases (LLaMA, section 2.2)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herdling.model.config import LlamaConfig


class _Normalise(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) in float32, cast back, times the gain; keeps x and one number a position, where autograd keeps three float32 copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain, scale)
        normed: Tensor = (wide * scale).to(x.dtype) * gain
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, scale = ctx.saved_tensors
        normed = x.float() * scale
        grad_gain = (grad * normed.to(grad.dtype)).flatten(0, -2).sum(0)
        wide = (grad * gain).float()
        along = (wide * normed).mean(dim=-1, keepdim=True)
        return (wide - normed * along).mul_(scale).to(x.dtype), grad_gain, None


class RMSNorm(nn.Module):
    """g * x / sqrt(mean(x^2) + eps) over the last dimension; normalised in float32, cast back, then multiplied by g."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x `[..., D]` normalised, in x's dtype."""
        normed: Tensor = _Normalise.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return normed


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), `[..., D]` to `[..., D]`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's contribution to the residual stream."""
        return F.linear(F.silu(F.linear(x, self.gate_proj.weight)) * F.linear(x, self.up_proj.weight), self.down_proj.weight)
