"""The planner's benchmark reads any file with the columns, judges halves apart, and says what it cannot plan."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from herdling.base.errors import DataError


def written(path: Path, planner_rows: ModuleType, *changes: Mapping[str, object]) -> Path:
    base: dict[str, object] = dict.fromkeys(planner_rows.COLUMNS, "")
    base |= {"source": "someone", "model": "8b", "arch": "llama", "layers": 32, "dim": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336, "vocab": 128256}
    base |= {"seq": 8192, "global_batch": 256, "gpus": 128, "gpu_kind": "H100", "tp": 1, "dp": 128, "fsdp_kind": "zero3", "microbatch": 1}
    base |= {"activation_checkpointing": "full", "precision": "bf16", "status": "ok"}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, planner_rows.COLUMNS)
        writer.writeheader()
        writer.writerows(base | dict(change) for change in changes)
    return path


def test_a_file_of_another_is_judged(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    accuracy = script("planner_accuracy")
    planner_rows = sys.modules["planner_rows"]
    rows, refused = planner_rows.read_rows(
        written(
            tmp_path / "runs.csv",
            planner_rows,
            *({"tokens_per_s_per_gpu": 6000 + 100 * number, "seq": 8192 // number, "global_batch": 256 * number} for number in (1, 2, 4, 8)),
            {"status": "OOM", "microbatch": 16, "activation_checkpointing": "none"},
            {"gpu_kind": "abacus"},
            {"tp": ""},
            {"heads": 0},
            {"seq": "long"},
        )
    )
    assert len(rows) == 5
    assert ["abacus" in refused[0], "tp was not published" in refused[1]] == [True, True]
    judged = accuracy.judge(rows)
    assert (judged["fits_accuracy"], judged["wrong_fits"]) == (1.0, 0.0)
    assert judged["per_source"]["someone"]["shipped"]["n"] == 4
    assert 0 <= judged["step_time_mape"] < 1
    assert 0 <= judged["interval_coverage"] <= 1


def test_an_unknown_publisher_is_planned_by_how_its_copies_share(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    script("planner_accuracy")
    planner_rows = sys.modules["planner_rows"]
    kinds = ("zero1", "fsdp1 FULL_SHARD", "distributed optimizer (zero1)", "")
    rows, _ = planner_rows.read_rows(written(tmp_path / "runs.csv", planner_rows, *({"fsdp_kind": kind} for kind in kinds)))
    assert {row.source for row in rows} == {"someone"}
    assert [row.stack.gradient_bytes for row in rows] == [2, 4, 2, 4]
    assert [row.stack.logit_bytes for row in rows] == [22.0, 6.0, 6.0, 14.0]


def test_a_wrong_fit_is_counted(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    accuracy = script("planner_accuracy")
    planner_rows = sys.modules["planner_rows"]
    rows, _ = planner_rows.read_rows(written(tmp_path / "runs.csv", planner_rows, {"status": "OOM"}, {"status": "ok"}))
    assert accuracy.judge_fits(rows)["wrong_fits"] == 0.5


def test_a_file_without_the_columns_is_refused(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    script("planner_accuracy")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has no column source"):
        sys.modules["planner_rows"].read_rows(tmp_path / "other.csv")
