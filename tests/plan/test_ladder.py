"""Ladders are read from ends or from curves, split by size, and refused with file and line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from herdling.base.errors import DataError, SettingsError
from herdling.plan.ladder import chosen_tasks, read_ladder, split_ladder, with_curves
from herdling.plan.ladder_forecast import forecast_ladder
from tests.plan.made_ladder import made_ladder, write_ladder

HEADER = "run,N,D,task,bpb,acc\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    runs = made_ladder()
    read = read_ladder(write_ladder(tmp_path / "ladder.csv", runs))
    assert [run.name for run in read] == [run.name for run in runs]
    assert read[3].tasks["hard"].final_bits == pytest.approx(runs[3].tasks["hard"].final_bits)
    assert read[3].flops == pytest.approx(runs[3].flops)


def test_end_of_a_curve_is_the_mean_of_five_and_its_beginning_is_left_out(tmp_path: Path) -> None:
    rows = "".join(f"a,1e8,{step}e9,x,{10 - step / 10},0.{step:02d}\n" for step in range(1, 21))
    curve = read_ladder(written(tmp_path / "a.csv", HEADER + rows))[0].tasks["x"]
    assert curve.final_bits == pytest.approx(10 - 1.8)
    assert curve.final_accuracy == pytest.approx(0.18)
    assert len(curve.bits) == 18
    assert curve.accuracy[0] == pytest.approx(0.03)
    assert curve.accuracy[1] == pytest.approx(0.035)


def test_curves_of_another_file_leave_the_ends_alone(tmp_path: Path) -> None:
    rows = "".join(f"a,1e8,{step}e9,x,{10 - step / 10},0.{step:02d}\n" for step in range(1, 21))
    curves = read_ladder(written(tmp_path / "curves.csv", HEADER + rows))
    ends = read_ladder(written(tmp_path / "ends.csv", HEADER + "a,1e8,20e9,x,8,0.2\nb,2e8,20e9,x,7,0.3\n"))
    merged = with_curves(ends, curves)
    assert len(merged[0].tasks["x"].bits) == 18
    assert merged[0].tasks["x"].final_bits == 8
    assert merged[1] == ends[1]


def test_split_goes_by_what_was_asked_then_by_role_then_by_size(tmp_path: Path) -> None:
    runs = made_ladder()
    assert {run.parameters for run in split_ladder(runs, 5e8)[0]} == {1e8, 3e8}
    assert {run.parameters for run in split_ladder(runs)[1]} == {1e10}
    text = write_ladder(tmp_path / "a.csv", runs).read_text(encoding="utf-8").splitlines()
    marked = [text[0] + ",role"] + [line + (",fit" if line.startswith(("1e+08-10x", "3e+08-10x")) else ",other") for line in text[1:]]
    assert {run.parameters for run in split_ladder(read_ladder(written(tmp_path / "b.csv", "\n".join(marked))))[0]} == {1e8, 3e8}
    with pytest.raises(DataError, match="at least 6 runs of 2 sizes"):
        split_ladder(runs, 1e8)


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'middle'"):
        chosen_tasks(made_ladder(), ["midle"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "a,1e8,1e9,x,1.0,1.5\n", "line 2: acc is '1.5', expected a share"),
        (HEADER + "a,1e8,1e9,x,nan,0.5\n", "line 2: bpb is nan"),
        (HEADER + "a,1e8,1e9,x,1.0,nan\n", "line 2: acc is 'nan'"),
        (HEADER + "a,1e8,1e9,x,1.0,0.5\nb,1e8,1e9,y,1.0,0.5\n", "the run a has no rows for y"),
        ("run,N,D,task,bpb\na,1,1,x,1\n", "no column acc_avg5"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_ladder(written(tmp_path / "a.csv", text))


def test_a_run_of_two_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: the run a has N 2e8, in a line before 1e\\+08"):
        read_ladder(written(tmp_path / "a.csv", HEADER + "a,1e8,1e9,x,1.0,0.5\na,2e8,2e9,x,0.9,0.5\n"))


def test_a_task_that_no_run_solves_is_forecast_without_a_relative_error() -> None:
    runs = made_ladder()
    failed = [replace(run, tasks={task: replace(curve, accuracy=0 * curve.accuracy, final_accuracy=0.0) for task, curve in run.tasks.items()}) for run in runs]
    found = forecast_ladder(*split_ladder(failed))
    assert found["mean_relative_error"] is None
