"""Forecast against measured: before a run how long its steps will take, after it how long they took, and what the next forecast learns from it.

On a CPU by the law of step times of this machine's record (`plan/machine.py`), without one by a glance of a fifth of a second; on CUDA by the roofline of
`plan/throughput.py`. Changes no bit of the result: random generators are put back, and nothing here is part of a fingerprint. Validation and
checkpoints are told apart. No forecast where a feed samples from the model that is trained (PPO), whose answers have no length beforehand.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import torch

from herdling.base.crowd import Moment, cores, crowding, moment
from herdling.base.environment import machine_file
from herdling.base.errors import HerdlingError
from herdling.base.progress import Progress
from herdling.base.units import format_seconds
from herdling.model.precision import Device
from herdling.model.reward import RewardModel
from herdling.model.transformer import Llama
from herdling.plan.gpu_names import gpu_of
from herdling.plan.machine import LAW_WORK, FinishedRun, Identity, Machine, read_machine, this_identity, update_machine
from herdling.plan.split import Stack
from herdling.plan.step_time import Array, StepLaw, StepShape, work_of_step
from herdling.plan.throughput import forecast
from herdling.train.calibrate import job_of
from herdling.train.config import LoopConfig
from herdling.train.feed import ScheduledFeed
from herdling.train.rehearsal import glance
from herdling.train.schedule import Phase, Schedule

LEAST_STEPS, LEAST_SECONDS = 20, 5.0
"""A shorter run says too little to be remembered."""
LOOK_ROWS = 8
"""Rows of the data that are looked at for the share of supervised tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is expected of a run's steps: seconds of the mean step, by the law alone and as corrected by finished runs, and the interval of 90 %."""

    work: str
    kinds: Array
    by_law: float
    step_seconds: float
    spread: float
    basis: str
    """What it stands on, in words."""
    num_steps: int
    machine: Machine
    place: Path | None
    began: Moment | None = None
    """When it was made: other work since then is told, and makes a measurement worth nothing."""

    def say(self) -> str:
        """Return the forecast as one line."""
        return f"forecast {_between(self.step_seconds * self.num_steps, self.spread)} for {self.num_steps:,} steps, by {self.basis}"

    def compare(self, summary: dict[str, Any], progress: Progress) -> None:
        """Tell forecast and measurement of the steps that this process did, put them into the summary, and remember them for the next forecast."""
        speed = summary["speed"]
        steps, seconds = speed["steps"], speed["step_seconds"]
        if not steps or not seconds:
            return
        expected = self.step_seconds * steps
        deviation = seconds / expected - 1
        others = crowding(self.began, moment(), threads=torch.get_num_threads(), cores=os.cpu_count() or 1)
        besides = f"; {format_seconds(speed['aside_seconds'])} of validation and checkpoints besides" if speed["aside_seconds"] >= 0.05 else ""
        crowd = f"; other work took {others:g} of {cores(torch.get_num_threads())} meanwhile" if others else ""
        summary["forecast"] = f"{_between(expected, self.spread)}, measured {format_seconds(seconds)} ({deviation:+.0%})"
        speed["forecast"] = {
            "seconds": round(expected, 3),
            "low": round(expected * exp(-self.spread), 3),
            "high": round(expected * exp(self.spread), 3),
            "measured_seconds": seconds,
            "basis": self.basis,
        } | ({"cores_taken": others} if others else {})
        progress.note(f"forecast {summary['forecast']}{besides}{crowd}")
        if self.place is not None and steps >= LEAST_STEPS and seconds >= LEAST_SECONDS and not others:
            self._remember(self.place, seconds / steps, steps, progress)

    def _remember(self, place: Path, step_seconds: float, steps: int, progress: Progress) -> None:
        today = datetime.now(UTC).date().isoformat()
        run = FinishedRun(
            work=self.work,
            kinds=tuple(float(kind) for kind in self.kinds),
            forecast_seconds=self.by_law,
            step_seconds=step_seconds,
            steps=steps,
            date=today,
            dtype=self.machine.dtype,
        )
        try:
            update_machine(place, self.machine.identity, lambda before: (before or self.machine).with_runs([run]))
        except (OSError, HerdlingError) as error:  # a forecast is a courtesy: a run that is done is not failed by it
            progress.note(f"the measurement is not kept: {error}")


