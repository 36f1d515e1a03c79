"""When each pipeline stage works on what in one step: the 1F1B schedule, plain or interleaved, played by its dependencies. No torch.

Interleaved: a stage holds several chunks of layers, and micro-batches pass in groups of as many as there are stages (Narayanan et al., arXiv 2104.04473;
Llama 3, section 3.3.2). Passing on takes no time of its own here: the forecast counts it in a stage's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from herdling.plan.split import Job, Split
from herdling.plan.throughput import Forecast

FORWARD_SHARE = {"none": 1 / 3, "selective": 1 / 3.5, "full": 1 / 4}
"""Of a micro-batch's work; the rest is its backward, with what is made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A stage at work on a micro-batch, in seconds from the beginning of the step."""

    stage: int
    begin: float
    end: float
    is_forward: bool


def micro_batch_seconds(job: Job, split: Split, step: Forecast) -> tuple[float, float]:
    """Return the seconds of a stage's forward and backward for one micro-batch, with what communication does not hide."""
    busy = (step.compute + step.memory + step.communication - step.exchange) / split.micro_batches(job)
    forward = FORWARD_SHARE[split.recompute] * busy
    return forward, busy - forward


def pipeline_blocks(stages: int, micro_batches: int, chunks: int, forward: float, backward: float) -> list[Block]:
    """Return all blocks of a step in the order of their beginning; `forward` and `backward` are a stage's seconds for a micro-batch, over all of its chunks.

    Interleaving goes by whole groups: of a last one that is not whole, the missing micro-batches stay empty.
    """
    played = micro_batches if chunks == 1 else stages * ceil(micro_batches / stages)
    orders = [_order(stage, stages, played, chunks) for stage in range(stages)]
    done: dict[tuple[int, int, int, bool], float] = {}
    free, at = [0.0] * stages, [0] * stages
    blocks: list[Block] = []
    while any(at[stage] < len(orders[stage]) for stage in range(stages)):
        for stage in range(stages):
            while at[stage] < len(orders[stage]):
                micro_batch, chunk, is_forward = orders[stage][at[stage]]
                before = _before(stage, chunk, stages, chunks, is_forward=is_forward)
                if before and (micro_batch, *before, is_forward) not in done:
                    break
                begin = max(free[stage], done[micro_batch, *before, is_forward] if before else 0.0)
                free[stage] = begin + (forward if is_forward else backward) / chunks
                done[micro_batch, stage, chunk, is_forward] = free[stage]
                if micro_batch < micro_batches:
                    blocks.append(Block(stage=stage, begin=begin, end=free[stage], is_forward=is_forward))
                at[stage] += 1
    return sorted(blocks, key=lambda block: (block.begin, block.stage))


def _order(stage: int, stages: int, micro_batches: int, chunks: int) -> list[tuple[int, int, bool]]:
    """Return what a stage does one after another, as (micro-batch, chunk, is it a forward): forwards to fill, then one forward and one backward in turn."""
    groups = [range(first, min(first + stages, micro_batches)) for first in range(0, micro_batches, stages)]
    forwards = [(micro_batch, chunk, True) for group in groups for chunk in range(chunks) for micro_batch in group]
    backwards = [(micro_batch, chunk, False) for group in groups for chunk in reversed(range(chunks)) for micro_batch in group]
    fill = stages - stage - 1 if chunks == 1 else 2 * (stages - stage - 1) + (chunks - 1) * stages
    fill = min(fill, len(forwards))
    turns = [one for pair in zip(forwards[fill:], backwards, strict=False) for one in pair]
    return [*forwards[:fill], *turns, *backwards[len(forwards) - fill :]]


def _before(stage: int, chunk: int, stages: int, chunks: int, *, is_forward: bool) -> tuple[int, int] | None:
    """Return the stage and chunk whose result this one waits for; None at the first of the model. A backward at the last has its own forward before it."""
    if is_forward:
        if stage > 0:
            return stage - 1, chunk
        return (stages - 1, chunk - 1) if chunk > 0 else None
    if stage < stages - 1:
        return stage + 1, chunk
    return (0, chunk + 1) if chunk < chunks - 1 else None
