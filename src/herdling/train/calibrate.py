"""Measure this machine: ceilings, a law of step times from real steps, on CUDA the roofline's scalars; the result is a record for `plan/machine.py`.

The CPU path costs about half a minute (`quick`: five seconds). The CUDA path was written without a GPU at hand and never ran.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import torch

from herdling.model.precision import Device
from herdling.plan.calibration import Measurement, fit_efficiency
from herdling.plan.machine import Identity, Machine
from herdling.plan.split import Job, Split, Stack
from herdling.plan.step_time import StepLaw, StepShape, fit_step_law
from herdling.train.ceilings import measure_ceilings, measured_gpu, product_rate
from herdling.train.rehearsal import SHORT, WHOLE, Clock, small_llama, time_steps

ON_GPU = (
    small_llama(768, 12, vocab=32_768, tokens=65_536, length=2048, micro=16_384),
    small_llama(1024, 16, vocab=32_768, tokens=32_768, length=2048, micro=16_384),
    small_llama(2048, 8, vocab=32_768, tokens=16_384, length=4096, micro=16_384),
    small_llama(2048, 8, vocab=32_768, tokens=16_384, length=4096, micro=4096),
    small_llama(4096, 2, vocab=32_768, tokens=16_384, length=4096, micro=16_384),
)
ROUNDS, QUICK_ROUNDS = 6, 3


def calibrate(
    identity: Identity,
    device: Device,
    *,
    today: date,
    quick: bool = False,
    clock: Clock = time.perf_counter,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Machine:
    """Measure and return the record. `tell` is called with rounds done, and with how many there are."""
    dtype = str(device.dtype).removeprefix("torch.")
    ceilings = measure_ceilings(device)
    on_gpu = device.device.type == "cuda"
    rounds = QUICK_ROUNDS if quick else ROUNDS
    shapes = ON_GPU if on_gpu else SHORT if quick else WHOLE
    timed = time_steps(device, shapes, rounds=rounds, clock=clock, tell=lambda done: tell(done, rounds))
    start = StepLaw(product=1 / product_rate(ceilings, dtype))
    source = f"what was measured here on {today.isoformat()}"
    machine = Machine(identity=identity, dtype=dtype, law=fit_step_law(timed, start), source=source, date=today.isoformat(), ceilings=ceilings)
    if not on_gpu:
        return machine
    memory = torch.cuda.get_device_properties(device.device).total_memory / 2**30
    gpu = measured_gpu(torch.cuda.get_device_name(device.device), memory, ceilings)
    jobs = [(one, *job_of(one.shape)) for one in timed]
    steps = [Measurement(job=job, split=split, stack=Stack(loss="chunked"), gpu=gpu, seconds=one.seconds) for one, job, split in jobs]
    return replace(machine, gpu=gpu, efficiency=fit_efficiency(steps))


def job_of(shape: StepShape) -> tuple[Job, Split]:
    """Return a step on one GPU in the planner's words."""
    rows = max(1, shape.tokens // shape.sequence_length)
    micro_batch = min(rows, max(1, shape.micro_batch_tokens // shape.sequence_length))
    return Job(model=shape.model, seq_len=shape.sequence_length, global_batch=rows), Split(micro_batch=micro_batch, sharding="none")
