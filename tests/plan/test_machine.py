"""The record of a machine: kept whole, never used for another, corrected by what finished runs took."""

from __future__ import annotations

import json
import subprocess
import sys
from math import exp
from pathlib import Path

import pytest
from filelock import FileLock

from herdling.base.errors import LockedError
from herdling.plan import machine as record
from herdling.plan.efficiency import Efficiency
from herdling.plan.hardware import find_gpu
from herdling.plan.machine import read_machine, this_identity, update_machine
from herdling.plan.step_time import StepLaw
from tests.plan.made_machine import made_identity, made_machine, made_run


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    whole = made_machine(gpu=find_gpu("h100"), efficiency=Efficiency(), runs=(made_run(1.1),))
    update_machine(tmp_path / "new" / "machine.json", whole.identity, lambda before: whole)
    assert read_machine(tmp_path / "new" / "machine.json", whole.identity) == (whole, [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cores": 1}, "cores 2, here 1"),
        ({"torch": "2.12.0"}, "torch 2.11.0, here 2.12.0"),
        ({"gpu": "NVIDIA H200"}, "gpu none, here NVIDIA H200"),
        ({"processor": "Other CPU"}, "processor Made CPU (avx2 amx_bf16), here Other CPU"),
    ],
)
def test_a_record_of_other_ground_is_named_and_not_used(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    path = tmp_path / "machine.json"
    update_machine(path, made_identity(), lambda before: made_machine())
    found, lines = read_machine(path, made_identity(**changes))
    assert found is None
    assert said in lines[0]
    assert "herdling plan --calibrate" in lines[0]


@pytest.mark.parametrize("text", ["", "{", '{"format": 1, "machines": [{}]}', '{"format": 99, "machines": []}', "[]"])
def test_a_damaged_record_costs_its_measurements_and_no_run(tmp_path: Path, text: str) -> None:
    path = tmp_path / "machine.json"
    path.write_text(text)
    found, lines = read_machine(path, made_identity())
    assert found is None
    assert "measure again" in lines[0]
    update_machine(path, made_identity(), lambda before: before or made_machine())
    assert read_machine(path, made_identity())[0] == made_machine()


def test_one_machine_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    for cores in (1, 2):
        machine = made_machine(identity=made_identity(cores=cores), efficiency=Efficiency())
        update_machine(path, machine.identity, lambda before, machine=machine: machine)  # type: ignore[misc]
    data = json.loads(path.read_text())
    data["machines"][0]["efficiency"]["of_another_version"] = 1.0
    path.write_text(json.dumps(data))
    assert read_machine(path, made_identity(cores=1))[0] == made_machine(identity=made_identity(cores=1), efficiency=Efficiency())
    found, lines = read_machine(path, made_identity(cores=2))
    assert found is None
    assert "of_another_version" in lines[0]


def test_nowhere_and_nothing_there_say_nothing(tmp_path: Path) -> None:
    assert read_machine(None, made_identity()) == (None, [])
    assert read_machine(tmp_path / "machine.json", made_identity()) == (None, [])


def test_the_record_stays_small_and_keeps_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    for cores in range(1, record.MAX_MACHINES + 4):
        update_machine(path, made_identity(cores=cores), lambda before, cores=cores: made_machine(identity=made_identity(cores=cores)))  # type: ignore[misc]
    machines = json.loads(path.read_text())["machines"]
    assert [one["identity"]["cores"] for one in machines] == list(range(record.MAX_MACHINES + 3, 3, -1))
    long = made_machine().with_runs(made_run(1.0, number=number) for number in range(100))
    assert [run.steps for run in long.runs] == list(range(160, 200))


def test_finished_runs_correct_the_forecast_and_narrow_it() -> None:
    machine = made_machine(law=StepLaw(step=1.0, spread=0.3))
    assert machine.correction("next token") == (1.0, 0.3)
    assert machine.correction("preference loss") == (1.0, 0.35)
    once = machine.with_runs([made_run(exp(0.3))])
    assert once.correction("next token") == (pytest.approx(exp(0.2)), 0.3)  # one run beside half a run without any error
    often = machine.with_runs(made_run(exp(0.3 + 0.001 * number)) for number in range(6))
    factor, spread = often.correction("next token")
    assert factor == pytest.approx(exp(0.3025 * 6 / 6.5))
    assert spread == 0.05
    assert often.correction("preference loss") == (1.0, 0.35)
    assert machine.with_runs([made_run(2.0, dtype="float32")]).correction("next token")[0] == 1.0


def test_a_new_law_forecasts_old_runs_anew() -> None:
    slow = made_machine(law=StepLaw(step=1.0)).with_runs([made_run(2.0)])
    again = made_machine(law=StepLaw(step=2.0)).with_runs(slow.runs)
    assert again.runs[0].forecast_seconds == 2.0
    assert again.correction("next token")[0] == 1.0


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    code = (
        "import sys; from pathlib import Path; from herdling.plan.machine import update_machine; from tests.plan.made_machine import *\n"
        "for number in range(8):\n    run = made_run(1.0, number=100 * int(sys.argv[2]) + number)\n"
        "    update_machine(Path(sys.argv[1]), made_identity(), lambda before: (before or made_machine()).with_runs([run]))"
    )
    root = Path(__file__).parents[2]
    started = [subprocess.Popen([sys.executable, "-c", code, str(path), str(number)], cwd=root) for number in range(3)]
    assert [one.wait(timeout=60) for one in started] == [0, 0, 0]
    found = read_machine(path, made_identity())[0]
    assert found is not None
    assert len({run.steps for run in found.runs}) == 24


def test_a_file_that_another_holds_for_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "WAIT_SECONDS", 0.05)
    path = tmp_path / "machine.json"
    with FileLock(path.with_name(".machine.json.lock")), pytest.raises(LockedError, match="another process writes here"):
        update_machine(path, made_identity(), lambda before: made_machine())


def test_this_machine_has_an_identity_without_a_hosts_name() -> None:
    import platform

    identity = this_identity()
    assert identity.cores >= 1
    assert identity.torch
    assert identity == this_identity()
    assert platform.node() not in identity.processor.split()
