"""The matrix products of decoding: a few rows times a weight that stays, in the form that is read fastest.

Reading the weight is the cost, not the arithmetic. float32 stands transposed, which plain `mm` reads up to twice as fast as `F.linear` reads its own order.
bfloat16 is laid out by oneDNN once (half the bytes; 2 to 4 times as fast as float32 where the model is larger than the processor's cache), and takes float32
rows, giving float32 back: only the inputs and the result of a product are rounded, the residual stream never is.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Matrix(Protocol):
    """A weight that rows `[B, inputs]` (float32) are multiplied with."""

    def write(self, rows: Tensor, out: Tensor) -> None:
        """Write the product to `out` `[B, outputs]`."""
        ...

    def add(self, rows: Tensor, to: Tensor) -> None:
        """Add the product to `to` `[B, outputs]`."""
        ...


class Float32Matrix:
    """A float32 weight, kept as `[inputs, outputs]`."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.float().t().contiguous()

    def write(self, rows: Tensor, out: Tensor) -> None:
        """Write the product to `out` `[B, outputs]`."""
        torch.mm(rows, self.weight, out=out)

    def add(self, rows: Tensor, to: Tensor) -> None:
        """Add the product to `to` `[B, outputs]`."""
        to.addmm_(rows, self.weight)


class BFloat16Matrix:
    """A bfloat16 weight in oneDNN's own layout. Uses the operators that PyTorch's compiler uses; `can_pack` says whether they are there."""

    def __init__(self, weight: Tensor) -> None:
        expected_rows = 1
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(torch.bfloat16).contiguous(), expected_rows)
        self._product = torch.ops.mkldnn._linear_pointwise.default

    def write(self, rows: Tensor, out: Tensor) -> None:
        """Write the product to `out` `[B, outputs]`."""
        out.copy_(self._product(rows.to(torch.bfloat16), self.weight, None, "none", [], ""))

    def add(self, rows: Tensor, to: Tensor) -> None:
        """Add the product to `to` `[B, outputs]`."""
        to.add_(self._product(rows.to(torch.bfloat16), self.weight, None, "none", [], ""))


def can_pack() -> bool:
    """Say whether this processor multiplies bfloat16 itself, and this PyTorch has the operators."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names) and torch.ops.mkldnn._is_mkldnn_bf16_supported()