def foresee(
    model: torch.nn.Module, objective: object, feed: object, *, schedule: Schedule, loop: LoopConfig, device: Device, progress: Progress
) -> Outlook | None:
    """Return what this run's steps are expected to take, or None where nobody can say."""
    if not isinstance(model, Llama | RewardModel):
        return None
    place, identity = machine_file(), this_identity()
    machine, lines = read_machine(place, identity)
    for line in lines:
        progress.note(line)
    dtype = str(device.dtype).removeprefix("torch.")
    work = _words(type(objective).__name__) + (" compiled" if loop.compile else "")
    shapes = [(_shape(model, feed, phase, loop), steps) for phase, steps in _phases(schedule)]
    kinds = np.asarray(sum(work_of_step(shape) * steps for shape, steps in shapes) / schedule.num_steps)
    if machine is None or machine.dtype != dtype:
        machine = _glanced(identity, device, dtype)
    if device.device.type == "cuda":
        machine, by_law, spread = _roofline(machine, device, shapes, schedule.num_steps)
    else:
        by_law, spread = float(machine.law.constants @ kinds), machine.law.spread
    factor, corrected = machine.correction(work)
    runs = len(machine.runs_of(work))
    basis = machine.source + (f", corrected by {runs} finished run{'s' * (runs > 1)}" if runs else "")
    return Outlook(
        work=work,
        kinds=kinds,
        by_law=by_law,
        step_seconds=by_law * factor,
        spread=corrected if runs or work != LAW_WORK else spread,
        basis=basis,
        num_steps=schedule.num_steps,
        machine=machine,
        place=place,
        began=moment(),
    )


def _shape(model: Llama | RewardModel, feed: object, phase: Phase, loop: LoopConfig) -> StepShape:
    """Return what a step of this phase does. The share of supervised tokens is read off the first rows, where the feed's rows are there beforehand."""
    supervised = 0.0 if isinstance(model, RewardModel) else 1.0
    if isinstance(model, Llama) and isinstance(feed, ScheduledFeed):
        source = feed.sources[phase.sequence_length]
        supervised = float(source.rows(0, min(LOOK_ROWS, source.num_rows)).loss_mask.float().mean())
    return StepShape(
        model=model.config,
        tokens=phase.batch_tokens,
        sequence_length=phase.sequence_length,
        micro_batch_tokens=loop.micro_batch_tokens,
        supervised=supervised,
    )


def _phases(schedule: Schedule) -> list[tuple[Phase, int]]:
    """Return each phase with its steps."""
    ends = [phase.first_step for phase in schedule.phases[1:]] + [schedule.num_steps]
    return [(phase, end - phase.first_step) for phase, end in zip(schedule.phases, ends, strict=True)]


@cache
def _glanced(identity: Identity, device: Device, dtype: str) -> Machine:
    """Return a record that stands on a glance, once a process."""
    law = glance(device) if device.device.type != "cuda" else StepLaw()
    return Machine(identity=identity, dtype=dtype, law=law, source="a glance at this machine", date=datetime.now(UTC).date().isoformat())


def _roofline(machine: Machine, device: Device, shapes: list[tuple[StepShape, int]], num_steps: int) -> tuple[Machine, float, float]:
    """Return the record with its GPU, the mean step by the roofline of GPUs, and its interval. Written without a GPU at hand."""
    gpu = machine.gpu or gpu_of(torch.cuda.get_device_name(device.device))
    if gpu is None:
        return machine, sum(machine.law.seconds(shape) * steps for shape, steps in shapes) / num_steps, 2.0  # a CPU's law: no more than an order
    total, spread = 0.0, 0.0
    for shape, steps in shapes:
        step = forecast(*job_of(shape), Stack(loss="chunked"), gpu, machine.efficiency)
        total, spread = total + step.seconds * steps, float(np.log(step.high / step.seconds))
    source = machine.source if machine.efficiency else f"the roofline of {gpu.name}"
    return replace(machine, gpu=gpu, source=source), total / num_steps, spread


def _words(name: str) -> str:
    """Turn the name of an objective into words: NextToken -> next token."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def _between(seconds: float, spread: float) -> str:
    """Write a time with its interval."""
    return f"{format_seconds(seconds)} ({format_seconds(seconds * exp(-spread))} to {format_seconds(seconds * exp(spread))})"
