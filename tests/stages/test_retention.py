"""The stage retention: models side by side on the same dialogs, and a kill changes no byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from herdling.base.decode import decode
from herdling.base.errors import DataError, Stopped
from herdling.base.records import read_jsonl
from herdling.data.constraints import ConstraintKind, make_constraints, write_constraints
from herdling.stages.retention import Retention
from tests.killing import run_killed
from tests.stages.toy_training import stage_run

FORM = ConstraintKind(full="Be {x}.", short="{x}.", values={"loud": "!$", "shiny": r"\*$", "shy": r"\?$"}, held_out=("shy",))
SETTINGS: dict[str, Any] = {
    "models": {"one": "chat", "other": "chat"},
    "constraints": "samples",
    "data": "data",
    "turns": [1, 2, 3, 8],
    "num_dialogs": 10,
    "max_tokens": 12,
    "shortened": 0.0,
    "batch_size": 7,
}


@pytest.fixture
def inputs(tmp_path: Path, obedient: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in ("chat", "data", "model"):
        (folder / name).symlink_to(obedient / name)
    write_constraints(folder / "samples", make_constraints({"form": FORM}, {}))
    return folder


def measured(inputs: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    run = stage_run("retention", inputs, folder)
    decode(Retention, {**SETTINGS, **settings}, "stages.retention").run(run)
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def test_a_model_that_obeys_for_one_turn_forgets_in_the_next_unless_it_is_reminded(tmp_path: Path, inputs: Path) -> None:
    results = measured(inputs, tmp_path / "out")
    trained = results["models"]["one"]["trained"]
    assert trained["once"]["1"]["share"] >= 0.8
    assert trained["once"]["3"]["share"] <= 0.2
    assert trained["reminded"]["3"]["share"] >= 0.8
    assert trained["once"]["8"]["not_counted"] == {"longer than the context": 10}
    assert results["models"]["one"]["new"]["once"]["1"]["total"] == 10
    assert results["models"]["one"] == results["models"]["other"]  # the same model on the same dialogs
    assert list(results["by_constraint"]["one"]) == ["form: loud", "form: shiny", "form: shy"]


def test_every_answer_that_was_counted_can_be_looked_up(tmp_path: Path, inputs: Path) -> None:
    results = measured(inputs, tmp_path / "out")
    rows = [row for _, row in read_jsonl(tmp_path / "out" / "answers.jsonl")]
    assert len(rows) == 2 * 2 * 10 * 4 * 2  # models, parts, dialogs, turns, ways of asking
    told = [row for row in rows if (row["model"], row["part"], row["asked"], row["turn"]) == ("one", "new", "once", 2)]
    assert sum(bool(row["obeyed"]) for row in told) == results["models"]["one"]["new"]["once"]["2"]["obeyed"]
    assert all(row["instruction"] == "Be shy." for row in told)


def _worker(inputs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    measured(inputs, folder)
    (folder / "done").touch()


def test_a_stage_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "killed").mkdir()
    run_killed(_worker, (inputs, tmp_path / "straight"), tmp_path / "straight" / "done", kills=0)
    assert run_killed(_worker, (inputs, tmp_path / "killed"), tmp_path / "killed" / "done", kills=2) > 0
    for name in ("results.json", "answers.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"results.json", "answers.jsonl", "done"}


def test_a_finished_model_is_not_asked_again(tmp_path: Path, inputs: Path) -> None:
    stops = iter([False] * 3 + [True])  # three batches of the first model, then a stop
    run = stage_run("retention", inputs, tmp_path / "out", stop_requested=lambda: next(stops))
    with pytest.raises(Stopped, match="models before this one are finished"):
        decode(Retention, SETTINGS, "stages.retention").run(run)
    (saved,) = (tmp_path / "out" / "finished").iterdir()
    saved.write_text(saved.read_text().replace('"obeyed": true', '"obeyed": false'))
    results = measured(inputs, tmp_path / "out")
    assert results["models"]["one"]["trained"]["once"]["1"]["obeyed"] == 0 < results["models"]["other"]["trained"]["once"]["1"]["obeyed"]


def test_constraints_that_no_program_can_check_need_a_judge(tmp_path: Path, inputs: Path) -> None:
    language = make_constraints({"language": ConstraintKind(full="Speak {x}.", short="{x}.", values=("French",))}, {})
    write_constraints(inputs / "samples", language)
    with pytest.raises(DataError, match="name a judge"):
        measured(inputs, tmp_path / "out")
    results = measured(inputs, tmp_path / "judged", judge="chat", num_dialogs=2, turns=[1, 2])
    cell = results["models"]["one"]["trained"]["once"]["2"]
    assert (cell["obeyed"], cell["total"]) == (0, 2)  # it never learned to say yes


def test_without_held_out_dialogs_there_is_nothing_to_ask(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(DataError, match="no plain held-out dialog"):
        measured(inputs, tmp_path / "out", without="item")
