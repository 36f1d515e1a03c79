import math

import pytest
import torch
from torch import nn

from herdling.train.config import OptimizerConfig
from herdling.train.optim import Optimizer
from tests.train.tiny import TinyModel

GO, SKIP = torch.tensor(0.0), torch.tensor(1.0)


def give_gradients(model, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = (torch.randn(weight.shape, generator=generator) * scale).to(weight.dtype)


def one_step(optimizer, lr=1e-2, skip=GO):
    optimizer.accumulate()
    optimizer.step(lr, optimizer.gradient_norm(), skip)


def test_one_weight_moves_as_the_equation_of_adamw_says():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(2.0)
    optimizer = Optimizer(model, OptimizerConfig(betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1, clip_norm=1e9))
    expected, mean, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate([0.3, -0.7, 0.2], start=1):
        model.weight.grad = torch.tensor([[gradient]])
        one_step(optimizer, lr=0.01)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
        expected *= 1 - 0.01 * 0.1
        expected -= 0.01 * (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.95**step)) + 1e-5)
        assert model.weight.item() == pytest.approx(expected, abs=1e-6)


def test_many_steps_equal_plain_adamw_with_clipping():
    ours, plain = TinyModel(), TinyModel()
    optimizer = Optimizer(ours, OptimizerConfig())
    matrices = [weight for weight in plain.parameters() if weight.ndim == 2]
    gains = [weight for weight in plain.parameters() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-5, foreach=False)
    for step in range(20):
        scale = 10.0 if step % 2 else 1e-4  # clipped, and not clipped
        give_gradients(ours, step, scale)
        give_gradients(plain, step, scale)
        one_step(optimizer)
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        reference.step()
        reference.zero_grad()
    for got, wanted in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_gains_of_norms_do_not_decay_and_matrices_do():
    model = TinyModel()
    optimizer = Optimizer(model, OptimizerConfig(weight_decay=0.5))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    one_step(optimizer, lr=0.1)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), before[name] * (0.95 if weight.ndim == 2 else 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_skipped_step_leaves_every_bit(dtype):
    model = TinyModel()
    optimizer = Optimizer(model, OptimizerConfig(), dtype=dtype)
    give_gradients(model, 0)
    one_step(optimizer)
    before = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    give_gradients(model, 1)
    next(model.parameters()).grad[0, 0] = math.nan
    one_step(optimizer, skip=SKIP)
    assert all(torch.equal(tensor, before[name]) for name, tensor in optimizer.state().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_bfloat16_weights_follow_their_float32_masters():
    model, exact = TinyModel(), TinyModel()
    optimizer, reference = Optimizer(model, OptimizerConfig(), dtype=torch.bfloat16), Optimizer(exact, OptimizerConfig())
    assert all(weight.dtype == torch.bfloat16 for weight in model.parameters())
    # Steps of 1e-4 are far below the spacing of bfloat16 at 1.0 (1/128): only masters can add them up.
    for step in range(200):
        for one in (model, exact):
            for weight in one.parameters():
                weight.grad = torch.full_like(weight, 1.0 if step % 3 else -0.5)
        one_step(optimizer, lr=1e-4)
        one_step(reference, lr=1e-4)
    for master, wanted, weight in zip(optimizer.masters, exact.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(master, wanted.detach(), rtol=1e-5, atol=1e-6)
        assert torch.equal(weight.detach(), master.to(torch.bfloat16))


def test_gradients_of_micro_batches_add_up_in_float32():
    model = TinyModel()
    optimizer = Optimizer(model, OptimizerConfig(), dtype=torch.bfloat16)
    for _ in range(1 + 512):  # in bfloat16 the sum would stick at 256
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        optimizer.accumulate()
    assert all(torch.equal(gradient, torch.full_like(gradient, 513.0)) for gradient in optimizer.gradients)


def test_a_weight_without_gradient_counts_as_zero():
    model = TinyModel()
    optimizer = Optimizer(model, OptimizerConfig())
    model.norm.weight.grad = torch.full_like(model.norm.weight, 2.0)
    assert optimizer.gradient_norm().item() == pytest.approx(2.0 * math.sqrt(model.norm.weight.numel()))
