"""The two layers between attentions: RMSNorm and SwiGLU, without biases (papers.md 5.2, 5.4)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from herdling.model.config import LlamaConfig


class _Normalise(torch.autograd.Function):
    """n = x / sqrt(mean(x^2) + eps) in float32, cast back, times the gain g; the backward is in x's own type, with a third of autograd's passes.

    With G the incoming gradient: dg = sum(G n), dx = (G g - n mean(G g n)) / sqrt(mean(x^2) + eps).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = (wide * scale).to(x.dtype)
        ctx.save_for_backward(normed, gain, scale)
        scaled: Tensor = normed * gain
        return scaled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, gain, scale = ctx.saved_tensors
        product = grad * normed
        along = (product @ gain).div_(-gain.shape[0]).unsqueeze(-1)  # a matrix product: a third of the time of multiply and sum
        grad_gain = product.flatten(0, -2).sum(0)
        grad_x = torch.mul(grad, gain, out=product).addcmul_(normed, along).mul_(scale.to(grad.dtype))
        return grad_x, grad_gain, None


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
