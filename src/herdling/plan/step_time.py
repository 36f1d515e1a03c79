"""How long a training step of a small model takes on one device: seven kinds of work, each with a constant that is fitted to steps timed there. No torch.

The roofline of `throughput.py` is about large matrices on GPUs. On a CPU a miniature's step is half pointwise work on activations, calls of operators and the
loss, so FLOPs a second differ by a factor of four over the dial. Seconds of a step = constants . `work_of_step`, all of them positive. Not modelled: what other
programs take, memory that runs full, a loss in blocks (vocabularies far above 16K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from herdling.base.errors import DataError
from herdling.model.config import LlamaConfig
from herdling.plan.resampling import student_90

Array = NDArray[np.float64]
KINDS = ("step", "layer", "product", "element", "logit", "score", "weight")
NOISE = 0.03
"""Standard deviation of a log step time around a right law, on a machine that is left alone."""
PRIORS = {"product": 0.3}
"""Standard deviation of a log constant around its start: products are measured by themselves, so theirs is nearly known."""
PRIOR = 1.0
LEAST_SPREAD = 0.05
"""No forecast is surer: the same program is a few per cent faster one day than the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """What a step does."""

    model: LlamaConfig
    tokens: int
    """Of the step, padding too."""
    sequence_length: int
    micro_batch_tokens: int = 4096
    supervised: float = 1.0
    """Share of the tokens that have a loss: the output matrix meets no others. 0 for a reward model, which has none."""

    @property
    def num_micro_batches(self) -> int:
        """Forwards of the step."""
        rows = max(1, self.micro_batch_tokens // self.sequence_length)
        return -(-max(1, self.tokens // self.sequence_length) // rows)


def work_of_step(shape: StepShape) -> Array:
    """Return how much of each kind of work a step has, in the order of `KINDS`.

    step: 1. layer: layers a micro-batch runs through. product: FLOPs of matrix products. element: values that pass between products (norms, rotations,
    residuals, gates). logit: scores over the vocabulary. score: of attention. weight: numbers that the optimizer moves.
    """
    model, tokens = shape.model, shape.tokens
    layers, width, queries = model.num_hidden_layers, model.hidden_size, model.num_attention_heads * model.head_dim
    keys_seen = (shape.sequence_length + 1) / 2
    head = model.vocab_size * width
    products = tokens * (model.flops_per_token(shape.sequence_length) - 6 * head * (1 - shape.supervised))
    elements = tokens * layers * (6 * width + 4 * queries + 4 * model.intermediate_size)
    return np.array(
        [
            1.0,
            shape.num_micro_batches * layers,
            products,
            elements,
            tokens * shape.supervised * model.vocab_size,
            tokens * layers * model.num_attention_heads * keys_seen,
            model.num_parameters(),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLaw:
    """Seconds for one unit of each kind of work. The defaults were fitted to one core of an Intel Xeon with AMX, bfloat16 (docs/decisions/0074)."""

    step: float = 2.5e-3
    layer: float = 4.4e-3
    product: float = 1.0e-12
    element: float = 2.4e-9
    logit: float = 1.6e-9
    score: float = 1.6e-9
    weight: float = 1.0e-9
    spread: float = 0.5
    """Half width of the 90 % interval, in log seconds."""

    @property
    def constants(self) -> Array:
        """The seven constants, in the order of `KINDS`."""
        return np.array([getattr(self, kind) for kind in KINDS])

    def seconds(self, shape: StepShape) -> float:
        """Return the time of one step."""
        return float(self.constants @ work_of_step(shape))

    def scaled(self, factor: float, *, product: float | None = None, spread: float | None = None) -> StepLaw:
        """Return the law of a machine that is slower by a factor in everything, but for products where their constant is known."""
        constants = {kind: getattr(self, kind) * factor for kind in KINDS} | ({"product": product} if product else {})
        return replace(self, **constants, spread=self.spread if spread is None else spread)

    def as_dict(self) -> dict[str, float]:
        """Return constants and spread by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedStep:
    """A step that was timed."""

    shape: StepShape
    seconds: float


def fit_step_law(timed: Sequence[TimedStep], start: StepLaw | None = None) -> StepLaw:
    """Return the law of the machine that these steps were timed on. Few steps leave the proportions of `start` nearly as they are.

    The interval is Student's, from the errors on each shape when it is left out of the fit. Raises `DataError` without steps, or with a time that is none.
    """
    if not timed:
        raise DataError("calibration: no timed step; accepted: at least one")
    wrong = [one.seconds for one in timed if not 0 < one.seconds < float("inf")]
    if wrong:
        raise DataError(f"calibration: a step took {wrong[0]} seconds; accepted: more than 0")
    work = np.stack([work_of_step(one.shape) for one in timed])
    seconds = np.array([one.seconds for one in timed])
    first = start or StepLaw()
    # What is slow here is mostly slow in everything: the prior is around the start as fast as this machine on the whole.
    factor = float(np.exp(np.median(np.log(seconds / (work @ first.constants)))))
    first = first.scaled(factor, product=start.product if start else None)
    found = _fit(work, seconds, first.constants)
    errors = [_log_error(work, seconds, first.constants, left_out) for left_out in range(len(timed))] if len(timed) > 2 else []
    spread = max(LEAST_SPREAD, student_90(len(errors)) * float(np.sqrt(np.mean(np.square(errors))))) if errors else first.spread
    return StepLaw(**dict(zip(KINDS, map(float, found), strict=True)), spread=spread)


def _log_error(work: Array, seconds: Array, start: Array, left_out: int) -> float:
    others = np.arange(len(seconds)) != left_out
    return float(np.log(work[left_out] @ _fit(work[others], seconds[others], start) / seconds[left_out]))


def _fit(work: Array, seconds: Array, start: Array) -> Array:
    """Return the constants that minimise squared log errors over `NOISE` and squared log distances from the start over the priors (Gauss-Newton, damped)."""
    wide = np.array([PRIORS.get(kind, PRIOR) for kind in KINDS]) ** -2
    origin = logs = np.log(start)

    def loss(at: Array) -> float:
        return float((np.log(work @ np.exp(at) / seconds) ** 2).sum() / NOISE**2 + (wide * (at - origin) ** 2).sum())

    for _ in range(60):
        parts = work * np.exp(logs)
        total = parts.sum(axis=1)
        jacobian, error = parts / total[:, None], np.log(total / seconds)
        slope = jacobian.T @ error / NOISE**2 + wide * (logs - origin)
        stride = np.linalg.solve(jacobian.T @ jacobian / NOISE**2 + np.diag(wide), slope)
        stepped = _shortened(loss, logs, stride)
        if np.abs(stepped - logs).max() < 1e-7:
            break
        logs = stepped
    return np.exp(logs)


def _shortened(loss: Callable[[Array], float], logs: Array, stride: Array) -> Array:
    """Go along the stride as far as the loss falls."""
    share, now = 1.0, loss(logs)
    while share > 1e-6:
        then = logs - np.clip(share * stride, -1, 1)
        if loss(then) <= now:
            return np.asarray(then)
        share /= 2
    return logs
