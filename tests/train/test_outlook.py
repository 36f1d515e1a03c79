"""Forecast against measured: said before and after, part of the summary, remembered, and without a trace in the result."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from herdling.base.artifact import file_digests
from herdling.base.crowd import Moment, moment
from herdling.base.decode import decode
from herdling.base.progress import SilentProgress
from herdling.model.config import LlamaConfig
from herdling.model.precision import Device
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import find_gpu
from herdling.plan.machine import read_machine, this_identity, update_machine
from herdling.plan.split import Stack
from herdling.plan.step_time import KINDS, StepLaw, StepShape, work_of_step
from herdling.plan.throughput import forecast
from herdling.stages.pretrain import Pretrain
from herdling.train.calibrate import ON_GPU, job_of
from herdling.train.outlook import Outlook, _roofline
from tests.plan.made_machine import made_machine
from tests.stages.toy_training import LOOP, MODEL, PRETRAIN, make_inputs, run_stage, stage_run

CPU = Device(device=torch.device("cpu"), dtype=torch.float32, threads=1, matmul_precision="highest")


class Notes(SilentProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of both stages, with a model to tune."""
    torch.set_num_threads(1)
    folder = make_inputs(tmp_path_factory.mktemp("toy") / "inputs")
    run_stage("pretrain", folder, folder / "model", num_tokens="1K")
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "machine.json"
    monkeypatch.setenv("HERDLING_MACHINE", str(path))
    return path


def know(place: Path, **changes: Any) -> None:
    machine = made_machine(identity=this_identity(), dtype="float32", **changes)
    update_machine(place, machine.identity, lambda before: machine)


def pretrain(inputs: Path, folder: Path) -> tuple[dict[str, Any], list[str]]:
    notes = Notes()
    run = stage_run("pretrain", inputs, folder, progress=notes)
    loop = {**LOOP, "checkpoint": {"every_seconds": 1e9}}
    decode(Pretrain, {**PRETRAIN, "loop": loop, "num_tokens": "4K"}, "stages.pretrain").run(run)
    return run.summary, notes.said


def test_a_run_says_what_it_expects_and_what_became_of_it(tmp_path: Path, inputs: Path, place: Path) -> None:
    know(place, law=StepLaw(spread=0.1))
    summary, said = pretrain(inputs, tmp_path / "model")
    config = decode(LlamaConfig, MODEL, "model")
    seconds = 7 * StepLaw().seconds(StepShape(model=config, tokens=512, sequence_length=64, micro_batch_tokens=256, supervised=1.0))
    assert summary["speed"]["forecast"]["seconds"] == pytest.approx(seconds, rel=0.05)  # a few positions at the ends of texts are not supervised
    assert summary["speed"]["forecast"]["low"] < summary["speed"]["forecast"]["seconds"] < summary["speed"]["forecast"]["high"]
    assert summary["speed"]["forecast"]["measured_seconds"] == summary["speed"]["step_seconds"] > 0
    assert "measured" in summary["forecast"]
    assert "%)" in summary["forecast"]
    assert said[0].startswith("forecast ")
    assert "for 7 steps, by what was measured here on 2026-11-29" in said[0]
    assert said[-1].startswith(f"forecast {summary['forecast']}")
    assert ("of validation and checkpoints besides" in said[-1]) == (summary["speed"]["aside_seconds"] >= 0.05)


