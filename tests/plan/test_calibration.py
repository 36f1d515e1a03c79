"""Fitting the planner's scalars to measured steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from herdling.base.errors import DataError
from herdling.model.presets import preset
from herdling.plan.calibration import Measurement, fit_efficiency, log_errors, spread_of
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import find_gpu
from herdling.plan.split import Job, Split, Stack
from herdling.plan.throughput import forecast

MACHINE = Efficiency(matmul=0.7, attention=0.4, memory=1.8, tensor=1.0, data=1.5)


def measured(efficiency: Efficiency) -> list[Measurement]:
    """Return steps as a machine with these scalars would take them."""
    steps = []
    for name in ("llama3-8b", "llama2-13b", "llama3-70b"):
        for split in (Split(dp=64), Split(tp=8, dp=8), Split(tp=4, pp=4, dp=4), Split(dp=64, recompute="full"), Split(tp=2, dp=32, micro_batch=2)):
            job = Job(model=preset(name), seq_len=4096, global_batch=256)
            gpu = find_gpu("h100")
            steps.append(Measurement(job=job, split=split, stack=Stack(), gpu=gpu, seconds=forecast(job, split, Stack(), gpu, efficiency).seconds))
    return steps


def test_a_machines_own_steps_are_explained_and_others_of_it_foretold() -> None:
    steps = measured(MACHINE)
    before = np.abs(log_errors(steps[1::2], Efficiency())).mean()
    fitted = fit_efficiency(steps[::2])
    assert before > 0.15
    assert np.abs(log_errors(steps[1::2], fitted)).mean() < 0.03


def test_one_outlier_does_not_carry_the_fit_away() -> None:
    steps = measured(MACHINE)
    steps[0] = replace(steps[0], seconds=5 * steps[0].seconds)
    assert np.median(np.abs(log_errors(steps[1:], fit_efficiency(steps)))) < 0.03


def test_few_steps_make_a_wide_interval() -> None:
    assert spread_of(np.array([0.01, 0.02])) > spread_of(np.array([0.01, 0.02] * 20)) == 0.02


def test_no_step_and_no_time_are_refused() -> None:
    with pytest.raises(DataError, match="no measured step"):
        fit_efficiency([])
    with pytest.raises(DataError, match="took -1 seconds"):
        fit_efficiency([replace(measured(MACHINE)[0], seconds=-1)])
