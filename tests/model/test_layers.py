"""Norm and SwiGLU against their formulas in float64, gradients included."""

from __future__ import annotations

import torch

from herdling.model.config import LlamaConfig
from herdling.model.layers import RMSNorm, SwiGLU

CONFIG = LlamaConfig(vocab_size=8, hidden_size=12, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=6)


def test_norm_and_its_gradients_are_those_of_the_formula():
    torch.manual_seed(0)
    norm, x, weights = RMSNorm(12, 1e-3), torch.randn(3, 5, 12, requires_grad=True), torch.randn(3, 5, 12)
    norm.weight.data.normal_()
    gain, exact = norm.weight.detach().double().requires_grad_(), x.detach().double().requires_grad_()
    (norm(x) * weights).sum().backward()
    expected = gain * exact / (exact.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    (expected * weights).sum().backward()
    torch.testing.assert_close(norm(x), expected.float())
    torch.testing.assert_close(x.grad, exact.grad.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.weight.grad, gain.grad.float(), atol=1e-5, rtol=1e-5)


def test_norm_of_bfloat16_is_computed_in_float32():
    x = torch.full((1, 4096), 300.0).bfloat16()  # squares add up to 3.7e8: a bfloat16 sum would stop growing at 256 terms
    torch.testing.assert_close(RMSNorm(4096, 1e-5).bfloat16()(x), torch.ones(1, 4096).bfloat16())


def test_norm_of_zeros_is_zero_with_finite_gradients():
    x = torch.zeros(2, 8, requires_grad=True)
    normed = RMSNorm(8, 1e-5)(x)
    normed.sum().backward()
    assert torch.equal(normed, torch.zeros(2, 8))
    assert x.grad.isfinite().all()


def test_swiglu_is_the_formula():
    mlp, x = SwiGLU(CONFIG), torch.randn(2, 3, 12)
    gate, up = x @ mlp.gate_proj.weight.T, x @ mlp.up_proj.weight.T
    torch.testing.assert_close(mlp(x), (gate * gate.sigmoid() * up) @ mlp.down_proj.weight.T)
