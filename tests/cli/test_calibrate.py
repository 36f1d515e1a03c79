"""`herdling plan --calibrate`: this machine measured, or told by finished runs."""

from __future__ import annotations

import json
import os
import platform
from math import exp
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from herdling.base.artifact import new_manifest, write_json_atomic
from herdling.base.errors import DataError, SettingsError
from herdling.cli.logged_runs import logged_runs
from herdling.cli.main import app
from herdling.model.dial import dial
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import find_gpu
from herdling.plan.machine import read_machine, this_identity, update_machine
from herdling.plan.step_time import StepLaw, StepShape
from herdling.train import calibrate as calibration
from herdling.train import ceilings
from herdling.train.rehearsal import small_llama
from tests.plan.made_machine import made_machine

CONFIG = dial(1.3e6, vocab_size=4096).config
STEP = StepShape(model=CONFIG, tokens=2048, sequence_length=256)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache" / "machine.json"
    monkeypatch.setenv("HERDLING_MACHINE", str(path))
    return path


@pytest.fixture
def toy_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure toys: a law of the true machine takes half a minute."""
    monkeypatch.setitem(ceilings.PRODUCT_SIZES, "cpu", (64,))
    monkeypatch.setitem(ceilings.MEMORY_BYTES, "cpu", 2**20)
    for name in ("SHORT", "WHOLE"):
        monkeypatch.setattr(calibration, name, (small_llama(64, 1, vocab=64, tokens=64, length=32),))


def plan(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def finished(folder: Path, kind: str, summary: dict[str, Any], **settings: Any) -> Path:
    """Write a finished training as the runner does."""
    folder.mkdir(parents=True)
    shape = {"vocab_size": 4096, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4}
    write_json_atomic(folder / "config.json", {"model_type": "llama", "head_dim": 32, "tie_word_embeddings": True, "max_position_embeddings": 256, **shape})
    write_json_atomic(folder / "device.json", {"device": "cpu", "dtype": "bfloat16", "matmul_precision": "highest"})
    write_json_atomic(folder / "ledger.json", {"counts": {"rows filled": 0.5}})
    made_from = {"kind": kind, "seed": 1, "settings": {"loop": {"micro_batch_tokens": 4096}, **settings}, "inputs": {}}
    made = new_manifest(folder, name=kind, output="model", made_from=made_from, parents={}, summary=summary, seconds=1.0)
    write_json_atomic(folder / "manifest.json", made)
    return folder


def seconds(scale: float, supervised: float = 1.0) -> float:
    return scale * made_machine().law.seconds(StepShape(model=CONFIG, tokens=2048, sequence_length=256, supervised=supervised))


def test_measuring_makes_a_record_that_a_plan_reads(place: Path, toy_measures: None) -> None:
    shown = plan("--calibrate")
    assert "product float32 64" in shown
    assert "1.3M parameters:" in shown
    assert f"kept in {place}" in shown
    machine, lines = read_machine(place, this_identity())
    assert machine is not None
    assert lines == []
    assert json.loads(plan("--budget", "365d", "--json"))["machine"].startswith(machine.identity.processor.partition(" (")[0])


def test_what_is_not_known_is_measured_once_when_a_budget_asks(place: Path, toy_measures: None) -> None:
    plan("--budget", "365d", "--json")
    before = place.read_text()
    plan("--budget", "365d", "--json")
    assert place.read_text() == before


def test_turned_off_it_measures_and_keeps_nothing(toy_measures: None) -> None:
    assert "not kept: HERDLING_MACHINE is off" in plan("--calibrate")


def test_measuring_again_keeps_what_finished_runs_told(place: Path, toy_measures: None, tmp_path: Path) -> None:
    update_machine(place, this_identity(), lambda before: made_machine(identity=this_identity()))
    run = finished(tmp_path / "run" / "pretrain", "pretrain", {"tokens": 204_800, "steps": 100, "speed": {"steps": 100, "step_seconds": 100 * seconds(1.3)}})
    plan("--calibrate", "--log", str(run))
    plan("--calibrate")
    machine, _ = read_machine(place, this_identity())
    assert machine is not None
    assert len(machine.runs) == 1
    assert machine.law != made_machine().law
    assert machine.runs[0].forecast_seconds == pytest.approx(machine.law.seconds(STEP))


def test_finished_runs_correct_what_was_measured(place: Path, tmp_path: Path) -> None:
    update_machine(place, this_identity(), lambda before: made_machine(identity=this_identity()))
    speed = {"steps": 100, "step_seconds": 100 * seconds(1.3)}
    finished(tmp_path / "run" / "pretrain", "pretrain", {"tokens": 204_800, "steps": 100, "tokens_per_second": 1.0, "speed": speed})
    # As before steps were timed by themselves: tokens a second, padding not counted; half of the rows are filled.
    older = {"tokens": 204_800, "steps": 100, "tokens_supervised": 20_480, "epochs": 2, "tokens_per_second": 1024 / seconds(1.3, 0.2), "speed": {}}
    finished(tmp_path / "run" / "sft", "sft", older)
    assert json.loads(plan("--log", str(tmp_path / "run"), "--json"))["place"] == str(place)
    machine, _ = read_machine(place, this_identity())
    assert machine is not None
    assert [run.step_seconds / run.forecast_seconds for run in machine.runs] == pytest.approx([1.3, 1.3], rel=1e-3)
    assert machine.correction("next token")[0] == pytest.approx(1.3 ** (2 / 2.5), rel=1e-3)
    plan("--log", str(tmp_path / "run"))
    again, _ = read_machine(place, this_identity())
    assert again == machine  # told twice, counted once


def test_logs_that_say_nothing_of_this_machine_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, answer in ((tmp_path / "none", "no such folder"), (tmp_path / "empty", "holds no finished pretrain or sft")):
        with pytest.raises(DataError, match=answer):
            logged_runs(path)
    folder = finished(tmp_path / "run" / "pretrain", "pretrain", {"tokens": 2048, "steps": 1, "speed": {"steps": 1, "step_seconds": 1.0}})
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["machine"]["system"] == platform.platform()
    manifest["machine"]["cores"] = (os.cpu_count() or 1) + 1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"was made on another machine \(cores \d+, here \d+\)"):
        logged_runs(tmp_path / "run")


def test_the_law_of_the_defaults_is_that_of_one_core() -> None:
    # 0.119 s of one core's time a step of 2,048 tokens (docs/log.md): what the defaults were fitted to.
    assert StepLaw().seconds(STEP) == pytest.approx(0.119, rel=0.1)


def test_a_measured_gpu_is_planned_with_its_own_scalars(place: Path) -> None:
    with pytest.raises(SettingsError, match=r"--gpu here: no GPU was measured here\. Measure one: herdling plan --calibrate"):
        plan("llama3-8b", "--gpu", "here")
    arguments = ("llama3-8b", "--gpus", "8", "--json", "--top", "1")
    slow = made_machine(identity=this_identity(), gpu=find_gpu("h100", matmul_tflops=400.0), efficiency=Efficiency(matmul=0.5, spread=0.02))
    update_machine(place, this_identity(), lambda before: slow)
    known, here = (json.loads(plan(*arguments, "--gpu", name))["splits"][0] for name in ("h100", "here"))
    assert here["step_seconds"] > 2.5 * known["step_seconds"]
    assert here["step_seconds_interval"][1] / here["step_seconds"] == pytest.approx(exp(0.02))
    bought = [json.loads(plan("--budget", "1h", "--gpus", "8", "--gpu", name, "--json"))["flops"] for name in ("h100", "here")]
    assert bought[0] > 2 * bought[1]
