"""A few real training steps, timed before a run: small models with few layers that span the widths of the dial, on random tokens.

They go through the loop's own step: forward, backward, guard, optimizer, metrics. The process's random generators are left as they were found. Costs: `WHOLE`
about half a minute on two cores, `SHORT` about five seconds, `GLANCE` a fifth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from herdling.data.batch import make_batch
from herdling.model.config import LlamaConfig
from herdling.model.precision import Device
from herdling.model.transformer import Llama
from herdling.plan.step_time import StepLaw, StepShape, TimedStep, fit_step_law
from herdling.train.config import GuardConfig, OptimizerConfig, ScheduleConfig
from herdling.train.forward import scorer
from herdling.train.guard import Guard
from herdling.train.loop import Loop
from herdling.train.losses import NextToken
from herdling.train.metrics import Meter
from herdling.train.optim import Optimizer
from herdling.train.schedule import plan_schedule
from herdling.types import Batch

Clock = Callable[[], float]


def small_llama(width: int, layers: int, *, vocab: int = 4096, tokens: int = 2048, length: int = 256, micro: int = 4096) -> StepShape:
    """Return a step of a model of this width and depth, tied, with the usual proportions."""
    heads = max(2, width // (32 if width < 256 else 64))
    model = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=-(-8 * width // 3 // 32) * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        max_position_embeddings=length,
        tie_word_embeddings=True,
    )
    return StepShape(model=model, tokens=tokens, sequence_length=length, micro_batch_tokens=micro)


WHOLE = (
    small_llama(64, 2),
    small_llama(128, 6),
    small_llama(256, 3),
    small_llama(448, 2),
    small_llama(768, 1),
    small_llama(128, 2, tokens=8192, micro=2048),
    small_llama(192, 2, vocab=16_384, tokens=1024),
    small_llama(128, 3, length=1024),
)
SHORT = (small_llama(64, 2), small_llama(128, 6), small_llama(448, 1), small_llama(128, 2, tokens=4096, micro=1024))
GLANCE = (small_llama(64, 1, vocab=1024, tokens=512), small_llama(128, 2, vocab=2048, tokens=512))

GLANCE_SPREAD = 0.35
"""Of what was only glanced at: models from 0.4M to 27M were 11 % off at most, in rounds in turn; on other machines proportions may be others."""


@dataclass(slots=True)
class _Rehearsed:
    """A model made ready, and the times of its steps."""

    shape: StepShape
    loop: Loop
    guard: Guard
    meter: Meter
    batches: Iterator[Batch]
    seconds: list[float]
    steps: int = 0

    def step(self, clock: Clock) -> None:
        """Train one step; the first of all, which finds its memory, does not count."""
        batch = next(self.batches)
        started = clock()
        self.loop.train_step(self.steps, batch, self.guard, self.meter)
        self.meter.flush()  # asks the device for its numbers, so that it has finished
        if self.steps:
            self.seconds.append(clock() - started)
        self.steps += 1


def measure_law(
    device: Device,
    shapes: Sequence[StepShape] = WHOLE,
    *,
    start: StepLaw | None = None,
    rounds: int = 5,
    clock: Clock = time.perf_counter,
    tell: Callable[[int], None] = lambda done: None,
) -> StepLaw:
    """Time real steps of these shapes and return the law that explains them."""
    return fit_step_law(time_steps(device, shapes, rounds=rounds, clock=clock, tell=tell), start)


def time_steps(
    device: Device,
    shapes: Sequence[StepShape],
    *,
    rounds: int = 5,
    clock: Clock = time.perf_counter,
    tell: Callable[[int], None] = lambda done: None,
) -> list[TimedStep]:
    """Return the median step time of each shape. All shapes take their turn in each round: what disturbs the machine for a while then touches all alike.

    `tell` is called with the rounds done.
    """
    with kept_random_state(device.device):
        rehearsed = [_prepare(shape, device) for shape in shapes]
        for one in rehearsed:
            one.step(clock)
        for done in range(rounds):
            for one in rehearsed:
                for _ in range(2 if one.seconds and one.seconds[-1] < 0.1 else 1):
                    one.step(clock)
            tell(done + 1)
    return [TimedStep(shape=one.shape, seconds=median(one.seconds)) for one in rehearsed]


def glance(device: Device, start: StepLaw | None = None) -> StepLaw:
    """Return a rough law in about a fifth of a second: the proportions of the start at this machine's speed."""
    return replace(measure_law(device, GLANCE, start=start, rounds=2), spread=GLANCE_SPREAD)


def _prepare(shape: StepShape, device: Device) -> _Rehearsed:
    model = Llama(shape.model)
    model.init_weights(0)
    model.to(device.device)
    rows = max(1, shape.tokens // shape.sequence_length)
    schedule = plan_schedule(
        ScheduleConfig(), num_tokens=1000 * shape.tokens, batch=str(rows * shape.sequence_length), sequence_length=shape.sequence_length, where="rehearsal"
    )
    optimizer = Optimizer(model, OptimizerConfig(), dtype=device.dtype)
    loop = Loop(
        score=scorer(model),
        objective=NextToken(),
        feed=_NoFeed(),
        schedule=schedule,
        optimizer=optimizer,
        lr=1e-3,
        folder=Path(),  # nothing is written: steps alone write nothing
        device=device.device,
        micro_batch_tokens=shape.micro_batch_tokens,
    )
    batches = _random_batches(shape, rows)
    return _Rehearsed(shape, loop, Guard(GuardConfig(), device.device), Meter(flops_per_token=None, peak=None), batches, [])


class _NoFeed:
    """A loop's feed that is never asked: the rehearsal hands its batches over itself."""

    fingerprint = "rehearsal"

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield nothing."""
        return iter(())


def _random_batches(shape: StepShape, rows: int) -> Iterator[Batch]:
    chance = np.random.default_rng(0)
    supervised = np.tile(np.arange(shape.sequence_length) < shape.supervised * shape.sequence_length, (rows, 1))
    while True:
        ids = chance.integers(0, shape.model.vocab_size, (rows, shape.sequence_length + 1))
        yield make_batch(ids[:, :-1], ids[:, 1:], supervised, np.zeros_like(supervised))


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Put PyTorch's random generators back afterwards: making a model draws from them, and a run must end with the same bits whether one looked or not."""
    before = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)
