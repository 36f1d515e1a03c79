"""Lay out the small trainings of a sweep: which sizes at which budgets, each with its tokens, batch and learning rate. No torch.

Compute is C = 6ND with N all weights, the tied embedding once: at a tied model the embedding is the output matrix, which every token meets, so N counts the
products of a step but for attention (exact / 6ND stands in every row: 1.1 to 1.3 below a million weights in rows of 256, near 1 above). Llama 3, section 3.2.1:
a fixed batch for each compute scale, the learning rate by the size of the model, a cosine to the end of each run's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from herdling.base.errors import SettingsError
from herdling.base.units import format_count
from herdling.model.config import LlamaConfig
from herdling.model.family import family, member
from herdling.plan.resampling import flops_name
from herdling.plan.scaling_law import FLOPS_PER_PARAMETER_AND_TOKEN

MIN_RUNS = 3
MOST_LR = 6e-3
BATCH_FACTOR = 0.12
MIN_ROWS = 2
MIN_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One training of a sweep."""

    flops: float
    """The budget, 6ND."""
    config: LlamaConfig
    num_tokens: int
    batch_tokens: int
    lr: float

    @property
    def name(self) -> str:
        """Name of its folder: budget and size."""
        return f"{flops_name(self.flops)}-{format_count(self.parameters)}"

    @property
    def parameters(self) -> int:
        """N: all weights, a tied embedding once."""
        return self.config.num_parameters()

    @property
    def exact_flops(self) -> float:
        """FLOPs of all matrix products of this training, attention too."""
        return float(self.config.flops_per_token(self.config.max_position_embeddings)) * self.num_tokens


def point_at(flops: float, config: LlamaConfig) -> Point:
    """Return the training of this shape that this budget pays, by the rules of the sweep."""
    size = config.num_parameters()
    batch = batch_tokens(flops, config.max_position_embeddings)
    tokens = round(flops / FLOPS_PER_PARAMETER_AND_TOKEN / size)
    return Point(flops=flops, config=config, num_tokens=tokens, batch_tokens=batch, lr=peak_lr(size))


def batch_tokens(flops: float, sequence_length: int) -> int:
    """Return tokens in a step for a compute scale, in whole rows, the same for all its sizes: 0.12 C^0.327, 1K at 1e12 FLOPs, 10K at 1e15, 200K at 1e19.

    The exponent is DeepSeek LLM's (arXiv 2401.02954, section 3.1), whose factor is 0.292; at 1e12 that left 217K weights at 4.81 nats after 300 steps, and
    1K tokens a step at 4.24 (docs/log.md): a small run needs its steps to leave the first plateau.
    """
    rows: int = round(BATCH_FACTOR * flops**0.3271 / sequence_length)
    return max(MIN_ROWS, rows) * sequence_length


def peak_lr(parameters: int) -> float:
    """Return the peak learning rate of a size: 4e-3 at 1M and the papers' 3e-4 at 7B, a power law between, at most 6e-3.

    Above the dial's below 100M: it wants a warm-up of a tenth of the run, as short runs do (docs/log.md), where the dial's stands a shorter one.
    """
    return float(f"{min(MOST_LR, 4e-3 * exp(log(3e-4 / 4e-3) / log(7e9 / 1e6) * log(parameters / 1e6))):.2g}")


def budgets_between(smallest: float, largest: float, number: int) -> list[float]:
    """Return budgets in equal ratios, with two digits."""
    if number == 1:
        return [smallest]
    return [float(f"{smallest * (largest / smallest) ** (place / (number - 1)):.2g}") for place in range(number)]


def lay_out(
    budgets: Sequence[float], *, runs_per_budget: int, spread: float, tokens_per_parameter: float, vocab_size: int, sequence_length: int, where: str
) -> list[Point]:
    """Return the trainings of a sweep: at each budget sizes of the family in equal ratios, from the expected optimum / spread to the optimum * spread.

    Sizes of all budgets come from one family, so that a size returns at several budgets. Two that fall on the same member are one.

    Raises:
        SettingsError: a budget that leaves fewer than three sizes, or less than twenty steps to one.
    """
    points = []
    for flops in budgets:
        middle = sqrt(flops / (FLOPS_PER_PARAMETER_AND_TOKEN * tokens_per_parameter))
        ratios = [exp(log(spread) * (2 * place / (runs_per_budget - 1) - 1)) for place in range(runs_per_budget)]
        shapes = dict.fromkeys(member(middle * ratio, vocab_size=vocab_size, sequence_length=sequence_length) for ratio in ratios)
        if len(shapes) < MIN_RUNS:
            sizes = family(vocab_size, sequence_length)
            ends = f"{format_count(sizes[0].num_parameters())} to {format_count(sizes[-1].num_parameters())} parameters with {vocab_size:,} ids"
            raise SettingsError(
                f"{where}: {flops_name(flops)} FLOPs have {len(shapes)} sizes of the family ({ends}); a parabola needs {MIN_RUNS}. Take another budget,"
                " a wider spread, or a smaller vocabulary"
            )
        points += [point_at(flops, shape) for shape in shapes]
    return checked(points, where)


def at_sizes(budgets: Sequence[float], sizes: Sequence[float], *, vocab_size: int, sequence_length: int, where: str) -> list[Point]:
    """Return every one of these sizes at every budget, each as the nearest member of the family. Raises `SettingsError` as `lay_out` does."""
    shapes = dict.fromkeys(member(size, vocab_size=vocab_size, sequence_length=sequence_length) for size in sizes)
    if len(shapes) < MIN_RUNS:
        raise SettingsError(f"{where}: name {len(shapes)} sizes of the family; a parabola needs {MIN_RUNS}")
    return checked([point_at(flops, shape) for flops in budgets for shape in shapes], where)


def checked(points: list[Point], where: str) -> list[Point]:
    """Refuse trainings of fewer than twenty steps: they say nothing of a size."""
    for point in points:
        if point.num_tokens < MIN_STEPS * point.batch_tokens:
            raise SettingsError(
                f"{where}: {format_count(point.parameters)} parameters have {point.num_tokens / point.batch_tokens:.1f} steps of {point.batch_tokens:,} tokens"
                f" at {flops_name(point.flops)} FLOPs; expected {MIN_STEPS} or more. Take larger budgets, a smaller spread, or a smaller vocabulary"
            )
    return points
