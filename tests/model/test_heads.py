"""The head's log-probabilities and gradients against log_softmax in float64, kept and recomputed, for uneven weights as a preference loss has them."""

from __future__ import annotations

import pytest
import torch

from herdling.model import heads
from herdling.model.heads import token_logprobs


@pytest.fixture(params=[heads.PIECE_BYTES, 0], ids=["kept", "recomputed"])
def _piece(request, monkeypatch):
    monkeypatch.setattr(heads, "PIECE_BYTES", request.param)


def _case(dtype=torch.float32, vocab_size=700):
    torch.manual_seed(0)
    hidden = torch.randn(3, 7, 16, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab_size, 16, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(0, vocab_size, (3, 7)), torch.rand(3, 7) > 0.3


def _exact(hidden, weight, labels, mask):
    logprobs = (hidden.double() @ weight.double().T).log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    return torch.where(mask, logprobs, 0.0)


@pytest.mark.usefixtures("_piece")
@pytest.mark.parametrize(("dtype", "absolute", "relative"), [(torch.float32, 1e-5, 1e-6), (torch.bfloat16, 0.05, 0.01)])
def test_values_and_gradients_for_any_weighting_of_positions(dtype, absolute, relative):
    hidden, weight, labels, mask = _case(dtype)
    weighting = torch.randn(3, 7)
    found, expected = token_logprobs(hidden, weight, labels, mask), _exact(hidden, weight, labels, mask)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < absolute
    assert (found[~mask] == 0).all()
    grads = torch.autograd.grad((found * weighting).sum(), (hidden, weight))
    for grad, wanted in zip(grads, torch.autograd.grad((expected * weighting).sum(), (hidden, weight)), strict=True):
        assert (grad.double() - wanted.double()).norm() < relative * wanted.double().norm()


@pytest.mark.usefixtures("_piece")
def test_nothing_supervised_gives_zeros_and_zero_gradients():
    hidden, weight, labels, mask = _case()
    logprobs = token_logprobs(hidden, weight, labels, torch.zeros_like(mask))
    logprobs.sum().backward()
    assert not logprobs.any()
    assert not hidden.grad.any()
    assert not weight.grad.any()


@pytest.mark.usefixtures("_piece")
def test_labels_that_nobody_wants_may_be_anything():
    hidden, weight, labels, mask = _case()
    labels[~mask] = -100
    assert token_logprobs(hidden, weight, labels, mask).isfinite().all()


def test_a_graph_walked_twice_gives_the_same_gradients():
    hidden, weight, labels, mask = _case()
    loss = token_logprobs(hidden, weight, labels, mask).sum()
    first = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(loss, (hidden, weight)), strict=True):
        assert torch.equal(one, other)


def test_a_large_vocabulary_never_has_all_its_scores(monkeypatch):
    """The largest tensor that the head makes is one block: watched by recording every operator's outputs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
            nonlocal largest
            result = operator(*arguments, **(keywords or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    monkeypatch.setattr(heads, "PIECE_BYTES", 4 * 64 * 1000)
    hidden, weight = torch.randn(1, 64, 8, requires_grad=True), torch.randn(20_000, 8, requires_grad=True)
    with Watch(), torch.autograd.set_multithreading_enabled(False):
        token_logprobs(hidden, weight, torch.randint(0, 20_000, (1, 64)), torch.ones(1, 64, dtype=torch.bool)).sum().backward()
    assert largest <= weight.numel()  # the gradient of the weight; all scores would be 1,280,000
