"""The law of loss in size and data, L(N, D) = E + A/N^alpha + B/D^beta, and what it says to buy (Hoffmann et al., 2022; Llama 3, section 3.2.1).

N is whatever the measurements counted, with or without embeddings: a law is only good for the convention that it was fitted in. Compute is C = 6ND unless a
measurement said otherwise. Everything here is closed form or a search along one line; fitting lives in `parametric.py` and `isoflop.py`. No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from herdling.base.errors import SettingsError

Array = NDArray[np.float64]
FLOPS_PER_PARAMETER_AND_TOKEN = 6.0
"""Training: 2 forward, 4 backward. Serving a token costs 2."""
SERVING_FLOPS_PER_PARAMETER = 2.0
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How to spend compute: parameters, training tokens, the loss that the law expects, and the FLOPs of training and serving."""

    parameters: float
    tokens: float
    loss: float
    training_flops: float
    serving_flops: float = 0.0

    @property
    def tokens_per_parameter(self) -> float:
        """About 20 is Chinchilla's; the released Llama models have 100 times as many and more."""
        return self.tokens / self.parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametricLaw:
    """L(N, D) = E + A/N^alpha + B/D^beta, in nats (or bits: whatever was fitted)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: float | Array, tokens: float | Array) -> Array:
        """Return the expected loss; arrays broadcast."""
        size, data = np.asarray(parameters, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
        return np.asarray(self.E + self.A * size**-self.alpha + self.B * data**-self.beta)

    @property
    def parameter_exponent(self) -> float:
        """a in N*(C) ~ C^a; tokens grow with 1 - a."""
        return self.beta / (self.alpha + self.beta)

    def allocate(self, flops: float, *, max_tokens: float | None = None) -> Allocation:
        """Return the least loss that `flops` of training buy: N* = G (C/6)^a, D* = (C/6)^(1-a) / G with G = (alpha A / beta B)^(1/(alpha+beta)).

        With `max_tokens` (all the data there is, or that one will repeat) the rest of the compute goes into parameters.
        """
        _positive("flops", flops)
        products = flops / FLOPS_PER_PARAMETER_AND_TOKEN
        balance = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        tokens = products ** (1 - self.parameter_exponent) / balance
        if max_tokens is not None:
            _positive("max_tokens", max_tokens)
            tokens = min(tokens, max_tokens)
        return self._at(products / tokens, tokens)

    def over_train(self, flops: float, tokens_per_parameter: float) -> Allocation:
        """Return the model that has this many tokens per parameter at this compute: smaller than optimal, cheaper to serve (LLaMA, section 1)."""
        _positive("flops", flops)
        _positive("tokens_per_parameter", tokens_per_parameter)
        parameters = (flops / FLOPS_PER_PARAMETER_AND_TOKEN / tokens_per_parameter) ** 0.5
        return self._at(parameters, tokens_per_parameter * parameters)

    def allocate_with_serving(self, loss: float, served_tokens: float) -> Allocation:
        """Return the cheapest way to reach `loss` when training and serving are paid together: least 6ND + 2N * `served_tokens`.

        Raises:
            SettingsError: the law never reaches this loss.
        """
        if not np.isfinite(loss) or loss <= self.E:
            raise SettingsError(f"loss: {loss:g} is not above {self.E:.4g}, the least that this law reaches with any model and any data")
        if not served_tokens >= 0:
            raise SettingsError(f"served_tokens: found {served_tokens}, expected 0 or more")
        smallest = (self.A / (loss - self.E)) ** (1 / self.alpha)

        def tokens(size: float) -> float:
            return float((self.B / (loss - self.E - self.A * size**-self.alpha)) ** (1 / self.beta))

        def cost(log_size: float) -> float:
            size = float(np.exp(log_size))
            return float(np.log(FLOPS_PER_PARAMETER_AND_TOKEN * size * tokens(size) + SERVING_FLOPS_PER_PARAMETER * size * served_tokens))

        start = np.log(smallest) + 1e-6
        size = float(np.exp(_least(cost, start, start + 25.0)))
        return self._at(size, tokens(size), served_tokens)

    def equivalent_flops(self, loss: float) -> float:
        """Return the compute with which an optimal allocation reaches this loss; infinite below the law's floor."""
        if loss <= self.E:
            return np.inf
        one = self.allocate(FLOPS_PER_PARAMETER_AND_TOKEN)
        rate = self.alpha * self.beta / (self.alpha + self.beta)
        return float(FLOPS_PER_PARAMETER_AND_TOKEN * ((one.loss - self.E) / (loss - self.E)) ** (1 / rate))

    def _at(self, parameters: float, tokens: float, served_tokens: float = 0.0) -> Allocation:
        return Allocation(
            parameters=float(parameters),
            tokens=float(tokens),
            loss=float(self.loss(parameters, tokens)),
            training_flops=float(FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens),
            serving_flops=float(SERVING_FLOPS_PER_PARAMETER * parameters * served_tokens),
        )

    def as_dict(self) -> dict[str, float]:
        """Return the five constants by name."""
        return asdict(self)


def _positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise SettingsError(f"{name}: found {value}, expected a finite number above 0")


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one valley is least, to 1e-9 of the range (golden section)."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(60):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
