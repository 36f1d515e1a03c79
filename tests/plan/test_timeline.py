"""The pipeline schedule, played: its length is that of the published formula, and no stage does two things at once."""

from __future__ import annotations

from itertools import pairwise

import pytest

from herdling.model.presets import preset
from herdling.plan.hardware import find_gpu
from herdling.plan.split import Job, Split, Stack
from herdling.plan.throughput import forecast
from herdling.plan.timeline import micro_batch_seconds, pipeline_blocks


@pytest.mark.parametrize("stages", [2, 4, 8])
@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_the_schedule_is_as_long_as_its_formula(stages: int, chunks: int, groups: int) -> None:
    micro_batches = stages * groups
    blocks = pipeline_blocks(stages, micro_batches, chunks, 1.0, 2.0)
    # M micro-batches of 3 seconds and a bubble of (PP - 1) / V of them (Llama 3, section 3.3.2)
    assert max(block.end for block in blocks) == pytest.approx(3 * (micro_batches + (stages - 1) / chunks))
    assert len(blocks) == 2 * stages * micro_batches * chunks


def test_three_micro_batches_on_two_stages_by_hand() -> None:
    blocks = pipeline_blocks(2, 3, 1, 1.0, 2.0)
    first = [(block.begin, block.is_forward) for block in blocks if block.stage == 0]
    last = [(block.begin, block.is_forward) for block in blocks if block.stage == 1]
    assert first == [(0, True), (1, True), (4, False), (6, True), (7, False), (10, False)]
    assert last == [(1, True), (2, False), (4, True), (5, False), (7, True), (8, False)]


@pytest.mark.parametrize("micro_batches", [3, 5, 7])
def test_uneven_groups_are_played_to_the_end(micro_batches: int) -> None:
    blocks = pipeline_blocks(3, micro_batches, 2, 1.0, 2.0)
    assert len(blocks) == 2 * 3 * micro_batches * 2
    for stage in range(3):
        assert all(before.end <= after.begin + 1e-9 for before, after in pairwise(block for block in blocks if block.stage == stage))


def test_a_micro_batch_takes_its_share_of_the_step() -> None:
    job, split = Job(model=preset("llama3-70b"), seq_len=8192, global_batch=256), Split(tp=8, pp=4, dp=8, recompute="full")
    step = forecast(job, split, Stack(), find_gpu("h100"))
    forward, backward = micro_batch_seconds(job, split, step)
    assert 3 * forward == pytest.approx(backward)  # forward, and again before a backward of two
    assert 32 * (forward + backward) + step.bubble + step.exchange + step.optimizer == pytest.approx(step.seconds)