def test_the_result_is_the_same_bits_with_a_record_without_one_and_turned_off(
    tmp_path: Path, inputs: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(inputs, tmp_path / "nothing known")
    know(place)
    pretrain(inputs, tmp_path / "known")
    monkeypatch.setenv("HERDLING_MACHINE", "off")
    pretrain(inputs, tmp_path / "off")
    made = [file_digests(tmp_path / name) for name in ("nothing known", "known", "off")]
    assert made[0] == made[1] == made[2]


def test_a_record_of_other_ground_is_said_and_the_run_is_only_glanced_at(tmp_path: Path, inputs: Path, place: Path) -> None:
    other = made_machine()
    update_machine(place, other.identity, lambda before: other)
    _, said = pretrain(inputs, tmp_path / "model")
    assert "measured on other ground, so not used" in said[0]
    assert "by a glance at this machine" in said[1]


def outlook(place: Path | None, **changes: Any) -> Outlook:
    kinds = np.zeros(len(KINDS))
    kinds[0] = 1.0
    machine = made_machine(identity=this_identity(), law=StepLaw(step=0.5))
    parts: dict[str, Any] = {"work": "next token", "kinds": kinds, "by_law": 0.5, "step_seconds": 0.5, "spread": 0.1, "basis": "made", "num_steps": 100}
    return Outlook(**{**parts, "machine": machine, "place": place, **changes})


def told(steps: int = 100, seconds: float = 60.0) -> dict[str, Any]:
    return {"speed": {"steps": steps, "step_seconds": seconds, "aside_seconds": 0.0}}


def test_what_a_run_took_is_remembered_for_the_next_forecast(place: Path) -> None:
    summary, notes = told(), Notes()
    outlook(place).compare(summary, notes)
    assert summary["forecast"] == "50s (45s to 55s), measured 1m 00s (+20%)"
    assert notes.said == ["forecast 50s (45s to 55s), measured 1m 00s (+20%)"]
    machine, _ = read_machine(place, this_identity())
    assert machine is not None
    assert [(run.work, run.steps, run.step_seconds, run.forecast_seconds) for run in machine.runs] == [("next token", 100, 0.6, 0.5)]
    assert machine.correction("next token")[0] == pytest.approx(1.2 ** (1 / 1.5))


@pytest.mark.parametrize(("steps", "seconds"), [(19, 60.0), (100, 4.0)])
def test_a_short_run_is_told_and_forgotten(place: Path, steps: int, seconds: float) -> None:
    summary = told(steps, seconds)
    outlook(place).compare(summary, Notes())
    assert "measured" in summary["forecast"]
    assert not place.exists()


@pytest.mark.skipif(moment() is None, reason="this system does not tell what others take")
def test_a_run_beside_other_work_is_told_so_and_forgotten(place: Path) -> None:
    now = moment()
    assert now is not None
    before = Moment(now.wall - 10, now.everyone - 10 * (os.cpu_count() or 1), now.own - 1)  # all cores were busy, nearly none of it for us
    summary, notes = told(), Notes()
    outlook(place, began=before).compare(summary, notes)
    assert "other work took" in notes.said[0]
    assert summary["speed"]["forecast"]["cores_taken"] > 0.5
    assert not place.exists()


def test_only_the_steps_of_this_process_are_compared(place: Path) -> None:
    summary = told(steps=40, seconds=20.0)  # the first 60 were done before an interruption
    outlook(place).compare(summary, Notes())
    assert summary["forecast"] == "20s (18s to 22s), measured 20s (+0%)"
    nothing = told(steps=0, seconds=0.0)
    outlook(place).compare(nothing, Notes())
    assert "forecast" not in nothing


def test_a_record_that_cannot_be_written_fails_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notes = Notes()
    outlook(tmp_path / "file" / "machine.json").compare(told(), notes)
    assert "the measurement is not kept" in notes.said[-1]


def test_turned_off_nothing_is_written(tmp_path: Path, inputs: Path) -> None:
    outlook(None).compare(told(), Notes())
    summary = run_stage("sft", inputs, tmp_path / "sft")
    assert "measured" in summary["forecast"]
    assert not list(tmp_path.rglob("machine.json"))


def test_fewer_supervised_tokens_are_less_work(tmp_path: Path, inputs: Path, place: Path) -> None:
    know(place, law=StepLaw(step=1e-9, layer=1e-9, product=1e-30, element=1e-30, logit=1.0, score=1e-30, weight=1e-30))  # the loss is all that takes time
    summary = run_stage("sft", inputs, tmp_path / "sft")
    whole = replace(StepShape(model=decode(LlamaConfig, MODEL, "model"), tokens=512, sequence_length=64), supervised=1.0)
    share = summary["speed"]["forecast"]["seconds"] / (summary["steps"] * float(work_of_step(whole)[KINDS.index("logit")]))
    assert share == pytest.approx(summary["tokens_supervised"] * summary["epochs"] / summary["tokens"], rel=0.1)


def test_on_a_gpu_the_roofline_forecasts_with_what_was_measured_of_it() -> None:
    # No GPU is at hand: this is all of that path but the name that the driver gives.
    shape = ON_GPU[0]
    machine = made_machine(gpu=find_gpu("h100"), efficiency=Efficiency(spread=0.03))
    found, seconds, spread = _roofline(machine, CPU, [(shape, 3), (ON_GPU[2], 1)], 4)
    each = [forecast(*job_of(one), Stack(loss="chunked"), find_gpu("h100"), Efficiency()).seconds for one in (shape, ON_GPU[2])]
    assert seconds == pytest.approx((3 * each[0] + each[1]) / 4)
    assert spread == pytest.approx(0.03)
    assert found.source == machine.source
    assert _roofline(replace(machine, efficiency=None), CPU, [(shape, 1)], 1)[0].source == "the roofline of h100"
