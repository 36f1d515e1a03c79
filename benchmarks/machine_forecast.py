"""How right forecasts of training time are on this machine, for sizes and batches that it was not calibrated on.

    python benchmarks/machine_forecast.py                        measures, then trains each size for some seconds (about three minutes)
    python benchmarks/machine_forecast.py --paired               on a machine with other work: calibration and sizes take turns, by one thread's processor time

Ends with one JSON line: the error of each forecast (forecast / measured - 1), their mean and largest, and how many lie in the 90 % interval; `quick` and
`glance` say the same of the five seconds of the quickstart and of the fifth of a second before a first run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from math import exp
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from machine import machine_facts
from result import give_result

from herdling.base.progress import SilentProgress
from herdling.base.units import format_count
from herdling.data.batch import make_batch
from herdling.model.dial import dial_configs
from herdling.model.precision import Device, prepare_device
from herdling.model.transformer import Llama
from herdling.plan.machine import this_identity, update_machine
from herdling.plan.step_time import StepLaw, StepShape, TimedStep, fit_step_law
from herdling.train.calibrate import QUICK_ROUNDS, ROUNDS, calibrate
from herdling.train.config import CheckpointConfig, LoopConfig, OptimizerConfig, ScheduleConfig
from herdling.train.feed import ScheduledFeed
from herdling.train.losses import NextToken
from herdling.train.rehearsal import GLANCE, GLANCE_SPREAD, SHORT, WHOLE, time_steps
from herdling.train.schedule import plan_schedule
from herdling.train.start import train_llama
from herdling.types import Batch

SEQUENCE_LENGTH = 256
CASES = (
    *((0, 2048, 1.0), (1, 2048, 1.0), (2, 2048, 1.0), (3, 2048, 1.0), (4, 2048, 0.25)),
    *((5, 4096, 1.0), (6, 4096, 1.0), (7, 2048, 1.0), (8, 4096, 1.0), (2, 8192, 1.0)),
)
"""Row of the dial, tokens of a step, share of supervised tokens."""


class RandomRows:
    """Rows of random tokens, of which a share is supervised."""

    def __init__(self, shape: StepShape, num_rows: int) -> None:
        self.shape, self.num_rows = shape, num_rows
        self.fingerprint = f"random {shape}"

    def rows(self, start: int, count: int) -> Batch:
        """Return rows, the same for the same place."""
        chance = np.random.default_rng(start)
        ids = chance.integers(0, self.shape.model.vocab_size, (count, self.shape.sequence_length + 1))
        mask = np.tile(np.arange(self.shape.sequence_length) < self.shape.supervised * self.shape.sequence_length, (count, 1))
        return make_batch(ids[:, :-1], ids[:, 1:], mask, np.zeros_like(mask))


def main() -> None:
    """Measure, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paired", action="store_true", help="calibration and sizes take turns, by the processor time of one thread")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long each size is trained")
    parser.add_argument("--out", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    os.environ["HERDLING_MACHINE"] = "off"
    device = prepare_device(threads=1 if arguments.paired else None)
    facts = {**machine_facts("torch"), "threads": device.threads, "dtype": str(device.dtype).removeprefix("torch.")}
    result = paired(device) if arguments.paired else trained(device, arguments.seconds)
    give_result({"benchmark": "machine_forecast", "paired": arguments.paired, **result, "machine": facts}, arguments.out)


def shapes() -> list[StepShape]:
    """Return what is forecast."""
    dial = dial_configs(vocab_size=4096, sequence_length=SEQUENCE_LENGTH)
    return [StepShape(model=dial[row], tokens=tokens, sequence_length=SEQUENCE_LENGTH, supervised=share) for row, tokens, share in CASES]


def paired(device: Device) -> dict[str, Any]:
    """Time the steps of calibration and of all sizes in turn, so that what disturbs the machine touches all alike; forecast each size from the former."""
    wanted = shapes()
    timed = time_steps(device, [*WHOLE, *SHORT, *GLANCE, *wanted], rounds=ROUNDS, clock=time.thread_time)
    sizes = timed[-len(wanted) :]
    parts = {"whole": timed[: len(WHOLE)], "quick": timed[len(WHOLE) : len(WHOLE) + len(SHORT)], "glance": timed[len(WHOLE) + len(SHORT) : -len(wanted)]}
    laws = {name: fit_step_law(part) for name, part in parts.items()}
    found = {name: errors_of([(law.seconds(one.shape), one.seconds, spread_of(name, law)) for one in sizes], sizes) for name, law in laws.items()}
    return {**found.pop("whole"), **found}


def spread_of(name: str, law: StepLaw) -> float:
    """Return the half width of the interval that a run would be told."""
    return GLANCE_SPREAD if name == "glance" else law.spread


def trained(device: Device, seconds: float) -> dict[str, Any]:
    """Calibrate as a user does, then train each size for some seconds and compare with what the trainer said before."""
    started = time.perf_counter()
    machine = calibrate(this_identity(), device, today=datetime.now(UTC).date())
    took = time.perf_counter() - started
    quick = fit_step_law(time_steps(device, SHORT, rounds=QUICK_ROUNDS))
    sizes, whole, short = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HERDLING_MACHINE"] = str(Path(folder) / "machine.json")
        update_machine(Path(folder) / "machine.json", machine.identity, lambda before: machine)
        for number, shape in enumerate(shapes()):
            steps = max(5, round(seconds / machine.law.seconds(shape)))
            speed = train(shape, steps, device, Path(folder) / str(number))["speed"]
            measured = speed["step_seconds"] / speed["steps"]
            sizes.append(TimedStep(shape=shape, seconds=measured))
            whole.append((machine.law.seconds(shape), measured, machine.law.spread))
            short.append((quick.seconds(shape), measured, quick.spread))
            print(f"{format_count(shape.model.num_parameters())}: {whole[-1][0] / measured - 1:+.1%} ({steps} steps)", file=sys.stderr)
    return {**errors_of(whole, sizes), "quick": errors_of(short, sizes), "calibration_seconds": round(took, 1)}


def train(shape: StepShape, steps: int, device: Device, folder: Path) -> dict[str, Any]:
    """Train a size on random tokens through the trainer itself; return its summary. Nothing is saved on the way."""
    folder.mkdir()
    torch.manual_seed(0)
    schedule = plan_schedule(
        ScheduleConfig(), num_tokens=steps * shape.tokens, batch=str(shape.tokens), sequence_length=shape.sequence_length, where="benchmark"
    )
    model = Llama(shape.model)
    model.init_weights(0)
    return train_llama(
        model,
        NextToken(),
        ScheduledFeed(schedule, lambda length: RandomRows(shape, schedule.num_tokens // length)),
        schedule=schedule,
        optimizer=OptimizerConfig(),
        lr=1e-3,
        loop=LoopConfig(checkpoint=CheckpointConfig(every_seconds=1e9)),
        device=device,
        folder=folder,
        progress=SilentProgress(),
        stop_requested=lambda: False,
    )


def errors_of(pairs: Sequence[tuple[float, float, float]], sizes: Sequence[TimedStep]) -> dict[str, Any]:
    """Return forecast / measured - 1 of (forecast, measured, spread) each, and what all of them come to."""
    errors = [forecast / measured - 1 for forecast, measured, _ in pairs]
    names = [f"{format_count(one.shape.model.num_parameters())} by {one.shape.tokens}, {one.shape.supervised:.0%} supervised" for one in sizes]
    return {
        "errors": dict(zip(names, (round(error, 4) for error in errors), strict=True)),
        "mean_error": round(fmean(map(abs, errors)), 4),
        "largest_error": round(max(map(abs, errors)), 4),
        "coverage": fmean(measured * exp(-spread) <= forecast <= measured * exp(spread) for forecast, measured, spread in pairs),
        "spread": round(pairs[0][2], 4),
    }


if __name__ == "__main__":
    main()
